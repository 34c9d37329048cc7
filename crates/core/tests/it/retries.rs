//! Who pays for failures, timeouts, and agents out of sight.

use meson_core::definition::Unreachable;
use meson_core::ids::Attempt;
use meson_core::run::record::KillReason;
use meson_core::run::{
    Effect, Event, Failure, FailureClass, Input, Late, Outcome, RunState, StepState,
};
use meson_core::units::Duration;
use serde_json::json;

use crate::flow::{seq, step};
use crate::world::{World, at, outputs};

#[test]
fn a_steps_own_failures_cost_its_retries() {
    let mut world = World::begin(step("a").retries(2).define());
    for attempt in 1..=2 {
        let events = world.fail("a", FailureClass::Step);
        assert!(
            matches!(events[..], [Event::AttemptFailed { .. }]),
            "{events:?}"
        );
        world.fire("a");
        assert_eq!(
            world.live(),
            [("a".to_owned(), String::new(), Attempt(attempt + 1))]
        );
    }
    world.fail("a", FailureClass::Step);
    assert_eq!(world.state(), RunState::Failed);
}

#[test]
fn losing_agents_costs_the_platform_and_never_the_step() {
    let mut world = World::begin(step("a").retries(1).define());
    for _ in 0..10 {
        world.fail("a", FailureClass::Platform);
        world.fire("a");
    }
    world.fail("a", FailureClass::Step);
    world.fire("a");
    assert_eq!(
        world.state(),
        RunState::Running,
        "the step's own retry was still there"
    );
    world.fail("a", FailureClass::Platform);
    assert_eq!(
        world.state(),
        RunState::Failed,
        "the platform's budget is spent"
    );
}

#[test]
fn what_cannot_help_is_not_tried() {
    let mut world = World::begin(step("a").retries(5).define());
    let failure = Failure {
        class: FailureClass::Step,
        message: "no such file".to_owned(),
        retryable: false,
    };
    world.end("a", Outcome::Failed(failure));
    assert_eq!(world.state(), RunState::Failed);
}

#[test]
fn an_attempt_that_runs_too_long_is_killed_and_not_tried_again() {
    let mut world = World::begin(
        step("a")
            .retries(5)
            .timeout(Duration::from_secs(60))
            .define(),
    );
    world.run_on("a");
    let events = world.fire("a");
    assert!(
        matches!(
            events[..],
            [Event::KillRequested {
                reason: KillReason::Timeout,
                ..
            }]
        ),
        "{events:?}"
    );
    world.end("a", Outcome::Killed);
    assert_eq!(
        world.step_record(&at(0, &[])).unwrap().state,
        StepState::TimedOut
    );
    assert_eq!(
        world.status().error.unwrap(),
        "step a took too long: it ran longer than its timeout of 1m"
    );
}

#[test]
fn a_timer_that_fires_early_is_set_again() {
    let mut world = World::begin(step("a").timeout(Duration::from_secs(60)).define());
    world.run_on("a");
    world.pending.clear();
    world.feed(Input::Timer {
        instance: at(0, &[]),
        attempt: Attempt(1),
    });
    assert!(
        matches!(world.pending[..], [Effect::SetTimer { at, .. }] if at.0 == 61_000),
        "{:?}",
        world.pending
    );
}

#[test]
fn an_attempt_out_of_sight_is_replaced_and_the_late_comer_killed() {
    let mut world = World::begin(step("a").define());
    world.run_on("a");
    world.feed(Input::Unreachable {
        instance: at(0, &[]),
        attempt: Attempt(1),
        reason: None,
    });
    world.pending.clear();
    world.fire("a");
    let expected = [
        Effect::KillAttempt {
            instance: at(0, &[]),
            attempt: Attempt(1),
        },
        Effect::StartAttempt {
            instance: at(0, &[]),
            attempt: Attempt(2),
            place: None,
        },
    ];
    assert_eq!(world.pending, expected);

    world.pending.clear();
    let events = world.feed(Input::Running {
        instance: at(0, &[]),
        attempt: Attempt(1),
        url: None,
    });
    assert!(
        matches!(
            events[..],
            [Event::LateUpdate {
                update: Late::Alive,
                ..
            }]
        ),
        "{events:?}"
    );
    assert_eq!(
        world.pending,
        [Effect::KillAttempt {
            instance: at(0, &[]),
            attempt: Attempt(1)
        }]
    );
}

#[test]
fn an_attempt_that_comes_back_in_time_goes_on() {
    let mut world = World::begin(step("a").timeout(Duration::from_secs(3_600)).define());
    world.run_on("a");
    world.feed(Input::Unreachable {
        instance: at(0, &[]),
        attempt: Attempt(1),
        reason: None,
    });
    world.now.0 += 1_000;
    world.run_on("a");
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(
        (record.state, record.timer.unwrap().0),
        (StepState::Running, 1_000 + 3_600_000)
    );
}

#[test]
fn a_late_update_is_recorded_and_changes_nothing() {
    let mut world = World::begin(seq([step("a").retries(1), step("b")]).define());
    world.fail("a", FailureClass::Step);
    world.fire("a");
    let before = world.records.clone();
    let outcome = Outcome::Succeeded {
        outputs: outputs(json!(1)),
    };
    let events = world.feed(Input::Ended {
        instance: at(1, &[]),
        attempt: Attempt(1),
        outcome,
        usage: None,
    });
    assert!(
        matches!(
            events[..],
            [Event::LateUpdate {
                update: Late::Succeeded,
                ..
            }]
        ),
        "{events:?}"
    );
    assert_eq!(world.records, before);
}

#[test]
fn nothing_is_known_of_attempts_that_never_were() {
    let mut world = World::begin(step("a").define());
    for (instance, attempt) in [
        (at(0, &[]), 2),
        (at(0, &[]), 0),
        (at(0, &[1]), 1),
        (at(7, &[]), 1),
    ] {
        assert!(
            world
                .try_feed(Input::Requested {
                    instance,
                    attempt: Attempt(attempt)
                })
                .is_err()
        );
    }
}

#[test]
fn repeated_word_costs_no_event() {
    let mut world = World::begin(step("a").define());
    let (instance, attempt) = (at(0, &[]), Attempt(1));
    let launching = Input::Launching {
        instance: instance.clone(),
        attempt,
        pool: "eu".to_owned(),
        agent: "1".to_owned(),
        host: "h".to_owned(),
        mates: Vec::new(),
    };
    for input in [
        Input::Requested {
            instance: instance.clone(),
            attempt,
        },
        launching,
        Input::Running {
            instance: instance.clone(),
            attempt,
            url: None,
        },
        Input::Unreachable {
            instance,
            attempt,
            reason: None,
        },
    ] {
        assert_eq!(world.feed(input.clone()).len(), 1, "{input:?}");
        assert_eq!(world.feed(input.clone()), [], "{input:?}");
    }
    assert_eq!(
        world.feed(Input::Requested {
            instance: at(0, &[]),
            attempt
        }),
        [],
        "it is past that"
    );
}

#[test]
fn item_12_unreachable_policy_replaces_after_the_steps_own_time() {
    let policy = Unreachable::ReplaceAfter(Duration::from_secs(40));
    let mut world = World::begin(step("a").with(|step| step.unreachable = policy).define());
    world.run_on("a");
    let since = world.now.0;
    world.feed(Input::Unreachable {
        instance: at(0, &[]),
        attempt: Attempt(1),
        reason: None,
    });
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(record.timer.unwrap().0, since + 40_000);
    world.fire("a");
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(record.attempt, Attempt(2));
    assert_eq!(
        record.spent[FailureClass::Platform as usize],
        1,
        "the platform pays"
    );
    assert_eq!(record.spent[FailureClass::Step as usize], 0);
}

#[test]
fn item_12_unreachable_policy_waits_for_ever_if_told_to() {
    let mut world = World::begin(
        step("a")
            .with(|step| step.unreachable = Unreachable::Wait)
            .define(),
    );
    world.run_on("a");
    world.feed(Input::Unreachable {
        instance: at(0, &[]),
        attempt: Attempt(1),
        reason: None,
    });
    assert_eq!(world.step_record(&at(0, &[])).unwrap().timer, None);
    world.run_on("a");
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(
        (record.state, record.attempt),
        (StepState::Running, Attempt(1))
    );
}

#[test]
fn item_12_unreachable_policy_waits_no_longer_than_the_timeout_of_the_step() {
    let mut world = World::begin(
        step("a")
            .timeout(Duration::from_secs(3_600))
            .with(|step| step.unreachable = Unreachable::Wait)
            .define(),
    );
    world.run_on("a");
    world.feed(Input::Unreachable {
        instance: at(0, &[]),
        attempt: Attempt(1),
        reason: None,
    });
    world.fire("a");
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(record.state, StepState::TimedOut);
}

#[test]
fn item_12_unreachable_policy_to_wait_does_not_hold_up_a_cancelled_run() {
    let mut world = World::begin(
        step("a")
            .with(|step| step.unreachable = Unreachable::Wait)
            .define(),
    );
    world.run_on("a");
    world.feed(Input::Unreachable {
        instance: at(0, &[]),
        attempt: Attempt(1),
        reason: None,
    });
    world.feed(Input::Cancel {
        reason: "enough".to_owned(),
    });
    world.fire("a");
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(record.state, StepState::Killed);
}

#[test]
fn item_13_out_of_memory_is_counted_apart_from_other_failures() {
    let mut world = World::begin(step("a").retries(1).define());
    world.fail("a", FailureClass::OutOfMemory);
    world.fire("a");
    world.fail("a", FailureClass::Step);
    world.fire("a");
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!((record.spent, record.attempt), ([1, 0, 0, 1], Attempt(3)));
    world.fail("a", FailureClass::OutOfMemory);
    world.fire("a");
    assert_eq!(
        world.state(),
        RunState::Running,
        "more memory is the platform's to give, whatever the step has spent"
    );
    world.fail("a", FailureClass::Step);
    assert_eq!(world.state(), RunState::Failed);
}
