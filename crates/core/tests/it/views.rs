//! A run as people see it.

use meson_core::run::{FailureClass, Input, Outcome, view};
use serde_json::{Value, json};

use crate::flow::{all, any, each, numbers, repeat, seq, step, when};
use crate::world::World;

fn states(world: &World) -> String {
    let run = view::run(&world.plan, &world.records).unwrap();
    run.steps
        .iter()
        .map(|step| format!("{}={}", step.name, step.state))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn steps_without_a_record_take_their_state_from_what_is_around() {
    let flow = seq([
        when("params.flag", step("a"), Some(step("b"))),
        all([step("c"), step("d")]),
        seq([step("e"), step("f")]),
    ]);
    let mut world = World::new(flow.define());
    assert_eq!(
        states(&world),
        "a=waiting b=waiting c=waiting d=waiting e=waiting f=waiting"
    );
    world.feed(Input::Start);
    assert_eq!(
        states(&world),
        "a=ready b=skipped c=waiting d=waiting e=waiting f=waiting"
    );
    world.succeed("a");
    world.succeed("c");
    world.run_on("d");
    assert_eq!(
        states(&world),
        "a=succeeded b=skipped c=succeeded d=running e=activated f=waiting"
    );
    world.fail("d", FailureClass::Step);
    assert_eq!(
        states(&world),
        "a=succeeded b=skipped c=succeeded d=failed e=upstream_failed f=upstream_failed"
    );
}

#[test]
fn what_lost_is_killed_and_what_it_did_not_reach_is_skipped() {
    let mut world = World::begin(any([step("a"), seq([step("b"), step("c")])]).define());
    world.succeed("a");
    world.end("b", Outcome::Killed);
    assert_eq!(states(&world), "a=succeeded b=killed c=skipped");
}

#[test]
fn the_json_has_the_promised_names() {
    let mut world = World::begin(seq([step("a"), each("x", numbers(3), step("b"))]).define());
    world.run_on("a");
    world.succeed_with("a", json!({"k": 1}));
    world.succeed("b:0");
    world.fail("b:1", FailureClass::Step);
    let json = serde_json::to_value(view::run(&world.plan, &world.records).unwrap()).unwrap();
    assert_eq!(json["id"], "w-1");
    assert_eq!(json["workflow"], "w");
    assert_eq!(json["state"], "running");
    assert_eq!(json["params"]["cohort"], "2026-11");
    assert_eq!(json["started_at"], "1970-01-01T00:00:01.000Z");
    assert_eq!(json["finished_at"], Value::Null);
    let (a, b) = (&json["steps"][0], &json["steps"][1]);
    assert_eq!(
        (&a["name"], &a["kind"], &a["state"], &a["attempts"]),
        (
            &json!("a"),
            &json!("command"),
            &json!("succeeded"),
            &json!(1)
        )
    );
    assert_eq!(
        (&a["outputs"], &a["error"], &a["iterations"]),
        (&json!({"out": {"k": 1}}), &Value::Null, &Value::Null)
    );
    assert_eq!(
        b["iterations"],
        json!({"total": 3, "succeeded": 1, "failed": 1, "running": 1})
    );
    world.succeed("b:2");
    let run = view::run(&world.plan, &world.records).unwrap();
    assert_eq!(
        (run.state.as_str(), run.steps[1].state.as_str()),
        ("failed", "failed")
    );
    assert!(run.finished_at.is_some() && run.error.is_some());
}

#[test]
fn iterations_come_in_pages() {
    let mut world = World::begin(each("x", numbers(25), step("a")).define());
    world.succeed_with("a:3", json!("three"));
    let node = world.node("a");
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = view::iterations(&world.plan, &world.records, node, after.as_ref(), 10);
        seen.extend(page.items);
        match page.next {
            Some(next) => after = Some(next.parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(
        (seen[3].iteration.as_str(), seen[3].state.as_str()),
        ("3", "succeeded")
    );
    assert_eq!(
        (&seen[3].outputs["out"], &seen[3].items["x"]),
        (&json!("three"), &json!(3))
    );
}

#[test]
fn a_repeat_shows_its_newest_round() {
    let mut world = World::begin(
        repeat(
            seq([step("a"), each("x", numbers(2), step("b"))]),
            "false",
            3,
        )
        .define(),
    );
    for place in ["a:0", "b:0-0", "b:0-1"] {
        world.succeed(place);
    }
    world.succeed("a:1");
    world.succeed("b:1-0");
    let run = view::run(&world.plan, &world.records).unwrap();
    assert_eq!(run.steps[0].round, Some(2));
    let b = run.steps[1].iterations.unwrap();
    assert_eq!((b.total, b.succeeded, b.running, b.failed), (2, 1, 1, 0));
}
