//! Who belongs to a cluster, and how membership changes.

use std::collections::BTreeMap;

use openraft::type_config::async_runtime::watch::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    ids::NodeId,
    raft::{ServerMetrics, ServerMetricsWatch},
};

/// What is known of a node: replicated with the membership of every shard that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where other nodes reach it, as `host:port` (QUIC, over UDP).
    #[serde(default)]
    pub addr: String,
    /// Where clients reach it, as a URL; empty if it did not say.
    #[serde(default)]
    pub http: String,
    /// The region that it is in.
    #[serde(default)]
    pub region: String,
    /// The zone of that region; empty if there is but one.
    #[serde(default)]
    pub zone: String,
}

impl Member {
    /// A node of which only the address is known.
    #[must_use]
    pub fn at(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            ..Self::default()
        }
    }
}

/// Nodes by their number.
pub type Members = BTreeMap<NodeId, Member>;

/// How a shard without a history begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Birth {
    /// With the members that the options name, as its first voters. Every one of them must be
    /// told the same, and none of them may have belonged to the shard before: a node that has lost
    /// its data has also forgotten whom it voted for and what it promised to keep.
    #[default]
    Found,
    /// By waiting for a leader that has been told of this node.
    Join,
}

/// Why membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This node does not lead the shard.
    #[error("this node does not lead the shard; ask {}", leader.map_or_else(|| "again when one is elected".to_owned(), |node| format!("node {node}")))]
    NotLeader {
        /// Who leads it, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// An earlier change is still under way.
    #[error("an earlier change of membership is under way; try again when it is committed")]
    UnderWay,
    /// It makes no sense.
    #[error("{reason}")]
    Refused {
        /// What is wrong with it.
        reason: String,
    },
    /// The node is shut down, or has failed.
    #[error("the node is shut down")]
    Closed,
}

/// The members of a shard, as this node's replica knows them; empty before it knows any.
pub(crate) fn of(server: &ServerMetrics) -> Members {
    server
        .membership_config
        .membership()
        .nodes()
        .map(|(node, member)| (NodeId::new(*node), member.clone()))
        .collect()
}

/// Publishes all members of all shards as one, as they change.
pub(crate) async fn follow(
    mut shards: Vec<ServerMetricsWatch>,
    mut closing: watch::Receiver<bool>,
    out: watch::Sender<Members>,
) {
    loop {
        let mut all = Members::new();
        for shard in &mut shards {
            all.extend(of(&shard.borrow_and_update()));
        }
        out.send_if_modified(|current| {
            let changed = *current != all;
            *current = all;
            changed
        });
        let changes = shards.iter_mut().map(|shard| Box::pin(shard.changed()));
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            (changed, _, _) = futures::future::select_all(changes) => if changed.is_err() { break },
        }
    }
}
