//! The master behind HTTP: statuses, headers, streams, and what the scheduler client
//! makes of them.

use std::time::Duration;

use meson_mesos::client::StreamError;
use meson_mesos::client::scheduler::{CallError, SchedulerClient, SchedulerOptions};
use meson_mesos::scheduler::{Call, Event, Reconcile, Roles};
use meson_mesos::types::FrameworkInfo;
use minimesos::master::{MasterHandle, MasterOptions, start};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::{DEADLINE, master};

fn info() -> FrameworkInfo {
    FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        failover_timeout: Some(60.0),
        ..FrameworkInfo::default()
    }
}

fn client(master: &MasterHandle) -> SchedulerClient {
    let options = SchedulerOptions {
        give_up_after: Some(DEADLINE),
        ..SchedulerOptions::default()
    };
    SchedulerClient::new([master.url()], options).unwrap()
}

fn http() -> reqwest::Client {
    // Without a provider of cryptography no HTTP client can be made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

fn an_agent() -> Value {
    json!({"agent": {"hostname": "h", "resources": [
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 4}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": 2048}},
    ]}})
}

async fn next(
    events: &mut meson_mesos::client::scheduler::EventStream,
) -> Option<Result<Event, StreamError>> {
    timeout(DEADLINE, events.next())
        .await
        .expect("an event in time")
}

/// The next event that is no heartbeat.
async fn news(events: &mut meson_mesos::client::scheduler::EventStream) -> Event {
    loop {
        match next(events).await.unwrap().unwrap() {
            Event::Heartbeat => {}
            event => return event,
        }
    }
}

#[actix_web::test]
async fn requests_that_are_no_calls_are_answered_as_the_real_master_does() {
    let master = master().await;
    let http = http();
    let call = r#"{"type":"TEARDOWN"}"#;
    for (method, path, content_type, accept, status, words) in [
        (
            "GET",
            "/api/v1/scheduler",
            "application/json",
            "",
            405,
            "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.",
        ),
        (
            "PUT",
            "/api/v1/scheduler",
            "application/json",
            "",
            405,
            "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'PUT'.",
        ),
        (
            "POST",
            "/api/v1/scheduler",
            "",
            "",
            400,
            "Expecting 'Content-Type' to be present",
        ),
        (
            "POST",
            "/api/v1/scheduler",
            "text/plain",
            "",
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ),
        (
            "POST",
            "/api/v1/scheduler",
            "application/json; charset=utf-8",
            "",
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        ),
        (
            "POST",
            "/api/v1/scheduler",
            "application/json",
            // Only a SUBSCRIBE has an answer that Accept is about.
            "text/html",
            400,
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present",
        ),
        (
            "POST",
            "/api/v1/scheduler/",
            "application/json",
            "application/json",
            400,
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present",
        ),
        (
            "POST",
            "/master/api/v1/scheduler",
            "application/json",
            "*/*",
            400,
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present",
        ),
        (
            "POST",
            "/api/v2/scheduler",
            "application/json",
            "",
            404,
            "404 Not Found.",
        ),
        ("GET", "/nope", "", "", 404, "404 Not Found."),
    ] {
        let mut request = http
            .request(method.parse().unwrap(), format!("{}{path}", master.url()))
            .body(call);
        if !content_type.is_empty() {
            request = request.header("Content-Type", content_type);
        }
        if !accept.is_empty() {
            request = request.header("Accept", accept);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(
            answer.status().as_u16(),
            status,
            "{method} {path} {content_type}"
        );
        assert_eq!(
            answer.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
        assert_eq!(answer.text().await.unwrap(), words);
    }
    let version: Value = http
        .get(format!("{}/version", master.url()))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(version["version"], "1.12.0");
    let health = http
        .get(format!("{}/health", master.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
    master.stop().await;
}

#[actix_web::test]
async fn the_stream_has_the_real_ones_head_and_framing() {
    let master = master().await;
    let mut socket = TcpStream::connect(master.addr).await.unwrap();
    let body = r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"x"}}}"#;
    let request = format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: m\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&bytes).contains("HEARTBEAT") {
            let mut buffer = [0; 4096];
            let read = socket.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the stream ended");
            bytes.extend_from_slice(&buffer[..read]);
        }
    };
    timeout(DEADLINE, read).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    for header in [
        "transfer-encoding: chunked",
        "mesos-stream-id: ",
        "content-type: application/json",
    ] {
        assert!(head.contains(header), "{head}");
    }
    assert!(
        !head.contains("content-encoding"),
        "a stream is never compressed"
    );
    // The chunk is the length line with its record.
    let mut lines = rest.split("\r\n");
    let chunk_length = usize::from_str_radix(lines.next().unwrap(), 16).unwrap();
    let chunk = lines.next().unwrap();
    assert_eq!(chunk.len(), chunk_length);
    let (record_length, record) = chunk.split_once('\n').unwrap();
    assert_eq!(record.len().to_string(), record_length);
    assert_eq!(
        serde_json::from_str::<Value>(record).unwrap()["type"],
        "SUBSCRIBED"
    );
    drop(socket);
    master.stop().await;
}

#[actix_web::test]
async fn a_scheduler_that_closes_its_stream_is_disconnected_at_once() {
    let master = master().await;
    let (session, events) = client(&master).subscribe(info(), None).await.unwrap();
    session
        .call(Call::Suppress(Roles::default()))
        .await
        .unwrap();
    let closed = Instant::now();
    drop(events);
    // 403 is what calls get once the master knows.
    loop {
        match session.call(Call::Suppress(Roles::default())).await {
            Err(CallError::NotSubscribed { .. }) => break,
            Err(other) => panic!("{other}"),
            Ok(()) => assert!(
                closed.elapsed() < Duration::from_secs(5),
                "the master does not notice"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (again, _events) = client(&master)
        .subscribe(info(), Some(session.framework_id().clone()))
        .await
        .unwrap();
    assert_eq!(again.framework_id(), session.framework_id());
    master.stop().await;
}

#[actix_web::test]
async fn a_second_scheduler_fences_the_first() {
    let master = master().await;
    let (first, mut events) = client(&master).subscribe(info(), None).await.unwrap();
    let (second, _second_events) = client(&master)
        .subscribe(info(), Some(first.framework_id().clone()))
        .await
        .unwrap();
    let lost = loop {
        match next(&mut events).await.unwrap() {
            Ok(_) => {}
            Err(lost) => break lost,
        }
    };
    assert!(lost.is_fenced(), "{lost}");
    let refused = first
        .call(Call::Reconcile(Reconcile::default()))
        .await
        .unwrap_err();
    assert!(refused.is_fenced(), "{refused}");
    second
        .call(Call::Reconcile(Reconcile::default()))
        .await
        .unwrap();
    master.stop().await;
}

#[actix_web::test]
async fn a_removed_framework_cannot_come_back() {
    let master = master().await;
    let (session, mut events) = client(&master).subscribe(info(), None).await.unwrap();
    session.call(Call::Teardown).await.unwrap();
    let lost = loop {
        match next(&mut events).await.unwrap() {
            Ok(_) => {}
            Err(lost) => break lost,
        }
    };
    assert!(matches!(lost, StreamError::Closed), "in good order: {lost}");
    let refused = client(&master)
        .subscribe(info(), Some(session.framework_id().clone()))
        .await
        .unwrap_err();
    assert!(refused.is_removed(), "{refused}");
    master.stop().await;
}

#[actix_web::test]
async fn revive_is_answered_with_offers_at_once() {
    let mut options = MasterOptions::new(Duration::from_secs(1));
    // So long between runs that only REVIVE can be the cause.
    options.allocation_interval = Duration::from_secs(3600);
    let master = start(options).await.unwrap();
    let (session, mut events) = client(&master).subscribe(info(), None).await.unwrap();
    session
        .call(Call::Suppress(Roles::default()))
        .await
        .unwrap();
    let http = http();
    let hello = http
        .post(format!("{}{}", master.url(), minimesos::link::STREAM_PATH))
        .body(an_agent().to_string());
    let agent_stream = hello.send().await.unwrap();
    assert_eq!(agent_stream.status(), 200);
    let asked = Instant::now();
    session.call(Call::Revive(Roles::default())).await.unwrap();
    let Event::Offers(offers) = news(&mut events).await else {
        panic!("no offers")
    };
    assert_eq!(offers.offers.len(), 1);
    assert!(asked.elapsed() < Duration::from_secs(5));
    drop(agent_stream);
    assert!(
        matches!(news(&mut events).await, Event::Rescind(_)),
        "the agent's stream is gone"
    );
    master.stop().await;
}

#[actix_web::test]
async fn a_restarted_master_knows_its_agents_from_the_registry() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = MasterOptions::new(Duration::from_secs(1_000_000));
    options.work_dir = Some(folder.path().to_owned());
    let master = start(options.clone()).await.unwrap();
    let http = http();
    let hello = http
        .post(format!("{}{}", master.url(), minimesos::link::STREAM_PATH))
        .body(an_agent().to_string());
    let stream = hello.send().await.unwrap();
    drop(stream);
    master.stop().await;
    let master = start(options).await.unwrap();
    let state: Value = http
        .get(format!("{}/state", master.url()))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        state["recovered_slaves"].as_array().unwrap().len(),
        1,
        "{state}"
    );
    master.stop().await;
}

/// The messages that an agent gets, read from its stream.
struct AgentStream {
    body: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    decoder: meson_mesos::recordio::Decoder,
}

impl AgentStream {
    async fn open(master: &MasterHandle) -> Self {
        use futures::StreamExt;
        let url = format!("{}{}", master.url(), minimesos::link::STREAM_PATH);
        let response = http()
            .post(url)
            .body(an_agent().to_string())
            .send()
            .await
            .unwrap();
        Self {
            body: response.bytes_stream().boxed(),
            decoder: meson_mesos::recordio::Decoder::default(),
        }
    }

    async fn next(&mut self) -> minimesos::link::ToAgent {
        use futures::StreamExt;
        loop {
            if let Some(record) = self.decoder.next_record().unwrap() {
                return serde_json::from_slice(&record).unwrap();
            }
            let chunk = timeout(DEADLINE, self.body.next())
                .await
                .expect("a message in time");
            self.decoder
                .push(&chunk.expect("the stream goes on").unwrap());
        }
    }
}

#[actix_web::test]
async fn a_launch_reaches_the_agent_in_milliseconds() {
    use meson_mesos::scheduler::Accept;
    use meson_mesos::types::{CommandInfo, Filters, Operation, Resource, TaskInfo};
    let master = master().await;
    let (session, mut events) = client(&master).subscribe(info(), None).await.unwrap();
    let mut agent = AgentStream::open(&master).await;
    assert!(matches!(
        agent.next().await,
        minimesos::link::ToAgent::Registered { .. }
    ));
    let (mut launches, mut revives) = (Vec::new(), Vec::new());
    for round in 0..20 {
        let Event::Offers(offers) = news(&mut events).await else {
            panic!("no offers")
        };
        let offer = &offers.offers[0];
        let task = TaskInfo {
            name: "t".into(),
            task_id: format!("t-{round}").into(),
            agent_id: offer.agent_id.clone(),
            resources: vec![Resource::scalar("cpus", 0.1)],
            command: Some(CommandInfo::shell("true")),
            ..TaskInfo::default()
        };
        let accept = Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![Operation::launch(vec![task])],
            filters: Some(Filters::refuse(3600.0)),
        };
        let start = Instant::now();
        let (called, message) = tokio::join!(session.call(Call::Accept(accept)), agent.next());
        called.unwrap();
        assert!(
            matches!(message, minimesos::link::ToAgent::RunTask { .. }),
            "{message:?}"
        );
        launches.push(start.elapsed());
        let start = Instant::now();
        session.call(Call::Revive(Roles::default())).await.unwrap();
        revives.push(start.elapsed());
    }
    launches.sort();
    revives.sort();
    println!(
        "median of ACCEPT to agent {:?}, of REVIVE {:?}",
        launches[10], revives[10]
    );
    // A generous bound: tests share their machine.
    assert!(launches[10] < Duration::from_millis(50), "{launches:?}");
    master.stop().await;
}
