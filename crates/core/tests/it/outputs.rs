//! What steps leave, and what need not run because it was left before.

use std::collections::BTreeMap;

use meson_core::ids::Attempt;
use meson_core::run::{
    Effect, Input, LaunchKind, Outcome, RunState, StepState, claim, launch_spec,
};
use serde_json::{Value, json};

use crate::flow::{seq, step};
use crate::world::{World, at};

fn artifact() -> Value {
    json!({"$artifact": {"name": "m.bin", "digest": format!("sha256:{}", "0".repeat(64)), "bytes": 3}})
}

#[test]
fn a_declared_output_that_is_missing_fails_the_step_by_name() {
    let mut world = World::begin(step("a").retries(3).define());
    world.end(
        "a",
        Outcome::Succeeded {
            outputs: BTreeMap::new(),
        },
    );
    let error = world.status().error.unwrap();
    assert!(
        error.contains("did not write its output \"out\""),
        "{error}"
    );
}

#[test]
fn outputs_that_are_too_large_fail_the_step_by_name() {
    let mut world = World::begin(step("a").define());
    world.succeed_with("a", json!("x".repeat(70_000)));
    let error = world.status().error.unwrap();
    assert!(
        error.contains("its output \"out\" has 70002 bytes, at most 64k are allowed"),
        "{error}"
    );

    let mut world = World::begin(step("a").define());
    let many = (0..6)
        .map(|n| (format!("o{n}"), json!("x".repeat(50_000))))
        .chain([("out".to_owned(), json!(1))]);
    world.end(
        "a",
        Outcome::Succeeded {
            outputs: many.collect(),
        },
    );
    assert!(
        world
            .status()
            .error
            .unwrap()
            .contains("at most 256k are allowed")
    );
}

#[test]
fn a_step_whose_artifacts_exist_is_memoized() {
    let flow = seq([
        step("a").produces("model", "m-${{ params.cohort }}"),
        step("b").shell("use ${{ a.model }}"),
    ]);
    let mut world = World::begin(flow.define());
    let Effect::LookUpArtifacts { artifacts, .. } = &world.pending[0] else {
        panic!("{:?}", world.pending)
    };
    assert_eq!(
        (artifacts[0].name.as_str(), artifacts[0].id.as_str()),
        ("model", "m-2026-11")
    );

    let found = BTreeMap::from([
        ("out".to_owned(), json!(5)),
        ("model".to_owned(), artifact()),
    ]);
    world.feed(Input::ArtifactsLookedUp {
        instance: at(1, &[]),
        found: Some(found),
    });
    assert_eq!(
        world.step_record(&at(1, &[])).unwrap().state,
        StepState::Memoized
    );
    let spec = launch_spec(&world.plan, &world.records, &at(2, &[]), Attempt(1)).unwrap();
    let LaunchKind::Shell(text) = spec.kind else {
        panic!()
    };
    assert!(
        matches!(&text.0[1], meson_core::expression::Piece::Path(artifact) if artifact.name == "m.bin")
    );
}

#[test]
fn a_step_whose_artifacts_do_not_exist_or_lack_an_output_runs() {
    for found in [
        None,
        Some(BTreeMap::from([("model".to_owned(), artifact())])),
    ] {
        let mut world = World::begin(step("a").produces("model", "m").define());
        world.feed(Input::ArtifactsLookedUp {
            instance: at(0, &[]),
            found,
        });
        assert_eq!(world.live(), [("a".to_owned(), String::new(), Attempt(1))]);
    }
}

#[test]
fn a_forced_run_asks_nobody() {
    let mut world = World::with(step("a").produces("model", "m").define(), |header| {
        header.force = true
    });
    world.feed(Input::Start);
    assert!(
        matches!(world.pending[..], [Effect::StartAttempt { .. }]),
        "{:?}",
        world.pending
    );
}

#[test]
fn an_artifact_id_that_cannot_be_evaluated_fails_the_step() {
    let mut world =
        World::begin(seq([step("a"), step("b").produces("m", "${{ a.out.name }}")]).define());
    world.succeed("a");
    assert_eq!(world.state(), RunState::Failed);
    let error = world.status().error.unwrap();
    assert!(
        error.starts_with("step b failed: cannot evaluate `a.out.name`"),
        "{error}"
    );
}

#[test]
fn what_an_attempt_holds_is_what_it_was_launched_with_and_since_when_it_runs() {
    let flow = step("a").retries(1).with(|step| {
        step.sla = Some(meson_core::units::Duration::from_secs(60));
        step.timeout = Some(meson_core::units::Duration::from_secs(30));
    });
    let mut world = World::begin(flow.define());
    let holds =
        |world: &World, attempt| claim(&world.plan, &world.records, &at(0, &[]), Attempt(attempt));
    let spec = launch_spec(&world.plan, &world.records, &at(0, &[]), Attempt(1)).unwrap();
    let before = holds(&world, 1).unwrap();
    assert_eq!(before.started_at, None);
    assert_eq!(
        (
            before.resources,
            before.owner,
            before.lasts,
            before.deadline
        ),
        (spec.resources, spec.owner, spec.timeout, spec.deadline)
    );
    world.now.0 += 5_000;
    world.run_on("a");
    assert_eq!(holds(&world, 1).unwrap().started_at, Some(world.now));
    assert_eq!(holds(&world, 2), None, "there is no such attempt yet");
}

#[test]
fn a_launch_spec_has_everything_evaluated_and_stays_the_same() {
    let flow = step("a")
        .shell("train ${{ params.cohort }} $HOME $${{ x }}")
        .with(|step| {
            step.inputs.insert(
                "data".to_owned(),
                meson_core::expression::Template("${{ params.items }}".to_owned()),
            );
            step.sla = Some(meson_core::units::Duration::from_secs(60));
            step.preemptible = true;
            step.spread = Some(meson_core::matching::Spread::Zones);
        });
    let mut world = World::begin(flow.define());
    let spec = launch_spec(&world.plan, &world.records, &at(0, &[]), Attempt(1)).unwrap();
    let LaunchKind::Shell(text) = &spec.kind else {
        panic!()
    };
    assert_eq!(text.as_text(), Some("train 2026-11 $HOME ${{ x }}"));
    assert_eq!(spec.inputs["data"], json!(["a", "b", "c"]));
    assert_eq!(
        (spec.task.to_string().as_str(), spec.owner.as_str()),
        ("w-1.a.1", "team")
    );
    assert_eq!(
        spec.deadline.unwrap().0,
        61_000,
        "by its sla, from the run's start"
    );
    assert!(spec.preemptible && spec.spread == Some(meson_core::matching::Spread::Zones));
    world.now.0 += 5_000;
    world.run_on("a");
    assert_eq!(
        launch_spec(&world.plan, &world.records, &at(0, &[]), Attempt(1)).unwrap(),
        spec
    );
    assert!(launch_spec(&world.plan, &world.records, &at(0, &[]), Attempt(2)).is_err());
}
