//! The actor of one live attempt: carries out what [`StepState`] decides.
//!
//! It holds no launch spec: that is asked of the run each time it is needed, so that ten thousand
//! waiting attempts cost ten thousand small actors and not their scripts.

use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use meson_actors::{BoxError, ChildSpec, Restart, Scope};
use meson_core::ids::{Instance, TaskId};
use meson_core::matching::Shape;
use meson_core::run::{Claim, Failure, FailureClass, Input, LaunchSpec, Outcome, Place, Seat};
use meson_protocol::task::TaskPayload;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use super::route::{Route, Sight, Verdict};
use super::state::StepState;
use super::words::{Action, Event};
use crate::broker::messages::{Acknowledge, Adopt, Confirm, Enqueue, Kill, Signal};
use crate::node::Node;
use crate::pool::BrokerLink;
use crate::progress::Progress;
use crate::reach::Reach;
use crate::workflow::{DescribeAttempt, Report, ReportError, WorkflowActor};

/// What an attempt's actor is made from; the same for every incarnation.
#[derive(Clone)]
pub(crate) struct StepSeed {
    pub(crate) node: Node,
    pub(crate) workflow: Addr<WorkflowActor>,
    pub(crate) task: TaskId,
    pub(crate) instance: Instance,
    /// How many tasks it has.
    pub(crate) tasks: u32,
    /// What each of them holds, for a broker that did not place it.
    pub(crate) claim: Option<Box<Claim>>,
    /// Where it may go, and where it is.
    pub(crate) route: Route,
    /// When its predecessor's end reached the run: the start of the overhead that is measured.
    pub(crate) since: Option<tokio::time::Instant>,
}

/// What the run says about an attempt when asked.
pub(crate) struct AttemptNow {
    /// The pool where it is and the agent that it was placed on, as far as the run has committed.
    pub(crate) place: Option<Box<Place>>,
    /// Everything evaluated; why it cannot be, otherwise.
    pub(crate) spec: Result<Box<LaunchSpec>, Failure>,
    /// Digest of the run's bundle.
    pub(crate) bundle: Option<String>,
    /// Whether it is to end.
    pub(crate) kill: bool,
}

/// The run does not want this attempt any more.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct KillStep;

/// Panics in the actor, for tests of supervision.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct PanicStep;

pub(crate) struct StepActor {
    seed: StepSeed,
    state: StepState,
    route: Route,
    link: Option<BrokerLink>,
    /// The stream of the pool's links.
    links: Option<SpawnHandle>,
    /// It hears when its pools are lost and found.
    watches_pools: bool,
    /// Timers by purpose; a new one takes the old one's place.
    launch_timer: Option<SpawnHandle>,
    kill_timer: Option<SpawnHandle>,
    retry_timer: Option<SpawnHandle>,
    patience_timer: Option<SpawnHandle>,
    broker_losses: u32,
    since: Option<tokio::time::Instant>,
    counted_waiting: bool,
}

/// The child that a run starts for an attempt.
pub(crate) fn child(seed: StepSeed, place: Option<Box<Place>>) -> ChildSpec<StepActor> {
    let grace = Duration::from_millis(100);
    ChildSpec::new(seed.task.to_string(), move |scope: Scope| {
        let (seed, place) = (seed.clone(), place.clone());
        async move { build(seed, place, scope.incarnation()).await }
    })
    .restart(Restart::Transient)
    .grace(grace)
}

/// A first incarnation knows what its run knew a moment ago. A later one asks: what its
/// predecessor reported may be committed meanwhile.
async fn build(
    seed: StepSeed,
    mut place: Option<Box<Place>>,
    incarnation: u64,
) -> Result<StepActor, BoxError> {
    let mut kill = false;
    if incarnation > 1 {
        seed.node.metrics().restarted("step");
        let ask = DescribeAttempt {
            instance: seed.instance.clone(),
            attempt: seed.task.attempt,
        };
        match seed.workflow.send(ask).await? {
            Some(now) => {
                place = now.place;
                kill = now.kill;
            }
            // The run knows it no more: all that is left is to see it ended.
            None => kill = true,
        }
    }
    let Place {
        pool,
        agent,
        host,
        mates,
        ..
    } = place.map(|place| *place).unwrap_or_default();
    let mut seats = Vec::new();
    if !agent.is_empty() {
        seats.push(Seat { agent, host });
        seats.extend(mates);
    }
    let mut route = seed.route.clone();
    route.be_in(&pool);
    let mut state = StepState::new(
        seed.task.clone(),
        seed.instance.clone(),
        route.pool().to_owned(),
        seed.tasks,
        seats,
    );
    if kill {
        state.mark_unwanted();
    }
    Ok(StepActor {
        state,
        route,
        link: None,
        links: None,
        watches_pools: false,
        launch_timer: None,
        kill_timer: None,
        retry_timer: None,
        patience_timer: None,
        broker_losses: 0,
        since: if incarnation > 1 { None } else { seed.since },
        counted_waiting: false,
        seed,
    })
}

impl Actor for StepActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.seed.node.metrics().active_steps.inc();
        // Before the first link: what is lost is not to be asked first.
        self.watch_pools(ctx);
        self.listen(ctx);
        self.count_waiting();
    }
}

impl Drop for StepActor {
    // Counters only: a panic must not be able to leave them wrong.
    fn drop(&mut self) {
        self.seed.node.metrics().active_steps.dec();
        if self.counted_waiting {
            self.seed.node.metrics().waiting_steps.dec();
        }
    }
}

impl StreamHandler<Option<BrokerLink>> for StepActor {
    fn handle(&mut self, link: Option<BrokerLink>, ctx: &mut Self::Context) {
        let had = self.link.is_some();
        self.link = link;
        cancel(&mut self.retry_timer, ctx);
        if had {
            self.on(Event::BrokerGone, ctx);
        }
        if self.link.is_none() {
            if had {
                self.broker_losses += 1;
            }
            return;
        }
        if self.broker_losses == 0 {
            self.on(Event::BrokerUp, ctx);
            return;
        }
        // A broker that comes and goes is not to be met by everybody at once each time.
        let pause = self.seed.node.timing().broker_retry * (1 << self.broker_losses.min(5));
        let again = ctx.run_later(pause, |actor, ctx| {
            if actor.link.is_some() {
                actor.on(Event::BrokerUp, ctx);
            }
        });
        self.retry_timer = Some(again);
    }

    /// The directory went with the node: so does this actor, by its supervisor.
    fn finished(&mut self, _: &mut Self::Context) {}
}

/// The reach of one of its pools has changed.
impl StreamHandler<Reach> for StepActor {
    fn handle(&mut self, _: Reach, ctx: &mut Self::Context) {
        self.consider(ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<Signal> for StepActor {
    type Result = ();

    fn handle(&mut self, signal: Signal, ctx: &mut Self::Context) {
        self.on(Event::Signal(signal), ctx);
    }
}

impl Handler<KillStep> for StepActor {
    type Result = ();

    fn handle(&mut self, _: KillStep, ctx: &mut Self::Context) {
        self.on(Event::Kill, ctx);
        self.watch_pools(ctx);
    }
}

#[cfg(test)]
impl Handler<PanicStep> for StepActor {
    type Result = ();

    fn handle(&mut self, _: PanicStep, _: &mut Self::Context) {
        panic!("a test asked this step actor to panic");
    }
}

impl StepActor {
    /// Hears of the brokers of the pool where it is, and of no other.
    fn listen(&mut self, ctx: &mut Context<Self>) {
        cancel(&mut self.links, ctx);
        let links: watch::Receiver<Option<BrokerLink>> =
            self.seed.node.brokers().watch(self.route.pool());
        self.links = Some(ctx.add_stream(WatchStream::new(links)));
    }

    /// Whether it makes a difference to it that a pool is lost.
    fn minds_pools(&self) -> bool {
        self.route.has_choice() || self.state.is_unwanted()
    }

    /// Hears when pools that it may go to are lost and found.
    fn watch_pools(&mut self, ctx: &mut Context<Self>) {
        if !self.minds_pools() || std::mem::replace(&mut self.watches_pools, true) {
            return;
        }
        for way in self.route.ways() {
            let reach = self.seed.node.brokers().watch_reach(&way.pool);
            ctx.add_stream(WatchStream::from_changes(reach));
        }
        self.consider(ctx);
    }

    /// Leaves the pool if it is time to.
    fn consider(&mut self, ctx: &mut Context<Self>) {
        if !self.minds_pools() {
            return;
        }
        cancel(&mut self.patience_timer, ctx);
        let sights: Vec<Sight> = self.seed.node.sights(&self.route);
        let (patience, wanted) = (self.seed.node.timing().spill, !self.state.is_unwanted());
        match self.route.consider(&sights, patience, wanted) {
            Verdict::Stay => {}
            Verdict::LookAgain(wait) => {
                let timer = ctx.run_later(wait, Self::consider);
                self.patience_timer = Some(timer);
            }
            Verdict::Leave(to) => {
                if let Some(way) = self.route.ways().get(to) {
                    let event = Event::PoolLost {
                        to: way.pool.clone(),
                        reason: self.route.reason(&sights),
                    };
                    self.on(event, ctx);
                }
            }
        }
    }

    fn on(&mut self, event: Event, ctx: &mut Context<Self>) {
        for action in self.state.on(event) {
            self.act(action, ctx);
        }
        self.count_waiting();
    }

    fn count_waiting(&mut self) {
        let waits = self.state.is_waiting();
        if waits != std::mem::replace(&mut self.counted_waiting, waits) {
            let gauge = &self.seed.node.metrics().waiting_steps;
            if waits {
                gauge.inc();
            } else {
                gauge.dec();
            }
        }
    }

    fn act(&mut self, action: Action, ctx: &mut Context<Self>) {
        let task = self.state.task().clone();
        let timing = *self.seed.node.timing();
        match action {
            Action::Enqueue => self.enqueue(ctx),
            Action::Move { pool } => {
                self.route.be_in(&pool);
                self.link = None;
                cancel(&mut self.retry_timer, ctx);
                self.broker_losses = 0;
                self.listen(ctx);
                self.consider(ctx);
            }
            Action::Adopt { rank, agent } => {
                let task = task.member(rank);
                let observer = ctx.address().recipient();
                let claim = self.seed.claim.clone();
                self.tell(|link| {
                    link.adopt.do_send(Adopt {
                        task,
                        agent,
                        claim,
                        observer,
                    })
                });
            }
            Action::Confirm { agents } => {
                self.tell(|link| link.confirm.do_send(Confirm { task, agents }));
            }
            Action::Kill { rank, agent } => {
                let task = task.member(rank);
                self.tell(|link| link.kill.do_send(Kill { task, agent }));
            }
            Action::Acknowledge { rank, agent, uuid } => {
                let task = task.member(rank);
                self.tell(|link| link.acknowledge.do_send(Acknowledge { task, agent, uuid }));
            }
            Action::Report(input) => self.report(input, ctx),
            Action::WatchLaunch => {
                let timer = after(ctx, timing.launch, Event::LaunchOverdue);
                if let Some(old) = self.launch_timer.replace(timer) {
                    ctx.cancel_future(old);
                }
            }
            Action::AwaitResult { rank } => {
                after(ctx, timing.result, Event::ResultOverdue { rank });
            }
            Action::WatchKill => {
                let timer = after(ctx, timing.kill, Event::KillOverdue);
                if let Some(old) = self.kill_timer.replace(timer) {
                    ctx.cancel_future(old);
                }
            }
            Action::Progress {
                percent,
                message,
                url,
            } => {
                self.seed.node.progress().note(&task, |progress| {
                    *progress = Progress {
                        percent: Some(percent),
                        message,
                        url,
                        ..progress.clone()
                    }
                });
            }
            Action::Usage(usage) => {
                let note = |progress: &mut Progress| progress.usage = Some(usage);
                self.seed.node.progress().note(&task, note);
            }
            Action::Stop => {
                self.seed.node.progress().forget(&task);
                ctx.stop();
            }
        }
    }

    /// Does nothing while there is no broker: the next one is told everything that matters.
    fn tell(&self, say: impl FnOnce(&BrokerLink)) {
        if let Some(link) = &self.link {
            say(link);
        }
    }

    fn report(&mut self, input: Input, ctx: &mut Context<Self>) {
        if matches!(input, Input::Spilled { .. }) {
            self.seed.node.metrics().attempts_spilled.inc();
        }
        if let Input::Launching { host, .. } = &input {
            let host = host.clone();
            let task = self.state.task();
            self.seed
                .node
                .progress()
                .note(task, |progress| progress.host = Some(host));
        }
        let report = self.seed.workflow.send(Report { input });
        // In order of reporting: the run answers in the order in which it was told, and a
        // context's futures that become ready together are polled in the order of their birth.
        ctx.spawn(
            report
                .into_actor(self)
                .map(|committed, actor, ctx| match committed {
                    Ok(Ok(())) => {
                        actor.on(Event::Committed, ctx);
                        actor.consider(ctx);
                    }
                    // The run's records have no place for it, so nothing is left to be made durable.
                    Ok(Err(ReportError::Rejected(reason))) => {
                        tracing::warn!(task = %actor.seed.task, reason, "the run refused a report");
                        actor.on(Event::Committed, ctx);
                    }
                    // The run's actor goes, and takes this one with it.
                    Ok(Err(ReportError::NotCommitted)) | Err(_) => ctx.stop(),
                }),
        );
    }

    fn enqueue(&mut self, ctx: &mut Context<Self>) {
        let describe = DescribeAttempt {
            instance: self.seed.instance.clone(),
            attempt: self.seed.task.attempt,
        };
        let asked = self.seed.workflow.send(describe);
        ctx.spawn(
            asked
                .into_actor(self)
                .map(|answer, actor, ctx| match answer {
                    Ok(Some(now)) => actor.request(now, ctx),
                    // The run knows of no such live attempt: there is nothing to do.
                    Ok(None) | Err(_) => ctx.stop(),
                }),
        );
    }

    fn request(&mut self, now: AttemptNow, ctx: &mut Context<Self>) {
        let built = now.spec.and_then(|spec| {
            let (spec, payload) = self.payload(spec, now.bundle)?;
            Ok(Enqueue {
                task: self.state.task().clone(),
                shape: Shape {
                    resources: spec.resources,
                    require: spec.require,
                    prefer: spec.prefer,
                    region: spec.region,
                    gang: spec.gang,
                    preemptible: spec.preemptible,
                    spread: spec.spread,
                    lasts: spec.timeout,
                },
                deadline: spec.deadline,
                owner: spec.owner,
                payload,
                observer: ctx.address().recipient(),
            })
        });
        match built {
            Ok(request) => {
                // The broker may have gone, or the attempt may have been killed, since the
                // question was asked.
                if self.state.is_to_be_asked() {
                    self.tell(|link| link.enqueue.do_send(request));
                    if let Some(since) = self.since.take() {
                        let overhead = since.elapsed().as_secs_f64();
                        self.seed
                            .node
                            .metrics()
                            .step_overhead_seconds
                            .observe(overhead);
                    }
                }
            }
            Err(failure) => {
                let (instance, attempt) = (self.seed.instance.clone(), self.seed.task.attempt);
                for action in self.state.give_up(Input::Ended {
                    instance,
                    attempt,
                    outcome: Outcome::Failed(failure),
                    usage: None,
                }) {
                    self.act(action, ctx);
                }
            }
        }
    }

    fn payload(
        &self,
        spec: Box<LaunchSpec>,
        bundle: Option<String>,
    ) -> Result<(LaunchSpec, Bytes), Failure> {
        let node = &self.seed.node;
        let payload = TaskPayload {
            spec: *spec,
            bundle,
            coordinators: node.coordinators().to_vec(),
            token: node.secret().token(self.state.task()),
            store: node.store().clone(),
        };
        let bytes = payload.encode().map_err(|error| Failure {
            class: FailureClass::Step,
            message: format!("cannot describe the step to its executor: {error}"),
            retryable: false,
        })?;
        Ok((payload.spec, bytes.into()))
    }
}

fn cancel(timer: &mut Option<SpawnHandle>, ctx: &mut Context<StepActor>) {
    if let Some(timer) = timer.take() {
        ctx.cancel_future(timer);
    }
}

fn after(ctx: &mut Context<StepActor>, wait: Duration, event: Event) -> SpawnHandle {
    ctx.run_later(wait, move |actor, ctx| actor.on(event, ctx))
}
