//! minimesos with real sockets and processes.

mod agent;
mod support;
