//! Fault injection: breaking Meson on purpose, and checking what it promised.
//!
//! * [`crash`]: one process that commits under load is killed at random moments, its journal optionally
//!   damaged as a power loss would, and what is found afterwards compared with what it had acknowledged.
//! * Everything else is about a cluster of real processes:
//!
//! ```text
//!   scenarios ──► cluster: coordinators, Mesos master, agents ──► proxy: the network between them
//!       │             ▲
//!       │             └── load: workflows of all shapes, bad input, probes
//!       ▼
//!   history: what was asked, acknowledged, broken and seen; what the cluster says at the end
//!       │
//!       ▼
//!   check: one promise per file ──► report: a table, and a timeline to look at
//! ```
//!
//! See `README.md`.

pub mod check;
pub mod cluster;
pub mod crash;
pub mod history;
pub mod load;
pub mod proxy;
pub mod report;
pub mod scenarios;
pub mod settings;
