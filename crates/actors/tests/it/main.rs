//! The rules of supervision, one test per rule.

mod common;
mod failures;
mod lifecycle;
mod mailbox;
mod many;
mod model;
mod shutdown;
mod strategies;
mod trees;
