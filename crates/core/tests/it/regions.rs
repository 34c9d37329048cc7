//! What becomes of attempts whose pool cannot be reached.

use meson_core::definition::Unreachable;
use meson_core::ids::Attempt;
use meson_core::run::{Effect, Event, FailureClass, Input, Late, StepState, recover};
use meson_core::units::Duration;

use crate::flow::step;
use crate::world::{World, at};

fn spilled(attempt: u32) -> Input {
    Input::Spilled {
        instance: at(0, &[]),
        attempt: Attempt(attempt),
        from: "eu".to_owned(),
        to: "us".to_owned(),
        reason: "pool eu was unreachable for 30s".to_owned(),
    }
}

fn launching(attempt: u32, pool: &str) -> Input {
    Input::Launching {
        instance: at(0, &[]),
        attempt: Attempt(attempt),
        pool: pool.to_owned(),
        agent: format!("{pool}-1"),
        host: "h".to_owned(),
        mates: Vec::new(),
    }
}

fn pool_lost(attempt: u32) -> Input {
    Input::Unreachable {
        instance: at(0, &[]),
        attempt: Attempt(attempt),
        reason: Some("pool eu was unreachable for 30s".to_owned()),
    }
}

/// The pool and the agent of the newest attempt.
fn place(world: &World) -> (String, String) {
    let record = world.step_record(&at(0, &[])).unwrap();
    let place = record.place.unwrap_or_default();
    (place.pool, place.agent)
}

#[test]
fn an_attempt_that_only_waits_moves_and_stays_the_same_attempt() {
    let mut world = World::begin(step("a").define());
    world.feed(Input::Requested {
        instance: at(0, &[]),
        attempt: Attempt(1),
    });
    let events = world.feed(spilled(1));
    assert!(
        matches!(&events[..], [Event::AttemptSpilled { to, .. }] if to == "us"),
        "{events:?}"
    );
    assert_eq!(place(&world), ("us".to_owned(), String::new()));
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(
        (record.state, record.attempt),
        (StepState::Requested, Attempt(1))
    );
    // Whoever takes the run over asks where the attempt waits.
    assert!(matches!(
        &recover(&world.plan, &world.records)[..],
        [Effect::StartAttempt { place: Some(place), .. }] if place.pool == "us" && place.agent.is_empty()
    ));
    world.feed(launching(1, "us"));
    assert_eq!(place(&world), ("us".to_owned(), "us-1".to_owned()));
}

#[test]
fn an_attempt_that_was_placed_does_not_move() {
    let mut world = World::begin(step("a").define());
    world.feed(launching(1, "eu"));
    assert_eq!(world.feed(spilled(1)), []);
    world.run_on("a");
    assert_eq!(world.feed(spilled(1)), []);
    assert_eq!(place(&world), ("eu".to_owned(), "eu-1".to_owned()));
}

#[test]
fn an_attempt_that_is_to_end_does_not_move() {
    let mut world = World::begin(step("a").define());
    world.feed(Input::Cancel {
        reason: "enough".to_owned(),
    });
    assert_eq!(world.feed(spilled(1)), []);
}

#[test]
fn an_attempt_in_a_lost_pool_is_replaced_after_a_while_at_the_platforms_expense() {
    let policy = Unreachable::ReplaceAfter(Duration::from_secs(7));
    let mut world = World::begin(step("a").with(|step| step.unreachable = policy).define());
    world.feed(launching(1, "eu"));
    world.run_on("a");
    let lost_at = world.now;
    let events = world.feed(pool_lost(1));
    assert!(
        matches!(
            &events[..],
            [Event::AttemptUnreachable {
                reason: Some(_),
                ..
            }]
        ),
        "{events:?}"
    );
    assert_eq!(world.feed(pool_lost(1)), [], "once is enough");
    world.pending.clear();
    world.fire("a");
    assert_eq!(world.now.0 - lost_at.0, 7_000);
    let record = world.step_record(&at(0, &[])).unwrap();
    let paid = |class| record.spent[class as usize];
    assert_eq!(record.attempt, Attempt(2));
    assert_eq!(
        (paid(FailureClass::Step), paid(FailureClass::Platform)),
        (0, 1)
    );
    assert_eq!(record.place, None, "the next one chooses anew");
    world.feed(launching(2, "us"));

    // The old one comes back: it is told to end, and its result is void.
    let events = world.feed(Input::Running {
        instance: at(0, &[]),
        attempt: Attempt(1),
        url: None,
    });
    assert!(matches!(
        events[..],
        [Event::LateUpdate {
            update: Late::Alive,
            ..
        }]
    ));
    assert_eq!(place(&world), ("us".to_owned(), "us-1".to_owned()));
    assert_eq!(
        world.feed(spilled(1)).len(),
        1,
        "late word, which moves nothing"
    );
    assert_eq!(place(&world), ("us".to_owned(), "us-1".to_owned()));
    world.succeed("a");
}

#[test]
fn an_attempt_whose_pool_comes_back_in_time_goes_on() {
    let mut world = World::begin(step("a").define());
    world.feed(launching(1, "eu"));
    world.run_on("a");
    world.feed(pool_lost(1));
    world.run_on("a");
    let record = world.step_record(&at(0, &[])).unwrap();
    assert_eq!(
        (record.state, record.attempt, record.timer),
        (StepState::Running, Attempt(1), None)
    );
}
