//! What operators see of the mesh.

use std::time::Duration;

use meson_certs::PeerId;

/// One peer, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: PeerId,
    /// Where it is dialled.
    pub address: String,
    /// How long the connection that we dialled has been up; none, if it is not.
    pub connected_for: Option<Duration>,
    /// Its smoothed round trip.
    pub rtt: Option<Duration>,
    /// The version that both speak on it.
    pub version: Option<u16>,
    /// Whether the connection for bulk is up; it is made when first needed.
    pub bulk: bool,
    /// Connections that the peer has to us.
    pub incoming: usize,
    /// Bytes of UDP to the peer, on all connections since the start, or since it became a member.
    pub sent_bytes: u64,
    /// The same from the peer.
    pub received_bytes: u64,
    /// Why the last attempt to connect failed or the last connection ended, even if there is one
    /// now.
    pub last_error: Option<String>,
}

/// What was turned away since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshCounters {
    /// Connections: wrong or expired certificates, numbers that are no member's, versions.
    pub refused_connections: u64,
    /// Streams of members that carried something else than frames, or frames over the limit.
    pub bad_streams: u64,
    /// Connections that showed that two processes run under one member's number.
    pub twins: u64,
}
