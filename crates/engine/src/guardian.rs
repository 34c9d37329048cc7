//! The guardian of a shard: its actors live while this node leads, and not a moment longer.
//!
//! ```text
//!   node ── supervisor of the shard ── Guardian ── supervisor of the term ──┬── WorkflowActor …
//!                 │ too many:                        │ too many:            │        └── StepActor …
//!                 ▼ the node failed                  ▼ step down            └── BrokerActor
//! ```
//!
//! All actors of a term belong to one supervisor. When the term ends, so do they, before those of
//! the next term start; whatever a late one of them proposes is fenced off by its term. When too
//! many of them crash, that supervisor gives up and the guardian with it; the guardian's next
//! incarnation begins by giving up leadership, so that another coordinator takes the shard.
//!
//! A leader may be unable to commit for a moment and lead on in the same term: it had lost sight of a
//! majority, and found it again. A run's actor goes when its proposal comes to nothing, so the guardian
//! then looks through the index of active runs once more.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use meson_actors::{
    ChildRef, ChildSpec, Event, Restart, Scope, StartError, Supervisor, SupervisorOptions,
};
use meson_consensus::{Consistency, Leadership, Shard, Term};
use meson_core::ids::RunId;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::WatchStream;
use tracing::{debug, error, info, warn};

use crate::machine::keys;
use crate::node::Node;
use crate::pool::BrokerContext;
use crate::wanted::Wanted;
use crate::workflow::{self, WorkflowActor, WorkflowSeed};

/// Active runs read from the index at a time.
const LOAD_PAGE: usize = 256;
/// When there was no room for a run's actor, it is tried again after this.
const DEFERRED_RETRY: Duration = Duration::from_millis(500);
/// When a proposal came to nothing, the active runs are looked through after this.
const RELOAD_AFTER: Duration = Duration::from_millis(250);
/// Stopping all actors of a term may take so long.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// A step-down that is not noticed for so long is not waited for.
const STEP_DOWN_WITHIN: Duration = Duration::from_secs(2);

/// Sees to it that the run's actor lives, and answers with it. `None`: this node does not lead.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<ChildRef<WorkflowActor>>")]
pub(crate) struct Wake(pub(crate) RunId);

/// Something of this term could not be committed: active runs may be without their actor.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Reload(pub(crate) Term);

/// Runs whose actors went because their proposal came to nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left(Arc<Mutex<BTreeSet<String>>>);

impl Left {
    /// The run's actor is about to go.
    pub(crate) fn add(&self, run: &RunId) {
        self.lock().insert(run.as_str().to_owned());
    }

    fn take(&self, run: &str) -> bool {
        self.lock().remove(run)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The term whose actors run here, if they do.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Term>")]
pub(crate) struct CurrentTerm;

/// Panics in the guardian, for tests of supervision.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct PanicGuardian;

pub(crate) struct Guardian {
    node: Node,
    shard: Shard,
    scope: Scope,
    team: Option<Team>,
}

/// The actors of one term.
struct Team {
    term: Term,
    supervisor: Supervisor,
    starting: Arc<Semaphore>,
    /// Runs for whose actors there was no room.
    deferred: VecDeque<RunId>,
    left: Left,
    /// The index of active runs will be looked through.
    reloading: bool,
}

/// Starts the guardian of a shard, and its supervisor, on the thread that `spawner` stands for.
pub(crate) fn start(node: &Node, shard: &Shard) -> Option<Supervisor> {
    let spawners = &node.options().spawners;
    let spawner = spawners.get(usize::from(shard.id().get()) % spawners.len().max(1))?;
    let options = SupervisorOptions::new(format!("shard-{}", shard.id()))
        .intensity(node.timing().guardian_intensity)
        .shutdown_within(STOP_WITHIN * 2);
    let supervisor = Supervisor::start_on(&**spawner, options);
    let (own_node, own_shard) = (node.clone(), shard.clone());
    let spec = ChildSpec::new("guardian", move |scope: Scope| {
        let (node, shard) = (own_node.clone(), own_shard.clone());
        async move {
            if scope.incarnation() > 1 {
                node.metrics().restarted("guardian");
                give_up(&shard).await;
            }
            Ok(Guardian {
                node,
                shard,
                scope,
                team: None,
            })
        }
    })
    .restart(Restart::Permanent)
    .grace(STOP_WITHIN)
    .mailbox(16_384);
    match supervisor.start_child(spec) {
        Ok(guardian) => node.set_guardian(shard.id(), guardian),
        Err(error) => error!(shard = %shard.id(), %error, "cannot start the shard's guardian"),
    }
    Some(supervisor)
}

/// Steps down and waits until that shows: the actors to come belong to a later term.
async fn give_up(shard: &Shard) {
    let mut leadership = shard.leadership();
    let term = leadership.borrow_and_update().term;
    shard.step_down().await;
    let over = leadership.wait_for(|now| now.term > term || !now.local);
    if tokio::time::timeout(STEP_DOWN_WITHIN, over).await.is_err() {
        warn!(shard = %shard.id(), %term, "leadership could not be given up, going on with it");
    }
}

impl Actor for Guardian {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.add_stream(WatchStream::new(self.shard.leadership()));
    }
}

impl StreamHandler<Leadership> for Guardian {
    fn handle(&mut self, now: Leadership, ctx: &mut Self::Context) {
        let wanted = now.local.then_some(now.term);
        if self.team.as_ref().map(|team| team.term) == wanted {
            return;
        }
        let old = self.team.take();
        let stopped = async move {
            if let Some(team) = old {
                info!(term = %team.term, "the shard's actors stop: its term here is over");
                team.supervisor.shutdown().await;
            }
        };
        // Nothing else is handled until the old actors are gone.
        ctx.wait(stopped.into_actor(self).map(move |(), guardian, ctx| {
            if let Some(term) = wanted {
                guardian.lead(term, ctx);
            }
        }));
    }

    /// The shard is closed, and the node with it.
    fn finished(&mut self, _: &mut Self::Context) {
        if let Some(team) = self.team.take() {
            team.supervisor.close();
        }
    }
}

impl Guardian {
    fn lead(&mut self, term: Term, ctx: &mut Context<Self>) {
        info!(shard = %self.shard.id(), %term, "this node leads the shard: its actors start");
        let metrics = self.node.metrics().clone();
        let left = Left::default();
        let (gone, guardian) = (left.clone(), ctx.address().downgrade());
        let options = SupervisorOptions::new(format!("shard-{}-term-{term}", self.shard.id()))
            .intensity(self.node.timing().intensity)
            .shutdown_within(STOP_WITHIN)
            .observer(move |event| match event {
                Event::Crashed { key, failure, .. } => {
                    warn!(actor = %key, %failure, "an actor crashed");
                    metrics.crashes.inc();
                }
                // Only now is there room for another actor of the same run.
                Event::Ended { key, .. } if gone.take(key.as_str()) => {
                    if let Some(guardian) = guardian.upgrade() {
                        guardian.do_send(Reload(term));
                    }
                }
                _ => {}
            });
        let supervisor = self.scope.supervisor(options);
        self.team = Some(Team {
            term,
            starting: Arc::new(Semaphore::new(self.node.limits().starting_runs)),
            supervisor,
            deferred: VecDeque::new(),
            left,
            reloading: false,
        });
        self.start_brokers(term);
        self.load(term, None, ctx);
    }

    fn start_brokers(&self, term: Term) {
        let (Some(factory), Some(team)) = (&self.node.options().brokers, &self.team) else {
            return;
        };
        for pool in factory.pools() {
            if self.node.layout().shard_of(&self.node.pool_place(&pool)) != self.shard.id() {
                continue;
            }
            let context = BrokerContext {
                pool: pool.clone(),
                term,
                clock: Arc::clone(&self.node.options().clock),
                metrics: self.node.metrics().clone(),
                shard: self.shard.clone(),
                directory: self.node.brokers().clone(),
                wanted: Arc::new(Wanted::new(self.node.clone())),
            };
            if let Err(error) = factory.start(&team.supervisor, context) {
                error!(%pool, %error, "cannot start the pool's broker");
            }
        }
    }

    /// Starts the actors of active runs, page by page, with other work in between.
    fn load(&mut self, term: Term, from: Option<Vec<u8>>, ctx: &mut Context<Self>) {
        let shard = self.shard.clone();
        let page = async move {
            // The leader of a term has applied everything before it, so its own copy will do.
            let view = shard.read(Consistency::Stale).await?;
            view.scan(keys::ACTIVE, from.as_deref(), LOAD_PAGE)
        };
        ctx.spawn(page.into_actor(self).map(move |page, guardian, ctx| {
            if guardian.team.as_ref().is_none_or(|team| team.term != term) {
                return;
            }
            let page = match page {
                Ok(page) => page,
                Err(error) => meson_actors::crash(format!("cannot read the active runs: {error}")),
            };
            for (key, _) in &page {
                match keys::read_active(key) {
                    Some(run) => {
                        guardian.wake(&run, ctx);
                    }
                    None => error!(?key, "an entry of the index of active runs makes no sense"),
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == LOAD_PAGE => {
                    let next = [&last[..], &[0]].concat();
                    guardian.load(term, Some(next), ctx);
                }
                _ => {
                    debug!(shard = %guardian.shard.id(), %term, "all active runs have their actor")
                }
            }
        }));
    }

    fn wake(&mut self, run: &RunId, ctx: &mut Context<Self>) -> Option<ChildRef<WorkflowActor>> {
        let team = self.team.as_mut()?;
        let seed = WorkflowSeed {
            node: self.node.clone(),
            shard: self.shard.clone(),
            term: team.term,
            run: run.clone(),
            starting: Arc::clone(&team.starting),
            left: team.left.clone(),
        };
        match team.supervisor.start_child(workflow::child(seed)) {
            Ok(child) => Some(child),
            Err(StartError::Duplicate { .. }) => team.supervisor.child(run.as_str()),
            Err(StartError::TooMany { limit, .. }) => {
                if team.deferred.is_empty() {
                    warn!(shard = %self.shard.id(), limit, "too many active runs: some wait");
                    ctx.run_later(DEFERRED_RETRY, Self::start_deferred);
                }
                team.deferred.push_back(run.clone());
                None
            }
            Err(error) => {
                debug!(%run, %error, "cannot start the run's actor");
                None
            }
        }
    }

    fn start_deferred(&mut self, ctx: &mut Context<Self>) {
        let Some(team) = &mut self.team else { return };
        for run in std::mem::take(&mut team.deferred) {
            self.wake(&run, ctx);
        }
    }
}

impl Handler<Wake> for Guardian {
    type Result = Option<ChildRef<WorkflowActor>>;

    fn handle(&mut self, Wake(run): Wake, ctx: &mut Self::Context) -> Self::Result {
        self.wake(&run, ctx)
    }
}

impl Handler<Reload> for Guardian {
    type Result = ();

    fn handle(&mut self, Reload(term): Reload, ctx: &mut Self::Context) {
        let Some(team) = self.team.as_mut().filter(|team| team.term == term) else {
            return;
        };
        if std::mem::replace(&mut team.reloading, true) {
            return;
        }
        ctx.run_later(RELOAD_AFTER, move |guardian, ctx| {
            let team = guardian.team.as_mut().filter(|team| team.term == term);
            if let Some(team) = team {
                team.reloading = false;
                info!(shard = %guardian.shard.id(), %term, "this node leads on: active runs get their actors again");
                guardian.load(term, None, ctx);
            }
        });
    }
}

impl Handler<CurrentTerm> for Guardian {
    type Result = Option<Term>;

    fn handle(&mut self, _: CurrentTerm, _: &mut Self::Context) -> Self::Result {
        self.team.as_ref().map(|team| team.term)
    }
}

#[cfg(test)]
impl Handler<PanicGuardian> for Guardian {
    type Result = ();

    fn handle(&mut self, _: PanicGuardian, _: &mut Self::Context) {
        panic!("a test asked this guardian to panic");
    }
}
