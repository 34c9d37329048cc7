//! What all actors of a node share: the shards, the clock, the tables, the options.

use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use meson_actors::ChildRef;
use meson_consensus::{ConsensusNode, Shard, ShardId};
use meson_core::units::Timestamp;
use meson_protocol::task::StoreLocation;
use meson_protocol::token::ClusterSecret;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::announce::Announcements;
use crate::cluster::Table;
use crate::guardian::Guardian;
use crate::machine::Definitions;
use crate::metrics::Metrics;
use crate::options::{EngineLimits, EngineOptions, EngineTiming};
use crate::peers::Coordinators;
use crate::pool::BrokerDirectory;
use crate::progress::ProgressTable;

/// Shared by everything that runs on a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    consensus: ConsensusNode,
    options: EngineOptions,
    definitions: Definitions,
    metrics: Metrics,
    brokers: BrokerDirectory,
    progress: ProgressTable,
    announcements: Announcements,
    guardians: DashMap<ShardId, ChildRef<Guardian>>,
    table: Table,
    closing: watch::Sender<bool>,
    random: Mutex<StdRng>,
    failed: watch::Sender<Option<Arc<str>>>,
}

impl Node {
    pub(crate) fn new(
        consensus: ConsensusNode,
        options: EngineOptions,
        definitions: Definitions,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                consensus,
                definitions,
                metrics: Metrics::new(),
                brokers: BrokerDirectory::default(),
                progress: ProgressTable::new(options.limits.progress_entries),
                announcements: Announcements::default(),
                guardians: DashMap::new(),
                table: Table::new(),
                closing: watch::Sender::new(false),
                random: Mutex::new(StdRng::seed_from_u64(options.seed)),
                failed: watch::Sender::new(None),
                options,
            }),
        }
    }

    pub(crate) fn consensus(&self) -> &ConsensusNode {
        &self.inner.consensus
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.inner.options
    }

    pub(crate) fn limits(&self) -> &EngineLimits {
        &self.inner.options.limits
    }

    pub(crate) fn timing(&self) -> &EngineTiming {
        &self.inner.options.timing
    }

    pub(crate) fn coordinators(&self) -> &[String] {
        &self.inner.options.coordinators
    }

    pub(crate) fn secret(&self) -> &ClusterSecret {
        &self.inner.options.secret
    }

    pub(crate) fn store(&self) -> &StoreLocation {
        &self.inner.options.store
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.options.clock.now()
    }

    pub(crate) fn definitions(&self) -> &Definitions {
        &self.inner.definitions
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn brokers(&self) -> &BrokerDirectory {
        &self.inner.brokers
    }

    pub(crate) fn progress(&self) -> &ProgressTable {
        &self.inner.progress
    }

    pub(crate) fn announcements(&self) -> &Announcements {
        &self.inner.announcements
    }

    pub(crate) fn peers(&self) -> &dyn Coordinators {
        &*self.inner.options.peers
    }

    /// What the other coordinators said of themselves.
    pub(crate) fn table(&self) -> &Table {
        &self.inner.table
    }

    /// Resolves when the engine ends.
    pub(crate) async fn closed(&self) {
        let mut closing = self.inner.closing.subscribe();
        // The sender lives as long as this node's handle.
        let _ = closing.wait_for(|closing| *closing).await;
    }

    pub(crate) fn close(&self) {
        self.inner.closing.send_replace(true);
    }

    /// The region that should lead a shard, if it has one.
    pub(crate) fn home_of(&self, _shard: ShardId) -> Option<String> {
        None
    }

    /// The shard that a place hashes to.
    pub(crate) fn shard_at(&self, place: &[u8]) -> Option<Shard> {
        self.inner
            .consensus
            .shard(self.inner.consensus.shard_of(place))
    }

    /// The guardian of a shard, once it was started.
    pub(crate) fn guardian(&self, shard: ShardId) -> Option<ChildRef<Guardian>> {
        self.inner
            .guardians
            .get(&shard)
            .map(|guardian| guardian.clone())
    }

    pub(crate) fn set_guardian(&self, shard: ShardId, guardian: ChildRef<Guardian>) {
        self.inner.guardians.insert(shard, guardian);
    }

    /// Forgets the guardians: their supervisors hold the node, and they it.
    pub(crate) fn forget_guardians(&self) {
        self.inner.guardians.clear();
    }

    /// The pool of a step that asks for `pool`.
    pub(crate) fn pool_or_default(&self, pool: &str) -> String {
        if pool.is_empty() {
            self.inner.options.default_pool.clone()
        } else {
            pool.to_owned()
        }
    }

    /// The last resort of supervision: the node serves no more.
    pub(crate) fn fail(&self, reason: Arc<str>) {
        self.inner.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                *failed = Some(reason);
            }
            first
        });
    }

    pub(crate) fn failures(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.inner.failed.subscribe()
    }

    /// Twelve letters and digits, for the id of a new run: 60 bits.
    pub(crate) fn run_suffix(&self) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let bits: u64 = self
            .inner
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random();
        (0..12)
            .map(|n| char::from(ALPHABET[(bits >> (5 * n)) as usize & 31]))
            .collect()
    }
}
