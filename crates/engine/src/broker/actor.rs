//! The broker's mailbox: messages of step actors and events of the resource manager go into the
//! pure [`state`](super::state), and what it decides goes out.
//!
//! One burst of messages is one round of decisions: the first message of a burst sends
//! [`Settle`] to the end of the mailbox, and matching, launching and declining happen there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures::StreamExt;
use meson_core::ids::TaskId;
use meson_mesos::scheduler::{Call, Event};
use meson_mesos::types::FrameworkId;
use meson_protocol::api::Reason;
use tokio::sync::mpsc;

use super::manager::{Calls, ResourceManager, Session, SessionEnd, SubscribeError};
use super::messages::{
    Acknowledge, Adopt, Confirm, Enqueue, Explain, Kill, Signal, Unheard, Waiting,
};
use super::state::{Broker, Input, Output, Settings};
use crate::clock::until;
use crate::pool::BrokerContext;

/// Calls that wait to be sent; beyond it the session is given up, and reconciled anew.
const CALL_BACKLOG: usize = 4096;
/// Acknowledgements under way at once; their order does not matter.
const ACKNOWLEDGEMENTS_AT_ONCE: usize = 16;
/// Events handed over at once.
const EVENT_BURST: usize = 256;
/// From the end of a session to the next attempt, and after being fenced off.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_WHEN_FENCED: Duration = Duration::from_secs(5);

/// Speaks to one pool's resource manager for everybody.
pub struct BrokerActor {
    state: Broker,
    context: BrokerContext,
    manager: Arc<dyn ResourceManager>,
    observers: BTreeMap<TaskId, Recipient<Signal>>,
    calls: Option<Lanes>,
    out: Vec<Output>,
    settling: bool,
    wake: Option<SpawnHandle>,
}

/// Acknowledgements overtake everything else; the rest keeps its order, so that no KILL arrives
/// before the ACCEPT that it is about.
#[derive(Clone)]
struct Lanes {
    ordered: mpsc::Sender<Call>,
    acknowledgements: mpsc::Sender<Call>,
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
            context,
            manager,
            observers: BTreeMap::new(),
            calls: None,
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
                    match self
                        .observers
                        .get(&task)
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
                            self.observers.remove(&task);
                            self.state.handle(
                                Input::Unheard(task),
                                self.context.clock.now(),
                                &mut self.out,
                            );
                        }
                    }
                }
                Output::AskWanted(task) => self.ask_wanted(task, ctx),
            }
        }
    }

    fn call(&mut self, call: Call, ctx: &mut Context<Self>) {
        let Some(lanes) = &self.calls else { return };
        let lane = if matches!(call, Call::Acknowledge(_)) {
            &lanes.acknowledgements
        } else {
            &lanes.ordered
        };
        if lane.try_send(call).is_err() {
            tracing::warn!(pool = %self.context.pool, "calls pile up: the session is given up");
            self.calls = None;
            ctx.notify(SessionDown);
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

    fn observe(&mut self, task: &TaskId, observer: Recipient<Signal>) {
        self.observers.insert(task.clone(), observer);
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

/// Subscribes, hands events over, and again when the session ends, for as long as the actor lives.
async fn keep_subscribed(
    context: BrokerContext,
    manager: Arc<dyn ResourceManager>,
    broker: Addr<BrokerActor>,
) {
    let mut replace = false;
    let mut failures: u32 = 0;
    loop {
        let pause = match one_session(&context, &*manager, &broker, &mut replace).await {
            Ok(SessionEnd::Fenced) => {
                tracing::warn!(pool = %context.pool, "fenced off by another broker with the same FrameworkID");
                AGAIN_WHEN_FENCED
            }
            Ok(SessionEnd::Removed(reason)) => {
                tracing::error!(pool = %context.pool, reason, "framework removed; subscribing as a new one");
                replace = true;
                AGAIN
            }
            Ok(SessionEnd::Lost(reason)) => {
                tracing::warn!(pool = %context.pool, reason, "session with the resource manager lost");
                AGAIN
            }
            Err(reason) => {
                tracing::warn!(pool = %context.pool, reason, "cannot subscribe; trying again");
                // A new leader's first tries may come too early by a moment.
                failures += 1;
                (AGAIN * (1 << failures.min(6))).min(AGAIN_WHEN_FENCED)
            }
        };
        if pause == AGAIN {
            failures = 0;
        }
        if broker.send(SessionDown).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn one_session(
    context: &BrokerContext,
    manager: &dyn ResourceManager,
    broker: &Addr<BrokerActor>,
    replace: &mut bool,
) -> Result<SessionEnd, String> {
    // A linearizable read: a deposed leader's broker does not get past it, so that two brokers
    // do not take the framework from each other for ever.
    let known = context
        .framework_id()
        .await
        .map_err(|error| error.to_string())?;
    let id = known.filter(|_| !*replace).map(FrameworkId::new);
    let Session {
        framework,
        mut events,
        calls,
    } = match manager.subscribe(id).await {
        Ok(session) => session,
        Err(SubscribeError::Removed(reason)) => return Ok(SessionEnd::Removed(reason)),
        Err(error) => return Err(error.to_string()),
    };
    // Before anything else: a lost FrameworkID orphans tasks.
    context
        .set_framework_id(framework.as_str(), *replace)
        .await
        .map_err(|error| error.to_string())?;
    *replace = false;
    tracing::info!(pool = %context.pool, framework = framework.as_str(), "subscribed");
    let (lanes, senders) = lanes(calls);
    broker
        .send(SessionUp { framework, lanes })
        .await
        .map_err(|error| error.to_string())?;
    let forward = async {
        let mut bursts = events.by_ref().ready_chunks(EVENT_BURST);
        while let Some(burst) = bursts.next().await {
            let mut good = Vec::with_capacity(burst.len());
            let mut end = None;
            for event in burst {
                match event {
                    Ok(event) => good.push(event),
                    Err(reason) => {
                        end = Some(reason);
                        break;
                    }
                }
            }
            // Awaited: the resource manager's stream is read as fast as the broker works.
            if broker.send(Events(good)).await.is_err() {
                return SessionEnd::Lost("the broker stopped".to_owned());
            }
            if let Some(end) = end {
                return end;
            }
        }
        SessionEnd::Lost("the stream of events ended".to_owned())
    };
    tokio::select! {
        end = forward => Ok(end),
        reason = senders => Ok(SessionEnd::Lost(reason)),
    }
}

/// The two lanes, and the future that empties them until one of them closes.
fn lanes(calls: Arc<dyn Calls>) -> (Lanes, impl Future<Output = String>) {
    let (ordered, mut ordered_calls) = mpsc::channel::<Call>(CALL_BACKLOG);
    let (acknowledgements, acknowledgement_calls) = mpsc::channel::<Call>(CALL_BACKLOG);
    let acknowledging = Arc::clone(&calls);
    let senders = async move {
        let in_order = async {
            while let Some(call) = ordered_calls.recv().await {
                if let Err(reason) = calls.call(call).await {
                    tracing::warn!(reason, "the resource manager did not take a call");
                }
            }
        };
        let beside = tokio_stream::wrappers::ReceiverStream::new(acknowledgement_calls)
            .for_each_concurrent(ACKNOWLEDGEMENTS_AT_ONCE, |call| async {
                if let Err(reason) = acknowledging.call(call).await {
                    tracing::debug!(
                        reason,
                        "an acknowledgement was not taken; the update will come again"
                    );
                }
            });
        tokio::select! {
            () = in_order => {}
            () = beside => {}
        }
        "its calls were given up".to_owned()
    };
    (
        Lanes {
            ordered,
            acknowledgements,
        },
        senders,
    )
}

#[derive(Message)]
#[rtype(result = "()")]
struct SessionUp {
    framework: FrameworkId,
    lanes: Lanes,
}

#[derive(Message)]
#[rtype(result = "()")]
struct SessionDown;

#[derive(Message)]
#[rtype(result = "()")]
struct Events(Vec<Event>);

#[derive(Message)]
#[rtype(result = "()")]
struct Settle;

impl Handler<SessionUp> for BrokerActor {
    type Result = ();

    fn handle(&mut self, up: SessionUp, ctx: &mut Context<Self>) {
        self.calls = Some(up.lanes);
        self.context.in_session(true);
        self.input(Input::Subscribed(up.framework), ctx);
    }
}

impl Handler<SessionDown> for BrokerActor {
    type Result = ();

    fn handle(&mut self, _: SessionDown, ctx: &mut Context<Self>) {
        self.calls = None;
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
        self.input(Input::Confirm(confirm.task), ctx);
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
        let claimed_by = self.observers.get(&unheard.task);
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
            let remarks = self.manager.remarks().into_iter();
            let remarks = remarks.map(|text| Reason::new("remark", text));
            waiting.reasons.extend(remarks);
            waiting
        }))
    }
}
