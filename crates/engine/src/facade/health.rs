//! Whether a node serves, for load balancers and people.

use std::collections::BTreeMap;

use meson_consensus::{NodeId, ShardId, ShardStatus};
use serde::Serialize;

use super::Engine;
use crate::peers::PeerLink;

/// Whether a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether the node itself works, and every shard that it has a replica of has a leader that it
    /// can reach.
    pub ready: bool,
    /// What is wrong. Shards of other nodes are among it: that they cannot be reached is no reason
    /// to send those who ask for others elsewhere.
    pub problems: Vec<String>,
}

impl Engine {
    /// Whether the node serves.
    #[must_use]
    pub fn health(&self) -> Health {
        let consensus = self.node.consensus();
        let status = consensus.status();
        let shards = status.shards.iter().map(|shard| Led {
            id: shard.id,
            leader: shard.leader.or_else(|| self.node.leader_hint(shard.id)),
            here: is_here(shard, consensus.node_id()),
        });
        let mut health = of_shards(shards, &self.node.peers().links());
        let failed = status.failure.map(|failure| failure.to_string());
        let gave_up = self.node.failures().borrow().as_deref().map(str::to_owned);
        for problem in failed.into_iter().chain(gave_up) {
            health.ready = false;
            health.problems.push(problem);
        }
        health
    }
}

fn is_here(shard: &ShardStatus, own: NodeId) -> bool {
    // None are known while nobody has led it yet.
    shard.replicas.is_empty() || shard.replicas.contains(&own)
}

/// A shard, as far as its leader goes.
struct Led {
    id: ShardId,
    leader: Option<NodeId>,
    /// Whether this node has a replica of it.
    here: bool,
}

/// What the shards have to do with it. A follower believes in its leader until another one is
/// elected: a node that is cut off, or was removed, must look whether it reaches him.
fn of_shards(shards: impl Iterator<Item = Led>, links: &[PeerLink]) -> Health {
    let lost: BTreeMap<NodeId, &str> = links
        .iter()
        .filter_map(|link| Some((link.node, link.problem.as_deref()?)))
        .collect();
    let mut health = Health {
        ready: true,
        problems: Vec::new(),
    };
    let mut led_by_lost: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for shard in shards {
        match shard.leader {
            None => {
                let problem = format!("shard {} has no leader", shard.id);
                health.problems.push(problem);
            }
            Some(leader) if lost.contains_key(&leader) => {
                let shards = led_by_lost.entry(leader).or_default();
                shards.push(shard.id.to_string());
            }
            Some(_) => continue,
        }
        health.ready &= !shard.here;
    }
    if health.problems.is_empty() && led_by_lost.is_empty() {
        // Who is away without being missed is for `cluster status` to say.
        return health;
    }
    for (node, problem) in lost {
        let leads = match led_by_lost.get(&node) {
            Some(shards) => format!(", which leads shards {}", shards.join(", ")),
            None => String::new(),
        };
        let problem = format!("there is no connection to node {node}{leads}: {problem}");
        health.problems.push(problem);
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(lost: &[u64]) -> Vec<PeerLink> {
        let link = |node| PeerLink {
            node: NodeId::new(node),
            round_trip: None,
            problem: lost.contains(&node).then(|| "refused".to_owned()),
        };
        [2, 3].map(link).to_vec()
    }

    fn health(shards: &[(Option<u64>, bool)], lost: &[u64]) -> Health {
        let shards = (0..).zip(shards).map(|(id, (leader, here))| Led {
            id: ShardId::new(id),
            leader: leader.map(NodeId::new),
            here: *here,
        });
        of_shards(shards, &links(lost))
    }

    #[test]
    fn a_node_serves_while_it_reaches_the_leaders_of_its_own_shards() {
        for (shards, lost, ready, problems) in [
            (vec![(Some(1), true), (Some(2), true)], vec![], true, 0),
            (vec![(Some(2), true)], vec![3], true, 0),
            (vec![(Some(2), true)], vec![2], false, 1),
            (vec![(None, true), (Some(2), true)], vec![], false, 1),
            (vec![(None, true), (Some(2), true)], vec![3], false, 2),
            // Shards of others.
            (vec![(Some(1), true), (Some(2), false)], vec![2], true, 1),
            (vec![(Some(1), true), (None, false)], vec![], true, 1),
        ] {
            let health = health(&shards, &lost);
            assert_eq!(
                (health.ready, health.problems.len()),
                (ready, problems),
                "{shards:?} without {lost:?}: {health:?}"
            );
        }
    }

    #[test]
    fn who_cannot_be_reached_is_named_once_with_what_it_leads() {
        let health = health(&[(Some(2), true), (Some(2), true), (Some(1), true)], &[2]);
        let expected = "there is no connection to node 2, which leads shards 0, 1: refused";
        assert_eq!(health.problems, [expected]);
    }
}
