//! What can go wrong, and whether the other side may have acted on it.

use std::time::Duration;

use meson_certs::PeerId;

/// Why a mesh could not start, or could not take what it was given.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The socket could not be used.
    #[error("cannot listen on {address}: {source}; free the port, or configure another one")]
    Listen {
        /// Where it was to listen.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS did not take the certificate.
    #[error(
        "cannot use the certificate of node {node}: {reason}; make a new one with `mesonctl certs issue`"
    )]
    Tls {
        /// The node.
        node: PeerId,
        /// What TLS said.
        reason: String,
    },
    /// An option is out of its range.
    #[error("cannot start the mesh with these options: {reason}")]
    Options {
        /// The option, its value and its range.
        reason: String,
    },
    /// The new certificate is of somebody else.
    #[error(
        "the new certificate is of node {found} of cluster {found_cluster:?}, but this is node {expected} of {expected_cluster:?}; a node keeps its number and its cluster"
    )]
    OtherIdentity {
        /// This node.
        expected: PeerId,
        /// Its cluster.
        expected_cluster: String,
        /// The node in the certificate.
        found: PeerId,
        /// The cluster in the certificate.
        found_cluster: String,
    },
}

/// Why a call has no answer.
///
/// The variants differ in what the callee may have done: nothing after
/// [`Unreachable`](Self::Unreachable), [`TooLarge`](Self::TooLarge) and
/// [`UnknownPeer`](Self::UnknownPeer); perhaps everything after
/// [`Interrupted`](Self::Interrupted) and [`Timeout`](Self::Timeout).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error("node {peer} cannot be reached: {reason}")]
    Unreachable {
        /// The callee.
        peer: PeerId,
        /// Why there is no connection.
        reason: String,
    },
    /// It was sent, at least in part, and no answer will come.
    #[error("the call to node {peer} was interrupted: {reason}; it may have taken effect")]
    Interrupted {
        /// The callee.
        peer: PeerId,
        /// What happened.
        reason: String,
    },
    /// It was sent, and no answer came in time.
    #[error("node {peer} did not answer within {after:?}; the call may have taken effect")]
    Timeout {
        /// The callee.
        peer: PeerId,
        /// How long it had.
        after: Duration,
    },
    /// The callee said no.
    #[error("node {peer} refused: {reason}")]
    Refused {
        /// The callee.
        peer: PeerId,
        /// Its words.
        reason: String,
    },
    /// A message is over the limit; it was not sent.
    #[error(
        "a message of {bytes} bytes for node {peer} is over the limit of {limit} bytes; send it in parts"
    )]
    TooLarge {
        /// For whom it was.
        peer: PeerId,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// No member has this number.
    #[error("node {peer} is no other member of the cluster")]
    UnknownPeer {
        /// The number.
        peer: PeerId,
    },
}

/// A callee's no; its reason travels back as [`CallError::Refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the caller to read.
    pub reason: String,
}

impl Refusal {
    /// A no, and why.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}
