//! A small Mesos: one master and its agents, speaking Mesos's v1 scheduler and executor
//! APIs over HTTP, for laptops, tests and simulations.
//!
//! * [`master`]: a pure master (`master::Master::handle(input, now)` gives outputs), and
//!   the HTTP server around it.
//! * [`agent`]: fetches files, starts executors, keeps status updates until they are
//!   acknowledged.
//! * [`link`]: what an agent and the master say to each other. It is minimesos's own
//!   protocol: real agents speak libprocess, and cannot join a minimesos master.
//!
//! A call travels scheduler → [`master`] → [`link`] → [`agent`] → executor, and a status
//! update the same way back.

pub mod agent;
pub mod link;
pub mod master;
