//! A shard's applied state: openraft's `RaftStateMachine` over our [`StateMachine`].
//!
//! Entries are applied in groups. What a group writes, the mark of how far it went and the
//! membership go into one database batch; only then do the proposers hear of it.

use std::{
    io,
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::{
    EntryPayload, RaftSnapshotBuilder,
    alias::SnapshotOf,
    storage::{ApplyResponder, EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;

use super::{
    StateSnapshot, Store, StoreError, blocking,
    keys::{self, AppliedMark},
    snapshot::{self, Slot, SnapshotFile, SnapshotInbox},
};
use crate::{
    ids::ShardId,
    machine::{Applied, Overlay, StateMachine, Transaction},
    raft::{Commands, LogId, Membership, Outcome, SnapshotMeta, Types, Written, decode, encode},
};

/// A group is written out when its writes exceed this, in bytes; matters when a long log is
/// replayed.
const GROUP_BYTES: usize = 4 << 20;

/// How much a database batch holds while a snapshot is installed or old state deleted.
const STEP_BYTES: usize = 1 << 20;
const STEP_KEYS: usize = 4_096;

/// A shard's state.
pub(crate) struct StateStore {
    shard: ShardId,
    store: Arc<Store>,
    machine: Arc<dyn StateMachine>,
    mark: AppliedMark,
    membership: Membership,
    slot: Arc<Slot>,
    applied_term: watch::Sender<u64>,
    /// The first index that the log does not have on disk yet; none: there is no log to wait for.
    durable: Option<watch::Receiver<u64>>,
}

/// What a group of entries did, until it is written.
#[derive(Default)]
struct Group {
    writes: Overlay,
    bytes: usize,
    commands: u64,
    last: Option<LogId>,
    membership: Option<Membership>,
    replies: Vec<(ApplyResponder<Types>, Written)>,
}

impl StateStore {
    /// Opens a shard's state, and clears away what an interrupted installation left.
    pub(crate) fn open(
        shard: ShardId,
        store: &Arc<Store>,
        machine: Arc<dyn StateMachine>,
        durable: Option<watch::Receiver<u64>>,
    ) -> Result<Self, StoreError> {
        let mark = store.get_meta(&keys::meta(shard, keys::Meta::Applied))?;
        let mark = mark
            .as_deref()
            .map(AppliedMark::decode)
            .transpose()?
            .unwrap_or_default();
        let membership = store.get_meta(&keys::meta(shard, keys::Meta::Membership))?;
        let membership = membership
            .map(|bytes| decode(&bytes))
            .transpose()
            .map_err(|error| {
                StoreError::new(format!("read the membership of shard {shard}"), error)
            })?
            .unwrap_or_default();
        delete_other_generations(store, shard, mark.generation)?;
        let slot = Slot::open(&store.snapshots, shard);
        // A state that is ahead of its log (of an interrupted installation, or written by a release
        // that did not wait for the log) makes openraft drop the log up to there. It makes a
        // snapshot to match only where there is none, and does not start over an older one.
        let ahead = durable.as_ref().zip(mark.applied);
        if ahead.is_some_and(|(durable, (_, applied))| applied >= *durable.borrow()) {
            slot.clear()
                .map_err(|error| StoreError::new("remove an outdated snapshot", error))?;
        }
        Ok(Self {
            shard,
            durable,
            slot: Arc::new(slot),
            store: Arc::clone(store),
            machine,
            applied_term: watch::Sender::new(mark.applied.map_or(0, |(term, _)| term)),
            mark,
            membership,
        })
    }

    /// The term of the last applied entry, as it changes.
    pub(crate) fn applied_term(&self) -> watch::Receiver<u64> {
        self.applied_term.subscribe()
    }

    /// Where snapshots from other nodes arrive.
    pub(crate) fn inbox(&self) -> SnapshotInbox {
        SnapshotInbox::new(&self.store.snapshots, self.shard)
    }

    fn apply_commands(
        &self,
        id: LogId,
        commands: Commands,
        group: &mut Group,
    ) -> Result<Written, StoreError> {
        let base = self.store.state_base(self.shard, self.mark.generation);
        let term = id.leader_id.term;
        let mut outcomes = Vec::with_capacity(commands.0.len());
        for command in commands.0 {
            group.commands += 1;
            // Whoever proposed this was deposed before it was appended: it must change nothing.
            if command.fence != term {
                outcomes.push(Outcome::Fenced);
                continue;
            }
            let mut tx = Transaction::new(&base, &group.writes);
            let response = self.machine.apply(self.shard, &command.body, &mut tx);
            outcomes.push(match tx.finish()? {
                Applied::Writes(writes) => {
                    for (key, value) in writes {
                        group.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
                        group.writes.insert(key, value);
                    }
                    Outcome::Applied(Bytes::from(response))
                }
                Applied::Rejected(reason) => Outcome::Rejected(reason),
            });
        }
        Ok(Written {
            term,
            index: id.index,
            outcomes,
        })
    }

    /// Waits until the log has an entry on disk. Others may have committed it before that, but a
    /// state that survives a crash which its log does not would have lost its history.
    async fn logged(&mut self, index: u64) -> Result<(), StoreError> {
        let Some(durable) = &mut self.durable else {
            return Ok(());
        };
        let mut failed = self.store.failures.watch();
        let lost = |reason: &str| StoreError::new("wait for the log", reason);
        tokio::select! {
            reached = durable.wait_for(|next| *next > index) => {
                reached.map(drop).map_err(|_| lost("it is closed"))
            }
            _ = failed.wait_for(Option::is_some) => Err(lost("the node has failed")),
        }
    }

    async fn write(&mut self, group: Group) -> Result<(), StoreError> {
        let Some(last) = group.last else {
            return Ok(());
        };
        self.logged(last.index).await?;
        let mark = AppliedMark {
            applied: Some((last.leader_id.term, last.index)),
            ..self.mark
        };
        let mut batch = self.store.batch();
        for (key, value) in group.writes {
            let key = keys::state(self.shard, mark.generation, &key);
            match value {
                Some(value) => batch.insert(&self.store.state, key, &value[..]),
                None => batch.remove(&self.store.state, key),
            }
        }
        batch.insert(
            &self.store.meta,
            keys::meta(self.shard, keys::Meta::Applied),
            mark.encode(),
        );
        if let Some(membership) = &group.membership {
            let bytes = encode(membership)
                .map_err(|error| StoreError::new("write the membership", error))?;
            batch.insert(
                &self.store.meta,
                keys::meta(self.shard, keys::Meta::Membership),
                bytes,
            );
        }
        self.store.commit(batch, "write the state").await?;
        self.store
            .counters
            .commands
            .fetch_add(group.commands, Ordering::Relaxed);
        self.moved_to(mark, group.membership);
        for (reply, written) in group.replies {
            reply.send(written);
        }
        Ok(())
    }

    fn moved_to(&mut self, mark: AppliedMark, membership: Option<Membership>) {
        self.mark = mark;
        if let Some(membership) = membership {
            self.membership = membership;
        }
        let term = mark.applied.map_or(0, |(term, _)| term);
        self.applied_term
            .send_if_modified(|current| std::mem::replace(current, term) != term);
    }

    /// A failure here leaves the replica behind its log; it must not go on as if it had applied.
    fn failed(&self, error: StoreError) -> io::Error {
        self.store
            .failures
            .report(format!("applying the log of shard {}", self.shard), &error);
        error.into()
    }
}

impl RaftStateMachine<Types> for StateStore {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((log_id(self.mark), self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        let mut group = Group::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let id = entry.log_id;
            let written = match entry.payload {
                EntryPayload::Normal(commands) => self
                    .apply_commands(id, commands, &mut group)
                    .map_err(|error| self.failed(error))?,
                EntryPayload::Membership(membership) => {
                    group.membership = Some(Membership::new(Some(id), membership));
                    Written {
                        term: id.leader_id.term,
                        index: id.index,
                        outcomes: Vec::new(),
                    }
                }
                EntryPayload::Blank => Written {
                    term: id.leader_id.term,
                    index: id.index,
                    outcomes: Vec::new(),
                },
            };
            group.last = Some(id);
            group
                .replies
                .extend(responder.map(|responder| (responder, written)));
            if group.bytes >= GROUP_BYTES {
                let full = std::mem::take(&mut group);
                self.write(full).await.map_err(|error| self.failed(error))?;
            }
        }
        self.write(group).await.map_err(|error| self.failed(error))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            store: Arc::clone(&self.store),
            state: self.store.state_snapshot(self.shard).map(Arc::new),
            membership: self.membership.clone(),
            slot: Arc::clone(&self.slot),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let (store, slot, shard, old) = (
            Arc::clone(&self.store),
            Arc::clone(&self.slot),
            self.shard,
            self.mark,
        );
        let meta = meta.clone();
        let membership = meta.last_membership.clone();
        let bytes = snapshot.len();
        let mark = blocking("install a snapshot", move || {
            install(&store, &slot, shard, old, &meta, &snapshot)
        })
        .await
        .map_err(|error| self.failed(error))?;
        let installed = &self.store.counters.snapshots_installed;
        installed.fetch_add(1, Ordering::Relaxed);
        tracing::info!(shard = %self.shard, index = ?mark.applied.map(|(_, index)| index), bytes, "a snapshot of another node was installed");
        self.moved_to(mark, Some(membership));
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types, SnapshotFile>>, io::Error> {
        let slot = Arc::clone(&self.slot);
        // What cannot be read is as good as none: the state is there to make another from.
        let current = tokio::task::spawn_blocking(move || slot.current().ok().flatten())
            .await
            .map_err(io::Error::other)?;
        Ok(current.map(|(meta, snapshot)| SnapshotOf::<Types, SnapshotFile> { meta, snapshot }))
    }
}

fn log_id(mark: AppliedMark) -> Option<LogId> {
    mark.applied
        .map(|(term, index)| LogId::new_term_index(term, index))
}

/// Builds a snapshot of the state as it was when the builder was made.
pub(crate) struct Builder {
    store: Arc<Store>,
    state: Result<Arc<StateSnapshot>, StoreError>,
    membership: Membership,
    slot: Arc<Slot>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, SnapshotFile>, io::Error> {
        let state = self.state.clone()?;
        let meta = SnapshotMeta {
            last_log_id: log_id(state.mark),
            last_membership: self.membership.clone(),
        };
        let (slot, store) = (Arc::clone(&self.slot), Arc::clone(&self.store));
        let built = tokio::task::spawn_blocking(move || {
            if slot.newest() < meta.last_log_id || slot.current()?.is_none() {
                slot.build(&meta, &state)?;
                let built = &store.counters.snapshots_built;
                built.fetch_add(1, Ordering::Relaxed);
            }
            slot.current()
        })
        .await
        .map_err(io::Error::other)??;
        let (meta, snapshot) =
            built.ok_or_else(|| io::Error::other("there is nothing to make a snapshot of"))?;
        Ok(SnapshotOf::<Types, SnapshotFile> { meta, snapshot })
    }
}

/// Writes a snapshot's records beside the old state, then lets them take its place at once.
fn install(
    store: &Store,
    slot: &Slot,
    shard: ShardId,
    old: AppliedMark,
    meta: &SnapshotMeta,
    file: &SnapshotFile,
) -> Result<AppliedMark, StoreError> {
    let action = || format!("install a snapshot of shard {shard}");
    let failed = |error: io::Error| StoreError::new(action(), error);
    let generation = old.generation.wrapping_add(1);
    delete_other_generations(store, shard, old.generation)?;
    let mut batch = store.batch();
    let mut bytes = 0;
    snapshot::read(file, |key, value| {
        bytes += key.len() + value.len();
        batch.insert(&store.state, keys::state(shard, generation, &key), value);
        if bytes >= STEP_BYTES || batch.len() >= STEP_KEYS {
            bytes = 0;
            let full = std::mem::replace(&mut batch, store.batch());
            store.commit_now(full, "write a received snapshot")?;
        }
        Ok(())
    })
    .map_err(failed)?;
    if slot.newest() < meta.last_log_id {
        slot.keep(meta, file).map_err(failed)?;
    }
    let mark = AppliedMark {
        generation,
        applied: meta.last_log_id.map(|id| (id.leader_id.term, id.index)),
    };
    let membership =
        encode(&meta.last_membership).map_err(|error| StoreError::new(action(), error))?;
    batch.insert(
        &store.meta,
        keys::meta(shard, keys::Meta::Applied),
        mark.encode(),
    );
    batch.insert(
        &store.meta,
        keys::meta(shard, keys::Meta::Membership),
        membership,
    );
    store.commit_now(batch, "switch to a received snapshot")?;
    // The leader will take it that this replica has these entries, and no log holds them here.
    store.sync()?;
    delete_other_generations(store, shard, generation)?;
    Ok(mark)
}

/// Deletes what belongs to no state: an interrupted installation, or what one replaced.
fn delete_other_generations(store: &Store, shard: ShardId, keep: u32) -> Result<(), StoreError> {
    let action = "delete replaced state";
    let failed = |error: fjall::Error| StoreError::new(action, error);
    let (mut start, end) = keys::state_of_shard(shard);
    let mut batch = store.batch();
    loop {
        let mut skip = false;
        for item in store.state.range((start.clone(), end.clone())) {
            let key = item.key().map_err(failed)?;
            if keys::generation_of(&key) == Some(keep) {
                skip = true;
                break;
            }
            batch.remove(&store.state, key);
            if batch.len() >= STEP_KEYS {
                let full = std::mem::replace(&mut batch, store.batch());
                store.commit_now(full, action)?;
            }
        }
        match keep.checked_add(1) {
            // Go on behind the live generation without reading it.
            Some(next) if skip => start = Bound::Included(keys::state(shard, next, &[])),
            _ => break,
        }
    }
    store.commit_now(batch, action)
}
