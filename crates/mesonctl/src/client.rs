//! Speaks to coordinators: any of them answers, so the next one is tried when one does not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::Stream;
use meson_protocol::api::{ErrorBody, ErrorDetail};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Times that all coordinators are tried before one gives up, and the pause in between.
const ROUNDS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// A client of the HTTP API.
pub(crate) struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    /// The coordinator that answered last.
    current: AtomicUsize,
}

impl Client {
    /// A client of these coordinators.
    pub(crate) fn new(urls: &[String], timeout: Duration) -> Result<Self, Failure> {
        let mut clean = Vec::new();
        for url in urls {
            let parsed = reqwest::Url::parse(url).map_err(|error| {
                Failure::input(format!(
                    "--url {url:?} is no address: {error}; write it like http://host:7070"
                ))
            })?;
            if !matches!(parsed.scheme(), "http" | "https") {
                return Err(Failure::input(format!(
                    "--url {url:?}: write http:// or https:// in front"
                )));
            }
            clean.push(url.trim_end_matches('/').to_owned());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(timeout)
            .build()
            .map_err(|error| Failure::unreachable(format!("cannot set up HTTP: {error}")))?;
        Ok(Self {
            http,
            urls: clean,
            current: AtomicUsize::new(0),
        })
    }

    /// `GET`, with a query.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        let response = self
            .send(Method::GET, path, |request| request.query(query))
            .await?;
        decode(response).await
    }

    /// `GET` of what is good to know and not needed: nothing if no coordinator answers it soon.
    pub(crate) async fn get_soon<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Duration,
    ) -> Option<T> {
        let index = self.current.load(Ordering::Relaxed) % self.urls.len().max(1);
        let url = format!("{}{path}", self.urls.get(index)?);
        let asked = self.http.get(url).timeout(patience).send();
        asked.await.ok()?.error_for_status().ok()?.json().await.ok()
    }

    /// `POST` of a JSON body. Every such call of ours may be repeated safely.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let response = self
            .send(Method::POST, path, |request| request.json(body))
            .await?;
        decode(response).await
    }

    /// `PUT` of a JSON body.
    pub(crate) async fn put_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let response = self
            .send(Method::PUT, path, |request| request.json(body))
            .await?;
        decode(response).await
    }

    /// `DELETE`.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.send(Method::DELETE, path, |request| request).await?;
        decode(response).await
    }

    /// `PUT` of bytes.
    pub(crate) async fn put(&self, path: &str, body: Vec<u8>) -> Result<(), Failure> {
        let body = bytes::Bytes::from(body);
        self.send(Method::PUT, path, |request| request.body(body.clone()))
            .await
            .map(drop)
    }

    /// `GET` of bytes, with the headers that came with them.
    pub(crate) async fn bytes(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<
        (
            HeaderMap,
            impl Stream<Item = reqwest::Result<bytes::Bytes>> + use<>,
        ),
        Failure,
    > {
        let response = self
            .send(Method::GET, path, |request| request.query(query))
            .await?;
        Ok((response.headers().clone(), response.bytes_stream()))
    }

    /// Tries every coordinator, and all of them again for a while: an election takes a moment.
    async fn send(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let mut last = String::new();
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            for _ in 0..self.urls.len() {
                let index = self.current.load(Ordering::Relaxed) % self.urls.len();
                let url = format!("{}{path}", self.urls[index]);
                match build(self.http.request(method.clone(), &url)).send().await {
                    Ok(response) if response.status().is_success() => return Ok(response),
                    Ok(response) if try_another(response.status()) => {
                        last = format!("{}: {}", self.urls[index], detail(response).await.message);
                    }
                    Ok(response) => {
                        return Err(Failure::refused(response.status(), detail(response).await));
                    }
                    Err(error) if error.is_timeout() && round > 0 => {
                        return Err(Failure::unreachable(format!(
                            "{} did not answer in time",
                            self.urls[index]
                        )));
                    }
                    Err(error) => last = format!("{}: {}", self.urls[index], reason(&error)),
                }
                self.current.fetch_add(1, Ordering::Relaxed);
            }
        }
        Err(Failure::unreachable(format!(
            "no coordinator answers ({last}); is one running, and is --url or MESON_URL right?"
        )))
    }
}

fn try_another(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
    )
}

async fn decode<T: DeserializeOwned>(response: Response) -> Result<T, Failure> {
    let url = response.url().clone();
    response.json().await.map_err(|error| {
        Failure::unreachable(format!(
            "{url} answered something else than expected: {}",
            reason(&error)
        ))
    })
}

async fn detail(response: Response) -> ErrorDetail {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    serde_json::from_str::<ErrorBody>(&text)
        .map(|body| body.error)
        .unwrap_or_else(|_| ErrorDetail {
            code: "http".to_owned(),
            message: format!("{status} {}", text.chars().take(200).collect::<String>()),
            remedy: String::new(),
            problems: Vec::new(),
        })
}

/// The innermost cause says what happened; the outer ones repeat the address.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
