//! Calls and streams between two nodes that are well.

use std::time::Duration;

use bytes::Bytes;
use meson_transport::{CallError, PeerId, Service, Urgency};

use crate::cluster::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_and_the_callee_knows_who_asked() {
    let (_office, one, two) = pair();
    assert_eq!(ask(&one, 2, ECHO).await.unwrap(), "hello");
    assert_eq!(ask(&one, 2, WHO).await.unwrap(), "1");
    assert_eq!(ask(&two, 1, WHO).await.unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_as_long_as_the_limit_goes_there_and_back_and_a_longer_one_is_not_sent() {
    let (_office, one, _two) = pair();
    let most = 8 << 20;
    let call = async |bytes| {
        let body = Bytes::from(vec![7; bytes]);
        one.mesh
            .call(PeerId::new(2), Urgency::Call, ECHO, body, LONG)
            .await
    };
    assert_eq!(call(most).await.unwrap().len(), most);
    assert_eq!(call(0).await.unwrap().len(), 0);
    let told = call(most + 1).await.unwrap_err();
    assert!(matches!(told, CallError::TooLarge { .. }), "{told}");
}

#[tokio::test]
async fn a_refusal_carries_its_reason() {
    let (_office, one, _two) = pair();
    let told = ask(&one, 2, REFUSE).await.unwrap_err();
    let expected = CallError::Refused {
        peer: PeerId::new(2),
        reason: "not today".to_owned(),
    };
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_panic_of_the_handler_interrupts_its_call_and_no_other() {
    let (_office, one, _two) = pair();
    let told = ask(&one, 2, PANIC).await.unwrap_err();
    assert!(matches!(told, CallError::Interrupted { .. }), "{told}");
    assert_eq!(ask(&one, 2, ECHO).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_call_to_nobody_is_refused_at_once() {
    let (_office, one, _two) = pair();
    for nobody in [1, 3] {
        let told = ask(&one, nobody, ECHO).await.unwrap_err();
        assert!(matches!(told, CallError::UnknownPeer { .. }), "{told}");
    }
}

#[tokio::test]
async fn the_deadline_ends_a_call_on_both_sides() {
    let (_office, one, two) = pair();
    ask(&one, 2, ECHO).await.unwrap();
    let deadline = Duration::from_millis(100);
    let told = one
        .mesh
        .call(PeerId::new(2), Urgency::Call, HANG, Bytes::new(), deadline)
        .await
        .unwrap_err();
    assert!(matches!(told, CallError::Timeout { .. }), "{told}");
    two.handler.dropped.notified().await;
}

#[tokio::test]
async fn dropping_a_call_ends_the_work_on_it() {
    let (_office, one, two) = pair();
    let mesh = one.mesh.clone();
    let call = tokio::spawn(async move {
        let peer = PeerId::new(2);
        mesh.call(peer, Urgency::Call, HANG, Bytes::new(), LONG)
            .await
    });
    two.handler.began.notified().await;
    call.abort();
    two.handler.dropped.notified().await;
    assert_eq!(ask(&one, 2, ECHO).await.unwrap(), "hello");
}

#[tokio::test]
async fn without_a_peer_a_call_ends_unsent_at_its_deadline() {
    let office = Office::new("test");
    let one = node(office.identity(1));
    // A socket that answers nothing.
    let silent = std::net::UdpSocket::bind(any_port()).unwrap();
    one.mesh
        .set_members(member(2, silent.local_addr().unwrap()));
    let deadline = Duration::from_millis(100);
    let told = one
        .mesh
        .call(PeerId::new(2), Urgency::Vote, ECHO, Bytes::new(), deadline)
        .await
        .unwrap_err();
    assert!(matches!(told, CallError::Unreachable { .. }), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_frames_come_in_order_while_more_are_sent() {
    let (_office, one, _two) = pair();
    let (mut sender, mut receiver) = one
        .mesh
        .open(
            PeerId::new(2),
            Urgency::Append,
            Service(9),
            "begin".into(),
            LONG,
        )
        .await
        .unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "begin");
    let sending = tokio::spawn(async move {
        for number in 0..10_000_u32 {
            let frame = Bytes::copy_from_slice(&number.to_be_bytes());
            sender.send(Urgency::Append, frame).await.unwrap();
        }
        sender.finish();
    });
    for number in 0..10_000_u32 {
        let frame = receiver.next().await.unwrap().unwrap();
        assert_eq!(frame[..], number.to_be_bytes());
    }
    assert_eq!(receiver.next().await.unwrap(), None);
    sending.await.unwrap();
}

#[tokio::test]
async fn a_sender_that_is_dropped_is_not_mistaken_for_the_end() {
    let (_office, one, _two) = pair();
    let (sender, mut receiver) = one
        .mesh
        .open(PeerId::new(2), Urgency::Call, ECHO, "begin".into(), LONG)
        .await
        .unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "begin");
    drop(sender);
    let told = receiver.next().await.unwrap_err();
    assert!(matches!(told, CallError::Interrupted { .. }), "{told}");
    assert_eq!(receiver.next().await.unwrap_err(), told);
}

#[tokio::test]
async fn the_status_of_a_peer_shows_round_trip_and_bytes() {
    let (_office, one, two) = pair();
    ask(&one, 2, ECHO).await.unwrap();
    ask(&two, 1, ECHO).await.unwrap();
    let [status] = &one.mesh.peers()[..] else {
        panic!("one peer was expected");
    };
    assert_eq!(status.id, PeerId::new(2));
    assert_eq!(status.address, two.address().to_string());
    assert_eq!(status.version, Some(1));
    assert!(status.connected_for.is_some());
    assert!(status.rtt.unwrap() < Duration::from_secs(1));
    assert!(status.sent_bytes > 1000 && status.received_bytes > 1000);
    assert!(status.incoming >= 1);
}
