//! Bad input: streams that are cut, broken or absurd. The decoder, the types and the client
//! say what is wrong, and keep no more than they were sent.
//!
//! The damage is drawn from a fixed seed: what fails here, fails everywhere.

use crate::transcripts;
use meson_mesos::client::StreamError;
use meson_mesos::client::scheduler::{SchedulerClient, SchedulerOptions};
use meson_mesos::recordio::{DecodeError, Decoder, encode};
use meson_mesos::types::FrameworkInfo;
use meson_mesos::{executor, scheduler};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[3; 32]);
    TestRunner::new_with_rng(config, rng)
}

/// One way to spoil bytes.
#[derive(Clone, Debug)]
enum Damage {
    Set(usize, u8),
    Cut(usize),
    Drop(usize, usize),
    Double(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let any_place = any::<usize>();
    prop_oneof![
        4 => (any_place, any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => any_place.prop_map(Damage::Cut),
        1 => (any_place, 1..20_usize).prop_map(|(at, length)| Damage::Drop(at, length)),
        1 => (any_place, 1..20_usize).prop_map(|(at, length)| Damage::Double(at, length)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match *damage {
            Damage::Set(at, byte) => bytes[at % length] = byte,
            Damage::Cut(at) => bytes.truncate(at % length),
            Damage::Drop(at, count) => {
                let at = at % length;
                bytes.drain(at..length.min(at + count));
            }
            Damage::Double(at, count) => {
                let at = at % length;
                let piece = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// What is read is what is printed.
fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let printed = serde_json::to_vec(&value).unwrap();
        let again: T = serde_json::from_slice(&printed).unwrap();
        assert_eq!(again, value);
    }
}

#[test]
fn damaged_calls_and_events_are_refused_or_mean_something() {
    let texts: Vec<Vec<u8>> = transcripts::lines()
        .into_iter()
        .filter_map(|(_, line)| {
            let said = if line["kind"] == "record" {
                &line["record"]
            } else {
                &line["body"]
            };
            said.is_object().then(|| said.to_string().into_bytes())
        })
        .collect();
    let case = (0..texts.len(), prop::collection::vec(damage(), 1..4));
    let run = |(index, damages): (usize, Vec<Damage>)| {
        let bytes = damaged(texts[index].clone(), &damages);
        read::<scheduler::Event>(&bytes);
        read::<scheduler::Envelope>(&bytes);
        read::<executor::Event>(&bytes);
        read::<executor::Envelope>(&bytes);
        Ok(())
    };
    runner(3_000).run(&case, run).unwrap();
}

#[test]
fn a_damaged_stream_gives_records_or_an_error_and_holds_no_more_than_came() {
    const LIMIT: usize = 4096;
    let records = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8);
    let case = (
        records,
        prop::collection::vec(damage(), 1..4),
        prop::collection::vec(1..64_usize, 1..20),
    );
    let run = |(records, damages, cuts): (Vec<Vec<u8>>, Vec<Damage>, Vec<usize>)| {
        let stream: Vec<u8> = records.iter().flat_map(|record| encode(record)).collect();
        let stream = damaged(stream, &damages);
        let mut decoder = Decoder::new(LIMIT);
        let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
        let mut given = 0;
        'stream: while !rest.is_empty() {
            let length = (*cuts.next().unwrap()).min(rest.len());
            let (now, later) = rest.split_at(length);
            rest = later;
            decoder.push(now);
            loop {
                match decoder.next_record() {
                    Ok(Some(record)) => given += record.len(),
                    Ok(None) => break,
                    Err(first) => {
                        prop_assert_eq!(decoder.next_record(), Err(first));
                        break 'stream;
                    }
                }
            }
            prop_assert!(decoder.pending_bytes() <= LIMIT + 64);
        }
        prop_assert!(given <= stream.len());
        Ok(())
    };
    runner(2_000).run(&case, run).unwrap();
}

/// A master that answers everybody with a stream of these bytes, and hangs up.
async fn master(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = [0; 16384];
                let _ = socket.read(&mut request).await;
                let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMesos-Stream-Id: s\r\n\r\n";
                let _ = socket.write_all(head).await;
                let _ = socket.write_all(&bytes).await;
                let _ = socket.shutdown().await;
                // Wait until the other side has read it all.
                while socket.read(&mut request).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    addr
}

const SUBSCRIBED: &str = r#"{"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"f"}}}"#;

/// What the client makes of a stream that begins well and goes on like this.
async fn verdict(more: &[u8]) -> StreamError {
    let addr = master([&encode(SUBSCRIBED.as_bytes()), more].concat()).await;
    let options = SchedulerOptions {
        first_backoff: Duration::from_millis(2),
        give_up_after: Some(Duration::from_secs(20)),
        max_record_bytes: 1 << 20,
        ..SchedulerOptions::default()
    };
    let info = FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        ..FrameworkInfo::default()
    };
    let client = SchedulerClient::new([addr.to_string()], options).unwrap();
    let (_session, mut events) = client.subscribe(info, None).await.unwrap();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), events.next());
        match next.await.expect("a verdict in time") {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error,
            None => return StreamError::Closed,
        }
    }
}

#[tokio::test]
async fn the_client_says_what_is_wrong_with_a_stream() {
    let framing = async |bytes: &[u8]| match verdict(bytes).await {
        StreamError::Framing(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(
        framing(b"99999999999999999999\n{}").await,
        DecodeError::TooLong { .. }
    ));
    assert!(matches!(
        framing(b"1048577\n{").await,
        DecodeError::TooLong {
            length: 1048577,
            ..
        }
    ));
    assert_eq!(
        framing(b"-5\n{}").await,
        DecodeError::NotALength { found: b'-' }
    );
    assert_eq!(framing(b"\n").await, DecodeError::EmptyLength);
    assert_eq!(
        framing(b"HTTP/1.1 202 Accepted\r\n").await,
        DecodeError::NotALength { found: b'H' }
    );
    for malformed in [
        &b"not json"[..],
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        br#"{"type":5}"#,
        br#"{"type":"UPDATE"}"#,
        br#"{"type":"UPDATE","update":{"status":{"task_id":"t","state":"TASK_RUNNING"}}}"#,
        br#"{"type":"OFFERS","offers":{"offers":{}}}"#,
    ] {
        let error = verdict(&encode(malformed).repeat(8)).await;
        assert!(matches!(error, StreamError::Malformed { .. }), "{error}");
        // One among others is passed over: what comes behind it is heard.
        let heartbeat = encode(br#"{"type":"HEARTBEAT"}"#);
        let among = [encode(malformed), heartbeat].concat().repeat(20);
        let error = verdict(&among).await;
        assert!(matches!(error, StreamError::Closed), "{error}");
    }
    let nested = "[".repeat(50_000);
    let error = verdict(&encode(nested.as_bytes()).repeat(8)).await;
    assert!(matches!(error, StreamError::Malformed { .. }), "{error}");
    assert!(
        error.to_string().len() < 1_000,
        "an error repeats no record"
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_within_a_record_is_told_from_one_that_ends() {
    assert!(matches!(verdict(b"").await, StreamError::Closed));
    for cut in [&b"20\n{\"type\":\"HEART"[..], b"2", b"20\n"] {
        let error = verdict(cut).await;
        assert!(matches!(error, StreamError::Cut), "{error}");
    }
}

#[tokio::test]
async fn an_update_with_five_megabytes_of_data_arrives_or_is_too_long() {
    use meson_mesos::scheduler::{Event, Update};
    use meson_mesos::types::{Data, TaskState, TaskStatus};
    let status = |bytes: usize| TaskStatus {
        data: Some(Data::from(vec![7; bytes])),
        ..TaskStatus::new("t".into(), TaskState::Running)
    };
    let record = |bytes: usize| {
        let event = Event::Update(Update {
            status: status(bytes),
        });
        encode(&serde_json::to_vec(&event).unwrap())
    };
    // The limit of this client is a megabyte: what is above is refused by its length alone.
    let error = verdict(&record(5 << 20)).await;
    assert!(
        matches!(
            error,
            StreamError::Framing(DecodeError::TooLong {
                length: 5_000_000..,
                ..
            })
        ),
        "{error}"
    );
    assert!(matches!(
        verdict(&record(1 << 19)).await,
        StreamError::Closed
    ));
    // The limit of any other is far above.
    let mut decoder = Decoder::default();
    decoder.push(&record(5 << 20));
    assert!(decoder.next_record().unwrap().is_some());
}
