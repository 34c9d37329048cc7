//! What the master remembers across its own restarts: which agents it admitted, which
//! were unreachable, which are gone. Frameworks and tasks come back by themselves: agents
//! tell of them when they re-register (`src/master/registrar.cpp` does the same).

use super::Moment;
use super::drain::Deactivation;
use super::maintenance::{MachineId, Schedule};
use meson_mesos::types::{AgentId, AgentInfo};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The agents that a master knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// Admitted agents.
    #[serde(default)]
    pub admitted: Vec<AgentInfo>,
    /// Unreachable agents, since when. Keys are agent ids.
    #[serde(default)]
    pub unreachable: BTreeMap<String, Moment>,
    /// Agents that an operator marked gone, since when.
    #[serde(default)]
    pub gone: BTreeMap<String, Moment>,
    /// Agents that an operator took out of service.
    #[serde(default)]
    pub deactivated: BTreeMap<String, Deactivation>,
    /// Maintenance that is planned.
    #[serde(default)]
    pub schedule: Schedule,
    /// Machines that are down.
    #[serde(default)]
    pub down: BTreeSet<MachineId>,
}

impl Registry {
    /// The ids of the admitted agents.
    pub fn admitted_ids(&self) -> impl Iterator<Item = AgentId> + '_ {
        self.admitted.iter().filter_map(|info| info.id.clone())
    }
}

/// Reading or writing the registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file system refused.
    #[error(
        "{action} the master's registry {path}: {source}; check --work_dir and its permissions"
    )]
    Io {
        /// Reading or writing.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a registry.
    #[error("reading the master's registry {path}: {source}; move the file away to start afresh")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The registry as a file, replaced as a whole at each change.
#[derive(Clone, Debug)]
pub struct RegistryFile {
    path: PathBuf,
}

impl RegistryFile {
    /// In the master's work folder.
    pub fn in_work_dir(work_dir: &Path) -> Self {
        Self {
            path: work_dir.join("registry.json"),
        }
    }

    /// What was saved; an empty registry when nothing was.
    ///
    /// # Errors
    /// When the file cannot be read, or is no registry.
    pub fn load(&self) -> Result<Registry, RegistryError> {
        match fs::read(&self.path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| RegistryError::Malformed {
                    path: self.path.clone(),
                    source,
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Registry::default()),
            Err(source) => Err(RegistryError::Io {
                action: "reading",
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// Saves durably: after this returns, [`RegistryFile::load`] gives it, whatever happens.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, registry: &Registry) -> Result<(), RegistryError> {
        self.write(registry).map_err(|source| RegistryError::Io {
            action: "writing",
            path: self.path.clone(),
            source,
        })
    }

    fn write(&self, registry: &Registry) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let draft = self.path.with_extension("json.new");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(registry)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_comes_back_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let file = RegistryFile::in_work_dir(&folder.path().join("new"));
        assert_eq!(file.load().unwrap(), Registry::default());
        let mut registry = Registry::default();
        registry.admitted.push(AgentInfo {
            id: Some("m-S0".into()),
            hostname: "h".into(),
            ..AgentInfo::default()
        });
        registry.gone.insert(
            "m-S1".into(),
            Moment(std::time::Duration::from_millis(1500)),
        );
        file.save(&registry).unwrap();
        assert_eq!(file.load().unwrap(), registry);
    }

    #[test]
    fn a_file_that_is_no_registry_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("registry.json"), b"not json").unwrap();
        let error = RegistryFile::in_work_dir(folder.path())
            .load()
            .unwrap_err()
            .to_string();
        assert!(error.contains("registry.json"), "{error}");
    }
}
