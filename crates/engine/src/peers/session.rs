//! Beside a broker: speaks to it for the step actors of another coordinator.

use actix::prelude::*;
use meson_consensus::{FrameSource, FrameStream, NodeId};
use tokio::sync::{mpsc, oneshot, watch};

use super::speak;
use super::wire::{self, FromBroker, ToBroker};
use crate::broker::messages::{Acknowledge, Adopt, Confirm, Enqueue, Kill, Signal, Unheard};
use crate::node::Node;
use crate::pool::BrokerLink;

/// Signals on their way to the other coordinator. One that does not take them is cut off, and
/// asks again.
const BACKLOG: usize = 8_192;

/// Serves the stream for as long as one incarnation of the pool's broker lives here.
pub(super) async fn run(node: &Node, from: NodeId, pool: String, stream: FrameStream) {
    let Some(spawner) = node.options().spawners.first() else {
        return;
    };
    let (ended, end) = oneshot::channel();
    let own = node.clone();
    // Actors live on the threads that the spawners stand for.
    spawner.spawn(Box::new(move || {
        Box::pin(async move {
            serve(&own, from, &pool, stream).await;
            let _ = ended.send(());
        })
    }));
    let _ = end.await;
}

async fn serve(node: &Node, from: NodeId, pool: &str, stream: FrameStream) {
    let FrameStream { sink, mut source } = stream;
    let mut links = node.brokers().watch_local(pool);
    // The other side gives up by itself when leadership moves on.
    let link = tokio::select! {
        link = links.wait_for(Option::is_some) => match link.as_deref() {
            Ok(Some(link)) => link.clone(),
            _ => return,
        },
        _ = source.next() => return,
    };
    let sessions = node.brokers().watch_session(pool);
    let (out, signals) = mpsc::channel(BACKLOG);
    if out.try_send(FromBroker::Up).is_err() {
        return;
    }
    let relay = Relay { out }.start();
    tracing::debug!(%from, pool, "step actors of another coordinator speak to the broker");
    let reason = tokio::select! {
        reason = hear(&mut *source, &link, &relay) => reason,
        reason = speak("a broker's signal", sink, signals) => reason,
        reason = tell_sessions(sessions, &relay) => reason,
        // The broker is another one, or none: what was said to the old one must be said again.
        _ = links.changed() => "the broker has changed".to_owned(),
    };
    tracing::debug!(%from, pool, reason, "the conversation with the broker ends");
}

async fn hear(source: &mut dyn FrameSource, link: &BrokerLink, relay: &Addr<Relay>) -> String {
    loop {
        let frame = match source.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the other side ended it".to_owned(),
            Err(error) => return error.to_string(),
        };
        match wire::decode::<ToBroker>("a message to a broker", &frame) {
            Ok(message) => tell(link, relay, message),
            Err(error) => {
                tracing::warn!(%error, "a message to a broker was not understood");
                return error.to_string();
            }
        }
    }
}

fn tell(link: &BrokerLink, relay: &Addr<Relay>, message: ToBroker) {
    match message {
        ToBroker::Enqueue(request) => link.enqueue.do_send(Enqueue {
            task: request.task,
            shape: request.shape,
            deadline: request.deadline,
            owner: request.owner,
            payload: request.payload,
            observer: relay.clone().recipient(),
        }),
        ToBroker::Confirm { task, agents } => link.confirm.do_send(Confirm { task, agents }),
        ToBroker::Adopt { task, agent, claim } => link.adopt.do_send(Adopt {
            task,
            agent,
            claim,
            observer: relay.clone().recipient(),
        }),
        ToBroker::Kill { task, agent } => link.kill.do_send(Kill { task, agent }),
        ToBroker::Acknowledge { task, agent, uuid } => {
            link.acknowledge.do_send(Acknowledge { task, agent, uuid });
        }
        ToBroker::Unheard { task } => {
            let observer = relay.clone().recipient();
            link.unheard.do_send(Unheard { task, observer });
        }
    }
}

/// Tells the other side whether the broker has a session, now and from now on.
async fn tell_sessions(mut sessions: watch::Receiver<bool>, relay: &Addr<Relay>) -> String {
    loop {
        let session = *sessions.borrow_and_update();
        if relay.send(Session(session)).await.is_err() {
            return "its signals were not taken fast enough".to_owned();
        }
        if sessions.changed().await.is_err() {
            return "the node ends".to_owned();
        }
    }
}

/// The broker has a session with the resource manager, or has none.
#[derive(Message)]
#[rtype(result = "()")]
struct Session(bool);

/// Observes attempts for step actors elsewhere.
struct Relay {
    out: mpsc::Sender<FromBroker>,
}

impl Actor for Relay {
    type Context = Context<Self>;
}

impl Relay {
    fn say(&mut self, word: FromBroker, ctx: &mut Context<Self>) {
        if self.out.try_send(word).is_err() {
            // Stopped, it drops its sender, which ends the conversation.
            ctx.stop();
        }
    }
}

impl Handler<Signal> for Relay {
    type Result = ();

    fn handle(&mut self, signal: Signal, ctx: &mut Context<Self>) {
        self.say(FromBroker::Signal(signal), ctx);
    }
}

impl Handler<Session> for Relay {
    type Result = ();

    fn handle(&mut self, Session(session): Session, ctx: &mut Context<Self>) {
        self.say(FromBroker::Session(session), ctx);
    }
}
