//! Which file is where, and the coordinators' configurations.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use meson_core::definition::Replication;

use super::ports;
use crate::{proxy::Network, settings::Settings};

/// The cluster's name.
pub(super) const CLUSTER: &str = "chaos";

/// Bytes of a log's end that an error shows.
const LOG_SHOWN: usize = 3_000;

/// Where to ask, for those who only look.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The coordinators' APIs.
    pub nodes: BTreeMap<u64, String>,
    /// The Mesos masters.
    pub masters: Vec<String>,
    /// The file that steps write their executions to.
    pub traces: PathBuf,
}

/// Ports.
pub(super) struct Addresses {
    http: BTreeMap<u64, u16>,
    mesh: BTreeMap<u64, u16>,
    masters: Vec<u16>,
}

impl Addresses {
    pub(super) fn choose(settings: &Settings, seed: u64) -> Result<Self> {
        let (nodes, pools) = (settings.nodes, settings.pools().len());
        let count = usize::try_from(nodes)?;
        let mut ports = ports::free(2 * count + pools, seed)?.into_iter();
        let masters = ports.by_ref().take(pools).collect();
        Ok(Self {
            http: (1..=nodes).zip(ports.by_ref().take(count)).collect(),
            mesh: (1..=nodes).zip(ports).collect(),
            masters,
        })
    }
}

/// Files and addresses of a cluster.
pub(super) struct Layout {
    bin: PathBuf,
    folder: PathBuf,
    addresses: Addresses,
    settings: Settings,
}

impl Layout {
    pub(super) fn new(
        bin: &Path,
        folder: &Path,
        addresses: Addresses,
        settings: &Settings,
    ) -> Result<Self> {
        for part in ["logs", "agents", "store", "nodes", "master"] {
            std::fs::create_dir_all(folder.join(part))
                .with_context(|| format!("make {} in {}", part, folder.display()))?;
        }
        // Absolute and without links: processes are recognised by their working directories.
        let folder = folder.canonicalize()?;
        std::fs::write(folder.join("secret"), "this cluster lives for a test only")?;
        Ok(Self {
            bin: bin
                .canonicalize()
                .with_context(|| format!("there is no folder {}", bin.display()))?,
            folder,
            addresses,
            settings: settings.clone(),
        })
    }

    pub(super) fn program(&self, name: &str) -> Result<PathBuf> {
        let program = self.bin.join(name);
        ensure!(
            program.is_file(),
            "{} is missing: build it with `cargo build -p mesond -p mesonctl -p minimesos -p meson-executor`, \
             or say where it is with --bin",
            program.display()
        );
        Ok(program)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn certificates(&self) -> PathBuf {
        self.folder.join("certs")
    }

    pub(super) fn data(&self, node: u64) -> PathBuf {
        self.folder.join(format!("nodes/data-{node}"))
    }

    /// What a coordinator's own clock shows, if it has one.
    pub(super) fn clock(&self, node: u64) -> PathBuf {
        self.folder.join(format!("nodes/clock-{node}"))
    }

    pub(super) fn config(&self, node: u64) -> PathBuf {
        self.folder.join(format!("nodes/{node}.toml"))
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("logs/{name}.log"))
    }

    pub(super) fn end_of_log(&self, name: &str) -> String {
        let bytes = std::fs::read(self.log(name)).unwrap_or_default();
        let from = bytes.len().saturating_sub(LOG_SHOWN);
        String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
    }

    pub(super) fn agents(&self) -> PathBuf {
        self.folder.join("agents")
    }

    pub(super) fn agent(&self, agent: u64) -> PathBuf {
        self.agents().join(agent.to_string())
    }

    /// The folder of a master, by its place among the pools.
    pub(super) fn master(&self, pool: usize) -> PathBuf {
        self.folder.join(format!("master/{pool}"))
    }

    pub(super) fn master_port(&self, pool: usize) -> u16 {
        let port = self.addresses.masters.get(pool);
        port.copied().unwrap_or_default()
    }

    pub(super) fn master_url(&self, pool: usize) -> String {
        format!("http://127.0.0.1:{}", self.master_port(pool))
    }

    pub(super) fn url(&self, node: u64) -> String {
        let port = self.addresses.http.get(&node).copied().unwrap_or_default();
        format!("http://127.0.0.1:{port}")
    }

    /// Where each node listens for the others.
    pub(super) fn mesh(&self) -> BTreeMap<u64, SocketAddr> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ports = self.addresses.mesh.iter();
        ports.map(|(node, port)| (*node, at(*port))).collect()
    }

    pub(super) fn directory(&self) -> Directory {
        Directory {
            nodes: (1..=self.settings.nodes)
                .map(|node| (node, self.url(node)))
                .collect(),
            masters: (0..self.addresses.masters.len())
                .map(|pool| self.master_url(pool))
                .collect(),
            traces: self.folder.join("traces"),
        }
    }

    pub(super) fn write_config(&self, node: u64, network: &Network) -> Result<()> {
        let path = self.config(node);
        std::fs::write(&path, self.config_text(node, network)?)
            .with_context(|| format!("write {}", path.display()))
    }

    fn config_text(&self, node: u64, network: &Network) -> Result<String> {
        let text = |path: &Path| format!("{:?}", path.display().to_string());
        let settings = &self.settings;
        let urls: Vec<String> = (1..=settings.nodes).map(|node| self.url(node)).collect();
        let mut toml = format!(
            "[node]\nid = {node}\ncluster = {CLUSTER:?}\nregion = {:?}\ndata = {}\nsecret = {}\n",
            settings.region(node),
            text(&self.data(node)),
            text(&self.folder.join("secret")),
        );
        if settings.groups.is_empty() {
            writeln!(toml, "shards = {}", settings.shards)?;
        }
        if settings.nodes > 1 {
            toml.push_str("zone = \"a\"\n");
        }
        let listen = self.url(node).replace("http://", "");
        write!(
            toml,
            "\n[http]\nlisten = {listen:?}\nadvertise = {urls:?}\n"
        )?;
        if let Some(snapshots) = settings.snapshots {
            write!(
                toml,
                "\n[snapshots]\nevery_entries = {}\nkeep_entries = {}\n",
                snapshots.every_entries, snapshots.keep_entries
            )?;
        }
        if settings.nodes > 1 {
            self.write_mesh(&mut toml, node, network)?;
        }
        let store = format!("file://{}", self.folder.join("store").display());
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective())?
            .context("this user has no name")?
            .name;
        write!(
            toml,
            "\n[store]\nurl = {store:?}\n\n[spill]\nafter_ms = {}\n",
            settings.spill_ms
        )?;
        let executor = text(&self.program("meson-executor")?);
        for (index, region) in settings.pools().iter().enumerate() {
            let name = if index == 0 { "default" } else { region };
            write!(
                toml,
                "\n[[pool]]\nname = {name:?}\nregion = {region:?}\nmasters = [{:?}]\nrole = \"*\"\n\
                 user = {user:?}\nexecutor = {{ command = {executor}, cpus = 0.1, mem = 64 }}\n\
                 packing = \"spread\"\n",
                self.master_url(index),
            )?;
        }
        Ok(toml)
    }

    fn write_mesh(&self, toml: &mut String, node: u64, network: &Network) -> Result<()> {
        let mesh = self.mesh();
        let timing = self.settings.timing;
        let own = mesh.get(&node).context("the node has no address")?;
        let certificates = self.certificates().join(format!("node-{node}"));
        write!(
            toml,
            "\n[cluster]\nlisten = \"{own}\"\ncertificates = {:?}\n\n[cluster.timing]\nheartbeat_ms = {}\n\
             election_min_ms = {}\nelection_max_ms = {}\n\n[cluster.routes]\n",
            certificates.display().to_string(),
            timing.heartbeat_ms,
            timing.election_min_ms,
            timing.election_max_ms,
        )?;
        let routed = |other: &&u64| !self.settings.direct && **other != node;
        for other in mesh.keys().filter(routed) {
            let route = network.route(node, *other).context("a link is missing")?;
            writeln!(toml, "{other} = \"{route}\"")?;
        }
        for group in &self.settings.groups {
            let reach = match group.replication {
                Replication::Regional => "regional",
                Replication::Global => "global",
            };
            write!(
                toml,
                "\n[[cluster.group]]\nhome = {:?}\nreplication = \"{reach}\"\nshards = {}\nwitnesses = {:?}\n",
                group.home, group.shards, group.witnesses,
            )?;
        }
        for (member, address) in &mesh {
            write!(
                toml,
                "\n[[cluster.member]]\nid = {member}\naddr = \"{address}\"\nhttp = {:?}\nregion = {:?}\nzone = \"a\"\n",
                self.url(*member),
                self.settings.region(*member),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Group;

    /// The configuration of node 2, and the network that it is for.
    async fn second(settings: &Settings) -> (toml::Table, Network) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("meson-executor"), "").unwrap();
        let addresses = Addresses::choose(settings, 1).unwrap();
        let layout = Layout::new(folder.path(), folder.path(), addresses, settings).unwrap();
        let network = Network::open(&layout.mesh(), 1).await.unwrap();
        let text = layout.config_text(2, &network).unwrap();
        (text.parse().unwrap(), network)
    }

    #[tokio::test]
    async fn groups_of_shards_take_the_place_of_their_number() {
        let (read, _) = second(&Settings {
            groups: vec![Group {
                home: "eu".to_owned(),
                replication: Replication::Regional,
                shards: 3,
                witnesses: vec![3],
            }],
            ..Settings::default()
        })
        .await;
        assert!(read["node"].get("shards").is_none());
        let group = &read["cluster"]["group"][0];
        assert_eq!(group["replication"].as_str(), Some("regional"));
        assert_eq!(group["witnesses"][0].as_integer(), Some(3));
    }

    #[tokio::test]
    async fn each_region_with_agents_may_have_its_pool() {
        let (read, _) = second(&Settings {
            regions: ["eu", "us", "ap"].map(str::to_owned).to_vec(),
            agents: 3,
            pool_per_region: true,
            ..Settings::default()
        })
        .await;
        let pools = read["pool"].as_array().unwrap();
        let names: Vec<_> = pools.iter().map(|pool| pool["name"].as_str()).collect();
        assert_eq!(names, [Some("default"), Some("us"), Some("ap")]);
        assert_eq!(pools[2]["region"].as_str(), Some("ap"));
        assert_ne!(pools[0]["masters"], pools[1]["masters"]);
    }

    #[tokio::test]
    async fn a_configuration_is_toml_and_dials_the_proxy() {
        let (read, network) = second(&Settings::default()).await;
        assert_eq!(read["node"]["shards"].as_integer(), Some(4));
        let cluster = read["cluster"].as_table().unwrap();
        assert_eq!(cluster["member"].as_array().unwrap().len(), 3);
        let route = network.route(2, 3).unwrap().to_string();
        assert_eq!(cluster["routes"]["3"].as_str(), Some(route.as_str()));
        assert!(
            cluster["routes"].get("2").is_none(),
            "it does not dial itself"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let addresses = Addresses::choose(&settings, 1).unwrap();
        let layout = Layout::new(folder.path(), folder.path(), addresses, &settings).unwrap();
        let error = layout.program("mesond").unwrap_err().to_string();
        assert!(error.contains("mesond is missing"), "{error}");
    }
}
