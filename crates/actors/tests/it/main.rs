//! The rules of supervision, one test per rule.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod common;
mod failures;
mod lifecycle;
mod mailbox;
mod many;
mod model;
mod shutdown;
mod strategies;
mod trees;
