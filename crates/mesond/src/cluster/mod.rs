//! A coordinator among others: the mesh, and what travels on it.
//!
//! ```text
//!   consensus ── Network ────┐                        ┌── ConsensusNode::handle, serve
//!                            ├─ link ─ mesh ─ switch ──┤
//!   engine ── Coordinators ──┘                        ├── Engine::answer, converse
//!                                                     └── birth: who begins the cluster?
//! ```
//!
//! * [`link`]: the ways out. * [`switchboard`]: who answers what comes in.
//! * [`birth`]: how a node without data finds out whether it may begin.

mod birth;
mod link;
mod switchboard;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meson_api::Starting;
use meson_certs::{Identity, PeerId};
use meson_consensus::{Birth, ClusterId, ConsensusNode, Members, NodeId, Options};
use meson_engine::error::EngineError;
use meson_engine::{Engine, Layout};
use meson_transport::{Mesh, MeshOptions};

use self::link::Link;
use self::switchboard::Switchboard;
use crate::config::{Cluster, Config, ConfigError};
use crate::system;

/// The largest call or answer, in bytes: a bundle, with room for what is around it.
const CALL_BYTES: usize = 24 << 20;
/// Between two tries to register the node's number with the cluster.
const REGISTER_EVERY: Duration = Duration::from_secs(1);
/// Between two looks whether the certificate's files have changed.
const RENEWED_EVERY: Duration = Duration::from_secs(30);

/// This node's place among the others.
pub(crate) struct Place {
    mesh: Mesh,
    link: Arc<Link>,
    switchboard: Arc<Switchboard>,
    certificates: PathBuf,
    founders: Members,
}

impl Place {
    /// Joins the mesh. Nothing but questions about the beginning is answered until
    /// [`serve`](Self::serve).
    pub(crate) fn take(config: &Config, cluster: &Cluster) -> anyhow::Result<Self> {
        let identity = identity(config, cluster)?;
        let listen: SocketAddr = cluster.listen.parse().context("cluster.listen")?;
        let founders = cluster.members();
        let has_data = !ConsensusNode::is_new(config.node.data.join("shards"));
        let switchboard = Arc::new(Switchboard::new(has_data));
        let routes = cluster.routes().into_iter();
        let mut options = MeshOptions::new(
            identity,
            meson_transport::bind(listen)?,
            dialled(&founders),
            system::seed(),
            Arc::clone(&switchboard) as Arc<dyn meson_transport::Handler>,
        );
        options.limits.call_bytes = CALL_BYTES;
        options.routes = routes
            .map(|(node, addr)| (PeerId::new(node), addr))
            .collect();
        let mesh = Mesh::start(options).context("cannot start the mesh of coordinators")?;
        Ok(Self {
            link: Arc::new(Link::new(mesh.clone())),
            mesh,
            switchboard,
            certificates: cluster.certificates.clone(),
            founders,
        })
    }

    /// The ways out, for consensus and engine.
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// How this node opens its data. Where it has none, that takes until the cluster has said
    /// whether it may begin, and how; who asks meanwhile is told what it waits for.
    pub(crate) async fn open(
        &self,
        config: &Config,
        cluster: &Cluster,
        layout: &Layout,
        starting: &Starting,
    ) -> anyhow::Result<Options> {
        let own = NodeId::new(config.node.id);
        let data = &config.node.data;
        let mut record = birth::Record::read_or_draw(data)?;
        record.check(ConsensusNode::is_new(data.join("shards")), data)?;
        let birth = match record.birth() {
            // A shard that lost its history must not begin another one.
            Some(_) if record.has_grown() => Birth::Join,
            Some(birth) => birth,
            None if ConsensusNode::is_new(data.join("shards")) => {
                let incarnation = &record.incarnation;
                let say = |waits: String| starting.phase(waits);
                let birth = birth::decide(own, cluster, &self.link, incarnation, say).await?;
                starting.phase("it opens its data");
                record.decided(birth, data)?;
                birth
            }
            // Data of before there were others: they know how they began.
            None => Birth::Join,
        };
        let cluster_id = ClusterId::new(&config.node.cluster);
        Ok(Options {
            members: self.founders.clone(),
            birth,
            incarnation: record.incarnation,
            timing: cluster.timing(),
            network: self.link(),
            voters: cluster.voters(),
            ..Options::single(cluster_id, own, layout.shards())
        })
    }

    /// Refuses data that were lost without their folder.
    pub(crate) fn check(&self, consensus: &ConsensusNode, data: &Path) -> anyhow::Result<()> {
        birth::Record::read_or_draw(data)?.check(consensus.opened_blank(), data)
    }

    /// From here on, others are answered.
    pub(crate) fn serve(&self, consensus: &ConsensusNode, engine: &Engine, data: &Path) {
        self.switchboard.connect(consensus, engine);
        tokio::spawn(remember(consensus.clone(), data.to_owned()));
        tokio::spawn(follow_members(
            self.mesh.clone(),
            consensus.clone(),
            self.founders.clone(),
        ));
        tokio::spawn(renew(self.mesh.clone(), self.certificates.clone()));
    }

    /// Leaves the mesh.
    pub(crate) async fn leave(&self) {
        self.switchboard.disconnect();
        self.mesh.shutdown().await;
    }
}

/// Makes it last that the shards hold something, once something of them is durable.
async fn remember(consensus: ConsensusNode, data: PathBuf) {
    let holds_something = || {
        let shards = consensus.status().shards;
        shards.iter().any(|shard| shard.applied_index.is_some())
    };
    while !holds_something() {
        tokio::time::sleep(REGISTER_EVERY).await;
    }
    let remembered = birth::Record::read_or_draw(&data).and_then(|mut it| it.remember(&data));
    if let Err(error) = remembered {
        tracing::error!(%error, "cannot write down that the node has begun");
    }
}

/// Resolves, with the reason, when the cluster knows this node's number with other data.
pub(crate) async fn impostor(engine: Engine) -> String {
    loop {
        match engine.register().await {
            Ok(()) => return std::future::pending().await,
            Err(error @ EngineError::NodeTaken { .. }) => {
                return format!("{error}; {}", error.remedy());
            }
            // Nobody can tell now: without a leader nothing is decided here either.
            Err(error) => tracing::debug!(%error, "cannot register the node yet"),
        }
        tokio::time::sleep(REGISTER_EVERY).await;
    }
}

/// The node's certificate, which has to say what the configuration says.
fn identity(config: &Config, cluster: &Cluster) -> anyhow::Result<Identity> {
    let identity = Identity::load(&cluster.certificates, system::system_time())?;
    let problem = if identity.id().get() != config.node.id {
        format!(
            "that of node {}, not of node {}: use the folder of this node",
            identity.id(),
            config.node.id
        )
    } else if identity.cluster() != config.node.cluster {
        format!(
            "one of cluster {:?}, not of {:?}",
            identity.cluster(),
            config.node.cluster
        )
    } else {
        return Ok(identity);
    };
    Err(anyhow::Error::new(ConfigError::Certificate {
        folder: cluster.certificates.clone(),
        problem,
    }))
}

fn dialled(members: &Members) -> BTreeMap<PeerId, String> {
    members
        .iter()
        .map(|(node, member)| (PeerId::new(node.get()), member.addr.clone()))
        .collect()
}

/// Tells the mesh who belongs to the cluster, as it changes. A node that was told of no members
/// yet goes by its configuration.
async fn follow_members(mesh: Mesh, consensus: ConsensusNode, founders: Members) {
    let mut members = consensus.members();
    loop {
        let mut known = members.borrow_and_update().clone();
        if !known.contains_key(&consensus.node_id()) {
            for (node, member) in &founders {
                known.entry(*node).or_insert_with(|| member.clone());
            }
        }
        mesh.set_members(dialled(&known));
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// Uses a renewed certificate when its files have changed; a bad one changes nothing.
async fn renew(mesh: Mesh, folder: PathBuf) {
    let modified = || {
        let file = folder.join("node.pem");
        std::fs::metadata(file)
            .and_then(|meta| meta.modified())
            .ok()
    };
    let mut last = modified();
    loop {
        tokio::time::sleep(RENEWED_EVERY).await;
        let now = modified();
        if now == last {
            continue;
        }
        last = now;
        let renewed = Identity::load(&folder, system::system_time())
            .map_err(anyhow::Error::from)
            .and_then(|identity| Ok(mesh.replace_identity(identity)?));
        match renewed {
            Ok(()) => tracing::info!(folder = %folder.display(), "the certificate was renewed"),
            Err(error) => {
                tracing::error!(%error, "the renewed certificate cannot be used; going on with the old one");
            }
        }
    }
}
