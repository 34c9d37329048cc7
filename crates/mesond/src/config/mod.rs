//! A coordinator's configuration file, read strictly: an unknown key is an error that names it.

mod cluster;
mod masters;
mod mesos;
mod owners;
mod pools;
mod slurm;
mod snapshots;
mod spill;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use meson_core::definition::Replication;
use meson_engine::{Group, Layout};

pub(crate) use self::cluster::Cluster;
pub(crate) use self::masters::{CredentialFile, MasterNames, PoolEncoding, TlsFiles};
pub(crate) use self::mesos::{Brake, Executor, Keeping, Pacing, Packing, Pool};
pub(crate) use self::owners::terms;
pub(crate) use self::pools::AnyPool;
pub(crate) use self::slurm::SlurmPool;
pub(crate) use self::snapshots::Snapshots;
pub(crate) use self::spill::Spill;

/// Shards of a cluster that does not say.
const SHARDS: u16 = 8;

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
        reason: String,
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
    /// The secret that the file names cannot be used.
    #[error("the cluster's secret {path} {problem}")]
    Secret {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The certificate is that of somebody else.
    #[error("the certificate in {folder} is {problem}")]
    Certificate {
        /// The folder.
        folder: PathBuf,
        /// Whose it is instead.
        problem: String,
    },
    /// What the file says of a pool is not so on this machine.
    #[error("pool {pool:?} cannot be served from here: {reason}")]
    Pool {
        /// The pool.
        pool: String,
        /// What is missing.
        reason: String,
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
    /// Other coordinators.
    pub(crate) cluster: Option<Cluster>,
    /// When the log is shortened.
    #[serde(default)]
    pub(crate) snapshots: Snapshots,
    /// Where artifacts and logs are.
    pub(crate) store: Store,
    /// Resource managers.
    #[serde(rename = "pool")]
    pub(crate) pools: Vec<AnyPool>,
    /// When steps that name several regions go on to the next one.
    #[serde(default)]
    pub(crate) spill: Spill,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    /// Its number, unique in the cluster. Left out where `--node` says it.
    #[serde(default)]
    pub(crate) id: u64,
    /// The cluster's name: a data directory of another cluster is refused.
    pub(crate) cluster: String,
    /// Where it is. Left out, its entry among the members says it.
    #[serde(default)]
    pub(crate) region: String,
    /// The zone of its region; likewise.
    #[serde(default)]
    pub(crate) zone: String,
    /// The folder of its log and state.
    pub(crate) data: PathBuf,
    /// A file with the secret that all coordinators share, at least 16 bytes. Made if it is missing,
    /// but not in a cluster: one that the others do not know is of no use.
    pub(crate) secret: Option<PathBuf>,
    /// How many Raft groups; fixed for the life of a cluster. Not with `[[cluster.group]]`.
    pub(crate) shards: Option<u16>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    /// Address and port. Left out, its entry among the members says it.
    #[serde(default)]
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

fn local() -> String {
    "local".to_owned()
}

/// What a number may be, in words instead of Rust's types.
fn plain(reason: &str) -> String {
    let mut text = reason.to_owned();
    for (name, words) in [
        ("u64", "a whole number from 0 on"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u16", "a whole number from 0 to 65535"),
        ("usize", "a whole number from 0 on"),
        ("f64", "a number"),
    ] {
        text = text.replace(&format!("expected {name}"), &format!("expected {words}"));
    }
    text
}

fn or(text: &mut String, other: impl FnOnce() -> String) {
    if text.is_empty() {
        *text = other();
    }
}

impl Config {
    /// Reads and checks a file. Relative paths in it are relative to its folder, and `{node}` in
    /// them stands for the node's number. `node` is its number, for a file that all nodes share.
    pub(crate) fn read(path: &Path, node: Option<u64>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Read {
            path: path.to_owned(),
            reason,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|reason| ConfigError::Parse {
            path: path.to_owned(),
            reason: plain(&reason.to_string()),
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(node) = node {
            config.node.id = node;
        }
        config.complete(folder);
        config
            .check()
            .map_err(|(key, problem)| ConfigError::Value {
                path: path.to_owned(),
                key,
                problem,
            })?;
        Ok(config)
    }

    /// Fills in what follows from the node's number and its entry among the members.
    fn complete(&mut self, folder: &Path) {
        let number = self.node.id.to_string();
        let place = |path: &Path| {
            let text = path.to_string_lossy().replace("{node}", &number);
            folder.join(text)
        };
        self.node.data = place(&self.node.data);
        self.node.secret = self.node.secret.as_deref().map(place);
        for pool in &mut self.pools {
            match pool {
                AnyPool::Mesos(pool) => pool.complete(place),
                AnyPool::Slurm(pool) => pool.complete(folder),
            }
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.certificates = place(&cluster.certificates);
            if let Some(own) = cluster.own(self.node.id) {
                or(&mut self.node.region, || own.region.clone());
                or(&mut self.node.zone, || own.zone.clone());
                or(&mut self.http.listen, || cluster::listen_at(&own.http));
                let quic = cluster::listen_at(&own.addr);
                or(&mut cluster.listen, || quic);
            }
            // Executors may turn to any coordinator.
            if self.http.advertise.is_empty() {
                let all = cluster.members.iter().map(|member| member.http.clone());
                self.http.advertise = all.filter(|url| !url.is_empty()).collect();
            }
        }
        or(&mut self.node.region, local);
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.node.id == 0 {
            return Err((
                "node.id",
                "the node has no number: write it here, counted from 1, or say --node".to_owned(),
            ));
        }
        meson_certs::check_cluster(&self.node.cluster)
            .map_err(|error| ("node.cluster", error.to_string()))?;
        self.layout().map_err(|problem| ("node.shards", problem))?;
        self.snapshots.check()?;
        self.spill.check()?;
        if let Some(cluster) = &self.cluster {
            cluster.check(self.node.id)?;
            self.agrees_with(cluster)?;
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
            pool.check()?;
            if self.pools[..index]
                .iter()
                .any(|other| other.name() == pool.name())
            {
                return Err((
                    "pool.name",
                    format!("there are two pools {:?}", pool.name()),
                ));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Which shards there are, and where they are at home.
    pub(crate) fn layout(&self) -> Result<Layout, String> {
        let groups = self
            .cluster
            .iter()
            .flat_map(Cluster::groups)
            .collect::<Vec<_>>();
        if groups.is_empty() {
            return Layout::new(vec![Group {
                home: String::new(),
                reach: Replication::Global,
                shards: self.node.shards.unwrap_or(SHARDS),
            }]);
        }
        if self.node.shards.is_some() {
            return Err(
                "[[cluster.group]] says how many shards there are: leave this out".to_owned(),
            );
        }
        Layout::new(groups)
    }

    /// What the file says of this node in two places must be the same: the members are what others
    /// are told.
    fn agrees_with(&self, cluster: &Cluster) -> Result<(), (&'static str, String)> {
        let Some(own) = cluster.own(self.node.id) else {
            return Ok(());
        };
        if own.region != self.node.region {
            return Err((
                "node.region",
                format!(
                    "{:?} is not what [[cluster.member]] {} says: {:?}",
                    self.node.region, own.id, own.region
                ),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const GOOD: &str = r#"
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

    pub(super) fn read(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path, None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = read(GOOD).unwrap();
        assert_eq!(
            (config.layout().unwrap().shards(), config.pools[0].name()),
            (8, "default")
        );
        assert!(config.node.data.is_absolute(), "relative to the file");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (from, to, expected) in [
            (
                "[store]",
                "[cluster]\nlisten = \"x\"\n[store]",
                "certificates",
            ),
            ("id = 1", "id = 1\ncolour = 3", "colour"),
            ("id = 1", "id = \"one\"", "a whole number from 0 on"),
            ("id = 1", "id = 1\nshards = 70000", "from 0 to 65535"),
            ("\"test\"", "\"exa mple\"", "node.cluster"),
            ("id = 1", "id = 0", "node.id"),
            ("id = 1", "id = 1\nshards = 0", "node.shards"),
            (
                "[http]",
                "[snapshots]\nevery_mb = 0\n[http]",
                "snapshots.every_mb",
            ),
            ("127.0.0.1:7070", "here", "http.listen"),
            ("[http]", "[spill]\nafter_ms = 5\n[http]", "spill.after_ms"),
            ("http://127.0.0.1:5050", "127.0.0.1:5050", "http://"),
            ("[http]", "[htpp]", "htpp"),
            ("[[pool]]", "[[pool]]\nrole = \"-x\"", "pool.role"),
            (
                "[[pool]]",
                "[[pool]]\nowner_roles = { ada = \"a//b\" }",
                "pool.owner_roles",
            ),
            (
                "[[pool]]",
                "[[pool]]\npacing = { per_second = 0 }",
                "pool.pacing",
            ),
            (
                "[[pool]]",
                "[[pool]]\nbrake = { percentage = 1 }",
                "percentage",
            ),
            (
                "[[pool]]",
                "[[pool]]\nbrake = { percent = -1 }",
                "from 0 to 4294967295 in `brake.percent`",
            ),
            (
                "[[pool]]",
                "[[pool]]\nbrake = { window_s = 99999999999 }",
                "pool.brake.window_s",
            ),
            (
                "[[pool]]",
                "[[pool]]\nbrake = { calm_s = 0 }",
                "pool.brake.calm_s",
            ),
            (
                "[[pool]]",
                "[[pool]]\nvacate_before_s = 99999999999",
                "pool.vacate_before_s",
            ),
            ("[[pool]]", "[[pool]]\nname = \"a b\"", "pool.name"),
            ("[[pool]]", "[[pool]]\nname = \"\"", "pool.name"),
            ("[[pool]]", "[[pool]]\nuser = \"\"", "pool.user"),
            ("/usr/bin/meson-executor", "", "pool.executor.command"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    const MEMBERS: &str = r#"
        [cluster]
        listen = "127.0.0.1:7071"
        certificates = "certs/node-1"
        [cluster.timing]
        heartbeat_ms = 50
        [cluster.routes]
        2 = "127.0.0.1:9002"
        [[cluster.member]]
        id = 1
        addr = "10.0.0.1:7071"
        [[cluster.member]]
        id = 2
        addr = "10.0.0.2:7071"
        region = "eu"
        [store]
    "#;

    #[test]
    fn a_cluster_has_members_routes_and_clocks() {
        let config = read(&GOOD.replace("[store]", MEMBERS)).unwrap();
        let cluster = config.cluster.unwrap();
        assert!(cluster.certificates.is_absolute(), "relative to the file");
        assert_eq!(cluster.members().len(), 2);
        assert_eq!(cluster.routes()[&2], "127.0.0.1:9002");
        assert_eq!(cluster.timing(), meson_consensus::Timing::lan());
    }

    #[test]
    fn mistakes_in_a_cluster_are_named_with_their_place() {
        let good = GOOD.replace("[store]", MEMBERS);
        for (from, to, expected) in [
            ("certificates", "colour = 3\ncertificates", "colour"),
            (
                "127.0.0.1:7071\"\n        cert",
                "here\"\n        cert",
                "cluster.listen",
            ),
            ("id = 2", "id = 1", "two members"),
            ("10.0.0.2:7071", "10.0.0.1:7071", "cluster.member.addr"),
            (
                "region = \"eu\"",
                "http = \"10.0.0.2:7070\"",
                "cluster.member.http",
            ),
            ("10.0.0.2:7071", "10.0.0.2", "cluster.member.addr"),
            (
                "id = 1\n        addr",
                "id = 3\n        addr",
                "not among them",
            ),
            ("heartbeat_ms = 50", "heartbeat_ms = 100", "heartbeat_ms"),
            ("2 = \"127", "two = \"127", "cluster.routes"),
            ("certificates", "join = true\ncertificates", "cluster.join"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = read(&good.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn one_file_serves_all_members() {
        let shared = GOOD
            .replace("id = 1\n", "")
            .replace("listen = \"127.0.0.1:7070\"", "")
            .replace("data = \"data\"", "data = \"data/{node}\"")
            .replace(
                "[store]",
                r#"[cluster]
        certificates = "certs/node-{node}"
        [[cluster.member]]
        id = 1
        addr = "10.0.0.1:7071"
        http = "http://10.0.0.1:7070"
        [[cluster.member]]
        id = 2
        addr = "b.example:7071"
        http = "http://b.example:7070"
        region = "eu"
        [store]"#,
            );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.toml");
        std::fs::write(&path, &shared).unwrap();
        let second = Config::read(&path, Some(2)).unwrap();
        assert_eq!(second.node.region, "eu");
        assert!(second.node.data.ends_with("data/2"));
        assert_eq!(second.http.listen, "0.0.0.0:7070");
        assert_eq!(second.http.advertise.len(), 2);
        let cluster = second.cluster.unwrap();
        assert!(cluster.certificates.ends_with("certs/node-2"));
        assert_eq!(cluster.listen, "0.0.0.0:7071");
        let first = Config::read(&path, Some(1)).unwrap();
        assert_eq!(first.cluster.unwrap().listen, "10.0.0.1:7071");
        let error = Config::read(&path, None).unwrap_err().to_string();
        assert!(error.contains("--node"), "{error}");
        let error = Config::read(&path, Some(3)).unwrap_err().to_string();
        assert!(error.contains("not among them"), "{error}");
    }
}
