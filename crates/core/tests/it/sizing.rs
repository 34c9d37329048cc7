//! Steps that learn what to ask for, and attempts that want memory.

use meson_core::ids::Attempt;
use meson_core::run::{
    Event, Failure, FailureClass, Outcome, Record, RecordKey, Records, RunState, StepState,
    launch_spec, view,
};
use meson_core::sizing::{LEARN_FIRST, Learned, Samples, Usage, Why};
use meson_core::units::Bytes;
use serde_json::json;

use crate::flow::{Flow, each, numbers, step};
use crate::world::{World, at, outputs};

const fn mib(n: u64) -> Bytes {
    Bytes::from_mib(n)
}

fn done() -> Outcome {
    Outcome::Succeeded {
        outputs: outputs(json!(1)),
    }
}

fn starved() -> Outcome {
    Outcome::Failed(Failure {
        class: FailureClass::OutOfMemory,
        message: "out of memory".to_owned(),
        retryable: true,
    })
}

/// What the newest attempt of an iteration is launched with.
fn asks(world: &World, place: &str) -> Bytes {
    let (name, path) = place.split_once(':').unwrap_or((place, ""));
    let path: Vec<u32> = path.split('-').filter_map(|n| n.parse().ok()).collect();
    let instance = at(world.node(name).0, &path);
    let attempt = world.step_record(&instance).unwrap().attempt;
    launch_spec(&world.plan, &world.records, &instance, attempt)
        .unwrap()
        .resources
        .mem
}

fn sweep(count: usize) -> World {
    World::begin(each("n", numbers(count), step("a").auto(1_024, 8_192)).define())
}

#[test]
fn a_for_each_learns_from_its_first_iterations_what_to_ask_for_the_rest() {
    let mut world = sweep(40);
    assert_eq!(
        world.live().len(),
        LEARN_FIRST as usize,
        "only some run while nothing is known"
    );
    assert_eq!(asks(&world, "a:0"), mib(1_024));
    for n in 0..2 {
        world.end_using(&format!("a:{n}"), done(), 300);
    }
    assert_eq!(world.live().len(), LEARN_FIRST as usize);
    assert_eq!(asks(&world, "a:9"), mib(1_024));
    world.end_using("a:2", done(), 310);
    assert_eq!(world.live().len(), 37, "now enough is known");
    assert_eq!(asks(&world, "a:10"), mib(448));
    for n in 3..40 {
        world.end_using(&format!("a:{n}"), done(), 300);
    }
    assert_eq!(world.state(), RunState::Succeeded);
}

#[test]
fn a_loop_whose_first_iterations_teach_nothing_goes_on_all_the_same() {
    let mut world = sweep(40);
    for n in 0..LEARN_FIRST {
        // Nobody measured them.
        world.succeed(&format!("a:{n}"));
    }
    assert_eq!(world.live().len(), 32);
}

#[test]
fn what_earlier_runs_used_is_asked_for_from_the_start() {
    let learned = Learned {
        samples: 12,
        mem_p95: mib(400),
        mem_max: mib(410),
        ..Learned::default()
    };
    let flow = each("n", numbers(40), step("a").auto(1_024, 8_192));
    let mut world = World::with(flow.define(), |header| {
        header.learned.insert("a".to_owned(), learned);
    });
    world.feed(meson_core::run::Input::Start);
    assert_eq!(world.live().len(), 40, "nothing has to be tried out");
    assert_eq!(asks(&world, "a:39"), mib(640));
    let asked = world.step_record(&at(world.node("a").0, &[39])).unwrap();
    assert_eq!(asked.asked.unwrap().why, Why::EarlierRuns { samples: 12 });
}

#[test]
fn an_attempt_that_ran_out_of_memory_is_tried_again_with_more_at_the_platforms_cost() {
    let mut world = World::begin(step("a").auto(1_024, 3_000).retries(0).define());
    for expected in [2_048, 3_000] {
        let events = world.end_using("a", starved(), 1_000);
        let Some(Event::AttemptFailed { failure, .. }) = events.last() else {
            panic!("{events:?}")
        };
        assert_eq!(failure.class, FailureClass::OutOfMemory);
        assert!(
            failure.message.contains("the next attempt gets"),
            "{}",
            failure.message
        );
        world.fire("a");
        assert_eq!(asks(&world, "a"), mib(expected));
    }
    let shown = view::run(&world.plan, &world.records).unwrap();
    assert_eq!(shown.steps[0].retries_used.out_of_memory, 2);
    assert_eq!(shown.steps[0].retries_used.step, 0);
    let asked = shown.steps[0].asked.clone().unwrap();
    assert_eq!(asked.mem_bytes, mib(3_000).0);
    assert!(asked.why.contains("ran out of memory"), "{}", asked.why);
    // No more may be given, and the step has no retries of its own.
    let events = world.end_using("a", starved(), 2_900);
    let Some(Event::StepEnded { failure, .. }) = events
        .iter()
        .find(|event| matches!(event, Event::StepEnded { .. }))
    else {
        panic!("{events:?}")
    };
    let failure = failure.clone().unwrap();
    assert_eq!(failure.class, FailureClass::Step);
    assert!(failure.message.contains("max_mem"), "{}", failure.message);
    assert_eq!(world.state(), RunState::Failed);
}

#[test]
fn what_was_given_for_want_of_memory_survives_a_lost_agent() {
    let mut world = World::begin(step("a").auto(1_024, 8_192).define());
    world.end_using("a", starved(), 1_000);
    world.fire("a");
    world.fail("a", FailureClass::Platform);
    world.fire("a");
    assert_eq!(asks(&world, "a"), mib(2_048));
    world.end_using("a", starved(), 2_000);
    world.fire("a");
    assert_eq!(asks(&world, "a"), mib(4_096));
}

#[test]
fn a_stated_amount_is_never_exceeded_and_its_lack_is_the_steps_own_failure() {
    let stated = |flow: Flow| {
        flow.with(|step| {
            step.resources.mem = mib(512);
            step.resources.stated = true;
        })
    };
    let mut world = World::begin(stated(step("a").retries(1)).define());
    world.end_using("a", starved(), 512);
    let record = world.step_record(&at(world.node("a").0, &[])).unwrap();
    assert_eq!(record.spent, [1, 0, 0, 0]);
    let message = &record.failure.unwrap().message;
    assert!(message.contains("resources = auto"), "{message}");
    world.fire("a");
    assert_eq!(asks(&world, "a"), mib(512));
    world.end_using("a", starved(), 512);
    assert_eq!(world.state(), RunState::Failed);
}

#[test]
fn where_nothing_is_stated_our_own_guess_is_corrected() {
    let mut world = World::begin(step("a").retries(0).define());
    for expected in [512, 1_024, 2_048] {
        world.end_using("a", starved(), 200);
        world.fire("a");
        assert_eq!(asks(&world, "a"), mib(expected));
    }
    world.end_using("a", starved(), 2_000);
    assert_eq!(world.state(), RunState::Failed);
}

#[test]
fn what_an_attempt_used_is_in_its_record_and_in_the_sum_of_its_step() {
    let mut world = World::begin(each("n", numbers(3), step("a")).define());
    for (n, used) in [(0, 100), (1, 300), (2, 200)] {
        world.end_using(&format!("a:{n}"), done(), used);
    }
    let node = world.node("a");
    let record = world.step_record(&at(node.0, &[1])).unwrap();
    assert_eq!(record.usage.unwrap().peak_rss_bytes, 300 << 20);
    let shown = view::run(&world.plan, &world.records).unwrap();
    let usage = shown.steps[0].usage.unwrap();
    assert_eq!(usage.attempts, 3);
    assert_eq!(
        (usage.peak_rss_bytes.min, usage.peak_rss_bytes.max),
        (100 << 20, 300 << 20)
    );
    let page = view::iterations(&world.plan, &world.records, node, None, 10);
    assert_eq!(page.items[2].usage.unwrap().peak_rss_bytes, 200 << 20);
    assert_eq!(page.items[2].state, StepState::Succeeded.name());
    // A failed attempt's usage is told, and teaches nothing.
    let Some(Record::Samples(samples)) = world
        .records
        .get(&RecordKey::Samples(node))
        .map(std::borrow::Cow::into_owned)
    else {
        panic!("no samples")
    };
    let mut expected = Samples::default();
    for used in [100, 300, 200] {
        let usage = Usage {
            peak_rss_bytes: used << 20,
            cpu_ms: 900,
            wall_ms: 1_000,
        };
        expected.add(meson_core::sizing::End::Succeeded, mib(256), &usage);
    }
    assert_eq!(*samples, expected);
    assert_eq!(record.attempt, Attempt(1));
}
