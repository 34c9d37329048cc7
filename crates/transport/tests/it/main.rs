//! Whole meshes on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod calls;
mod cluster;
