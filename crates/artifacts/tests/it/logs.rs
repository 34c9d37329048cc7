//! Log segments: idempotent, overlapping, with gaps, joined.

use bytes::Bytes;
use meson_artifacts::{BlobStore, Error, LogKey, LogStore, MAX_SEGMENT_BYTES};
use proptest::prelude::*;

use crate::common::{noise, place};

pub(crate) fn key(step: &str, stream: &str) -> LogKey {
    LogKey {
        run: "recommendations-1a".into(),
        step: step.into(),
        iteration: "region=de/1".into(),
        attempt: 2,
        rank: 0,
        stream: stream.into(),
    }
}

async fn append(logs: &LogStore, key: &LogKey, offset: u64, text: &str) {
    logs.append(key, offset, Bytes::copy_from_slice(text.as_bytes()))
        .await
        .unwrap();
}

async fn read(logs: &LogStore, key: &LogKey, from: u64, limit: usize) -> (String, u64) {
    let chunk = logs.read(key, from, limit).await.unwrap();
    assert_eq!(chunk.missing, []);
    (
        String::from_utf8(chunk.bytes.to_vec()).unwrap(),
        chunk.next_offset,
    )
}

/// What every store must do; also run against S3.
pub(crate) async fn suite(store: &BlobStore) {
    let logs = LogStore::new(store);
    let out = key("train", "stdout");
    logs.delete_run(&out.run).await.unwrap();
    assert_eq!(
        read(&logs, &out, 0, 100).await,
        (String::new(), 0),
        "nothing yet"
    );
    assert_eq!(logs.list(&out.run).await.unwrap(), []);

    append(&logs, &out, 0, "hello ").await;
    append(&logs, &out, 6, "world\n").await;
    append(&logs, &out, 6, "world\n").await; // sent again
    assert_eq!(
        read(&logs, &out, 0, 100).await,
        ("hello world\n".into(), 12)
    );
    assert_eq!(
        read(&logs, &out, 3, 5).await,
        ("lo wo".into(), 8),
        "across segments"
    );
    assert_eq!(
        read(&logs, &out, 12, 100).await,
        (String::new(), 12),
        "at the end"
    );

    // Cut differently, and longer than what was there.
    append(&logs, &out, 4, "o world\nand ").await;
    append(&logs, &out, 6, "world\nand more\n").await;
    append(&logs, &out, 6, "wor").await; // shorter: changes nothing
    assert_eq!(
        read(&logs, &out, 0, 100).await,
        ("hello world\nand more\n".into(), 21)
    );

    // A stretch is lost.
    append(&logs, &out, 30, "the end").await;
    let chunk = logs.read(&out, 15, 100).await.unwrap();
    assert_eq!(
        (&chunk.bytes[..], chunk.next_offset),
        (&b" more\nthe end"[..], 37)
    );
    assert_eq!((chunk.missing.len(), &chunk.missing[0]), (1, &(21..30)));
    let before = logs.read(&out, 15, 6).await.unwrap();
    assert_eq!(
        (before.next_offset, before.missing.len()),
        (21, 0),
        "not reached yet"
    );

    let other = key("a/b step", "stderr");
    append(&logs, &other, 0, "oops").await;
    let listed = logs.list(&out.run).await.unwrap();
    let shown: Vec<_> = listed
        .iter()
        .map(|l| (&l.key, l.end_offset, l.segments))
        .collect();
    assert_eq!(shown, [(&other, 4, 1), (&out, 37, 4)]);

    assert_eq!(
        logs.compact(&out).await.unwrap(),
        2,
        "one on each side of the gap"
    );
    assert_eq!(logs.compact(&out).await.unwrap(), 2);
    assert_eq!(
        logs.read(&out, 15, 100).await.unwrap(),
        chunk,
        "reads the same"
    );
    assert_eq!(read(&logs, &out, 0, 21).await.0, "hello world\nand more\n");
    append(&logs, &out, 6, "world\n").await; // late, sent again
    assert_eq!(read(&logs, &out, 0, 21).await.0, "hello world\nand more\n");

    assert_eq!(logs.delete_run(&out.run).await.unwrap(), 4);
    assert_eq!(logs.list(&out.run).await.unwrap(), []);
}

#[tokio::test]
async fn segments_join_to_what_was_printed() {
    suite(&place().store).await;
}

#[tokio::test]
async fn a_log_larger_than_any_segment_is_compacted_to_few() {
    let logs = LogStore::new(&place().store);
    let out = key("train", "stdout");
    let content = noise(20 << 20, 5);
    let step = 2 << 20;
    for offset in (0..content.len()).step_by(step) {
        let piece = content.slice(offset..offset + step);
        logs.append(&out, offset as u64, piece).await.unwrap();
    }
    let whole = |limit: usize| {
        let (logs, out) = (logs.clone(), out.clone());
        async move {
            let (mut bytes, mut at) = (Vec::new(), 0);
            loop {
                let chunk = logs.read(&out, at, limit).await.unwrap();
                if chunk.bytes.is_empty() {
                    return bytes;
                }
                bytes.extend_from_slice(&chunk.bytes);
                at = chunk.next_offset;
            }
        }
    };
    assert!(whole(3 << 20).await == content);
    assert_eq!(logs.compact(&out).await.unwrap(), 2, "16 MiB and the rest");
    assert!(whole(3 << 20).await == content);
}

#[tokio::test]
async fn a_segment_that_is_too_large_is_refused() {
    let logs = LogStore::new(&place().store);
    let error = logs
        .append(&key("s", "stdout"), 0, noise(MAX_SEGMENT_BYTES + 1, 1))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                name: "MAX_SEGMENT_BYTES",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn names_cannot_reach_out_of_the_logs() {
    let place = place();
    let logs = LogStore::new(&place.store);
    for name in [
        "..", "../../x", "/etc", ".", "", "a/b", "~", "=", "%2e%2e", "x#1", "ü",
    ] {
        let out = LogKey {
            run: name.into(),
            step: name.into(),
            iteration: name.into(),
            attempt: 0,
            rank: 7,
            stream: name.into(),
        };
        append(&logs, &out, 0, name).await;
        assert_eq!(read(&logs, &out, 0, 100).await.0, name);
        let listed = logs.list(name).await.unwrap();
        if !name.is_empty() {
            assert_eq!(listed[0].key, out);
        }
    }
    let mut entries: Vec<_> = std::fs::read_dir(place.path("store"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    entries.sort_unstable();
    assert_eq!(entries, ["logs"]);
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever way a text is cut and repeated, it reads the same, before and
    /// after compaction; and what no segment covers is reported.
    #[test]
    fn any_cutting_reads_the_same(
        cuts in prop::collection::vec((0..200usize, 1..60usize), 1..20),
        limit in 1..50usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = place();
            let logs = LogStore::new(&place.store);
            let out = key("s", "stdout");
            let content = noise(260, 1);
            let mut covered = [false; 260];
            for (start, length) in &cuts {
                logs.append(&out, *start as u64, content.slice(*start..start + length)).await.unwrap();
                covered[*start..start + length].fill(true);
            }
            for compacted in [false, true] {
                if compacted {
                    logs.compact(&out).await.unwrap();
                }
                let mut at = 0;
                let mut seen = vec![None; 260];
                loop {
                    let chunk = logs.read(&out, at, limit).await.unwrap();
                    if chunk.bytes.is_empty() {
                        break;
                    }
                    let gap = |at: u64| chunk.missing.iter().any(|gap| gap.contains(&at));
                    let places = (at..chunk.next_offset).filter(|at| !gap(*at));
                    for (place, byte) in places.zip(&chunk.bytes) {
                        seen[usize::try_from(place).unwrap()] = Some(*byte);
                    }
                    at = chunk.next_offset;
                }
                for (place, seen) in seen.iter().enumerate() {
                    assert_eq!(*seen, covered[place].then(|| content[place]), "at {place}");
                }
            }
        });
    }
}
