//! The agent's connection to the master that leads: [`link`](crate::link) over HTTP, opened
//! again whenever it breaks, or another master leads.

use std::time::Duration;

use futures::StreamExt;
use meson_mesos::client::{Finder, another_leads};
use meson_mesos::recordio::Decoder;
use meson_mesos::types::AgentId;
use meson_mesos::zookeeper::Detection;
use reqwest::{StatusCode, Url, header};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::link::{AgentCall, CALL_PATH, FromAgent, Hello, STREAM_HEADER, STREAM_PATH, ToAgent};

/// The first wait before a broken connection is opened again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait: a restarted master is found within it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long a connection, a call or the master's first word may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects that are followed: two masters that point at each other are not to be followed for
/// ever.
const MAX_REDIRECTS: usize = 5;
/// Calls that may wait for the master before the connection is given up.
const CALLS: usize = 16_384;

/// What the session tells the agent.
#[derive(Debug)]
pub(crate) enum FromMaster {
    /// What is to be said first? Answered once the agent has recovered.
    Hello(oneshot::Sender<Hello>),
    /// Registered. Calls go into this channel as long as the connection holds.
    Registered(AgentId, mpsc::Sender<FromAgent>),
    /// The connection is lost.
    Disconnected,
    /// The master says.
    Message(Box<ToAgent>),
    /// The master does not want this agent.
    Refused(String),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot reach the master: {0}")]
    Http(#[from] reqwest::Error),
    #[error("no master is found: {0}")]
    NoMaster(String),
    #[error("{0} answered {1}")]
    Status(String, StatusCode),
    #[error("another master leads")]
    NotLeading,
    #[error("the master's answer has no header {STREAM_HEADER}")]
    NoStreamId,
    #[error("the master's stream is damaged: {0}")]
    Record(#[from] meson_mesos::recordio::DecodeError),
    #[error("the master's message cannot be understood: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the master was silent for {0:?}")]
    Silent(Duration),
    #[error("the master closed the connection")]
    Closed,
    #[error("the master's first message was not a welcome")]
    NoWelcome,
    #[error("the master did not take a call: {0}")]
    Call(String),
    #[error("calls to the master piled up")]
    GivenUp,
    #[error("the agent is ending")]
    Ending,
    #[error("refused: {0}")]
    Refused(String),
}

/// Keeps the agent connected until it ends or is refused.
pub(crate) async fn run(http: reqwest::Client, finder: Finder, events: mpsc::Sender<FromMaster>) {
    let masters = finder.masters().describe();
    let mut backoff = BACKOFF_MIN;
    loop {
        let mut welcomed = false;
        let error = match connect(&http, &finder, &events, &mut welcomed).await {
            Err(error) => error,
            Ok(never) => match never {},
        };
        match error {
            SessionError::Ending => return,
            SessionError::Refused(message) => {
                let _ = events.send(FromMaster::Refused(message)).await;
                return;
            }
            error if welcomed => {
                warn!(%error, masters, "connection to the master lost");
                backoff = BACKOFF_MIN;
                if events.send(FromMaster::Disconnected).await.is_err() {
                    return;
                }
            }
            error => debug!(%error, masters, "not registered yet"),
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One connection, from hello to its end.
async fn connect(
    http: &reqwest::Client,
    finder: &Finder,
    events: &mpsc::Sender<FromMaster>,
    welcomed: &mut bool,
) -> Result<std::convert::Infallible, SessionError> {
    let masters = finder.candidates().await.map_err(SessionError::NoMaster)?;
    let mut detection = finder.detection();
    let leader = detection
        .as_ref()
        .map(|detection| match &*detection.borrow() {
            Detection::Leader(leader) => leader.info.id.clone(),
            _ => String::new(),
        });
    let leader = leader.unwrap_or_default();
    let (ask, hello) = oneshot::channel();
    events
        .send(FromMaster::Hello(ask))
        .await
        .map_err(|_| SessionError::Ending)?;
    let hello = hello.await.map_err(|_| SessionError::Ending)?;
    let (base, answer) = open_stream(http, masters, &hello).await?;
    let master_url = base.as_str();
    let stream_id = answer
        .headers()
        .get(STREAM_HEADER)
        .and_then(|value| value.to_str().ok())
        .ok_or(SessionError::NoStreamId)?
        .to_owned();
    let mut body = answer.bytes_stream();
    let mut decoder = Decoder::default();
    let mut patience = CALL_TIMEOUT;
    let mut calls: Option<(mpsc::WeakSender<FromAgent>, oneshot::Receiver<SessionError>)> = None;
    loop {
        let message = loop {
            if let Some(record) = decoder.next_record()? {
                break serde_json::from_slice::<ToAgent>(&record)?;
            }
            let failed = async {
                match &mut calls {
                    Some((_, failed)) => failed.await.unwrap_or(SessionError::GivenUp),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                bytes = timeout(patience, body.next()) => match bytes {
                    Err(_) => return Err(SessionError::Silent(patience)),
                    Ok(None) => return Err(SessionError::Closed),
                    Ok(Some(bytes)) => decoder.push(&bytes?),
                },
                error = failed => return Err(error),
                () = another_leads(detection.as_mut(), &leader) => {
                    return Err(SessionError::NotLeading);
                }
            }
        };
        match (message, &calls) {
            (
                ToAgent::Registered {
                    agent_id,
                    master_timeout_ms,
                }
                | ToAgent::Reregistered {
                    agent_id,
                    master_timeout_ms,
                },
                _,
            ) => {
                info!(agent = %agent_id, master = master_url, "registered with the master");
                patience = Duration::from_millis(master_timeout_ms);
                let (sender, receiver) = mpsc::channel(CALLS);
                let (fail, failed) = oneshot::channel();
                let url = at(&base, CALL_PATH).to_string();
                tokio::spawn(make_calls(
                    http.clone(),
                    url,
                    agent_id.clone(),
                    stream_id.clone(),
                    receiver,
                    fail,
                ));
                // The agent alone decides for how long the connection is of use.
                calls = Some((sender.downgrade(), failed));
                *welcomed = true;
                events
                    .send(FromMaster::Registered(agent_id, sender))
                    .await
                    .map_err(|_| SessionError::Ending)?;
            }
            (ToAgent::Refused { message }, _) => return Err(SessionError::Refused(message)),
            (_, None) => return Err(SessionError::NoWelcome),
            (ToAgent::Ping { sequence }, Some((sender, _))) => {
                // A full queue means that the master takes no calls: it will
                // find the agent unreachable, and rightly.
                let sender = sender.upgrade().ok_or(SessionError::GivenUp)?;
                let _ = sender.try_send(FromAgent::Pong { sequence });
            }
            (message, Some(_)) => events
                .send(FromMaster::Message(Box::new(message)))
                .await
                .map_err(|_| SessionError::Ending)?,
        }
    }
}

/// Opens a stream with the first master that takes us, or the one that it points to.
async fn open_stream(
    http: &reqwest::Client,
    masters: Vec<Url>,
    hello: &Hello,
) -> Result<(Url, reqwest::Response), SessionError> {
    let mut error = SessionError::NoMaster("none is named".to_owned());
    for master in masters {
        let mut base = master;
        for _ in 0..MAX_REDIRECTS {
            let opening = http.post(at(&base, STREAM_PATH)).json(hello).send();
            let answer = match timeout(CALL_TIMEOUT, opening).await {
                Ok(Ok(answer)) if answer.status().is_success() => return Ok((base, answer)),
                Ok(Ok(answer)) => answer,
                Ok(Err(failed)) => {
                    error = failed.into();
                    break;
                }
                Err(_) => {
                    error = SessionError::Silent(CALL_TIMEOUT);
                    break;
                }
            };
            let location = answer.headers().get(header::LOCATION);
            let location = location.and_then(|location| base.join(location.to_str().ok()?).ok());
            error = SessionError::Status(base.to_string(), answer.status());
            match location {
                Some(leader) if answer.status() == StatusCode::TEMPORARY_REDIRECT => base = leader,
                _ => break,
            }
        }
    }
    Err(error)
}

/// A path at a master.
fn at(master: &Url, path: &str) -> Url {
    let mut url = master.clone();
    url.set_path(path);
    url
}

/// Makes the agent's calls one after the other, until one fails or no more can
/// come: an agent that gives the connection up does not wait for those that piled up.
async fn make_calls(
    http: reqwest::Client,
    url: String,
    agent_id: AgentId,
    stream_id: String,
    mut calls: mpsc::Receiver<FromAgent>,
    failed: oneshot::Sender<SessionError>,
) {
    while let Some(call) = calls.recv().await {
        if calls.sender_strong_count() == 0 {
            return;
        }
        let call = AgentCall {
            agent_id: agent_id.clone(),
            stream_id: stream_id.clone(),
            call,
        };
        let answer = http
            .post(&url)
            .timeout(CALL_TIMEOUT)
            .json(&call)
            .send()
            .await;
        let error = match answer {
            Ok(answer) if answer.status().is_success() => continue,
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                SessionError::Call(format!("{status} {text}"))
            }
            Err(error) => SessionError::Http(error),
        };
        // The connection is opened anew, and what matters is said again.
        let _ = failed.send(error);
        return;
    }
}

#[cfg(test)]
mod tests {
    use meson_mesos::recordio::encode_json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Takes every agent, and answers none of its calls.
    async fn deaf_master(mut stream: TcpStream) {
        let mut head = vec![0; 1 << 16];
        let _ = stream.read(&mut head).await;
        if !head.starts_with(format!("POST {STREAM_PATH} ").as_bytes()) {
            return std::future::pending().await;
        }
        let welcome = encode_json(&ToAgent::Registered {
            agent_id: AgentId::new("S0"),
            master_timeout_ms: 600_000,
        });
        let welcome = welcome.expect("it has a JSON form");
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{STREAM_HEADER}: s\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            welcome.len()
        );
        for part in [answer.as_bytes(), &welcome, b"\r\n"] {
            stream.write_all(part).await.expect("the agent listens");
        }
        std::future::pending().await
    }

    async fn registered(events: &mut mpsc::Receiver<FromMaster>) -> mpsc::Sender<FromAgent> {
        loop {
            match events.recv().await.expect("the session goes on") {
                FromMaster::Hello(ask) => ask.send(Hello::default()).expect("it asked"),
                FromMaster::Registered(_, sender) => return sender,
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn an_agent_whose_calls_pile_up_gets_a_new_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let master = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(deaf_master(stream));
            }
        });
        let finder = Finder::new(master.parse().unwrap(), false, 1);
        let (sender, mut events) = mpsc::channel(8);
        let http = meson_mesos::client::http_client(CALL_TIMEOUT, None).unwrap();
        let session = tokio::spawn(run(http, finder, sender));
        let agents = registered(&mut events).await;
        while agents.try_send(FromAgent::Pong { sequence: 1 }).is_ok() {}
        drop(agents);
        let again = timeout(Duration::from_secs(60), registered(&mut events)).await;
        assert!(
            again.is_ok(),
            "an agent that can say nothing must not go on"
        );
        session.abort();
    }
}
