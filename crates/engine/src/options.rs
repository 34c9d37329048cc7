//! What an engine is told when it starts.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::ArbiterHandle;
use meson_actors::{ArbiterSpawner, Intensity, LocalSpawner, Spawner};
use meson_protocol::task::StoreLocation;
use meson_protocol::token::ClusterSecret;

use crate::clock::{Clock, SharedClock};
use crate::layout::Layout;
use crate::peers::{Coordinators, Nobody};
use crate::pool::BrokerFactory;

/// How an engine starts.
#[derive(Clone)]
pub struct EngineOptions {
    /// The threads that shards are spread over, each with all its actors on one of them.
    pub spawners: Vec<Arc<dyn Spawner>>,
    /// Wall time.
    pub clock: SharedClock,
    /// Seed of run ids and back-off jitter.
    pub seed: u64,
    /// By which attempts prove themselves.
    pub secret: ClusterSecret,
    /// Base addresses of coordinators, given to executors.
    pub coordinators: Vec<String>,
    /// Where artifacts are, given to executors.
    pub store: StoreLocation,
    /// Which shard a thing lives in, with as many shards as the node was opened with; none: they
    /// are one group.
    pub layout: Option<Layout>,
    /// How other coordinators are reached.
    pub peers: Arc<dyn Coordinators>,
    /// Starts brokers; none: only no-op steps can run.
    pub brokers: Option<Arc<dyn BrokerFactory>>,
    /// The pool of steps that name none.
    pub default_pool: String,
    /// Where this coordinator is.
    pub region: String,
    /// This coordinator's HTTP address, for the cluster's view.
    pub http_addr: String,
    /// What is refused, and how much is held in memory.
    pub limits: EngineLimits,
    /// How long is waited for what.
    pub timing: EngineTiming,
}

/// Bounds; an error that enforces one names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Longest definition, as JSON, in bytes.
    pub definition_bytes: usize,
    /// Longest parameters of a run, as JSON, in bytes.
    pub params_bytes: usize,
    /// Longest bundle, in bytes (DESIGN D12).
    pub bundle_bytes: usize,
    /// A piece of a bundle in one command, in bytes.
    pub bundle_piece_bytes: usize,
    /// Events in one proposal of a run, in bytes: more wait for the next one.
    pub proposal_bytes: usize,
    /// Runs whose actors are being started at a time, per shard.
    pub starting_runs: usize,
    /// Inputs of a run that may wait in its actor; more senders are told to try again.
    pub run_mailbox: usize,
    /// Attempts whose progress is remembered.
    pub progress_entries: usize,
    /// Longest page of a list.
    pub page_items: usize,
    /// Index entries that one page may look at to find its items.
    pub page_scan: usize,
    /// Compiled definitions kept in memory, per node.
    pub cached_definitions: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            definition_bytes: 2 << 20,
            params_bytes: 256 << 10,
            bundle_bytes: 16 << 20,
            bundle_piece_bytes: 512 << 10,
            proposal_bytes: 512 << 10,
            starting_runs: 64,
            run_mailbox: 4_096,
            progress_entries: 100_000,
            page_items: 1_000,
            page_scan: 20_000,
            cached_definitions: 256,
        }
    }
}

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineTiming {
    /// Deadline of a call to the engine.
    pub call: Duration,
    /// Longest wait of a long poll.
    pub long_poll: Duration,
    /// A confirmed launch of which nothing is heard for so long is reconciled (MESOS.md 14).
    pub launch: Duration,
    /// How long the update that carries a task's outputs is awaited after a reconciliation said
    /// that the task has ended: agents repeat it after 10, 20, 40, 80 s.
    pub result: Duration,
    /// A kill that is not answered is repeated after so long.
    pub kill: Duration,
    /// First pause before asking a new broker, doubled each time that one is lost.
    pub broker_retry: Duration,
    /// A pool that is out of reach for so long is left for the next region by steps that name
    /// several: by attempts that wait there at once, by those that were launched there when the
    /// step's patience with what is out of sight ends.
    pub spill: Duration,
    /// Restarts of actors that are tolerated, at each level of supervision.
    pub intensity: Intensity,
    /// Times that a shard's guardian may give up leadership before the node counts as failed.
    pub guardian_intensity: Intensity,
}

impl Default for EngineTiming {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(10),
            long_poll: Duration::from_secs(30),
            launch: Duration::from_secs(30),
            result: Duration::from_secs(180),
            kill: Duration::from_secs(10),
            broker_retry: Duration::from_millis(50),
            spill: Duration::from_secs(30),
            intensity: Intensity::default(),
            guardian_intensity: Intensity {
                restarts: 5,
                window: Duration::from_secs(60),
            },
        }
    }
}

impl EngineOptions {
    /// Options with default limits, everything on the current thread, and no broker.
    pub fn new(clock: impl Clock, seed: u64, secret: ClusterSecret) -> Self {
        Self {
            spawners: vec![Arc::new(LocalSpawner)],
            clock: Arc::new(clock),
            seed,
            secret,
            coordinators: Vec::new(),
            store: StoreLocation::default(),
            layout: None,
            peers: Arc::new(Nobody),
            brokers: None,
            default_pool: "default".to_owned(),
            region: String::new(),
            http_addr: String::new(),
            limits: EngineLimits::default(),
            timing: EngineTiming::default(),
        }
    }

    /// Spreads the shards over these arbiters.
    #[must_use]
    pub fn on_arbiters(mut self, arbiters: impl IntoIterator<Item = ArbiterHandle>) -> Self {
        self.spawners = arbiters
            .into_iter()
            .map(|arbiter| Arc::new(ArbiterSpawner(arbiter)) as Arc<dyn Spawner>)
            .collect();
        self
    }
}
