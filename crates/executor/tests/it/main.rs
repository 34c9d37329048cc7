//! The real executor's binary, driven by an agent that the test plays, running real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent;
mod alone;
mod docker;
mod files;
mod http;
mod killing;
mod life;
mod logs;
mod memory;
mod recovery;
mod spark;
mod support;
