//! Steps with several regions, while pools are lost and come back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meson_core::definition::{Step, Unreachable};
use meson_core::ids::RunId;
use meson_core::units;
use meson_protocol::api::RunEvent;

use crate::flows::{sequence, task, workflow};
use crate::scripted::{Cluster, Fate, Regions};
use crate::world::{World, until};

/// How long a pool has to be out of reach here.
const PATIENCE: Duration = Duration::from_millis(150);

/// A pool in each of two regions.
struct Two {
    eu: Arc<Cluster>,
    us: Arc<Cluster>,
}

impl Two {
    fn willing() -> Self {
        Self {
            eu: Cluster::willing(),
            us: Cluster::willing(),
        }
    }

    async fn open(&self, dir: &Path, patience: Duration) -> World {
        let regions = vec![("eu", Arc::clone(&self.eu)), ("us", Arc::clone(&self.us))];
        World::open_with(dir, &self.eu, 2, |options| {
            options.brokers = Some(Arc::new(Regions(regions)));
            options.default_pool = "mesos-eu".to_owned();
            options.timing.spill = patience;
        })
        .await
    }

    fn assert_launched_once_each(&self) {
        self.eu.assert_launched_once_each();
        self.us.assert_launched_once_each();
    }
}

fn hanging() -> Arc<Cluster> {
    Cluster::new(Duration::ZERO, |_, _| Fate::Hang)
}

/// It succeeds after a while.
fn slow() -> Arc<Cluster> {
    Cluster::new(Duration::from_millis(300), |_, _| {
        Fate::Succeed(BTreeMap::new())
    })
}

fn anywhere(name: &str, regions: &[&str]) -> Step {
    Step {
        regions: regions.iter().map(ToString::to_string).collect(),
        unreachable: Unreachable::ReplaceAfter(units::Duration(200)),
        ..task(name)
    }
}

async fn history(world: &World, run: &RunId) -> Vec<RunEvent> {
    world
        .engine
        .events(run, 0, 1_000, Duration::ZERO)
        .await
        .unwrap()
}

fn of_kind<'a>(events: &'a [RunEvent], kind: &str) -> Vec<&'a RunEvent> {
    events.iter().filter(|event| event.kind == kind).collect()
}

async fn state_of(world: &World, run: &RunId) -> String {
    world.engine.run(run).await.unwrap().run.steps[0]
        .state
        .clone()
}

#[actix::test]
async fn a_step_goes_to_its_first_region_while_that_is_within_reach() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::willing();
    let world = two.open(dir.path(), PATIENCE).await;
    let flow = sequence([
        anywhere("a", &["eu", "us"]).into(),
        anywhere("b", &["us", "eu"]).into(),
        anywhere("c", &["us"]).into(),
        task("d").into(),
    ]);
    let run = world.submit("w-1", &workflow("w", flow)).await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(two.eu.steps_launched(), ["a", "d"]);
    assert_eq!(two.us.steps_launched(), ["b", "c"]);
    world.close().await;
}

#[actix::test]
async fn a_step_that_waits_in_a_lost_pool_goes_on_to_the_next_region_and_the_history_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::willing();
    two.eu.be_in_session(false);
    let world = two.open(dir.path(), PATIENCE).await;
    let flow = sequence([
        anywhere("a", &["eu", "us"]).into(),
        anywhere("b", &["eu", "us"]).into(),
    ]);
    let run = world.submit("w-1", &workflow("w", flow)).await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(two.us.steps_launched(), ["a", "b"]);
    assert!(two.eu.steps_launched().is_empty());
    let events = history(&world, &run).await;
    let spilled = of_kind(&events, "attempt_spilled");
    assert_eq!(spilled.len(), 2, "{events:#?}");
    assert!(
        spilled[0]
            .text
            .contains("from pool mesos-eu to pool mesos-us")
            && spilled[0].text.contains("no session"),
        "{}",
        spilled[0].text
    );
    assert!(
        of_kind(&events, "attempt_failed").is_empty(),
        "it cost nobody anything"
    );

    // It comes back, and new attempts prefer it again.
    two.eu.be_in_session(true);
    let run = world
        .submit("w-2", &workflow("w", anywhere("c", &["eu", "us"])))
        .await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(two.eu.steps_launched(), ["c"]);
    two.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn a_step_with_one_region_waits_until_its_pool_is_back_and_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::willing();
    two.eu.be_in_session(false);
    let world = two.open(dir.path(), PATIENCE).await;
    let run = world
        .submit("w-1", &workflow("w", anywhere("a", &["eu"])))
        .await;
    until("the step has been asked for", async || {
        state_of(&world, &run).await == "requested"
    })
    .await;
    let told = world.engine.explain(&run, "a", None).await.unwrap();
    assert!(
        told.summary
            .contains("pool mesos-eu has been out of reach for")
            && told.summary.contains("it may go nowhere else"),
        "{}",
        told.summary
    );
    two.eu.be_in_session(true);
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert!(two.us.steps_launched().is_empty());
    world.close().await;
}

#[actix::test]
async fn a_step_that_waits_says_where_it_goes_next_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::willing();
    two.eu.be_in_session(false);
    let world = two.open(dir.path(), Duration::from_secs(3_600)).await;
    let run = world
        .submit("w-1", &workflow("w", anywhere("a", &["eu", "us"])))
        .await;
    until("the broker of us has its session", async || {
        let told = world.engine.explain(&run, "a", None).await.unwrap();
        told.summary.contains("region us is next in 3")
    })
    .await;
    world.engine.cancel(&run, "enough").await.unwrap();
    assert_eq!(world.ended(&run).await.state, "cancelled");
    world.close().await;
}

#[actix::test]
async fn what_ran_in_a_lost_pool_is_replaced_elsewhere_and_its_late_word_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two {
        eu: hanging(),
        us: slow(),
    };
    let world = two.open(dir.path(), PATIENCE).await;
    let run = world
        .submit("w-1", &workflow("w", anywhere("a", &["eu", "us"])))
        .await;
    until("it runs in eu", async || {
        state_of(&world, &run).await == "running"
    })
    .await;
    two.eu.be_in_session(false);
    until("it was replaced in us", async || {
        !two.us.steps_launched().is_empty()
    })
    .await;
    // The old attempt is found while the new one runs: it is killed.
    two.eu.be_in_session(true);
    assert_eq!(world.ended(&run).await.state, "succeeded");
    let events = history(&world, &run).await;
    for kind in ["attempt_unreachable", "attempt_failed", "attempt_spilled"] {
        assert_eq!(of_kind(&events, kind).len(), 1, "{kind}: {events:#?}");
    }
    let failed = of_kind(&events, "attempt_failed")[0];
    assert!(
        failed.text.contains("the platform's fault"),
        "{}",
        failed.text
    );
    let step = &world.engine.run(&run).await.unwrap().run.steps[0];
    assert_eq!((step.attempts, step.pool.as_deref()), (2, Some("mesos-us")));
    until("the old attempt is killed", async || {
        two.eu.tasks().killed.iter().any(|task| task.attempt.0 == 1)
    })
    .await;
    two.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn what_runs_in_a_pool_that_comes_back_in_time_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two {
        eu: hanging(),
        us: Cluster::willing(),
    };
    let world = two.open(dir.path(), PATIENCE).await;
    let patient = Step {
        unreachable: Unreachable::Wait,
        ..anywhere("a", &["eu", "us"])
    };
    let run = world.submit("w-1", &workflow("w", patient)).await;
    until("it runs in eu", async || {
        state_of(&world, &run).await == "running"
    })
    .await;
    two.eu.be_in_session(false);
    until("it is out of sight", async || {
        state_of(&world, &run).await == "unreachable"
    })
    .await;
    let told = world.engine.explain(&run, "a", None).await.unwrap();
    assert!(told.summary.contains("out of reach"), "{}", told.summary);
    two.eu.be_in_session(true);
    until("it runs on", async || {
        state_of(&world, &run).await == "running"
    })
    .await;
    assert!(two.us.steps_launched().is_empty());
    world.engine.cancel(&run, "enough").await.unwrap();
    assert_eq!(world.ended(&run).await.state, "cancelled");
    two.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn what_is_not_wanted_any_more_does_not_wait_for_its_lost_pool_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two {
        eu: hanging(),
        us: Cluster::willing(),
    };
    let world = two.open(dir.path(), PATIENCE).await;
    let run = world
        .submit("w-1", &workflow("w", anywhere("a", &["eu"])))
        .await;
    until("it runs in eu", async || {
        state_of(&world, &run).await == "running"
    })
    .await;
    two.eu.be_in_session(false);
    world.engine.cancel(&run, "enough").await.unwrap();
    // From here on the core's own patience counts.
    until("it is out of sight", async || {
        state_of(&world, &run).await == "unreachable"
    })
    .await;
    world.close().await;
}

#[actix::test]
async fn another_leader_asks_the_pool_where_the_attempt_is() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two {
        eu: Cluster::willing(),
        us: slow(),
    };
    two.eu.be_in_session(false);
    let world = two.open(dir.path(), PATIENCE).await;
    let run = world
        .submit("w-1", &workflow("w", anywhere("a", &["eu", "us"])))
        .await;
    until("it was launched in us", async || {
        !two.us.steps_launched().is_empty()
    })
    .await;
    world.close().await;
    two.eu.be_in_session(true);
    let world = two.open(dir.path(), PATIENCE).await;
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert!(
        two.eu.steps_launched().is_empty(),
        "it was adopted where it was"
    );
    two.assert_launched_once_each();
    world.close().await;
}

#[actix::test]
async fn an_attempt_that_moved_and_waits_still_waits_there_under_another_leader() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two {
        eu: Cluster::willing(),
        us: Cluster::new(Duration::ZERO, |_, _| Fate::NoPlace),
    };
    two.eu.be_in_session(false);
    let world = two.open(dir.path(), PATIENCE).await;
    let run = world
        .submit("w-1", &workflow("w", anywhere("a", &["eu", "us"])))
        .await;
    until("it moved", async || {
        !of_kind(&history(&world, &run).await, "attempt_spilled").is_empty()
    })
    .await;
    world.close().await;
    two.eu.be_in_session(true);
    let world = two.open(dir.path(), PATIENCE).await;
    until("it is asked of us again", async || {
        let told = world.engine.explain(&run, "a", None).await.unwrap();
        told.summary.contains("next in the queue")
    })
    .await;
    assert!(two.eu.steps_launched().is_empty());
    // Now us is lost: the first region is within reach, and is next.
    two.us.be_in_session(false);
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(two.eu.steps_launched(), ["a"]);
    two.assert_launched_once_each();
    world.close().await;
}
