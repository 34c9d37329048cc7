//! Content-addressed blobs: put, get, fetch, list, delete; damage is noticed.

use std::fs;

use bytes::Bytes;
use futures::TryStreamExt;
use meson_artifacts::{BlobInfo, BlobKind, BlobRef, BlobStore, Digest, Error, StoreConfig};

use crate::common::{Place, model_folder, noise, place, tree, write};

#[tokio::test]
async fn what_is_put_can_be_got() {
    let place = place();
    let blob = place
        .store
        .put_bytes(Bytes::from_static(b"abc"))
        .await
        .unwrap();
    assert_eq!(blob.digest, Digest::of(b"abc"));
    assert_eq!((blob.bytes, blob.kind), (3, BlobKind::File));
    assert_eq!(
        &place.store.get_bytes(&blob.digest, 3).await.unwrap()[..],
        b"abc"
    );
    assert_eq!(place.store.exists(&blob.digest).await.unwrap(), Some(3));
    assert_eq!(
        fs::read(place.blob(&blob.digest)).unwrap(),
        b"abc",
        "blobs/sha256/ab/cdef…"
    );

    place.store.delete(&blob.digest).await.unwrap();
    place.store.delete(&blob.digest).await.unwrap();
    assert_eq!(place.store.exists(&blob.digest).await.unwrap(), None);
    let error = place.store.get_bytes(&blob.digest, 3).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn files_of_any_size_come_back_as_they_were() {
    let place = place();
    let part = 5 << 20;
    for bytes in [0, 1, part - 1, part, part + 1, 2 * part, 3 * part + 17] {
        let content = noise(bytes, bytes as u64);
        let path = place.path("file");
        fs::write(&path, &content).unwrap();
        let blob = place.store.put_file(&path).await.unwrap();
        assert_eq!(blob.digest, Digest::of(&content));
        assert_eq!(blob.bytes, bytes as u64);
        let back = place.path("new/folder/back");
        place.store.fetch_to(&blob, &back).await.unwrap();
        assert!(fs::read(&back).unwrap() == content, "{bytes} bytes");
    }
    assert_eq!(
        fs::read_dir(place.path("new/folder")).unwrap().count(),
        1,
        "no leftovers"
    );
}

#[tokio::test]
async fn a_directory_comes_back_as_it_was() {
    let place = place();
    let root = place.path("model");
    model_folder(&root);
    let blob = place.store.put_dir(&root).await.unwrap();
    assert_eq!(blob.kind, BlobKind::Directory);
    place
        .store
        .fetch_to(&blob, &place.path("back"))
        .await
        .unwrap();
    assert_eq!(tree(&place.path("back")), tree(&root));

    let error = place
        .store
        .fetch_to(&blob, &place.path("back"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Io { .. }),
        "never over a folder with something in it: {error}"
    );
}

#[tokio::test]
async fn equal_directories_have_equal_digests() {
    let place = place();
    model_folder(&place.path("a"));
    tokio::time::sleep(std::time::Duration::from_millis(5)).await; // other times of change
    model_folder(&place.path("b"));
    let a = place.store.put_dir(&place.path("a")).await.unwrap();
    let b = place.store.put_dir(&place.path("b")).await.unwrap();
    assert_eq!(a, b);
    write(
        &place.path("b/bin/run.sh"),
        "#!/bin/sh\necho hello\n",
        0o644,
    );
    let b = place.store.put_dir(&place.path("b")).await.unwrap();
    assert_ne!(a, b, "the mode counts");
}

#[tokio::test]
async fn damage_is_noticed_named_and_mended_by_the_next_put() {
    let place = place();
    let content = noise(100_000, 7);
    let blob = place.store.put_bytes(content.clone()).await.unwrap();
    let mut damaged = content.to_vec();
    damaged[50_000] ^= 1;
    fs::write(place.blob(&blob.digest), &damaged).unwrap();

    let target = place.path("out");
    fs::write(&target, "what was there before").unwrap();
    for error in [
        place
            .store
            .get_bytes(&blob.digest, 1 << 20)
            .await
            .unwrap_err(),
        place.store.fetch_to(&blob, &target).await.unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, Error::Mismatch { .. }), "{text}");
        let found = Digest::of(&damaged);
        assert!(
            text.contains(&format!("expected {}, got {found} at file://", blob.digest)),
            "{text}"
        );
        assert!(text.contains("run the step that made it again"), "{text}");
    }
    assert_eq!(
        fs::read(&target).unwrap(),
        b"what was there before",
        "untouched"
    );
    assert_eq!(place.leftovers(), 0);

    place.store.put_bytes(content.clone()).await.unwrap();
    assert_eq!(
        place.store.get_bytes(&blob.digest, 1 << 20).await.unwrap(),
        content
    );
}

#[tokio::test]
async fn a_blob_cut_short_is_noticed() {
    let place = place();
    let content = noise(1000, 3);
    let blob = place.store.put_bytes(content.clone()).await.unwrap();
    for left in [0, 1, 999] {
        fs::write(place.blob(&blob.digest), &content[..left]).unwrap();
        let error = place
            .store
            .fetch_to(&blob, &place.path("out"))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_limit_in_memory_is_kept_before_reading() {
    let place = place();
    let blob = place.store.put_bytes(noise(1001, 1)).await.unwrap();
    let error = place.store.get_bytes(&blob.digest, 1000).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                bytes: 1001,
                limit: 1000,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_put_and_fetch_the_same_content_at_once() {
    let place = place();
    let content = noise(6 << 20, 9);
    let source = place.path("source");
    fs::write(&source, &content).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (store, source) = (place.store.clone(), source.clone());
        let out = place.path(&format!("out/{n}"));
        tasks.spawn(async move {
            let blob = store.put_file(&source).await.unwrap();
            store.fetch_to(&blob, &out).await.unwrap();
            blob
        });
    }
    let blobs = tasks.join_all().await;
    assert!(blobs.iter().all(|blob| *blob == blobs[0]));
    for n in 0..8 {
        assert!(fs::read(place.path(&format!("out/{n}"))).unwrap() == content);
    }
    let listed: Vec<BlobInfo> = place.store.list("").try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    let folder = place.blob(&blobs[0].digest).parent().unwrap().to_owned();
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        1,
        "no staged file is left"
    );
}

#[tokio::test]
async fn blobs_are_listed_by_the_start_of_their_digest() {
    let place = place();
    let mut digests = Vec::new();
    for n in 0..300u32 {
        let blob = place
            .store
            .put_bytes(n.to_le_bytes().to_vec().into())
            .await
            .unwrap();
        digests.push(blob.digest);
    }
    // Not ours, and not in the way.
    fs::write(place.path("store/blobs/sha256/README"), "hello").unwrap();
    for prefix in ["", "a", "ab", "0", "f0", "abc"] {
        let listed: Vec<BlobInfo> = place.store.list(prefix).try_collect().await.unwrap();
        let mut listed: Vec<_> = listed.iter().map(|blob| blob.digest).collect();
        listed.sort_unstable();
        let mut wanted = digests.clone();
        wanted.retain(|digest| digest.to_hex().starts_with(prefix));
        wanted.sort_unstable();
        assert_eq!(listed, wanted, "{prefix:?}");
    }
}

#[tokio::test]
async fn a_missing_file_is_an_error_and_stores_nothing() {
    let place = place();
    let error = place
        .store
        .put_file(&place.path("nowhere"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    place
        .store
        .put_dir(&place.path("nowhere"))
        .await
        .unwrap_err();
    let listed: Vec<BlobInfo> = place.store.list("").try_collect().await.unwrap();
    assert_eq!(listed, []);
}

#[tokio::test]
async fn a_store_can_be_checked_and_a_bad_address_says_what_is_right() {
    let place = place();
    place.store.check().await.unwrap();
    assert_eq!(fs::read_dir(place.path("store/probe")).unwrap().count(), 0);
    for (config, hint) in [
        (
            StoreConfig::new("ftp://x"),
            "must start with file:// or s3://",
        ),
        (
            StoreConfig::new("/tmp/x"),
            "must start with file:// or s3://",
        ),
        (StoreConfig::new("file://x/y"), "file:///folder"),
        (
            StoreConfig::new("file:///tmp").option("region", "x"),
            "no option \"region\"",
        ),
        (StoreConfig::new("s3://"), "no bucket"),
        (
            StoreConfig::new("s3://b").option("colour", "red"),
            "no option \"colour\"",
        ),
    ] {
        let error = BlobStore::open(&config).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn a_reference_is_plain_json() {
    let digest = Digest::of(b"abc");
    let blob = BlobRef::from_parts(&digest.to_string(), 3, true).unwrap();
    let json = serde_json::json!({"digest": digest.to_string(), "bytes": 3, "kind": "directory"});
    assert_eq!(serde_json::to_value(blob).unwrap(), json);
    assert_eq!(serde_json::from_value::<BlobRef>(json).unwrap(), blob);
    assert!(BlobRef::from_parts("sha256:../../x", 1, false).is_err());
}

impl Place {
    /// Unfinished downloads in the test's folder.
    fn leftovers(&self) -> usize {
        let names = fs::read_dir(self.folder.path()).unwrap();
        names
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .ends_with(".part")
            })
            .count()
    }
}
