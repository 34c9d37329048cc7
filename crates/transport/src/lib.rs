//! The QUIC mesh: every node speaks to every other one, and both know for certain who the other
//! is. It carries bytes, and knows nothing of what they mean.
//!
//! ```text
//!          node 1                                                     node 2
//!   ┌───────────────────┐     main: votes, appends, calls     ┌───────────────────┐
//!   │ Mesh::call, open ─┼──► greeting ────────────────────────┼─► Handler::call   │
//!   │                   │    stream: head, frame, frame …     │   Handler::stream │
//!   │                 ──┼──► bulk: snapshots ─────────────────┼─►                 │
//!   │                   │                                     │                   │
//!   │   Handler       ◄─┼───────────────────── main, bulk ◄───┼── Mesh::call, open│
//!   └─────────┬─────────┘                                     └─────────┬─────────┘
//!             └───────────────── one UDP socket each ───────────────────┘
//! ```
//!
//! **Connections.** A node dials its own connections to every member, and serves those that the
//! others dial: nobody has to agree on who dials, and a call waits only for its own side. The
//! main one is made at once and kept up; the one for bulk is made when first needed, because
//! streams of one connection share its congestion and flow control, and a snapshot would hold up
//! the votes. Failed attempts are repeated with back-off, which ends early when the peer dials
//! us.
//!
//! **Who is who.** TLS 1.3 with certificates on both sides, chained to the cluster's own
//! authority (`meson-certs`). The dialling side asks for the very node that it means, by the
//! name in its certificate; the serving side looks whether the number in the certificate is a
//! member's. There is no session resumption and no 0-RTT: every connection shows a certificate
//! that is valid now.
//!
//! **Greeting.** The first stream of a connection carries a greeting each way: the range of
//! protocol versions, of which the highest common one is used; and a number drawn at the start
//! of the process. A peer that comes with another number has restarted, and our connections to
//! its former life, which answers nothing, are closed at once. Where the peer keeps its key, its
//! new life also answers packets for the old one with QUIC's stateless reset.
//!
//! **Streams.** Each call has a stream of its own, and is over when its future is dropped or its
//! deadline has passed, on both sides: the callee is told how much time is left. Frames carry
//! their length in front, which is checked before anything is set aside for them. A stream that
//! carries something else is reset; its connection goes on.
//!
//! **Limits.** Streams per connection, bytes unread per stream and per connection, bytes of
//! calls being worked on, connections per peer, connections being set up: see [`MeshLimits`].
//!
//! Files: `mesh` the service and its members; `dial` keeps connections up; `peer` one member;
//! `serve` lets others in; `greeting` first words; `call` the calling side; `frames` streams;
//! `wire` the bytes; `tls` settings of TLS and QUIC; `complaints` what is turned away; `service`,
//! `options`, `status`, `errors` the interface.

mod call;
mod complaints;
mod dial;
mod errors;
mod frames;
mod greeting;
mod mesh;
mod options;
mod peer;
mod serve;
mod service;
mod status;
mod tls;
mod wire;

pub use errors::{CallError, MeshError, Refusal};
pub use frames::{FrameReceiver, FrameSender};
pub use mesh::Mesh;
pub use meson_certs::{Identity, PeerId};
pub use options::{Members, MeshLimits, MeshOptions, MeshTiming, Versions, bind};
pub use quinn::AsyncUdpSocket;
pub use service::{Handler, Service, Urgency};
pub use status::{MeshCounters, PeerStatus};
