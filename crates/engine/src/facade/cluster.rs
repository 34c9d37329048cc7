//! The cluster: its coordinators and shards, and how they are changed.

use std::time::Duration;

use super::Engine;
use crate::calls::{ShardCall, ShardReply};
use crate::cluster::NodeState;
use crate::error::EngineError;
use crate::layout::Place;
use crate::peers::ask;
use crate::peers::wire::{PeerAnswer, PeerCall};
use meson_consensus::{Member, NodeId, Shard, ShardId};
use meson_core::definition::Replication;
use meson_protocol::api::{ClusterView, NodeView, ShardView};
use serde::Serialize;

/// A new replica may take so long to get one shard's log and state.
const CATCH_UP: Duration = Duration::from_secs(300);

/// A node takes a leadership that it is given within this time, or not at all.
const TAKEN_WITHIN: Duration = Duration::from_secs(5);

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
        let round_trips = self.node.peers().round_trips();
        members
            .into_iter()
            .map(|(node, member)| {
                let round_trip = round_trips.iter().find(|(peer, _)| *peer == node);
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
                    rtt_ms: round_trip.map(|(_, time)| time.as_secs_f64() * 1e3),
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

    fn state_of(&self, node: NodeId) -> &'static str {
        match self.said(node) {
            Some(state) if state.draining => "draining",
            Some(_) => "up",
            None => "down",
        }
    }

    /// Whether the node serves.
    #[must_use]
    pub fn health(&self) -> Health {
        let status = self.node.consensus().status();
        let mut problems: Vec<String> = status
            .shards
            .iter()
            .filter(|shard| shard.leader.is_none() && self.node.leader_hint(shard.id).is_none())
            .map(|shard| format!("shard {} has no leader", shard.id))
            .collect();
        problems.extend(status.failure.map(|failure| failure.to_string()));
        problems.extend(self.node.failures().borrow().as_deref().map(str::to_owned));
        Health {
            ready: problems.is_empty(),
            problems,
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

    /// Lets a node join: a replica and a vote in every shard. It must run, and have a certificate
    /// of the cluster. Asking again goes on where it ended.
    ///
    /// # Errors
    /// The node cannot be reached, or a shard has no leader; some shards may have it already.
    pub async fn join(&self, node: NodeId, mut member: Member) -> Result<(), EngineError> {
        if member.region.is_empty() {
            member.region.clone_from(&self.node.options().region);
        }
        if let Some(known) = self.node.consensus().members().borrow().get(&node) {
            if known.addr != member.addr {
                return Err(EngineError::BadInput {
                    action: "let the node join",
                    reason: format!("node {node} is a member already, at {}", known.addr),
                    remedy: "give the new node a number that was never used".to_owned(),
                });
            }
        } else if self.knows(node).await? {
            return Err(EngineError::BadInput {
                action: "let the node join",
                reason: format!("node {node} was a member before, and was removed"),
                remedy: "give the new node a number that was never used".to_owned(),
            });
        }
        let layout = self.node.layout();
        for shard in self.node.consensus().shards() {
            // The shards of another region are not its business.
            let abroad = layout.group(shard.id()).is_some_and(|group| {
                group.reach == Replication::Regional && group.home != member.region
            });
            if abroad {
                continue;
            }
            let call = ShardCall::AddVoter {
                node,
                member: member.clone(),
            };
            self.to_leader(shard, call, CATCH_UP).await?;
        }
        Ok(())
    }

    /// Takes a node out of every shard, for good: its number is not to be used again.
    ///
    /// # Errors
    /// It is no member, the last voter of a shard, or a shard has no leader.
    pub async fn remove(&self, node: NodeId) -> Result<(), EngineError> {
        self.member(node, "remove the node")?;
        // Who can still be reached hands over first. Who cannot leads nothing for long.
        if self.state_of(node) != "down" {
            self.drain(node, true).await?;
            self.led_nothing(node).await;
        }
        for shard in self.node.consensus().shards() {
            let call = ShardCall::RemoveMember { node };
            self.to_leader(shard, call, self.node.timing().call * 3)
                .await?;
        }
        Ok(())
    }

    /// Waits until a node leads nothing, as far as this one knows, but not for ever: what it still
    /// leads then, it loses with its vote.
    async fn led_nothing(&self, node: NodeId) {
        let gone = async {
            for shard in self.node.consensus().shards() {
                let mut leadership = shard.leadership();
                let _ = leadership.wait_for(|now| now.leader != Some(node)).await;
            }
        };
        if tokio::time::timeout(TAKEN_WITHIN, gone).await.is_err() {
            tracing::warn!(%node, "the node that is removed still leads some shards");
        }
    }

    /// Makes sure that this node's number is its own: the first data to bear it keep it.
    ///
    /// # Errors
    /// [`EngineError::NodeTaken`] if the cluster knows the number with other data; anything else
    /// if nobody can tell now.
    pub async fn register(&self) -> Result<(), EngineError> {
        let consensus = self.node.consensus();
        self.register_as(consensus.node_id(), consensus.incarnation().to_owned())
            .await
    }

    pub(crate) async fn register_as(
        &self,
        node: NodeId,
        incarnation: String,
    ) -> Result<(), EngineError> {
        let call = ShardCall::RegisterNode { node, incarnation };
        match self.node.call(&Place::cluster(), call).await {
            Err(error) if error.code() == "node_taken" => {
                Err(EngineError::NodeTaken { node: node.get() })
            }
            other => other.map(drop),
        }
    }

    /// Whether a node has ever registered under this number.
    async fn knows(&self, node: NodeId) -> Result<bool, EngineError> {
        let call = ShardCall::KnowsNode { node };
        match self.node.call(&Place::cluster(), call).await? {
            ShardReply::KnowsNode(known) => Ok(known),
            other => Err(other.unexpected("let the node join")),
        }
    }

    async fn to_leader(
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

    fn member(&self, node: NodeId, action: &'static str) -> Result<(), EngineError> {
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
