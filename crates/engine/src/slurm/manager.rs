//! Begins sessions with Slurm.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use meson_mesos::scheduler::Call;
use meson_mesos::types::FrameworkId;
use meson_slurm::{Slurm, SlurmError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;

use super::SlurmPool;
use super::session::{Driver, Means, Remarks};
use super::spool::Spool;
use crate::broker::manager::{Calls, ResourceManager, Session, SubscribeError};
use crate::clock::SharedClock;

/// Calls that wait to be taken in.
const CALLS: usize = 1024;

/// A Slurm partition as a resource manager.
pub(super) struct Manager {
    pool: Arc<SlurmPool>,
    slurm: Slurm,
    clock: SharedClock,
    remarks: Remarks,
    random: Mutex<StdRng>,
}

impl Manager {
    pub(super) fn new(pool: Arc<SlurmPool>, clock: SharedClock) -> Self {
        Self {
            slurm: Slurm::new(pool.commands.clone()),
            random: Mutex::new(StdRng::seed_from_u64(pool.seed)),
            remarks: Remarks::default(),
            pool,
            clock,
        }
    }

    fn name(&self) -> String {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        format!("{:016x}", random.random::<u64>())
    }

    async fn begin(&self, id: Option<FrameworkId>) -> Result<Session, SubscribeError> {
        let (pool, slurm) = (&self.pool, &self.slurm);
        let partition = slurm.partition(&pool.partition).await.map_err(refusal)?;
        if !partition.is_up() {
            tracing::warn!(
                pool = pool.name,
                state = partition.state,
                "the partition is not up: jobs wait"
            );
        }
        let framework =
            id.unwrap_or_else(|| FrameworkId::new(format!("slurm-{}-{}", pool.name, self.name())));
        let session = self.name();
        let (spool, seen) = {
            let (shared, framework, session) =
                (Arc::clone(pool), framework.clone(), session.clone());
            let opened = tokio::task::spawn_blocking(move || {
                let spool = Spool::open(&shared.spool, &framework, shared.owner.clone())?;
                spool.begin(&session)?;
                let seen = spool.look(&BTreeMap::new())?;
                Ok::<_, std::io::Error>((spool, seen))
            });
            let opened = opened.await.unwrap_or_else(|error| Err(error.into()));
            opened.map_err(|error| {
                SubscribeError::Refused(format!(
                    "the shared folder {} cannot be used: {error}",
                    pool.spool.display()
                ))
            })?
        };
        let seed = self
            .random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .random();
        let (calls, made) = mpsc::channel(CALLS);
        let asked = self.clock.now();
        let jobs = slurm.jobs(&pool.user).await.map_err(refusal)?;
        let means = Means {
            pool: Arc::clone(pool),
            slurm: slurm.clone(),
            spool: Arc::new(spool),
            clock: self.clock.clone(),
            remarks: self.remarks.clone(),
            random: StdRng::seed_from_u64(seed),
            session,
        };
        self.remarks.set(Vec::new());
        let driver = Driver::new(means, &framework, seen, jobs, asked, made);
        Ok(Session {
            framework,
            events: driver.into_events(),
            calls: Arc::new(SlurmCalls(calls)),
        })
    }
}

/// Whether it is worth trying again as it is.
fn refusal(error: SlurmError) -> SubscribeError {
    if error.is_passing() {
        SubscribeError::Unavailable(error.to_string())
    } else {
        SubscribeError::Refused(error.to_string())
    }
}

#[async_trait]
impl ResourceManager for Manager {
    async fn subscribe(&self, id: Option<FrameworkId>) -> Result<Session, SubscribeError> {
        let session = self.begin(id).await;
        if let Err(error) = &session {
            self.remarks.set(vec![format!("Slurm: {error}")]);
        }
        session
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.get()
    }
}

struct SlurmCalls(mpsc::Sender<Call>);

#[async_trait]
impl Calls for SlurmCalls {
    async fn call(&self, call: Call) -> Result<(), String> {
        let sent = self.0.send(call).await;
        sent.map_err(|_| "the session with Slurm is over".to_owned())
    }
}
