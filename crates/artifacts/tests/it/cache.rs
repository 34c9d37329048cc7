//! The agent's cache: shared, limited, never wrong.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meson_artifacts::{BlobKind, BlobRef, Cache, Error, Placement};

use crate::common::{Place, model_folder, noise, place, tree};

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second)
}

impl Place {
    fn cache(&self, limit: u64) -> Cache {
        Cache::open(&self.path("cache"), limit).unwrap()
    }

    fn cached(&self, blob: &BlobRef) -> std::path::PathBuf {
        let hex = blob.digest.to_hex();
        self.path("cache/sha256").join(&hex[..2]).join(&hex[2..])
    }
}

#[tokio::test]
async fn a_blob_is_fetched_once_and_then_served_from_disk() {
    let place = place();
    let content = noise(1000, 1);
    let blob = place.store.put_bytes(content.clone()).await.unwrap();
    let cache = place.cache(1 << 20);
    let get = |to: &str, placement| {
        let (cache, store, to) = (&cache, &place.store, place.path(to));
        async move { cache.materialize(store, &blob, &to, placement, at(0)).await }
    };
    get("a", Placement::Copy).await.unwrap();
    place.store.delete(&blob.digest).await.unwrap();
    get("b", Placement::Copy).await.unwrap();
    get("c", Placement::Link).await.unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(fs::read(place.path(name)).unwrap(), content);
    }
    let inode = |path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(place.path("c")), inode(place.cached(&blob)), "a link");
    assert_ne!(inode(place.path("b")), inode(place.cached(&blob)), "a copy");
    assert_eq!(
        fs::metadata(place.path("c")).unwrap().mode() & 0o222,
        0,
        "read-only"
    );
    assert_eq!(cache.bytes().unwrap(), 1000);
}

#[tokio::test]
async fn a_directory_is_unpacked_for_each_task() {
    let place = place();
    model_folder(&place.path("model"));
    let blob = place.store.put_dir(&place.path("model")).await.unwrap();
    assert_eq!(blob.kind, BlobKind::Directory);
    let cache = place.cache(1 << 30);
    for name in ["task1/model", "task2/model"] {
        let to = place.path(name);
        cache
            .materialize(&place.store, &blob, &to, Placement::Link, at(0))
            .await
            .unwrap();
        assert_eq!(tree(&to), tree(&place.path("model")));
        fs::write(to.join("secret"), "changed by a task").unwrap();
    }
}

#[tokio::test]
async fn a_damaged_entry_is_fetched_again() {
    let place = place();
    let content = noise(1000, 1);
    let cache = place.cache(1 << 20);
    let file = place.store.put_bytes(content.clone()).await.unwrap();
    model_folder(&place.path("model"));
    let folder = place.store.put_dir(&place.path("model")).await.unwrap();
    for (n, blob) in [file, folder].iter().enumerate() {
        let to = |round: u32| place.path(&format!("{n}.{round}"));
        cache
            .materialize(&place.store, blob, &to(0), Placement::Copy, at(0))
            .await
            .unwrap();
        // Same size, other bytes; as root, a read-only file can be written to.
        let entry = place.cached(blob);
        let mut bytes = fs::read(&entry).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, &bytes).unwrap();
        cache
            .materialize(&place.store, blob, &to(1), Placement::Copy, at(1))
            .await
            .unwrap();
        // And one of another size.
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, &bytes[..middle]).unwrap();
        cache
            .materialize(&place.store, blob, &to(2), Placement::Copy, at(2))
            .await
            .unwrap();
    }
    for round in 0..3 {
        assert_eq!(
            fs::read(place.path(&format!("0.{round}"))).unwrap(),
            content
        );
        assert_eq!(
            tree(&place.path(&format!("1.{round}"))),
            tree(&place.path("model"))
        );
    }
}

#[tokio::test]
async fn the_least_recently_used_go_first() {
    let place = place();
    let cache = place.cache(2500);
    let mut blobs = Vec::new();
    for seed in 0..4 {
        blobs.push(place.store.put_bytes(noise(1000, seed)).await.unwrap());
    }
    let mut clock = 0;
    for n in [0, 1, 0, 2] {
        clock += 1;
        let to = place.path("out");
        let (store, now) = (&place.store, at(clock));
        cache
            .materialize(store, &blobs[n], &to, Placement::Copy, now)
            .await
            .unwrap();
    }
    let has = |n: usize| place.cached(&blobs[n]).exists();
    assert!(has(0) && !has(1) && has(2), "1 was not used for longest");
    assert_eq!(cache.bytes().unwrap(), 2000);
}

#[tokio::test]
async fn a_blob_larger_than_the_cache_still_arrives() {
    let place = place();
    let cache = place.cache(10);
    for seed in 0..3 {
        let blob = place.store.put_bytes(noise(1000, seed)).await.unwrap();
        let to = place.path(&seed.to_string());
        cache
            .materialize(&place.store, &blob, &to, Placement::Copy, at(seed))
            .await
            .unwrap();
        assert_eq!(fs::read(to).unwrap(), noise(1000, seed));
    }
    assert_eq!(cache.bytes().unwrap(), 1000);
}

#[tokio::test]
async fn what_a_dead_process_left_half_fetched_goes() {
    let place = place();
    let cache = place.cache(1 << 20);
    let left = place.path("cache/sha256/ab/.cdef.123.part");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    let file = fs::File::create(&left).unwrap();
    file.set_modified(at(0)).unwrap();
    let day = 24 * 3600;
    for (second, stays) in [(day - 10, true), (day + 10, false)] {
        let blob = place.store.put_bytes(noise(10, second)).await.unwrap();
        let to = place.path("out");
        cache
            .materialize(&place.store, &blob, &to, Placement::Copy, at(second))
            .await
            .unwrap();
        assert_eq!(left.exists(), stays);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_and_several_caches_may_share_a_folder() {
    let place = Arc::new(place());
    // Two caches on one folder, as two processes have, with too little room.
    let caches = [Arc::new(place.cache(5000)), Arc::new(place.cache(5000))];
    let mut blobs = Vec::new();
    for seed in 0..8 {
        blobs.push(place.store.put_bytes(noise(1000, seed)).await.unwrap());
    }
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200u64 {
        let seed = n * 7 % 8;
        let blob = blobs[usize::try_from(seed).unwrap()];
        let cache = Arc::clone(&caches[usize::try_from(n % 2).unwrap()]);
        let place = Arc::clone(&place);
        let how = if n % 3 == 0 {
            Placement::Link
        } else {
            Placement::Copy
        };
        tasks.spawn(async move {
            let to = place.path(&format!("out/{n}"));
            cache
                .materialize(&place.store, &blob, &to, how, at(n))
                .await
                .unwrap();
            assert_eq!(fs::read(&to).unwrap(), noise(1000, seed));
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_blob_that_is_nowhere_is_an_error() {
    let place = place();
    let blob = place.store.put_bytes(noise(10, 1)).await.unwrap();
    place.store.delete(&blob.digest).await.unwrap();
    let error = place
        .cache(100)
        .materialize(
            &place.store,
            &blob,
            &place.path("out"),
            Placement::Copy,
            at(0),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(!place.path("out").exists());
}
