//! What tasks are said to be, and what is made of it.

use super::*;

#[test]
fn item_09_an_update_is_told_with_its_uuid_and_acknowledged_only_on_word() {
    let mut world = World::launched(1);
    let out = world.update(1, TaskState::Finished, Some(b"2"));
    assert!(
        !calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Acknowledge(_)))
    );
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::Signal(_, News::State { uuid: Some(_), .. })))
    );
    let out = world.tell(Input::Acknowledge {
        task: task(1),
        agent: "a".to_owned(),
        uuid: b"2".to_vec(),
    });
    assert!(matches!(calls(&out)[..], [Call::Acknowledge(_)]));
}

#[test]
fn item_09_an_update_that_was_not_acknowledged_is_told_to_whoever_adopts_the_task_next() {
    let mut world = World::new();
    let adopt = || Input::Adopt {
        task: task(1),
        agent: "a".to_owned(),
        claim: None,
    };
    world.tell(adopt());
    let told = world.update(1, TaskState::Finished, Some(b"7"));
    assert_eq!(states(&told).len(), 1, "{told:?}");
    // Its hearer dies before that is durable, and the next one comes.
    let told = world.tell(adopt());
    assert_eq!(
        states(&told).len(),
        1,
        "without waiting for the agent: {told:?}"
    );
    world.tell(Input::Acknowledge {
        task: task(1),
        agent: "a".to_owned(),
        uuid: b"7".to_vec(),
    });
    assert!(world.broker.unacknowledged.is_empty());
    let told = world.tell(adopt());
    assert_eq!(
        states(&told).len(),
        0,
        "what is acknowledged is over: {told:?}"
    );
}

#[test]
fn what_was_heard_before_the_adoption_is_told_after_it() {
    let mut world = World::new();
    world.update(9, TaskState::Finished, Some(b"1"));
    let out = world.tell(Input::Adopt {
        task: task(9),
        agent: "a".to_owned(),
        claim: None,
    });
    assert!(
        out.iter().any(|o| matches!(
            o,
            Output::Signal(
                _,
                News::State {
                    state: AttemptState::Finished { .. },
                    ..
                }
            )
        )),
        "{out:?}"
    );
}

#[test]
fn item_10_an_error_about_a_duplicate_does_not_end_the_live_task() {
    let mut world = World::launched(1);
    let status = TaskStatus {
        reason: Some(StatusReason::TaskInvalid),
        source: Some(StatusSource::Master),
        ..TaskStatus::new(
            meson_mesos::types::TaskId::new(task(1).to_string()),
            TaskState::Error,
        )
    };
    let out = world.tell(Input::Event(Event::Update(Update { status })));
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(world.broker.live(), 1);
}

#[test]
fn item_15_an_end_told_by_reconciliation_leaves_the_task_known_until_its_result_comes() {
    let mut world = World::launched(1);
    let status = TaskStatus {
        reason: Some(StatusReason::Reconciliation),
        source: Some(StatusSource::Master),
        ..TaskStatus::new(
            meson_mesos::types::TaskId::new(task(1).to_string()),
            TaskState::Finished,
        )
    };
    world.tell(Input::Event(Event::Update(Update { status })));
    assert_eq!(world.broker.live(), 1);
    let out = world.update(1, TaskState::Finished, Some(b"2"));
    assert!(
        out.iter()
            .any(|o| matches!(o, Output::Signal(_, News::State { uuid: Some(_), .. }))),
        "{out:?}"
    );
    assert_eq!(world.broker.live(), 0);
}

#[test]
fn item_09_an_update_without_a_uuid_is_not_acknowledged() {
    let mut world = World::launched(1);
    let out = world.status(made_up(1, TaskState::Gone, StatusReason::AgentRemoved));
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::Signal(_, News::State { uuid: None, .. })))
    );
    assert_eq!(count(&out, is_acknowledge), 0);
}

#[test]
fn item_09_last_words_that_come_twice_are_acknowledged_twice_and_told_once() {
    let mut world = World::launched(1);
    world.update(1, TaskState::Finished, Some(b"2"));
    world.tell(Input::Acknowledge {
        task: task(1),
        agent: "a".to_owned(),
        uuid: b"2".to_vec(),
    });
    // The agent restarts, and says it once more.
    let out = world.update(1, TaskState::Finished, Some(b"2"));
    assert_eq!(
        (count(&out, is_acknowledge), states(&out).len()),
        (1, 0),
        "{out:?}"
    );
    assert_eq!((world.broker.live(), world.broker.stats().repeated), (0, 1));
}

#[test]
fn item_10_a_lost_task_that_comes_back_to_life_is_killed() {
    let mut world = World::launched(1);
    let out = world.status(made_up(1, TaskState::Lost, StatusReason::AgentRemoved));
    assert_eq!(failure(&out), Some(FailureClass::Platform));
    let out = world.status(made_up(
        1,
        TaskState::Running,
        StatusReason::AgentReregistered,
    ));
    assert!(states(&out).is_empty(), "its attempt is over: {out:?}");
    let out = world.wait(30_000);
    assert!(out.contains(&Output::AskWanted(task(1))), "{out:?}");
    let out = world.tell(Input::Verdict {
        task: task(1),
        wanted: Some(false),
    });
    assert_eq!(count(&out, is_kill), 1);
}

#[test]
fn item_11_out_of_sight_is_no_end_and_what_comes_back_goes_on() {
    let mut world = World::launched(1);
    let out = world.status(made_up(
        1,
        TaskState::Unreachable,
        StatusReason::AgentRemoved,
    ));
    assert_eq!(states(&out), [&AttemptState::Unreachable]);
    assert_eq!(world.broker.live(), 1);
    let out = world.status(made_up(
        1,
        TaskState::Running,
        StatusReason::AgentReregistered,
    ));
    assert_eq!(states(&out), [&AttemptState::Running { url: None }]);
}

#[test]
fn item_11_unknown_is_no_end_until_it_lasts() {
    let mut world = World::launched(1);
    let unknown = || made_up(1, TaskState::Unknown, StatusReason::Reconciliation);
    for _ in 0..3 {
        let out = world.status(unknown());
        assert_eq!(states(&out), [&AttemptState::Unreachable]);
        world.wait(33_000);
    }
    // A master with an in-memory registry: the agent is back.
    let out = world.status(made_up(1, TaskState::Running, StatusReason::Reconciliation));
    assert_eq!(states(&out), [&AttemptState::Running { url: None }]);
    for _ in 0..2 {
        assert_eq!(failure(&world.status(unknown())), None);
        world.wait(60_000);
    }
    let out = world.status(unknown());
    assert_eq!(failure(&out), Some(FailureClass::Platform));
    assert_eq!(world.broker.live(), 0);
}

#[test]
fn item_12_a_killed_attempt_out_of_sight_is_killed_when_it_is_seen_again() {
    let mut world = World::launched(1);
    world.status(made_up(
        1,
        TaskState::Unreachable,
        StatusReason::AgentRemoved,
    ));
    let out = world.tell(Input::Kill {
        task: task(1),
        agent: None,
    });
    assert_eq!(count(&out, is_kill), 1);
    let kills: usize = (0..600).map(|_| count(&world.wait(1_000), is_kill)).sum();
    assert!((5..10).contains(&kills), "ever more seldom: {kills}");
    let out = world.status(made_up(
        1,
        TaskState::Running,
        StatusReason::AgentReregistered,
    ));
    assert_eq!(count(&out, is_kill), 1, "at once");
}

#[test]
fn item_13_draining_costs_the_platform() {
    let mut world = World::launched(1);
    let killed = TaskStatus {
        source: Some(StatusSource::Agent),
        uuid: Some(Data(Bytes::from_static(b"2"))),
        ..made_up(1, TaskState::Killed, StatusReason::AgentDraining)
    };
    assert_eq!(failure(&world.status(killed)), Some(FailureClass::Platform));
}

#[test]
fn failures_of_executors_that_ended_well_are_no_news() {
    let mut world = World::launched(1);
    let failure = meson_mesos::scheduler::Failure {
        agent_id: Some(AgentId::new("a")),
        executor_id: Some(meson_mesos::types::ExecutorId::new("meson-1")),
        status: Some(0),
    };
    assert!(world.tell(Input::Event(Event::Failure(failure))).is_empty());
    assert_eq!(world.broker.live(), 1);
}

#[test]
fn item_15_a_failure_that_the_master_tells_costs_nobody_until_its_update_says_whose_it_is() {
    // An answer to a question, and what is said by itself when an agent is back.
    for reason in [
        StatusReason::Reconciliation,
        StatusReason::AgentReregistered,
    ] {
        let mut world = World::launched(1);
        let out = world.status(made_up(1, TaskState::Failed, reason));
        let data = Bytes::new();
        assert_eq!(
            states(&out),
            [&AttemptState::Finished { data }],
            "its result is awaited"
        );
        assert_eq!(world.broker.live(), 1);
        let out = world.update(1, TaskState::Failed, Some(b"2"));
        assert_eq!(failure(&out), Some(FailureClass::Step));
        assert_eq!(world.broker.live(), 0);
    }
}
