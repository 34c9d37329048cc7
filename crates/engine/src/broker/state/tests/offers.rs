//! Requests, placements, launches, and what becomes of offers.

use super::*;

#[test]
fn nothing_is_launched_before_its_placement_is_confirmed() {
    let mut world = World::new();
    world.enqueue(1, 1);
    let out = world.offer("o1", "a", 4);
    assert_eq!(placed(&out), [task(1)]);
    assert!(launched(&out).is_empty());
    assert_eq!(launched(&world.confirm([1])), [task(1).to_string()]);
}

#[test]
fn item_21_new_work_revives_and_an_empty_queue_declines_and_suppresses() {
    let mut world = World::new();
    world.offer("o1", "a", 4);
    let out = world.wait(300);
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Decline(_))),
        "{out:?}"
    );
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Suppress(_))),
        "{out:?}"
    );
    let out = world.enqueue(1, 1);
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Revive(_))),
        "{out:?}"
    );
}

#[test]
fn item_21_a_lost_revive_is_said_once_more_and_never_periodically() {
    let mut world = World::new();
    let revives = |out: Vec<Output>| {
        calls(&out)
            .iter()
            .filter(|call| matches!(call, Call::Revive(_)))
            .count()
    };
    assert_eq!(revives(world.enqueue(1, 1)), 1);
    assert_eq!(revives(world.wait(1_000)), 1);
    let later: usize = (0..60).map(|_| revives(world.wait(1_000))).sum();
    assert_eq!(later, 0);
}

#[test]
fn a_placement_that_is_not_confirmed_in_time_waits_again_and_a_late_word_ends_the_attempt() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    world.tell(Input::Event(Event::Rescind(Rescind {
        offer_id: OfferId::new("o1"),
    })));
    assert_eq!(world.broker.queued(), 1, "it waits again");
    let out = world.confirm([1]);
    assert_eq!(failure(&out), Some(FailureClass::Platform));
    assert_eq!(world.broker.queued(), 0);
}

#[test]
fn a_word_of_an_earlier_placement_launches_nothing_where_the_attempt_is_placed_now() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    let of_a = world.broker.confirmation(task(1));
    // The hold ends while that is on its way, and the offer goes; another agent has a place.
    world.wait(600);
    world.tell(Input::Event(Event::Rescind(Rescind {
        offer_id: OfferId::new("o1"),
    })));
    assert_eq!(placed(&world.offer("o2", "b", 4)), [task(1)]);
    let out = world.tell(of_a);
    assert!(launched(&out).is_empty(), "it is on record on `a` alone");
    assert_eq!(failure(&out), None, "and will be on `b`");
    assert_eq!(launched(&world.confirm([1])).len(), 1);
}

#[test]
fn item_24_an_offer_that_goes_after_the_confirmation_costs_the_platform() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.enqueue(2, 1);
    world.offer("o1", "a", 4);
    world.confirm([1]);
    let out = world.tell(Input::Disconnected);
    assert_eq!(
        failure(&out),
        Some(FailureClass::Platform),
        "placed on record, never launched"
    );
    assert_eq!(
        world.broker.queued(),
        1,
        "the other was not confirmed and waits"
    );
}

#[test]
fn a_request_that_is_killed_in_the_queue_never_ran() {
    let mut world = World::new();
    world.enqueue(1, 1);
    let out = world.tell(Input::Kill {
        task: task(1),
        agent: None,
    });
    assert!(out.contains(&Output::Signal(task(1), News::Withdrawn)));
    assert!(placed(&world.offer("o1", "a", 4)).is_empty());
}

#[test]
fn item_24_several_tasks_share_one_accept_and_one_executor() {
    let mut world = World::new();
    for n in 1..=3 {
        world.enqueue(n, 1);
    }
    assert_eq!(placed(&world.offer("o1", "a", 4)).len(), 3);
    assert!(
        launched(&world.confirm([1])).is_empty(),
        "the others are about to be confirmed"
    );
    world.confirm([2]);
    assert_eq!(launched(&world.confirm([3])).len(), 3);
}

#[test]
fn item_19_an_offer_that_is_too_small_goes_back_at_once_and_the_task_hears_why() {
    let mut world = World::new();
    world.enqueue(1, 16);
    let out = world.offer("o1", "a", 4);
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Decline(_)))
    );
    let waiting = world.broker.explain(&task(1), world.now).unwrap();
    assert!(
        waiting.reasons[0]
            .text
            .contains("cpus: wants 16, at most 4 free"),
        "{waiting:?}"
    );
    assert_eq!(waiting.would_fit, ["fits now on 1 agent if cpus ≤ 4"]);
}

#[test]
fn a_placement_that_is_on_record_counts_as_confirmed_when_it_is_adopted() {
    let mut world = World::new();
    world.enqueue(1, 1);
    assert_eq!(placed(&world.offer("o1", "a", 4)), [task(1)]);
    // The step actor is lost with its coordinator, after the placement was committed there.
    let out = world.tell(Input::Adopt {
        task: task(1),
        agent: "a".to_owned(),
        claim: None,
    });
    assert_eq!(launched(&out), [task(1).to_string()]);
}

#[test]
fn an_agent_is_not_held_for_a_placement_that_is_gone() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    // Of the placement on b the run knows, of the one on a it does not.
    world.tell(Input::Adopt {
        task: task(1),
        agent: "b".to_owned(),
        claim: None,
    });
    assert_eq!(placed(&world.enqueue(2, 1)), [task(2)]);
    let out = world.confirm([2]);
    assert_eq!(launched(&out), [task(2).to_string()]);
}

#[test]
fn item_19_offers_that_nobody_wants_are_held_for_less_than_a_second_and_measured() {
    let mut world = World::new();
    world.offer("o1", "a", 4);
    assert_eq!(
        count(&world.wait(299), |call| matches!(call, Call::Decline(_))),
        0
    );
    let out = world.wait(1);
    let refused = calls(&out).into_iter().find_map(|call| match call {
        Call::Decline(decline) => decline.filters.and_then(|filters| filters.refuse_seconds),
        _ => None,
    });
    assert_eq!(refused, Some(600.0), "for long");
    assert!(
        out.contains(&Output::Measured(Measured::Held(Duration(300)))),
        "{out:?}"
    );
    assert_eq!(world.broker.stats().declined[&Declined::Idle], 1);
}

#[test]
fn item_19_offers_that_come_while_somebody_waits_are_used_or_returned_at_once() {
    let mut world = World::new();
    world.enqueue(1, 8);
    let out = world.offer("o1", "a", 4);
    assert_eq!(count(&out, |call| matches!(call, Call::Decline(_))), 1);
    assert_eq!(
        world.broker.stats().declined[&Declined::TooSmall(Shortage::Cpus)],
        1
    );
}

#[test]
fn item_20_the_rest_of_an_accepted_offer_is_refused_for_long_and_revived_for_who_waits() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    world.enqueue(2, 2);
    let out = world.confirm([1]);
    let refused = calls(&out).into_iter().find_map(|call| match call {
        Call::Accept(accept) => accept.filters.and_then(|filters| filters.refuse_seconds),
        _ => None,
    });
    assert_eq!(refused, Some(600.0));
    assert_eq!(
        count(&world.wait(1_000), is_revive),
        1,
        "the second one still waits"
    );
}

#[test]
fn item_21_offers_are_asked_for_only_if_somebody_is_likely_to_find_a_place() {
    let mut world = World::with(|settings| settings.constrain_offers = false);
    world.enqueue(1, 8);
    world.offer("o1", "a", 4);
    let mut revives = count(&world.enqueue(2, 8), is_revive);
    for _ in 0..50 {
        revives += count(&world.wait(100), is_revive);
    }
    assert_eq!(revives, 0, "of four cpus nobody has use");
    revives += count(&world.enqueue(3, 2), is_revive);
    revives += count(&world.wait(100), is_revive);
    assert_eq!(revives, 1, "somebody has");
}

#[test]
fn item_21_doubts_are_settled_once() {
    let mut world = World::with(|settings| settings.constrain_offers = false);
    world.enqueue(1, 8);
    world.offer("o1", "a", 4);
    world.enqueue(2, 8);
    let mut said = Vec::new();
    for second in 1..60 {
        let revives = count(&world.wait(1_000), is_revive);
        said.extend(vec![second; revives]);
        if revives > 0 {
            world.offer(&format!("again-{second}"), "a", 4);
        }
    }
    assert_eq!(said, [10]);
}

#[test]
fn item_21_what_a_task_leaves_behind_is_asked_for_at_once_by_who_fits_there() {
    let mut world = World::launched(1);
    world.enqueue(2, 4);
    assert_eq!(count(&world.wait(60), is_revive), 1, "it was suppressed");
    world.offer("o2", "a", 3);
    assert_eq!(count(&world.wait(1_000), is_revive), 0);
    let out = world.update(1, TaskState::Finished, Some(b"2"));
    assert_eq!(count(&out, is_revive), 1);
}

#[test]
fn item_19_room_set_aside_for_who_has_waited_long_is_held_until_it_adds_up() {
    let mut world = World::launched(1);
    world.enqueue(2, 4);
    world.wait(31_000);
    let declines = |out: &[Output]| count(out, |call| matches!(call, Call::Decline(_)));
    assert_eq!(
        declines(&world.offer("o2", "a", 3)),
        0,
        "one cpu is missing"
    );
    world.update(1, TaskState::Finished, Some(b"2"));
    assert_eq!(placed(&world.offer("o3", "a", 1)), [task(2)]);
}

#[test]
fn item_19_room_set_aside_is_not_held_for_ever() {
    let mut world = World::launched(1);
    world.enqueue(2, 4);
    world.wait(31_000);
    let declines = |out: &[Output]| count(out, |call| matches!(call, Call::Decline(_)));
    world.offer("o2", "a", 3);
    assert_eq!(declines(&world.wait(4_999)), 0);
    assert_eq!(declines(&world.wait(1)), 1);
}

#[test]
fn who_waits_does_not_keep_the_broker_awake() {
    let mut world = World::new();
    world.enqueue(1, 8);
    world.offer("o1", "a", 4);
    for _ in 0..100 {
        world.wait(700);
        let wake = world.broker.wake_at();
        assert!(wake.is_none_or(|at| at > world.now), "{wake:?}");
    }
}

#[test]
fn what_an_agent_has_is_remembered_beyond_a_session() {
    let mut world = World::launched(1);
    world.tell(Input::Disconnected);
    world.tell(Input::Subscribed(FrameworkId::new("f")));
    let total = |world: &World| {
        let desk = &world.broker.desks["*"];
        let executor = desk.executor.clone().expect("a session").executor_id;
        let known = desk.agents.open(&executor, &Resources::ZERO, |_, _| true);
        known.first().map(|offer| offer.total.cpus)
    };
    assert_eq!(total(&world), Some(MilliCpus(4_000)));
    world.now = Timestamp(world.now.0 + 6_000_000);
    world.tell(Input::Subscribed(FrameworkId::new("f")));
    let still = Some(MilliCpus(4_000));
    assert_eq!(
        total(&world),
        still,
        "what our tasks fill offers nothing for hours"
    );
    world.update(1, TaskState::Finished, Some(b"2"));
    world.now = Timestamp(world.now.0 + 600_000);
    world.tell(Input::Subscribed(FrameworkId::new("f")));
    assert_eq!(total(&world), None, "it may be gone");
}

#[test]
fn item_23_what_is_offered_to_a_role_goes_to_its_owners_only() {
    let mut world = World::with(|settings| {
        settings
            .owner_roles
            .insert("bob".to_owned(), "research".to_owned());
    });
    world.enqueue_for("ada", 1, 1);
    world.enqueue_for("bob", 2, 1);
    let for_role = |id: &str, role: &str| {
        let role = Some(role.to_owned());
        let allocation_info = Some(AllocationInfo { role });
        Input::Event(Event::Offers(Offers {
            offers: vec![Offer {
                allocation_info,
                ..offer(id, "a", 8)
            }],
        }))
    };
    assert_eq!(placed(&world.tell(for_role("o1", "research"))), [task(2)]);
    let out = world.confirm([2]);
    assert_eq!(launched(&out), [task(2).to_string()]);
    let executors = |out: &[Output]| {
        let accept = calls(out).into_iter().find_map(|call| match call {
            Call::Accept(accept) => accept.operations[0].launch.clone(),
            _ => None,
        });
        let info = accept.expect("a launch").task_infos[0]
            .executor
            .clone()
            .expect("ours");
        let role = info.resources[0]
            .allocation_info
            .clone()
            .and_then(|info| info.role);
        (info.executor_id, role)
    };
    let suppressed = |out: &[Output]| -> Vec<String> {
        let all = calls(out).into_iter().filter_map(|call| match call {
            Call::Suppress(roles) => Some(roles.roles.clone()),
            _ => None,
        });
        all.flatten().collect()
    };
    let (research, role) = executors(&out);
    assert_eq!(role.as_deref(), Some("research"));
    assert_eq!(suppressed(&out), ["research"], "ada still waits");
    assert_eq!(placed(&world.tell(for_role("o2", "*"))), [task(1)]);
    let out = world.confirm([1]);
    assert_ne!(
        executors(&out).0,
        research,
        "an executor's share belongs to its role"
    );
    assert_eq!(suppressed(&out), ["*"]);
    let out = world.tell(for_role("o3", "somebody-elses"));
    assert_eq!(
        count(&out, |call| matches!(call, Call::Decline(_))),
        1,
        "{out:?}"
    );
}

#[test]
fn item_24_several_offers_of_one_agent_are_used_together() {
    let mut world = World::new();
    world.enqueue(1, 6);
    let scraps = vec![offer("o1", "a", 4), offer("o2", "a", 3)];
    let out = world.tell(Input::Event(Event::Offers(Offers { offers: scraps })));
    assert_eq!(placed(&out), [task(1)], "neither is large enough alone");
    let out = world.confirm([1]);
    let offers = calls(&out).into_iter().find_map(|call| match call {
        Call::Accept(accept) => Some(accept.offer_ids.len()),
        _ => None,
    });
    assert_eq!(offers, Some(2));
}

#[test]
fn item_24_a_rescinded_offer_costs_nothing_when_nothing_was_confirmed_on_it() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    let out = world.tell(Input::Event(Event::Rescind(Rescind {
        offer_id: OfferId::new("o1"),
    })));
    assert!(states(&out).is_empty(), "{out:?}");
    assert_eq!(placed(&world.offer("o2", "b", 4)), [task(1)]);
}

#[test]
fn item_24_an_invalid_offer_costs_the_platform_and_not_the_user() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    world.confirm([1]);
    let out = world.status(made_up(1, TaskState::Dropped, StatusReason::InvalidOffers));
    assert_eq!(failure(&out), Some(FailureClass::Platform));
}

#[test]
fn item_26_gpus_are_kept_for_those_who_ask_for_some() {
    let mut world = World::new();
    world.enqueue(1, 1);
    let mut with_gpus = offer("o1", "a", 4);
    with_gpus.resources.push(Resource::scalar("gpus", 2.0));
    let gpus = |offer: Offer| {
        Input::Event(Event::Offers(Offers {
            offers: vec![offer],
        }))
    };
    assert!(placed(&world.tell(gpus(with_gpus.clone()))).is_empty());
    world.tell(Input::Enqueue {
        task: task(2),
        shape: Shape {
            resources: Resources {
                gpus: 1,
                ..resources(1, 64)
            },
            ..shape(0)
        },
        owner: "ada".to_owned(),
        deadline: None,
        payload: Bytes::new(),
    });
    with_gpus.id = OfferId::new("o2");
    assert_eq!(placed(&world.tell(gpus(with_gpus))), [task(2)]);
}

#[test]
fn item_38_a_task_says_whose_it_is() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    let out = world.confirm([1]);
    let labels = calls(&out).into_iter().find_map(|call| match call {
        Call::Accept(accept) => {
            let launch = accept.operations[0].launch.as_ref()?;
            launch.task_infos[0].labels.clone()
        }
        _ => None,
    });
    let labels: Vec<_> = labels
        .expect("labels")
        .labels
        .into_iter()
        .map(|label| format!("{}={}", label.key, label.value.unwrap_or_default()))
        .collect();
    assert_eq!(
        labels,
        [
            "meson.run=run-1",
            "meson.step=step",
            "meson.iteration=1",
            "meson.attempt=1",
            "meson.rank=0",
            "meson.owner=ada"
        ]
    );
}

#[test]
fn item_08_every_attempt_has_an_id_of_its_own_that_a_master_takes() {
    use meson_core::ids::{Attempt, IterPath, RunId};
    use meson_mesos::types::validate_id;
    let longest = TaskId {
        rank: 255,
        run: RunId::new(&"w".repeat(64), &"x".repeat(26)).unwrap(),
        step: "s".repeat(64),
        // As deep as loops may be nested, as wide as they may be.
        path: IterPath(vec![999_999; meson_core::validate::MAX_LOOPS].into()),
        attempt: Attempt(u32::MAX),
    };
    for task in [longest, task(1)] {
        assert_eq!(validate_id(&task.to_string()), Ok(()), "{task}");
        assert_eq!(task.to_string().parse(), Ok(task));
    }
}

#[test]
fn a_placement_that_nobody_hears_of_is_given_up_at_once() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    let out = world.tell(Input::Unheard(task(1)));
    assert!(
        out.contains(&Output::Signal(task(1), News::Withdrawn)),
        "whoever does hear asks again: {out:?}"
    );
    assert_eq!((world.broker.queued(), world.broker.live()), (0, 0));
    assert_eq!(
        placed(&world.enqueue(2, 1)),
        [task(2)],
        "its offer is free again"
    );
}
