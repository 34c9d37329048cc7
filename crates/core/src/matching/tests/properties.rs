//! What holds whatever is asked and offered.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn classes()(
        cpus in 1u64..6, mem in 1u64..6, tasks in prop_oneof![4 => Just(1u32), 1 => 2u32..5],
        apart in any::<bool>(), one_zone in any::<bool>(), preemptible in any::<bool>(),
        spread in prop_oneof![Just(None), Just(Some(Spread::Agents)), Just(Some(Spread::Zones))],
        require in prop_oneof![3 => Just(None), 1 => Just(Some("attributes.disk == 'ssd'")), 1 => Just(Some("zone == 'x'"))],
        prefer in prop_oneof![Just(None), Just(Some("hostname == '1'"))],
        avoid in prop::collection::btree_set(0usize..8, 0..2), ports in prop_oneof![3 => Just(0u32), 1 => 1u32..4],
    ) -> Class {
        let mut class = class(cpus, mem);
        class.shape.resources.ports = ports;
        class.shape.gang = Gang { tasks, apart, one_zone };
        class.shape.preemptible = preemptible;
        class.shape.spread = spread;
        class.shape.require = require.map(|text| Expression(text.to_owned()));
        class.shape.prefer = prefer.map(|text| Expression(text.to_owned()));
        class.avoid = avoid.into_iter().collect();
        class
    }
}

prop_compose! {
    fn offers()(
        cpus in 0u64..9, mem in 0u64..9, held in 0u64..4, lent in 0u64..4,
        ssd in any::<bool>(), zone in prop_oneof![Just("x"), Just("y")],
        offered in prop::bool::weighted(0.8), gpus in prop::bool::weighted(0.1), warm in any::<bool>(),
        outage in prop::option::of(0u64..100_000), ports in 0u32..9,
    ) -> Offer {
        let mut offer = agent("", cpus, mem);
        offer.free.ports = ports;
        offer.agent = about("", zone, &[("disk", if ssd { "ssd" } else { "hdd" })]);
        offer.held = amount(held, 0);
        offer.total = offer.free.plus(&offer.held);
        offer.total.gpus = u32::from(gpus);
        offer.free.gpus = u32::from(gpus);
        offer.revocable = amount(lent, 0);
        offer.warm = warm;
        offer.offered = offered;
        offer.outage = outage.map(|from| Outage { from: Timestamp(from), until: None });
        if !offered {
            offer.free = Resources::ZERO;
            offer.revocable = Resources::ZERO;
        }
        offer
    }
}

prop_compose! {
    fn cases()(
        classes in prop::collection::vec(classes(), 1..5),
        offers in prop::collection::vec(offers(), 0..8),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3, 0u64..100, any::<bool>()), 0..40),
        now in 0u64..100_000,
        spread in any::<bool>(),
        quota in prop::option::of(1u64..9),
    ) -> Case {
        let requests = picks.iter().map(|(pick, owner, since, urgent)| Request {
            deadline: urgent.then_some(Timestamp(1_000)),
            ..request(pick.index(classes.len()), *owner, *since)
        }).collect();
        let mut case = Case { now, ..Case::new(classes, requests, offers) };
        if spread {
            case.policy.packing = Packing::Spread;
        }
        for class in &mut case.classes {
            class.avoid.retain(|&offer| offer < case.offers.len());
        }
        if let (Some(owner), Some(quota)) = (case.owners.first_mut(), quota) {
            owner.quota = Some(amount(quota, 64));
        }
        case
    }
}

/// What was placed: per request, the offers of its tasks.
fn by_request(matching: &Matching) -> BTreeMap<usize, Vec<usize>> {
    let mut placed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for placement in &matching.placements {
        placed
            .entry(placement.request)
            .or_default()
            .push(placement.offer);
    }
    placed
}

proptest! {
    #[test]
    fn no_agent_gives_more_than_it_offers(case in cases()) {
        let matching = case.solve();
        let mut firm = vec![Resources::ZERO; case.offers.len()];
        let mut lent = firm.clone();
        for placement in &matching.placements {
            let wanted = case.classes[case.requests[placement.request].class].shape.resources;
            let offer = placement.offer;
            firm[offer] = firm[offer].plus(&wanted.minus(&placement.revocable));
            lent[offer] = lent[offer].plus(&placement.revocable);
        }
        for (index, offer) in case.offers.iter().enumerate() {
            prop_assert!(firm[index].fits_in(&offer.free));
            prop_assert!(lent[index].fits_in(&offer.revocable));
            prop_assert!(firm[index].plus(&matching.left[index]).cpus == offer.free.cpus);
            prop_assert_eq!(firm[index].plus(&matching.left[index]).ports, offer.free.ports);
            prop_assert!(lent[index].plus(&matching.lent[index]).cpus == offer.revocable.cpus);
        }
    }

    #[test]
    fn a_request_gets_all_its_tasks_or_none_as_it_wants_them(case in cases()) {
        for (request, offers) in by_request(&case.solve()) {
            let gang = &case.classes[case.requests[request].class].shape.gang;
            prop_assert_eq!(offers.len(), gang.tasks as usize);
            let agents: BTreeSet<usize> = offers.iter().copied().collect();
            if gang.apart && gang.tasks > 1 {
                prop_assert_eq!(agents.len(), offers.len());
            }
            if gang.one_zone {
                let zones: BTreeSet<&str> = agents.iter().map(|&offer| case.offers[offer].agent.zone()).collect();
                prop_assert_eq!(zones.len(), 1);
            }
        }
    }

    #[test]
    fn every_place_satisfies_what_must_hold(case in cases()) {
        for placement in case.solve().placements {
            let shape = &case.classes[case.requests[placement.request].class].shape;
            let offer = &case.offers[placement.offer];
            prop_assert!(offer.offered);
            prop_assert!(offer.total.gpus == 0, "nobody here asks for GPUs");
            match shape.require.as_ref().map(|require| require.0.as_str()) {
                Some("zone == 'x'") => prop_assert_eq!(offer.agent.zone(), "x"),
                Some(_) => prop_assert_eq!(&offer.agent.attributes()["disk"], "ssd"),
                None => {}
            }
            if !shape.preemptible {
                prop_assert!(placement.revocable.is_nothing());
            }
            for (wanted, lent) in [(shape.resources.cpus.0, placement.revocable.cpus.0), (shape.resources.mem.0, placement.revocable.mem.0)] {
                prop_assert!(lent == 0 || lent == wanted, "firm and revocable are not mixed");
            }
        }
    }

    #[test]
    fn nobody_exceeds_a_quota(case in cases()) {
        let matching = case.solve();
        for (index, owner) in case.owners.iter().enumerate() {
            let Some(quota) = owner.quota else { continue };
            let mine = matching.placements.iter().filter(|p| case.requests[p.request].owner == index);
            let held = mine.fold(owner.held, |held, placement| {
                held.plus(&case.classes[case.requests[placement.request].class].shape.resources)
            });
            prop_assert!(held.fits_in(&quota));
        }
    }

    #[test]
    fn who_is_not_placed_hears_why(case in cases()) {
        let matching = case.solve();
        let placed = by_request(&matching);
        for (index, request) in case.requests.iter().enumerate() {
            if placed.contains_key(&index) {
                continue;
            }
            let shape = &case.classes[request.class].shape;
            let wanted = shape.resources.times(shape.gang.tasks);
            let quota = case.owners[request.owner].quota;
            // What the owner holds afterwards is at least what it held when its turn came.
            let held = matching.placements.iter()
                .filter(|p| case.requests[p.request].owner == request.owner)
                .fold(Resources::ZERO, |held, p| held.plus(&case.classes[case.requests[p.request].class].shape.resources));
            if quota.is_some_and(|quota| !held.plus(&wanted).fits_in(&quota)) {
                continue;
            }
            let misfit = case.misfit(request.class);
            let agents: u32 = misfit.reasons.iter().map(|reason| reason.agents).sum();
            prop_assert_eq!(agents as usize, case.offers.len(), "every agent is accounted for");
            let open = misfit.verdicts.iter().filter(|v| v.predicate == Predicate::Fits).count();
            match misfit.tasks_now {
                None => prop_assert_eq!(open, 0, "request {} fits but waits: {:?}", index, misfit),
                Some(tasks) => prop_assert!(tasks < shape.gang.tasks, "{:?}", misfit),
            }
        }
    }

    #[test]
    fn the_same_problem_has_the_same_answer(case in cases()) {
        let mut constraints = Constraints::default();
        let problem = Problem {
            classes: &case.classes, owners: &case.owners, requests: &case.requests,
            offers: &case.offers, policy: case.policy, now: Timestamp(case.now),
        };
        let first = match_offers(&problem, &mut constraints);
        prop_assert_eq!(&first, &match_offers(&problem, &mut constraints), "with what is remembered");
        prop_assert_eq!(&first, &case.solve(), "and without");
    }

    /// Requests that are alike in everything may come in any order: the same tasks go to the same
    /// agents.
    #[test]
    fn ties_do_not_depend_on_the_order_of_requests(case in cases(), turn in 0usize..40) {
        let mut turned = case.clone();
        for request in &mut turned.requests {
            request.since = Timestamp(0);
            request.deadline = None;
            request.owner = 0;
            request.class = 0;
        }
        turned.classes.truncate(1);
        let count = |case: &Case| {
            let mut places = case.places();
            places.sort_unstable();
            places
        };
        let before = count(&turned);
        if !turned.requests.is_empty() {
            let turn = turn % turned.requests.len();
            turned.requests.rotate_left(turn);
        }
        prop_assert_eq!(before, count(&turned));
    }

    /// Two owners of the same weight that want the same without end are never further apart than
    /// one task.
    #[test]
    fn equal_owners_get_equal_parts(cpus in 1u64..3, agents in prop::collection::vec(1u64..9, 1..6), start in 0u64..3) {
        let offers: Vec<Offer> = agents.iter().enumerate().map(|(i, &c)| agent(&i.to_string(), c, 64)).collect();
        let requests = (0..200).map(|i| request(0, usize::from(i >= 100), i)).collect();
        let mut case = Case::new(vec![class(cpus, 1)], requests, offers);
        case.owners[0].held = amount(start * cpus, start);
        let mut tasks = [start, 0];
        for placement in case.solve().placements {
            tasks[case.requests[placement.request].owner] += 1;
        }
        let all = tasks[0] + tasks[1];
        prop_assert!(tasks[0].abs_diff(tasks[1]) <= 1 || all < 2 * start, "{tasks:?}");
    }

    /// However little work a call may do, calls that go on look at everybody and place as much as
    /// one that may do all.
    #[test]
    fn calls_that_go_on_leave_nobody_out(case in cases(), max_work in 1u64..40) {
        let mut case = case;
        case.policy.max_work = max_work;
        // Nothing is set aside: that is bounded by work as well.
        case.policy.protect_after = Duration(u64::MAX);
        for class in &mut case.classes {
            class.shape.gang = Gang::default();
        }
        let mut waiting: BTreeSet<usize> = (0..case.requests.len()).collect();
        let everything = case.clone();
        let mut rounds = 0;
        loop {
            rounds += 1;
            prop_assert!(rounds < 1000, "it never ends");
            let indexes: Vec<usize> = waiting.iter().copied().collect();
            let now = Case { requests: indexes.iter().map(|&i| everything.requests[i].clone()).collect(), ..case.clone() };
            let matching = now.solve();
            for placement in &matching.placements {
                waiting.remove(&indexes[placement.request]);
                let owner = now.requests[placement.request].owner;
                let wanted = now.classes[now.requests[placement.request].class].shape.resources;
                case.owners[owner].held = case.owners[owner].held.plus(&wanted);
            }
            for (offer, (left, lent)) in case.offers.iter_mut().zip(matching.left.iter().zip(&matching.lent)) {
                offer.free = *left;
                offer.revocable = *lent;
            }
            for class in &matching.refused {
                case.classes[*class].seen = true;
            }
            if !matching.unfinished {
                break;
            }
        }
        for &index in &waiting {
            let request = &everything.requests[index];
            let class = &case.classes[request.class];
            let owner = &case.owners[request.owner];
            let quota = owner.quota.is_none_or(|quota| owner.held.plus(&class.shape.resources).fits_in(&quota));
            prop_assert!(class.seen || !quota, "request {index} was never looked at");
        }
    }
}
