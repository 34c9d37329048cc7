//! What a message is for, and how urgent it is.

use bytes::Bytes;
use futures::future::BoxFuture;
use meson_certs::PeerId;
use serde::{Deserialize, Serialize};

use crate::errors::Refusal;
use crate::frames::{FrameReceiver, FrameSender};

/// The part of the program that a call is for. The mesh carries the number and gives it no
/// meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Service(pub u8);

/// Who goes first where there is not room for all. The first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", from = "u8")]
pub enum Urgency {
    /// Elections: a cluster without a leader does nothing else.
    Vote,
    /// Signs of life, whose delay would start an election.
    Heartbeat,
    /// Replication, which every proposal waits for.
    Append,
    /// Everything that somebody waits for.
    Call,
    /// Snapshots and other masses of bytes: on a connection of their own, because streams of one
    /// connection share its congestion and flow control.
    Bulk,
}

impl Urgency {
    pub(crate) const fn priority(self) -> i32 {
        match self {
            Self::Vote => 4,
            Self::Heartbeat => 3,
            Self::Append => 2,
            Self::Call => 1,
            Self::Bulk => 0,
        }
    }
}

impl From<Urgency> for u8 {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Vote => 0,
            Urgency::Heartbeat => 1,
            Urgency::Append => 2,
            Urgency::Call => 3,
            Urgency::Bulk => 4,
        }
    }
}

/// A number that a newer version may have put in is treated as an ordinary call.
impl From<u8> for Urgency {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Vote,
            1 => Self::Heartbeat,
            2 => Self::Append,
            4 => Self::Bulk,
            _ => Self::Call,
        }
    }
}

/// The program behind the mesh.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call. The future is dropped when the caller's deadline is over or the caller
    /// has gone away.
    fn call(
        &self,
        from: PeerId,
        service: Service,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refusal>>;

    /// Serves a stream until it returns. When the connection is lost, both halves say so; after
    /// [`shutdown`](crate::Mesh::shutdown) the future is dropped if it does not end by itself.
    fn stream(
        &self,
        from: PeerId,
        service: Service,
        opening: Bytes,
        requests: FrameReceiver,
        answers: FrameSender,
    ) -> BoxFuture<'_, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_travels_as_a_number_and_orders_priorities() {
        let all = [
            Urgency::Vote,
            Urgency::Heartbeat,
            Urgency::Append,
            Urgency::Call,
            Urgency::Bulk,
        ];
        for pair in all.windows(2) {
            assert!(pair[0].priority() > pair[1].priority() && pair[0] < pair[1]);
        }
        for urgency in all {
            assert_eq!(Urgency::from(u8::from(urgency)), urgency);
        }
        assert_eq!(Urgency::from(99), Urgency::Call);
    }
}
