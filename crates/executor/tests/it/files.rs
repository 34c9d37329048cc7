//! Bundles, inputs and artifacts.

use std::path::PathBuf;

use meson_artifacts::bundle::{self, Packing};
use meson_core::expression::{ArtifactRef, Piece, ResolvedText};
use meson_core::run::{FailureClass, LaunchKind};
use serde_json::json;

use crate::agent::Agent;
use crate::support::{Coordinator, produces, shell, store};

#[tokio::test]
async fn the_bundle_is_the_working_directory_and_is_fetched_once() {
    let agent = Agent::start().await;
    let coordinator = Coordinator::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("say.sh"),
        "echo \"said=\\\"$1\\\"\" >> $MESON_OUTPUT; rm say.sh\n",
    )
    .unwrap();
    let (digest, bytes) =
        bundle::pack(folder.path(), &[PathBuf::from("say.sh")], Packing::Gzip).unwrap();
    coordinator
        .books
        .lock()
        .unwrap()
        .bundles
        .insert(digest.to_string(), bytes.to_vec());
    for attempt in 1..4 {
        let mut payload = shell(&format!("r-1.a.{attempt}"), "sh say.sh hello");
        payload.spec.outputs = vec!["said".to_owned()];
        payload.bundle = Some(digest.to_string());
        // The first one is down.
        payload.coordinators = vec!["http://127.0.0.1:9".to_owned(), coordinator.server.url()];
        assert_eq!(
            agent.succeed(&payload).await.outputs["said"],
            json!("hello")
        );
    }
    assert_eq!(coordinator.books.lock().unwrap().bundle_requests, 1);
}

#[tokio::test]
async fn a_bundle_that_is_not_what_its_digest_says_is_refused() {
    let agent = Agent::start().await;
    let coordinator = Coordinator::start().await;
    let digest = format!("sha256:{}", "0".repeat(64));
    coordinator
        .books
        .lock()
        .unwrap()
        .bundles
        .insert(digest.clone(), b"something else".to_vec());
    let mut payload = shell("r-1.a.1", "true");
    payload.bundle = Some(digest);
    payload.coordinators = vec![coordinator.server.url()];
    let failure = agent.fail(&payload).await;
    assert_eq!(failure.class, FailureClass::Platform);
    assert!(failure.message.contains("mismatch"), "{failure:?}");
}

#[tokio::test]
async fn artifacts_travel_from_one_step_to_the_next() {
    let agent = Agent::start().await;
    let blobs = tempfile::tempdir().unwrap();
    let script = r#"
        printf 'weights' > "$MESON_ARTIFACT_GLOBAL_MODEL"
        mkdir -p "$MESON_ARTIFACT_PLOTS/sub"; echo 1 > "$MESON_ARTIFACT_PLOTS/sub/a.txt"
        echo 'id,score' > "ratings table.csv"
        echo 'ratings={"$file":"ratings table.csv"}' >> "$MESON_OUTPUT"
        echo 'parts=[{"$file":"ratings table.csv"}, 7]' >> "$MESON_OUTPUT""#;
    let mut first = shell("r-1.train.1", script);
    first.store = store(blobs.path());
    first.spec.outputs = vec!["ratings".to_owned(), "parts".to_owned()];
    first.spec.produces = vec![produces("global-model"), produces("plots")];
    let made = agent.succeed(&first).await.outputs;
    let ratings = ArtifactRef::from_value(&made["ratings"]).unwrap();
    assert_eq!(
        (ratings.name.as_str(), ratings.bytes.0, ratings.directory),
        ("ratings table.csv", 9, false)
    );
    assert!(ArtifactRef::from_value(&made["plots"]).unwrap().directory);
    assert_eq!(
        ArtifactRef::from_value(&made["global-model"]).unwrap().name,
        "global-model"
    );
    assert_eq!(
        ArtifactRef::from_value(&made["parts"][0]).unwrap().digest,
        ratings.digest
    );

    // As inputs, as a parameter, in the command's text, and inside a list.
    let mut second = shell("r-1.check.1", "");
    second.store = store(blobs.path());
    second.spec.inputs = [
        ("model".to_owned(), made["global-model"].clone()),
        ("plots".to_owned(), made["plots"].clone()),
        ("parts".to_owned(), made["parts"].clone()),
    ]
    .into();
    second.spec.params = [("table".to_owned(), made["ratings"].clone())].into();
    let piece = |text: &str| Piece::Text(text.to_owned());
    second.spec.kind = LaunchKind::Shell(ResolvedText(vec![
        piece("set -e; test \"$(cat "),
        Piece::Path(ratings),
        piece(
            r#")" = id,score
            test "$(cat "$MESON_INPUT_MODEL")" = weights; test "$(cat "$MESON_INPUT_PLOTS/sub/a.txt")" = 1
            test "$(cat "$MESON_PARAM_TABLE")" = id,score
            test "$(stat -c %a "$MESON_INPUT_MODEL")" = 444
            grep -q '^\["/.*/ratings table.csv",7\]$' "$MESON_INPUT_PARTS""#,
        ),
    ]));
    agent.succeed(&second).await;
}

#[tokio::test]
async fn an_artifact_that_was_promised_and_not_made_is_named() {
    let agent = Agent::start().await;
    let blobs = tempfile::tempdir().unwrap();
    let mut payload = shell("r-1.a.1", "true");
    payload.store = store(blobs.path());
    payload.spec.produces = vec![produces("model")];
    let failure = agent.fail(&payload).await;
    assert!(
        failure.message.contains("MESON_ARTIFACT_MODEL"),
        "{failure:?}"
    );
    assert_eq!(failure.class, FailureClass::Step);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_the_platforms_failure() {
    let agent = Agent::start().await;
    let mut payload = shell("r-1.a.1", "echo x > $MESON_ARTIFACT_MODEL");
    payload.store = store("/proc/no/such/place".as_ref());
    payload.spec.produces = vec![produces("model")];
    let failure = agent.fail(&payload).await;
    assert_eq!(failure.class, FailureClass::Platform, "{failure:?}");
    let blobs = tempfile::tempdir().unwrap();
    let absent = ArtifactRef {
        name: "model".to_owned(),
        digest: format!("sha256:{}", "1".repeat(64)),
        bytes: meson_core::units::Bytes(1),
        directory: false,
    };
    let mut payload = shell("r-1.b.1", "true");
    payload.store = store(blobs.path());
    payload.spec.inputs = [("model".to_owned(), absent.to_value())].into();
    let failure = agent.fail(&payload).await;
    assert_eq!(failure.class, FailureClass::Platform);
    assert!(failure.message.contains("model"), "{failure:?}");
}

#[tokio::test]
async fn of_a_step_that_succeeded_only_small_files_stay_on_the_agent() {
    let agent = Agent::start().await;
    agent
        .succeed(&shell("r-1.a.1", "echo big > data; echo printed"))
        .await;
    let folder = agent.sandbox.join("tasks/r-1.a.1");
    crate::support::eventually("the removal", || {
        (!folder.join("work").exists()).then_some(())
    })
    .await;
    assert!(folder.join("stdout").exists());
    agent
        .fail(&shell("r-1.b.1", "echo evidence > data; exit 1"))
        .await;
    assert!(agent.sandbox.join("tasks/r-1.b.1/work/data").exists());
}
