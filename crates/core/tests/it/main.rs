//! Tests of the core as its users see it.
//!
//! `flow` builds definitions, `world` holds a run and checks it, `chance` plays everybody around
//! it (broker, agents, clock, crashes) from a seed; the other files hold the tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy takes helpers of tests for other code"
)]

mod chance;
mod control;
mod expressions;
mod flow;
mod flows;
mod outputs;
mod properties;
mod regions;
mod retries;
mod sizing;
mod validation;
mod views;
mod width;
mod world;
