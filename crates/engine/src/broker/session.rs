//! Sessions with the resource manager: subscribes, hands events to the broker, sends its calls,
//! and again when a session ends.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures::StreamExt;
use meson_core::ids::TaskId;
use meson_mesos::scheduler::{Call, Decline, Event};
use meson_mesos::types::{FrameworkId, OfferId};
use tokio::sync::mpsc;
use tracing::Instrument;

use super::actor::BrokerActor;
use super::manager::{Calls, ResourceManager, Session, SessionEnd, SubscribeError};
use crate::pool::BrokerContext;

/// Calls that wait to be sent; beyond it the session is given up, and reconciled anew.
const CALL_BACKLOG: usize = 4096;
/// Acknowledgements under way at once; their order does not matter.
const ACKNOWLEDGEMENTS_AT_ONCE: usize = 16;
/// KILLs under way at once: none of them waits for another.
const KILLS_AT_ONCE: usize = 16;
/// Events handed over at once.
const EVENT_BURST: usize = 256;
/// From the end of a session to the next attempt, and after being fenced off.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_WHEN_FENCED: Duration = Duration::from_secs(5);
/// When calls fail, the stream of events is about to say why.
const WHY: Duration = Duration::from_secs(1);

/// Acknowledgements overtake everything else; the rest keeps its order, so that no KILL arrives
/// before the ACCEPT that it is about.
#[derive(Clone)]
pub(super) struct Lanes {
    ordered: mpsc::Sender<Call>,
    acknowledgements: mpsc::Sender<Call>,
}

impl Lanes {
    /// Sends a call. False: they pile up, and the session is of no use.
    #[must_use]
    pub(super) fn send(&self, call: Call) -> bool {
        let lane = if matches!(call, Call::Acknowledge(_)) {
            &self.acknowledgements
        } else {
            &self.ordered
        };
        lane.try_send(call).is_ok()
    }
}

/// A session began.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SessionUp {
    pub(super) framework: FrameworkId,
    pub(super) lanes: Lanes,
}

/// It ended, or did not come about, for this reason.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SessionDown(pub(super) String);

/// The resource manager said this.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Events(pub(super) Vec<Event>);

/// The resource manager did not take what it was told about which offers are of use.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct ConstraintsNotTaken;

/// It may not have heard of the launch of these tasks.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct LaunchInDoubt(pub(super) Vec<TaskId>);

/// Subscribes, hands events over, and again when the session ends, for as long as the actor lives.
pub(super) async fn keep_subscribed(
    context: BrokerContext,
    manager: Arc<dyn ResourceManager>,
    broker: Addr<BrokerActor>,
) {
    let mut replace = false;
    let mut failures: u32 = 0;
    // Why it could not subscribe the last time.
    let mut last = String::new();
    loop {
        let (pause, why) = match one_session(&context, &*manager, &broker, &mut replace).await {
            Ok(end) => {
                last.clear();
                let why = end.to_string();
                let pause = match end {
                    SessionEnd::Fenced => {
                        tracing::warn!(pool = %context.pool, "fenced off by another broker with the same FrameworkID");
                        AGAIN_WHEN_FENCED
                    }
                    SessionEnd::Removed(reason) => {
                        tracing::error!(pool = %context.pool, reason, "framework removed; subscribing as a new one");
                        replace = true;
                        AGAIN
                    }
                    SessionEnd::Lost(reason) => {
                        tracing::warn!(pool = %context.pool, reason, "session with the resource manager lost");
                        AGAIN
                    }
                };
                (pause, why)
            }
            Err(reason) => {
                // Once for each reason: it may stay the same for hours.
                if reason == last {
                    tracing::debug!(pool = %context.pool, reason, "cannot subscribe");
                } else {
                    tracing::warn!(pool = %context.pool, reason, "cannot subscribe; trying again");
                }
                last.clone_from(&reason);
                // A new leader's first tries may come too early by a moment.
                failures += 1;
                let pause = (AGAIN * (1 << failures.min(6))).min(AGAIN_WHEN_FENCED);
                (pause, reason)
            }
        };
        if pause == AGAIN {
            failures = 0;
        }
        if broker.send(SessionDown(why)).await.is_err() {
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
    // What the client says meanwhile says which pool it is about.
    let subscribing = tracing::info_span!("subscribing", pool = %context.pool);
    let Session {
        framework,
        mut events,
        calls,
    } = match manager.subscribe(id).instrument(subscribing).await {
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
    let (lanes, senders) = lanes(calls, broker.clone());
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
    tokio::pin!(forward);
    let reason = tokio::select! {
        end = &mut forward => return Ok(end),
        reason = senders => reason,
    };
    let end = tokio::time::timeout(WHY, forward).await;
    Ok(end.unwrap_or(SessionEnd::Lost(reason)))
}

/// The two lanes, and the future that empties them until one of them closes.
fn lanes(
    calls: Arc<dyn Calls>,
    broker: Addr<BrokerActor>,
) -> (Lanes, impl Future<Output = String>) {
    let (ordered, mut ordered_calls) = mpsc::channel::<Call>(CALL_BACKLOG);
    let (acknowledgements, acknowledgement_calls) = mpsc::channel::<Call>(CALL_BACKLOG);
    let acknowledging = Arc::clone(&calls);
    let senders = async move {
        let in_order = in_order(&*calls, &mut ordered_calls, &broker);
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
            reason = in_order => reason,
            () = beside => "its calls were given up".to_owned(),
        }
    };
    (
        Lanes {
            ordered,
            acknowledgements,
        },
        senders,
    )
}

/// Makes calls one after the other until there are no more, or the resource manager takes none.
async fn in_order(
    calls: &dyn Calls,
    waiting: &mut mpsc::Receiver<Call>,
    broker: &Addr<BrokerActor>,
) -> String {
    let mut next = None;
    loop {
        let call = match next.take() {
            Some(call) => call,
            None => match waiting.recv().await {
                Some(call) => call,
                None => return "its calls were given up".to_owned(),
            },
        };
        if matches!(call, Call::Kill(_)) {
            let mut kills = vec![call];
            while kills.len() < KILLS_AT_ONCE
                && let Ok(call) = waiting.try_recv()
            {
                if !matches!(call, Call::Kill(_)) {
                    next = Some(call);
                    break;
                }
                kills.push(call);
            }
            let kills = kills.into_iter().map(|call| calls.call(call));
            for reason in futures::future::join_all(kills)
                .await
                .into_iter()
                .filter_map(Result::err)
            {
                tracing::warn!(
                    reason,
                    "the resource manager did not take a KILL; it is said again"
                );
            }
            continue;
        }
        let constraints = matches!(call, Call::UpdateFramework(_));
        let answered = answered(&call);
        let Err(reason) = calls.call(call).await else {
            continue;
        };
        tracing::warn!(reason, "the resource manager did not take a call");
        if constraints {
            broker.do_send(ConstraintsNotTaken);
        }
        let Some((offer_ids, launched)) = answered else {
            continue;
        };
        // Whoever did not hear the answer keeps the offers for us, without end; and whoever did hear it
        // does not mind being told once more.
        let filters = None;
        let decline = Call::Decline(Decline { offer_ids, filters });
        if let Err(reason) = calls.call(decline).await {
            return format!("offers cannot be given back: {reason}");
        }
        if !launched.is_empty() {
            broker.do_send(LaunchInDoubt(launched));
        }
    }
}

/// The offers that a call answers, and the tasks that it launches on them.
fn answered(call: &Call) -> Option<(Vec<OfferId>, Vec<TaskId>)> {
    match call {
        Call::Accept(accept) => {
            let launches = accept.operations.iter().filter_map(|it| it.launch.as_ref());
            let infos = launches.flat_map(|launch| &launch.task_infos);
            let tasks = infos.filter_map(|info| info.task_id.as_str().parse().ok());
            Some((accept.offer_ids.clone(), tasks.collect()))
        }
        Call::Decline(decline) => Some((decline.offer_ids.clone(), Vec::new())),
        _ => None,
    }
}
