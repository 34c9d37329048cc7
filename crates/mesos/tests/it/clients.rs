//! The clients against servers that answer as a master or agent does, good or bad.
//! In JSON, so that what is sent can be looked at.

use meson_mesos::client::StreamError;
use meson_mesos::client::executor::{ExecutorClient, ExecutorEnvironment, ExecutorError};
use meson_mesos::client::scheduler::{
    CallError, EventStream, SchedulerClient, SchedulerOptions, Session, SubscribeError,
};
use meson_mesos::encoding::Encoding;
use meson_mesos::recordio;
use meson_mesos::scheduler::{Call, Event, Roles};
use meson_mesos::secret::Credential;
use meson_mesos::types::FrameworkInfo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a server says to the n-th request, and whether it keeps the connection open.
#[derive(Clone)]
struct Answer {
    bytes: Vec<u8>,
    stays: bool,
}

fn plain(status: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    Answer {
        bytes: text.into_bytes(),
        stays: true,
    }
}

fn chunk(record: &str) -> Vec<u8> {
    let framed = recordio::encode(record.as_bytes());
    let mut bytes = format!("{:x}\r\n", framed.len()).into_bytes();
    bytes.extend_from_slice(&framed);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn stream(records: &[&str], ends: bool, stays: bool) -> Answer {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMesos-Stream-Id: s1\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    records
        .iter()
        .for_each(|record| bytes.extend(chunk(record)));
    if ends {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    Answer { bytes, stays }
}

const SUBSCRIBED: &str = r#"{"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"f-1"},"heartbeat_interval_seconds":0.02}}"#;
const HEARTBEAT: &str = r#"{"type":"HEARTBEAT"}"#;

/// The requests that a server got, head and body.
type Requests = Arc<Mutex<Vec<String>>>;

/// Gives the answers in turn, the last one for ever.
async fn server(answers: Vec<Answer>) -> (SocketAddr, Requests) {
    let (addr, requests, _) = counting_server(answers).await;
    (addr, requests)
}

/// The same; tells for each request as well which connection it came on.
async fn counting_server(answers: Vec<Answer>) -> (SocketAddr, Requests, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let requests = Requests::default();
    let connections = Arc::new(Mutex::new(Vec::new()));
    let (seen, on) = (requests.clone(), connections.clone());
    tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(
                socket,
                answers.clone(),
                seen.clone(),
                number,
                on.clone(),
            ));
        }
    });
    (addr, requests, connections)
}

async fn serve(
    mut socket: TcpStream,
    answers: Vec<Answer>,
    seen: Requests,
    number: usize,
    connections: Arc<Mutex<Vec<usize>>>,
) {
    while let Some(request) = read_request(&mut socket).await {
        let index = {
            let mut seen = seen.lock().unwrap();
            seen.push(request);
            connections.lock().unwrap().push(number);
            seen.len() - 1
        };
        let answer = answers[index.min(answers.len() - 1)].clone();
        if socket.write_all(&answer.bytes).await.is_err() || !answer.stays {
            return;
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some(head_end) = text.find("\r\n\r\n") {
            let head = text[..head_end].to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if bytes.len() >= head_end + 4 + length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}

fn options() -> SchedulerOptions {
    SchedulerOptions {
        encoding: Encoding::Json,
        first_backoff: Duration::from_millis(2),
        max_backoff: Duration::from_millis(10),
        give_up_after: Some(Duration::from_secs(10)),
        ..SchedulerOptions::default()
    }
}

fn info() -> FrameworkInfo {
    FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        ..FrameworkInfo::default()
    }
}

async fn subscribe(addrs: &[SocketAddr]) -> Result<(Session, EventStream), SubscribeError> {
    let masters: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    SchedulerClient::new(masters, options())
        .unwrap()
        .subscribe(info(), None)
        .await
}

#[tokio::test]
async fn item_05_a_starting_master_is_tried_until_it_is_ready() {
    let (addr, requests) = server(vec![
        plain("404 Not Found", "", ""),
        plain(
            "503 Service Unavailable",
            "",
            "Master has not finished recovery",
        ),
        stream(&[SUBSCRIBED, HEARTBEAT], false, true),
    ])
    .await;
    let (session, mut events) = subscribe(&[addr]).await.unwrap();
    assert_eq!(session.framework_id().as_str(), "f-1");
    assert_eq!(session.stream_id(), "s1");
    assert!(matches!(events.next().await, Some(Ok(Event::Heartbeat))));
    let requests = requests.lock().unwrap().clone();
    assert_eq!(requests.len(), 3);
    assert!(
        requests[2]
            .to_lowercase()
            .contains("content-type: application/json\r\n"),
        "{}",
        requests[2]
    );
}

#[tokio::test]
async fn item_05_a_redirect_leads_to_the_leading_master() {
    let (leader, _) = server(vec![stream(&[SUBSCRIBED], false, true)]).await;
    let location = format!("Location: //{leader}/api/v1/scheduler\r\n");
    let (follower, _) = server(vec![plain("307 Temporary Redirect", &location, "")]).await;
    let (session, _events) = subscribe(&[follower]).await.unwrap();
    assert!(
        session.master().contains(&leader.port().to_string()),
        "{}",
        session.master()
    );
}

#[tokio::test]
async fn item_05_a_master_whose_error_does_not_end_is_passed_over_for_the_next() {
    let (leader, _) = server(vec![stream(&[SUBSCRIBED], false, true)]).await;
    let endless = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100000\r\n\r\nMaster";
    let (dying, _) = server(vec![Answer {
        bytes: endless.to_vec(),
        stays: true,
    }])
    .await;
    let (session, _events) = subscribe(&[dying, leader]).await.unwrap();
    let port = leader.port().to_string();
    assert!(session.master().contains(&port), "{}", session.master());
}

#[tokio::test]
async fn item_05_a_dead_master_is_passed_over_for_the_next_of_the_list() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (alive, _) = server(vec![stream(&[SUBSCRIBED], false, true)]).await;
    assert!(subscribe(&[dead, alive]).await.is_ok());
}

#[tokio::test]
async fn an_error_event_in_answer_to_subscribe_is_a_refusal() {
    let removed = r#"{"type":"ERROR","error":{"message":"Framework has been removed"}}"#;
    let (addr, requests) = server(vec![stream(&[removed], true, true)]).await;
    let error = subscribe(&[addr]).await.unwrap_err();
    assert!(error.is_removed(), "{error}");
    assert_eq!(
        requests.lock().unwrap().len(),
        1,
        "a refusal is not tried again"
    );
}

#[tokio::test]
async fn nobody_there_is_told_after_the_time_to_give_up() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let options = SchedulerOptions {
        give_up_after: Some(Duration::from_millis(30)),
        ..options()
    };
    let client = SchedulerClient::new([dead.to_string()], options).unwrap();
    let error = client.subscribe(info(), None).await.unwrap_err();
    assert!(
        matches!(error, SubscribeError::Unreachable { .. }),
        "{error}"
    );
    let trouble = client.trouble().expect("it failed");
    assert!(trouble.contains("refused"), "{trouble}");
}

#[tokio::test]
async fn item_05_missed_heartbeats_end_the_stream() {
    // 0.02 s between heartbeats, five of them.
    let (addr, _) = server(vec![stream(&[SUBSCRIBED, HEARTBEAT], false, true)]).await;
    let (_session, mut events) = subscribe(&[addr]).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(Event::Heartbeat))));
    assert!(matches!(
        events.next().await,
        Some(Err(StreamError::Silent(_)))
    ));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn item_04_a_replaced_scheduler_learns_that_it_is_fenced() {
    let failed_over = r#"{"type":"ERROR","error":{"message":"Framework failed over"}}"#;
    let other = "The stream ID 's1' included in this request didn't match the stream ID currently associated with \
                 framework ID f-1";
    let (addr, requests) = server(vec![
        stream(&[SUBSCRIBED, failed_over], true, true),
        plain("400 Bad Request", "", other),
    ])
    .await;
    let (session, mut events) = subscribe(&[addr]).await.unwrap();
    assert!(events.next().await.unwrap().unwrap_err().is_fenced());
    let error = session
        .call(Call::Revive(Roles::default()))
        .await
        .unwrap_err();
    assert!(error.is_fenced(), "{error}");
    let call = requests.lock().unwrap()[1].clone();
    assert!(
        call.to_lowercase().contains("mesos-stream-id: s1"),
        "{call}"
    );
    assert!(call.contains(r#""framework_id":{"value":"f-1"}"#), "{call}");
}

#[tokio::test]
async fn item_04_a_call_without_a_subscription_is_told_apart_from_a_bad_one() {
    for (status, text, expected) in [
        (
            "403 Forbidden",
            "Framework is not subscribed",
            "not subscribed",
        ),
        (
            "400 Bad Request",
            "Framework cannot be found",
            "not subscribed",
        ),
        (
            "400 Bad Request",
            "Failed to validate scheduler::Call: Not a valid UUID",
            "rejected",
        ),
        ("503 Service Unavailable", "", "unavailable"),
    ] {
        let (addr, _) = server(vec![
            stream(&[SUBSCRIBED], false, true),
            plain(status, "", text),
        ])
        .await;
        let (session, _events) = subscribe(&[addr]).await.unwrap();
        let kind = match session.call(Call::Teardown).await.unwrap_err() {
            CallError::NotSubscribed { .. } => "not subscribed",
            CallError::Rejected { .. } => "rejected",
            CallError::Unavailable { .. } => "unavailable",
            other => panic!("{other}"),
        };
        assert_eq!(kind, expected, "{text}");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_or_ends_says_which() {
    let (addr, _) = server(vec![stream(&[SUBSCRIBED], true, true)]).await;
    let (_session, mut events) = subscribe(&[addr]).await.unwrap();
    assert!(matches!(
        events.next().await,
        Some(Err(StreamError::Closed))
    ));
    let (addr, _) = server(vec![stream(&[SUBSCRIBED], false, false)]).await;
    let (_session, mut events) = subscribe(&[addr]).await.unwrap();
    assert!(matches!(
        events.next().await,
        Some(Err(StreamError::Broken(_)))
    ));
}

#[tokio::test]
async fn item_01_calls_share_a_connection_and_never_the_streams() {
    let (addr, _, connections) = counting_server(vec![
        stream(&[SUBSCRIBED], false, true),
        plain("202 Accepted", "", ""),
    ])
    .await;
    let (session, _events) = subscribe(&[addr]).await.unwrap();
    for _ in 0..10 {
        session.call(Call::Revive(Roles::default())).await.unwrap();
    }
    let connections = connections.lock().unwrap().clone();
    assert_eq!(connections[1..], [connections[1]; 10], "one for all calls");
    assert_ne!(connections[0], connections[1]);
}

#[tokio::test]
async fn item_28_a_call_that_comes_too_fast_is_made_again_later() {
    let (addr, requests) = server(vec![
        stream(&[SUBSCRIBED], false, true),
        plain(
            "429 Too Many Requests",
            "Retry-After: 0.01\r\n",
            "slow down",
        ),
        plain("429 Too Many Requests", "", "slow down"),
        plain("202 Accepted", "", ""),
    ])
    .await;
    let (session, _events) = subscribe(&[addr]).await.unwrap();
    session.call(Call::Revive(Roles::default())).await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn item_28_a_rate_that_stays_limited_is_an_error_in_the_end() {
    let (addr, _) = server(vec![
        stream(&[SUBSCRIBED], false, true),
        plain("429 Too Many Requests", "", "slow down"),
    ])
    .await;
    let options = SchedulerOptions {
        call_timeout: Duration::from_millis(50),
        ..options()
    };
    let client = SchedulerClient::new([addr.to_string()], options).unwrap();
    let (session, _events) = client.subscribe(info(), None).await.unwrap();
    let error = session.call(Call::Teardown).await.unwrap_err();
    assert!(matches!(error, CallError::RateLimited { .. }), "{error}");
    assert!(error.to_string().contains("slow down"), "{error}");
}

#[tokio::test]
async fn item_28_a_stream_ended_for_our_rate_says_so() {
    let exceeded = r#"{"type":"ERROR","error":{"message":"Message mesos.scheduler.Call dropped: capacity(100) exceeded"}}"#;
    let (addr, _) = server(vec![stream(&[SUBSCRIBED, exceeded], true, true)]).await;
    let (_session, mut events) = subscribe(&[addr]).await.unwrap();
    let end = events.next().await.unwrap().unwrap_err();
    assert!(matches!(end, StreamError::RateLimited(_)), "{end}");
}

#[tokio::test]
async fn item_06_who_is_not_let_in_is_told_at_once_and_whether_it_said_who_it_is() {
    for (status, secret) in [("401 Unauthorized", None), ("403 Forbidden", Some("hush"))] {
        let (addr, requests) = server(vec![plain(status, "", "no")]).await;
        let options = SchedulerOptions {
            credential: secret.map(|secret| Credential {
                principal: "me".to_owned(),
                secret: secret.into(),
            }),
            ..options()
        };
        assert!(!format!("{options:?}").contains("hush"));
        let client = SchedulerClient::new([addr.to_string()], options).unwrap();
        let error = client.subscribe(info(), None).await.unwrap_err();
        let SubscribeError::Unauthorized { authenticated, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(authenticated, secret.is_some());
        let request = requests.lock().unwrap()[0].to_lowercase();
        assert_eq!(request.contains("authorization: basic"), secret.is_some());
    }
}

#[tokio::test]
async fn item_05_a_redirect_without_end_or_target_is_tried_again() {
    let (leader, _) = server(vec![stream(&[SUBSCRIBED], false, true)]).await;
    let good = format!("Location: //{leader}/api/v1/scheduler\r\n");
    let (follower, requests) = server(vec![
        plain("307 Temporary Redirect", "", ""),
        plain("502 Bad Gateway", "", ""),
        plain("429 Too Many Requests", "", ""),
        plain("307 Temporary Redirect", &good, ""),
    ])
    .await;
    subscribe(&[follower]).await.unwrap();
    assert_eq!(requests.lock().unwrap().len(), 4);
}

fn environment(addr: SocketAddr, checkpoint: &str) -> ExecutorEnvironment {
    ExecutorEnvironment::from_variables(|name| {
        Some(match name {
            "MESOS_FRAMEWORK_ID" => "f-1".to_owned(),
            "MESOS_EXECUTOR_ID" => "e-1".to_owned(),
            "MESOS_AGENT_ENDPOINT" => addr.to_string(),
            "MESOS_CHECKPOINT" => checkpoint.to_owned(),
            "MESOS_RECOVERY_TIMEOUT" => "5secs".to_owned(),
            _ => return None,
        })
    })
    .unwrap()
}

const EXECUTOR_SUBSCRIBED: &str = r#"{"type":"SUBSCRIBED","subscribed":{"executor_info":{"executor_id":{"value":"e-1"}},
    "framework_info":{"user":"root","name":"n"},"agent_info":{"hostname":"h"}}}"#;

#[tokio::test]
async fn an_executor_comes_back_to_a_restarted_agent_if_it_may() {
    let (addr, requests) = server(vec![
        stream(&[EXECUTOR_SUBSCRIBED], true, true),
        plain(
            "503 Service Unavailable",
            "",
            "Agent has not finished recovery",
        ),
        stream(&[EXECUTOR_SUBSCRIBED], false, true),
    ])
    .await;
    let client = ExecutorClient::new(environment(addr, "1"), 1).unwrap();
    let (_, mut events) = client.subscribe().await.unwrap();
    assert!(matches!(
        events.next().await,
        Some(Err(StreamError::Closed))
    ));
    client.resubscribe(Vec::new(), Vec::new()).await.unwrap();
    let last = requests.lock().unwrap().last().unwrap().clone();
    assert!(last.contains(r#""executor_id":{"value":"e-1"}"#), "{last}");

    let client = ExecutorClient::new(environment(addr, "0"), 1).unwrap();
    let error = client
        .resubscribe(Vec::new(), Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, ExecutorError::AgentLost { .. }), "{error}");
}

#[tokio::test]
async fn an_executor_that_its_agent_does_not_know_is_told_at_once() {
    let (addr, _) = server(vec![plain(
        "400 Bad Request",
        "",
        "Executor cannot be found",
    )])
    .await;
    let client = ExecutorClient::new(environment(addr, "1"), 1).unwrap();
    let error = client.subscribe().await.unwrap_err();
    assert!(
        error.to_string().contains("Executor cannot be found"),
        "{error}"
    );
}
