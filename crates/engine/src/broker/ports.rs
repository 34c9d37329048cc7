//! Which ports a task gets, of those that its agent offers.
//!
//! The matching knows ports as a number. Which ones is decided when a task is placed, from the offers
//! in hand, and stands in what its executor is told: of a gang, each task has to know the first
//! one's. It need not be on record, since an attempt is launched at most once, with all that was
//! decided for it.
//!
//! Ports are handed out in a circle, from a place drawn by lot. So one that has just been given back, and
//! may still have connections that linger, comes last; and one that a stranger's process sits on
//! hurts a task now and then, and not each attempt of it.

use std::collections::BTreeSet;

use meson_mesos::resources::{is_plain, range_total};
use meson_mesos::types::{Range, Resource};
use rand::RngExt;
use rand::rngs::StdRng;

const NAME: &str = "ports";

/// Those that may be kept for as long as they are used, in order: what is lent is nobody's address.
fn offered<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Vec<Range> {
    let all = resources.into_iter();
    let firm = all.filter(|resource| resource.revocable.is_none() && is_plain(resource));
    range_total(firm, NAME)
        .into_iter()
        .map(|range| Range {
            begin: range.begin.max(1),
            end: range.end.min(u16::MAX.into()),
        })
        .filter(|range| range.begin <= range.end)
        .collect()
}

/// How many there are.
pub(super) fn count<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> u32 {
    let ranges = offered(resources);
    let count: u64 = ranges.iter().map(|range| range.end - range.begin + 1).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// So many of them, but for those that are taken, in ascending order; fewer if there are no more.
/// `last` is the one that was handed out last, and then is again.
pub(super) fn choose<'a>(
    resources: impl IntoIterator<Item = &'a Resource>,
    taken: &BTreeSet<u16>,
    wanted: u32,
    last: &mut Option<u16>,
    chance: &mut StdRng,
) -> Vec<u16> {
    let free: Vec<u16> = offered(resources)
        .into_iter()
        .flat_map(|range| range.begin..=range.end)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| !taken.contains(port))
        .collect();
    if free.is_empty() || wanted == 0 {
        return Vec::new();
    }
    let begin = match last {
        Some(last) => free.partition_point(|port| port <= last),
        None => chance.random_range(0..free.len()),
    };
    let (before, behind) = free.split_at(begin);
    let mut chosen: Vec<u16> = behind
        .iter()
        .chain(before)
        .take(wanted as usize)
        .copied()
        .collect();
    *last = chosen.last().copied();
    chosen.sort_unstable();
    chosen
}

/// These ports as resources: each entry keeps the reservation and the role of where its ports are
/// offered.
pub(super) fn carve(offered: &[Resource], ports: &[u16]) -> Vec<Resource> {
    let mut missing: BTreeSet<u16> = ports.iter().copied().collect();
    let mut carved = Vec::new();
    for resource in offered {
        let ranges = self::offered([resource]);
        let has = |port: &u16| {
            let port = u64::from(*port);
            ranges
                .iter()
                .any(|range| (range.begin..=range.end).contains(&port))
        };
        let (here, elsewhere): (BTreeSet<u16>, _) = missing.into_iter().partition(has);
        missing = elsewhere;
        if here.is_empty() {
            continue;
        }
        let single = here.into_iter().map(|port| (port.into(), port.into()));
        let range = range_total(&[Resource::ranges(NAME, single)], NAME);
        carved.push(Resource {
            ranges: Some(meson_mesos::types::Ranges { range }),
            ..resource.clone()
        });
    }
    carved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    fn chance() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    fn reserved(ranges: impl IntoIterator<Item = (u64, u64)>) -> Resource {
        Resource {
            role: Some("ml".to_owned()),
            ..Resource::ranges(NAME, ranges)
        }
    }

    fn revocable(ranges: impl IntoIterator<Item = (u64, u64)>) -> Resource {
        Resource {
            revocable: Some(serde_json::json!({})),
            ..Resource::ranges(NAME, ranges)
        }
    }

    #[test]
    fn ports_are_handed_out_in_a_circle() {
        let resources = [Resource::ranges(NAME, [(10, 12), (20, 21)])];
        let none = BTreeSet::new();
        let mut last = Some(11);
        let mut next = |wanted| choose(&resources, &none, wanted, &mut last, &mut chance());
        assert_eq!(next(2), [12, 20]);
        assert_eq!(next(2), [10, 21]);
        assert_eq!(next(1), [11]);
        assert_eq!(next(9), [10, 11, 12, 20, 21]);
    }

    #[test]
    fn the_first_one_is_drawn_by_lot_and_what_is_taken_is_left_alone() {
        let resources = [Resource::ranges(NAME, [(31_000, 32_000)])];
        let first = |seed| {
            let mut chance = StdRng::seed_from_u64(seed);
            choose(&resources, &BTreeSet::new(), 1, &mut None, &mut chance)[0]
        };
        assert_eq!(first(1), first(1));
        assert!((2..9).any(|seed| first(seed) != first(1)));
        let taken: BTreeSet<u16> = (31_000..=32_000).filter(|port| *port != 31_500).collect();
        let left = choose(&resources, &taken, 2, &mut None, &mut chance());
        assert_eq!(left, [31_500]);
    }

    #[test]
    fn what_is_offered_twice_lent_shared_or_no_port_does_not_count() {
        let resources = [
            Resource::ranges(NAME, [(0, 2), (65_535, u64::MAX)]),
            reserved([(2, 4)]),
            revocable([(100, 200)]),
            Resource {
                shared: Some(serde_json::json!({})),
                ..Resource::ranges(NAME, [(201, 299)])
            },
            Resource::ranges("other", [(300, 400)]),
            Resource::scalar(NAME, 12.0),
        ];
        assert_eq!(count(&resources), 5);
        let all = choose(&resources, &BTreeSet::new(), 9, &mut None, &mut chance());
        assert_eq!(all, [1, 2, 3, 4, 65_535]);
    }

    #[test]
    fn what_is_carved_keeps_its_reservation_and_comes_in_ranges() {
        let resources = [
            Resource::scalar("cpus", 1.0),
            reserved([(10, 19)]).allocated_to("ml"),
            revocable([(20, 29)]),
            Resource::ranges(NAME, [(20, 39)]).allocated_to("ml"),
        ];
        assert_eq!(
            carve(&resources, &[11, 12, 14, 19, 20, 21]),
            [
                reserved([(11, 12), (14, 14), (19, 19)]).allocated_to("ml"),
                Resource::ranges(NAME, [(20, 21)]).allocated_to("ml"),
            ]
        );
        assert_eq!(carve(&resources, &[]), []);
    }

    fn range() -> impl Strategy<Value = (u64, u64)> {
        let end = prop_oneof![8 => 0..200_u64, 1 => 65_500..65_600_u64, 1 => any::<u64>()];
        (end.clone(), end)
    }

    proptest! {
        /// Whatever an agent says that it has.
        #[test]
        fn what_is_chosen_is_offered_free_as_many_as_are_counted_and_can_be_carved(
            entries in prop::collection::vec((prop::collection::vec(range(), 0..4), any::<bool>()), 0..4),
            rounds in prop::collection::vec(0..20_u32, 1..8),
        ) {
            let resources: Vec<Resource> = entries
                .into_iter()
                .map(|(ranges, firm)| if firm { Resource::ranges(NAME, ranges) } else { revocable(ranges) })
                .collect();
            let (mut taken, mut last, mut chance) = (BTreeSet::new(), None, chance());
            let mut left = count(&resources);
            for wanted in rounds {
                let chosen = choose(&resources, &taken, wanted, &mut last, &mut chance);
                prop_assert_eq!(chosen.len(), wanted.min(left) as usize);
                left -= chosen.len() as u32;
                let carved = carve(&resources, &chosen);
                prop_assert_eq!(count(&carved) as usize, chosen.len());
                prop_assert_eq!(
                    choose(&carved, &BTreeSet::new(), wanted, &mut None, &mut chance), &chosen[..]
                );
                for port in chosen {
                    prop_assert!(port > 0 && taken.insert(port), "{} was taken", port);
                }
            }
        }
    }
}
