//! The seam to other nodes.
//!
//! Consensus hands an opaque, already encoded request to [`Network::call`] and gets the encoded
//! answer back; on the other node, whoever received the bytes hands them to
//! [`crate::ConsensusNode::handle`]. A transport therefore knows nothing of Raft.

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::ids::{NodeId, ShardId};

/// A request to another node's replica of a shard.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    /// The shard whose replica is meant.
    pub shard: ShardId,
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

/// A way to other nodes. Implemented by the transport.
pub trait Network: Send + Sync + 'static {
    /// Sends a request to `target` and waits for its answer. The caller enforces its own time
    /// limit by dropping the future. Calls may overtake each other.
    fn call(
        &self,
        target: NodeId,
        address: &str,
        request: PeerRequest,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>>;
}

/// The network of a node that is a cluster of its own: it reaches nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Network for Alone {
    fn call(
        &self,
        target: NodeId,
        _address: &str,
        _request: PeerRequest,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(async move {
            Err(NetworkError::Unreachable {
                target,
                reason: "this node has no network".to_owned(),
            })
        })
    }
}
