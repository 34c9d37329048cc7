//! Whole runs.

use std::collections::BTreeMap;
use std::time::Duration;

use meson_core::expression::ArtifactRef;
use meson_core::run::FailureClass;
use meson_core::units::Bytes;
use meson_engine::Coverage;
use meson_protocol::task::TaskPayload;
use serde_json::{Value, json};

use crate::flows::{
    child, for_each, for_each_of, noop, parallel, producer, sequence, task, workflow,
};
use crate::scripted::{Cluster, Fate};
use crate::world::{World, request, until};

fn outputs(values: &[(&str, Value)]) -> Fate {
    Fate::Succeed(
        values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    )
}

#[actix::test]
async fn a_pipeline_with_branches_and_a_loop_over_a_steps_output_runs_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(Duration::ZERO, |task, payload: &TaskPayload| {
        match task.step.as_str() {
            "wrangle" => outputs(&[("regions", json!(["eu", "us", "apac"]))]),
            "train_one" => {
                assert!(payload.spec.items["item"].is_string());
                outputs(&[("rmse", json!(task.path.0[0]))])
            }
            _ => outputs(&[]),
        }
    });
    let world = World::open(dir.path(), &cluster).await;
    let mut wrangle = task("wrangle");
    wrangle.outputs = vec!["regions".to_owned()];
    let mut train_one = task("train_one");
    train_one.outputs = vec!["rmse".to_owned()];
    let flow = sequence([
        noop("begin").into(),
        wrangle.into(),
        parallel([
            task("train_all").into(),
            for_each_of("wrangle.regions", train_one),
        ]),
        task("publish").into(),
    ]);
    let run = world.submit("recs-1", &workflow("recs", flow)).await;
    assert_eq!(world.ended(&run).await.state, "succeeded");

    cluster.assert_launched_once_each();
    let order = cluster.steps_launched();
    assert_eq!(order.first().map(String::as_str), Some("wrangle"));
    assert_eq!(
        order.last().map(String::as_str),
        Some("publish"),
        "after both branches"
    );
    assert_eq!(order.len(), 6);
    let view = serde_json::to_value(world.engine.run(&run).await.unwrap()).unwrap();
    let train = &view["steps"].as_array().unwrap()[3];
    assert_eq!(train["iterations"]["succeeded"], 3, "{train:#}");
    let page = world
        .engine
        .iterations(&run, "train_one", None, 2)
        .await
        .unwrap();
    assert_eq!(page.items[1].outputs["rmse"], 1);
    let rest = world
        .engine
        .iterations(&run, "train_one", page.next.as_deref(), 2)
        .await
        .unwrap();
    assert_eq!(
        (rest.items.len(), rest.items[0].iteration.as_str()),
        (1, "2")
    );
    world.close().await;
}

#[actix::test]
async fn a_failing_step_is_tried_again_and_then_fails_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(Duration::ZERO, |task, _| {
        match (task.step.as_str(), task.attempt.0) {
            ("flaky", 1) | ("hopeless", _) => Fate::Fail(FailureClass::Step),
            _ => outputs(&[]),
        }
    });
    let world = World::open(dir.path(), &cluster).await;
    let mut hopeless = task("hopeless");
    hopeless.retries = 0;
    let flow = sequence([task("flaky").into(), hopeless.into(), task("never").into()]);
    let run = world.submit("w-1", &workflow("w", flow)).await;
    assert_eq!(world.ended(&run).await.state, "failed");
    assert_eq!(cluster.steps_launched(), ["flaky", "flaky", "hopeless"]);
    cluster.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn many_runs_of_noops_go_on_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &Cluster::willing()).await;
    let flow = || sequence((0..5).map(|n| noop(&format!("s{n}")).into()));
    let mut runs = Vec::new();
    for n in 0..40 {
        runs.push(
            world
                .submit(&format!("w-{n}"), &workflow("w", flow()))
                .await,
        );
    }
    for run in &runs {
        assert_eq!(world.ended(run).await.state, "succeeded");
    }
    let first = world
        .engine
        .runs(None, 25, Some("w"), Some("succeeded"), Coverage::Whole)
        .await
        .unwrap();
    let second = world
        .engine
        .runs(first.next.as_deref(), 25, Some("w"), None, Coverage::Whole)
        .await
        .unwrap();
    let mut listed: Vec<_> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|run| run.id.clone())
        .collect();
    assert_eq!((listed.len(), second.next), (40, None));
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), 40, "each is listed once");
    assert!(
        world
            .engine
            .runs(None, 25, Some("other"), None, Coverage::Whole)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    until("the runs' actors are gone", async || {
        world.engine.metrics_text().contains("meson_active_runs 0")
    })
    .await;
    world.close().await;
}

#[actix::test]
async fn a_loop_of_a_thousand_noops_ends() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &Cluster::willing()).await;
    let flow = sequence([for_each(1_000, None, noop("one")), noop("end").into()]);
    let run = world.submit("wide-1", &workflow("wide", flow)).await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    world.close().await;
}

#[actix::test]
async fn an_artifact_is_registered_and_stands_in_for_the_step_that_makes_it() {
    let dir = tempfile::tempdir().unwrap();
    let blob = ArtifactRef {
        name: "model".to_owned(),
        digest: format!("sha256:{}", "0".repeat(64)),
        bytes: Bytes(3),
        directory: false,
    };
    let left = blob.clone();
    let cluster = Cluster::new(Duration::ZERO, move |_, payload| {
        let names = payload
            .spec
            .produces
            .iter()
            .map(|produced| produced.name.clone());
        Fate::Succeed(names.map(|name| (name, left.to_value())).collect())
    });
    let world = World::open(dir.path(), &cluster).await;
    let definition = workflow("w", producer("train", "model", "global"));
    let first = world.submit("w-1", &definition).await;
    assert_eq!(world.ended(&first).await.state, "succeeded");
    let artifact = world.engine.artifact("model", "global").await.unwrap();
    assert_eq!(
        (artifact.digest, artifact.task.as_str()),
        (blob.digest, "w-1.train.1")
    );
    assert_eq!(
        world
            .engine
            .artifacts(None, None, 10, Coverage::Whole)
            .await
            .unwrap()
            .items
            .len(),
        1
    );

    let second = world.submit("w-2", &definition).await;
    assert_eq!(world.ended(&second).await.state, "succeeded");
    let view = world.engine.run(&second).await.unwrap();
    assert_eq!(view.run.steps[0].state, "memoized");
    assert_eq!(cluster.steps_launched().len(), 1, "it was not run again");

    let mut forced = request("w-3", &definition);
    forced.force = true;
    let third = world.engine.submit(forced).await.unwrap().id;
    assert_eq!(world.ended(&third).await.state, "succeeded");
    assert_eq!(cluster.steps_launched().len(), 2, "unless somebody insists");
    world.close().await;
}

#[actix::test]
async fn a_step_can_be_a_run_of_another_workflow() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::willing();
    let world = World::open(dir.path(), &cluster).await;
    let inner = workflow("inner", sequence([task("a").into(), noop("b").into()]));
    let flow = sequence([child("sub", inner).into(), task("after").into()]);
    let run = world.submit("outer-1", &workflow("outer", flow)).await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(cluster.steps_launched(), ["a", "after"]);
    let inner = world
        .engine
        .runs(None, 10, Some("inner"), None, Coverage::Whole)
        .await
        .unwrap();
    assert_eq!(inner.items.len(), 1);
    world.close().await;
}

#[actix::test]
async fn a_child_run_that_fails_fails_its_step() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(Duration::ZERO, |_, _| Fate::Fail(FailureClass::Step));
    let world = World::open(dir.path(), &cluster).await;
    let mut bad = task("bad");
    bad.retries = 0;
    let mut sub = child("sub", workflow("inner", bad));
    sub.retries = 0;
    let run = world.submit("outer-1", &workflow("outer", sub)).await;
    assert_eq!(world.ended(&run).await.state, "failed");
    let view = world.engine.run(&run).await.unwrap();
    let error = view.run.steps[0].error.clone().unwrap();
    assert!(
        error.contains("inner-") && error.contains("failed"),
        "{error}"
    );
    world.close().await;
}

#[actix::test]
async fn the_history_tells_what_happened_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(Duration::ZERO, |_, _| Fate::Succeed(BTreeMap::new()));
    let world = World::open(dir.path(), &cluster).await;
    let run = world.submit("w-1", &workflow("w", task("a"))).await;
    world.ended(&run).await;
    let events = world
        .engine
        .events(&run, 0, 1_000, Duration::ZERO)
        .await
        .unwrap();
    let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        (kinds[0], *kinds.last().unwrap()),
        ("run_started", "run_ended")
    );
    let at = |kind| {
        kinds
            .iter()
            .position(|k| *k == kind)
            .unwrap_or_else(|| panic!("{kinds:?}"))
    };
    assert!(at("attempt_launching") < at("attempt_running"));
    let launching = &events[at("attempt_launching")];
    assert_eq!(launching.text, "a: launching on host-1 in pool default");
    assert_eq!(
        (launching.step.as_deref(), launching.attempt),
        (Some("a"), Some(1))
    );
    world.close().await;
}
