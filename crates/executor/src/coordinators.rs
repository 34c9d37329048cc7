//! The coordinators that an attempt may talk to: any of them will do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::time::{Instant, sleep};

use crate::failure::TaskFailure;
use crate::logs::capture::Stream;

/// One request may take so long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A bundle that no coordinator gives for so long is a failure of the platform.
const BUNDLE_DEADLINE: Duration = Duration::from_secs(60);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A coordinator names the offset that it waits for in this header of a 409.
const OFFSET_HEADER: &str = "meson-log-offset";

/// A client for all requests of this executor.
///
/// # Errors
/// The system's roots cannot be read.
pub fn client() -> Result<Client, reqwest::Error> {
    // Fails when somebody has chosen a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(Duration::from_secs(2))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
}

/// The coordinators of one attempt, with its token. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Coordinators(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    urls: Vec<String>,
    /// The one that answered last.
    current: AtomicUsize,
    task: String,
    token: String,
}

/// The answer to a piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// It is there.
    Taken,
    /// The coordinator waits for another position of the stream.
    Expects(u64),
    /// It will never be taken.
    Refused(String),
}

impl Coordinators {
    /// For one attempt.
    pub fn new(client: Client, urls: &[String], task: String, token: String) -> Self {
        let urls = urls
            .iter()
            .map(|url| url.trim_end_matches('/').to_owned())
            .collect();
        Self(Arc::new(Shared {
            client,
            urls,
            current: AtomicUsize::new(0),
            task,
            token,
        }))
    }

    /// Whether there is any.
    pub fn is_known(&self) -> bool {
        !self.0.urls.is_empty()
    }

    /// Asks one coordinator after the other, beginning with the one that answered last, until
    /// one gives an answer that is not about its own trouble.
    async fn ask(
        &self,
        request: impl Fn(&Client, &str) -> RequestBuilder,
    ) -> Result<Response, String> {
        let shared = &*self.0;
        let count = shared.urls.len();
        let first = shared.current.load(Ordering::Relaxed);
        let mut why = "no coordinator is known".to_owned();
        for index in (0..count).map(|i| (first + i) % count) {
            let Some(url) = shared.urls.get(index) else {
                continue;
            };
            let request = request(&shared.client, url)
                .bearer_auth(&shared.token)
                .header("X-Meson-Task", &shared.task)
                .timeout(REQUEST_TIMEOUT);
            match request.send().await {
                Ok(response) if !is_passing(response.status()) => {
                    shared.current.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Ok(response) => why = format!("{url} answered {}", response.status()),
                Err(error) => why = format!("{url}: {}", root_cause(&error)),
            }
        }
        Err(why)
    }

    /// Posts a piece of a log, once to each coordinator until one takes it.
    ///
    /// # Errors
    /// None took it: worth another try later.
    pub async fn post_log(
        &self,
        stream: Stream,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Posted, String> {
        let path = format!(
            "/v1/tasks/{}/logs/{}?offset={offset}",
            self.0.task,
            stream.name()
        );
        let response = self
            .ask(|client, url| {
                client
                    .post(format!("{url}{path}"))
                    .header("Content-Type", "application/octet-stream")
                    .body(bytes.clone())
            })
            .await?;
        let status = response.status();
        if status.is_success() {
            return Ok(Posted::Taken);
        }
        if status == StatusCode::CONFLICT {
            let expected = response
                .headers()
                .get(OFFSET_HEADER)
                .and_then(|v| v.to_str().ok()?.parse().ok());
            return Ok(expected.map_or(Posted::Taken, Posted::Expects));
        }
        Ok(Posted::Refused(format!(
            "a coordinator refused it: {status} {}",
            short_body(response).await
        )))
    }

    /// Fetches a bundle, for as long as there is hope. Its digest is the caller's to verify.
    ///
    /// # Errors
    /// No coordinator has it, or none could be reached in time.
    pub async fn bundle(&self, digest: &str, max_bytes: usize) -> Result<Bytes, TaskFailure> {
        let give_up_at = Instant::now() + BUNDLE_DEADLINE;
        let mut pause = BACKOFF_MIN;
        loop {
            let why = match self
                .ask(|client, url| client.get(format!("{url}/v1/bundles/{digest}")))
                .await
            {
                Ok(response) if response.status().is_success() => {
                    match body(response, max_bytes).await {
                        Ok(bytes) => return Ok(bytes),
                        Err(why) => why,
                    }
                }
                Ok(response)
                    if matches!(
                        response.status(),
                        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                    ) =>
                {
                    let (status, body) = (response.status(), short_body(response).await);
                    return Err(TaskFailure::platform(format!(
                        "fetching bundle {digest}: {status} {body}"
                    )));
                }
                // Another coordinator may have it, once it is up again.
                Ok(response) => {
                    self.0.current.fetch_add(1, Ordering::Relaxed);
                    format!("{} {}", response.status(), short_body(response).await)
                }
                Err(why) => why,
            };
            if Instant::now() + pause >= give_up_at {
                let message = format!(
                    "fetching bundle {digest} from {}: {why}",
                    self.0.urls.join(", ")
                );
                return Err(TaskFailure::platform(message));
            }
            tracing::debug!(digest, %why, "fetching a bundle failed, trying again");
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }
}

/// The coordinator's own trouble, or a moment's: ask another one, or later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

async fn body(mut response: Response, max_bytes: usize) -> Result<Bytes, String> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| root_cause(&error))? {
        if bytes.len() + chunk.len() > max_bytes {
            return Err(format!(
                "the answer is above the limit of {max_bytes} bytes"
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn short_body(response: Response) -> String {
    let mut text = match body(response, 64 << 10).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(why) => why,
    };
    crate::failure::truncate(&mut text, 300);
    text
}

/// The innermost cause: `reqwest`'s own words only say that a request failed.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
