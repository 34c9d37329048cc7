//! The node and its shards.

use meson_protocol::api::{ClusterView, NodeView, ShardView};
use serde::Serialize;

use super::Engine;

/// Whether a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether every shard has a leader that this node knows of, and the node itself works.
    pub ready: bool,
    /// Why it is not ready, or has failed.
    pub problems: Vec<String>,
}

impl Engine {
    /// The coordinators and shards that this node knows of.
    #[must_use]
    pub fn cluster(&self) -> ClusterView {
        let status = self.node.consensus().status();
        let options = self.node.options();
        let state = if status.failure.is_some() {
            "down"
        } else {
            "up"
        };
        ClusterView {
            nodes: vec![NodeView {
                id: status.node.get(),
                region: options.region.clone(),
                addr: options.http_addr.clone(),
                state: state.to_owned(),
            }],
            shards: status
                .shards
                .into_iter()
                .map(|shard| ShardView {
                    id: shard.id.get(),
                    leader: shard.leader.map(|node| node.get()),
                    term: shard.term.get(),
                    replicas: shard.replicas.iter().map(|node| node.get()).collect(),
                    commit_index: shard.commit_index.map_or(0, |index| index.get()),
                })
                .collect(),
        }
    }

    /// Whether the node serves.
    #[must_use]
    pub fn health(&self) -> Health {
        let status = self.node.consensus().status();
        let mut problems: Vec<String> = status
            .shards
            .iter()
            .filter(|shard| shard.leader.is_none())
            .map(|shard| format!("shard {} has no leader", shard.id))
            .collect();
        problems.extend(status.failure.map(|failure| failure.to_string()));
        problems.extend(self.node.failures().borrow().as_deref().map(str::to_owned));
        Health {
            ready: problems.is_empty(),
            problems,
        }
    }
}
