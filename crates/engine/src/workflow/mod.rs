//! The actor of a run: decides, commits, and carries out what follows.
//!
//! ```text
//!   reports of steps, timers, people ──► inbox ──► decide each ──► one proposal ──► committed
//!                                          ▲                          (the inbox         │
//!                                          │                           fills meanwhile)  ▼
//!                                          └──── no-ops done, more to start ◄──── effects ──► steps
//! ```
//!
//! * [`hot`]: the run in memory: definition, records, the number of the next event.
//! * [`inbox`]: what waits for its decision, and who waits for the commit.
//! * [`commit`]: the loop above: gather, propose, answer, go on.
//! * [`effects`]: starts and kills attempts, sets timers, looks up artifacts.
//! * [`artifacts`]: registers what a step leaves behind, before its success is proposed.
//! * [`timers`]: one timer for all that the run waits for.
//!
//! One proposal is under way at a time, and nothing is told to anybody before it is committed.
//! The records in memory run ahead by that one proposal: when it fails, the actor goes, and the
//! next one starts from what is stored.

mod artifacts;
mod commit;
mod effects;
mod hot;
mod inbox;
mod timers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use meson_actors::{BoxError, ChildSpec, Restart, Scope, Supervisor, SupervisorOptions};
use meson_consensus::{Shard, Term};
use meson_core::ids::{Attempt, Instance, RunId, TaskId};
use meson_core::run::Input;
use tokio::sync::{Semaphore, oneshot};
use tracing::{debug, info};

use self::hot::HotRun;
use self::inbox::{Inbox, Waiting};
use self::timers::Timers;
use crate::guardian::Left;
use crate::node::Node;
use crate::step::AttemptNow;

/// What a run's actor is made from; the same for every incarnation.
#[derive(Clone)]
pub(crate) struct WorkflowSeed {
    pub(crate) node: Node,
    pub(crate) shard: Shard,
    pub(crate) term: Term,
    pub(crate) run: RunId,
    /// Limits how many runs load their state at a time.
    pub(crate) starting: Arc<Semaphore>,
    /// Where the actor says that it goes although the run has not ended.
    pub(crate) left: Left,
}

/// Something that happened to the run. Answered once it is committed.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ReportError>")]
pub(crate) struct Report {
    pub(crate) input: Input,
}

/// Why a report changed nothing, or may have changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReportError {
    /// The run's actor goes; whether the report was committed has to be read from the state.
    #[error("the run moves to another actor; what was reported may or may not be committed")]
    NotCommitted,
    /// It makes no sense for the run as it is; nothing was changed.
    #[error("{0}")]
    Rejected(String),
}

/// What the run knows of a live attempt; `None` if it is not live.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<AttemptNow>")]
pub(crate) struct DescribeAttempt {
    pub(crate) instance: Instance,
    pub(crate) attempt: Attempt,
}

/// Panics in the run's actor, for tests of supervision.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct PanicWorkflow;

/// Makes the run's actor believe that its next proposal came to nothing, for the same.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct LoseProposal;

/// The supervisor of the run's attempts, for the same.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Supervisor")]
pub(crate) struct Children;

pub(crate) struct WorkflowActor {
    seed: WorkflowSeed,
    hot: HotRun,
    steps: Supervisor,
    inbox: Inbox,
    committing: bool,
    timers: Timers,
    lingering: bool,
    /// Attempts that are to end: their actors are told again when they start anew.
    killing: BTreeSet<TaskId>,
}

/// The child that a guardian starts for a run.
pub(crate) fn child(seed: WorkflowSeed) -> ChildSpec<WorkflowActor> {
    let capacity = seed.node.limits().run_mailbox;
    let key = seed.run.as_str().to_owned();
    ChildSpec::new(key, move |scope: Scope| {
        let seed = seed.clone();
        async move { build(seed, scope).await }
    })
    .restart(Restart::Transient)
    .grace(Duration::from_secs(1))
    .mailbox(capacity)
}

async fn build(seed: WorkflowSeed, scope: Scope) -> Result<WorkflowActor, BoxError> {
    if scope.incarnation() > 1 {
        seed.node.metrics().restarted("workflow");
    }
    let hot = {
        let _place = seed.starting.acquire().await?;
        HotRun::load(&seed.node, &seed.shard, &seed.run).await?
    };
    let options = SupervisorOptions::new(format!("run-{}", seed.run))
        .intensity(seed.node.timing().intensity)
        .shutdown_within(Duration::from_secs(5));
    seed.node.metrics().active_runs.inc();
    Ok(WorkflowActor {
        steps: scope.supervisor(options),
        hot,
        seed,
        inbox: Inbox::default(),
        committing: false,
        timers: Timers::default(),
        lingering: false,
        killing: BTreeSet::new(),
    })
}

impl Actor for WorkflowActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        debug!(run = %self.seed.run, next = self.hot.next_seq(), "the run's actor is here");
        if self.hot.has_ended() {
            // Somebody woke it to tell it something: a retry, most likely.
            self.lingering = true;
            ctx.run_later(WOKEN, Self::leave_if_done);
            return;
        }
        let effects = self.hot.recover();
        self.carry_out(effects, None, ctx);
        self.pump(ctx);
    }
}

impl Drop for WorkflowActor {
    // A counter only: a panic must not be able to leave it wrong.
    fn drop(&mut self) {
        self.seed.node.metrics().active_runs.dec();
    }
}

impl Handler<Report> for WorkflowActor {
    type Result = ResponseFuture<Result<(), ReportError>>;

    fn handle(&mut self, Report { input }: Report, ctx: &mut Self::Context) -> Self::Result {
        let (reply, committed) = oneshot::channel();
        self.receive(Waiting::reported(input, reply), ctx);
        Box::pin(async move { committed.await.unwrap_or(Err(ReportError::NotCommitted)) })
    }
}

impl Handler<DescribeAttempt> for WorkflowActor {
    type Result = MessageResult<DescribeAttempt>;

    fn handle(&mut self, ask: DescribeAttempt, _: &mut Self::Context) -> Self::Result {
        let mut now = self.hot.describe(&ask.instance, ask.attempt);
        if let Some(now) = &mut now {
            let attempt = self.hot.attempt(&ask.instance, ask.attempt);
            now.kill = attempt.is_some_and(|(task, _)| self.killing.contains(&task));
        }
        MessageResult(now)
    }
}

#[cfg(test)]
impl Handler<PanicWorkflow> for WorkflowActor {
    type Result = ();

    fn handle(&mut self, _: PanicWorkflow, _: &mut Self::Context) {
        panic!("a test asked this run's actor to panic");
    }
}

#[cfg(test)]
impl Handler<LoseProposal> for WorkflowActor {
    type Result = ();

    fn handle(&mut self, _: LoseProposal, ctx: &mut Self::Context) {
        self.leave(ctx);
    }
}

#[cfg(test)]
impl Handler<Children> for WorkflowActor {
    type Result = MessageResult<Children>;

    fn handle(&mut self, _: Children, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.steps.clone())
    }
}

/// How often a run that has ended looks whether its last attempts are gone.
const LINGER: Duration = Duration::from_millis(20);
/// How long the actor of an ended run waits for what it was woken for.
const WOKEN: Duration = Duration::from_secs(1);

impl WorkflowActor {
    /// A proposal came to nothing: what is in memory may not be what is stored.
    fn leave(&mut self, ctx: &mut Context<Self>) {
        self.seed.left.add(&self.seed.run);
        ctx.stop();
    }

    /// The run has ended. Its actor stays until attempts that are being killed are gone.
    fn linger(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.lingering, true) {
            return;
        }
        self.leave_if_done(ctx);
    }

    fn leave_if_done(&mut self, ctx: &mut Context<Self>) {
        if !self.hot.has_ended() {
            // Somebody asked for a retry meanwhile.
            self.lingering = false;
        } else if self.steps.is_empty() && self.inbox.is_empty() && !self.committing {
            info!(run = %self.seed.run, "the run has ended");
            ctx.stop();
        } else {
            ctx.run_later(LINGER, Self::leave_if_done);
        }
    }
}
