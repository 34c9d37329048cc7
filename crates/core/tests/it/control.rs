//! Cancel, retry, recovery.

use meson_core::ids::Attempt;
use meson_core::run::{
    Effect, Event, FailureClass, Input, Outcome, Rejected, RunState, Seat, StepState, recover, view,
};

use crate::flow::{all, each, numbers, repeat, seq, step};
use crate::world::{World, at};

fn cancel() -> Input {
    Input::Cancel {
        reason: "enough".to_owned(),
    }
}

#[test]
fn a_cancelled_run_ends_when_its_last_attempt_has() {
    let mut world =
        World::begin(all([step("a"), step("b").retries(3), seq([step("c"), step("d")])]).define());
    world.fail("b", FailureClass::Step);
    world.feed(cancel());
    assert_eq!(
        world.live_names(),
        ["a", "c"],
        "nothing ran for b: it waited to be tried again"
    );
    world.succeed("c");
    assert_eq!(world.step_record(&at(5, &[])), None, "nothing new begins");
    world.end("a", Outcome::Killed);
    assert_eq!(world.state(), RunState::Cancelled);
    assert_eq!(world.status().error.as_deref(), Some("enough"));
    assert_eq!(
        world.try_feed(cancel()),
        Err(Rejected::Ended {
            state: RunState::Cancelled
        })
    );
}

#[test]
fn a_wide_run_is_cancelled_in_parts() {
    let mut world = World::begin(each("x", numbers(1_000), step("a")).define());
    for _ in 0..3 {
        world.feed(Input::Continue);
    }
    let mut killed = 0;
    let mut events = world.feed(cancel());
    loop {
        killed += events
            .iter()
            .filter(|event| matches!(event, Event::KillRequested { .. }))
            .count();
        assert!(events.len() < 300);
        if world.status().todo == 0 {
            break;
        }
        events = world.feed(Input::Continue);
    }
    assert_eq!(killed, 1_000);
}

#[test]
fn a_run_that_goes_on_cannot_be_retried() {
    let mut world = World::begin(step("a").define());
    assert_eq!(
        world.try_feed(Input::Retry { from: None }),
        Err(Rejected::StillRunning)
    );
    world.succeed("a");
    assert_eq!(
        world.try_feed(Input::Retry { from: None }),
        Err(Rejected::NothingToRetry)
    );
}

#[test]
fn a_retry_runs_what_failed_and_keeps_what_succeeded() {
    let flow = seq([
        step("a"),
        each("x", numbers(3), seq([step("b"), step("c")])).tolerating(0.9),
        step("d"),
    ]);
    let mut world = World::begin(flow.define());
    world.succeed("a");
    for place in ["b:0", "b:1", "b:2", "c:0"] {
        world.succeed(place);
    }
    world.fail("c:1", FailureClass::Step);
    world.fail("c:2", FailureClass::Step);
    world.fail("d", FailureClass::Step);
    assert_eq!(world.state(), RunState::Failed);

    world.feed(Input::Retry { from: None });
    assert_eq!(
        world.live(),
        [("d".to_owned(), String::new(), Attempt(2))],
        "the loop was done: it tolerates"
    );
    world.succeed("d");
    assert_eq!(world.state(), RunState::Succeeded);
}

#[test]
fn a_retry_goes_into_a_loop_for_its_failed_iterations_alone() {
    let mut world = World::begin(each("x", numbers(3), seq([step("b"), step("c")])).define());
    for place in ["b:0", "b:1", "b:2", "c:0", "c:2"] {
        world.succeed(place);
    }
    world.fail("c:1", FailureClass::Step);
    world.feed(Input::Retry { from: None });
    assert_eq!(world.live(), [("c".to_owned(), "1".to_owned(), Attempt(2))]);
    world.succeed("c:1");
    assert_eq!(world.state(), RunState::Succeeded);
}

#[test]
fn a_retry_from_a_step_runs_it_and_what_comes_after() {
    let flow = seq([
        step("a"),
        all([seq([step("b"), step("c")]), step("d")]),
        step("e"),
    ]);
    let mut world = World::begin(flow.define());
    for place in ["a", "b", "c", "d", "e"] {
        world.succeed(place);
    }
    let from = Some(world.node("c"));
    world.feed(Input::Retry { from });
    assert_eq!(world.live(), [("c".to_owned(), String::new(), Attempt(2))]);
    world.succeed("c");
    assert_eq!(
        world.live(),
        [("e".to_owned(), String::new(), Attempt(2))],
        "d stays done"
    );
    world.succeed("e");
    assert_eq!(world.state(), RunState::Succeeded);
}

#[test]
fn a_retry_from_a_step_of_a_loop_runs_it_in_every_iteration() {
    let mut world = World::begin(each("x", numbers(2), seq([step("b"), step("c")])).define());
    for place in ["b:0", "b:1", "c:0", "c:1"] {
        world.succeed(place);
    }
    let from = Some(world.node("c"));
    world.feed(Input::Retry { from });
    assert_eq!(world.live_names(), ["c:0", "c:1"]);
}

#[test]
fn a_repeat_that_ran_out_of_rounds_gets_as_many_again() {
    let mut world = World::begin(repeat(step("a"), "a.out > 5", 2).define());
    world.succeed("a:0");
    world.succeed("a:1");
    world.feed(Input::Retry { from: None });
    for place in ["a:2", "a:3"] {
        assert_eq!(world.live_names(), [place]);
        world.succeed(place);
    }
    assert_eq!(world.state(), RunState::Failed);
}

#[test]
fn a_retry_clears_the_step_budgets_and_counts_attempts_on() {
    let mut world = World::begin(step("a").retries(1).define());
    world.fail("a", FailureClass::Step);
    world.fire("a");
    world.fail("a", FailureClass::Step);
    world.feed(Input::Retry { from: None });
    world.fail("a", FailureClass::Step);
    assert_eq!(world.state(), RunState::Running, "it has its retry again");
    world.fire("a");
    assert_eq!(world.live(), [("a".to_owned(), String::new(), Attempt(4))]);
}

#[test]
fn recovery_asks_for_all_that_must_be_going_on() {
    let flow = all([
        step("a"),
        step("b").retries(1),
        step("c").produces("model", "m-1"),
        step("d"),
    ]);
    let mut world = World::begin(flow.define());
    let agent = Input::Launching {
        instance: at(1, &[]),
        attempt: Attempt(1),
        pool: "us".to_owned(),
        agent: "s7".to_owned(),
        host: "h".to_owned(),
        mates: Vec::new(),
    };
    world.feed(agent);
    world.fail("b", FailureClass::Step);
    let due = world.step_record(&at(2, &[])).unwrap().timer.unwrap();
    let effects = recover(&world.plan, &world.records);
    assert!(
        matches!(
            &effects[..],
            [
                Effect::StartAttempt { place: Some(place), .. },
                Effect::SetTimer { at, .. },
                Effect::LookUpArtifacts { artifacts, .. },
                Effect::StartAttempt { place: None, .. },
            ] if (place.pool.as_str(), place.agent.as_str()) == ("us", "s7") && *at == due && artifacts[0].id == "m-1"
        ),
        "{effects:#?}"
    );
    let mut fresh = World::new(step("a").define());
    fresh.crash();
    assert_eq!(fresh.pending, [Effect::Continue]);
    fresh.feed(Input::Continue);
    assert_eq!(fresh.live_names(), ["a"]);
}

#[test]
fn recovery_knows_where_all_of_a_gang_is() {
    let mut world = World::begin(step("a").with(|step| step.gang.tasks = 3).define());
    let seat = |agent: &str| Seat {
        agent: agent.to_owned(),
        host: format!("{agent}.host"),
    };
    let placed = |last: &str| Input::Launching {
        instance: at(0, &[]),
        attempt: Attempt(1),
        pool: "us".to_owned(),
        agent: "s1".to_owned(),
        host: "s1.host".to_owned(),
        mates: vec![seat("s2"), seat(last)],
    };
    assert_eq!(world.feed(placed("s3")).len(), 1);
    assert_eq!(world.feed(placed("s3")), [], "as was known");
    assert_eq!(
        world.feed(placed("s4")).len(),
        1,
        "not all of it is where it was"
    );
    let effects = recover(&world.plan, &world.records);
    let [
        Effect::StartAttempt {
            place: Some(place), ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:#?}")
    };
    assert_eq!(
        (place.agent.as_str(), &place.mates[..]),
        ("s1", &[seat("s2"), seat("s4")][..])
    );
    assert_eq!(
        view::run(&world.plan, &world.records).unwrap().steps[0].mates,
        ["s2.host", "s4.host"]
    );
    // The next attempt begins from nothing.
    world.fail("a", FailureClass::Platform);
    assert_eq!(world.step_record(&at(0, &[])).unwrap().place, None);
}

#[test]
fn a_branch_that_lost_is_not_retried_when_the_rest_is() {
    let flow = seq([crate::flow::any([step("a"), step("b")]), step("c")]);
    let mut world = World::begin(flow.define());
    world.succeed("a");
    world.end("b", Outcome::Killed);
    world.fail("c", FailureClass::Step);
    world.feed(Input::Retry { from: None });
    assert_eq!(world.live_names(), ["c"]);
    assert_eq!(
        world.step_record(&at(3, &[])).unwrap().state,
        StepState::Killed
    );
}
