//! A subscription: what calls are made with, and the events that come.

use super::error::CallError;
use super::{Client, STREAM_ID};
use crate::client::Backoff;
use crate::client::connection::{chain, retry_after, text_of};
use crate::client::masters::another_leads;
use crate::client::stream::{Events, StreamError};
use crate::scheduler::{Call, Envelope, Event, Subscribed};
use crate::types::FrameworkId;
use crate::zookeeper::Detection;
use futures::Stream;
use reqwest::{Response, StatusCode, Url};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// A subscription, to make calls with. Cheap to clone. Useless once its stream has ended.
///
/// Calls that must be heard in order have to be awaited in order: each may take a
/// connection of its own (one that an earlier call has left, if there is one; never the
/// stream's). An event that a call causes can arrive before the call returns.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Arc<Client>,
    url: Url,
    stream_id: String,
    subscribed: Subscribed,
}

impl Session {
    pub(super) fn open(
        client: Arc<Client>,
        url: Url,
        stream_id: String,
        subscribed: Subscribed,
        events: Events<Event>,
    ) -> (Self, EventStream) {
        let master = subscribed.master_info.as_ref();
        let stream = EventStream {
            events: Some(events),
            master: master.map(|info| info.id.clone()),
            detection: client.finder.detection(),
            client: Arc::clone(&client),
        };
        let session = Self(Arc::new(Inner {
            client,
            url,
            stream_id,
            subscribed,
        }));
        (session, stream)
    }

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
    /// When the master does not take it, or no answer comes. It is tried again only while the
    /// answer is 429, which says that nobody has taken it.
    pub async fn call(&self, call: Call) -> Result<(), CallError> {
        let inner = &*self.0;
        let options = &inner.client.options;
        let name = call.type_name().to_owned();
        let envelope = Envelope {
            framework_id: Some(self.framework_id().clone()),
            body: call,
        };
        let body = match options.encoding.encode(&envelope) {
            Ok(body) => body,
            Err(source) => return Err(CallError::Encode { call: name, source }),
        };
        let started = Instant::now();
        let mut backoff = Backoff::new(options.first_backoff, options.max_backoff, options.seed);
        loop {
            let request = inner.client.post(inner.url.clone(), body.clone());
            let request = request
                .header(STREAM_ID, &inner.stream_id)
                .timeout(options.call_timeout);
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
            match response.status() {
                status if status.is_success() => return Ok(()),
                StatusCode::TOO_MANY_REQUESTS => {
                    let delay = backoff.next_delay();
                    let delay = retry_after(&response).map_or(delay, |asked| asked.max(delay));
                    let waited = started.elapsed();
                    if waited + delay > options.call_timeout {
                        return Err(CallError::RateLimited {
                            call: name,
                            waited,
                            message: text_of(response).await,
                        });
                    }
                    sleep(delay).await;
                }
                status => return Err(self.refusal(name, status, response).await),
            }
        }
    }

    /// What an answer means that is none of success.
    async fn refusal(&self, call: String, status: StatusCode, response: Response) -> CallError {
        let framework_id = self.framework_id().clone();
        let message = text_of(response).await;
        match status {
            StatusCode::BAD_REQUEST if message.contains("didn't match the stream ID") => {
                CallError::Fenced {
                    call,
                    framework_id,
                    message,
                }
            }
            StatusCode::FORBIDDEN if message.contains("not subscribed") => {
                CallError::NotSubscribed {
                    call,
                    framework_id,
                    message,
                }
            }
            StatusCode::BAD_REQUEST if message.contains("Framework cannot be found") => {
                CallError::NotSubscribed {
                    call,
                    framework_id,
                    message,
                }
            }
            StatusCode::TEMPORARY_REDIRECT
            | StatusCode::NOT_FOUND
            | StatusCode::SERVICE_UNAVAILABLE => CallError::Unavailable {
                call,
                message: format!("{status}: {message}"),
            },
            _ => CallError::Rejected {
                call,
                status,
                message,
            },
        }
    }
}

/// The events of a subscription after SUBSCRIBED. Ends with one error, then `None`.
#[derive(Debug)]
pub struct EventStream {
    events: Option<Events<Event>>,
    /// The master's id, if it has said it.
    master: Option<String>,
    /// What ZooKeeper says of the leading master.
    detection: Option<watch::Receiver<Detection>>,
    client: Arc<Client>,
}

impl EventStream {
    /// The next event, or the reason why there are no more. Nothing is lost when the future
    /// is dropped, so it can be used in a `select!`.
    pub async fn next(&mut self) -> Option<Result<Event, StreamError>> {
        let events = self.events.as_mut()?;
        let master = self.master.as_deref().unwrap_or_default();
        let detection = self.detection.as_mut().filter(|_| !master.is_empty());
        let next = tokio::select! {
            // What has come already is heard first.
            biased;
            next = events.next() => next.and_then(|event| check(&self.client, event)),
            // A master that is frozen, or cut off from the others, does not say it itself.
            () = another_leads(detection, master) => {
                Err(StreamError::NotLeading(master.to_owned()))
            }
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

/// Whether an event is one, or the end.
fn check(client: &Client, event: Event) -> Result<Event, StreamError> {
    let Event::Error(error) = event else {
        return Ok(event);
    };
    let message = error.message;
    if message.contains("failed over") {
        return Err(StreamError::FailedOver(message));
    }
    if message.contains("capacity") && message.contains("exceeded") {
        client.pace.be_quiet(Instant::now());
        return Err(StreamError::RateLimited(message));
    }
    Err(StreamError::Ended(message))
}
