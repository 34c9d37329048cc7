//! The HTTP API: JSON over actix-web, in front of the engine.
//!
//! A request passes [`routes`], which say what there is, to a handler that turns it into one call to the
//! engine or a store and the answer into JSON; an error becomes an
//! [`ErrorBody`](meson_protocol::api::ErrorBody) in [`error`].
//!
//! * [`runs`]: submit, look, cancel, retry, explain. * [`artifacts`]: registry and blobs.
//! * [`bundles`]: what scripts travel in. * [`logs`]: written by executors, read by people.
//! * [`pools`]: where resources come from. * [`cluster`]: who is there, health, metrics.
//! * [`starting`]: what is answered before all this can be.

mod artifacts;
mod bundles;
mod cluster;
mod error;
mod logs;
mod pools;
mod routes;
mod runs;
mod server;
mod starting;

pub use server::{Api, ApiError, ApiOptions};
pub use starting::Starting;

/// Longest JSON body of a request, in bytes: a definition and its parameters fit well.
pub const MAX_JSON_BYTES: usize = 4 << 20;
/// Longest bundle, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 16 << 20;
/// Longest piece of a log in one request, in bytes.
pub const MAX_LOG_BYTES: usize = 1 << 20;
