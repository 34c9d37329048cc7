//! What is asked, adopted and killed.

use super::*;

#[test]
fn item_17_a_task_that_no_run_knows_is_killed_and_one_that_a_run_knows_is_left_alone() {
    for (wanted, killed) in [(Some(false), true), (Some(true), false), (None, false)] {
        let mut world = World::new();
        let out = world.update(9, TaskState::Running, Some(b"1"));
        assert!(calls(&out).is_empty(), "nobody may have claimed it yet");
        let out = world.wait(30_000);
        assert!(out.contains(&Output::AskWanted(task(9))), "{out:?}");
        let out = world.tell(Input::Verdict {
            task: task(9),
            wanted,
        });
        assert_eq!(
            calls(&out).iter().any(|call| matches!(call, Call::Kill(_))),
            killed,
            "{wanted:?}"
        );
    }
}

#[test]
fn item_16_an_adopted_task_is_reconciled_with_its_agent_until_answered() {
    let mut world = World::new();
    let reconciles = |out: &[Output]| {
        calls(out)
            .iter()
            .filter(|call| matches!(call, Call::Reconcile(r) if r.tasks.iter().all(|t| t.agent_id.is_some()) && !r.tasks.is_empty()))
            .count()
    };
    let out = world.tell(Input::Adopt {
        task: task(1),
        agent: "a".to_owned(),
        claim: None,
    });
    assert_eq!(reconciles(&out), 1);
    assert_eq!(reconciles(&world.wait(2_000)), 1);
    world.update(1, TaskState::Running, None);
    assert_eq!(reconciles(&world.wait(60_000)), 0);
}

#[test]
fn item_16_after_a_new_session_all_that_runs_is_asked_about() {
    let mut world = World::launched(1);
    world.tell(Input::Disconnected);
    let out = world.tell(Input::Subscribed(FrameworkId::new("f")));
    let explicit = calls(&out)
        .iter()
        .any(|call| matches!(call, Call::Reconcile(r) if r.tasks.len() == 1));
    let implicit = calls(&out)
        .iter()
        .any(|call| matches!(call, Call::Reconcile(r) if r.tasks.is_empty()));
    assert!(explicit && implicit, "{out:?}");
}

#[test]
fn a_kill_is_said_again_until_the_task_ends() {
    let mut world = World::launched(1);
    let kills = |out: Vec<Output>| {
        calls(&out)
            .iter()
            .filter(|call| matches!(call, Call::Kill(_)))
            .count()
    };
    assert_eq!(
        kills(world.tell(Input::Kill {
            task: task(1),
            agent: None
        })),
        1
    );
    assert_eq!(kills(world.wait(10_000)), 1);
    let out = world.update(1, TaskState::Killed, Some(b"2"));
    assert!(out.iter().any(|o| matches!(
        o,
        Output::Signal(
            _,
            News::State {
                state: AttemptState::Killed,
                ..
            }
        )
    )));
    assert_eq!(kills(world.wait(60_000)), 0);
}

#[test]
fn item_17_a_task_whose_step_actor_is_gone_is_asked_about() {
    let mut world = World::launched(1);
    world.tell(Input::Unheard(task(1)));
    let out = world.wait(30_000);
    assert!(out.contains(&Output::AskWanted(task(1))), "{out:?}");
    let out = world.tell(Input::Verdict {
        task: task(1),
        wanted: Some(false),
    });
    assert!(calls(&out).iter().any(|call| matches!(call, Call::Kill(_))));
}

#[test]
fn item_17_everything_is_asked_about_now_and_then_with_jitter() {
    let mut times: BTreeMap<bool, Vec<Vec<u64>>> = BTreeMap::new();
    for seed in 1..=2 {
        let mut world = World::with(|settings| settings.seed = seed);
        world.enqueue(1, 1);
        world.offer("o1", "a", 4);
        world.confirm([1]);
        world.update(1, TaskState::Running, Some(b"1"));
        let began = world.now;
        let (mut implicit, mut explicit) = (Vec::new(), Vec::new());
        while world.now.since(began) < Duration::from_secs(3 * 3_600) {
            let wait = world.broker.wake_at().expect("there is always more to ask");
            let ms = wait.since(world.now).0.max(1);
            for call in calls(&world.wait(ms)) {
                if let Call::Reconcile(reconcile) = call {
                    let asked = if reconcile.tasks.is_empty() {
                        &mut implicit
                    } else {
                        &mut explicit
                    };
                    asked.push(world.now.since(began).0 / 1_000);
                }
            }
            world.status(made_up(1, TaskState::Running, StatusReason::Reconciliation));
        }
        assert!(
            (14..=23).contains(&implicit.len()),
            "every ten minutes or so: {implicit:?}"
        );
        assert!(
            (9..=16).contains(&explicit.len()),
            "every quarter of an hour or so: {explicit:?}"
        );
        times.entry(true).or_default().push(implicit);
        times.entry(false).or_default().push(explicit);
    }
    for asked in times.values() {
        assert_ne!(asked[0], asked[1], "not everybody at the same time");
    }
}

#[test]
fn item_18_silence_makes_a_task_invisible_at_last_and_never_lost() {
    let mut world = World::launched(1);
    world.tell(Input::Disconnected);
    world.tell(Input::Subscribed(FrameworkId::new("f")));
    let mut heard = Vec::new();
    for second in 0..3_600 {
        let out = world.wait(1_000);
        heard.extend(
            states(&out)
                .into_iter()
                .map(|state| (second / 60, state.clone())),
        );
    }
    assert!(
        matches!(heard[..], [(14 | 15, AttemptState::Unreachable)]),
        "{heard:?}"
    );
    assert_eq!(world.broker.live(), 1, "it is asked about for ever");
}

/// Tasks asked about explicitly.
fn asked_about(out: &[Output]) -> Vec<String> {
    let explicit = calls(out).into_iter().filter_map(|call| match call {
        Call::Reconcile(reconcile) => Some(&reconcile.tasks),
        _ => None,
    });
    explicit
        .flatten()
        .map(|task| task.task_id.as_str().to_owned())
        .collect()
}

#[test]
fn item_18_a_launch_that_a_partition_swallowed_is_asked_about_as_soon_as_its_agent_is_heard_of() {
    let unreachable = || made_up(1, TaskState::Unreachable, StatusReason::AgentRemoved);
    type Hear = fn(&mut World) -> Vec<Output>;
    let heard: [(&str, Hear); 3] = [
        ("an offer", |world| world.offer("o9", "a", 4)),
        ("news of another", |world| {
            world.update(2, TaskState::Running, Some(b"7"))
        }),
        ("another is back", |world| {
            let reason = StatusReason::AgentReregistered;
            world.status(made_up(2, TaskState::Running, reason))
        }),
    ];
    for (what, hear) in heard {
        let mut world = World::launched(2);
        world.enqueue(1, 1);
        world.offer("o2", "a", 3);
        world.confirm([1]);
        let out = world.status(unreachable());
        assert_eq!(states(&out), [&AttemptState::Unreachable]);
        for ms in [30_000, 120_000, 3_000] {
            world.wait(ms);
        }
        assert_eq!(asked_about(&world.offer("o8", "b", 4)), [""; 0], "{what}");
        let out = hear(&mut world);
        assert_eq!(asked_about(&out), [task(1).to_string()], "{what}");
        let out = world.status(made_up(1, TaskState::Gone, StatusReason::Reconciliation));
        assert_eq!(failure(&out), Some(FailureClass::Platform), "{what}");
        assert_eq!(asked_about(&hear(&mut world)), [""; 0], "{what}: answered");
    }
}

#[test]
fn item_18_what_is_out_of_sight_is_asked_about_now_and_then_though_nothing_is_heard() {
    let mut world = World::launched(1);
    world.status(made_up(
        1,
        TaskState::Unreachable,
        StatusReason::AgentRemoved,
    ));
    let asked: Vec<u32> = (1..=600)
        .filter(|_| !asked_about(&world.wait(1_000)).is_empty())
        .collect();
    assert_eq!(asked[..5], [2, 6, 14, 30, 62], "seconds");
    assert!((10..=15).contains(&asked.len()), "each minute: {asked:?}");
}

#[test]
fn item_17_a_made_up_word_about_a_stranger_that_does_not_live_is_nobodys_business() {
    let mut world = World::new();
    for state in [
        TaskState::Gone,
        TaskState::Unknown,
        TaskState::Lost,
        TaskState::Unreachable,
    ] {
        world.status(made_up(9, state, StatusReason::Reconciliation));
    }
    assert_eq!(world.broker.live(), 0);
}
