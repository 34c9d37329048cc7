//! Much at a time.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use meson_transport::{CallError, PeerId, Urgency};
use tokio::task::JoinSet;

use crate::cluster::*;

const TWO: PeerId = PeerId::new(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_megabytes_of_bulk_do_not_hold_up_votes() {
    const FRAMES: usize = 64;
    let (_office, one, two) = pair();
    let vote = async || {
        let body = Bytes::from_static(b"vote");
        let answer = one.mesh.call(TWO, Urgency::Vote, ECHO, body, LONG).await;
        assert_eq!(answer.unwrap(), "vote");
    };
    // The handler does not read yet, so that the transfer is certainly under way, and stuck.
    let (mut sender, mut receiver) = one
        .mesh
        .open(TWO, Urgency::Bulk, HANG, "begin".into(), LONG)
        .await
        .unwrap();
    let transfer = tokio::spawn(async move {
        let frame = Bytes::from(vec![9; 1 << 20]);
        for _ in 0..FRAMES {
            sender.send(Urgency::Bulk, frame.clone()).await.unwrap();
        }
        sender.finish();
    });
    for _ in 0..100 {
        vote().await;
    }
    assert!(!transfer.is_finished());

    two.handler.read_on.notify_one();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "begin");
    let mut received = 0;
    while let Some(answer) = receiver.next().await.unwrap() {
        assert_eq!(answer, (1 << 20).to_string());
        received += 1;
        vote().await;
    }
    assert_eq!(received, FRAMES);
    transfer.await.unwrap();
    assert!(one.mesh.peers()[0].bulk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_streams_wait_their_turn() {
    let office = Office::new("test");
    let two = node_with(office.identity(2), any_port(), |options| {
        options.limits.streams = 4;
    });
    let one = node(office.identity(1));
    introduce(&[&one, &two]);
    let calls = (0..200).map(|_| ask(&one, 2, ECHO));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap(), "hello");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_finds_all_streams_in_use_says_so_and_was_not_sent() {
    let office = Office::new("test");
    let two = node_with(office.identity(2), any_port(), |options| {
        options.limits.streams = 4;
    });
    let one = node(office.identity(1));
    introduce(&[&one, &two]);
    ask(&one, 2, ECHO).await.unwrap();
    let mut hanging = JoinSet::new();
    // The limit, and the stream that the greeting had.
    for _ in 0..5 {
        let mesh = one.mesh.clone();
        hanging.spawn(async move {
            mesh.call(TWO, Urgency::Call, HANG, Bytes::new(), LONG)
                .await
        });
    }
    let deadline = Duration::from_millis(100);
    let told = loop {
        let call = one
            .mesh
            .call(TWO, Urgency::Call, HANG, Bytes::new(), deadline);
        match call.await.unwrap_err() {
            // It was there before the others.
            CallError::Timeout { .. } => {}
            other => break other,
        }
    };
    let expected = CallError::Unreachable {
        peer: TWO,
        reason: "all its streams were in use for 100ms".to_owned(),
    };
    assert_eq!(told, expected);
    hanging.shutdown().await;
    assert_eq!(ask(&one, 2, ECHO).await.unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_stops_its_sender_and_nobody_else() {
    let (_office, one, two) = pair();
    let (mut sender, mut receiver) = one
        .mesh
        .open(TWO, Urgency::Append, HANG, "begin".into(), LONG)
        .await
        .unwrap();
    let frame = Bytes::from(vec![1; 1 << 20]);
    // Until the window is full. A send that was dropped in the middle loses nothing.
    let mut sent = 0;
    while tokio::time::timeout(
        Duration::from_millis(300),
        sender.send(Urgency::Append, frame.clone()),
    )
    .await
    .is_ok()
    {
        sent += 1;
        assert!(sent < 64, "the window does not bound what is sent");
    }
    assert_eq!(ask(&one, 2, ECHO).await.unwrap(), "hello");
    two.handler.read_on.notify_one();
    sender.send(Urgency::Append, frame.clone()).await.unwrap();
    sender.finish();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "begin");
    let mut received = 0;
    while receiver.next().await.unwrap().is_some() {
        received += 1;
    }
    // Those that were sent, the one whose send was dropped, the last one.
    assert_eq!(received, sent + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_wait_until_there_is_room_for_them() {
    const BYTES: usize = 1 << 20;
    let office = Office::new("test");
    let two = node_with(office.identity(2), any_port(), |options| {
        options.limits.call_bytes = BYTES;
        options.limits.calls_in_flight_bytes = BYTES;
    });
    let one = node(office.identity(1));
    introduce(&[&one, &two]);
    let body = Bytes::from(vec![5; BYTES]);
    let calls = (0..16).map(|_| one.mesh.call(TWO, Urgency::Call, ECHO, body.clone(), LONG));
    for answer in join_all(calls).await {
        assert_eq!(answer.unwrap(), body);
    }
}
