//! A scheduler's connection to the leading master.
//!
//! `subscribe` finds the leading master and opens the stream of events; `session` is what
//! calls are made with, and the events; `pace` says when to try again; `error` is what can go
//! wrong.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use meson_mesos::client::scheduler::{SchedulerClient, SchedulerOptions};
//! use meson_mesos::scheduler::{Call, Event, Roles};
//! use meson_mesos::types::FrameworkInfo;
//!
//! let client = SchedulerClient::new(["http://127.0.0.1:5050"], SchedulerOptions::default())?;
//! let info = FrameworkInfo { user: "root".into(), name: "example".into(), ..Default::default() };
//! let (session, mut events) = client.subscribe(info, None).await?;
//! println!("keep this for ever: {}", session.framework_id());
//! while let Some(event) = events.next().await {
//!     if let Event::Offers(offers) = event? {
//!         println!("{} offers", offers.offers.len());
//!         session.call(Call::Suppress(Roles::default())).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod pace;
mod session;
mod subscribe;

pub use error::{CallError, SchedulerClientError, SubscribeError};
pub use session::{EventStream, Session};

use super::connection::{Tls, http_client};
use super::masters::{Finder, Masters};
use crate::encoding::Encoding;
use crate::recordio::DEFAULT_MAX_RECORD_BYTES;
use crate::secret::Credential;
use pace::Pace;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const PATH: &str = "/api/v1/scheduler";
const STREAM_ID: &str = "Mesos-Stream-Id";

/// How a scheduler's client behaves.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
    /// How calls and events are written.
    pub encoding: Encoding,
    /// The first delay before subscribing is tried again.
    pub first_backoff: Duration,
    /// The longest delay before subscribing is tried again.
    pub max_backoff: Duration,
    /// When to give up subscribing; never when absent.
    pub give_up_after: Option<Duration>,
    /// So many heartbeats in a row may be missed before a stream is taken for lost.
    pub missed_heartbeats: u32,
    /// For a connection to come about.
    pub connect_timeout: Duration,
    /// For a call to be answered, and for SUBSCRIBED to come.
    pub call_timeout: Duration,
    /// The longest event that is read, in bytes.
    pub max_record_bytes: usize,
    /// Principal and secret, for HTTP basic authentication.
    pub credential: Option<Credential>,
    /// Whom to trust over `https`. Masters that ZooKeeper names are spoken to over `https` when
    /// this is given.
    pub tls: Option<Tls>,
    /// Decides the jitter of delays.
    pub seed: u64,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            encoding: Encoding::default(),
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(15),
            give_up_after: None,
            missed_heartbeats: 5,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            max_record_bytes: DEFAULT_MAX_RECORD_BYTES,
            credential: None,
            tls: None,
            seed: 0,
        }
    }
}

/// Subscribes to the leading one of several masters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SchedulerClient(Arc<Client>);

#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    finder: Finder,
    options: SchedulerOptions,
    pace: Pace,
    /// Why the last round of tries to subscribe came to nothing.
    trouble: Mutex<Option<String>>,
}

impl SchedulerClient {
    /// A client for these masters; see [`Masters::parse`] for how they are written.
    ///
    /// # Errors
    /// When no master is named, or an address is none, or TLS is set up wrongly.
    pub fn new<M: AsRef<str>>(
        masters: impl IntoIterator<Item = M>,
        options: SchedulerOptions,
    ) -> Result<Self, SchedulerClientError> {
        let masters = Masters::parse(masters)?;
        let http = http_client(options.connect_timeout, options.tls.as_ref())?;
        Ok(Self(Arc::new(Client {
            http,
            finder: Finder::new(masters, options.tls.is_some(), options.seed),
            pace: Pace::new(&options),
            trouble: Mutex::default(),
            options,
        })))
    }

    /// Why [`subscribe`](Self::subscribe) has not come to an end yet; none while it has not failed.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble().clone()
    }
}

impl Client {
    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request with what every request of ours has.
    fn post(&self, url: reqwest::Url, body: Vec<u8>) -> reqwest::RequestBuilder {
        let request = super::connection::post(&self.http, url, self.options.encoding, body);
        match &self.options.credential {
            Some(Credential { principal, secret }) => {
                request.basic_auth(principal, Some(secret.expose()))
            }
            None => request,
        }
    }
}
