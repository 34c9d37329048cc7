//! Garbage on the master's port: it is refused, and the master serves on.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{DEADLINE, Scheduler, master};

/// Where anybody may send something.
const PATHS: &[&str] = &[
    "/api/v1/scheduler",
    "/api/v1",
    "/minimesos/agent",
    "/minimesos/agent/call",
    "/maintenance/schedule",
    "/machine/down",
    "/machine/up",
    "/teardown",
    "/nowhere",
];

/// The same values at every run.
fn drawn<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect()
}

async fn is_well(url: &str) {
    let answer = reqwest::get(format!("{url}/health")).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[actix_rt::test]
async fn bodies_that_are_garbage_are_refused() {
    let master = master().await;
    let http = reqwest::Client::new();
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let json = "[\\[\\]{}\":,a-z0-9 ]{0,200}".prop_map(String::into_bytes);
    let bodies = drawn(&prop_oneof![bytes, json], 40);
    for path in PATHS {
        for body in &bodies {
            let request = http
                .post(format!("{}{path}", master.url()))
                .header("Content-Type", "application/json")
                .body(body.clone());
            let status = request.send().await.unwrap().status();
            assert!(status.is_client_error(), "{path}: {status} for {body:?}");
        }
    }
    is_well(&master.url()).await;
    master.stop().await;
}

#[actix_rt::test]
async fn bytes_that_are_no_http_end_their_connection_and_no_other() {
    let master = master().await;
    let scheduler = Scheduler::subscribe_as(&master.url(), json!({})).await;
    let garbage = prop::collection::vec(any::<u8>(), 1..400);
    let head = Just(
        b"POST /api/v1/scheduler HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n{"
            .to_vec(),
    );
    let chunk = Just(
        b"POST /api/v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
            .to_vec(),
    );
    let endless = Just([b"GET /".to_vec(), vec![b'a'; 300_000]].concat());
    for bytes in drawn(
        &prop_oneof![6 => garbage, 1 => head, 1 => chunk, 1 => endless],
        60,
    ) {
        let mut socket = TcpStream::connect(master.addr).await.unwrap();
        // The other side may have hung up already.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "the connection hangs after {bytes:?}");
        let text = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || text.starts_with("HTTP/1.1 4"),
            "{text:.200}"
        );
    }
    is_well(&master.url()).await;
    assert!(
        scheduler
            .events()
            .iter()
            .all(|event| event["type"] != "ERROR"),
        "the scheduler's stream has ended"
    );
    master.stop().await;
}

#[actix_rt::test]
async fn a_body_above_the_limit_is_refused_before_it_is_collected() {
    let master = master().await;
    let http = reqwest::Client::new();
    let body = vec![b' '; (32 << 20) + 1];
    let request = http
        .post(format!("{}/api/v1/scheduler", master.url()))
        .header("Content-Type", "application/json")
        .body(body);
    // It may hang up while we are still speaking.
    if let Ok(answer) = request.send().await {
        assert_eq!(answer.status(), 413);
    }
    is_well(&master.url()).await;
    master.stop().await;
}

/// An answer that is big is compressed for those who want that, and only for them.
#[actix_rt::test]
async fn big_answers_are_compressed_for_those_who_want_that() {
    let master = master().await;
    let mut schedulers = Vec::new();
    for _ in 0..5 {
        schedulers.push(Scheduler::subscribe_as(&master.url(), json!({})).await);
    }
    let http = reqwest::Client::new();
    let get = async |path: &str, encoding: Option<&str>| {
        let mut request = http.get(format!("{}{path}", master.url()));
        if let Some(encoding) = encoding {
            request = request.header("Accept-Encoding", encoding);
        }
        let answer = request.send().await.unwrap();
        let packed = answer.headers().get("Content-Encoding").cloned();
        (packed, answer.bytes().await.unwrap())
    };
    let (plain, body) = get("/state", None).await;
    assert_eq!(plain, None);
    let (packed, small) = get("/state", Some("gzip")).await;
    assert_eq!(packed.unwrap(), "gzip");
    assert!(small.len() < body.len());
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&small[..]), &mut unpacked)
        .unwrap();
    let state: serde_json::Value = serde_json::from_str(&unpacked).unwrap();
    assert_eq!(state["frameworks"].as_array().unwrap().len(), 5);
    let (packed, _) = get("/version", Some("gzip")).await;
    assert_eq!(packed, None, "a small answer stays as it is");
    tokio::time::timeout(Duration::from_secs(30), master.stop())
        .await
        .unwrap();
}
