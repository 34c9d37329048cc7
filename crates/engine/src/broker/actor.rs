//! The broker's mailbox: messages of step actors and events of the resource manager go into the
//! pure [`state`](super::state), and what it decides goes out.
//!
//! One burst of messages is one round of decisions: the first message of a burst sends
//! [`Settle`] to the end of the mailbox, and matching, launching and declining happen there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use meson_core::ids::TaskId;
use meson_mesos::scheduler::Call;
use meson_protocol::api::{PoolView, Reason};

use super::manager::ResourceManager;
use super::messages::{
    Acknowledge, Adopt, Confirm, Enqueue, Explain, Kill, Look, Signal, Unheard, Waiting,
};
use super::metrics::PoolMetrics;
use super::session::{
    ConstraintsNotTaken, Events, Lanes, LaunchInDoubt, SessionDown, SessionUp, keep_subscribed,
};
use super::settings::Settings;
use super::state::{Broker, Input, Output};
use crate::clock::until;
use crate::pool::BrokerContext;

/// Speaks to one pool's resource manager for everybody.
pub struct BrokerActor {
    state: Broker,
    context: BrokerContext,
    manager: Arc<dyn ResourceManager>,
    /// By attempt.
    observers: BTreeMap<TaskId, Recipient<Signal>>,
    calls: Option<Lanes>,
    /// Why there is no session, once one has ended or not come about.
    down: Option<String>,
    out: Vec<Output>,
    settling: bool,
    wake: Option<SpawnHandle>,
    metrics: PoolMetrics,
}

impl BrokerActor {
    /// A broker that subscribes as soon as it runs.
    pub fn new(
        settings: Settings,
        context: BrokerContext,
        manager: Arc<dyn ResourceManager>,
    ) -> Self {
        Self {
            state: Broker::new(settings),
            metrics: context.metrics.broker.of(&context.pool),
            context,
            manager,
            observers: BTreeMap::new(),
            calls: None,
            down: None,
            out: Vec::new(),
            settling: false,
            wake: None,
        }
    }

    fn input(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.state
            .handle(input, self.context.clock.now(), &mut self.out);
        self.flush(ctx);
        if !self.settling {
            self.settling = true;
            ctx.notify(Settle);
        }
    }

    /// Carries out what was decided.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        for output in std::mem::take(&mut self.out) {
            tracing::trace!(pool = %self.context.pool, ?output, "the broker decided");
            match output {
                Output::Call(call) => self.call(call, ctx),
                Output::Signal(task, news) => {
                    let attempt = task.first();
                    match self
                        .observers
                        .get(&attempt)
                        .filter(|observer| observer.connected())
                    {
                        Some(observer) => {
                            let mut signal = Signal::from((task, news));
                            if let Signal::Placed { pool, .. } = &mut signal {
                                pool.clone_from(&self.context.pool);
                            }
                            observer.do_send(signal);
                        }
                        None => {
                            self.observers.remove(&attempt);
                            self.state.handle(
                                Input::Unheard(task),
                                self.context.clock.now(),
                                &mut self.out,
                            );
                        }
                    }
                }
                Output::AskWanted(task) => self.ask_wanted(task, ctx),
                Output::Measured(measured) => self.metrics.observe(measured),
                Output::AgentLost { host, tasks } => {
                    tracing::warn!(pool = %self.context.pool, agent = host, tasks, "an agent is lost, or out of sight");
                }
                Output::AgentBack(host) => {
                    tracing::info!(pool = %self.context.pool, agent = host, "an agent is in sight again");
                }
                Output::Stopped(reason) => {
                    tracing::error!(pool = %self.context.pool, reason, "launching has stopped: it goes on once it is calm, or by `mesonctl pool release`");
                }
                Output::GoesOn => {
                    tracing::warn!(pool = %self.context.pool, "launching goes on");
                }
            }
        }
    }

    fn call(&mut self, call: Call, ctx: &mut Context<Self>) {
        let Some(lanes) = &self.calls else { return };
        if !lanes.send(call) {
            tracing::warn!(pool = %self.context.pool, "calls pile up: the session is given up");
            self.calls = None;
            ctx.notify(SessionDown("calls piled up".to_owned()));
        }
    }

    fn ask_wanted(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        let context = self.context.clone();
        let answer = async move {
            let wanted = match context.is_wanted(&task).await {
                Ok(wanted) => Some(wanted),
                Err(error) => {
                    tracing::debug!(%task, %error, "cannot tell whether the task is wanted");
                    None
                }
            };
            (task, wanted)
        };
        ctx.spawn(answer.into_actor(self).map(|(task, wanted), actor, ctx| {
            actor.input(Input::Verdict { task, wanted }, ctx);
        }));
    }

    /// What people should know about the resource manager; why there is no session, first of all.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.manager.remarks();
        if remarks.is_empty() {
            remarks.extend(self.down.clone());
        }
        remarks
    }

    fn observe(&mut self, task: &TaskId, observer: Recipient<Signal>) {
        self.observers.insert(task.first(), observer);
        // Step actors that ended leave their entries behind; they go with the next crowd.
        if self.observers.len() > 1024 && self.observers.len().is_power_of_two() {
            self.observers.retain(|_, observer| observer.connected());
        }
    }
}

impl Actor for BrokerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.context.in_session(false);
        let sessions = keep_subscribed(
            self.context.clone(),
            Arc::clone(&self.manager),
            ctx.address(),
        );
        ctx.spawn(sessions.into_actor(self));
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Settle;

impl Handler<SessionUp> for BrokerActor {
    type Result = ();

    fn handle(&mut self, up: SessionUp, ctx: &mut Context<Self>) {
        self.calls = Some(up.lanes);
        self.down = None;
        self.context.in_session(true);
        self.input(Input::Subscribed(up.framework), ctx);
    }
}

impl Handler<SessionDown> for BrokerActor {
    type Result = ();

    fn handle(&mut self, down: SessionDown, ctx: &mut Context<Self>) {
        self.calls = None;
        self.down = Some(down.0);
        self.context.in_session(false);
        self.input(Input::Disconnected, ctx);
    }
}

impl Handler<Events> for BrokerActor {
    type Result = ();

    fn handle(&mut self, events: Events, ctx: &mut Context<Self>) {
        for event in events.0 {
            tracing::trace!(pool = %self.context.pool, ?event, "the resource manager said");
            self.input(Input::Event(event), ctx);
        }
    }
}

impl Handler<Settle> for BrokerActor {
    type Result = ();

    fn handle(&mut self, _: Settle, ctx: &mut Context<Self>) {
        self.settling = false;
        let now = self.context.clock.now();
        self.state.settle(now, &mut self.out);
        self.flush(ctx);
        self.metrics.show(self.state.stats(), &self.state.now());
        if let Some(wake) = self.wake.take() {
            ctx.cancel_future(wake);
        }
        // At least a millisecond: what is due now was just done.
        let wake = self
            .state
            .wake_at()
            .map(|at| until(now, at).max(Duration::from_millis(1)));
        self.wake = wake.map(|wait| ctx.notify_later(Settle, wait));
    }
}

impl Handler<Enqueue> for BrokerActor {
    type Result = ();

    fn handle(&mut self, request: Enqueue, ctx: &mut Context<Self>) {
        self.observe(&request.task, request.observer);
        let input = Input::Enqueue {
            task: request.task,
            shape: request.shape,
            owner: request.owner,
            deadline: request.deadline,
            payload: request.payload,
        };
        self.input(input, ctx);
    }
}

impl Handler<Confirm> for BrokerActor {
    type Result = ();

    fn handle(&mut self, confirm: Confirm, ctx: &mut Context<Self>) {
        let Confirm { task, agents } = confirm;
        self.input(Input::Confirm { task, agents }, ctx);
    }
}

impl Handler<Adopt> for BrokerActor {
    type Result = ();

    fn handle(&mut self, adopt: Adopt, ctx: &mut Context<Self>) {
        self.observe(&adopt.task, adopt.observer);
        self.input(
            Input::Adopt {
                task: adopt.task,
                agent: adopt.agent,
                claim: adopt.claim,
            },
            ctx,
        );
    }
}

impl Handler<Kill> for BrokerActor {
    type Result = ();

    fn handle(&mut self, kill: Kill, ctx: &mut Context<Self>) {
        self.input(
            Input::Kill {
                task: kill.task,
                agent: kill.agent,
            },
            ctx,
        );
    }
}

impl Handler<Acknowledge> for BrokerActor {
    type Result = ();

    fn handle(&mut self, ack: Acknowledge, ctx: &mut Context<Self>) {
        self.input(
            Input::Acknowledge {
                task: ack.task,
                agent: ack.agent,
                uuid: ack.uuid,
            },
            ctx,
        );
    }
}

impl Handler<Unheard> for BrokerActor {
    type Result = ();

    /// Who heard it last may say so after somebody else has claimed it, who hears: then it says
    /// nothing. (The two speak over connections of their own, in no certain order.)
    fn handle(&mut self, unheard: Unheard, ctx: &mut Context<Self>) {
        let claimed_by = self.observers.get(&unheard.task.first());
        if claimed_by.is_none_or(|observer| *observer == unheard.observer) {
            self.input(Input::Unheard(unheard.task), ctx);
        }
    }
}

impl Handler<Explain> for BrokerActor {
    type Result = MessageResult<Explain>;

    fn handle(&mut self, explain: Explain, _: &mut Context<Self>) -> Self::Result {
        let now = self.context.clock.now();
        let waiting: Option<Waiting> = self.state.explain(&explain.task, now);
        MessageResult(waiting.map(|mut waiting| {
            let remarks = self.remarks().into_iter();
            let remarks = remarks.map(|text| Reason::new("remark", text));
            waiting.reasons.extend(remarks);
            waiting
        }))
    }
}

impl Handler<ConstraintsNotTaken> for BrokerActor {
    type Result = ();

    fn handle(&mut self, _: ConstraintsNotTaken, ctx: &mut Context<Self>) {
        self.input(Input::ConstraintsNotTaken, ctx);
    }
}

impl Handler<LaunchInDoubt> for BrokerActor {
    type Result = ();

    fn handle(&mut self, LaunchInDoubt(tasks): LaunchInDoubt, ctx: &mut Context<Self>) {
        self.input(Input::LaunchInDoubt(tasks), ctx);
    }
}

impl Handler<Look> for BrokerActor {
    type Result = MessageResult<Look>;

    fn handle(&mut self, look: Look, ctx: &mut Context<Self>) -> Self::Result {
        if look.release_brake {
            self.input(Input::ReleaseBrake, ctx);
        }
        let view = PoolView {
            remarks: self.remarks(),
            ..self
                .state
                .view(&self.context.pool, self.context.clock.now())
        };
        MessageResult(Some(view))
    }
}
