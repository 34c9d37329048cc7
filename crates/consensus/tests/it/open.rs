//! Whose directory it is, and what a reopening finds.

use std::{fs, sync::Arc};

use meson_consensus::{
    ClusterId, ConsensusNode, Consistency, LogIndex, Member, NodeId, OpenError, Options, ShardId,
    SnapshotPolicy,
};
use tempfile::TempDir;

use crate::support::{DEADLINE, Notes, get, leads, open, options, propose};

async fn refusal(dir: &TempDir, options: Options) -> OpenError {
    match ConsensusNode::open(dir.path(), options, Arc::new(Notes)).await {
        Ok(_) => panic!("the directory was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_directory_keeps_its_cluster_node_and_shards() {
    let dir = TempDir::new().unwrap();
    open(dir.path(), options(2)).await.shutdown().await;
    let other_cluster = Options {
        cluster_id: ClusterId::new("other"),
        ..options(2)
    };
    assert!(matches!(
        refusal(&dir, other_cluster).await,
        OpenError::OtherCluster { .. }
    ));
    let other_node = Options::single(ClusterId::new("test"), NodeId::new(2), 2);
    assert!(matches!(
        refusal(&dir, other_node).await,
        OpenError::OtherNode { .. }
    ));
    assert!(matches!(
        refusal(&dir, options(3)).await,
        OpenError::OtherShards {
            expected: 3,
            found: 2,
            ..
        }
    ));
    open(dir.path(), options(2)).await.shutdown().await;
}

#[tokio::test]
async fn a_directory_in_use_is_locked() {
    let dir = TempDir::new().unwrap();
    let node = open(dir.path(), options(1)).await;
    assert!(matches!(
        refusal(&dir, options(1)).await,
        OpenError::Locked { .. }
    ));
    node.shutdown().await;
    open(dir.path(), options(1)).await.shutdown().await;
}

#[tokio::test]
async fn a_directory_of_a_newer_release_is_refused_as_such() {
    let dir = TempDir::new().unwrap();
    open(dir.path(), options(1)).await.shutdown().await;
    fs::write(
        dir.path().join("node/identity"),
        r#"{"format": 2, "something": "else"}"#,
    )
    .unwrap();
    assert!(matches!(
        refusal(&dir, options(1)).await,
        OpenError::NewerFormat {
            found: 2,
            supported: 1,
            ..
        }
    ));
}

#[tokio::test]
async fn a_directory_with_missing_or_unreadable_parts_is_refused() {
    for part in ["node/identity", "node/db", "node/snapshots"] {
        let dir = TempDir::new().unwrap();
        open(dir.path(), options(1)).await.shutdown().await;
        let path = dir.path().join(part);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        let error = refusal(&dir, options(1)).await;
        assert!(
            matches!(&error, OpenError::Damaged { reason, .. } if reason.contains(part)),
            "{error}"
        );
    }
    let dir = TempDir::new().unwrap();
    open(dir.path(), options(1)).await.shutdown().await;
    fs::write(dir.path().join("node/identity"), "{").unwrap();
    assert!(matches!(
        refusal(&dir, options(1)).await,
        OpenError::Damaged { .. }
    ));
}

#[tokio::test]
async fn a_first_start_that_was_interrupted_is_begun_again() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("node.creating/db")).unwrap();
    fs::write(dir.path().join("node.creating/db/lock"), "").unwrap();
    let node = open(dir.path(), options(1)).await;
    leads(&node.shards()[0]).await;
    node.shutdown().await;
    assert!(!dir.path().join("node.creating").exists());
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(
        refusal(&dir, options(0)).await,
        OpenError::Options { .. }
    ));
    let stranger = Options {
        members: [(NodeId::new(9), Member::default())].into(),
        ..options(1)
    };
    assert!(matches!(
        refusal(&dir, stranger).await,
        OpenError::Options { .. }
    ));
}

#[tokio::test]
async fn a_reopened_node_has_everything_and_a_later_term() {
    let dir = TempDir::new().unwrap();
    let mut terms = Vec::new();
    for round in 0..3 {
        let node = open(dir.path(), options(3)).await;
        for shard in node.shards() {
            let fence = leads(shard).await;
            if shard.id() == ShardId::new(2) {
                terms.push(fence);
            }
            for earlier in 0..round {
                assert_eq!(
                    get(shard, &format!("round-{earlier}")).await.as_deref(),
                    Some("done")
                );
            }
            propose(shard, fence, format!("set round-{round} done")).await;
        }
        node.shutdown().await;
    }
    assert!(
        terms.is_sorted() && terms[0] < terms[1] && terms[1] < terms[2],
        "{terms:?}"
    );
}

#[tokio::test]
async fn a_snapshot_shortens_the_log_and_nothing_is_missing_afterwards() {
    let dir = TempDir::new().unwrap();
    let snapshots = SnapshotPolicy {
        every_entries: 50,
        keep_entries: 5,
        ..SnapshotPolicy::default()
    };
    let node = open(
        dir.path(),
        Options {
            snapshots,
            ..options(1)
        },
    )
    .await;
    let shard = &node.shards()[0];
    let fence = leads(shard).await;
    for n in 0..200 {
        propose(shard, fence, format!("set key-{n:03} {n}")).await;
    }
    tokio::time::timeout(DEADLINE, async {
        while shard.status().purged_index < Some(LogIndex::new(100)) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the log is purged");
    let status = shard.status();
    assert!(status.snapshot_index > status.purged_index, "{status:?}");
    assert!(status.last_index >= Some(LogIndex::new(200)), "{status:?}");
    node.shutdown().await;

    let node = open(
        dir.path(),
        Options {
            snapshots,
            ..options(1)
        },
    )
    .await;
    let shard = &node.shards()[0];
    leads(shard).await;
    let view = shard.read(Consistency::Linearizable).await.unwrap();
    assert_eq!(view.scan(b"key-", None, usize::MAX).unwrap().len(), 200);
    drop(view);
    assert!(shard.status().purged_index >= Some(LogIndex::new(100)));
    node.shutdown().await;
}

#[tokio::test]
async fn a_log_of_many_bytes_is_shortened_too() {
    let dir = TempDir::new().unwrap();
    let snapshots = SnapshotPolicy {
        every_entries: 1_000_000,
        every_log_bytes: 200_000,
        keep_entries: 0,
    };
    let node = open(
        dir.path(),
        Options {
            snapshots,
            ..options(1)
        },
    )
    .await;
    let shard = &node.shards()[0];
    let fence = leads(shard).await;
    for n in 0..40 {
        propose(shard, fence, format!("set key-{n} {}", "x".repeat(10_000))).await;
    }
    tokio::time::timeout(DEADLINE, async {
        while shard.status().log_bytes > 200_000 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the log is shortened");
    assert_eq!(
        get(shard, "key-0").await.map(|value| value.len()),
        Some(10_000)
    );
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_shut_down_can_be_opened_again_at_once() {
    let dir = TempDir::new().unwrap();
    // Snapshots are often under way when it is shut down.
    let snapshots = SnapshotPolicy {
        every_entries: 3,
        keep_entries: 0,
        ..SnapshotPolicy::default()
    };
    for round in 0..25 {
        let node = open(
            dir.path(),
            Options {
                snapshots,
                ..options(3)
            },
        )
        .await;
        for shard in node.shards() {
            let fence = leads(shard).await;
            for n in 0..4 {
                propose(shard, fence, format!("set key-{n} {round}")).await;
            }
        }
        node.shutdown().await;
    }
}
