//! What all actors of a node share: the shards, the clock, the tables, the options.

use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use meson_actors::ChildRef;
use meson_consensus::{ConsensusNode, Shard, ShardId};
use meson_core::definition::Replication;
use meson_core::ids::RunId;
use meson_core::units::Timestamp;
use meson_protocol::task::StoreLocation;
use meson_protocol::token::ClusterSecret;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::announce::Announcements;
use crate::cluster::Table;
use crate::counted::Counted;
use crate::guardian::Guardian;
use crate::layout::{Layout, Place, SIGNS};
use crate::machine::Definitions;
use crate::metrics::Metrics;
use crate::options::{EngineLimits, EngineOptions, EngineTiming};
use crate::peers::Coordinators;
use crate::pool::BrokerDirectory;
use crate::progress::ProgressTable;
use crate::step::{Route, Sight, Way};

/// Shared by everything that runs on a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    consensus: ConsensusNode,
    layout: Layout,
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
        let shards = u16::try_from(consensus.shards().len()).unwrap_or(u16::MAX);
        let layout = options.layout.clone();
        let metrics = Metrics::new();
        let counted = Counted {
            consensus: consensus.clone(),
            peers: Arc::clone(&options.peers),
        };
        metrics.register(|registry| registry.register_collector(Box::new(counted)));
        Self {
            inner: Arc::new(Inner {
                layout: layout.unwrap_or_else(|| Layout::single(shards)),
                consensus,
                definitions,
                metrics,
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
    pub(crate) fn home_of(&self, shard: ShardId) -> Option<&str> {
        let home = self.layout().group(shard)?.home.as_str();
        (!home.is_empty()).then_some(home)
    }

    /// The shard that a place hashes to.
    pub(crate) fn shard_at(&self, place: &Place) -> Option<Shard> {
        let shard = self.layout().shard_of(place);
        self.inner.consensus.shard(shard)
    }

    /// Which shard a thing lives in.
    pub(crate) fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// Where the broker of a pool lives.
    pub(crate) fn pool_place(&self, pool: &str) -> Place {
        let factory = self.inner.options.brokers.as_ref();
        let region = factory.and_then(|factory| factory.region(pool));
        Place::pool(pool, &region.unwrap_or_default())
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

    /// The pools of a step that asks for `pool`, or for one of `regions`: if it asks for neither, that
    /// of the region where its run is at home, else the default one. A region without a pool of its
    /// own is left out.
    pub(crate) fn route_of(&self, run: &RunId, pool: &str, regions: &[String]) -> Route {
        let options = &self.inner.options;
        let factory = options.brokers.as_ref();
        let way = |pool: String| Way {
            region: factory
                .and_then(|factory| factory.region(&pool))
                .unwrap_or_default(),
            pool,
        };
        if !pool.is_empty() {
            return Route::new(vec![way(pool.to_owned())]);
        }
        let home = self.layout().shard_of(&Place::run(run));
        let asked: Vec<&str> = match regions {
            [] => self.home_of(home).into_iter().collect(),
            regions => regions.iter().map(String::as_str).collect(),
        };
        let ways: Vec<Way> = match factory {
            Some(factory) if !asked.is_empty() => {
                let pools: Vec<Way> = factory.pools().into_iter().map(way).collect();
                let own = |region: &&str| pools.iter().find(|way| way.region == *region).cloned();
                asked.iter().filter_map(own).collect()
            }
            _ => Vec::new(),
        };
        if ways.is_empty() {
            return Route::new(vec![way(options.default_pool.clone())]);
        }
        Route::new(ways)
    }

    /// How it stands with the pools of a route, seen from here.
    pub(crate) fn sights(&self, route: &Route) -> Vec<Sight> {
        let reach = |way: &Way| self.brokers().reach(&way.pool).gone();
        route.ways().iter().map(reach).collect()
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

    /// Twelve letters and digits, for the id of a new run: 60 bits, less what the last one says of
    /// where the run lives.
    pub(crate) fn run_suffix(&self, home: &str, reach: Replication) -> String {
        let home = if home.is_empty() {
            &self.inner.options.region
        } else {
            home
        };
        let last = self.layout().signs_for(home, reach);
        let bits: u64 = self
            .inner
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random();
        (0..12)
            .map(|n| {
                let bits = (bits >> (5 * n)) as usize & 31;
                let sign = if n < 11 {
                    SIGNS[bits]
                } else {
                    last[bits % last.len()]
                };
                char::from(sign)
            })
            .collect()
    }
}
