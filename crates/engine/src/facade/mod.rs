//! The engine as everybody else sees it: submit runs, look at them, steer them.
//!
//! * [`submit`]: new runs, bundles.
//! * [`query`]: a run, its history, an artifact; [`lists`]: of all shards' runs and artifacts;
//!   [`explain`]: why steps do not run; [`profile`]: what
//!   steps used.
//! * [`pools`]: what brokers say. * [`cluster`]: the node and its shards; [`membership`]: who
//!   belongs to it; [`replicas`]: its own
//!   copies of them; [`health`]: whether it serves.
//!
//! Every call ends within its deadline, whatever happens to actors meanwhile.

mod cluster;
mod explain;
mod health;
mod lists;
mod membership;
mod pools;
mod profile;
mod query;
mod replicas;
mod submit;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use meson_actors::{Supervisor, SupervisorOptions};
use meson_consensus::ConsensusNode;
use meson_core::ids::{RunId, TaskId};
use meson_core::run::Input;
use tokio::sync::watch;

use crate::calls::{ShardCall, ShardReply};
use crate::cluster::keeper;
use crate::error::EngineError;
use crate::guardian;
use crate::layout::Place;
use crate::machine::Definitions;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::options::EngineOptions;
use crate::peers::liaison;
use crate::pool::BrokerDirectory;

pub use self::health::Health;
pub use self::lists::Coverage;
pub(crate) use self::submit::Submission;

/// A running engine. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) node: Node,
    supervisors: Arc<Mutex<Vec<Supervisor>>>,
}

impl Engine {
    /// Starts the guardians of all shards of an opened node. Actors start as soon as this node
    /// leads their shard. The node must have been opened with
    /// [`ShardMachine`](crate::machine::ShardMachine).
    ///
    /// Must be called in a tokio runtime, and on a thread with a `LocalSet` if a spawner of the
    /// options is the current thread.
    #[must_use]
    pub fn start(consensus: ConsensusNode, options: EngineOptions) -> Self {
        let definitions = Definitions::new(options.limits.cached_definitions);
        let node = Node::new(consensus, options, definitions);
        let mut supervisors = Vec::new();
        for shard in node.consensus().shards() {
            let Some(supervisor) = guardian::start(&node, shard) else {
                node.fail("no spawner was given to run the shards on".into());
                break;
            };
            let (failing, escalated) = (node.clone(), supervisor.escalated());
            let id = shard.id();
            // Ends with the supervisor; it only carries its last word.
            tokio::spawn(async move {
                if let Some(reason) = escalated.await {
                    tracing::error!(shard = %id, reason = &*reason, "a shard's guardian gave up");
                    failing.fail(format!("the guardian of shard {id} gave up: {reason}").into());
                }
            });
            supervisors.push(supervisor);
        }
        supervisors.extend(stand_ins(&node));
        let (keeping, kept) = (node.clone(), node.clone());
        // Ends when the engine does; should it end in another way, the node is of no more use.
        tokio::spawn(async move {
            let keeper = tokio::spawn(keeper::run(keeping));
            if let Err(error) = keeper.await {
                kept.fail(format!("the keeper of the cluster ended: {error}").into());
            }
        });
        Self {
            node,
            supervisors: Arc::new(Mutex::new(supervisors)),
        }
    }

    /// A handle for the engine's own actors: it owns no supervisor.
    pub(crate) fn of(node: Node) -> Self {
        Self {
            node,
            supervisors: Arc::default(),
        }
    }

    /// Stops all actors. The consensus node is shut down by whoever opened it, afterwards.
    pub async fn shutdown(&self) {
        self.node.close();
        let supervisors = {
            let mut held = self
                .supervisors
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *held)
        };
        for supervisor in &supervisors {
            supervisor.close();
        }
        for supervisor in &supervisors {
            supervisor.shutdown().await;
        }
        self.node.forget_guardians();
    }

    /// Becomes `Some` when supervision has nobody left to turn to: the process should exit, and
    /// its service manager start it again.
    #[must_use]
    pub fn failures(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.node.failures()
    }

    /// What the engine counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.node.metrics()
    }

    /// All metrics, as Prometheus reads them.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.node.metrics().text()
    }

    /// Which broker serves which pool.
    #[must_use]
    pub fn brokers(&self) -> &BrokerDirectory {
        self.node.brokers()
    }

    /// Whether `token` is the attempt's own.
    #[must_use]
    pub fn verify_task_token(&self, task: &TaskId, token: &str) -> bool {
        self.node.secret().verify(task, token)
    }

    /// Ends a run: nothing more of it starts, and what runs is killed. Asking again changes
    /// nothing.
    ///
    /// # Errors
    /// There is no such run, it has ended already, or its shard cannot be reached.
    pub async fn cancel(&self, run: &RunId, reason: &str) -> Result<(), EngineError> {
        let state = self.summary(run).await?.state;
        if state == "cancelled" {
            return Ok(());
        }
        if state != "running" {
            return Err(EngineError::WrongState {
                action: "cancel",
                run: run.clone(),
                state,
                remedy: "an ended run needs no cancelling",
            });
        }
        self.tell(
            run,
            Input::Cancel {
                reason: reason.to_owned(),
            },
        )
        .await
    }

    /// Lets an ended run go on: what did not succeed again, or everything from a step on.
    ///
    /// # Errors
    /// There is no such run or step, it has not ended, or its shard cannot be reached.
    pub async fn retry(&self, run: &RunId, from: Option<&str>) -> Result<(), EngineError> {
        let state = self.summary(run).await?.state;
        if state == "running" {
            return Err(EngineError::WrongState {
                action: "retry",
                run: run.clone(),
                state,
                remedy: "wait until it has ended, or cancel it first",
            });
        }
        if state == "succeeded" && from.is_none() {
            return Err(EngineError::WrongState {
                action: "retry",
                run: run.clone(),
                state,
                remedy: "nothing of it failed: say from which step it is to run again",
            });
        }
        let from = match from {
            Some(step) => {
                let definition = self.definition(run).await?;
                let found = definition.step_named(step).map(|(node, _)| node);
                Some(found.ok_or_else(|| EngineError::StepNotFound {
                    run: run.clone(),
                    step: step.to_owned(),
                    similar: crate::error::similar(
                        step,
                        definition.steps().map(|(_, step)| step.name.as_str()),
                    ),
                })?)
            }
            None => None,
        };
        self.tell(run, Input::Retry { from }).await
    }

    async fn tell(&self, run: &RunId, input: Input) -> Result<(), EngineError> {
        let call = ShardCall::Tell {
            run: run.clone(),
            input,
        };
        match self.node.call(&Place::run(run), call).await? {
            ShardReply::Done => Ok(()),
            other => Err(other.unexpected("tell the run")),
        }
    }
}

/// Those who stand in for brokers that run on other coordinators.
fn stand_ins(node: &Node) -> Option<Supervisor> {
    let factory = node.options().brokers.clone()?;
    let spawner = node.options().spawners.first()?;
    let options = SupervisorOptions::new("liaisons").intensity(node.timing().intensity);
    let supervisor = Supervisor::start_on(&**spawner, options);
    for pool in factory.pools() {
        // From here on it is known for how long it cannot be reached.
        let _ = node.brokers().reach(&pool);
        liaison::start(node, &pool, &supervisor);
    }
    let (failing, escalated) = (node.clone(), supervisor.escalated());
    tokio::spawn(async move {
        if let Some(reason) = escalated.await {
            failing.fail(format!("those who stand in for brokers gave up: {reason}").into());
        }
    });
    Some(supervisor)
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shards: BTreeMap<_, _> = self
            .node
            .consensus()
            .shards()
            .iter()
            .map(|shard| (shard.id().get(), *shard.leadership().borrow()))
            .collect();
        f.debug_struct("Engine")
            .field("shards", &shards)
            .finish_non_exhaustive()
    }
}
