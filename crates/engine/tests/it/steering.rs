//! What people ask of runs: submit, cancel, retry, explain, bundles; and wrong requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meson_core::run::FailureClass;
use meson_engine::Coverage;
use meson_engine::ErrorKind;
use meson_engine::machine::digest_of;

use crate::flows::{child, for_each, noop, sequence, task, workflow};
use crate::scripted::{Cluster, Fate};
use crate::world::{World, request, until};

fn hanging() -> Arc<Cluster> {
    Cluster::new(Duration::ZERO, |_, _| Fate::Hang)
}

#[actix::test]
async fn the_same_submission_is_accepted_once_and_another_under_its_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &hanging()).await;
    let definition = workflow("w", task("a"));
    let first = world
        .engine
        .submit(request("w-1", &definition))
        .await
        .unwrap();
    let again = world
        .engine
        .submit(request("w-1", &definition))
        .await
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(
        world
            .engine
            .runs(None, 10, None, None, Coverage::Whole)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let other = request("w-1", &workflow("w", task("b")));
    let refused = world.engine.submit(other).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.kind()),
        ("run_exists", ErrorKind::Conflict)
    );
    let mut unnamed = request("w-1", &definition);
    unnamed.id = None;
    let chosen = world.engine.submit(unnamed).await.unwrap().id;
    assert!(
        chosen.as_str().starts_with("w-") && chosen != first.id,
        "{chosen}"
    );
    world.close().await;
}

#[actix::test]
async fn wrong_requests_are_answered_with_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &hanging()).await;
    let engine = &world.engine;
    let nobody = "nobody-1".parse().unwrap();
    assert_eq!(
        engine.run(&nobody).await.unwrap_err().code(),
        "run_not_found"
    );
    assert_eq!(
        engine.cancel(&nobody, "").await.unwrap_err().code(),
        "run_not_found"
    );

    let mut broken = workflow("w", task("a"));
    broken.nodes[0].parent = Some(meson_core::ids::NodeId(7));
    assert_eq!(
        engine
            .submit(request("w-1", &broken))
            .await
            .unwrap_err()
            .code(),
        "workflow_rejected"
    );
    let mut extra = request("w-1", &workflow("w", task("a")));
    extra.params = BTreeMap::from([("cohort".to_owned(), 1.into())]);
    assert_eq!(
        engine.submit(extra).await.unwrap_err().code(),
        "workflow_rejected"
    );
    let mut bundled = request("w-1", &workflow("w", task("a")));
    bundled.bundle = Some(digest_of(b"never uploaded"));
    assert_eq!(
        engine.submit(bundled).await.unwrap_err().code(),
        "bundle_not_found"
    );
    assert!(
        engine
            .runs(None, 10, None, None, Coverage::Whole)
            .await
            .unwrap()
            .items
            .is_empty(),
        "nothing was left"
    );

    let run = world.submit("w-1", &workflow("w", task("train_all"))).await;
    let error = engine.explain(&run, "train_al", None).await.unwrap_err();
    assert_eq!(
        (error.code(), error.remedy().as_str()),
        ("step_not_found", "did you mean train_all?")
    );
    let error = engine
        .explain(&run, "train_all", Some("3"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "iteration_not_found");
    assert_eq!(
        engine
            .explain(&run, "train_all", Some("x"))
            .await
            .unwrap_err()
            .code(),
        "bad_input"
    );
    assert_eq!(
        engine.retry(&run, None).await.unwrap_err().code(),
        "wrong_state"
    );
    assert_eq!(
        engine
            .runs(Some("x"), 10, None, None, Coverage::Whole)
            .await
            .unwrap_err()
            .code(),
        "bad_input"
    );
    world.close().await;
}

#[actix::test]
async fn a_cancelled_run_kills_what_runs_and_starts_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = hanging();
    let world = World::open(dir.path(), &cluster).await;
    let inner = child("sub", workflow("inner", task("deep")));
    let flow = sequence([
        crate::flows::parallel([for_each(3, None, task("a")), inner.into()]),
        task("never").into(),
    ]);
    let run = world.submit("w-1", &workflow("w", flow)).await;
    until("all run", async || cluster.steps_launched().len() == 4).await;
    world.engine.cancel(&run, "not needed").await.unwrap();
    assert_eq!(world.ended(&run).await.state, "cancelled");
    world.engine.cancel(&run, "again").await.unwrap();
    until("all are killed", async || cluster.tasks().killed.len() == 4).await;
    assert_eq!(cluster.steps_launched().len(), 4);
    let inner = world
        .engine
        .runs(None, 10, Some("inner"), None, Coverage::Whole)
        .await
        .unwrap();
    assert_eq!(world.ended(&inner.items[0].id).await.state, "cancelled");
    until("the actors are gone", async || {
        let text = world.engine.metrics_text();
        text.contains("meson_active_steps 0") && text.contains("meson_active_runs 0")
    })
    .await;
    world.close().await;
}

#[actix::test]
async fn a_failed_run_goes_on_by_a_retry_and_repeats_only_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&broken);
    let cluster = Cluster::new(Duration::ZERO, move |task, _| {
        if task.step == "b" && still.load(Ordering::SeqCst) {
            Fate::Fail(FailureClass::Step)
        } else {
            Fate::Succeed(BTreeMap::new())
        }
    });
    let world = World::open(dir.path(), &cluster).await;
    let mut b = task("b");
    b.retries = 0;
    let flow = sequence([task("a").into(), b.into(), noop("c").into()]);
    let run = world.submit("w-1", &workflow("w", flow)).await;
    assert_eq!(world.ended(&run).await.state, "failed");
    broken.store(false, Ordering::SeqCst);
    world.engine.retry(&run, None).await.unwrap();
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(cluster.steps_launched(), ["a", "b", "b"]);
    cluster.assert_launched_once_each();
    let error = world.engine.retry(&run, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "nothing of it failed");
    world.engine.retry(&run, Some("b")).await.unwrap();
    assert_eq!(world.ended(&run).await.state, "succeeded");
    assert_eq!(cluster.steps_launched(), ["a", "b", "b", "b"]);
    world.close().await;
}

#[actix::test]
async fn a_step_that_does_not_run_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::new(Duration::ZERO, |task, _| match task.step.as_str() {
        "big" => Fate::NoPlace,
        _ => Fate::Hang,
    });
    let world = World::open(dir.path(), &cluster).await;
    let flow = crate::flows::parallel([
        sequence([task("big").into(), task("after").into()]),
        for_each(5, Some(2), task("many")),
    ]);
    let run = world.submit("w-1", &workflow("w", flow)).await;
    until("the loop's first two run", async || {
        cluster.steps_launched().len() == 2
    })
    .await;
    until("the broker has the other", async || {
        world.engine.explain(&run, "big", None).await.unwrap().state == "requested"
    })
    .await;
    let big = world.engine.explain(&run, "big", None).await.unwrap();
    assert_eq!(big.reasons[0].text, "mem: wants 64g, at most 8g free");
    assert_eq!(big.would_fit, ["mem = 8g"]);
    assert!(big.summary.contains("64g"), "{}", big.summary);
    let after = world.engine.explain(&run, "after", None).await.unwrap();
    assert_eq!(
        (after.state.as_str(), after.summary.as_str()),
        ("waiting", "it waits for big (requested)")
    );
    let many = world.engine.explain(&run, "many", Some("4")).await.unwrap();
    assert!(
        many.summary.contains("max_parallel is 2"),
        "{}",
        many.summary
    );
    let many = world.engine.explain(&run, "many", None).await.unwrap();
    assert!(
        many.summary.starts_with("iteration 0: "),
        "{}",
        many.summary
    );
    world.close().await;
}

#[actix::test]
async fn bundles_are_stored_in_pieces_and_read_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = hanging();
    let world = World::open(dir.path(), &cluster).await;
    let bytes: Bytes = (0..1_500_000u32)
        .map(|n| (n % 251) as u8)
        .collect::<Vec<u8>>()
        .into();
    let digest = digest_of(&bytes);
    let engine = &world.engine;
    assert_eq!(
        engine.bundle(&digest).await.unwrap_err().code(),
        "bundle_not_found"
    );
    let wrong = engine
        .put_bundle(&digest_of(b"other"), bytes.clone())
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), "digest_mismatch");
    let large = Bytes::from(vec![0; (16 << 20) + 1]);
    let refused = engine
        .put_bundle(&digest_of(&large), large)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    engine.put_bundle(&digest, bytes.clone()).await.unwrap();
    engine.put_bundle(&digest, bytes.clone()).await.unwrap();
    let empty = digest_of(b"");
    engine.put_bundle(&empty, Bytes::new()).await.unwrap();
    assert!(engine.bundle(&empty).await.unwrap().is_empty());
    world.close().await;

    let world = World::open(dir.path(), &cluster).await;
    assert_eq!(world.engine.bundle(&digest).await.unwrap(), bytes);
    let mut bundled = request("w-1", &workflow("w", task("a")));
    bundled.bundle = Some(digest);
    world.engine.submit(bundled).await.unwrap();
    world.close().await;
}

#[actix::test]
async fn a_token_is_the_attempts_own_and_the_node_tells_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let keep = Arc::clone(&seen);
    let cluster = Cluster::new(Duration::ZERO, move |task, payload| {
        *keep.lock().unwrap() = Some((task.clone(), payload.token.clone()));
        Fate::Hang
    });
    let world = World::open(dir.path(), &cluster).await;
    world.submit("w-1", &workflow("w", task("a"))).await;
    until("the broker was asked", async || {
        seen.lock().unwrap().is_some()
    })
    .await;
    let (task, token) = seen.lock().unwrap().clone().unwrap();
    assert!(world.engine.verify_task_token(&task, &token));
    assert!(
        !world
            .engine
            .verify_task_token(&"w-1.a.2".parse().unwrap(), &token)
    );
    assert!(world.engine.health().ready, "{:?}", world.engine.health());
    let view = world.engine.cluster();
    assert_eq!((view.nodes.len(), view.shards.len()), (1, 2));
    assert!(view.shards.iter().all(|shard| shard.leader == Some(1)));
    world.close().await;
}

#[actix::test]
async fn a_long_poll_ends_with_news_or_with_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path(), &hanging()).await;
    let run = world.submit("w-1", &workflow("w", task("a"))).await;
    until("it runs", async || {
        let view = world.engine.run(&run).await.unwrap();
        view.live.iter().any(|live| live.state == "running")
    })
    .await;
    let seen = world
        .engine
        .events(&run, 0, 1_000, Duration::ZERO)
        .await
        .unwrap();
    let last = seen.last().unwrap().seq;
    let none = world
        .engine
        .events(&run, last, 10, Duration::from_millis(20))
        .await
        .unwrap();
    assert!(none.is_empty());
    let waiting = world.engine.events(&run, last, 10, Duration::from_secs(30));
    let cancel = async {
        tokio::task::yield_now().await;
        world.engine.cancel(&run, "").await.unwrap();
    };
    let (news, ()) = tokio::join!(waiting, cancel);
    assert_eq!(news.unwrap()[0].kind, "cancel_requested");
    world.close().await;
}
