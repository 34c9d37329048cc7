//! A scheduler's connection to the leading master.
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

use super::backoff::Backoff;
use super::stream::{Events, StreamError};
use super::{HttpClientError, http_client, json_post};
use crate::recordio::DEFAULT_MAX_RECORD_BYTES;
use crate::scheduler::{Call, Envelope, Event, Subscribe, Subscribed};
use crate::types::{FrameworkId, FrameworkInfo};
use futures::Stream;
use reqwest::{StatusCode, Url};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Redirects that are followed for one request; two masters that point at each other are
/// not to be followed for ever.
const MAX_REDIRECTS: usize = 5;
const PATH: &str = "/api/v1/scheduler";
const STREAM_ID: &str = "Mesos-Stream-Id";

/// How a scheduler's client behaves.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
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
    pub credential: Option<(String, String)>,
    /// Decides the jitter of delays.
    pub seed: u64,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(15),
            give_up_after: None,
            missed_heartbeats: 5,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            max_record_bytes: DEFAULT_MAX_RECORD_BYTES,
            credential: None,
            seed: 0,
        }
    }
}

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerClientError {
    /// No master was named.
    #[error(
        "making a scheduler client: no master is named; give at least one, such as http://127.0.0.1:5050"
    )]
    NoMaster,
    /// A master's address is no URL.
    #[error(
        "making a scheduler client: '{master}' is no address of a master ({reason}); write http://host:port"
    )]
    BadMaster {
        /// As it was given.
        master: String,
        /// Why not.
        reason: String,
    },
    /// TLS is not to be had.
    #[error(transparent)]
    Http(#[from] HttpClientError),
}

/// Subscribing came to nothing, and trying again would too.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The master does not take what SUBSCRIBE says, for instance an id that was removed.
    #[error("subscribing to {master}: refused: {message}")]
    Refused {
        /// The master.
        master: String,
        /// Its words.
        message: String,
    },
    /// The request itself is refused.
    #[error("subscribing to {master}: {status}: {message}")]
    Rejected {
        /// The master.
        master: String,
        /// Its answer.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// No master could be reached in time.
    #[error("subscribing: no master of {masters:?} answered within {waited:?}; last: {last}")]
    Unreachable {
        /// Whom we asked.
        masters: Vec<String>,
        /// For how long.
        waited: Duration,
        /// What went wrong last.
        last: String,
    },
}

impl SubscribeError {
    /// Whether the master will never take this framework id again.
    pub fn is_removed(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("has been removed"))
    }
}

/// A call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Another scheduler holds the framework's stream now.
    #[error("{call}: another scheduler has taken over framework {framework_id}: {message}")]
    Fenced {
        /// The call.
        call: String,
        /// Whose it was.
        framework_id: FrameworkId,
        /// The master's words.
        message: String,
    },
    /// The master has no stream of this framework: ours is broken, whether we know or not.
    #[error("{call}: framework {framework_id} is not subscribed: {message}")]
    NotSubscribed {
        /// The call.
        call: String,
        /// Whose it was.
        framework_id: FrameworkId,
        /// The master's words.
        message: String,
    },
    /// The master does not take the call.
    #[error("{call}: {status}: {message}")]
    Rejected {
        /// The call.
        call: String,
        /// The answer.
        status: StatusCode,
        /// The master's words.
        message: String,
    },
    /// The master is not there, does not lead any more, or has just started. The stream
    /// ends, too, or will soon.
    #[error("{call}: the master is not available: {message}")]
    Unavailable {
        /// The call.
        call: String,
        /// Why.
        message: String,
    },
    /// No answer came; the call may or may not have been heard.
    #[error("{call}: no answer from the master: {source}")]
    NoAnswer {
        /// The call.
        call: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The call has no JSON form.
    #[error("{call}: writing it as JSON: {source}")]
    Encode {
        /// The call.
        call: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl CallError {
    /// Whether the master has let somebody else take our place.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }
}

/// Subscribes to the leading one of several masters.
#[derive(Clone, Debug)]
pub struct SchedulerClient {
    http: reqwest::Client,
    masters: Vec<Url>,
    options: SchedulerOptions,
}

/// What came of one try to subscribe.
enum Attempt {
    Subscribed(Box<(Session, EventStream)>),
    /// Worth another try.
    Again(String),
}

impl SchedulerClient {
    /// A client for these masters: `http://host:port`, or `host:port`.
    ///
    /// # Errors
    /// When no master is named, or an address is none.
    pub fn new<M: AsRef<str>>(
        masters: impl IntoIterator<Item = M>,
        options: SchedulerOptions,
    ) -> Result<Self, SchedulerClientError> {
        let masters: Vec<Url> = masters
            .into_iter()
            .map(|master| parse_master(master.as_ref()))
            .collect::<Result<_, _>>()?;
        if masters.is_empty() {
            return Err(SchedulerClientError::NoMaster);
        }
        let http = http_client(options.connect_timeout)?;
        Ok(Self {
            http,
            masters,
            options,
        })
    }

    /// Subscribes, as a new framework or under the id that it was given before. Masters
    /// that refuse connections, answer 404 or 503, or do not lead are tried again, all of
    /// them in turn, with back-off.
    ///
    /// # Errors
    /// When the master refuses for good, or `give_up_after` has passed.
    pub async fn subscribe(
        &self,
        info: FrameworkInfo,
        framework_id: Option<FrameworkId>,
    ) -> Result<(Session, EventStream), SubscribeError> {
        self.subscribe_with(
            Subscribe {
                framework_info: info,
                ..Subscribe::default()
            },
            framework_id,
        )
        .await
    }

    /// The same, with all that SUBSCRIBE can say.
    ///
    /// # Errors
    /// As [`SchedulerClient::subscribe`].
    pub async fn subscribe_with(
        &self,
        mut subscribe: Subscribe,
        framework_id: Option<FrameworkId>,
    ) -> Result<(Session, EventStream), SubscribeError> {
        subscribe.framework_info.id.clone_from(&framework_id);
        let envelope = Envelope {
            framework_id,
            body: Call::Subscribe(subscribe),
        };
        let body = serde_json::to_vec(&envelope).map_err(|error| SubscribeError::Refused {
            master: self.masters[0].to_string(),
            message: format!("the call has no JSON form: {error}"),
        })?;
        let started = Instant::now();
        let options = &self.options;
        let mut backoff = Backoff::new(options.first_backoff, options.max_backoff, options.seed);
        loop {
            let mut last = String::new();
            for master in &self.masters {
                match self.try_subscribe(master, &body).await? {
                    Attempt::Subscribed(subscribed) => return Ok(*subscribed),
                    Attempt::Again(why) => {
                        tracing::debug!(%master, %why, "not subscribed yet");
                        last = format!("{master}: {why}");
                    }
                }
            }
            let delay = backoff.next_delay();
            let waited = started.elapsed();
            if options
                .give_up_after
                .is_some_and(|limit| waited + delay > limit)
            {
                let masters = self.masters.iter().map(Url::to_string).collect();
                return Err(SubscribeError::Unreachable {
                    masters,
                    waited,
                    last,
                });
            }
            sleep(delay).await;
        }
    }

    async fn try_subscribe(&self, master: &Url, body: &[u8]) -> Result<Attempt, SubscribeError> {
        let mut url = master.clone();
        for _ in 0..=MAX_REDIRECTS {
            let request = self.authenticated(json_post(&self.http, url.clone(), body.to_vec()));
            let response = match timeout(self.options.call_timeout, request.send()).await {
                Err(_) => return Ok(Attempt::Again("no answer in time".to_owned())),
                Ok(Err(error)) => return Ok(Attempt::Again(chain(&error))),
                Ok(Ok(response)) => response,
            };
            match response.status() {
                StatusCode::OK => return self.first_event(url, response).await,
                StatusCode::TEMPORARY_REDIRECT => match redirect_target(&url, &response) {
                    Some(target) => url = target,
                    None => return Ok(Attempt::Again("redirected to nowhere".to_owned())),
                },
                // What a starting master says, in this order, after it has refused connections.
                status @ (StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE) => {
                    return Ok(Attempt::Again(format!(
                        "{status}: {}",
                        text_of(response).await
                    )));
                }
                status => {
                    let message = text_of(response).await;
                    return Err(SubscribeError::Rejected {
                        master: url.to_string(),
                        status,
                        message,
                    });
                }
            }
        }
        Ok(Attempt::Again("redirected too often".to_owned()))
    }

    async fn first_event(
        &self,
        url: Url,
        response: reqwest::Response,
    ) -> Result<Attempt, SubscribeError> {
        let Some(stream_id) = response
            .headers()
            .get(STREAM_ID)
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned)
        else {
            return Ok(Attempt::Again(format!("the answer has no {STREAM_ID}")));
        };
        let options = &self.options;
        let mut events = Events::<Event>::new(
            response,
            options.max_record_bytes,
            Some(options.call_timeout),
        );
        let subscribed = match events.next().await {
            Ok(Event::Subscribed(subscribed)) => subscribed,
            Ok(Event::Error(error)) => {
                return Err(SubscribeError::Refused {
                    master: url.to_string(),
                    message: error.message,
                });
            }
            Ok(other) => {
                return Ok(Attempt::Again(format!(
                    "the first event is {}",
                    other.type_name()
                )));
            }
            Err(error) => return Ok(Attempt::Again(error.to_string())),
        };
        let heartbeat = subscribed
            .heartbeat_interval_seconds
            .and_then(|s| Duration::try_from_secs_f64(s).ok());
        events.set_patience(heartbeat.map(|interval| interval * options.missed_heartbeats.max(1)));
        tracing::info!(master = %url, framework = %subscribed.framework_id, "subscribed");
        let session = Session(Arc::new(SessionInner {
            client: self.clone(),
            url,
            stream_id,
            subscribed,
        }));
        Ok(Attempt::Subscribed(Box::new((
            session,
            EventStream {
                events: Some(events),
            },
        ))))
    }

    fn authenticated(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.options.credential {
            Some((principal, secret)) => request.basic_auth(principal, Some(secret)),
            None => request,
        }
    }
}

/// A subscription, to make calls with. Cheap to clone. Useless once its stream has ended.
///
/// Calls that must be heard in order have to be awaited in order: each may take a
/// connection of its own. An event that a call causes can arrive before the call returns.
#[derive(Clone, Debug)]
pub struct Session(Arc<SessionInner>);

#[derive(Debug)]
struct SessionInner {
    client: SchedulerClient,
    url: Url,
    stream_id: String,
    subscribed: Subscribed,
}

impl Session {
    /// The framework's id: to be kept for ever.
    pub fn framework_id(&self) -> &FrameworkId {
        &self.0.subscribed.framework_id
    }

    /// What the master said first.
    pub fn subscribed(&self) -> &Subscribed {
        &self.0.subscribed
    }

    /// The name of this subscription's stream.
    pub fn stream_id(&self) -> &str {
        &self.0.stream_id
    }

    /// The master that leads, as a URL.
    pub fn master(&self) -> &str {
        self.0.url.as_str()
    }

    /// Makes a call. `Ok` means that the master has taken it, not that it has had an
    /// effect: ACCEPT of a stale offer is taken, too.
    ///
    /// # Errors
    /// When the master does not take it, or no answer comes. Nothing is tried again here.
    pub async fn call(&self, call: Call) -> Result<(), CallError> {
        let inner = &self.0;
        let name = call.type_name().to_owned();
        let framework_id = self.framework_id().clone();
        let envelope = Envelope {
            framework_id: Some(framework_id.clone()),
            body: call,
        };
        let body = match serde_json::to_vec(&envelope) {
            Ok(body) => body,
            Err(source) => return Err(CallError::Encode { call: name, source }),
        };
        let request =
            inner
                .client
                .authenticated(json_post(&inner.client.http, inner.url.clone(), body));
        let request = request
            .header(STREAM_ID, &inner.stream_id)
            .timeout(inner.client.options.call_timeout);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                return Err(CallError::Unavailable {
                    call: name,
                    message: chain(&error),
                });
            }
            Err(source) => return Err(CallError::NoAnswer { call: name, source }),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let message = text_of(response).await;
        Err(match status {
            StatusCode::BAD_REQUEST if message.contains("didn't match the stream ID") => {
                CallError::Fenced {
                    call: name,
                    framework_id,
                    message,
                }
            }
            StatusCode::FORBIDDEN => CallError::NotSubscribed {
                call: name,
                framework_id,
                message,
            },
            StatusCode::BAD_REQUEST if message.contains("Framework cannot be found") => {
                CallError::NotSubscribed {
                    call: name,
                    framework_id,
                    message,
                }
            }
            StatusCode::TEMPORARY_REDIRECT
            | StatusCode::NOT_FOUND
            | StatusCode::SERVICE_UNAVAILABLE => CallError::Unavailable {
                call: name,
                message: format!("{status}: {message}"),
            },
            _ => CallError::Rejected {
                call: name,
                status,
                message,
            },
        })
    }
}

/// The events of a subscription after SUBSCRIBED. Ends with one error, then `None`.
#[derive(Debug)]
pub struct EventStream {
    events: Option<Events<Event>>,
}

impl EventStream {
    /// The next event, or the reason why there are no more. Nothing is lost when the future
    /// is dropped, so it can be used in a `select!`.
    pub async fn next(&mut self) -> Option<Result<Event, StreamError>> {
        let next = match self.events.as_mut()?.next().await {
            Ok(Event::Error(error)) if error.message.contains("failed over") => {
                Err(StreamError::FailedOver(error.message))
            }
            Ok(Event::Error(error)) => Err(StreamError::Ended(error.message)),
            next => next,
        };
        if next.is_err() {
            self.events = None;
        }
        Some(next)
    }

    /// The same as a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, StreamError>> + Send {
        futures::stream::unfold(self, |mut events| async {
            events.next().await.map(|next| (next, events))
        })
    }
}

fn parse_master(master: &str) -> Result<Url, SchedulerClientError> {
    let error = |reason: String| SchedulerClientError::BadMaster {
        master: master.to_owned(),
        reason,
    };
    let text = if master.contains("://") {
        master.to_owned()
    } else {
        format!("http://{master}")
    };
    let mut url = Url::parse(&text).map_err(|source| error(source.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(error(format!("the scheme is {}", url.scheme())));
    }
    if matches!(url.path(), "" | "/") {
        url.set_path(PATH);
    }
    Ok(url)
}

/// Where a 307 points: `//host:port/api/v1/scheduler`, or a whole URL, or a host alone.
fn redirect_target(from: &Url, response: &reqwest::Response) -> Option<Url> {
    let location = response
        .headers()
        .get(reqwest::header::LOCATION)?
        .to_str()
        .ok()?;
    let mut url = from.join(location).ok()?;
    if matches!(url.path(), "" | "/") {
        url.set_path(PATH);
    }
    Some(url)
}

/// The first part of an error's body.
async fn text_of(response: reqwest::Response) -> String {
    let mut text = response.text().await.unwrap_or_default();
    if text.len() > 1000 {
        let end = (0..=1000)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_may_be_named_without_scheme_and_path() {
        assert_eq!(
            parse_master("10.0.0.1:5050").unwrap().as_str(),
            "http://10.0.0.1:5050/api/v1/scheduler"
        );
        assert_eq!(
            parse_master("https://m/").unwrap().as_str(),
            "https://m/api/v1/scheduler"
        );
        assert!(
            parse_master("zk://a:2181/mesos")
                .unwrap_err()
                .to_string()
                .contains("zk")
        );
        assert!(parse_master("http://").is_err());
    }

    #[test]
    fn a_client_needs_a_master() {
        let none: [&str; 0] = [];
        let error = SchedulerClient::new(none, SchedulerOptions::default()).unwrap_err();
        assert!(matches!(error, SchedulerClientError::NoMaster));
    }
}
