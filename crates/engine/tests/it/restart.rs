//! The coordinator ends at any moment and opens its folder again: the run goes on, and no attempt
//! whose agent is known is launched a second time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::flows::{for_each, noop, sequence, task, workflow};
use crate::scripted::{Cluster, Fate};
use crate::world::{World, until};

#[actix::test]
async fn runs_go_on_over_restarts_at_any_moment_and_nothing_is_launched_twice() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(Duration::from_millis(3), |_, _| {
        Fate::Succeed(BTreeMap::new())
    });
    let flow = || {
        sequence([
            noop("begin").into(),
            for_each(
                20,
                Some(6),
                sequence([task("train").into(), noop("check").into()]),
            ),
            task("publish").into(),
        ])
    };
    let mut world = World::open(dir.path(), &cluster).await;
    let mut runs = Vec::new();
    for n in 0..3 {
        runs.push(
            world
                .submit(&format!("w-{n}"), &workflow("w", flow()))
                .await,
        );
    }
    // Moments from "nothing started" to "nearly done"; what happens in them differs each time.
    for pause in [0, 1, 2, 3, 5, 8, 13, 21, 4, 7, 11] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        world.close().await;
        world = World::open(dir.path(), &cluster).await;
    }
    for run in &runs {
        assert_eq!(world.ended(run).await.state, "succeeded");
        let view = world.engine.run(run).await.unwrap();
        let train = view
            .run
            .steps
            .iter()
            .find(|step| step.name == "train")
            .unwrap();
        assert_eq!(train.iterations.unwrap().succeeded, 20);
    }
    cluster.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn an_attempt_that_ends_while_nobody_listens_is_heard_of_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(Duration::from_millis(50), |_, _| {
        Fate::Succeed(BTreeMap::new())
    });
    let world = World::open(dir.path(), &cluster).await;
    let run = world
        .submit(
            "w-1",
            &workflow("w", sequence([task("a").into(), task("b").into()])),
        )
        .await;
    until("it was launched", async || {
        cluster.steps_launched() == ["a"]
    })
    .await;
    world.close().await;
    let world = World::open(dir.path(), &cluster).await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(cluster.steps_launched(), ["a", "b"]);
    cluster.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn runs_that_have_ended_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::willing();
    let world = World::open(dir.path(), &cluster).await;
    let run = world.submit("w-1", &workflow("w", task("a"))).await;
    world.ended(&run).await;
    let before = serde_json::to_value(world.engine.run(&run).await.unwrap()).unwrap();
    world.close().await;
    let world = World::open(dir.path(), &cluster).await;
    let after = serde_json::to_value(world.engine.run(&run).await.unwrap()).unwrap();
    assert_eq!(before, after);
    world.close().await;
}
