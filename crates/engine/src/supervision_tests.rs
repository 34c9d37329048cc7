//! A panic in each kind of actor, injected by a message: the run goes on and nothing is launched
//! twice. Too many of them: leadership is given up, and taken up again.

use std::time::Duration;

use meson_actors::ChildRef;
use meson_core::ids::RunId;

use crate::flows::{for_each, noop, sequence, task, workflow};
use crate::guardian::{PanicGuardian, Wake};
use crate::layout::Place;
use crate::scripted::{Cluster, Fate};
use crate::step::{PanicStep, StepActor};
use crate::workflow::{Children, LoseProposal, PanicWorkflow, WorkflowActor};
use crate::world::{World, until};

async fn actor_of(world: &World, run: &RunId) -> Option<ChildRef<WorkflowActor>> {
    let shard = world.engine.node.shard_at(&Place::run(run))?;
    let guardian = world.engine.node.guardian(shard.id())?;
    guardian.send(Wake(run.clone())).await.ok()?
}

/// The attempts that the run's actor has actors for, once there are so many.
async fn steps_of(world: &World, run: &RunId, count: usize) -> Vec<ChildRef<StepActor>> {
    let mut found = Vec::new();
    until("the attempts have their actors", async || {
        let Some(actor) = actor_of(world, run).await else {
            return false;
        };
        let Ok(supervisor) = actor.send(Children).await else {
            return false;
        };
        found = supervisor
            .keys()
            .iter()
            .filter_map(|key| supervisor.child(key.as_str()))
            .collect();
        found.len() == count
    })
    .await;
    found
}

async fn running(world: &World, run: &RunId, count: usize) {
    until("the steps run", async || {
        let run = world.engine.run(run).await.unwrap();
        run.live
            .iter()
            .filter(|live| live.state == "running")
            .count()
            == count
    })
    .await;
}

/// A cluster where steps run until they are released.
fn gated() -> std::sync::Arc<Cluster> {
    Cluster::new(Duration::from_millis(300), |_, _| {
        Fate::Succeed(std::collections::BTreeMap::new())
    })
}

#[actix::test]
async fn a_step_actor_that_panics_is_replaced_and_adopts_its_attempt() {
    let (dir, cluster) = (tempfile::tempdir().unwrap(), gated());
    let world = World::open(dir.path(), &cluster).await;
    let run = world
        .submit("w-1", &workflow("w", for_each(2, None, task("a"))))
        .await;
    running(&world, &run, 2).await;
    for step in steps_of(&world, &run, 2).await {
        let _ = step.try_send(PanicStep);
    }
    assert_eq!(world.ended(&run).await.state, "succeeded");
    cluster.assert_launched_once_each();
    assert_eq!(
        cluster.tasks().launches.len(),
        2,
        "no attempt was lost either"
    );
    let text = world.engine.metrics_text();
    assert!(
        text.contains("meson_actor_restarts_total{actor=\"step\"} 2"),
        "{text}"
    );
    world.close().await;
}

#[actix::test]
async fn a_runs_actor_that_panics_is_rebuilt_from_the_store() {
    let (dir, cluster) = (tempfile::tempdir().unwrap(), gated());
    let world = World::open(dir.path(), &cluster).await;
    let flow = sequence([
        noop("a").into(),
        for_each(3, None, task("b")),
        noop("c").into(),
    ]);
    let run = world.submit("w-1", &workflow("w", flow)).await;
    running(&world, &run, 3).await;
    actor_of(&world, &run)
        .await
        .unwrap()
        .try_send(PanicWorkflow)
        .unwrap();
    assert_eq!(world.ended(&run).await.state, "succeeded");
    cluster.assert_launched_once_each();
    assert_eq!(cluster.tasks().launches.len(), 3);
    world.close().await;
}

#[actix::test]
async fn runs_whose_actors_went_get_them_again_although_the_same_term_goes_on() {
    let (dir, cluster) = (tempfile::tempdir().unwrap(), gated());
    let world = World::open_with(dir.path(), &cluster, 1, |_| {}).await;
    let shard = world.node.shards()[0].clone();
    let term = shard.led_here().await.unwrap();
    let mut runs = Vec::new();
    for id in ["w-1", "w-2"] {
        let flow = for_each(2, None, task("a"));
        runs.push(world.submit(id, &workflow("w", flow)).await);
    }
    for run in &runs {
        running(&world, run, 2).await;
        let actor = actor_of(&world, run).await.unwrap();
        actor.try_send(LoseProposal).unwrap();
    }
    // Nobody asks for the runs: looking at a summary wakes no actor.
    for run in &runs {
        assert_eq!(world.ended(run).await.state, "succeeded");
    }
    cluster.assert_launched_once_each();
    assert_eq!(shard.led_here().await.unwrap(), term);
    world.close().await;
}

#[actix::test]
async fn a_guardian_that_panics_gives_up_its_term_and_starts_again() {
    let (dir, cluster) = (tempfile::tempdir().unwrap(), gated());
    let world = World::open_with(dir.path(), &cluster, 1, |_| {}).await;
    let run = world
        .submit("w-1", &workflow("w", for_each(2, None, task("a"))))
        .await;
    running(&world, &run, 2).await;
    let shard = world.node.shards()[0].clone();
    let before = shard.led_here().await.unwrap();
    world
        .engine
        .node
        .guardian(shard.id())
        .unwrap()
        .try_send(PanicGuardian)
        .unwrap();
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert!(
        shard.led_here().await.unwrap() > before,
        "another term began"
    );
    cluster.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn a_broker_that_panics_is_asked_again() {
    let (dir, cluster) = (tempfile::tempdir().unwrap(), Cluster::willing());
    cluster.tasks().panic_next = true;
    let world = World::open(dir.path(), &cluster).await;
    let run = world
        .submit("w-1", &workflow("w", for_each(3, None, task("a"))))
        .await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    cluster.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn too_many_panics_of_runs_give_up_the_term_and_too_many_of_those_the_node() {
    let (dir, cluster) = (
        tempfile::tempdir().unwrap(),
        Cluster::new(Duration::ZERO, |_, _| Fate::Hang),
    );
    let world = World::open_with(dir.path(), &cluster, 1, |options| {
        options.timing.guardian_intensity.restarts = 2;
    })
    .await;
    let run = world.submit("w-1", &workflow("w", task("a"))).await;
    running(&world, &run, 1).await;
    let shard = world.node.shards()[0].clone();
    let mut terms = vec![shard.led_here().await.unwrap()];
    let mut failures = world.engine.failures();
    let poison = async {
        loop {
            if let Some(actor) = actor_of(&world, &run).await {
                let _ = actor.send(PanicWorkflow).await;
            }
            let term = shard.led_here().await.unwrap();
            if terms.last() != Some(&term) {
                terms.push(term);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = poison => {}
        failed = failures.wait_for(Option::is_some) => {
            let reason = failed.unwrap().clone().unwrap();
            assert!(reason.contains("guardian"), "{reason}");
        }
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("the node never gave up"),
    }
    assert!(
        terms.len() >= 2,
        "leadership was given up on the way: {terms:?}"
    );
    assert!(!world.engine.health().ready);
    world.close().await;
}
