//! The engine: the actors that run workflows, and the facade through which everybody else sees
//! them.
//!
//! ```text
//!   HTTP API ──► Engine (facade) ──► router ──► the shard's leader
//!                                                  │
//!   Guardian (one per shard) ── WorkflowActor ── StepActor ──► BrokerActor ──► resource manager
//!        │                           │ commit first, then act
//!        │                           ▼
//!        └─ leadership ◄──── shard: log ──► machine (apply) ──► records ──► views
//! ```
//!
//! * [`facade`]: submit, look, steer. [`error`]: what can go wrong, and what to do about it.
//! * [`options`], [`clock`], [`metrics`]: what comes from outside, and what is counted.
//! * [`layout`]: which shard a thing lives in.
//! * [`machine`]: the replicated state machine of a shard, its keys and how they are read.
//! * `guardian`, `workflow`, `step`, [`broker`]: the actors. [`pool`]: how brokers are found.
//! * [`slurm`]: Slurm in the place of Mesos.
//! * `calls`, `router`, `local`: the seam between the facade and the shards' leaders.
//! * [`peers`]: other coordinators. `cluster`: who is up, and who should lead.
//! * `counted`: what others count, among the metrics.
//! * [`views`], [`events`], [`progress`], `explain`: what people see.

mod announce;
pub mod broker;
mod calls;
pub mod clock;
mod cluster;
mod counted;
pub mod error;
pub mod events;
mod explain;
pub mod facade;
mod guardian;
pub mod layout;
mod local;
pub mod machine;
pub mod metrics;
mod node;
pub mod options;
pub mod peers;
pub mod pool;
pub mod progress;
mod reach;
mod router;
pub mod slurm;
mod step;
pub mod views;
mod wanted;
mod workflow;

pub use error::{EngineError, ErrorKind};
pub use facade::{Coverage, Engine, Health};
pub use layout::{Group, Layout};
pub use machine::ShardMachine;
pub use options::{EngineLimits, EngineOptions, EngineTiming};
pub use peers::{Coordinators, PeerLink, PeerTraffic};

// The helpers of the integration tests serve the tests of supervision too, which need messages
// that only exist here.
#[cfg(test)]
extern crate self as meson_engine;
#[cfg(test)]
#[path = "../tests/it/flows.rs"]
#[expect(dead_code, reason = "helpers of tests, used in part")]
mod flows;
#[cfg(test)]
#[path = "../tests/it/scripted.rs"]
#[expect(dead_code, reason = "helpers of tests, used in part")]
mod scripted;
#[cfg(test)]
mod supervision_tests;
#[cfg(test)]
#[path = "../tests/it/world.rs"]
mod world;
