//! A process that was killed says no goodbye. Its peers find its next life without waiting for
//! the idle timeout, which these tests put out of reach.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use meson_transport::{CallError, Identity, Members, MeshOptions, PeerId, Urgency};
use tokio::runtime::Runtime;

use crate::cluster::*;

/// A node with a runtime of its own, so that it can be killed.
struct Process {
    runtime: Runtime,
    node: Node,
}

impl Process {
    fn start(
        identity: Identity,
        listen: SocketAddr,
        adjust: impl FnOnce(&mut MeshOptions),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let node = {
            let _inside = runtime.enter();
            node_with(identity, listen, |options| {
                patient(options);
                adjust(options);
            })
        };
        Self { runtime, node }
    }

    /// Ends it, without a word to anybody, and frees its port.
    async fn kill(self) {
        let address = self.node.address();
        let Self { runtime, node } = self;
        drop(node);
        runtime.shutdown_background();
        until("the port is free", || {
            std::net::UdpSocket::bind(address).is_ok()
        })
        .await;
    }
}

/// Would wait for an hour.
fn patient(options: &mut MeshOptions) {
    options.timing.idle_timeout = Duration::from_secs(3600);
}

/// What was sent to the former life is interrupted, and then there are answers.
async fn answers_again(one: &Node) {
    loop {
        match ask(one, 2, WHO).await {
            Ok(answer) => return assert_eq!(answer, "1"),
            Err(CallError::Interrupted { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

fn patient_node(identity: Identity) -> Node {
    node_with(identity, any_port(), patient)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peer_that_comes_back_with_a_new_key_is_known_by_its_greeting() {
    let office = Office::new("test");
    let one = patient_node(office.identity(1));
    let first = Process::start(office.identity(2), any_port(), |_| {});
    let address = first.node.address();
    introduce(&[&one, &first.node]);
    ask(&one, 2, ECHO).await.unwrap();
    let mesh = one.mesh.clone();
    let hanging = tokio::spawn(async move {
        let peer = PeerId::new(2);
        mesh.call(peer, Urgency::Call, HANG, Bytes::new(), LONG)
            .await
    });
    first.node.handler.began.notified().await;
    first.kill().await;

    let second = Process::start(office.identity(2), address, |options| {
        options.members = member(1, one.address());
    });
    answers_again(&one).await;
    let told = hanging.await.unwrap().unwrap_err();
    assert!(matches!(told, CallError::Interrupted { .. }), "{told}");
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peer_that_comes_back_with_its_key_is_found_even_if_it_cannot_dial_us() {
    let office = Office::new("test");
    let one = patient_node(office.identity(1));
    let identity = office.identity(2);
    // To node 2, node 1 is at an address where nobody listens: only node 1 dials.
    let silent = std::net::UdpSocket::bind(any_port()).unwrap();
    let deaf = |options: &mut MeshOptions| {
        let nowhere = silent.local_addr().unwrap();
        options.members = member(1, nowhere);
    };
    let first = Process::start(identity.clone(), any_port(), deaf);
    let address = first.node.address();
    one.mesh.set_members(member(2, address));
    ask(&one, 2, ECHO).await.unwrap();
    first.kill().await;

    let second = Process::start(identity, address, deaf);
    answers_again(&one).await;
    assert!(
        last_error(&one).contains("reset by peer"),
        "{}",
        last_error(&one)
    );
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peer_that_starts_late_is_reached_as_soon_as_it_dials_us() {
    let office = Office::new("test");
    let one = node_with(office.identity(1), any_port(), |options| {
        // Without the peer's sign of life, the second attempt would be an hour away.
        options.timing.backoff_min = Duration::from_secs(3600);
        options.timing.backoff_max = Duration::from_secs(3600);
    });
    let placeholder = std::net::UdpSocket::bind(any_port()).unwrap();
    let address = placeholder.local_addr().unwrap();
    one.mesh.set_members(member(2, address));
    until("the first attempt has failed", || {
        last_error(&one).contains("no answer")
    })
    .await;
    drop(placeholder);
    let two = node_with(office.identity(2), address, |options| {
        options.members = Members::from([(PeerId::new(1), one.address().to_string())]);
    });
    assert_eq!(ask(&one, 2, WHO).await.unwrap(), "1");
    drop(two);
}

/// Notices silence soon.
fn impatient(options: &mut MeshOptions) {
    options.timing.keep_alive = Duration::from_millis(100);
    options.timing.idle_timeout = Duration::from_millis(500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_kept_and_a_dead_peer_is_noticed() {
    let office = Office::new("test");
    let one = node_with(office.identity(1), any_port(), impatient);
    let two = Process::start(office.identity(2), any_port(), impatient);
    introduce(&[&one, &two.node]);
    until("it has been idle for longer than the timeout", || {
        one.mesh.peers()[0].connected_for > Some(Duration::from_millis(1500))
    })
    .await;
    assert_eq!(one.mesh.peers()[0].last_error, None);

    let mesh = one.mesh.clone();
    let call = tokio::spawn(async move {
        let peer = PeerId::new(2);
        mesh.call(peer, Urgency::Call, HANG, Bytes::new(), LONG)
            .await
    });
    two.node.handler.began.notified().await;
    two.kill().await;
    let told = call.await.unwrap().unwrap_err();
    assert!(matches!(told, CallError::Interrupted { .. }), "{told}");
    assert_eq!(one.mesh.peers()[0].connected_for, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_processes_that_run_as_the_same_node_are_noticed() {
    let office = Office::new("test");
    let one = node(office.identity(1));
    let identity = office.identity(2);
    let dials = |options: &mut MeshOptions| options.members = member(1, one.address());
    let first = node_with(identity.clone(), any_port(), dials);
    one.mesh.set_members(member(2, first.address()));
    ask(&first, 1, ECHO).await.unwrap();
    assert_eq!(one.mesh.counters().twins, 0);
    // Each is sent away when the other comes, and comes back.
    let _second = node_with(identity, any_port(), dials);
    until("they are noticed", || one.mesh.counters().twins > 0).await;
}
