//! Stands in for the broker of a pool whose shard another coordinator leads: what step actors here
//! say goes there, and its signals come back.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use meson_actors::{ChildSpec, Restart, Scope, Supervisor};
use meson_consensus::{FrameSource, FrameStream, NodeId};
use meson_core::ids::TaskId;
use tokio::sync::mpsc;

use super::speak;
use super::wire::{self, FromBroker, Opening, Request, ToBroker};
use crate::broker::messages::{
    Acknowledge, Adopt, Confirm, Enqueue, Explain, Kill, Look, Signal, Unheard, Waiting,
};
use crate::node::Node;
use crate::pool::BrokerLink;

/// Messages on their way to the broker; when there are more, the conversation is begun anew.
const BACKLOG: usize = 16_384;
/// Opening a stream takes so long at most.
const OPEN_WITHIN: Duration = Duration::from_secs(2);
/// Between two conversations.
const AGAIN: Duration = Duration::from_millis(50);
/// Stopping takes so long at most.
const GRACE: Duration = Duration::from_millis(200);

/// The stand-in.
struct Liaison {
    node: Node,
    pool: String,
    /// To the broker, while a conversation is under way.
    out: Option<mpsc::Sender<ToBroker>>,
    /// By attempt.
    observers: BTreeMap<TaskId, Recipient<Signal>>,
}

/// Starts the stand-in of a pool.
pub(crate) fn start(node: &Node, pool: &str, supervisor: &Supervisor) {
    let (node, pool) = (node.clone(), pool.to_owned());
    let spec = ChildSpec::new(format!("liaison-{pool}"), move |scope: Scope| {
        let (node, pool) = (node.clone(), pool.clone());
        async move {
            if scope.incarnation() > 1 {
                node.metrics().restarted("liaison");
                node.brokers().publish_remote(&pool, None);
            }
            Ok(Liaison {
                node,
                pool,
                out: None,
                observers: BTreeMap::new(),
            })
        }
    })
    .restart(Restart::Permanent)
    .grace(GRACE);
    if let Err(error) = supervisor.start_child(spec) {
        tracing::error!(%error, "cannot start the stand-in of a broker");
    }
}

impl Actor for Liaison {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let conversations = converse(self.node.clone(), self.pool.clone(), ctx.address());
        ctx.spawn(conversations.into_actor(self));
    }
}

/// Holds a conversation with whoever leads the pool's shard, for as long as that is not this node.
async fn converse(node: Node, pool: String, liaison: Addr<Liaison>) {
    let own = node.consensus().node_id();
    let Some(shard) = node.shard_at(&node.pool_place(&pool)) else {
        return;
    };
    let mut leadership = shard.leadership();
    loop {
        let leader = leadership.borrow_and_update().leader;
        let leader = leader.or_else(|| node.leader_hint(shard.id()));
        let Some(leader) = leader.filter(|leader| *leader != own) else {
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = node.hints_changed() => {}
            }
            continue;
        };
        let moved = async {
            let _ = leadership
                .wait_for(|now| now.leader.is_some_and(|now| now != leader))
                .await;
        };
        let reason = tokio::select! {
            reason = one_conversation(&node, &pool, leader, &liaison) => reason,
            () = moved => "the broker moves".to_owned(),
        };
        tracing::debug!(pool, %leader, reason, "the conversation with the broker ended");
        if liaison.send(Over).await.is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn one_conversation(
    node: &Node,
    pool: &str,
    leader: NodeId,
    liaison: &Addr<Liaison>,
) -> String {
    let opening = Opening::Broker {
        pool: pool.to_owned(),
    };
    let opening = match wire::encode("the opening of a stream", &opening) {
        Ok(opening) => opening,
        Err(error) => return error.to_string(),
    };
    let FrameStream { sink, source } = match node.peers().open(leader, opening, OPEN_WITHIN).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let (out, messages) = mpsc::channel(BACKLOG);
    tokio::select! {
        reason = hear(source, liaison, out) => reason,
        reason = speak("a message to a broker", sink, messages) => reason,
    }
}

async fn hear(
    mut source: Box<dyn FrameSource>,
    liaison: &Addr<Liaison>,
    out: mpsc::Sender<ToBroker>,
) -> String {
    // Only the actor holds the sender: when it lets go of it, the conversation ends.
    let mut out = Some(out);
    loop {
        let frame = match source.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the other side ended it".to_owned(),
            Err(error) => return error.to_string(),
        };
        let message = match wire::decode::<FromBroker>("a broker's signal", &frame) {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        // Awaited: the stream is read as fast as the actors work.
        let sent = match message {
            FromBroker::Up => match out.take() {
                Some(out) => liaison.send(Up(out)).await,
                None => Ok(()),
            },
            FromBroker::Session(session) => liaison.send(Session(session)).await,
            FromBroker::Signal(signal) => liaison.send(News(signal)).await,
        };
        if sent.is_err() {
            return "the stand-in stopped".to_owned();
        }
    }
}

/// A conversation has begun.
#[derive(Message)]
#[rtype(result = "()")]
struct Up(mpsc::Sender<ToBroker>);

/// A conversation has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct Over;

/// The broker has a session with the resource manager, or has none.
#[derive(Message)]
#[rtype(result = "()")]
struct Session(bool);

/// A signal arrived.
#[derive(Message)]
#[rtype(result = "()")]
struct News(Signal);

impl Liaison {
    fn tell(&mut self, message: ToBroker) {
        let Some(out) = &self.out else { return };
        if out.try_send(message).is_err() {
            tracing::warn!(pool = %self.pool, "messages to the broker pile up: beginning anew");
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        self.out = None;
        // Step actors ask whoever answers next; those that go meanwhile have nobody to tell.
        self.observers.clear();
        self.node.brokers().publish_remote(&self.pool, None);
    }

    fn observe(&mut self, task: &TaskId, observer: Recipient<Signal>) {
        self.observers.insert(task.first(), observer);
        // Step actors that ended leave their entries behind; they go with the next crowd.
        if self.observers.len() > 1024 && self.observers.len().is_power_of_two() {
            self.observers.retain(|_, observer| observer.connected());
        }
    }
}

impl Handler<Up> for Liaison {
    type Result = ();

    fn handle(&mut self, Up(out): Up, ctx: &mut Context<Self>) {
        self.out = Some(out);
        let link = BrokerLink::to(&ctx.address());
        self.node.brokers().publish_remote(&self.pool, Some(link));
    }
}

impl Handler<Over> for Liaison {
    type Result = ();

    fn handle(&mut self, _: Over, _: &mut Context<Self>) {
        self.hang_up();
    }
}

impl Handler<Session> for Liaison {
    type Result = ();

    fn handle(&mut self, Session(session): Session, _: &mut Context<Self>) {
        if self.out.is_some() {
            let brokers = self.node.brokers();
            brokers.publish_remote_session(&self.pool, session);
        }
    }
}

impl Handler<News> for Liaison {
    type Result = ();

    fn handle(&mut self, News(signal): News, _: &mut Context<Self>) {
        let attempt = signal.task().first();
        match self
            .observers
            .get(&attempt)
            .filter(|observer| observer.connected())
        {
            Some(observer) => observer.do_send(signal),
            None => {
                let task = signal.task().clone();
                self.observers.remove(&attempt);
                self.tell(ToBroker::Unheard { task });
            }
        }
    }
}

impl Handler<Enqueue> for Liaison {
    type Result = ();

    fn handle(&mut self, request: Enqueue, _: &mut Context<Self>) {
        self.observe(&request.task, request.observer);
        self.tell(ToBroker::Enqueue(Box::new(Request {
            task: request.task,
            shape: request.shape,
            deadline: request.deadline,
            owner: request.owner,
            payload: request.payload,
        })));
    }
}

impl Handler<Confirm> for Liaison {
    type Result = ();

    fn handle(&mut self, Confirm { task, agents }: Confirm, _: &mut Context<Self>) {
        self.tell(ToBroker::Confirm { task, agents });
    }
}

impl Handler<Adopt> for Liaison {
    type Result = ();

    fn handle(&mut self, adopt: Adopt, _: &mut Context<Self>) {
        self.observe(&adopt.task, adopt.observer);
        self.tell(ToBroker::Adopt {
            task: adopt.task,
            agent: adopt.agent,
            claim: adopt.claim,
        });
    }
}

impl Handler<Kill> for Liaison {
    type Result = ();

    fn handle(&mut self, Kill { task, agent }: Kill, _: &mut Context<Self>) {
        self.tell(ToBroker::Kill { task, agent });
    }
}

impl Handler<Acknowledge> for Liaison {
    type Result = ();

    fn handle(&mut self, ack: Acknowledge, _: &mut Context<Self>) {
        self.tell(ToBroker::Acknowledge {
            task: ack.task,
            agent: ack.agent,
            uuid: ack.uuid,
        });
    }
}

impl Handler<Unheard> for Liaison {
    type Result = ();

    fn handle(&mut self, Unheard { task, .. }: Unheard, _: &mut Context<Self>) {
        self.tell(ToBroker::Unheard { task });
    }
}

impl Handler<Explain> for Liaison {
    type Result = MessageResult<Explain>;

    /// Questions are asked of the broker's own coordinator.
    fn handle(&mut self, _: Explain, _: &mut Context<Self>) -> Self::Result {
        MessageResult(None::<Waiting>)
    }
}

impl Handler<Look> for Liaison {
    type Result = MessageResult<Look>;

    /// So are these.
    fn handle(&mut self, _: Look, _: &mut Context<Self>) -> Self::Result {
        MessageResult(None)
    }
}
