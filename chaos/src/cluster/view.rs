//! Who leads what.

use std::{collections::BTreeMap, time::Duration};

use meson_protocol::api::ClusterView;

use super::{Directory, Http};

/// A node that does not say it by then is not asked again.
const SOON: Duration = Duration::from_millis(500);

/// The leader of each shard, as the node with the newest term sees it.
#[derive(Clone, Debug, Default)]
pub struct Leaders {
    shards: BTreeMap<u16, Led>,
}

#[derive(Clone, Debug)]
struct Led {
    leader: u64,
    term: u64,
    replicas: Vec<u64>,
}

impl Leaders {
    /// Asks every node.
    pub(crate) async fn ask(http: &Http, directory: &Directory) -> Self {
        let mut leaders = Self::default();
        for url in directory.nodes.values() {
            let answer = http.get_within(&format!("{url}/v1/cluster"), SOON).await;
            if let Some(view) = answer.and_then(|answer| answer.json()) {
                leaders.learn(view);
            }
        }
        leaders
    }

    fn learn(&mut self, view: ClusterView) {
        for shard in view.shards {
            let Some(leader) = shard.leader else { continue };
            let newer = self
                .shards
                .get(&shard.id)
                .is_none_or(|known| known.term < shard.term);
            if newer {
                let led = Led {
                    leader,
                    term: shard.term,
                    replicas: shard.replicas,
                };
                self.shards.insert(shard.id, led);
            }
        }
    }

    /// Shards that a node leads.
    #[must_use]
    pub fn led_by(&self, node: u64) -> usize {
        self.shards
            .values()
            .filter(|led| led.leader == node)
            .count()
    }

    /// The node that leads most.
    #[must_use]
    pub fn busiest(&self) -> Option<u64> {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for led in self.shards.values() {
            *counts.entry(led.leader).or_default() += 1;
        }
        let (node, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        Some(node)
    }

    /// Whether a node has a replica of a shard: nodes have empty ones of the shards of other regions.
    #[must_use]
    pub(crate) fn has_replica(&self, node: u64, shard: u16) -> bool {
        let led = self.shards.get(&shard);
        led.is_none_or(|led| led.replicas.contains(&node))
    }

    /// Whether these nodes are a majority of no shard.
    #[must_use]
    pub fn is_minority(&self, nodes: &[u64]) -> bool {
        !self.shards.is_empty()
            && self.shards.values().all(|led| {
                let here = led.replicas.iter().filter(|node| nodes.contains(node));
                here.count() * 2 <= led.replicas.len()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meson_protocol::api::ShardView;

    fn view(shards: &[(u16, u64, u64)]) -> ClusterView {
        ClusterView {
            nodes: Vec::new(),
            shards: shards
                .iter()
                .map(|(id, leader, term)| ShardView {
                    id: *id,
                    leader: Some(*leader),
                    term: *term,
                    replicas: vec![1, 2, 3],
                    commit_index: 1,
                })
                .collect(),
        }
    }

    #[test]
    fn the_newest_term_counts() {
        let mut leaders = Leaders::default();
        leaders.learn(view(&[(0, 1, 1), (1, 1, 3)]));
        leaders.learn(view(&[(0, 2, 2), (1, 2, 2)]));
        assert_eq!((leaders.led_by(1), leaders.led_by(2)), (1, 1));
    }

    #[test]
    fn who_has_a_replica_is_doubted_only_where_it_is_known() {
        let mut leaders = Leaders::default();
        assert!(leaders.has_replica(4, 0));
        leaders.learn(view(&[(0, 1, 1)]));
        assert!(leaders.has_replica(3, 0) && !leaders.has_replica(4, 0));
    }

    #[test]
    fn one_of_three_is_a_minority_and_two_are_not() {
        let mut leaders = Leaders::default();
        assert!(!leaders.is_minority(&[1]), "nothing is known");
        leaders.learn(view(&[(0, 1, 1)]));
        assert!(leaders.is_minority(&[1]));
        assert!(!leaders.is_minority(&[1, 3]));
    }
}
