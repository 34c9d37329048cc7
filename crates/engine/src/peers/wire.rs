//! What coordinators say to each other, in MessagePack behind a version byte
//! ([`meson_protocol::wire`]). Fields have names, so that neighbouring releases may differ in them.

use bytes::Bytes;
use meson_consensus::NodeId;
use meson_core::ids::TaskId;
use meson_core::matching::Shape;
use meson_core::run::Claim;
use meson_core::units::Timestamp;
use meson_protocol::api::ErrorDetail;
use meson_protocol::wire::{self, WireError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::broker::messages::Signal;
use crate::calls::{ShardCall, ShardReply};
use crate::cluster::NodeState;
use crate::error::{EngineError, ErrorKind};

/// The longest message, in bytes: a bundle, which is the largest thing that is asked for, with
/// room for what is around it.
const MAX_BYTES: usize = 20 << 20;

/// Asked of a coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum PeerCall {
    /// Something that the leader of a shard answers.
    Shard {
        /// The shard's number.
        shard: u16,
        /// What is asked.
        call: ShardCall,
    },
    /// How are you?
    State,
    /// Note that a node uses its number with the data that it has. Asked by a node that has none
    /// yet, and therefore no replica to find a leader with.
    Register {
        /// The node's number.
        node: NodeId,
        /// Drawn for its data.
        incarnation: String,
    },
    /// Lead nothing any more, or again.
    Drain {
        /// Whether to drain, or to end that.
        on: bool,
    },
}

/// What it answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum PeerAnswer {
    /// The shard's leader's answer.
    Shard(Box<ShardReply>),
    /// The coordinator's own state.
    State(NodeState),
    /// Done.
    Done,
    /// It leads the shard no more, or not yet.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// It cannot be done.
    Failed {
        /// What kind of trouble it is.
        kind: ErrorKind,
        /// The rest.
        detail: ErrorDetail,
    },
}

impl From<EngineError> for PeerAnswer {
    fn from(error: EngineError) -> Self {
        Self::Failed {
            kind: error.kind(),
            detail: error.detail(),
        }
    }
}

/// What a stream between coordinators is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Opening {
    /// To speak to the broker of this pool.
    Broker {
        /// The pool.
        pool: String,
    },
}

/// What step actors elsewhere say to a broker; see [`messages`](crate::broker::messages).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ToBroker {
    Enqueue(Box<Request>),
    Confirm {
        task: TaskId,
        agents: Vec<String>,
    },
    Adopt {
        task: TaskId,
        agent: String,
        claim: Option<Box<Claim>>,
    },
    Kill {
        task: TaskId,
        agent: Option<String>,
    },
    Acknowledge {
        task: TaskId,
        agent: String,
        uuid: Vec<u8>,
    },
    /// Nobody here hears the attempt's news any more.
    Unheard {
        task: TaskId,
    },
}

/// [`Enqueue`](crate::broker::messages::Enqueue) without its observer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) task: TaskId,
    pub(crate) shape: Shape,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) owner: String,
    pub(crate) payload: Bytes,
}

/// What a broker says to step actors elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum FromBroker {
    /// It is there, and hears what is said from here on.
    Up,
    /// Whether it has a session with the resource manager.
    Session(bool),
    /// News of an attempt.
    Signal(Signal),
}

pub(crate) fn encode<T: Serialize>(what: &'static str, message: &T) -> Result<Bytes, EngineError> {
    wire::encode(what, MAX_BYTES, message)
        .map(Bytes::from)
        .map_err(broken)
}

pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, EngineError> {
    wire::decode(what, MAX_BYTES, bytes).map_err(broken)
}

fn broken(error: WireError) -> EngineError {
    EngineError::Internal {
        action: "speak to another coordinator",
        reason: error.to_string(),
    }
}
