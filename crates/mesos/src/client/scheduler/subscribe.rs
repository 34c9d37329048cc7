//! From a list of masters, or ZooKeeper, to a subscription with the one that leads.

use super::error::SubscribeError;
use super::session::{EventStream, Session};
use super::{Client, PATH, STREAM_ID, SchedulerClient};
use crate::client::connection::{chain, retry_after, text_of};
use crate::client::stream::Events;
use crate::scheduler::{Call, Envelope, Event, Subscribe};
use crate::types::{FrameworkId, FrameworkInfo};
use crate::zookeeper::Detection;
use reqwest::{Response, StatusCode, Url, header};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Redirects that are followed for one request; two masters that point at each other are
/// not to be followed for ever.
const MAX_REDIRECTS: usize = 5;

/// What came of one try to subscribe.
enum Attempt {
    Subscribed(Box<(Session, EventStream)>),
    /// Worth another try, not before some time if that was asked for.
    Again(String, Option<Duration>),
}

impl Attempt {
    fn again(why: impl Into<String>) -> Self {
        Self::Again(why.into(), None)
    }
}

impl SchedulerClient {
    /// Subscribes, as a new framework or under the id that it was given before. Masters
    /// that refuse connections, answer 404 or 503, or do not lead are tried again, all of
    /// them in turn, with back-off. So it is when subscriptions end soon after they began.
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
        let client = &*self.0;
        subscribe.framework_info.id.clone_from(&framework_id);
        let envelope = Envelope {
            framework_id,
            body: Call::Subscribe(subscribe),
        };
        let body = client.options.encoding.encode(&envelope)?;
        let started = Instant::now();
        *client.trouble() = None;
        sleep(client.pace.begin(started)).await;
        let mut last = String::new();
        let mut detection = client.finder.detection();
        loop {
            // Whatever ZooKeeper says from here on cuts the next wait short.
            if let Some(detection) = &mut detection {
                detection.mark_unchanged();
            }
            let (mut whys, mut longest) = (Vec::new(), Duration::ZERO);
            match client.finder.candidates().await {
                Err(why) => whys.push(why),
                Ok(masters) => {
                    for master in masters {
                        match self.try_subscribe(&master, &body).await? {
                            Attempt::Subscribed(subscribed) => {
                                client.pace.subscribed(Instant::now());
                                *client.trouble() = None;
                                return Ok(*subscribed);
                            }
                            Attempt::Again(why, wait) => {
                                whys.push(format!("{}: {why}", short(&master)));
                                longest = longest.max(wait.unwrap_or_default());
                            }
                        }
                    }
                }
            }
            let why = whys.join("; ");
            // Once for each reason: it may stay the same for hours.
            if why == last {
                tracing::debug!(why, "not subscribed yet");
            } else {
                tracing::warn!(why, "not subscribed yet, trying again");
            }
            *client.trouble() = Some(why.clone());
            last = why;
            let delay = client
                .pace
                .again()
                .max(longest.min(client.options.max_backoff));
            let waited = started.elapsed();
            let limit = client.options.give_up_after;
            if limit.is_some_and(|limit| waited + delay > limit) {
                return Err(SubscribeError::Unreachable {
                    masters: client.finder.masters().describe(),
                    waited,
                    last,
                });
            }
            let _ = timeout(delay, elected(detection.as_mut())).await;
        }
    }

    async fn try_subscribe(&self, master: &Url, body: &[u8]) -> Result<Attempt, SubscribeError> {
        let client = &*self.0;
        let mut url = with_path(master.clone());
        for _ in 0..=MAX_REDIRECTS {
            let request = client.post(url.clone(), body.to_vec());
            let response = match timeout(client.options.call_timeout, request.send()).await {
                Err(_) => return Ok(Attempt::again("no answer in time")),
                Ok(Err(error)) => return Ok(Attempt::again(chain(&error))),
                Ok(Ok(response)) => response,
            };
            match response.status() {
                StatusCode::OK => return self.first_event(url, response).await,
                StatusCode::TEMPORARY_REDIRECT => match redirect_target(&url, &response) {
                    Ok(target) => url = target,
                    Err(why) => return Ok(Attempt::again(why)),
                },
                status => return client.refusal(&url, status, response).await,
            }
        }
        Ok(Attempt::again("redirected too often"))
    }

    async fn first_event(&self, url: Url, response: Response) -> Result<Attempt, SubscribeError> {
        let stream_id = response.headers().get(STREAM_ID);
        let Some(stream_id) = stream_id.and_then(|id| id.to_str().ok()).map(str::to_owned) else {
            return Ok(Attempt::again(format!("the answer has no {STREAM_ID}")));
        };
        let options = &self.0.options;
        let mut events = Events::<Event>::new(
            response,
            options.encoding,
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
                let why = format!("the first event is {}", other.type_name());
                return Ok(Attempt::again(why));
            }
            Err(error) => return Ok(Attempt::again(error.to_string())),
        };
        let heartbeat = subscribed
            .heartbeat_interval_seconds
            .and_then(|s| Duration::try_from_secs_f64(s).ok());
        events.set_patience(heartbeat.map(|interval| interval * options.missed_heartbeats.max(1)));
        tracing::info!(master = %url, framework = %subscribed.framework_id, "subscribed");
        let client = Arc::clone(&self.0);
        Ok(Attempt::Subscribed(Box::new(Session::open(
            client, url, stream_id, subscribed, events,
        ))))
    }
}

impl Client {
    /// What an answer other than 200 and 307 means.
    async fn refusal(
        &self,
        url: &Url,
        status: StatusCode,
        response: Response,
    ) -> Result<Attempt, SubscribeError> {
        let wait = retry_after(&response);
        let message = text_of(response).await;
        let master = url.to_string();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SubscribeError::Unauthorized {
                master,
                status,
                message,
                authenticated: self.options.credential.is_some(),
            }),
            // What a starting master says, in this order, after it has refused connections; and
            // what somebody in between says.
            StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS => {
                Ok(Attempt::Again(format!("{status}: {message}"), wait))
            }
            status if status.is_server_error() => {
                Ok(Attempt::Again(format!("{status}: {message}"), wait))
            }
            status => Err(SubscribeError::Rejected {
                master,
                status,
                message,
            }),
        }
    }
}

/// Waits until ZooKeeper names a leading master anew; without it, for ever.
async fn elected(detection: Option<&mut watch::Receiver<Detection>>) {
    if let Some(detection) = detection {
        while detection.changed().await.is_ok() {
            if matches!(*detection.borrow(), Detection::Leader(_)) {
                return;
            }
        }
    }
    std::future::pending().await
}

/// A master's API, wherever the address says nothing else.
fn with_path(mut url: Url) -> Url {
    if matches!(url.path(), "" | "/") {
        url.set_path(PATH);
    }
    url
}

fn short(master: &Url) -> &str {
    let end = master.as_str().find(PATH).unwrap_or(master.as_str().len());
    master.as_str()[..end].trim_end_matches('/')
}

/// Where a 307 points: `//host:port/api/v1/scheduler`, or a whole URL, or a host alone.
fn redirect_target(from: &Url, response: &Response) -> Result<Url, String> {
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let target = location.and_then(|location| from.join(location).ok());
    let target = target.ok_or("redirected to nowhere")?;
    if from.scheme() == "https" && target.scheme() != "https" {
        return Err(format!(
            "redirected from https to {target}, which is not followed"
        ));
    }
    Ok(with_path(target))
}
