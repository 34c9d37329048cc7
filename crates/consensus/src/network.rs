//! The seam to other nodes.
//!
//! Consensus hands opaque, already encoded frames to a [`Network`]; on the other node, whoever
//! received them hands them to [`crate::ConsensusNode`]: a call's request to
//! [`handle`](crate::ConsensusNode::handle), a stream to [`serve`](crate::ConsensusNode::serve). A
//! transport therefore knows nothing of Raft.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::ids::{NodeId, ShardId};

/// How urgent a frame is; what is more urgent overtakes on its way to the same node. In order: a
/// late vote or heartbeat costs an election, a late snapshot nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Parts of a snapshot: bulk, which must not hold up anything else.
    Snapshot,
    /// Log entries.
    Append,
    /// Votes, heartbeats, transfers of leadership.
    Vote,
}

/// A request to another node's replica of a shard.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    /// The shard whose replica is meant.
    pub shard: ShardId,
    /// How urgent it is.
    pub urgency: Urgency,
    /// The encoded request. Opaque to the transport.
    pub body: Bytes,
}

/// Why a call to another node brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The node is not known or cannot be reached now; try again later.
    #[error(
        "cannot reach node {target}: {reason}; check that it runs and that its address is right"
    )]
    Unreachable {
        /// The node that was called.
        target: NodeId,
        /// What failed, for the log.
        reason: String,
    },
    /// The call was sent, and the connection broke before its answer came.
    #[error("call to node {target} was interrupted: {reason}")]
    Interrupted {
        /// The node that was called.
        target: NodeId,
        /// What failed, for the log.
        reason: String,
    },
}

/// The writing end of an ordered stream of frames. Dropped before it is finished, it breaks the
/// stream, and what is under way may be lost.
pub trait FrameSink: Send {
    /// Sends a frame; waits while the other side is slow to read.
    fn send(&mut self, urgency: Urgency, frame: Bytes) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// There is no more to say: the other side sees the end of the stream, behind all frames.
    fn finish(self: Box<Self>);
}

/// The reading end of an ordered stream of frames. The other side's sends fail when this is dropped.
pub trait FrameSource: Send {
    /// The next frame; none when the other side has ended the stream.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, NetworkError>>;
}

/// Both ends of an ordered stream between the replicas of a shard on two nodes.
pub struct FrameStream {
    /// What this side says.
    pub sink: Box<dyn FrameSink>,
    /// What the other side says.
    pub source: Box<dyn FrameSource>,
}

/// A way to other nodes. Implemented by the transport.
pub trait Network: Send + Sync + 'static {
    /// Sends a request to `target` and waits for its answer. The caller enforces its own time
    /// limit by dropping the future. Calls may overtake each other.
    fn call(
        &self,
        target: NodeId,
        request: PeerRequest,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>>;

    /// Opens an ordered stream to the replica of a shard on `target`, on which many frames may be
    /// under way at a time. The caller enforces its own time limit by dropping the future.
    fn open(
        &self,
        target: NodeId,
        shard: ShardId,
    ) -> BoxFuture<'_, Result<FrameStream, NetworkError>>;
}

/// The network of a node that is a cluster of its own: it reaches nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Alone {
    fn nobody<T>(target: NodeId) -> Result<T, NetworkError> {
        Err(NetworkError::Unreachable {
            target,
            reason: "this node has no network".to_owned(),
        })
    }
}

impl Network for Alone {
    fn call(
        &self,
        target: NodeId,
        _request: PeerRequest,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(async move { Self::nobody(target) })
    }

    fn open(
        &self,
        target: NodeId,
        _shard: ShardId,
    ) -> BoxFuture<'_, Result<FrameStream, NetworkError>> {
        Box::pin(async move { Self::nobody(target) })
    }
}
