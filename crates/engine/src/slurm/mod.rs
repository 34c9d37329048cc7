//! Slurm behind the broker.
//!
//! ```text
//!   broker ── calls ──► session ──► ledger, offers (pure) ──► sbatch, scancel
//!      ▲                  ▲                                        │
//!      └──── events ──────┴◄── squeue, scontrol · shared folder ◄──┴── meson-executor --task-folder
//! ```
//!
//! The broker wants offers, launches, updates that come again until they are acknowledged, and a
//! session that fences off the one before. Slurm has a queue of its own, and nothing of these. So:
//!
//! * [`offers`]: what is free on nodes becomes an offer; a launch becomes a job for that node.
//! * [`spool`]: an attempt has a folder that coordinators and nodes share. Its executor says there
//!   what it would tell a Mesos agent, and it stays there until it is acknowledged.
//! * [`ledger`]: an attempt's life, from what its folder and the list of jobs say. `sbatch` may
//!   be called again when nobody knows whether it worked, since a job has to claim its attempt.
//! * [`verdict`]: what the end of a job means, and whose retry it costs.
//! * [`session`]: carries out; * [`manager`]: begins sessions.

mod ledger;
mod manager;
mod offers;
mod session;
mod spool;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meson_actors::{BoxError, Supervisor};
use meson_slurm::Commands;

pub use self::spool::Owner;

use self::manager::Manager;
use crate::broker::{self, Settings};
use crate::pool::{BrokerContext, BrokerFactory};

/// A Slurm partition to take resources from.
#[derive(Debug, Clone)]
pub struct SlurmPool {
    /// Its name, as steps write it; `default` serves steps that name none.
    pub name: String,
    /// The region that it is in; empty: none in particular.
    pub region: String,
    /// The partition that jobs are submitted to.
    pub partition: String,
    /// Who pays, if somebody has to be named.
    pub account: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// The reservation that jobs run in.
    pub reservation: Option<String>,
    /// Minutes after which Slurm ends a job; the partition's own limit otherwise.
    pub time_limit_minutes: Option<u64>,
    /// Whose jobs to look at.
    pub user: String,
    /// Whom jobs run as, where that is somebody else than this process: only root may say so.
    pub owner: Option<Owner>,
    /// A folder that coordinators and nodes share.
    pub spool: PathBuf,
    /// A folder of each node's own to work in; in the shared one otherwise.
    pub scratch: Option<PathBuf>,
    /// How to speak to Slurm.
    pub commands: Commands,
    /// Time between two questions to Slurm.
    pub poll: Duration,
    /// The executor's path on nodes.
    pub executor: String,
    /// What it uses beside its step, in mebibytes.
    pub executor_mib: u64,
    /// How the pool is used.
    pub settings: Settings,
    /// Decides names of sessions and updates.
    pub seed: u64,
}

/// Starts a broker for each of these pools.
#[derive(Debug, Clone)]
pub struct SlurmBrokers {
    pools: Vec<Arc<SlurmPool>>,
}

impl SlurmBrokers {
    /// A factory for these pools.
    pub fn new(pools: Vec<SlurmPool>) -> Self {
        Self {
            pools: pools.into_iter().map(Arc::new).collect(),
        }
    }

    fn pool(&self, name: &str) -> Option<&Arc<SlurmPool>> {
        self.pools.iter().find(|pool| pool.name == name)
    }
}

impl BrokerFactory for SlurmBrokers {
    fn pools(&self) -> Vec<String> {
        self.pools.iter().map(|pool| pool.name.clone()).collect()
    }

    fn region(&self, name: &str) -> Option<String> {
        let pool = self.pool(name)?;
        (!pool.region.is_empty()).then(|| pool.region.clone())
    }

    fn start(&self, supervisor: &Supervisor, context: BrokerContext) -> Result<(), BoxError> {
        let pool = self
            .pool(&context.pool)
            .ok_or_else(|| format!("pool {:?} is not configured here", context.pool))?;
        let manager = Manager::new(Arc::clone(pool), context.clock.clone());
        broker::start(
            supervisor,
            context,
            pool.settings.clone(),
            Arc::new(manager),
        )
    }
}
