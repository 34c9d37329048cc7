//! A scheduler's and an executor's side of the API.
//!
//! Both open one connection for the stream of events and use others for their calls: a
//! call on the stream's own connection would destroy its framing. `stream` turns the
//! bytes of that connection into events and notices when they stop; `backoff` says when
//! to try again; `masters` finds the master that leads; `connection` speaks HTTP and TLS;
//! `duration` reads durations as Mesos writes them.
//!
//! A client tries again by itself only until it is subscribed. What to do after a lost
//! stream is the caller's decision: whoever is fenced must not fight.

mod backoff;
mod connection;
mod duration;
pub mod executor;
mod masters;
pub mod scheduler;
mod stream;

pub use backoff::Backoff;
pub use connection::{HttpClientError, Tls, http_client};
pub use duration::{ParseDurationError, parse_duration};
pub use masters::{Finder, Masters, MastersError, another_leads};
pub use stream::StreamError;
