//! What follows a commit: attempts start and end, timers are set, the registry is asked.

use std::collections::BTreeMap;

use actix::prelude::*;
use meson_actors::StartError;
use meson_core::ids::{Attempt, Instance, TaskId};
use meson_core::run::{Effect, Input, Outcome, Place};
use tokio::time::Instant;
use tracing::{error, warn};

use super::WorkflowActor;
use super::inbox::Waiting;
use crate::clock::until;
use crate::step::{self, ChildRunActor, KillStep, StepActor, StepSeed};

impl WorkflowActor {
    /// Carries out what follows from committed events. Everything in here is idempotent by
    /// attempt, since a recovered run's effects come again.
    pub(super) fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        since: Option<Instant>,
        ctx: &mut Context<Self>,
    ) {
        for effect in effects {
            match effect {
                Effect::Continue => self.inbox.push(Waiting::own(Input::Continue)),
                Effect::CompleteNoop { instance, attempt } => {
                    if let Some(since) = since {
                        let overhead = since.elapsed().as_secs_f64();
                        self.seed
                            .node
                            .metrics()
                            .step_overhead_seconds
                            .observe(overhead);
                    }
                    let outcome = Outcome::Succeeded {
                        outputs: BTreeMap::new(),
                    };
                    self.inbox.push(Waiting::own(Input::Ended {
                        instance,
                        attempt,
                        outcome,
                        usage: None,
                    }));
                }
                Effect::LookUpArtifacts {
                    instance,
                    artifacts,
                } => {
                    self.look_up(instance, artifacts, ctx);
                }
                Effect::StartAttempt {
                    instance,
                    attempt,
                    place,
                } => {
                    self.start_attempt(&instance, attempt, place, since, ctx);
                }
                Effect::KillAttempt { instance, attempt } => self.kill(&instance, attempt, ctx),
                Effect::SetTimer {
                    instance,
                    attempt,
                    at,
                } => {
                    self.timers.set((at, instance, attempt));
                }
                Effect::RunEnded => {
                    self.seed.node.metrics().runs_ended.inc();
                    self.linger(ctx);
                }
            }
        }
        self.arm_timer(ctx);
    }

    fn start_attempt(
        &self,
        instance: &Instance,
        attempt: Attempt,
        place: Option<Box<Place>>,
        since: Option<Instant>,
        ctx: &Context<Self>,
    ) {
        let Some((task, kind)) = self.hot.attempt(instance, attempt) else {
            error!(run = %self.seed.run, ?instance, "an attempt of no step cannot be started");
            return;
        };
        let seed = StepSeed {
            node: self.seed.node.clone(),
            workflow: ctx.address(),
            task,
            instance: instance.clone(),
            tasks: kind.tasks,
            claim: self.hot.claim(instance, attempt),
            route: self
                .seed
                .node
                .route_of(&self.seed.run, &kind.pool, &kind.regions),
            since,
        };
        self.start_step(seed, kind.is_workflow, place);
    }

    fn start_step(&self, seed: StepSeed, is_workflow: bool, place: Option<Box<Place>>) {
        let task = seed.task.clone();
        let started = if is_workflow {
            self.steps.start_child(step::child_run(seed)).map(drop)
        } else {
            self.steps.start_child(step::child(seed, place)).map(drop)
        };
        match started {
            // A recovered run's effects come again; the attempt's actor lives.
            Ok(()) | Err(StartError::Duplicate { .. }) => {}
            Err(StartError::Closed { .. }) => {}
            // The core starts wide loops in parts, and stays well below.
            Err(error) => warn!(%task, %error, "cannot start the attempt's actor"),
        }
    }

    /// An attempt that was started under an earlier leader may have no actor here yet.
    fn kill(&mut self, instance: &Instance, attempt: Attempt, ctx: &Context<Self>) {
        let Some((task, kind)) = self.hot.attempt(instance, attempt) else {
            return;
        };
        let key = task.to_string();
        let place = self.hot.place(instance, attempt);
        self.start_attempt(instance, attempt, place, None, ctx);
        self.killing.insert(task.clone());
        let told = if kind.is_workflow {
            self.steps
                .child::<ChildRunActor>(&key)
                .map(|child| child.try_send(KillStep))
        } else {
            self.steps
                .child::<StepActor>(&key)
                .map(|child| child.try_send(KillStep))
        };
        if let Some(Err(error)) = told {
            // It is being restarted: it will ask the run, and learn that it is to end.
            warn!(%task, %error, "cannot tell the attempt's actor to end it");
        }
    }

    /// Sees to it that the context's timer fires at the earliest alarm.
    pub(super) fn arm_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(at) = self.timers.next() else { return };
        let wait = until(self.seed.node.now(), at);
        let timer = ctx.run_later(wait, |actor, ctx| {
            for (_, instance, attempt) in actor.timers.fired(actor.seed.node.now()) {
                actor
                    .inbox
                    .push(Waiting::own(Input::Timer { instance, attempt }));
            }
            actor.arm_timer(ctx);
            actor.pump(ctx);
        });
        if let Some(old) = self.timers.arm(at, timer) {
            ctx.cancel_future(old);
        }
    }
}

/// What an attempt's actor needs to know of its step.
pub(super) struct AttemptKind {
    pub(super) pool: String,
    /// The regions that it asks for, or its workflow; empty: neither.
    pub(super) regions: Vec<String>,
    pub(super) is_workflow: bool,
    /// How many tasks an attempt has.
    pub(super) tasks: u32,
}

/// The task id of an attempt.
pub(super) fn task_id(
    run: &meson_core::ids::RunId,
    step: &str,
    instance: &Instance,
    attempt: Attempt,
) -> TaskId {
    TaskId {
        run: run.clone(),
        step: step.to_owned(),
        path: instance.path.clone(),
        attempt,
        rank: 0,
    }
}
