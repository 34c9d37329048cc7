//! What is big is not starved by what is small.

use proptest::prelude::*;

use super::*;

#[test]
fn a_big_request_that_waited_long_gets_room_set_aside() {
    let mut case = Case::new(
        vec![class(4, 4), class(1, 1)],
        vec![request(0, 0, 0), request(1, 0, 1)],
        vec![busy("a", 4, 2)],
    );
    assert_eq!(case.places(), [0], "it has not waited long yet");

    case.now = 60_000;
    let matching = case.solve();
    assert!(matching.placements.is_empty());
    assert_eq!(matching.kept.len(), 1);
    assert_eq!(case.misfit(0).once_drained, 1);
    assert_eq!(case.misfit(1).reasons[0].predicate, Predicate::SetAside);
}

#[test]
fn what_an_agent_has_beyond_the_room_set_aside_stays_open() {
    let mut case = Case::new(
        vec![class(4, 4), class(1, 1)],
        vec![
            request(0, 0, 0),
            request(1, 1, 40_000),
            request(1, 1, 40_000),
        ],
        vec![busy("a", 8, 2), busy("b", 8, 8)],
    );
    case.offers[0].free = amount(3, 64);
    case.offers[0].held = amount(5, 0);
    case.now = 60_000;
    assert!(
        case.places().is_empty(),
        "three are free, four are set aside"
    );
    case.offers[0].free = amount(5, 64);
    case.offers[0].held = amount(3, 0);
    let served: Vec<usize> = case.solve().placements.iter().map(|p| p.request).collect();
    assert_eq!(
        served.len(),
        2,
        "the big one, and one small one beside it: {served:?}"
    );
    assert!(served.contains(&0));
}

#[test]
fn of_large_requests_each_gets_room_so_that_agents_drain_side_by_side() {
    let agents = || (0..8).map(|n| busy(&n.to_string(), 4, 4)).collect();
    let mut large = Case::of_one(class(4, 4), 3, agents());
    large.now = 60_000;
    let matching = large.solve();
    assert_eq!(matching.kept.len(), 2, "on a quarter of the agents");
    assert_ne!(matching.kept[0].offer, matching.kept[1].offer);
    let mut small = Case::of_one(class(1, 1), 3, agents());
    small.now = 60_000;
    assert_eq!(small.solve().kept.len(), 1, "ends come all the time");
}

#[test]
fn room_stays_set_aside_where_it_was() {
    let mut case = Case::of_one(class(4, 4), 1, vec![busy("a", 4, 1), busy("b", 4, 3)]);
    case.now = 60_000;
    assert_eq!(case.solve().kept[0].offer, 0, "the one with least to drain");
    case.classes[0].kept = vec![1];
    assert_eq!(case.solve().kept[0].offer, 1);
    case.offers[1].offered = false;
    case.offers[1].free = Resources::ZERO;
    assert_eq!(
        case.solve().kept[0].offer,
        1,
        "while something of ours still runs there"
    );
    case.offers[1].held = Resources::ZERO;
    assert_eq!(case.solve().kept[0].offer, 0, "not on one that may be gone");
}

#[test]
fn who_may_not_have_more_keeps_nothing_from_others() {
    let mut case = Case::new(
        vec![class(4, 4), class(1, 1)],
        vec![request(0, 0, 0), request(1, 1, 1)],
        vec![busy("a", 4, 2)],
    );
    case.now = 60_000;
    case.owners[0].quota = Some(amount(3, 64));
    let matching = case.solve();
    assert!(matching.kept.is_empty());
    assert_eq!(matching.placements.len(), 1);
}

/// A pool in time: tasks that run, small ones that never cease to come, and one big request.
struct Pool {
    agents: Vec<u64>,
    /// Agent, cpus, end.
    running: Vec<(usize, u64, u64)>,
    /// The agents whose offers come in this step; the others' are known only.
    every: usize,
}

impl Pool {
    fn offers(&self, step: u64) -> Vec<Offer> {
        self.agents
            .iter()
            .enumerate()
            .map(|(index, &cpus)| {
                let held = self
                    .running
                    .iter()
                    .filter(|r| r.0 == index)
                    .map(|r| r.1)
                    .sum();
                let offered = (index as u64 + step).is_multiple_of(self.every as u64);
                let offer = busy(&index.to_string(), cpus, held);
                let seen_at = Timestamp(step.saturating_sub(u64::from(!offered)));
                Offer {
                    free: if offered { offer.free } else { Resources::ZERO },
                    offered,
                    seen_at,
                    ..offer
                }
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With small tasks without end, of another owner that holds less and has deadlines, a task that
    /// fits a drained agent runs as soon as those that ran when it became entitled are over.
    #[test]
    fn a_big_task_is_placed_in_bounded_time(
        agents in prop::collection::vec(2u64..9, 1..6),
        big in 1u64..9,
        tasks in 1u32..3,
        lengths in prop::collection::vec(1u64..20, 50..51),
        small in 1u64..3,
        every in 1usize..3,
    ) {
        let big = big.min(*agents.iter().max().unwrap());
        let slots: u64 = agents.iter().map(|cpus| cpus / big).sum();
        prop_assume!(slots >= u64::from(tasks));
        // All of a gang's agents must offer at once, as they do when offers are revived.
        let every = if tasks > 1 { 1 } else { every };
        let mut pool = Pool { agents, running: Vec::new(), every };
        let mut wanted = class(big, 1);
        wanted.shape.gang.tasks = tasks;
        let patience = 10;
        let longest = 20;
        let mut lengths = lengths.into_iter().cycle();
        let mut placed_at = None;
        let arrives = 5;
        for step in 0..200 {
            pool.running.retain(|&(_, _, end)| end > step);
            let mut requests: Vec<Request> = (0..40)
                .map(|_| Request { deadline: Some(Timestamp(1)), ..request(1, 1, step) })
                .collect();
            if step >= arrives {
                requests.push(request(0, 0, arrives));
            }
            let mut case = Case::new(vec![wanted.clone(), class(small, 1)], requests, pool.offers(step));
            case.owners[0].held = amount(100, 100);
            case.policy.protect_after = Duration(patience);
            case.now = step;
            let matching = case.solve();
            for placement in &matching.placements {
                let cpus = if case.requests[placement.request].class == 0 {
                    placed_at = Some(step);
                    big
                } else {
                    small
                };
                let length = lengths.next().unwrap();
                pool.running.push((placement.offer, cpus, step + length));
            }
            if placed_at.is_some() {
                break;
            }
            wanted.kept = matching.kept.iter().filter(|k| k.class == 0).map(|k| k.offer).collect();
        }
        // Once entitled, the agents chosen drain within the longest task; offers come in turns.
        let latest = arrives + patience + longest + 2 * every as u64 + 1;
        prop_assert!(placed_at.is_some_and(|at| at <= latest), "{placed_at:?}, at the latest {latest}");
    }
}
