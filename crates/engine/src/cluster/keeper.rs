//! Asks the others how they are, and hands over what this node leads and another should.

use std::collections::BTreeSet;
use std::time::Duration;

use meson_consensus::{NodeId, Shard};
use meson_core::units;
use tokio::time::{Instant, MissedTickBehavior};

use super::placement::{Voter, successor};
use crate::error::EngineError;
use crate::node::Node;
use crate::peers::ask;
use crate::peers::wire::{PeerAnswer, PeerCall};

/// Between two questions to everybody.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// A node is given leadership once it has been heard for so long without a gap.
const STEADY: Duration = Duration::from_secs(3);
/// Who is to be given leadership has to answer within this time.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// Between two hand-overs of everything that belongs elsewhere, so that a transfer that does not
/// come about is not tried in a storm.
const BALANCE_EVERY: Duration = Duration::from_secs(5);
/// The same while draining: somebody waits for it.
const DRAIN_EVERY: Duration = Duration::from_millis(500);

/// Runs until the engine ends.
pub(crate) async fn run(node: Node) {
    let mut ask = tokio::time::interval(ASK_EVERY);
    ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draining = node.table().draining();
    let mut balance_at = Instant::now() + BALANCE_EVERY;
    loop {
        tokio::select! {
            () = node.closed() => return,
            _ = ask.tick() => ask_everybody(&node).await,
            Ok(()) = draining.changed() => balance_at = Instant::now(),
            () = tokio::time::sleep_until(balance_at) => {
                let drains = *draining.borrow();
                balance(&node, drains).await;
                balance_at = Instant::now() + if drains { DRAIN_EVERY } else { BALANCE_EVERY };
            }
        }
    }
}

/// This node and all others that answer now.
pub(crate) async fn answering(node: &Node) -> BTreeSet<NodeId> {
    let asked = others(node).into_iter().map(|other| async move {
        let answer = how_are_you(node, other, ASK_EVERY).await;
        answer.ok().map(|_| other)
    });
    let answered = futures::future::join_all(asked).await;
    let own = node.consensus().node_id();
    answered.into_iter().flatten().chain([own]).collect()
}

fn others(node: &Node) -> Vec<NodeId> {
    let own = node.consensus().node_id();
    let members = node.consensus().members();
    let members = members.borrow();
    members.keys().filter(|id| **id != own).copied().collect()
}

async fn ask_everybody(node: &Node) {
    let asked = others(node).into_iter().map(|other| async move {
        let asked_at = node.now();
        // Who does not answer is not heard: that is all there is to say of it.
        if let Ok(PeerAnswer::State(state)) = how_are_you(node, other, ASK_EVERY).await {
            // It looked at its clock about half way.
            let half_way = units::Duration(node.now().since(asked_at).0 / 2);
            node.table().note(other, state, asked_at.after(half_way));
        }
    });
    futures::future::join_all(asked).await;
}

async fn balance(node: &Node, drains: bool) {
    for shard in node.consensus().shards() {
        if !shard.leadership().borrow().local {
            continue;
        }
        let voters = voters(node, shard, drains);
        let own = node.consensus().node_id();
        let home = node.home_of(shard.id());
        let Some(next) = successor(shard.id().get(), home, own, drains, &voters) else {
            continue;
        };
        // It may have died since it was last heard, and a leadership that nobody takes stands still
        // for an election.
        if how_are_you(node, next, ANSWER_WITHIN).await.is_err() {
            continue;
        }
        tracing::info!(shard = %shard.id(), to = %next, drains, "handing over leadership");
        if let Err(error) = shard.transfer(next).await {
            tracing::debug!(shard = %shard.id(), %error, "leadership was not handed over");
        }
    }
}

async fn how_are_you(
    node: &Node,
    other: NodeId,
    limit: Duration,
) -> Result<PeerAnswer, EngineError> {
    let action = "ask a coordinator how it is";
    ask(node.peers(), other, &PeerCall::State, action, false, limit).await
}

fn voters(node: &Node, shard: &Shard, drains: bool) -> Vec<Voter> {
    let own = node.consensus().node_id();
    let members = shard.members();
    shard
        .status()
        .voters
        .into_iter()
        .map(|voter| Voter {
            node: voter,
            region: members
                .get(&voter)
                .map(|member| member.region.clone())
                .unwrap_or_default(),
            able: if voter == own {
                !drains
            } else {
                node.table().known(voter).is_some_and(|known| {
                    // Who drains takes what there is; evenness can wait until a node is steady.
                    !known.state.draining && (drains || known.steady_for >= STEADY)
                })
            },
        })
        .collect()
}
