//! A scheduler's and an executor's side of the API.
//!
//! Both open one connection for the stream of events and use others for their calls: a
//! call on the stream's own connection would destroy its framing. `stream` turns the
//! bytes of that connection into events and notices when they stop; `backoff` says when
//! to try again; `duration` reads durations as Mesos writes them.
//!
//! A client tries again by itself only until it is subscribed. What to do after a lost
//! stream is the caller's decision: whoever is fenced must not fight.

mod backoff;
mod duration;
pub mod executor;
pub mod scheduler;
mod stream;

pub use backoff::Backoff;
pub use duration::{ParseDurationError, parse_duration};
pub use stream::StreamError;

use std::time::Duration;

/// An HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("making an HTTP client for Mesos: {0}")]
pub struct HttpClientError(#[from] reqwest::Error);

/// The HTTP client of both: HTTP/1 without redirects (they are followed by hand, with the
/// body) and without proxies (masters and agents are near).
fn http_client(connect_timeout: Duration) -> Result<reqwest::Client, HttpClientError> {
    // Fails when somebody has chosen a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    Ok(client)
}

/// A request to an API of Mesos: JSON, and nothing but exactly that content type.
fn json_post(http: &reqwest::Client, url: reqwest::Url, body: Vec<u8>) -> reqwest::RequestBuilder {
    http.post(url)
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        .header(reqwest::header::ACCEPT, "application/json")
        .body(body)
}
