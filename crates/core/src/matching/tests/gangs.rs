//! Several tasks, all or none.

use super::*;

fn gang(tasks: u32, cpus: u64) -> Class {
    let mut class = class(cpus, 1);
    class.shape.gang.tasks = tasks;
    class
}

fn in_zone(name: &str, zone: &str, cpus: u64, held: u64) -> Offer {
    Offer {
        agent: about(name, zone, &[]),
        ..busy(name, cpus, held)
    }
}

#[test]
fn all_tasks_of_a_gang_are_placed_or_none() {
    let mut case = Case::of_one(gang(3, 2), 1, vec![agent("a", 4, 8), agent("b", 3, 8)]);
    assert_eq!(case.places(), [0, 0, 1]);
    case.offers[1].free = amount(1, 8);
    assert!(case.places().is_empty());
    assert_eq!(case.misfit(0).tasks_now, Some(2));
    assert_eq!(case.misfit(0).changes[0].tasks, Some(2));
}

#[test]
fn a_gang_that_wants_different_agents_gets_them() {
    let mut case = Case::of_one(gang(3, 1), 1, vec![agent("a", 8, 8), agent("b", 8, 8)]);
    case.classes[0].shape.gang.apart = true;
    assert!(case.places().is_empty());
    assert_eq!(case.misfit(0).tasks_now, Some(2));
    case.offers.push(agent("c", 8, 8));
    assert_eq!(case.places(), [0, 1, 2]);
}

#[test]
fn a_gang_that_wants_one_zone_gets_one_that_holds_all_of_it() {
    let offers = vec![
        in_zone("a", "x", 8, 0),
        in_zone("b", "y", 8, 0),
        in_zone("c", "y", 8, 0),
    ];
    let mut case = Case::of_one(gang(2, 5), 1, offers);
    assert_eq!(case.places(), [0, 1], "any two");
    case.classes[0].shape.gang.one_zone = true;
    assert_eq!(case.places(), [1, 2]);
    case.offers.pop();
    assert!(case.places().is_empty());
    assert_eq!(case.misfit(0).tasks_now, Some(1));
}

#[test]
fn a_spread_gang_goes_round() {
    let mut case = Case::of_one(gang(4, 1), 1, vec![agent("a", 8, 8), agent("b", 8, 8)]);
    case.classes[0].shape.spread = Some(Spread::Agents);
    let mut places = case.places();
    places.sort_unstable();
    assert_eq!(places, [0, 0, 1, 1]);
}

#[test]
fn a_gang_counts_whole_against_its_owners_quota() {
    let mut case = Case::of_one(gang(3, 1), 1, vec![agent("a", 8, 8)]);
    case.owners[0].quota = Some(amount(2, 8));
    assert!(case.places().is_empty());
    case.owners[0].quota = Some(amount(3, 8));
    assert_eq!(case.places().len(), 3);
}

#[test]
fn only_the_gang_that_has_waited_longest_accumulates_room() {
    // Each needs both agents; each agent still runs something.
    let offers = vec![busy("a", 4, 1), busy("b", 4, 1)];
    let requests = vec![request(0, 0, 5), request(1, 1, 0)];
    let mut case = Case::new(vec![gang(2, 4), gang(2, 4)], requests, offers);
    case.now = 60_000;
    let kept: Vec<(usize, usize)> = case
        .solve()
        .kept
        .iter()
        .map(|k| (k.class, k.offer))
        .collect();
    assert_eq!(
        kept,
        [(1, 0), (1, 1)],
        "the older one, all of it; the other one nothing"
    );
}

#[test]
fn two_gangs_that_want_the_same_are_both_served_in_turn() {
    let mut case = Case::new(
        vec![gang(2, 4), gang(2, 4)],
        vec![request(0, 0, 0), request(1, 1, 1)],
        vec![busy("a", 4, 1), busy("b", 4, 1)],
    );
    case.now = 60_000;
    assert!(case.places().is_empty());
    case.offers[0] = agent("a", 4, 64);
    assert!(case.places().is_empty(), "half is not taken");
    case.offers[1] = agent("b", 4, 64);
    let matching = case.solve();
    let served: Vec<usize> = matching.placements.iter().map(|p| p.request).collect();
    assert_eq!(served, [0, 0]);
    case.requests.remove(0);
    let served: Vec<usize> = case.solve().placements.iter().map(|p| p.request).collect();
    assert_eq!(served, [0, 0], "once the first has gone, the second");
}

#[test]
fn a_gang_that_can_never_fit_keeps_nothing_from_anybody() {
    let mut case = Case::new(
        vec![gang(9, 4), gang(2, 4)],
        vec![request(0, 0, 0), request(1, 1, 1)],
        vec![busy("a", 4, 1), busy("b", 4, 1)],
    );
    case.now = 60_000;
    assert!(case.solve().kept.iter().all(|kept| kept.class == 1));
}
