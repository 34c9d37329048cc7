//! Whole meshes on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod calls;
mod cluster;
mod garbage;
mod load;
mod members;
mod restart;
mod trust;
