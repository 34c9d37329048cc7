//! A node: its data directory, its shards, its end.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{info, warn};

use crate::{
    errors::{Failure, OpenError},
    ids::{NodeId, ShardId, shard_of},
    leadership::{self, Leadership},
    machine::StateMachine,
    members::{self, Birth, Members},
    network::{FrameStream, PeerRequest},
    options::Options,
    proposer::Proposer,
    raft,
    shard::{Shard, ShardInner},
    status::{IoStats, NodeStatus},
    store::{Failures, LogInfo, LogStore, LogWriter, SnapshotInbox, StateStore, Store, StoreRef},
    traffic::Traffic,
};

/// The most shards that a cluster may have.
const MAX_SHARDS: u16 = 1_024;

/// How long a shutdown waits for the last references to the database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the size of the logs is looked at.
const LOG_CHECK: Duration = Duration::from_secs(2);

/// A node's replicas of all shards, over one data directory.
///
/// Cheap to clone; all clones are the same node. End it with [`shutdown`](Self::shutdown). A node
/// whose last handle is dropped instead stops as well, but at some time later, and its directory
/// is free only then.
#[derive(Clone)]
pub struct ConsensusNode {
    inner: Arc<NodeInner>,
}

struct NodeInner {
    node: NodeId,
    incarnation: String,
    opened_blank: bool,
    shards: Vec<Shard>,
    inboxes: Vec<SnapshotInbox>,
    store: StoreRef,
    traffic: Arc<Traffic>,
    failures: Failures,
    members: watch::Receiver<Members>,
    closing: watch::Sender<bool>,
    running: Mutex<Option<Running>>,
}

/// What a shutdown waits for.
struct Running {
    tasks: JoinSet<()>,
    writer: LogWriter,
}

impl Drop for NodeInner {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        if let Some(mut running) = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            // The tasks see `closing` and end by themselves; aborting them would cut off answers.
            running.tasks.detach_all();
        }
    }
}

impl NodeInner {
    /// The node has lost what it had acknowledged: it stops, and does not start again.
    fn unfit(&self, shard: ShardId, acknowledged: u64) {
        let reason = format!(
            "shard {shard} lacks log entries, up to {acknowledged}, that this node had acknowledged: the data directory was replaced by an older copy, or lost some of its files"
        );
        if let Some(store) = self.store.get() {
            store.mark_unfit(&reason);
        }
        self.failures
            .refuse("keeping what was acknowledged", reason);
    }
}

impl ConsensusNode {
    /// Opens a data directory, creating it if it is empty or missing, and starts its shards. They
    /// elect their leaders by themselves; see [`Shard::leadership`]. Must be called in a tokio
    /// runtime; the node's tasks live in it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(
        dir: impl AsRef<Path>,
        options: Options,
        machine: Arc<dyn StateMachine>,
    ) -> Result<Self, OpenError> {
        check(&options)?;
        let dir = dir.as_ref().to_owned();
        let store = {
            let (dir, options) = (dir.clone(), options.clone());
            tokio::task::spawn_blocking(move || Store::open(&dir, &options))
        };
        let store = store.await.map_err(|error| OpenError::Start {
            dir: dir.clone(),
            reason: error.to_string(),
        })??;
        let store = Arc::new(store);
        let failures = store.failures.clone();
        let (closing, closed) = watch::channel(false);
        let writer = LogWriter::start(Arc::clone(&store));
        let mut node = Starting {
            options: &options,
            store: &store,
            writer: &writer,
            store_ref: StoreRef::new(Arc::clone(&store)),
            closed,
            tasks: JoinSet::new(),
            shards: Vec::new(),
            inboxes: Vec::new(),
            traffic: Arc::default(),
            blank: true,
        };
        for number in 0..options.shards {
            let shard = ShardId::new(number);
            if let Err(reason) = node.start(shard, Arc::clone(&machine)).await {
                closing.send_replace(true);
                for shard in &node.shards {
                    let _ = shard.inner.raft.shutdown().await;
                }
                return Err(OpenError::Start {
                    dir,
                    reason: format!("shard {shard}: {reason}"),
                });
            }
        }
        let Starting {
            mut tasks,
            shards,
            inboxes,
            store_ref,
            closed,
            traffic,
            blank,
            ..
        } = node;
        let (all_members, members) = watch::channel(Members::new());
        let metrics = shards
            .iter()
            .map(|shard| shard.inner.raft.server_metrics())
            .collect();
        tasks.spawn(members::follow(metrics, closed, all_members));
        info!(node = %options.node_id, shards = shards.len(), dir = %dir.display(), "consensus node opened");
        Ok(Self {
            inner: Arc::new(NodeInner {
                node: options.node_id,
                incarnation: store.incarnation.clone(),
                opened_blank: blank,
                shards,
                inboxes,
                store: store_ref,
                traffic,
                failures,
                members,
                closing,
                running: Mutex::new(Some(Running { tasks, writer })),
            }),
        })
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.node
    }

    /// What was drawn when the data directory was made; see [`Options::incarnation`].
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.inner.incarnation
    }

    /// Whether no shard had a log when the directory was opened: it was new, or has lost them.
    #[must_use]
    pub fn opened_blank(&self) -> bool {
        self.inner.opened_blank
    }

    /// A shard by its number, or `None` if the cluster does not have that many.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<Shard> {
        self.inner.shards.get(usize::from(shard.get())).cloned()
    }

    /// All shards, in order.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.inner.shards
    }

    /// The shard that owns a key; see [`shard_of`].
    #[must_use]
    pub fn shard_of(&self, key: &[u8]) -> ShardId {
        shard_of(
            key,
            u16::try_from(self.inner.shards.len()).unwrap_or(u16::MAX),
        )
    }

    /// What the node knows of itself and its shards.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        NodeStatus {
            node: self.inner.node,
            failure: self.inner.failures.current(),
            shards: self.inner.shards.iter().map(Shard::status).collect(),
            io: self
                .inner
                .store
                .get()
                .map_or_else(IoStats::default, |store| store.counters.stats()),
            traffic: self.inner.traffic.stats(),
        }
    }

    /// Becomes `Some` when the node has failed and serves no more: a failed write or fsync, a full
    /// disk. It does not recover; restart the process once the cause is gone.
    #[must_use]
    pub fn failures(&self) -> watch::Receiver<Option<Failure>> {
        self.inner.failures.watch()
    }

    /// The members of all shards, as this node's replicas know them, now and from now on; empty
    /// until it has been told of any.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Members> {
        self.inner.members.clone()
    }

    /// Whether a data directory has none of a node's files yet, so that opening it would create
    /// them.
    #[must_use]
    pub fn is_new(dir: impl AsRef<Path>) -> bool {
        Store::is_new(dir.as_ref())
    }

    /// Answers a stream that another node opened through its [`crate::Network`], until it ends.
    pub async fn serve(&self, shard: ShardId, stream: FrameStream) {
        if let Some(shard) = self.shard(shard) {
            raft::serve_stream(&shard.inner.raft, stream, &self.inner.traffic).await;
        }
    }

    /// Answers a request that another node sent through its [`crate::Network`].
    pub async fn handle(&self, request: PeerRequest) -> Bytes {
        let index = usize::from(request.shard.get());
        match (self.inner.shards.get(index), self.inner.inboxes.get(index)) {
            (Some(shard), Some(inbox)) => {
                let unfit = |acknowledged| self.inner.unfit(request.shard, acknowledged);
                let (raft, traffic) = (&shard.inner.raft, &self.inner.traffic);
                raft::serve(raft, inbox, &request.body, traffic, unfit).await
            }
            // An empty answer decodes as none, which the caller takes for an unreachable replica.
            _ => Bytes::new(),
        }
    }

    /// Stops serving, lets what is under way end, and closes the data directory. When this
    /// returns, the directory can be opened again, unless a [`crate::View`] is still held.
    pub async fn shutdown(&self) {
        self.inner.closing.send_replace(true);
        let running = self
            .inner
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(Running { mut tasks, writer }) = running else {
            return;
        };
        while tasks.join_next().await.is_some() {}
        for shard in &self.inner.shards {
            if let Err(error) = shard.inner.raft.shutdown().await {
                warn!(shard = %shard.id(), %error, "a shard's task had not ended well");
            }
        }
        writer.close().await;
        let Some(store) = self.inner.store.take() else {
            return;
        };
        let mut closed = store.closed();
        drop(store);
        // Tasks of openraft that were told to end hold the store for another moment.
        let closed = async { while closed.changed().await.is_ok() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            warn!(node = %self.inner.node, "the data directory is still in use, a view of it may be held");
        } else {
            info!(node = %self.inner.node, "consensus node closed");
        }
    }
}

fn check(options: &Options) -> Result<(), OpenError> {
    let refuse = |reason: String| Err(OpenError::Options { reason });
    if !(1..=MAX_SHARDS).contains(&options.shards) {
        return refuse(format!(
            "shards is {}, but must be 1 to {MAX_SHARDS}",
            options.shards
        ));
    }
    if options.birth == Birth::Found && !options.members.contains_key(&options.node_id) {
        return refuse(format!(
            "members does not contain this node, {}",
            options.node_id
        ));
    }
    let limits = &options.limits;
    if limits.queue == 0 || limits.entry_commands == 0 || limits.command_bytes == 0 {
        return refuse("a limit of 0 would refuse everything".to_owned());
    }
    Ok(())
}

/// A node whose shards are being started.
struct Starting<'a> {
    options: &'a Options,
    store: &'a Arc<Store>,
    writer: &'a LogWriter,
    store_ref: StoreRef,
    closed: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    shards: Vec<Shard>,
    inboxes: Vec<SnapshotInbox>,
    traffic: Arc<Traffic>,
    /// No shard so far had a log.
    blank: bool,
}

impl Starting<'_> {
    async fn start(
        &mut self,
        shard: ShardId,
        machine: Arc<dyn StateMachine>,
    ) -> Result<(), String> {
        let options = self.options;
        let log = LogStore::open(
            shard,
            self.store,
            self.writer,
            options.limits.log_cache_bytes,
        )
        .map_err(|error| error.to_string())?;
        self.blank &= log.info().last().is_none();
        let state = StateStore::open(shard, self.store, machine, Some(log.durable()))
            .map_err(|error| error.to_string())?;
        let (info, inbox, applied_term) = (log.info(), state.inbox(), state.applied_term());
        let raft = raft::start(shard, options, &self.traffic, log, state).await?;

        let (leadership, leads) = watch::channel(Leadership::default());
        let failures = self.store.failures.clone();
        self.tasks.spawn(leadership::follow(
            shard,
            raft.server_metrics(),
            applied_term,
            self.closed.clone(),
            failures.clone(),
            leadership,
        ));
        let (queue, proposals) = mpsc::channel(options.limits.queue);
        let proposer = Proposer {
            raft: raft.clone(),
            limits: options.limits,
            patience: 2 * options.timing.election_max,
            queue: proposals,
            closing: self.closed.clone(),
        };
        self.tasks.spawn(proposer.run());
        self.tasks.spawn(shorten_log(
            raft.clone(),
            info.clone(),
            options.snapshots.every_log_bytes,
            self.closed.clone(),
        ));
        self.inboxes.push(inbox);
        self.shards.push(Shard {
            inner: Arc::new(ShardInner {
                id: shard,
                node: options.node_id,
                command_limit: options.limits.command_bytes,
                raft,
                log: info,
                store: self.store_ref.clone(),
                queue,
                leadership: leads,
                failures,
                closing: self.closed.clone(),
            }),
        });
        Ok(())
    }
}

/// Asks for a snapshot when a log has grown beyond its bytes; openraft itself counts entries only.
async fn shorten_log(
    raft: raft::ShardRaft,
    log: LogInfo,
    limit: u64,
    mut closing: watch::Receiver<bool>,
) {
    let mut check = tokio::time::interval(LOG_CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            _ = check.tick() => {}
        }
        if log.bytes() > limit && raft.trigger().snapshot().await.is_err() {
            break;
        }
    }
}
