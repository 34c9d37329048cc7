//! Members come, move, leave; versions differ.

use std::time::Duration;

use bytes::Bytes;
use meson_transport::{CallError, Members, PeerId, Service, Urgency, Versions};

use crate::cluster::*;

#[tokio::test]
async fn connections_of_a_member_that_left_are_closed_in_both_directions() {
    let (_office, one, two) = pair();
    let (mut sender, mut receiver) = two
        .mesh
        .open(
            PeerId::new(1),
            Urgency::Call,
            Service(9),
            "begin".into(),
            LONG,
        )
        .await
        .unwrap();
    receiver.next().await.unwrap();
    ask(&one, 2, ECHO).await.unwrap();

    one.mesh.set_members(Members::new());
    let told = ask(&one, 2, ECHO).await.unwrap_err();
    assert!(matches!(told, CallError::UnknownPeer { .. }), "{told}");
    // The one that left is told, and its streams end.
    assert!(receiver.next().await.is_err());
    assert!(
        sender
            .send(Urgency::Call, Bytes::from("more"))
            .await
            .is_err()
    );
    until("node 2 is told", || last_error(&two).contains("member")).await;
    until("node 1's connection to it is gone", || {
        two.mesh.peers()[0].incoming == 0
    })
    .await;

    introduce(&[&one, &two]);
    assert_eq!(ask(&two, 1, WHO).await.unwrap(), "2");
    assert_eq!(ask(&one, 2, WHO).await.unwrap(), "1");
}

#[tokio::test]
async fn a_member_that_moved_is_dialled_at_its_new_address() {
    let office = Office::new("test");
    let (one, two) = (node(office.identity(1)), node(office.identity(2)));
    let silent = std::net::UdpSocket::bind(any_port()).unwrap();
    one.mesh
        .set_members(member(2, silent.local_addr().unwrap()));
    two.mesh.set_members(member(1, one.address()));
    one.mesh.set_members(member(2, two.address()));
    assert_eq!(ask(&one, 2, WHO).await.unwrap(), "1");
}

#[tokio::test]
async fn a_route_goes_before_the_address_in_the_members_list() {
    let office = Office::new("test");
    let two = node(office.identity(2));
    let silent = std::net::UdpSocket::bind(any_port()).unwrap();
    let one = node_with(office.identity(1), any_port(), |options| {
        options.members = member(2, silent.local_addr().unwrap());
        // A name is looked up.
        let route = format!("localhost:{}", two.address().port());
        options.routes = Members::from([(PeerId::new(2), route)]);
    });
    two.mesh.set_members(member(1, one.address()));
    assert_eq!(ask(&one, 2, WHO).await.unwrap(), "1");
}

#[tokio::test]
async fn neighbouring_releases_agree_on_the_newest_common_version() {
    let office = Office::new("test");
    let speaking = |id, min, max| {
        node_with(office.identity(id), any_port(), |options| {
            options.versions = Versions { min, max };
        })
    };
    let (one, two) = (speaking(1, 1, 2), speaking(2, 2, 3));
    introduce(&[&one, &two]);
    for (node, other) in [(&one, 2), (&two, 1)] {
        ask(node, other, ECHO).await.unwrap();
        assert_eq!(node.mesh.peers()[0].version, Some(2));
    }
}

#[tokio::test]
async fn releases_too_far_apart_part_with_a_reason() {
    let office = Office::new("test");
    let old = node(office.identity(1));
    let new = node_with(office.identity(2), any_port(), |options| {
        options.versions = Versions { min: 2, max: 3 };
    });
    introduce(&[&old, &new]);
    until("both know why", || {
        [&old, &new]
            .iter()
            .all(|node| last_error(node).contains("no protocol version in common"))
    })
    .await;
    assert!(
        last_error(&old).contains("speaks 2 to 3"),
        "{}",
        last_error(&old)
    );
    until("it is counted", || {
        old.mesh.counters().refused_connections > 0
    })
    .await;
    let deadline = Duration::from_millis(100);
    let told = old
        .mesh
        .call(PeerId::new(2), Urgency::Call, ECHO, Bytes::new(), deadline)
        .await
        .unwrap_err();
    assert!(matches!(told, CallError::Unreachable { .. }), "{told}");
}

#[tokio::test]
async fn nothing_runs_after_a_shutdown_and_the_peer_knows_at_once() {
    let (_office, one, two) = pair();
    let (_sender, mut receiver) = one
        .mesh
        .open(PeerId::new(2), Urgency::Call, HANG, "begin".into(), LONG)
        .await
        .unwrap();
    ask(&one, 2, ECHO).await.unwrap();
    // The handler of that stream waits for something that never comes, and is dropped.
    two.mesh.shutdown().await;
    let told = receiver.next().await.unwrap_err();
    assert!(told.to_string().contains("shutting down"), "{told}");
    let told = ask(&two, 1, ECHO).await.unwrap_err();
    assert!(matches!(told, CallError::Unreachable { .. }), "{told}");
    assert!(two.mesh.peers().is_empty());
    assert_eq!(std::sync::Arc::strong_count(&two.handler), 2);
}
