//! openraft's own test suite for stores, and what it does not ask: what is there after a reopening.

use std::sync::Arc;

use openraft::{
    StorageError,
    entry::RaftEntry,
    storage::{RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
    vote::RaftVote,
};
use tempfile::TempDir;

use super::{LogStore, LogWriter, StateStore, Store};
use crate::{
    ids::{ClusterId, NodeId, ShardId},
    machine::{StateMachine, Transaction},
    options::Options,
    raft::{Command, Commands, Entry, LogId, Types, Vote},
};

/// Takes "key=value" to set a key, "key" to delete one.
struct Setter;

impl StateMachine for Setter {
    fn apply(&self, _: ShardId, command: &[u8], tx: &mut Transaction<'_>) -> Vec<u8> {
        match command.iter().position(|byte| *byte == b'=') {
            Some(at) => tx.put(&command[..at], command[at + 1..].to_vec()),
            None => tx.delete(command),
        }
        Vec::new()
    }
}

const SHARD: ShardId = ShardId::new(1);

struct Opened {
    store: Arc<Store>,
    writer: LogWriter,
    log: LogStore,
    state: StateStore,
}

impl Opened {
    fn open(dir: &TempDir, cache_bytes: usize) -> Self {
        let options = Options::single(ClusterId::new("suite"), NodeId::new(0), 2);
        let store = Arc::new(Store::open(dir.path(), &options).unwrap());
        let writer = LogWriter::start(Arc::clone(&store));
        let log = LogStore::open(SHARD, &store, &writer, cache_bytes).unwrap();
        let state = StateStore::open(SHARD, &store, Arc::new(Setter), None).unwrap();
        Self {
            store,
            writer,
            log,
            state,
        }
    }

    async fn close(self) {
        let Self {
            store,
            writer,
            log,
            state,
        } = self;
        drop((log, state));
        writer.close().await;
        assert_eq!(
            Arc::strong_count(&store),
            1,
            "something still holds the store"
        );
    }

    /// Applies entries as openraft does, without anybody waiting for their outcome.
    async fn apply(&mut self, entries: Vec<Entry>) {
        let entries = futures::stream::iter(entries.into_iter().map(|entry| Ok((entry, None))));
        self.state.apply(entries).await.unwrap();
    }

    fn keys(&self) -> Vec<String> {
        let view = self.store.state_snapshot(SHARD).unwrap();
        view.scan(&[], None)
            .map(|item| String::from_utf8(item.unwrap().0.to_vec()).unwrap())
            .collect()
    }
}

fn entry(term: u64, index: u64, command: &str) -> Entry {
    let commands = Commands(vec![Command {
        fence: term,
        body: command.to_owned().into(),
    }]);
    Entry::new(
        LogId::new_term_index(term, index),
        openraft::EntryPayload::Normal(commands),
    )
}

struct Builder {
    cache_bytes: usize,
}

type Guard = (TempDir, LogWriter);

impl StoreBuilder<Types, LogStore, StateStore, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateStore), StorageError<Types>> {
        let dir = TempDir::new().unwrap();
        let Opened {
            writer, log, state, ..
        } = Opened::open(&dir, self.cache_bytes);
        Ok(((dir, writer), log, state))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Builder {
        cache_bytes: 1 << 20,
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_own_suite_passes_without_entries_in_memory() {
    Suite::test_all(Builder { cache_bytes: 0 }).await.unwrap();
}

#[tokio::test]
async fn a_reopened_log_is_the_same_log() {
    let dir = TempDir::new().unwrap();
    let mut opened = Opened::open(&dir, 0);
    let vote = Vote::from_leader_id(openraft::vote::RaftLeaderId::new(3, 0), true);
    opened.log.save_vote(&vote).await.unwrap();
    opened
        .log
        .blocking_append((0..20).map(|index| entry(1, index, "a=1")))
        .await
        .unwrap();
    opened
        .log
        .truncate_after(Some(LogId::new_term_index(1, 14)))
        .await
        .unwrap();
    opened
        .log
        .blocking_append((15..18).map(|index| entry(2, index, "b=2")))
        .await
        .unwrap();
    opened.log.purge(LogId::new_term_index(1, 4)).await.unwrap();
    let bytes = opened.log.info().bytes();
    opened.close().await;

    let mut opened = Opened::open(&dir, 0);
    let state = opened.log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(LogId::new_term_index(1, 4)));
    assert_eq!(state.last_log_id, Some(LogId::new_term_index(2, 17)));
    assert_eq!(opened.log.info().bytes(), bytes);
    let mut reader = opened.log.get_log_reader().await;
    assert_eq!(
        openraft::RaftLogReader::read_vote(&mut reader)
            .await
            .unwrap(),
        Some(vote)
    );
    let entries = openraft::RaftLogReader::try_get_log_entries(&mut reader, 0..)
        .await
        .unwrap();
    let expected: Vec<Entry> = (5..15)
        .map(|index| entry(1, index, "a=1"))
        .chain((15..18).map(|index| entry(2, index, "b=2")))
        .collect();
    assert_eq!(entries, expected);
}

#[tokio::test]
async fn a_truncated_entry_stays_gone_even_if_its_place_is_taken_in_the_same_batch() {
    let dir = TempDir::new().unwrap();
    let mut opened = Opened::open(&dir, 0);
    for round in 1..50 {
        let entries = (0..3).map(|index| entry(round, index, "x=1"));
        opened
            .log
            .append(entries, openraft::storage::IOFlushed::noop())
            .await
            .unwrap();
        opened.log.truncate_after(None).await.unwrap();
    }
    opened
        .log
        .blocking_append([entry(60, 0, "y=1")])
        .await
        .unwrap();
    opened.close().await;
    let mut opened = Opened::open(&dir, 0);
    let entries = openraft::RaftLogReader::try_get_log_entries(&mut opened.log, ..)
        .await
        .unwrap();
    assert_eq!(entries, vec![entry(60, 0, "y=1")]);
}

#[tokio::test]
async fn a_log_with_a_hole_is_not_opened() {
    let dir = TempDir::new().unwrap();
    let mut opened = Opened::open(&dir, 0);
    opened
        .log
        .blocking_append((0..5).map(|index| entry(1, index, "a=1")))
        .await
        .unwrap();
    opened.store.log.remove(super::keys::log(SHARD, 2)).unwrap();
    let error = LogStore::open(SHARD, &opened.store, &opened.writer, 0)
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("entry 2 is missing"), "{error}");
}

#[tokio::test]
async fn applied_state_survives_a_reopening() {
    let dir = TempDir::new().unwrap();
    let mut opened = Opened::open(&dir, 0);
    opened
        .apply(vec![
            entry(1, 0, "a=1"),
            entry(1, 1, "b=2"),
            entry(1, 2, "a"),
        ])
        .await;
    opened.close().await;
    let mut opened = Opened::open(&dir, 0);
    assert_eq!(opened.keys(), ["b"]);
    let (applied, _) = opened.state.applied_state().await.unwrap();
    assert_eq!(applied, Some(LogId::new_term_index(1, 2)));
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_all_earlier_state_at_once() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut source = Opened::open(&from, 0);
    let many = (0..9_000)
        .map(|n| entry(2, n, &format!("new-{n:05}=x")))
        .collect();
    source.apply(many).await;
    let mut builder = source.state.get_snapshot_builder().await;
    source.apply(vec![entry(2, 9_000, "later=1")]).await;
    let snapshot = builder.build_snapshot().await.unwrap();
    assert_eq!(
        snapshot.meta.last_log_id,
        Some(LogId::new_term_index(2, 8_999))
    );

    let mut target = Opened::open(&to, 0);
    target
        .apply(
            (0..5_000)
                .map(|n| entry(1, n, &format!("old-{n}=x")))
                .collect(),
        )
        .await;
    let before = target.store.state_snapshot(SHARD).unwrap();
    target
        .state
        .install_snapshot(&snapshot.meta, snapshot.snapshot)
        .await
        .unwrap();
    assert_eq!(
        before.scan(b"old-", None).count(),
        5_000,
        "a view keeps what it saw"
    );
    drop(before);
    for _ in 0..2 {
        let keys = target.keys();
        assert_eq!(keys.len(), 9_000);
        assert!(keys.iter().all(|key| key.starts_with("new-")));
        let (applied, _) = target.state.applied_state().await.unwrap();
        assert_eq!(applied, snapshot.meta.last_log_id);
        let current = target.state.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(current.meta, snapshot.meta);
        drop(current);
        target.close().await;
        target = Opened::open(&to, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_applied_once_they_are_on_disk_here() {
    let dir = TempDir::new().unwrap();
    let mut opened = Opened::open(&dir, 1 << 20);
    let (written, durable) = tokio::sync::watch::channel(1);
    opened.state = StateStore::open(SHARD, &opened.store, Arc::new(Setter), Some(durable)).unwrap();
    // Entry 0 is on disk, entry 1 is committed by others and not yet on disk here.
    let entries = vec![entry(1, 0, "a=1"), entry(1, 1, "b=1")];
    let mut applying = Box::pin(opened.apply(entries));
    assert!(
        futures::poll!(&mut applying).is_pending(),
        "it waits for the log"
    );
    written.send_replace(2);
    applying.await;
    assert_eq!(
        opened.state.applied_state().await.unwrap().0.unwrap().index,
        1
    );
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_older_than_a_state_without_a_log_is_forgotten() {
    let dir = TempDir::new().unwrap();
    let mut opened = Opened::open(&dir, 1 << 20);
    opened.apply(vec![entry(1, 0, "a=1")]).await;
    let mut builder = opened.state.get_snapshot_builder().await;
    builder.build_snapshot().await.unwrap();
    opened.apply(vec![entry(1, 1, "b=1")]).await;
    drop(builder);

    let reopen = |next: u64| {
        let (_, durable) = tokio::sync::watch::channel(next);
        StateStore::open(SHARD, &opened.store, Arc::new(Setter), Some(durable)).unwrap()
    };
    let kept = reopen(2).get_current_snapshot().await.unwrap();
    assert!(kept.is_some(), "the log reaches as far as the state");
    let kept = reopen(1).get_current_snapshot().await.unwrap();
    assert!(kept.is_none(), "the log has lost entry 1");
    opened.close().await;
}

#[tokio::test]
async fn a_damaged_snapshot_changes_nothing() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut source = Opened::open(&from, 0);
    source
        .apply(
            (0..100)
                .map(|n| entry(2, n, &format!("new-{n}=x")))
                .collect(),
        )
        .await;
    let snapshot = source
        .state
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    let whole = snapshot.snapshot.read_chunk(0, 1 << 20).unwrap();

    let mut target = Opened::open(&to, 0);
    target.apply(vec![entry(1, 0, "old=1")]).await;
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [
        &whole[..whole.len() - 1],
        &whole[..whole.len() / 2],
        &whole[..3],
        &flipped,
    ] {
        let inbox = target.state.inbox();
        let file = inbox
            .take(0, damaged.to_vec().into(), true)
            .await
            .unwrap()
            .unwrap();
        assert!(
            target
                .state
                .install_snapshot(&snapshot.meta, file)
                .await
                .is_err()
        );
        assert_eq!(target.keys(), ["old"]);
    }
}

#[tokio::test]
async fn a_snapshot_arrives_in_parts_and_only_in_order() {
    let dir = TempDir::new().unwrap();
    let opened = Opened::open(&dir, 0);
    let inbox = opened.state.inbox();
    assert!(
        inbox.take(3, "def".into(), false).await.is_err(),
        "no first part"
    );
    assert!(inbox.take(0, "abc".into(), false).await.unwrap().is_none());
    assert!(inbox.take(4, "x".into(), false).await.is_err(), "a gap");
    let whole = inbox.take(3, "def".into(), true).await.unwrap().unwrap();
    assert_eq!(whole.read_chunk(0, 100).unwrap(), b"abcdef");
    assert_eq!(whole.read_chunk(4, 100).unwrap(), b"ef");
}
