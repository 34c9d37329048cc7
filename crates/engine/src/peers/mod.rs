//! Other coordinators: what is asked of them, and what they ask of this one.
//!
//! ```text
//!   here                                      there
//!   router ──── PeerCall ──────────────────►  serve ──► local: the shard's leader answers
//!   liaison ─── stream: ToBroker, FromBroker ► session ─► the pool's broker
//!     ▲ step actors' messages, and signals back
//! ```
//!
//! * [`wire`]: the messages. * [`serve`]: answers them.
//! * [`liaison`]: stands in for a broker that runs elsewhere; [`session`]: its other end, beside the
//!   broker.
//!
//! Nothing here is durable. Whatever breaks is begun again: calls can be repeated, and step actors
//! ask a broker again by task id.

pub(crate) mod liaison;
pub(crate) mod serve;
mod session;
pub(crate) mod wire;

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use meson_consensus::{FrameSink, FrameStream, NetworkError, NodeId, Urgency};
use serde::Serialize;
use tokio::sync::mpsc;

use self::wire::{PeerAnswer, PeerCall};
use crate::error::EngineError;

/// A way to other coordinators. Given to the engine by the binary, which knows the transport.
pub trait Coordinators: Send + Sync + 'static {
    /// Asks another coordinator's [`Engine::answer`](crate::Engine::answer). Answers arrive in any
    /// order. `bulk` calls are large and may wait behind others.
    fn call(
        &self,
        to: NodeId,
        body: Bytes,
        bulk: bool,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>>;

    /// Opens a stream to another coordinator's [`Engine::converse`](crate::Engine::converse).
    fn open(
        &self,
        to: NodeId,
        opening: Bytes,
        limit: Duration,
    ) -> BoxFuture<'_, Result<FrameStream, NetworkError>>;

    /// How each of them is reached.
    fn links(&self) -> Vec<PeerLink>;

    /// What went to each of them and came from it since the start, as the network sees it.
    fn traffic(&self) -> Vec<PeerTraffic>;
}

/// How another coordinator is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLink {
    /// The other one.
    pub node: NodeId,
    /// The round-trip time, as the transport measures it, while there is a connection.
    pub round_trip: Option<Duration>,
    /// Why there is no connection, if there is none.
    pub problem: Option<String>,
}

/// All that went between this coordinator and another one, with what the transport puts around it
/// and sends again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerTraffic {
    /// The other one.
    pub node: NodeId,
    /// Bytes to it.
    pub sent_bytes: u64,
    /// Bytes from it.
    pub received_bytes: u64,
}

/// Asks the cluster, through one of its coordinators, to note that a node uses its number with the
/// data of this incarnation. For a node that has no data yet.
///
/// # Errors
/// [`EngineError::NodeTaken`] if the number belongs to other data; anything else if nobody can tell
/// now.
pub async fn register_through(
    peers: &dyn Coordinators,
    via: NodeId,
    node: NodeId,
    incarnation: &str,
    limit: Duration,
) -> Result<(), EngineError> {
    let action = "register the node";
    let call = PeerCall::Register {
        node,
        incarnation: incarnation.to_owned(),
    };
    match ask(peers, via, &call, action, false, limit).await? {
        PeerAnswer::Done => Ok(()),
        PeerAnswer::Failed { detail, .. } if detail.code == "node_taken" => {
            Err(EngineError::NodeTaken { node: node.get() })
        }
        PeerAnswer::Failed { kind, detail } => Err(EngineError::Elsewhere { kind, detail }),
        _ => Err(EngineError::Internal {
            action,
            reason: format!("coordinator {via} answered another question"),
        }),
    }
}

/// Asks a coordinator something, once. `action` is what the asking is for, for error messages.
pub(crate) async fn ask(
    peers: &dyn Coordinators,
    to: NodeId,
    call: &PeerCall,
    action: &'static str,
    bulk: bool,
    limit: Duration,
) -> Result<PeerAnswer, EngineError> {
    let call = wire::encode("a call", call)?;
    let answer = peers.call(to, call, bulk, limit).await;
    let answer = answer.map_err(|error| EngineError::Unavailable {
        action,
        reason: error.to_string(),
    })?;
    wire::decode("an answer", &answer)
}

/// Says all that comes, in order, until the other side hears no more or there is nobody left to
/// say anything: why it ended.
async fn speak<T: Serialize>(
    what: &'static str,
    mut sink: Box<dyn FrameSink>,
    mut words: mpsc::Receiver<T>,
) -> String {
    while let Some(word) = words.recv().await {
        let sent = match wire::encode(what, &word) {
            Ok(frame) => sink.send(Urgency::Append, frame).await,
            Err(error) => {
                tracing::error!(%error, "{what} cannot be sent");
                continue;
            }
        };
        if let Err(error) = sent {
            return error.to_string();
        }
    }
    format!("{what} was not taken fast enough")
}

/// There are no others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Nobody {
    fn is_there<T>(target: NodeId) -> Result<T, NetworkError> {
        Err(NetworkError::Unreachable {
            target,
            reason: "this coordinator is a cluster of its own".to_owned(),
        })
    }
}

impl Coordinators for Nobody {
    fn call(
        &self,
        to: NodeId,
        _: Bytes,
        _: bool,
        _: Duration,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(async move { Self::is_there(to) })
    }

    fn open(
        &self,
        to: NodeId,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'_, Result<FrameStream, NetworkError>> {
        Box::pin(async move { Self::is_there(to) })
    }

    fn links(&self) -> Vec<PeerLink> {
        Vec::new()
    }

    fn traffic(&self) -> Vec<PeerTraffic> {
        Vec::new()
    }
}
