//! Which agent, and who first.

use super::*;

#[test]
fn packing_fills_one_agent_before_the_next() {
    let case = Case::of_one(class(1, 1), 3, vec![agent("a", 8, 8), agent("b", 2, 8)]);
    assert_eq!(
        case.places(),
        [0, 0, 0],
        "agents equally empty: the first is filled"
    );
}

#[test]
fn packing_begins_with_the_fullest() {
    let case = Case::of_one(class(1, 1), 3, vec![busy("a", 8, 2), busy("b", 8, 6)]);
    assert_eq!(case.places(), [1, 1, 0]);
}

#[test]
fn spreading_takes_the_emptiest() {
    let mut case = Case::of_one(class(1, 1), 4, vec![agent("a", 2, 8), agent("b", 2, 8)]);
    case.policy.packing = Packing::Spread;
    assert_eq!(case.places(), [0, 1, 0, 1]);
}

#[test]
fn the_tasks_of_a_step_are_spread_over_zones_and_then_over_agents() {
    let in_zone = |name: &str, zone: &str| Offer {
        agent: about(name, zone, &[]),
        ..agent(name, 8, 64)
    };
    let offers = vec![in_zone("a", "x"), in_zone("b", "x"), in_zone("c", "y")];
    let mut case = Case::of_one(class(1, 1), 4, offers);
    case.classes[0].shape.spread = Some(Spread::Zones);
    assert_eq!(
        case.places(),
        [0, 2, 1, 2],
        "x, y, x, y; in x on both agents"
    );

    case.classes[0].shape.spread = Some(Spread::Agents);
    assert_eq!(case.places(), [0, 1, 2, 0]);

    case.classes[0].running = vec![(0, 1), (1, 2)];
    assert_eq!(case.places(), [2, 0, 2, 1], "those that run already count");
}

#[test]
fn who_is_spread_shares_an_agent_when_there_is_no_other() {
    let mut case = Case::of_one(class(1, 1), 2, vec![agent("a", 2, 8)]);
    case.classes[0].shape.spread = Some(Spread::Zones);
    assert_eq!(case.places(), [0, 0]);
}

#[test]
fn an_earlier_deadline_goes_first_and_then_age() {
    let mut case = Case::new(
        vec![class(1, 1)],
        vec![request(0, 0, 1), request(0, 0, 0), request(0, 0, 2)],
        vec![agent("a", 3, 8)],
    );
    case.requests[2].deadline = Some(Timestamp(500));
    let order: Vec<usize> = case.solve().placements.iter().map(|p| p.request).collect();
    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn owners_share_by_what_they_hold() {
    let mut case = Case::new(
        vec![class(1, 1)],
        (0..8).map(|i| request(0, usize::from(i >= 4), i)).collect(),
        vec![agent("a", 4, 64)],
    );
    case.owners[0].held = amount(2, 2);
    let owners = owners(&case);
    let of_one = owners.iter().filter(|&&owner| owner == 1).count();
    assert_eq!(of_one, 3, "{owners:?}");
    assert_eq!(owners[0], 1, "who holds nothing goes first");
}

#[test]
fn an_owner_of_twice_the_weight_gets_twice_as_much() {
    let mut case = Case::new(
        vec![class(1, 1)],
        (0..24)
            .map(|i| request(0, usize::from(i >= 12), i))
            .collect(),
        vec![agent("a", 12, 64)],
    );
    case.owners[1].weight = 2;
    let owners = owners(&case);
    assert_eq!(
        owners.iter().filter(|&&owner| owner == 1).count(),
        8,
        "{owners:?}"
    );
}

#[test]
fn an_owner_gets_no_more_than_its_quota() {
    let mut case = Case::new(
        vec![class(2, 1)],
        (0..6).map(|i| request(0, usize::from(i >= 5), i)).collect(),
        vec![agent("a", 64, 64)],
    );
    case.owners[0].held = amount(1, 1);
    case.owners[0].quota = Some(amount(5, 64));
    let owners = owners(&case);
    assert_eq!(
        owners.iter().filter(|&&owner| owner == 0).count(),
        2,
        "{owners:?}"
    );
    assert!(owners.contains(&1), "others are not held up by it");
}

fn owners(case: &Case) -> Vec<usize> {
    let placements = case.solve().placements;
    placements
        .iter()
        .map(|p| case.requests[p.request].owner)
        .collect()
}

#[test]
fn a_preference_chooses_but_does_not_exclude() {
    let mut case = Case::of_one(class(1, 1), 2, vec![agent("a", 1, 4), agent("b", 1, 4)]);
    case.classes[0].shape.prefer = Some(Expression("hostname == 'b'".to_owned()));
    assert_eq!(case.places(), [1, 0]);
}

#[test]
fn a_warm_executor_is_preferred_to_a_fuller_agent() {
    let mut case = Case::of_one(class(1, 1), 1, vec![busy("a", 8, 6), busy("b", 8, 2)]);
    case.offers[1].warm = true;
    assert_eq!(case.places(), [1]);
}

#[test]
fn agents_with_gpus_are_kept_for_who_asks_for_some() {
    let mut case = Case::of_one(class(1, 1), 1, vec![agent("g", 4, 4)]);
    case.offers[0].free.gpus = 1;
    case.offers[0].total.gpus = 1;
    assert!(case.places().is_empty());
    case.policy.keep_gpus = false;
    assert_eq!(case.places().len(), 1);
    case.policy.keep_gpus = true;
    case.classes[0].shape.resources.gpus = 1;
    assert_eq!(case.places().len(), 1);
}

#[test]
fn an_agent_of_the_steps_region_is_preferred() {
    let far = Agent::new("far", "far", "abroad", "", BTreeMap::new());
    let mut case = Case::of_one(class(1, 1), 2, vec![agent("a", 1, 4), agent("b", 1, 4)]);
    case.offers[0].agent = Arc::new(far);
    case.classes[0].shape.region = "home".to_owned();
    assert_eq!(case.places(), [1, 0]);
}

#[test]
fn an_agent_where_the_step_failed_lately_is_the_last_choice() {
    let mut case = Case::of_one(class(1, 1), 2, vec![agent("a", 1, 4), agent("b", 1, 4)]);
    case.classes[0].avoid = vec![0];
    case.classes[0].shape.prefer = Some(Expression("hostname == 'a'".to_owned()));
    assert_eq!(case.places(), [1, 0], "even before what the step prefers");
}

#[test]
fn an_agent_that_goes_down_before_the_step_ends_is_taken_last() {
    let mut case = Case::of_one(class(1, 1), 2, vec![agent("a", 1, 4), agent("b", 1, 4)]);
    let hour = 3_600_000;
    case.offers[0].outage = Some(Outage {
        from: Timestamp(2 * hour),
        until: Some(Timestamp(3 * hour)),
    });
    assert_eq!(
        case.places(),
        [0, 1],
        "two hours are long for a step that says nothing"
    );
    case.classes[0].shape.lasts = Some(Duration(3 * hour));
    assert_eq!(case.places(), [1, 0]);
    case.classes[0].shape.lasts = None;
    case.now = 2 * hour - 60_000;
    assert_eq!(case.places(), [1, 0], "a minute before");
    case.now = 3 * hour;
    assert_eq!(case.places(), [0, 1], "it is over");
}

#[test]
fn only_who_may_be_pre_empted_uses_what_can_be_taken_away() {
    let mut case = Case::of_one(class(2, 1), 1, vec![busy("a", 8, 8)]);
    case.offers[0].revocable = Resources {
        cpus: MilliCpus(4000),
        ..Resources::ZERO
    };
    assert!(case.places().is_empty());

    case.classes[0].shape.preemptible = true;
    let matching = case.solve();
    assert_eq!(matching.placements[0].revocable.cpus, MilliCpus(2000));
    assert_eq!(
        matching.placements[0].revocable.mem,
        Bytes(0),
        "memory is not lent there"
    );
    assert_eq!(matching.lent[0].cpus, MilliCpus(2000));

    case.classes[0].shape.resources.cpus = MilliCpus(5000);
    case.offers[0].free.cpus = MilliCpus(4000);
    assert!(
        case.places().is_empty(),
        "one resource is never taken from both"
    );
}

#[test]
fn who_may_be_pre_empted_leaves_to_others_what_is_firm() {
    let mut case = Case::of_one(class(1, 1), 1, vec![agent("a", 8, 8), agent("b", 8, 8)]);
    case.classes[0].shape.preemptible = true;
    case.offers[1].revocable = amount(4, 4);
    assert_eq!(case.places(), [1]);
}

#[test]
fn what_is_not_offered_is_not_used() {
    let mut case = Case::of_one(class(1, 1), 1, vec![agent("a", 8, 8)]);
    case.offers[0].offered = false;
    case.offers[0].free = Resources::ZERO;
    assert!(case.places().is_empty());
}

#[test]
fn the_bound_on_work_ends_a_call_and_the_next_one_goes_on() {
    let classes: Vec<Class> = (0..50)
        .map(|n| class(9, n + 1))
        .chain([class(1, 1)])
        .collect();
    let requests = (0..51).map(|n| request(n, 0, n as u64)).collect();
    let offers = (0..10).map(|n| agent(&n.to_string(), 8, 64)).collect();
    let mut case = Case::new(classes, requests, offers);
    case.policy.max_work = 100;
    let mut calls = 0;
    loop {
        calls += 1;
        let matching = case.solve();
        assert!(matching.work <= 120, "{}", matching.work);
        if !matching.placements.is_empty() {
            assert_eq!(matching.placements[0].request, 50);
            break;
        }
        assert!(matching.unfinished);
        for class in matching.refused {
            case.classes[class].seen = true;
        }
        assert!(calls < 20, "the last class is never looked at");
    }
    assert!(
        calls > 3,
        "fifty classes on ten offers are more than a hundred pairs"
    );
}
