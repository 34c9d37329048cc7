//! Which node should lead a shard. Pure: the same answer on every node that sees the same.
//!
//! The voters of a shard, in order of their numbers, form a ring, and shard *n* belongs to the
//! *n*th of them: with all nodes up, leaders are spread evenly. A node that is away keeps its place,
//! so that its absence moves only what it led, and what it led comes back to it.

use meson_consensus::NodeId;

/// A voter of a shard, as seen by the shard's leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Voter {
    pub(crate) node: NodeId,
    pub(crate) region: String,
    /// It can lead: it is up, has been for a while, and does not drain.
    pub(crate) able: bool,
}

/// Whom the leader of a shard should hand it to, if anybody.
///
/// `home` is the region that should lead the shard if one of its voters there can. `draining`: the
/// leader wants to lead no more, and takes whoever can.
pub(crate) fn successor(
    shard: u16,
    home: Option<&str>,
    leader: NodeId,
    draining: bool,
    voters: &[Voter],
) -> Option<NodeId> {
    let mut ring: Vec<&Voter> = voters
        .iter()
        .filter(|voter| home.is_none_or(|home| voter.region == home))
        .collect();
    ring.sort_by_key(|voter| voter.node);
    let preferred = (!ring.is_empty()).then(|| ring[usize::from(shard) % ring.len()]);
    let able = |voter: &&&Voter| voter.able && voter.node != leader;
    match preferred {
        Some(preferred) if preferred.node == leader && !draining => return None,
        Some(preferred) if able(&&preferred) => return Some(preferred.node),
        _ => {}
    }
    // Its place is vacant. Another one of its region will do, and is not moved for evenness.
    let at_home = ring.iter().any(|voter| voter.node == leader);
    if at_home && !draining {
        return None;
    }
    let start = usize::from(shard);
    let next = |ring: &[&Voter]| {
        (0..ring.len())
            .map(|step| ring[(start + step) % ring.len()])
            .find(|voter| able(&voter))
            .map(|voter| voter.node)
    };
    let mut everyone: Vec<&Voter> = voters.iter().collect();
    everyone.sort_by_key(|voter| voter.node);
    next(&ring).or_else(|| draining.then(|| next(&everyone)).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(node: u64, region: &str, able: bool) -> Voter {
        Voter {
            node: NodeId::new(node),
            region: region.to_owned(),
            able,
        }
    }

    fn three() -> Vec<Voter> {
        vec![
            voter(1, "eu", true),
            voter(2, "eu", true),
            voter(3, "us", true),
        ]
    }

    fn to(shard: u16, home: Option<&str>, leader: u64, draining: bool, all: &[Voter]) -> u64 {
        successor(shard, home, NodeId::new(leader), draining, all).map_or(0, NodeId::get)
    }

    #[test]
    fn shards_are_spread_and_a_settled_cluster_moves_nothing() {
        let all = three();
        let mut count = [0; 4];
        for shard in 0..6 {
            let mut leader = 1;
            for _ in 0..3 {
                match to(shard, None, leader, false, &all) {
                    0 => break,
                    next => leader = next,
                }
            }
            assert_eq!(to(shard, None, leader, false, &all), 0, "it rests");
            count[usize::try_from(leader).unwrap()] += 1;
        }
        assert_eq!(count, [0, 2, 2, 2]);
    }

    #[test]
    fn an_absent_node_moves_nothing_else_and_gets_back_what_it_led() {
        let mut all = three();
        all[1].able = false;
        for shard in 0..6 {
            let owner = u64::from(shard % 3) + 1;
            let stands_in = if owner == 2 { 3 } else { owner };
            assert_eq!(to(shard, None, stands_in, false, &all), 0, "{shard}");
        }
        assert_eq!(to(1, None, 3, false, &three()), 2);
    }

    #[test]
    fn a_draining_leader_hands_over_to_whoever_can_and_gets_nothing_back() {
        let mut all = three();
        all[0].able = false;
        for shard in 0..6 {
            let next = to(shard, None, 1, true, &all);
            assert!(next == 2 || next == 3, "{shard}: {next}");
            assert_eq!(to(shard, None, next, false, &all), 0, "{shard}");
        }
        all[1].able = false;
        all[2].able = false;
        assert_eq!(to(0, None, 1, true, &all), 0, "there is nobody");
    }

    #[test]
    fn a_home_region_leads_while_it_can() {
        let mut all = three();
        assert_eq!(to(0, Some("us"), 1, false, &all), 3);
        assert_eq!(to(0, Some("eu"), 3, false, &all), 1);
        all[2].able = false;
        assert_eq!(
            to(0, Some("us"), 1, false, &all),
            0,
            "nobody at home can: it stays"
        );
        assert_eq!(to(0, Some("us"), 1, true, &all), 2);
        assert_eq!(to(0, Some("mars"), 1, false, &all), 0, "nobody lives there");
    }
}
