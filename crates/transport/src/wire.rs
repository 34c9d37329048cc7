//! The bytes between two nodes: frames, the greeting, the head of a stream, codes.
//!
//! Everything on a stream is a frame: its length in four bytes, the big end first, then that
//! many bytes. The greeting and heads are MessagePack maps with named fields, so that a newer
//! neighbour may add some.

use bytes::{BufMut, Bytes, BytesMut};
use meson_certs::PeerId;
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use serde::{Deserialize, Serialize};

use crate::options::Versions;
use crate::service::{Service, Urgency};

/// The name of the protocol in TLS.
pub(crate) const ALPN: &[u8] = b"meson/1";
/// The greeting and heads are short.
pub(crate) const MAX_HEAD_BYTES: usize = 4096;
pub(crate) const LENGTH_BYTES: usize = 4;

/// Which of the two connections between a pair of nodes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lane {
    Main,
    Bulk,
}

/// What both sides say first, on a stream of its own: the dialling one begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) versions: Versions,
    pub(crate) cluster: String,
    pub(crate) node: PeerId,
    /// Drawn anew when a process starts: another number means a restart.
    pub(crate) incarnation: u64,
    pub(crate) lane: Lane,
}

/// The first frame of every other stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) service: Service,
    pub(crate) urgency: Urgency,
    /// Of a call: how long the caller will wait from now on.
    pub(crate) time_left_us: u64,
}

/// One body, one answer.
pub(crate) const CALL: u8 = 0;
/// An opening, then frames both ways.
pub(crate) const STREAM: u8 = 1;

/// The first byte of an answer.
pub(crate) const ANSWERED: u8 = 0;
pub(crate) const REFUSED: u8 = 1;

/// Why a connection is closed, for the other side.
pub(crate) mod close {
    use super::VarInt;

    pub(crate) const SHUTDOWN: VarInt = VarInt::from_u32(1);
    pub(crate) const NOT_A_MEMBER: VarInt = VarInt::from_u32(2);
    pub(crate) const NO_COMMON_VERSION: VarInt = VarInt::from_u32(3);
    pub(crate) const BAD_GREETING: VarInt = VarInt::from_u32(4);
    pub(crate) const RESTARTED: VarInt = VarInt::from_u32(5);
    pub(crate) const MOVED: VarInt = VarInt::from_u32(6);
    pub(crate) const TOO_MANY: VarInt = VarInt::from_u32(7);
}

/// Why a stream is reset, for the other side.
pub(crate) mod reset {
    use super::VarInt;

    pub(crate) const ABANDONED: VarInt = VarInt::from_u32(1);
    pub(crate) const GARBAGE: VarInt = VarInt::from_u32(2);
    pub(crate) const TOO_LARGE: VarInt = VarInt::from_u32(3);
    pub(crate) const DEADLINE: VarInt = VarInt::from_u32(4);
    pub(crate) const ANSWER_TOO_LARGE: VarInt = VarInt::from_u32(5);

    /// In words.
    pub(crate) fn reason(code: VarInt) -> String {
        match code {
            ABANDONED => "the peer gave it up".to_owned(),
            GARBAGE => "the peer could not read it".to_owned(),
            TOO_LARGE => "the peer takes no frames of this length".to_owned(),
            DEADLINE => "the deadline was over".to_owned(),
            ANSWER_TOO_LARGE => "the answer is over the limit".to_owned(),
            other => format!("the peer reset it with code {other}"),
        }
    }
}

/// Why a connection ended or did not come about, in words that lead somewhere.
pub(crate) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TransportError(refused) => {
            format!("its certificate or its protocol is not accepted ({refused})")
        }
        ConnectionError::ConnectionClosed(refused) if is_tls(refused.error_code) => {
            format!("it does not accept our certificate or our protocol ({refused})")
        }
        ConnectionError::ApplicationClosed(closed) => {
            format!(
                "it closed the connection: {}",
                String::from_utf8_lossy(&closed.reason)
            )
        }
        ConnectionError::LocallyClosed => "this node closed the connection".to_owned(),
        other => other.to_string(),
    }
}

/// Whether TLS is the reason: its alerts have codes of their own (RFC 9001, 4.8). A peer that
/// gives up an attempt in the middle of the handshake ends it with another one.
pub(crate) fn is_tls(code: TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

/// A message as the frame's content.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Bytes, String> {
    rmp_serde::to_vec_named(message)
        .map(Bytes::from)
        .map_err(|error| error.to_string())
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, String> {
    rmp_serde::from_slice(frame).map_err(|error| error.to_string())
}

/// The length in front of a frame. Lengths were checked against a limit that fits.
pub(crate) fn length(frame: &[u8]) -> [u8; LENGTH_BYTES] {
    u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Several frames in one piece, as one packet may carry them.
pub(crate) fn frames(contents: &[&[u8]]) -> Bytes {
    let total = contents
        .iter()
        .map(|frame| LENGTH_BYTES + frame.len())
        .sum();
    let mut bytes = BytesMut::with_capacity(total);
    for frame in contents {
        bytes.put_slice(&length(frame));
        bytes.put_slice(frame);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_with_more_fields_than_we_know_is_read() {
        #[derive(Serialize)]
        struct Newer {
            versions: Versions,
            cluster: &'static str,
            node: PeerId,
            incarnation: u64,
            lane: Lane,
            colour: &'static str,
        }
        let bytes = encode(&Newer {
            versions: Versions { min: 1, max: 9 },
            cluster: "prod",
            node: PeerId::new(2),
            incarnation: u64::MAX,
            lane: Lane::Bulk,
            colour: "blue",
        })
        .unwrap();
        let hello: Hello = decode(&bytes).unwrap();
        assert_eq!((hello.incarnation, hello.lane), (u64::MAX, Lane::Bulk));
    }
}
