//! Who belongs to the cluster: nodes join it and are removed, and no number is used twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meson_consensus::{Member, NodeId};
use meson_core::definition::Replication;

use super::Engine;
use super::cluster::TAKEN_WITHIN;
use crate::calls::{ShardCall, ShardReply};
use crate::cluster::keeper;
use crate::error::EngineError;
use crate::layout::Place;

/// A new replica may take so long to get one shard's log and state.
const CATCH_UP: Duration = Duration::from_secs(300);

const REMOVE: &str = "remove the node";

impl Engine {
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
    /// It is no member, the last voter of a shard, its shards would stand still without it, or one
    /// has no leader.
    pub async fn remove(&self, node: NodeId) -> Result<(), EngineError> {
        self.member(node, REMOVE)?;
        self.check_removal(node).await?;
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

    /// Refuses what could not even be taken back: a shard of which too few voters would be left that
    /// answer commits nothing any more, its next membership neither.
    async fn check_removal(&self, node: NodeId) -> Result<(), EngineError> {
        let answering = keeper::answering(&self.node).await;
        let mut still: BTreeMap<Vec<NodeId>, Vec<String>> = BTreeMap::new();
        for shard in self.node.consensus().shards() {
            let voters = shard.status().voters;
            if let Some(silent) = would_stand_still(&voters, node, &answering) {
                still
                    .entry(silent)
                    .or_default()
                    .push(shard.id().to_string());
            }
        }
        let Some((silent, shards)) = still.into_iter().next() else {
            return Ok(());
        };
        let silent: Vec<String> = silent.iter().map(ToString::to_string).collect();
        Err(EngineError::BadInput {
            action: REMOVE,
            reason: format!(
                "without node {node}, shards {} would stand still: too few of their voters would be \
                 left, since nodes {} do not answer",
                shards.join(", "),
                silent.join(", ")
            ),
            remedy: "start those first, or remove them instead if they are lost for good"
                .to_owned(),
        })
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
}

/// The voters that would be left without a node and do not answer, if the others are too few.
fn would_stand_still(
    voters: &[NodeId],
    removed: NodeId,
    answering: &BTreeSet<NodeId>,
) -> Option<Vec<NodeId>> {
    if !voters.contains(&removed) {
        return None;
    }
    let left = voters.iter().copied().filter(|voter| *voter != removed);
    let (up, silent): (Vec<_>, Vec<_>) = left.partition(|voter| answering.contains(voter));
    (up.len() <= silent.len() && !silent.is_empty()).then_some(silent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_removed_whom_a_majority_needs() {
        for (voters, removed, answering, silent) in [
            (&[1, 2, 3][..], 3, &[1, 2, 3][..], None),
            // The one that is lost.
            (&[1, 2, 3], 3, &[1, 2], None),
            // The wrong one: of those that are left, one of two.
            (&[1, 2, 3], 2, &[1, 2], Some(&[3][..])),
            (&[1, 2, 3, 4, 5], 2, &[1, 2, 3, 4], None),
            (&[1, 2, 3, 4, 5], 5, &[1, 2, 3], None),
            (&[1, 2, 3, 4, 5], 3, &[1, 2, 3], Some(&[4, 5])),
            // It has no vote.
            (&[1, 2], 3, &[1], None),
            // The last one: refused for that.
            (&[1], 1, &[1], None),
        ] {
            let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId::new).collect::<Vec<_>>();
            let answering: BTreeSet<NodeId> = nodes(answering).into_iter().collect();
            let removed = NodeId::new(removed);
            assert_eq!(
                would_stand_still(&nodes(voters), removed, &answering),
                silent.map(nodes),
                "{removed} of {voters:?} while {answering:?} answer"
            );
        }
    }
}
