//! The cluster: its coordinators and shards, and who leads.

use std::time::Duration;

use super::Engine;
use crate::calls::{ShardCall, ShardReply};
use crate::cluster::NodeState;
use crate::error::EngineError;
use crate::peers::ask;
use crate::peers::wire::{PeerAnswer, PeerCall};
use meson_consensus::{NodeId, Shard, ShardId};
use meson_protocol::api::{ClusterView, NodeView, ShardView};

/// A node takes a leadership that it is given within this time, or not at all.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    /// The coordinators and shards that this node knows of.
    #[must_use]
    pub fn cluster(&self) -> ClusterView {
        let status = self.node.consensus().status();
        ClusterView {
            nodes: self.node_views(),
            shards: status
                .shards
                .into_iter()
                .map(|shard| ShardView {
                    id: shard.id.get(),
                    leader: shard
                        .leader
                        .or_else(|| self.node.leader_hint(shard.id))
                        .map(NodeId::get),
                    term: shard.term.get(),
                    replicas: shard.replicas.iter().map(|node| node.get()).collect(),
                    commit_index: shard.commit_index.map_or(0, |index| index.get()),
                })
                .collect(),
        }
    }

    fn node_views(&self) -> Vec<NodeView> {
        let (own, options) = (self.node.consensus().node_id(), self.node.options());
        let mut members = self.node.consensus().members().borrow().clone();
        // What a node knows of itself is newer than what was committed of it.
        let this = members.entry(own).or_default();
        this.region.clone_from(&options.region);
        this.http.clone_from(&options.http_addr);
        let links = self.node.peers().links();
        members
            .into_iter()
            .map(|(node, member)| {
                let link = links.iter().find(|link| link.node == node);
                let round_trip = link.and_then(|link| link.round_trip);
                NodeView {
                    id: node.get(),
                    region: member.region,
                    zone: member.zone,
                    addr: member.http,
                    state: self.state_of(node).to_owned(),
                    version: self.said(node).map(|state| state.version),
                    clock_ahead_ms: (node != own)
                        .then(|| self.node.table().known(node))
                        .flatten()
                        .map(|known| known.clock_ahead_ms),
                    rtt_ms: round_trip.map(|time| time.as_secs_f64() * 1e3),
                    problem: link.and_then(|link| link.problem.clone()),
                }
            })
            .collect()
    }

    /// What a node says of itself, if it is well and said it lately.
    fn said(&self, node: NodeId) -> Option<NodeState> {
        let consensus = self.node.consensus();
        if node == consensus.node_id() {
            (consensus.status().failure.is_none()).then(|| self.node.state())
        } else {
            self.node.table().known(node).map(|known| known.state)
        }
    }

    pub(super) fn state_of(&self, node: NodeId) -> &'static str {
        match self.said(node) {
            Some(state) if state.draining => "draining",
            Some(_) => "up",
            None => "down",
        }
    }

    /// Hands a shard's leadership to a node that has a vote in it, and waits until it has it.
    ///
    /// # Errors
    /// There is no such shard, the node does not vote in it, or does not take it.
    pub async fn transfer(&self, shard: u16, to: NodeId) -> Result<(), EngineError> {
        let action = "hand over leadership";
        let shard = self.shard(shard, action)?;
        let limit = self.node.timing().call;
        self.to_leader(&shard, ShardCall::Transfer { to }, limit)
            .await?;
        let mut leadership = shard.leadership();
        let taken = async {
            loop {
                let known = leadership.borrow_and_update().leader;
                if known.or_else(|| self.node.leader_hint(shard.id())) == Some(to) {
                    return;
                }
                tokio::select! {
                    _ = leadership.changed() => {}
                    () = self.node.hints_changed() => {}
                }
            }
        };
        let taken = tokio::time::timeout(TAKEN_WITHIN, taken).await;
        taken.map_err(|_| EngineError::Unavailable {
            action,
            reason: format!("node {to} did not take it: it may be behind, or away"),
        })
    }

    /// Lets a node lead nothing any more, or take part again. It keeps its replicas, and its
    /// draining ends with its process.
    ///
    /// # Errors
    /// There is no such node, or it cannot be reached.
    pub async fn drain(&self, node: NodeId, on: bool) -> Result<(), EngineError> {
        let action = "drain the node";
        if node == self.node.consensus().node_id() {
            self.node.drain(on);
            return Ok(());
        }
        self.member(node, action)?;
        let (call, limit) = (PeerCall::Drain { on }, self.node.timing().call);
        match ask(self.node.peers(), node, &call, action, false, limit).await? {
            PeerAnswer::Done => Ok(()),
            PeerAnswer::Failed { kind, detail } => Err(EngineError::Elsewhere { kind, detail }),
            _ => Err(EngineError::Internal {
                action,
                reason: format!("node {node} answered another question"),
            }),
        }
    }

    /// Drains this node and waits until it leads nothing, or the time is up.
    pub async fn leave(&self, limit: Duration) {
        let own = self.node.consensus().node_id();
        let heard = {
            let members = self.node.consensus().members();
            let members = members.borrow();
            let mut others = members.keys().filter(|node| **node != own);
            others.any(|node| self.node.table().known(*node).is_some())
        };
        if !heard {
            return;
        }
        self.node.drain(true);
        let empty = async {
            for shard in self.node.consensus().shards() {
                let _ = shard.leadership().wait_for(|now| !now.local).await;
            }
        };
        if tokio::time::timeout(limit, empty).await.is_err() {
            let left = self.node.leads();
            tracing::warn!(
                shards = ?left,
                "nobody took over these shards in time; their voters will elect"
            );
        }
    }

    pub(super) async fn to_leader(
        &self,
        shard: &Shard,
        call: ShardCall,
        limit: Duration,
    ) -> Result<(), EngineError> {
        let action = call.action();
        match self.node.call_shard_within(shard, call, limit).await? {
            ShardReply::Done => Ok(()),
            other => Err(other.unexpected(action)),
        }
    }

    fn shard(&self, shard: u16, action: &'static str) -> Result<Shard, EngineError> {
        let consensus = self.node.consensus();
        consensus
            .shard(ShardId::new(shard))
            .ok_or_else(|| EngineError::BadInput {
                action,
                reason: format!("there is no shard {shard}"),
                remedy: format!("shards are numbered 0 to {}", consensus.shards().len() - 1),
            })
    }

    pub(super) fn member(&self, node: NodeId, action: &'static str) -> Result<(), EngineError> {
        let members = self.node.consensus().members();
        let members = members.borrow();
        if members.contains_key(&node) {
            return Ok(());
        }
        let known: Vec<String> = members.keys().map(ToString::to_string).collect();
        Err(EngineError::BadInput {
            action,
            reason: format!("there is no node {node}"),
            remedy: format!("the cluster has the nodes {}", known.join(", ")),
        })
    }
}
