//! What a mesh is started with.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meson_certs::{Identity, PeerId};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::errors::MeshError;
use crate::service::Handler;

/// Who belongs to the cluster, and where each is dialled (`host:port`).
pub type Members = BTreeMap<PeerId, String>;

/// Everything that a mesh needs from outside.
pub struct MeshOptions {
    /// Who this node is, and whom it trusts.
    pub identity: Identity,
    /// The socket; see [`bind`].
    pub listen: Arc<dyn AsyncUdpSocket>,
    /// Who may connect and is dialled. This node may be among them; it does not dial itself.
    pub members: Members,
    /// Nodes that this node dials elsewhere than the members' list says, as through a proxy or
    /// an address translation.
    pub routes: BTreeMap<PeerId, String>,
    /// Limits on memory.
    pub limits: MeshLimits,
    /// Intervals and timeouts.
    pub timing: MeshTiming,
    /// The versions of the protocol that this node speaks.
    pub versions: Versions,
    /// For jitter and for the number by which peers notice a restart: different in every process.
    pub seed: u64,
    /// The wall clock, by which certificates are valid or expired.
    pub wall_clock: Arc<dyn TimeProvider>,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
}

impl MeshOptions {
    /// Options with the defaults for everything that has one.
    #[must_use]
    pub fn new(
        identity: Identity,
        listen: Arc<dyn AsyncUdpSocket>,
        members: Members,
        seed: u64,
        handler: Arc<dyn Handler>,
    ) -> Self {
        Self {
            identity,
            listen,
            members,
            routes: BTreeMap::new(),
            limits: MeshLimits::default(),
            timing: MeshTiming::default(),
            versions: Versions::default(),
            seed,
            wall_clock: Arc::new(DefaultTimeProvider),
            handler,
        }
    }
}

/// Opens a UDP socket for a mesh, on tokio.
///
/// # Errors
/// Says which address cannot be had, and why.
pub fn bind(address: SocketAddr) -> Result<Arc<dyn AsyncUdpSocket>, MeshError> {
    let open = || -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // Bursts wait here while the process is busy. The system caps what it gives.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
        socket.bind(&address.into())?;
        TokioRuntime.wrap_udp_socket(socket.into())
    };
    open().map_err(|source| MeshError::Listen {
        address: address.to_string(),
        source,
    })
}

const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Limits on memory, per connection where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshLimits {
    /// The longest frame of a stream.
    pub frame_bytes: usize,
    /// The longest body of a call, and of its answer.
    pub call_bytes: usize,
    /// Bodies of incoming calls that are being read or worked on, in all.
    pub calls_in_flight_bytes: usize,
    /// What a peer may send on one stream before it is read.
    pub stream_window_bytes: u32,
    /// What a peer may send on all streams before it is read. Much more than a stream's, or a
    /// few streams that nobody reads could hold up the others.
    pub connection_window_bytes: u32,
    /// Streams and calls at one time from one peer.
    pub streams: u32,
    /// The same for bulk.
    pub bulk_streams: u32,
    /// Connections being set up, from all peers and strangers.
    pub handshakes: usize,
}

impl Default for MeshLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 8 << 20,
            call_bytes: 8 << 20,
            calls_in_flight_bytes: 64 << 20,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 32 << 20,
            streams: 1024,
            bulk_streams: 16,
            handshakes: 128,
        }
    }
}

/// Intervals and timeouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshTiming {
    /// An idle connection shows that it lives so often.
    pub keep_alive: Duration,
    /// A connection that was silent for so long is lost.
    pub idle_timeout: Duration,
    /// Setting up a connection, names and versions included, takes no longer.
    pub connect: Duration,
    /// The wait after the first failure to connect; each further one doubles it.
    pub backoff_min: Duration,
    /// The longest wait.
    pub backoff_max: Duration,
    /// The round trip that is assumed before one was measured: a lost first packet is sent again
    /// after three of them.
    pub initial_rtt: Duration,
}

impl Default for MeshTiming {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(3),
            connect: Duration::from_secs(2),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            initial_rtt: Duration::from_millis(20),
        }
    }
}

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Default for Versions {
    fn default() -> Self {
        Self { min: 1, max: 1 }
    }
}

impl Versions {
    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min && newest >= other.min).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

impl MeshOptions {
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        let (limits, timing) = (&self.limits, &self.timing);
        let frames = 1..=MAX_FRAME_BYTES;
        let wrong = if !frames.contains(&limits.frame_bytes) {
            format!(
                "frame_bytes is {}, not 1 to {MAX_FRAME_BYTES}",
                limits.frame_bytes
            )
        } else if !frames.contains(&limits.call_bytes) {
            format!(
                "call_bytes is {}, not 1 to {MAX_FRAME_BYTES}",
                limits.call_bytes
            )
        } else if limits.calls_in_flight_bytes < limits.call_bytes {
            "calls_in_flight_bytes is less than call_bytes".to_owned()
        } else if limits.streams == 0 || limits.bulk_streams == 0 || limits.handshakes == 0 {
            "streams, bulk_streams and handshakes must be at least 1".to_owned()
        } else if timing.keep_alive.saturating_mul(2) > timing.idle_timeout {
            "keep_alive must be at most half of idle_timeout, or idle connections are lost"
                .to_owned()
        } else if timing.backoff_min.is_zero() || timing.backoff_min > timing.backoff_max {
            "backoff_min must be more than nothing and at most backoff_max".to_owned()
        } else if self.versions.min > self.versions.max {
            format!("versions run from {}", self.versions)
        } else {
            return Ok(());
        };
        Err(MeshError::Options { reason: wrong })
    }
}

const MAX_FRAME_BYTES: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_speak_the_newest_version_that_both_know() {
        let versions = |min, max| Versions { min, max };
        assert_eq!(versions(1, 2).common(versions(2, 3)), Some(2));
        assert_eq!(versions(1, 5).common(versions(2, 3)), Some(3));
        assert_eq!(versions(1, 1).common(versions(1, 1)), Some(1));
        assert_eq!(versions(1, 2).common(versions(3, 4)), None);
        assert_eq!(versions(3, 4).common(versions(1, 2)), None);
    }
}
