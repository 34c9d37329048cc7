//! Everything that knows fjall: one database per node, shared by all its shards.
//!
//! Three keyspaces, each shared by all shards (see `keys` for their layouts):
//! `log` (entries), `meta` (vote, purge mark, applied mark, membership) and `state`.
//!
//! **What a crash can lose.** All keyspaces share one journal. fjall appends each batch to it as
//! one checksummed unit and, after a crash, replays the longest whole prefix. (`journal` sees to it
//! that what follows this prefix is the trace of a crash, and not damage to what was synced.) `writer` syncs the
//! journal before any log entry or vote is reported as written. Batches of applied state are not
//! synced by themselves, so a power loss may cut them off. That is harmless in both directions:
//!
//! * State behind the log: the entries are there (an entry is applied only after it was synced),
//!   and openraft applies them again from the applied mark, which is written in the same batch as
//!   the state and so is never apart from it.
//! * State ahead of the log: would need a batch of state to survive while an earlier synced batch
//!   of the same journal did not. Nor can a table written out by the database carry it there:
//!   fjall seals a memtable by rotating the journal, which syncs it first.
//! * Purged entries lie behind the state that made them needless in the same journal, so a
//!   surviving purge means surviving state.

mod dir;
mod journal;
mod keys;
mod log;
mod snapshot;
mod state;
#[cfg(test)]
mod suite;
mod tracker;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};
use tokio::sync::watch;

use self::tracker::SyncTracker;
pub(crate) use self::{
    log::{LogInfo, LogStore},
    snapshot::{SnapshotFile, SnapshotInbox},
    state::StateStore,
    writer::LogWriter,
};
use crate::{
    errors::{self, Failure, OpenError, ReadError},
    ids::ShardId,
    options::Options,
    status::IoStats,
};

/// A failed access to the database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action}: {cause}")]
pub(crate) struct StoreError {
    action: String,
    cause: String,
}

impl StoreError {
    pub(crate) fn new(action: impl Into<String>, cause: impl ToString) -> Self {
        Self {
            action: action.into(),
            cause: cause.to_string(),
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store {
            reason: error.to_string(),
        }
    }
}

/// Where a failure of the node is reported; the first one stands.
#[derive(Clone)]
pub(crate) struct Failures(watch::Sender<Option<Failure>>);

impl Failures {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(crate) fn report(&self, action: impl Into<String>, cause: impl ToString) {
        self.first(Failure {
            action: action.into(),
            cause: cause.to_string(),
            remedy: "check the disk's space and health, then restart the node".to_owned(),
        });
    }

    /// The node must not take part any more.
    pub(crate) fn refuse(&self, action: impl Into<String>, cause: impl ToString) {
        self.first(Failure {
            action: action.into(),
            cause: cause.to_string(),
            remedy: errors::REPLACE.to_owned(),
        });
    }

    fn first(&self, failure: Failure) {
        self.0.send_if_modified(|current| {
            if current.is_some() {
                return false;
            }
            tracing::error!(
                action = failure.action,
                cause = failure.cause,
                "node failed, it stops serving"
            );
            *current = Some(failure);
            true
        });
    }

    pub(crate) fn current(&self) -> Option<Failure> {
        self.0.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Failure>> {
        self.0.subscribe()
    }
}

/// Counters behind [`IoStats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) fsyncs: AtomicU64,
    pub(crate) log_batches: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) snapshots_built: AtomicU64,
    pub(crate) snapshots_installed: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> IoStats {
        IoStats {
            fsyncs: self.fsyncs.load(Ordering::Relaxed),
            log_batches: self.log_batches.load(Ordering::Relaxed),
            entries: self.entries.load(Ordering::Relaxed),
            commands: self.commands.load(Ordering::Relaxed),
            snapshots_built: self.snapshots_built.load(Ordering::Relaxed),
            snapshots_installed: self.snapshots_installed.load(Ordering::Relaxed),
        }
    }
}

/// The open database of a node. The last reference to it closes the data directory.
pub(crate) struct Store {
    database: Database,
    log: Keyspace,
    meta: Keyspace,
    state: Keyspace,
    snapshots: PathBuf,
    pub(crate) incarnation: String,
    mark: Mutex<journal::Mark>,
    /// An fsync is under way, and holds the journal's lock.
    syncing: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) failures: Failures,
    synced: Option<SyncTracker>,
    /// Released when the store is dropped. Declared last: fields drop in order, so the database
    /// is closed before another process may take the directory.
    _lock: std::fs::File,
    /// Dropped after everything else: whoever waits for it may open the directory again.
    closed: watch::Sender<()>,
}

impl Store {
    /// Opens the data directory, and creates it where there is none.
    pub(crate) fn open(root: &Path, options: &Options) -> Result<Self, OpenError> {
        let opened = dir::open(root, options)?;
        let at = |action: &'static str| {
            let root = root.to_owned();
            move |error: fjall::Error| OpenError::Io {
                action: action.to_owned(),
                dir: root,
                source: io::Error::other(error),
            }
        };
        journal::mend(&opened.database).map_err(|error| match error {
            journal::Error::Io(source) => OpenError::Io {
                action: "check the journal".to_owned(),
                dir: root.to_owned(),
                source,
            },
            error @ journal::Error::Damaged { .. } => OpenError::Damaged {
                dir: root.to_owned(),
                reason: error.to_string(),
            },
        })?;
        let database = open_database(&opened.database, options).map_err(|error| match error {
            // Our own lock is free, but somebody in this process still holds a view.
            fjall::Error::Locked => OpenError::Locked {
                dir: root.to_owned(),
            },
            error @ (fjall::Error::JournalRecovery(_)
            | fjall::Error::Unrecoverable
            | fjall::Error::Decompress(_)) => OpenError::Damaged {
                dir: root.to_owned(),
                reason: format!("the database's journal cannot be replayed: {error}"),
            },
            error => at("open the database")(error),
        })?;
        let keyspace =
            |name| open_keyspace(&database, name, options).map_err(at("open a keyspace"));
        let meta = keyspace("meta")?;
        let synced = options
            .track_synced
            .as_deref()
            .map(|path| SyncTracker::open(&opened.database, path));
        let synced = synced.transpose().map_err(|source| OpenError::Io {
            action: "open the file that tracks syncs".to_owned(),
            dir: root.to_owned(),
            source,
        })?;
        let mark = meta
            .get(journal::MARK_KEY)
            .map_err(at("read the journal's mark"))?;
        Ok(Self {
            // Opening the database synced what it found.
            mark: Mutex::new(journal::Mark::reopened(mark.as_deref())),
            log: keyspace("log")?,
            meta,
            state: keyspace("state")?,
            database,
            snapshots: opened.snapshots,
            incarnation: opened.incarnation,
            syncing: AtomicBool::new(false),
            counters: Counters::default(),
            failures: Failures::new(),
            synced,
            _lock: opened.lock,
            closed: watch::Sender::new(()),
        })
    }

    /// Leaves word in the directory that it must not be used any more.
    pub(crate) fn mark_unfit(&self, reason: &str) {
        if let Err(error) = dir::mark_unfit(&self.snapshots, reason) {
            tracing::error!(%error, "cannot mark the data directory as unfit");
        }
    }

    /// Whether opening the directory would create it.
    pub(crate) fn is_new(root: &Path) -> bool {
        dir::is_new(root)
    }

    fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Writes a batch to the journal and makes it visible. Not synced.
    fn commit_now(&self, batch: OwnedWriteBatch, action: &str) -> Result<(), StoreError> {
        batch.commit().map_err(|error| {
            self.failures.report(action, &error);
            StoreError::new(action, error)
        })
    }

    /// The same from async code. The journal's lock is held during an fsync; so as not to block
    /// the runtime's thread meanwhile, the commit then moves to a blocking thread.
    async fn commit(
        self: &Arc<Self>,
        batch: OwnedWriteBatch,
        action: &'static str,
    ) -> Result<(), StoreError> {
        if !self.syncing.load(Ordering::Acquire) {
            return self.commit_now(batch, action);
        }
        let store = Arc::clone(self);
        blocking(action, move || store.commit_now(batch, action)).await
    }

    /// Syncs the journal: everything committed before is durable when this returns `Ok`. Never
    /// tried again after an error, since the kernel may have dropped the pages meanwhile.
    fn sync(&self) -> Result<(), StoreError> {
        let action = "sync the journal";
        if let Some(failure) = self.failures.current() {
            return Err(StoreError::new(action, failure));
        }
        // What is in the file now is on disk when the sync returns; what others append during it
        // need not be.
        let reached = self.synced.as_ref().and_then(SyncTracker::look);
        self.syncing.store(true, Ordering::Release);
        let result = self.database.persist(PersistMode::SyncData);
        self.syncing.store(false, Ordering::Release);
        if let (Some(tracker), Some(reached), Ok(())) = (&self.synced, reached, &result) {
            tracker.note(reached);
        }
        self.counters.fsyncs.fetch_add(1, Ordering::Relaxed);
        result.map_err(|error| {
            self.failures.report(action, &error);
            StoreError::new(action, error)
        })
    }

    /// Ends (with an error) when the store is closed and its directory free.
    pub(crate) fn closed(&self) -> watch::Receiver<()> {
        self.closed.subscribe()
    }

    fn get_meta(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self
            .meta
            .get(key)
            .map_err(|error| StoreError::new("read a shard's record", error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// A consistent view of a shard's applied state.
    pub(crate) fn state_snapshot(
        self: &Arc<Self>,
        shard: ShardId,
    ) -> Result<StateSnapshot, StoreError> {
        let snapshot = self.database.snapshot();
        let mark = snapshot
            .get(&self.meta, keys::meta(shard, keys::Meta::Applied))
            .map_err(|error| StoreError::new("read a shard's applied mark", error))?;
        let mark = mark
            .as_deref()
            .map(keys::AppliedMark::decode)
            .transpose()?
            .unwrap_or_default();
        Ok(StateSnapshot {
            snapshot,
            keyspace: self.state.clone(),
            shard,
            mark,
            _store: Arc::clone(self),
        })
    }

    fn state_base(&self, shard: ShardId, generation: u32) -> StateBase {
        StateBase {
            keyspace: self.state.clone(),
            shard,
            generation,
        }
    }
}

fn open_database(path: &Path, options: &Options) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(options.limits.block_cache_bytes)
        .worker_threads(2)
        .max_journaling_size(512 << 20)
        .open()
}

fn open_keyspace(database: &Database, name: &str, options: &Options) -> fjall::Result<Keyspace> {
    let size = options.limits.write_buffer_bytes;
    database.keyspace(name, || {
        KeyspaceCreateOptions::default().max_memtable_size(size)
    })
}

/// Runs something that waits for the disk on a blocking thread.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::new(action, error)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while a lock was held leaves plain data behind, which is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reference to the store that a shutdown takes away from everybody at once.
#[derive(Clone)]
pub(crate) struct StoreRef(Arc<RwLock<Option<Arc<Store>>>>);

impl StoreRef {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(Arc::new(RwLock::new(Some(store))))
    }

    pub(crate) fn get(&self) -> Option<Arc<Store>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn take(&self) -> Option<Arc<Store>> {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A shard's committed state, as the next command finds it.
pub(crate) struct StateBase {
    keyspace: Keyspace,
    shard: ShardId,
    generation: u32,
}

type Pair = (Bytes, Bytes);

impl StateBase {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self
            .keyspace
            .get(keys::state(self.shard, self.generation, key))
            .map_err(|error| StoreError::new("read the state", error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<Pair, StoreError>> + use<> {
        let (start, end) = keys::state_range(self.shard, self.generation, prefix, from);
        self.keyspace.range((start, end)).map(state_pair)
    }
}

/// A shard's state at one moment.
pub(crate) struct StateSnapshot {
    snapshot: fjall::Snapshot,
    keyspace: Keyspace,
    shard: ShardId,
    mark: keys::AppliedMark,
    /// The directory stays open as long as somebody reads from it.
    _store: Arc<Store>,
}

impl StateSnapshot {
    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    pub(crate) fn applied_index(&self) -> Option<u64> {
        self.mark.applied.map(|(_, index)| index)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self
            .snapshot
            .get(
                &self.keyspace,
                keys::state(self.shard, self.mark.generation, key),
            )
            .map_err(|error| StoreError::new("read the state", error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        from: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<Pair, StoreError>> + use<> {
        let range = keys::state_range(self.shard, self.mark.generation, prefix, from);
        self.snapshot.range(&self.keyspace, range).map(state_pair)
    }
}

fn state_pair(item: fjall::Guard) -> Result<Pair, StoreError> {
    let (key, value) = item
        .into_inner()
        .map_err(|error| StoreError::new("read the state", error))?;
    let key = key.get(keys::STATE_PREFIX_BYTES..).unwrap_or_default();
    Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(&value)))
}
