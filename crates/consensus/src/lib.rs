//! Shards: Raft groups over one local database.
//!
//! A node holds a replica of every shard. All of them share one fjall database, whose single
//! journal is what lets one fsync commit what many shards wrote.
//!
//! ```text
//!   Shard::propose ──► proposer (one task per shard; coalesces what queues up into one entry)
//!                          │
//!                     openraft (one core task per shard)
//!                          │ append                                  │ apply, once durable
//!                          ▼                                         ▼
//!   store::log ──► store::writer (one task per node:           store::state ──► StateMachine::apply
//!   (recent tail     gathers all shards' writes, one batch,     (one batch per group of entries,
//!    in memory)      one fsync, then tells every shard)          together with the applied log id)
//!                          │                                         │
//!                          └──────────► fjall (one journal) ◄────────┘
//! ```
//!
//! Files: [`ids`](crate::ShardId) the names; `options`, `errors` what goes in and what can go
//! wrong; `machine` the interface of the replicated state machine; `view` reading; `shard` and
//! `node` the service; `proposer` group commit; `leadership` who leads; `members` who belongs to
//! it; `network` the seam to other nodes, `traffic` what goes over it, counted; `raft` everything that knows openraft; `store` everything that knows fjall.
//!
//! What a crash can leave behind: the log's writes are synced before anybody is told; the
//! state's are not, but lie behind the log's in the same journal, and are replayed from the log
//! where they are missing. See `store`.

mod errors;
mod ids;
mod leadership;
mod machine;
mod members;
mod network;
mod node;
mod options;
mod proposer;
mod raft;
mod shard;
mod status;
mod store;
mod traffic;
mod view;

pub use errors::{Failure, OpenError, ProposeError, ReadError};
pub use ids::{ClusterId, LogIndex, NodeId, ShardId, Term, shard_of};
pub use leadership::Leadership;
pub use machine::{MAX_KEY_BYTES, StateMachine, Transaction};
pub use members::{Birth, Member, Members, MembershipError};
pub use network::{
    Alone, FrameSink, FrameSource, FrameStream, Network, NetworkError, PeerRequest, Urgency,
};
pub use node::ConsensusNode;
pub use options::{Limits, Options, SnapshotPolicy, Timing};
pub use shard::{Committed, Consistency, Shard};
pub use status::{IoStats, NodeStatus, ShardStatus};
pub use traffic::{Amount, MessageKind, TrafficStats};
pub use view::View;
