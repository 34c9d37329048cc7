//! A shard's log and vote: openraft's `RaftLogStorage` over the node's log writer.
//!
//! An entry is readable as soon as it is appended, from the tail that is kept in memory, and
//! durable when the log writer says so. The tail also spares reading back, just to apply them,
//! entries that were written a moment ago; what exceeds its size and is on disk leaves it.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, atomic::Ordering},
};

use openraft::{
    RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::{oneshot, watch};

use super::{
    Store, StoreError, keys, lock,
    writer::{Column, LogWriter, Operation, WriterHandle},
};
use crate::{
    ids::ShardId,
    raft::{Entry, LogId, Types, Vote, decode, encode},
};

/// How many entries one database batch deletes when the log is shortened.
const PURGE_STEP: u64 = 4_096;

/// The most that one message to a follower carries, in bytes, unless a single entry is larger.
const APPEND_BYTES: u64 = 2 << 20;

/// A shard's log. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    writer: WriterHandle,
}

struct Shared {
    shard: ShardId,
    store: Arc<Store>,
    cache_bytes: usize,
    tail: Arc<Mutex<Tail>>,
    /// [`Tail::durable_next`], for those who wait for it.
    durable: watch::Sender<u64>,
    vote: Mutex<Option<Vote>>,
}

/// What is known of the log without reading it.
#[derive(Default)]
struct Tail {
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The encoded size of every live entry; the front belongs to the first after `purged`.
    sizes: VecDeque<u32>,
    bytes: u64,
    /// The newest entries, without gaps, up to `last`.
    cached: VecDeque<(Entry, u32)>,
    cached_bytes: usize,
    /// Entries before this index are on disk.
    durable_next: u64,
}

impl Tail {
    fn next(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    fn first_cached(&self) -> u64 {
        self.next() - self.cached.len() as u64
    }

    fn push(&mut self, entry: Entry, size: u32) {
        self.last = Some(entry.log_id());
        self.sizes.push_back(size);
        self.bytes += u64::from(size);
        self.cached_bytes += size as usize;
        self.cached.push_back((entry, size));
    }

    /// The end of the longest part of `start..end` whose entries have at most `limit` bytes, but of
    /// one entry at least.
    fn end_within(&self, start: u64, end: u64, limit: u64) -> u64 {
        let first = self.next() - self.sizes.len() as u64;
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut fits = start;
        for size in self.sizes.iter().skip(skip) {
            bytes += u64::from(*size);
            if fits == end || (bytes > limit && fits > start) {
                break;
            }
            fits += 1;
        }
        fits.max(start.saturating_add(1)).min(end)
    }

    /// Lets go of cached entries that are on disk, oldest first.
    fn trim(&mut self, limit: usize) {
        while self.cached_bytes > limit && self.first_cached() < self.durable_next {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, size)) = self.cached.pop_front() {
            self.cached_bytes -= size as usize;
        }
    }

    fn truncate(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |id| id.index + 1);
        if keep >= self.next() {
            return;
        }
        for _ in keep..self.next() {
            if let Some(size) = self.sizes.pop_back() {
                self.bytes -= u64::from(size);
            }
            if let Some((_, size)) = self.cached.pop_back() {
                self.cached_bytes -= size as usize;
            }
        }
        self.last = last.max(self.purged);
        self.durable_next = self.durable_next.min(keep);
    }

    fn purge(&mut self, upto: LogId) {
        let first = self.purged.map_or(0, |id| id.index + 1);
        for _ in first..self.next().min(upto.index + 1) {
            if let Some(size) = self.sizes.pop_front() {
                self.bytes -= u64::from(size);
            }
        }
        while !self.cached.is_empty() && self.first_cached() <= upto.index {
            self.drop_oldest();
        }
        self.purged = self.purged.max(Some(upto));
        // A snapshot may reach beyond the log; the log then goes on after it.
        self.last = self.last.max(self.purged);
        self.durable_next = self.durable_next.max(upto.index + 1);
    }
}

/// What others may know of a shard's log. It does not hold the store open.
#[derive(Clone)]
pub(crate) struct LogInfo(Arc<Mutex<Tail>>);

impl LogInfo {
    /// Bytes of all entries in the log.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.0).bytes
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<LogId> {
        lock(&self.0).last
    }
}

impl LogStore {
    /// Opens a shard's log, and clears away what a crash left half-deleted.
    pub(crate) fn open(
        shard: ShardId,
        store: &Arc<Store>,
        writer: &LogWriter,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let read = |kind| store.get_meta(&keys::meta(shard, kind));
        let damaged = |what: &'static str| {
            move |error| StoreError::new(format!("read the {what} of shard {shard}"), error)
        };
        let vote = read(keys::Meta::Vote)?
            .map(|bytes| decode(&bytes))
            .transpose()
            .map_err(damaged("vote"))?;
        let purged: Option<LogId> = read(keys::Meta::Purged)?
            .map(|bytes| decode(&bytes))
            .transpose()
            .map_err(damaged("purge mark"))?;
        let tail = scan(shard, store, purged)?;
        Ok(Self {
            shared: Arc::new(Shared {
                shard,
                store: Arc::clone(store),
                cache_bytes,
                durable: watch::Sender::new(tail.durable_next),
                tail: Arc::new(Mutex::new(tail)),
                vote: Mutex::new(vote),
            }),
            writer: writer.handle(),
        })
    }

    /// The first index that is not on disk yet, as it changes.
    pub(crate) fn durable(&self) -> watch::Receiver<u64> {
        self.shared.durable.subscribe()
    }

    pub(crate) fn info(&self) -> LogInfo {
        LogInfo(Arc::clone(&self.shared.tail))
    }

    /// Writes, and waits until it is on disk.
    async fn write_durably(
        &self,
        writes: Vec<(Column, Vec<u8>, Option<Vec<u8>>)>,
    ) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let done = Box::new(move |result| {
            let _ = done.send(result);
        });
        self.writer
            .write(Operation {
                writes,
                sync: true,
                done,
            })
            .await;
        match written.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(io::Error::other("the log writer is gone")),
        }
    }
}

/// Reads the sizes of a log's entries and its last id, and checks that it has no gap.
fn scan(shard: ShardId, store: &Store, purged: Option<LogId>) -> Result<Tail, StoreError> {
    let action = || format!("read the log of shard {shard}");
    let mut tail = Tail {
        purged,
        last: purged,
        ..Tail::default()
    };
    let mut leftovers = store.batch();
    let mut last = None;
    for item in store
        .log
        .range(keys::log(shard, 0)..=keys::log(shard, u64::MAX))
    {
        let (key, value) = item
            .into_inner()
            .map_err(|error| StoreError::new(action(), error))?;
        let index =
            keys::log_index(&key).ok_or_else(|| StoreError::new(action(), "a key is damaged"))?;
        if purged.is_some_and(|purged| index <= purged.index) {
            leftovers.remove(&store.log, key);
            continue;
        }
        let expected = purged.map_or(0, |id| id.index + 1) + tail.sizes.len() as u64;
        if index != expected {
            return Err(StoreError::new(
                action(),
                format!("entry {expected} is missing, the next is {index}"),
            ));
        }
        let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
        tail.sizes.push_back(size);
        tail.bytes += u64::from(size);
        last = Some(value);
    }
    if let Some(value) = last {
        let entry: Entry = decode(&value).map_err(|error| StoreError::new(action(), error))?;
        tail.last = Some(entry.log_id());
    }
    tail.durable_next = tail.next();
    store.commit_now(leftovers, "clear away purged entries")?;
    Ok(tail)
}

impl Shared {
    /// The entries of a range that exist: from memory where they are there, else from disk.
    fn entries(&self, range: impl RangeBounds<u64>) -> Result<Vec<Entry>, StoreError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let (start, disk_end, cached) = {
            let tail = lock(&self.tail);
            let start = start.max(tail.purged.map_or(0, |id| id.index + 1));
            let end = end.min(tail.next());
            let first_cached = tail.first_cached();
            let from = start.max(first_cached);
            let cached: Vec<Entry> = (from..end)
                .filter_map(|index| tail.cached.get(usize::try_from(index - first_cached).ok()?))
                .map(|(entry, _)| entry.clone())
                .collect();
            (start, end.min(first_cached), cached)
        };
        if start >= disk_end {
            return Ok(cached);
        }
        let action = || format!("read the log of shard {}", self.shard);
        let mut entries = Vec::with_capacity(cached.len());
        for item in self
            .store
            .log
            .range(keys::log(self.shard, start)..keys::log(self.shard, disk_end))
        {
            let value = item
                .value()
                .map_err(|error| StoreError::new(action(), error))?;
            entries.push(decode(&value).map_err(|error| StoreError::new(action(), error))?);
        }
        entries.extend(cached);
        Ok(entries)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.shared.entries(range)?)
    }

    /// What one message to a follower carries: at least one entry, and no more than fits a frame.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let end = lock(&self.shared.tail).end_within(start, end, APPEND_BYTES);
        Ok(self.shared.entries(start..end)?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(*lock(&self.shared.vote))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let tail = lock(&self.shared.tail);
        Ok(LogState {
            last_purged_log_id: tail.purged,
            last_log_id: tail.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let key = keys::meta(self.shared.shard, keys::Meta::Vote).to_vec();
        let value = encode(vote).map_err(io::Error::other)?;
        self.write_durably(vec![(Column::Meta, key, Some(value))])
            .await?;
        *lock(&self.shared.vote) = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut writes = Vec::new();
        let mut encoded = Vec::new();
        for entry in entries {
            let bytes = encode(&entry).map_err(io::Error::other)?;
            let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            writes.push((
                Column::Log,
                keys::log(self.shared.shard, entry.index()).to_vec(),
                Some(bytes),
            ));
            encoded.push((entry, size));
        }
        let count = encoded.len() as u64;
        let next = {
            let mut tail = lock(&self.shared.tail);
            for (entry, size) in encoded {
                tail.push(entry, size);
            }
            tail.next()
        };
        let shared = Arc::clone(&self.shared);
        let done = Box::new(move |result: Result<(), StoreError>| {
            if result.is_ok() {
                shared
                    .store
                    .counters
                    .entries
                    .fetch_add(count, Ordering::Relaxed);
                let mut tail = lock(&shared.tail);
                tail.durable_next = tail.durable_next.max(next);
                tail.trim(shared.cache_bytes);
                shared.durable.send_replace(tail.durable_next);
            }
            callback.io_completed(result.map_err(io::Error::from));
        });
        self.writer
            .write(Operation {
                writes,
                sync: true,
                done,
            })
            .await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let (from, next) = {
            let mut tail = lock(&self.shared.tail);
            let next = tail.next();
            tail.truncate(last);
            self.shared.durable.send_replace(tail.durable_next);
            (last.map_or(0, |id| id.index + 1), next)
        };
        // Durable before anything is appended in its place, so that at no time a crash can bring
        // back the tail of one leader behind the entries of another.
        let writes = (from..next)
            .map(|index| {
                (
                    Column::Log,
                    keys::log(self.shared.shard, index).to_vec(),
                    None,
                )
            })
            .collect();
        self.write_durably(writes).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let (first, end) = {
            let mut tail = lock(&self.shared.tail);
            let first = tail.purged.map_or(0, |id| id.index + 1);
            let end = tail.next().min(upto.index + 1);
            tail.purge(upto);
            self.shared.durable.send_replace(tail.durable_next);
            (first, end)
        };
        let mark = encode(&upto).map_err(io::Error::other)?;
        let key = keys::meta(self.shared.shard, keys::Meta::Purged).to_vec();
        // The mark goes first: what a crash leaves undeleted behind it is deleted at the next open.
        let mut writes = vec![(Column::Meta, key, Some(mark))];
        let mut from = first;
        loop {
            let to = end.min(from.saturating_add(PURGE_STEP)).max(from);
            writes.extend((from..to).map(|index| {
                (
                    Column::Log,
                    keys::log(self.shared.shard, index).to_vec(),
                    None,
                )
            }));
            let writes = std::mem::take(&mut writes);
            self.writer
                .write(Operation {
                    writes,
                    sync: false,
                    done: Box::new(|_| {}),
                })
                .await;
            from = to;
            if from >= end {
                break;
            }
        }
        Ok(())
    }
}
