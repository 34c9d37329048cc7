//! Brokers as the rest of the engine sees them: how one is started, and how it is found.
//!
//! The guardian of the shard that a pool's place hashes to starts the pool's broker through a
//! [`BrokerFactory`]. The broker's current incarnation is published under the pool's name; step
//! actors watch that name, so nobody holds the address of a dead broker for long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::prelude::*;
use dashmap::DashMap;
use meson_actors::{ChildRef, Phase, Supervisor};
use meson_consensus::{Consistency, Shard, Term};
use meson_core::ids::TaskId;
use tokio::sync::watch;

use crate::broker::messages::{Acknowledge, Adopt, Confirm, Enqueue, Explain, Kill, Look, Unheard};
use crate::clock::SharedClock;
use crate::error::EngineError;
use crate::machine::{self, Command, Response};
use crate::metrics::Metrics;
use crate::reach::{Lack, Reach};

/// Where to send a broker's messages: one incarnation of it, or a stand-in that forwards them.
#[derive(Clone)]
pub struct BrokerLink {
    /// See [`Enqueue`].
    pub enqueue: Recipient<Enqueue>,
    /// See [`Confirm`].
    pub confirm: Recipient<Confirm>,
    /// See [`Adopt`].
    pub adopt: Recipient<Adopt>,
    /// See [`Kill`].
    pub kill: Recipient<Kill>,
    /// See [`Acknowledge`].
    pub acknowledge: Recipient<Acknowledge>,
    /// See [`Unheard`].
    pub unheard: Recipient<Unheard>,
    /// See [`Explain`].
    pub explain: Recipient<Explain>,
    /// See [`Look`].
    pub look: Recipient<Look>,
}

impl BrokerLink {
    /// A link to this actor.
    pub fn to<A>(addr: &Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>>
            + Handler<Enqueue>
            + Handler<Confirm>
            + Handler<Adopt>
            + Handler<Kill>
            + Handler<Acknowledge>
            + Handler<Unheard>
            + Handler<Explain>
            + Handler<Look>,
    {
        Self {
            enqueue: addr.clone().recipient(),
            confirm: addr.clone().recipient(),
            adopt: addr.clone().recipient(),
            kill: addr.clone().recipient(),
            acknowledge: addr.clone().recipient(),
            unheard: addr.clone().recipient(),
            explain: addr.clone().recipient(),
            look: addr.clone().recipient(),
        }
    }
}

/// Which broker serves which pool, now and from now on. Cheap to clone.
///
/// A pool's broker runs here, or somebody here stands in for it. The broker itself comes first: the
/// two change hands when leadership moves, in no certain order.
#[derive(Clone, Default)]
pub struct BrokerDirectory {
    pools: Arc<DashMap<String, Arc<Place>>>,
}

#[derive(Default)]
struct Place {
    /// The broker, if it runs here.
    local: watch::Sender<Option<BrokerLink>>,
    /// Whether it has a session with the resource manager.
    session: watch::Sender<bool>,
    remote: Mutex<Remote>,
    /// Whom to speak to.
    either: watch::Sender<Option<BrokerLink>>,
    /// Whether that is of any use.
    reach: watch::Sender<Reach>,
}

/// A broker that runs elsewhere.
#[derive(Default)]
struct Remote {
    /// Who stands in for it.
    link: Option<BrokerLink>,
    /// Whether it has a session with the resource manager, as it last said.
    session: bool,
}

impl Place {
    /// Tells everybody whether the pool is of use. `remote` is locked meanwhile, so that two who
    /// publish do not overtake each other.
    fn settle(&self, remote: &Remote) {
        let local = self.local.borrow().is_some();
        let session = match &remote.link {
            _ if local => Some(*self.session.borrow()),
            Some(_) => Some(remote.session),
            None => None,
        };
        let lack = match session {
            None => Some(Lack::Broker),
            Some(false) => Some(Lack::Session),
            Some(true) => None,
        };
        self.reach.send_if_modified(|reach| {
            let next = reach.next(lack);
            next != std::mem::replace(reach, next)
        });
    }
}

impl BrokerDirectory {
    fn place(&self, pool: &str) -> Arc<Place> {
        if let Some(place) = self.pools.get(pool) {
            return Arc::clone(&place);
        }
        Arc::clone(&self.pools.entry(pool.to_owned()).or_default())
    }

    /// Whom to speak to about this pool, `None` while there is nobody.
    #[must_use]
    pub fn watch(&self, pool: &str) -> watch::Receiver<Option<BrokerLink>> {
        self.place(pool).either.subscribe()
    }

    /// The broker of this pool, `None` while it does not run here.
    pub(crate) fn watch_local(&self, pool: &str) -> watch::Receiver<Option<BrokerLink>> {
        self.place(pool).local.subscribe()
    }

    /// Whom to speak to about this pool at this moment.
    #[must_use]
    pub fn current(&self, pool: &str) -> Option<BrokerLink> {
        self.pools.get(pool)?.either.borrow().clone()
    }

    /// Whether the pool is of use to this coordinator, now and from now on.
    pub(crate) fn watch_reach(&self, pool: &str) -> watch::Receiver<Reach> {
        self.place(pool).reach.subscribe()
    }

    /// Whether the pool is of use to this coordinator at this moment.
    pub(crate) fn reach(&self, pool: &str) -> Reach {
        *self.place(pool).reach.borrow()
    }

    /// Whether the broker that runs here has a session with the resource manager.
    pub(crate) fn watch_session(&self, pool: &str) -> watch::Receiver<bool> {
        self.place(pool).session.subscribe()
    }

    /// Tells everybody which broker serves the pool here.
    pub fn publish(&self, pool: &str, link: Option<BrokerLink>) {
        let place = self.place(pool);
        let remote = lock(&place.remote);
        place.local.send_replace(link.clone());
        place.settle(&remote);
        place
            .either
            .send_replace(link.or_else(|| remote.link.clone()));
    }

    /// Tells everybody whether the broker that runs here has a session with the resource manager.
    pub(crate) fn publish_session(&self, pool: &str, session: bool) {
        let place = self.place(pool);
        let remote = lock(&place.remote);
        place.session.send_replace(session);
        place.settle(&remote);
    }

    /// Tells everybody who stands in for a broker elsewhere. It has no session until it says so.
    pub(crate) fn publish_remote(&self, pool: &str, link: Option<BrokerLink>) {
        let place = self.place(pool);
        let mut remote = lock(&place.remote);
        if remote.link.is_none() && link.is_none() {
            return;
        }
        *remote = Remote {
            link: link.clone(),
            session: false,
        };
        place.settle(&remote);
        if place.local.borrow().is_none() {
            place.either.send_replace(link);
        }
    }

    /// Tells everybody whether the broker elsewhere has a session with the resource manager.
    pub(crate) fn publish_remote_session(&self, pool: &str, session: bool) {
        let place = self.place(pool);
        let mut remote = lock(&place.remote);
        remote.session = session;
        place.settle(&remote);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held leaves a whole link behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts brokers. Given to the engine by the binary, which knows the pools and their masters.
pub trait BrokerFactory: Send + Sync + 'static {
    /// The pools that there are. All coordinators of a cluster are configured with the same ones.
    fn pools(&self) -> Vec<String>;

    /// The region that a pool is in, if it says so.
    fn region(&self, pool: &str) -> Option<String> {
        let _ = pool;
        None
    }

    /// Starts the broker of `context.pool` as a child of `supervisor`, on the current thread, and
    /// hands the child to [`BrokerContext::publish`].
    ///
    /// # Errors
    /// Whatever keeps it from starting; it is tried again under the shard's next leader.
    fn start(
        &self,
        supervisor: &Supervisor,
        context: BrokerContext,
    ) -> Result<(), meson_actors::BoxError>;
}

/// Several kinds of resource managers beside each other.
#[derive(Clone, Default)]
pub struct BrokerFactories(pub Vec<Arc<dyn BrokerFactory>>);

impl BrokerFactory for BrokerFactories {
    fn pools(&self) -> Vec<String> {
        self.0.iter().flat_map(|factory| factory.pools()).collect()
    }

    fn region(&self, pool: &str) -> Option<String> {
        self.0.iter().find_map(|factory| factory.region(pool))
    }

    fn start(
        &self,
        supervisor: &Supervisor,
        context: BrokerContext,
    ) -> Result<(), meson_actors::BoxError> {
        let factory = self
            .0
            .iter()
            .find(|factory| factory.pools().contains(&context.pool));
        match factory {
            Some(factory) => factory.start(supervisor, context),
            None => Err(format!("pool {:?} is not configured here", context.pool).into()),
        }
    }
}

/// What a broker gets from the engine.
#[derive(Clone)]
pub struct BrokerContext {
    /// The pool that it serves.
    pub pool: String,
    /// The term of its shard: the fence of all that it commits.
    pub term: Term,
    /// Wall time.
    pub clock: SharedClock,
    /// To count in.
    pub metrics: Metrics,
    pub(crate) shard: Shard,
    pub(crate) directory: BrokerDirectory,
    pub(crate) wanted: Arc<dyn WantedTasks>,
}

/// Whether an attempt is still of interest.
#[async_trait::async_trait]
pub(crate) trait WantedTasks: Send + Sync {
    /// Whether the attempt lives, or may live, in the eyes of its run. An error: nobody can tell.
    async fn is_wanted(&self, task: &TaskId) -> Result<bool, EngineError>;
}

impl BrokerContext {
    /// Publishes the child's current incarnation under the pool's name, until it ends.
    /// Must be called on the child's thread.
    pub fn publish<A>(&self, child: &ChildRef<A>)
    where
        A: Actor<Context = Context<A>>
            + Handler<Enqueue>
            + Handler<Confirm>
            + Handler<Adopt>
            + Handler<Kill>
            + Handler<Acknowledge>
            + Handler<Unheard>
            + Handler<Explain>
            + Handler<Look>,
    {
        let mut phases = child.watch();
        let (pool, directory, metrics) = (
            self.pool.clone(),
            self.directory.clone(),
            self.metrics.clone(),
        );
        // It ends with the child, and has no state that a panic could lose.
        tokio::task::spawn_local(async move {
            loop {
                let (link, gone) = match &*phases.borrow_and_update() {
                    Phase::Running { addr, incarnation } => {
                        if *incarnation > 1 {
                            metrics.restarted("broker");
                        }
                        (Some(BrokerLink::to(addr)), false)
                    }
                    Phase::Starting { .. } | Phase::Down => (None, false),
                    Phase::Gone(_) => (None, true),
                };
                directory.publish(&pool, link);
                if gone || phases.changed().await.is_err() {
                    break;
                }
            }
            directory.publish(&pool, None);
        });
    }

    /// Tells everybody whether the broker has a session with the resource manager. Without one the
    /// pool counts as out of reach, and after a while steps that may go elsewhere do.
    pub fn in_session(&self, session: bool) {
        self.directory.publish_session(&self.pool, session);
    }

    /// The FrameworkID under which the pool knows us, if it does.
    ///
    /// # Errors
    /// The shard cannot be read here.
    pub async fn framework_id(&self) -> Result<Option<String>, EngineError> {
        let action = "read the pool's FrameworkID";
        let view = self
            .shard
            .read(Consistency::Linearizable)
            .await
            .map_err(|error| unavailable(action, &error))?;
        let stored = view
            .get(&machine::keys::framework(&self.pool))
            .map_err(|error| unavailable(action, &error))?;
        Ok(stored.map(|id| String::from_utf8_lossy(&id).into_owned()))
    }

    /// Makes a FrameworkID durable, before anything is launched under it (MESOS.md 2). Unless
    /// `replace` is given, an id that is stored already stays; what is stored is returned.
    ///
    /// # Errors
    /// It could not be committed: somebody else leads the shard, and runs the broker.
    pub async fn set_framework_id(&self, id: &str, replace: bool) -> Result<String, EngineError> {
        let command = Command::SetFrameworkId {
            pool: self.pool.clone(),
            id: id.to_owned(),
            replace,
        };
        match machine::propose(&self.shard, self.term, &command).await? {
            Response::FrameworkId(stored) => Ok(stored),
            other => Err(other.unexpected("store the pool's FrameworkID")),
        }
    }

    /// Whether an attempt that the resource manager knows and the broker does not is still of
    /// interest: one that is not is to be killed (no task runs on that no run knows of).
    ///
    /// # Errors
    /// Nobody can tell now: the task has to be left alone.
    pub async fn is_wanted(&self, task: &TaskId) -> Result<bool, EngineError> {
        self.wanted.is_wanted(task).await
    }
}

fn unavailable(action: &'static str, error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Unavailable {
        action,
        reason: error.to_string(),
    }
}
