//! What nobody refers to goes, after a while.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use meson_artifacts::gc::{Gc, GcReport};
use meson_artifacts::{BlobInfo, BlobStore};

use crate::common::{noise, place};

const HOUR: Duration = Duration::from_secs(3600);

async fn put(store: &BlobStore, seed: u64) -> BlobInfo {
    let blob = store.put_bytes(noise(1000, seed)).await.unwrap();
    let mut found = store.list(&blob.digest.to_hex());
    found.try_next().await.unwrap().unwrap()
}

#[tokio::test]
async fn old_blobs_that_nobody_refers_to_are_deleted() {
    let place = place();
    let (kept, lost) = (put(&place.store, 1).await, put(&place.store, 2).await);
    let referenced = HashSet::from([kept.digest]);
    let gc = |dry_run| Gc {
        min_age: HOUR,
        dry_run,
    };
    let later: SystemTime = lost.modified + HOUR + Duration::from_secs(60);

    let young = gc(false)
        .collect(&place.store, &referenced, lost.modified + HOUR / 2)
        .await
        .unwrap();
    assert_eq!(
        young,
        GcReport {
            referenced: 1,
            young: 1,
            ..GcReport::default()
        }
    );

    let expected = GcReport {
        referenced: 1,
        deleted: 1,
        deleted_bytes: 1000,
        ..GcReport::default()
    };
    let dry = gc(true)
        .collect(&place.store, &referenced, later)
        .await
        .unwrap();
    assert_eq!(dry, expected);
    assert!(place.store.exists(&lost.digest).await.unwrap().is_some());

    let real = gc(false)
        .collect(&place.store, &referenced, later)
        .await
        .unwrap();
    assert_eq!(real, expected);
    assert_eq!(place.store.exists(&lost.digest).await.unwrap(), None);
    assert_eq!(place.store.exists(&kept.digest).await.unwrap(), Some(1000));
}

#[tokio::test]
async fn a_put_makes_an_old_blob_young_again() {
    let place = place();
    let blob = put(&place.store, 1).await;
    let old = blob.modified - 10 * HOUR;
    let file = std::fs::File::options()
        .write(true)
        .open(place.blob(&blob.digest))
        .unwrap();
    file.set_modified(old).unwrap();
    let gc = Gc {
        min_age: HOUR,
        dry_run: true,
    };
    let now = blob.modified;
    let report = gc
        .collect(&place.store, &HashSet::new(), now)
        .await
        .unwrap();
    assert_eq!(report.deleted, 1);
    put(&place.store, 1).await;
    let report = gc
        .collect(&place.store, &HashSet::new(), now)
        .await
        .unwrap();
    assert_eq!((report.deleted, report.young), (0, 1));
}

#[tokio::test]
async fn a_clock_that_is_behind_deletes_nothing() {
    let place = place();
    let blob = put(&place.store, 1).await;
    let gc = Gc {
        min_age: Duration::ZERO,
        dry_run: false,
    };
    let report = gc
        .collect(&place.store, &HashSet::new(), blob.modified - HOUR)
        .await
        .unwrap();
    assert_eq!((report.deleted, report.young), (0, 1));
}
