//! The brake, pacing, constraints and maintenance.

use meson_core::expression::Expression;
use meson_mesos::scheduler::{Failure, InverseOffers};
use meson_mesos::types::{InverseOffer, TimeInfo, Unavailability};

use super::*;

/// `n` tasks that run, four on each agent.
fn running(n: u32) -> World {
    let mut world = World::with(|settings| settings.pacing.per_second = 100_000);
    for n in 1..=n {
        world.enqueue(n, 1);
    }
    for agent in 0..n.div_ceil(4) {
        let out = world.offer(&format!("o{agent}"), &format!("a{agent}"), 4);
        for task in placed(&out) {
            world.tell(world.broker.confirmation(task));
        }
    }
    assert_eq!(world.broker.live(), n as usize);
    world
}

fn lose_agents(world: &mut World, agents: std::ops::Range<u32>) -> Vec<Output> {
    let mut out = Vec::new();
    for agent in agents {
        out.extend(world.tell(Input::Event(Event::Failure(Failure {
            agent_id: Some(AgentId::new(format!("a{agent}"))),
            executor_id: None,
            status: None,
        }))));
    }
    out
}

#[test]
fn tasks_that_are_cancelled_in_one_instant_are_killed_so_many_a_second_and_none_twice_before_all_once()
 {
    let mut world = World::new();
    for n in 0..25_000 {
        world.broker.handle(
            Input::Kill {
                task: task(n),
                agent: Some(format!("a{}", n % 500)),
            },
            world.now,
            &mut Vec::new(),
        );
    }
    let mut killed = BTreeMap::<String, u32>::new();
    let mut note = |out: &[Output]| {
        let before = killed.len();
        for call in calls(out) {
            if let Call::Kill(kill) = call {
                *killed.entry(kill.task_id.as_str().to_owned()).or_default() += 1;
            }
        }
        (
            killed.len() - before,
            killed.len(),
            killed.values().max().copied(),
        )
    };
    let (mut at_once, mut all, _) = note(&world.wait(0));
    assert_eq!(at_once, 1_000);
    let mut wakes = 0;
    while all < 25_000 {
        let next = world.broker.wake_at().expect("there is more to say");
        assert!(next > world.now, "and not before it may be said");
        let wait = next.0 - world.now.0;
        let twice;
        (at_once, all, twice) = note(&world.wait(wait));
        assert!(
            at_once <= 1_000 && twice == Some(1),
            "{at_once} {twice:?} of {all}"
        );
        wakes += 1;
        assert!(wakes < 1_000, "{all}");
    }
}

#[test]
fn agents_that_come_and_go_are_forgotten_and_those_with_tasks_are_not() {
    let mut world = running(4);
    let known = |world: &World| world.broker.desks["*"].agents.0.len();
    for n in 1..1_000 {
        let agent = format!("a{n}");
        world.offer(&format!("spot-{n}"), &agent, 4);
        world.tell(Input::Event(Event::Rescind(Rescind {
            offer_id: OfferId::new(format!("spot-{n}")),
        })));
        lose_agents(&mut world, n..n + 1);
        // The disaster brake has its own tests.
        world.tell(Input::ReleaseBrake);
    }
    lose_agents(&mut world, 0..1);
    world.wait(1_100_000);
    assert_eq!(known(&world), 1, "only the one that has tasks of ours");
    assert_eq!(
        world.broker.desks["*"].agents.held("a0").cpus,
        MilliCpus(4_000)
    );
    // One that was out of sight only is known again as soon as it offers something.
    world.offer("back", "a7", 4);
    assert_eq!(known(&world), 2);
    world.wait(1_100_000);
    assert_eq!(known(&world), 2);
}

#[test]
fn item_29_brake_stops_launching_says_so_and_goes_on_after_calm() {
    let mut world = running(40);
    assert!(
        !lose_agents(&mut world, 0..2)
            .iter()
            .any(|out| matches!(out, Output::Stopped(_)))
    );
    let out = lose_agents(&mut world, 2..3);
    let said = out.iter().find_map(|out| match out {
        Output::Stopped(reason) => Some(reason.clone()),
        _ => None,
    });
    assert!(said.expect("it says so").contains("3 of 10 agents"));
    world.enqueue(100, 1);
    let out = world.offer("later", "b", 4);
    assert!(placed(&out).is_empty(), "{out:?}");
    assert_eq!(world.broker.stats().declined[&Declined::Brake], 1);
    let why = world
        .broker
        .explain(&task(100), world.now)
        .expect("it waits");
    assert!(
        why.reasons[0].text.contains("launching has stopped"),
        "{why:?}"
    );
    let view = world.broker.view("default", world.now);
    assert!(
        view.brake
            .is_some_and(|brake| brake.reason.contains("3 of 10"))
    );

    let out = world.wait(60_000);
    assert!(out.contains(&Output::GoesOn), "{out:?}");
    assert_eq!(count(&out, is_revive), 1, "offers are wanted again");
    assert_eq!(placed(&world.offer("at-last", "b", 4)), [task(100)]);
}

#[test]
fn an_agent_out_of_sight_is_named_and_nothing_is_hoped_for_there_until_it_is_heard_of() {
    let mut world = World::launched(1);
    world.offer("o2", "b", 2);
    world.enqueue(2, 4);
    let lost = |world: &mut World| {
        world.tell(Input::Event(Event::Failure(Failure {
            agent_id: Some(AgentId::new("a")),
            executor_id: None,
            status: None,
        })))
    };
    let said = Output::AgentLost {
        host: "a.example".to_owned(),
        tasks: 1,
    };
    assert!(lost(&mut world).contains(&said));
    assert!(!lost(&mut world).contains(&said), "once");
    let view = world.broker.view("default", world.now);
    assert_eq!(
        (view.agents, &view.out_of_sight[..]),
        (1, &["a.example".to_owned()][..])
    );
    let why = world.broker.explain(&task(2), world.now).expect("it waits");
    assert_eq!(why.view.offers.agents_known, 1);
    assert!(why.view.next.is_none(), "who knows when: {why:?}");
    assert_eq!(why.view.agents.len(), 1, "{why:?}");

    world.wait(3_600_000);
    let view = world.broker.view("default", world.now);
    assert_eq!(view.out_of_sight.len(), 1, "something of ours is there");
    let back = world.update(1, TaskState::Running, Some(b"2"));
    assert!(
        back.contains(&Output::AgentBack("a.example".to_owned())),
        "{back:?}"
    );
    let view = world.broker.view("default", world.now);
    assert_eq!((view.agents, view.out_of_sight.len()), (2, 0));
    world.offer("o3", "b", 2);
    let why = world.broker.explain(&task(2), world.now).expect("it waits");
    assert!(why.view.next.is_some(), "{why:?}");

    world.update(1, TaskState::Finished, Some(b"3"));
    world.tell(Input::Acknowledge {
        task: task(1),
        agent: "a".to_owned(),
        uuid: b"3".to_vec(),
    });
    lost(&mut world);
    assert_eq!(
        world.broker.view("default", world.now).out_of_sight.len(),
        1
    );
    world.wait(600_000);
    let view = world.broker.view("default", world.now);
    assert_eq!(
        view.out_of_sight, [""; 0],
        "old news of an agent that concerns nobody"
    );
}

#[test]
fn item_29_brake_is_released_by_an_operator() {
    let mut world = running(40);
    lose_agents(&mut world, 0..5);
    assert!(world.broker.now().braked);
    let out = world.tell(Input::ReleaseBrake);
    assert!(out.contains(&Output::GoesOn), "{out:?}");
    world.enqueue(100, 1);
    assert_eq!(placed(&world.offer("o", "b", 4)), [task(100)]);
    assert!(
        !world.tell(Input::ReleaseBrake).contains(&Output::GoesOn),
        "it was released"
    );
}

#[test]
fn item_29_brake_counts_tasks_that_are_out_of_sight_and_not_those_that_failed_by_themselves() {
    let mut world = running(40);
    for n in 1..=20 {
        let failed = world.update(n, TaskState::Failed, Some(b"9"));
        assert!(!failed.iter().any(|out| matches!(out, Output::Stopped(_))));
    }
    let mut stopped = false;
    for n in 21..=40 {
        let lost = TaskStatus {
            agent_id: None,
            ..made_up(n, TaskState::Unreachable, StatusReason::AgentRemoved)
        };
        stopped |= world
            .status(lost)
            .iter()
            .any(|out| matches!(out, Output::Stopped(_)));
    }
    assert!(stopped);
}

#[test]
fn item_39_at_most_so_many_tasks_are_started_on_one_agent_at_a_time() {
    let mut world = World::with(|settings| settings.pacing.starting_per_agent = 2);
    for n in 1..=5 {
        world.enqueue(n, 1);
    }
    let out = world.offer("o1", "a", 8);
    assert_eq!(placed(&out).len(), 2);
    assert_eq!(launched(&world.confirm([1, 2])).len(), 2);
    let why = world.broker.explain(&task(3), world.now).expect("it waits");
    assert!(why.reasons[0].text.contains("are being started"), "{why:?}");
    assert!(
        placed(&world.offer("o2", "a", 6)).is_empty(),
        "both are still being started"
    );
    assert_eq!(world.broker.stats().declined[&Declined::Paced], 1);
    world.wait(1_000);
    let out = world.update(1, TaskState::Running, Some(b"1"));
    assert!(
        out.contains(&Output::Measured(Measured::LaunchToRunning(Duration(
            1_000
        )))),
        "{out:?}"
    );
    let out = world.wait(50);
    assert_eq!(count(&out, is_revive), 1, "there is room for one more");
    assert_eq!(placed(&world.offer("o3", "a", 6)), [task(3)]);
}

#[test]
fn item_39_at_most_so_many_tasks_are_launched_a_second() {
    let mut world = World::with(|settings| settings.pacing.per_second = 10);
    for n in 1..=30 {
        world.enqueue(n, 1);
    }
    let mut launches = Vec::new();
    let (mut offers, began) = (0, world.now);
    while world.broker.queued() > 0 {
        offers += 1;
        let out = world.offer(&format!("o{offers}"), &format!("a{offers}"), 100);
        for task in placed(&out) {
            launches.push(world.now.since(began).0);
            world.tell(world.broker.confirmation(task));
        }
        let wait = world.broker.wake_at().expect("it goes on by itself");
        world.wait(wait.since(world.now).0.max(1));
    }
    assert_eq!(
        launches.iter().filter(|at| **at == 0).count(),
        10,
        "a second's worth at once"
    );
    let last = launches.last().expect("launches");
    assert!((1_900..3_000).contains(last), "{launches:?}");
}

#[test]
fn item_22_what_is_of_use_is_told_once_somebody_has_waited_and_taken_back_for_newcomers() {
    let mut world = World::new();
    let picky = |n: u32, require: Option<&str>| Input::Enqueue {
        task: task(n),
        shape: Shape {
            require: require.map(|source| Expression(source.to_owned())),
            ..shape(1)
        },
        owner: "ada".to_owned(),
        deadline: None,
        payload: Bytes::new(),
    };
    let told = |out: &[Output]| {
        calls(out).into_iter().find_map(|call| match call {
            Call::UpdateFramework(update) => Some(update.offer_constraints.clone()),
            _ => None,
        })
    };
    let out = world.tell(picky(1, Some("attributes.disk == 'ssd'")));
    assert_eq!(told(&out), None, "most find a place at once");
    let constraints = told(&world.wait(2_000))
        .expect("told")
        .expect("constraints");
    assert!(constraints.to_string().contains("ssd"), "{constraints}");
    assert_eq!(told(&world.wait(60_000)), None, "nothing has changed");
    let out = world.tell(picky(2, None));
    assert_eq!(told(&out), Some(None), "taken back");
    let (update, revive) = (
        calls(&out)
            .iter()
            .position(|call| matches!(call, Call::UpdateFramework(_))),
        calls(&out).iter().position(|call| is_revive(call)),
    );
    assert!(update < revive, "before offers are asked for: {out:?}");
}

#[test]
fn item_22_constraints_that_were_not_taken_are_taken_back() {
    let mut world = World::new();
    world.enqueue(1, 4);
    let update = |out: Vec<Output>| {
        calls(&out).into_iter().find_map(|call| match call {
            Call::UpdateFramework(update) => Some(update.framework_info.offer_filters.clone()),
            _ => None,
        })
    };
    assert!(update(world.wait(2_000)).expect("told").is_some());
    world.tell(Input::ConstraintsNotTaken);
    assert_eq!(update(world.wait(1_000)), Some(None));
}

fn inverse(agent: &str, start_s: u64) -> Input {
    Input::Event(Event::InverseOffers(InverseOffers {
        inverse_offers: vec![InverseOffer {
            id: OfferId::new("i1"),
            agent_id: Some(AgentId::new(agent)),
            unavailability: Unavailability {
                start: TimeInfo {
                    nanoseconds: i64::try_from(start_s).expect("small") * 1_000_000_000,
                },
                duration: None,
            },
            ..InverseOffer::default()
        }],
    }))
}

#[test]
fn item_27_inverse_offers_are_accepted_and_nothing_is_placed_there_any_more() {
    let mut world = World::launched(1);
    let out = world.tell(inverse("a", 2_000));
    assert_eq!(
        count(&out, |call| matches!(call, Call::AcceptInverseOffers(_))),
        1
    );
    assert_eq!(count(&out, is_kill), 0, "what runs there runs on");
    world.enqueue(2, 1);
    let mut again = offer("o2", "a", 4);
    again.unavailability = Some(Unavailability::default());
    let offers = Offers {
        offers: vec![again],
    };
    let out = world.tell(Input::Event(Event::Offers(offers)));
    assert!(placed(&out).is_empty());
    assert_eq!(world.broker.stats().declined[&Declined::Leaving], 1);
    let refused = calls(&out).into_iter().find_map(|call| match call {
        Call::Decline(decline) => decline.filters.as_ref(),
        _ => None,
    });
    let refused = refused.and_then(|filters| filters.refuse_seconds);
    assert!(
        refused.is_some_and(|seconds| seconds <= 15.0),
        "it may be called off: {refused:?}"
    );
    assert_eq!(placed(&world.offer("o3", "b", 4)), [task(2)]);
}

#[test]
fn item_27_tasks_are_moved_away_in_time_at_the_platforms_cost_if_that_is_wanted() {
    let mut world = World::with(|settings| settings.vacate = Some(Duration::from_secs(60)));
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    world.confirm([1]);
    world.update(1, TaskState::Running, Some(b"1"));
    let begins = world.now.0 / 1_000 + 600;
    assert_eq!(count(&world.tell(inverse("a", begins)), is_kill), 0);
    let wakes = world.broker.wake_at().expect("it wakes by itself");
    assert!(wakes.0 <= (begins - 60) * 1_000);
    assert_eq!(count(&world.wait(539_000), is_kill), 0);
    assert_eq!(count(&world.wait(1_000), is_kill), 1);
    let out = world.update(1, TaskState::Killed, Some(b"2"));
    assert_eq!(
        failure(&out),
        Some(FailureClass::Platform),
        "nobody asked for its end"
    );
}

#[test]
fn item_37_what_happens_is_counted_and_measured() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.wait(40);
    world.offer("o1", "a", 4);
    world.wait(7);
    let out = world.confirm([1]);
    for measured in [
        Measured::RequestToLaunch(Duration(47)),
        Measured::OfferToLaunch(Duration(7)),
        Measured::Held(Duration(7)),
    ] {
        assert!(
            out.contains(&Output::Measured(measured)),
            "{measured:?}: {out:?}"
        );
    }
    world.update(1, TaskState::Finished, Some(b"1"));
    let (stats, now) = (world.broker.stats().clone(), world.broker.now());
    assert_eq!((stats.offers, stats.accepted, stats.launched), (1, 1, 1));
    assert_eq!((now.unacknowledged, now.starting, now.live), (1, 0, 0));
    assert!(stats.revives >= 1 && stats.reconciles >= 1);
}
