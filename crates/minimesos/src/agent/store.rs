//! What an agent keeps on disk under `work_dir/meta`, so that it finds its
//! executors again after a crash.
//!
//! ```text
//! meta/lock                                held while an agent uses the directory
//! meta/port                                the HTTP port, the same after a restart
//! meta/agent.json                          the agent's id and what it registered
//! meta/frameworks/FW/framework.json
//! meta/frameworks/FW/runs/CONTAINER.json   one executor's run
//! meta/frameworks/FW/tasks/TASK.json       one task and its unacknowledged updates
//! ```
//!
//! Every file is replaced by rename, so that a crash of the agent at any moment
//! leaves the old or the new one. The agent's id is also synced to disk. The rest
//! is not: it matters only while the executors live, and those do not survive a
//! crash of the machine either.

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why the agent's state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another agent uses the directory.
    #[error(
        "cannot use the work directory '{path}': another agent is running in it; stop that one or choose another work directory"
    )]
    InUse {
        /// The work directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} '{path}': {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file does not hold what this version writes.
    #[error(
        "cannot read the agent's state in '{path}': {source}; if no task of it matters any more, remove the directory 'meta'"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        source: serde_json::Error,
    },
}

type Result<T> = std::result::Result<T, StoreError>;

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A file name for any id: what is not harmless is written as `%XX`.
fn file_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len() + 5);
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    // A file name may have 255 bytes; an id of 255 bytes can be three times
    // as long once escaped.
    if name.len() > 200 {
        use sha2::Digest;
        let digest = hex::encode(sha2::Sha256::digest(id.as_bytes()));
        name.truncate(100);
        name.push('~');
        name.push_str(&digest);
    }
    name
}

/// The agent's directory `work_dir/meta`, locked.
#[derive(Debug)]
pub(crate) struct Store {
    meta: PathBuf,
    /// Held (flock) until the agent ends, however it ends.
    _lock: File,
}

/// Everything that one framework left, as the store finds it.
#[derive(Debug)]
pub(crate) struct Loaded<F, R, T> {
    pub(crate) framework: F,
    pub(crate) runs: Vec<R>,
    pub(crate) tasks: Vec<T>,
}

impl Store {
    /// Opens the directory, which is made if need be, and locks it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another agent has it.
    pub(crate) fn open(work_dir: &Path) -> Result<Self> {
        let meta = work_dir.join("meta");
        let frameworks = meta.join("frameworks");
        fs::create_dir_all(&frameworks).map_err(io_error("create", &frameworks))?;
        let path = meta.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { meta, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                path: work_dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", path)(error)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StoreError::Corrupt {
                path: path.to_owned(),
                source,
            })
    }

    fn write<T: Serialize>(path: &Path, value: &T, durable: bool) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|source| StoreError::Corrupt {
            path: path.to_owned(),
            source,
        })?;
        let partial = path.with_extension("partial");
        let create = || {
            let mut file = File::create(&partial)?;
            file.write_all(&bytes)?;
            if durable {
                file.sync_all()?;
            }
            Ok(())
        };
        match create() {
            // The folder is made by the first file in it only.
            Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => {
                let parent = path.parent().unwrap_or(path);
                fs::create_dir_all(parent).map_err(io_error("create", parent))?;
                create().map_err(io_error("write", &partial))?;
            }
            result => result.map_err(io_error("write", &partial))?,
        }
        fs::rename(&partial, path).map_err(io_error("replace", path))?;
        if durable && let Some(parent) = path.parent() {
            File::open(parent)
                .and_then(|folder| folder.sync_all())
                .map_err(io_error("sync", parent))?;
        }
        Ok(())
    }

    fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The port that the agent had.
    pub(crate) fn port(&self) -> Result<Option<u16>> {
        Self::read(&self.meta.join("port"))
    }

    /// Remembers the agent's port.
    pub(crate) fn set_port(&self, port: u16) -> Result<()> {
        Self::write(&self.meta.join("port"), &port, true)
    }

    /// The agent's identity, if it ever registered.
    pub(crate) fn agent<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        Self::read(&self.meta.join("agent.json"))
    }

    /// Remembers the agent's identity, durably.
    pub(crate) fn set_agent<T: Serialize>(&self, agent: &T) -> Result<()> {
        Self::write(&self.meta.join("agent.json"), agent, true)
    }

    fn framework_dir(&self, framework: &str) -> PathBuf {
        self.meta.join("frameworks").join(file_name(framework))
    }

    fn run_file(&self, framework: &str, container: &str) -> PathBuf {
        let name = file_name(container) + ".json";
        self.framework_dir(framework).join("runs").join(name)
    }

    fn task_file(&self, framework: &str, task: &str) -> PathBuf {
        let name = file_name(task) + ".json";
        self.framework_dir(framework).join("tasks").join(name)
    }

    /// Writes one framework's record.
    pub(crate) fn set_framework<T: Serialize>(&self, framework: &str, record: &T) -> Result<()> {
        let path = self.framework_dir(framework).join("framework.json");
        Self::write(&path, record, false)
    }

    /// Writes the record of one executor's run.
    pub(crate) fn set_run<T: Serialize>(
        &self,
        framework: &str,
        container: &str,
        record: &T,
    ) -> Result<()> {
        Self::write(&self.run_file(framework, container), record, false)
    }

    /// Writes one task's record.
    pub(crate) fn set_task<T: Serialize>(
        &self,
        framework: &str,
        task: &str,
        record: &T,
    ) -> Result<()> {
        Self::write(&self.task_file(framework, task), record, false)
    }

    /// Forgets a run.
    pub(crate) fn remove_run(&self, framework: &str, container: &str) -> Result<()> {
        Self::remove(&self.run_file(framework, container))
    }

    /// Forgets a task.
    pub(crate) fn remove_task(&self, framework: &str, task: &str) -> Result<()> {
        Self::remove(&self.task_file(framework, task))
    }

    /// Forgets a framework and all that belongs to it.
    pub(crate) fn remove_framework(&self, framework: &str) -> Result<()> {
        let path = self.framework_dir(framework);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Forgets the agent: it will register as a new one. The port stays.
    pub(crate) fn clear(&self) -> Result<()> {
        // The identity goes first: without it, nothing else is looked at.
        Self::remove(&self.meta.join("agent.json"))?;
        let frameworks = self.meta.join("frameworks");
        fs::remove_dir_all(&frameworks).map_err(io_error("remove", &frameworks))?;
        fs::create_dir_all(&frameworks).map_err(io_error("create", &frameworks))
    }

    /// Everything that was kept of all frameworks.
    pub(crate) fn load<F, R, T>(&self) -> Result<Vec<Loaded<F, R, T>>>
    where
        F: DeserializeOwned,
        R: DeserializeOwned,
        T: DeserializeOwned,
    {
        let mut loaded = Vec::new();
        for folder in listed(&self.meta.join("frameworks"))? {
            // Without its own record, a framework was just being made or
            // removed: nothing had been started for it.
            let Some(framework) = Self::read(&folder.join("framework.json"))? else {
                continue;
            };
            loaded.push(Loaded {
                framework,
                runs: read_all(&folder.join("runs"))?,
                tasks: read_all(&folder.join("tasks"))?,
            });
        }
        Ok(loaded)
    }
}

/// The entries of a folder in the order of their names; none if there is no folder.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", folder)(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(io_error("list", folder))?;
    paths.sort();
    Ok(paths)
}

fn read_all<T: DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let mut records = Vec::new();
    for path in listed(folder)? {
        // What has another ending was being written when the agent died.
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            records.extend(Store::read(&path)?);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }));
        assert!(error.to_string().contains("another agent"));
        drop(first);
        Store::open(dir.path()).unwrap();
    }

    #[test]
    fn what_was_written_is_loaded_and_what_was_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.set_framework("fw", &"framework").unwrap();
        store.set_run("fw", "c-1", &1).unwrap();
        store.set_run("fw", "c-2", &2).unwrap();
        store.set_task("fw", "t/../1", &"one").unwrap();
        store.set_task("fw", "t2", &"two").unwrap();
        store.remove_task("fw", "t2").unwrap();
        store.remove_run("fw", "c-1").unwrap();
        store.set_framework("other", &"gone").unwrap();
        store.remove_framework("other").unwrap();

        let loaded = store.load::<String, u32, String>().unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].framework, "framework");
        assert_eq!(loaded[0].runs, vec![2]);
        assert_eq!(loaded[0].tasks, vec!["one".to_owned()]);
    }

    #[test]
    fn a_half_written_file_is_as_if_it_had_not_been_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.set_framework("fw", &1).unwrap();
        store.set_task("fw", "t", &1).unwrap();
        let partial = store.task_file("fw", "t").with_extension("partial");
        fs::write(partial, "{").unwrap();
        let loaded = store.load::<u32, u32, u32>().unwrap();
        assert_eq!(loaded[0].tasks, vec![1]);
    }

    #[test]
    fn a_file_that_is_damaged_is_named_in_the_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(store.meta.join("agent.json"), "{").unwrap();
        let error = store.agent::<u32>().unwrap_err().to_string();
        assert!(error.contains("agent.json"), "{error}");
    }

    #[test]
    fn an_agent_that_left_keeps_only_its_port() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.set_port(5051).unwrap();
        store.set_agent(&"S1").unwrap();
        store.set_framework("fw", &1).unwrap();
        store.clear().unwrap();
        assert_eq!(store.port().unwrap(), Some(5051));
        assert_eq!(store.agent::<String>().unwrap(), None);
        assert!(store.load::<u32, u32, u32>().unwrap().is_empty());
    }

    #[test]
    fn names_of_files_are_short_and_differ() {
        assert_eq!(file_name("a.b/c"), "a%2Eb%2Fc");
        let long = "é".repeat(127);
        assert!(file_name(&long).len() < 200);
        assert_ne!(file_name(&long), file_name(&(long.clone() + "x")));
        assert_ne!(file_name(".."), "..");
    }
}
