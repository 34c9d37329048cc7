//! The same against a real S3 server.
//!
//! `MESON_TEST_S3` holds a store's configuration as JSON, for instance
//! `{"url": "s3://meson-test/ci", "options": {"endpoint": "http://127.0.0.1:5000",
//! "region": "us-east-1", "access_key_id": "x", "secret_access_key": "y", "allow_http": "true"}}`.
//! The bucket must exist.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use futures::TryStreamExt;
use meson_artifacts::gc::Gc;
use meson_artifacts::{BlobInfo, BlobStore, Digest, Error, StoreConfig};
use tempfile::TempDir;

use crate::common::{model_folder, noise, tree};
use crate::logs;

fn store() -> Option<BlobStore> {
    let Ok(json) = std::env::var("MESON_TEST_S3") else {
        eprintln!("SKIPPED: S3 is not tested; set MESON_TEST_S3 (see tests/it/s3.rs)");
        return None;
    };
    let config: StoreConfig = serde_json::from_str(&json).expect("MESON_TEST_S3 is JSON");
    Some(BlobStore::open(&config).unwrap())
}

#[tokio::test]
async fn blobs_go_to_s3_and_come_back() {
    let Some(store) = store() else { return };
    store.check().await.unwrap();
    let folder = TempDir::new().unwrap();
    let part = 5 << 20;
    // One request, several parts, several windows of a download.
    for bytes in [0, 1, part, part + 1, 3 * part + 17, 33 << 20] {
        let content = noise(bytes, bytes as u64 + 1);
        let path = folder.path().join("file");
        fs::write(&path, &content).unwrap();
        let blob = store.put_file(&path).await.unwrap();
        assert_eq!(blob.digest, Digest::of(&content));
        assert_eq!(
            store.exists(&blob.digest).await.unwrap(),
            Some(bytes as u64)
        );
        let back = folder.path().join("back");
        store.fetch_to(&blob, &back).await.unwrap();
        assert!(fs::read(&back).unwrap() == content, "{bytes} bytes");
    }
    let small = store.put_bytes(noise(100, 1)).await.unwrap();
    assert_eq!(
        store.get_bytes(&small.digest, 100).await.unwrap(),
        noise(100, 1)
    );

    model_folder(&folder.path().join("model"));
    let blob = store.put_dir(&folder.path().join("model")).await.unwrap();
    store
        .fetch_to(&blob, &folder.path().join("copy"))
        .await
        .unwrap();
    assert_eq!(
        tree(&folder.path().join("copy")),
        tree(&folder.path().join("model"))
    );

    let listed: Vec<BlobInfo> = store
        .list(&small.digest.to_hex()[..5])
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    let gc = Gc {
        min_age: Duration::from_secs(60),
        dry_run: false,
    };
    let now = listed[0].modified + Duration::from_secs(3600);
    let report = gc
        .collect(&store, &HashSet::from([small.digest]), now)
        .await
        .unwrap();
    assert_eq!(report.referenced, 1);
    assert!(report.deleted >= 7, "{report:?}");
    let left: Vec<BlobInfo> = store.list("").try_collect().await.unwrap();
    assert_eq!(left.len(), 1);
    let error = store
        .fetch_to(&blob, &folder.path().join("gone"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn logs_go_to_s3_and_come_back() {
    let Some(store) = store() else { return };
    logs::suite(&store).await;
}

/// Over TLS as well: a client without a TLS provider would panic here.
#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    for endpoint in ["http://127.0.0.1:9", "https://127.0.0.1:9"] {
        let config = StoreConfig::new("s3://bucket/x")
            .option("endpoint", endpoint)
            .option("region", "us-east-1")
            .option("access_key_id", "x")
            .option("secret_access_key", "y")
            .option("allow_http", "true");
        let store = BlobStore::open(&config).unwrap();
        let digest = Digest::of(b"");
        let looking = store.exists(&digest);
        // It tries again for a while; what it says then is not what this is about.
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(300), looking).await {
            let error = answer.unwrap_err();
            let text = error.to_string();
            assert!(
                error.is_retryable() && text.contains("s3://bucket/x"),
                "{text}"
            );
        }
    }
}
