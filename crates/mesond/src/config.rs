//! A coordinator's configuration file, read strictly: an unknown key is an error that names it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration {path} is wrong: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        reason: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("the configuration {path} is wrong: {key}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong, and what to write instead.
        problem: String,
    },
}

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Who this coordinator is.
    pub(crate) node: Node,
    /// The HTTP API.
    pub(crate) http: Http,
    /// Where artifacts and logs are.
    pub(crate) store: Store,
    /// Resource managers.
    #[serde(rename = "pool")]
    pub(crate) pools: Vec<Pool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    /// Its number, unique in the cluster.
    pub(crate) id: u64,
    /// The cluster's name: a data directory of another cluster is refused.
    pub(crate) cluster: String,
    /// Where it is.
    #[serde(default = "local")]
    pub(crate) region: String,
    /// The folder of its log and state.
    pub(crate) data: PathBuf,
    /// A file with the secret that all coordinators share, at least 16 bytes; made if missing.
    pub(crate) secret: Option<PathBuf>,
    /// How many Raft groups; fixed for the life of a cluster.
    #[serde(default = "eight")]
    pub(crate) shards: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    /// Address and port.
    pub(crate) listen: String,
    /// How executors reach the coordinators; this one's own address if empty.
    #[serde(default)]
    pub(crate) advertise: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// `file:///folder`, shared by coordinators and agents, or `s3://bucket/prefix`.
    pub(crate) url: String,
    /// Endpoint, region, credentials.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    /// Its name; `default` serves steps that name none.
    #[serde(default = "default_pool")]
    pub(crate) name: String,
    /// Mesos masters, `http://host:5050`.
    pub(crate) masters: Vec<String>,
    /// The role in which resources are offered.
    #[serde(default = "any_role")]
    pub(crate) role: String,
    /// The user that steps run as.
    #[serde(default = "root")]
    pub(crate) user: String,
    /// How agents get the executor.
    pub(crate) executor: Executor,
    /// Keep agents that have GPUs for steps that ask for some.
    #[serde(default = "yes")]
    pub(crate) keep_gpus: bool,
    /// Fill agents one after the other (`pack`), or spread over them (`spread`).
    #[serde(default)]
    pub(crate) packing: Packing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Packing {
    #[default]
    Pack,
    Spread,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Executor {
    /// A path that exists on every agent, or the file's name once `uri` is fetched.
    pub(crate) command: String,
    /// Fetched and cached by the agent.
    #[serde(default)]
    pub(crate) uri: Option<String>,
    /// What it uses beside its steps.
    #[serde(default = "executor_cpus")]
    pub(crate) cpus: f64,
    /// In mebibytes.
    #[serde(default = "executor_mem")]
    pub(crate) mem: u64,
}

fn local() -> String {
    "local".to_owned()
}
fn eight() -> u16 {
    8
}
fn default_pool() -> String {
    "default".to_owned()
}
fn any_role() -> String {
    "*".to_owned()
}
fn root() -> String {
    "root".to_owned()
}
fn yes() -> bool {
    true
}
fn executor_cpus() -> f64 {
    0.1
}
fn executor_mem() -> u64 {
    64
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its folder.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Read {
            path: path.to_owned(),
            reason,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|reason| ConfigError::Parse {
            path: path.to_owned(),
            reason: Box::new(reason),
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        config.node.data = folder.join(&config.node.data);
        config.node.secret = config.node.secret.map(|secret| folder.join(secret));
        config
            .check()
            .map_err(|(key, problem)| ConfigError::Value {
                path: path.to_owned(),
                key,
                problem,
            })?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.node.id == 0 {
            return Err((
                "node.id",
                "0 is no number of a node: count from 1".to_owned(),
            ));
        }
        if self.node.shards == 0 || self.node.shards > 1024 {
            return Err((
                "node.shards",
                format!("{} is not between 1 and 1024", self.node.shards),
            ));
        }
        if self.http.listen.parse::<std::net::SocketAddr>().is_err() {
            return Err((
                "http.listen",
                format!(
                    "{:?} is no address: write it like \"0.0.0.0:7070\"",
                    self.http.listen
                ),
            ));
        }
        if self.pools.is_empty() {
            return Err((
                "pool",
                "there is none: say where resources come from in [[pool]]".to_owned(),
            ));
        }
        for (index, pool) in self.pools.iter().enumerate() {
            if pool.masters.is_empty() {
                return Err((
                    "pool.masters",
                    format!(
                        "pool {:?} has none: write [\"http://host:5050\"]",
                        pool.name
                    ),
                ));
            }
            if let Some(master) = pool
                .masters
                .iter()
                .find(|master| !master.starts_with("http://") && !master.starts_with("https://"))
            {
                return Err((
                    "pool.masters",
                    format!("{master:?}: write http:// or https:// in front"),
                ));
            }
            if self.pools[..index]
                .iter()
                .any(|other| other.name == pool.name)
            {
                return Err(("pool.name", format!("there are two pools {:?}", pool.name)));
            }
            if !(pool.executor.cpus.is_finite() && pool.executor.cpus >= 0.0) {
                return Err((
                    "pool.executor.cpus",
                    format!("{} is no amount of processors", pool.executor.cpus),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [node]
        id = 1
        cluster = "test"
        data = "data"
        [http]
        listen = "127.0.0.1:7070"
        [store]
        url = "file:///tmp/store"
        [[pool]]
        masters = ["http://127.0.0.1:5050"]
        executor = { command = "/usr/bin/meson-executor" }
    "#;

    fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = read(GOOD).unwrap();
        assert_eq!(
            (config.node.shards, config.pools[0].name.as_str()),
            (8, "default")
        );
        assert!(config.node.data.is_absolute(), "relative to the file");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (from, to, expected) in [
            ("id = 1", "id = 1\ncolour = 3", "colour"),
            ("id = 1", "id = \"one\"", "id"),
            ("id = 1", "id = 0", "node.id"),
            ("127.0.0.1:7070", "here", "http.listen"),
            ("http://127.0.0.1:5050", "127.0.0.1:5050", "http://"),
            ("[http]", "[htpp]", "htpp"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
