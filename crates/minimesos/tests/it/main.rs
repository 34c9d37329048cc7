//! minimesos with real sockets and processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod bad_input;
mod failover;
mod front;
mod master;
mod operators;
mod support;
