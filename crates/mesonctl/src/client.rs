//! Speaks to coordinators: any of them answers, so the next one is tried when one does not. However
//! many there are, a request is over within the client's time limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::Stream;
use meson_protocol::api::ErrorBody;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use crate::answers::{self, Said};
use crate::failure::Failure;

/// Times that all coordinators are tried before one gives up, and the pause in between.
const ROUNDS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);
/// A coordinator that takes no connection within this time is passed over, and sooner if there is
/// little time for the whole.
const CONNECT: Duration = Duration::from_secs(5);

/// A client of the HTTP API.
pub(crate) struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    /// For the whole of a request, whoever is asked; a stream may take longer as long as something
    /// arrives.
    timeout: Duration,
    /// Whether each coordinator may take all of that time, instead of a share of it.
    whole: bool,
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
            .connect_timeout(CONNECT.min(timeout / 4))
            .read_timeout(timeout)
            .build()
            .map_err(|error| Failure::unreachable(format!("cannot set up HTTP: {error}")))?;
        Ok(Self {
            http,
            urls: clean,
            timeout,
            whole: false,
            current: AtomicUsize::new(0),
        })
    }

    /// How long a request may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// For a request that takes long by design: the coordinator that answered last has all of the
    /// time, which is `least` if less was allowed.
    pub(crate) fn patient(&self, least: Duration) -> Result<Self, Failure> {
        let mut patient = Self::new(&self.urls, self.timeout.max(least))?;
        patient.whole = true;
        patient.current = AtomicUsize::new(self.current.load(Ordering::Relaxed));
        Ok(patient)
    }

    /// `GET`, with a query.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        let answer = self
            .send(Method::GET, path, |request| request.query(query))
            .await?;
        decode(answer).await
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
        let answer = self
            .send(Method::POST, path, |request| request.json(body))
            .await?;
        decode(answer).await
    }

    /// `PUT` of a JSON body.
    pub(crate) async fn put_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let answer = self
            .send(Method::PUT, path, |request| request.json(body))
            .await?;
        decode(answer).await
    }

    /// `DELETE`.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.send(Method::DELETE, path, |request| request).await?;
        decode(answer).await
    }

    /// `PUT` of bytes, for which a slow line may need all of the time.
    pub(crate) async fn put(&self, path: &str, body: Vec<u8>) -> Result<(), Failure> {
        let body = bytes::Bytes::from(body);
        let client = self.patient(self.timeout)?;
        client
            .send(Method::PUT, path, |request| request.body(body.clone()))
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
        let answer = self
            .send(Method::GET, path, |request| request.query(query))
            .await?;
        let Answer { response, .. } = answer;
        Ok((response.headers().clone(), response.bytes_stream()))
    }

    /// Tries every coordinator, and all of them again for a while: an election takes a moment.
    async fn send(
        &self,
        method: Method,
        path: &str,
        build: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut said: BTreeMap<usize, Said> = BTreeMap::new();
        'rounds: for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep((PAUSE * round).min(left())).await;
            }
            for turn in 1..=self.urls.len() {
                if left().is_zero() {
                    break 'rounds;
                }
                let others = if self.whole {
                    0
                } else {
                    self.urls.len() - turn
                };
                let share = share(left(), others);
                let index = self.current.load(Ordering::Relaxed) % self.urls.len();
                let url = format!("{}{path}", self.urls[index]);
                let asked = ask(build(self.http.request(method.clone(), &url)));
                let now = match timeout(share, asked).await {
                    Ok(Ok(response)) => return Ok(Answer { response, deadline }),
                    Ok(Err(Miss::Refused(failure))) => return Err(failure),
                    Ok(Err(Miss::Another(said))) => said,
                    Err(_) => Said::Nothing(format!("no answer in {:.1} s", share.as_secs_f64())),
                };
                let before = said.remove(&index);
                said.insert(index, before.map_or(now.clone(), |before| before.then(now)));
                self.current.fetch_add(1, Ordering::Relaxed);
            }
            if said.values().all(Said::is_stranger) {
                break;
            }
        }
        let said: Vec<(&str, Said)> = said
            .into_iter()
            .map(|(index, said)| (self.urls[index].as_str(), said))
            .collect();
        Err(answers::failure(&said))
    }
}

/// What a coordinator answered, and until when all of it has to be here.
struct Answer {
    response: Response,
    deadline: Instant,
}

/// Why there is no answer that could be used.
enum Miss {
    /// A coordinator has refused it, and so would all others.
    Refused(Failure),
    /// Another one may do better.
    Another(Said),
}

/// Of the time that is left, what one coordinator may take while `others` are still to be tried: a
/// frozen one must not take all of it.
fn share(left: Duration, others: usize) -> Duration {
    if others == 0 { left } else { left / 2 }
}

async fn ask(request: RequestBuilder) -> Result<Response, Miss> {
    let response = match request.send().await {
        Ok(response) if response.status().is_success() => return Ok(response),
        Ok(response) => response,
        Err(error) => return Err(Miss::Another(Said::Nothing(reason(&error)))),
    };
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    // What every coordinator says when it says no.
    match serde_json::from_str::<ErrorBody>(&text) {
        Ok(body) if try_another(status) => Err(Miss::Another(Said::No(status, body.error))),
        Ok(body) => Err(Miss::Refused(Failure::refused(status, body.error))),
        Err(_) => Err(Miss::Another(Said::Stranger(status.to_string()))),
    }
}

fn try_another(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT
    )
}

async fn decode<T: DeserializeOwned>(answer: Answer) -> Result<T, Failure> {
    let Answer { response, deadline } = answer;
    let url = response.url().clone();
    match timeout_at(deadline, response.json()).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::unreachable(format!(
            "{url} answered something else than a coordinator of this release would: {}; is --url \
             or MESON_URL right?",
            reason(&error)
        ))),
        Err(_) => Err(Failure::unreachable(format!(
            "the answer of {url} did not arrive in time"
        ))),
    }
}

/// The innermost cause says what happened; the outer ones repeat the address.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return match error.is_connect() {
            true => "no connection in time".to_owned(),
            false => "no answer in time".to_owned(),
        };
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    /// Answers everything with this, as long as somebody asks.
    fn server(status: &'static str, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        url
    }

    async fn asked(urls: &[String]) -> Result<serde_json::Value, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new(urls, LIMIT).unwrap_or_else(|_| panic!("{urls:?}"));
        client.get("/v1/cluster", &[]).await
    }

    #[test]
    fn each_has_half_of_what_is_left_and_the_last_one_all_of_it() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(8), 2), seconds(4));
        assert_eq!(share(seconds(4), 1), seconds(2));
        assert_eq!(share(seconds(2), 0), seconds(2));
    }

    #[tokio::test]
    async fn a_frozen_coordinator_does_not_keep_the_next_one_from_answering() {
        // Takes connections, as a stopped process does, and says nothing.
        let frozen = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", frozen.local_addr().unwrap());
        let well = server("200 OK", "{}");
        let answer = asked(&[url.clone(), url.clone(), well]).await;
        assert!(answer.is_ok(), "{answer:?}");
        match asked(&[url.clone(), url]).await {
            Err(Failure::Unreachable(text)) => assert!(text.contains("no answer in"), "{text}"),
            other => panic!("nobody was to answer: {other:?}"),
        }
    }

    #[tokio::test]
    async fn something_else_than_a_coordinator_is_called_so() {
        match asked(&[server("404 Not Found", "nginx")]).await {
            Err(Failure::Unreachable(text)) => {
                assert!(text.contains("no Meson coordinator there"), "{text}");
            }
            other => panic!("nobody was to answer: {other:?}"),
        }
    }
}
