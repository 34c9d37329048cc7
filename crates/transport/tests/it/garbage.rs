//! Members that send nonsense, and strangers that send worse. Whoever else there is notices
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use meson_transport::{Identity, PeerId};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream};
use rustls::time_provider::TimeProvider;
use serde::Serialize;

use crate::cluster::*;

/// A member's certificate in the hands of a program that is not ours.
struct Rogue {
    connection: Connection,
    // It lives as long as its connection.
    _endpoint: Endpoint,
}

#[derive(Serialize)]
struct Greeting {
    versions: Range,
    cluster: &'static str,
    node: u64,
    incarnation: u64,
    lane: &'static str,
}

#[derive(Serialize)]
struct Range {
    min: u16,
    max: u16,
}

#[derive(Serialize)]
struct Head {
    kind: u8,
    service: u8,
    urgency: u8,
    time_left_us: u64,
}

fn frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], content].concat()
}

fn head(kind: u8) -> Vec<u8> {
    frame(
        &rmp_serde::to_vec_named(&Head {
            kind,
            service: ECHO.0,
            urgency: 3,
            time_left_us: 10_000_000,
        })
        .unwrap(),
    )
}

impl Rogue {
    /// Connected, and silent.
    async fn connect(identity: &Identity, to: &Node) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clock: Arc<dyn TimeProvider> = WallClock::showing(Duration::ZERO);
        let mut tls = rustls::ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(identity.roots().clone())
            .with_client_auth_cert(identity.chain().to_vec(), identity.key().clone_key())
            .unwrap();
        tls.alpn_protocols = vec![b"meson/1".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::client(any_port()).unwrap();
        let name = format!("node-{}.test.meson", to.mesh.id());
        let connection = endpoint
            .connect_with(config, to.address(), &name)
            .unwrap()
            .await
            .unwrap();
        Self {
            connection,
            _endpoint: endpoint,
        }
    }

    /// Connected, and greeted as ours are.
    async fn greeted(identity: &Identity, to: &Node) -> Self {
        let rogue = Self::connect(identity, to).await;
        let greeting = Greeting {
            versions: Range { min: 1, max: 1 },
            cluster: "test",
            node: identity.id().get(),
            incarnation: 1 << 63,
            lane: "Main",
        };
        let (mut send, mut receive) = rogue.connection.open_bi().await.unwrap();
        let greeting = rmp_serde::to_vec_named(&greeting).unwrap();
        send.write_all(&frame(&greeting)).await.unwrap();
        send.finish().unwrap();
        assert!(!receive.read_to_end(4096).await.unwrap().is_empty());
        rogue
    }

    async fn send(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        // A stream that is refused in the middle says so to whoever reads it.
        let _ = send.write_all(bytes).await;
        (send, receive)
    }

    /// It is still served.
    async fn is_served(&self) {
        let bytes = [head(0), frame(b"a proper call")].concat();
        let (mut send, mut receive) = self.send(&bytes).await;
        send.finish().unwrap();
        let answer = receive.read_to_end(4096).await.unwrap();
        assert_eq!(answer, frame(b"\0a proper call"));
    }
}

/// What came before, if anything, does not matter.
async fn is_reset(mut receive: RecvStream) {
    let told = loop {
        let reading = tokio::time::timeout(LONG, receive.read_chunk(4096, true));
        match reading.await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(error) => break error,
        }
    };
    assert!(matches!(told, ReadError::Reset(_)), "{told}");
}

/// Three members: one that is beset, one that is well, one that is a rogue's.
fn beset() -> (Node, Node, Identity) {
    let office = Office::new("test");
    let (one, two) = (node(office.identity(1)), node(office.identity(2)));
    introduce(&[&one, &two]);
    let identity = office.identity(3);
    let mut members = member(2, two.address());
    // A port where the rogue is not: it is dialled in vain.
    members.extend(member(3, ([127, 0, 0, 1], 9).into()));
    one.mesh.set_members(members);
    (one, two, identity)
}

#[tokio::test]
async fn garbage_resets_its_stream_and_nothing_else() {
    let (one, two, identity) = beset();
    let rogue = Rogue::greeted(&identity, &one).await;
    rogue.is_served().await;
    let too_long = (8_u32 << 20) + 1;
    let cases = [
        ("no head", frame(b"\xc1\xc1\xc1\xc1")),
        ("a head of four gigabytes", u32::MAX.to_be_bytes().to_vec()),
        ("an unknown kind", head(77)),
        (
            "a body over the limit",
            [head(0), too_long.to_be_bytes().to_vec()].concat(),
        ),
        (
            "a frame over the limit",
            [head(1), frame(b"opening"), u32::MAX.to_be_bytes().to_vec()].concat(),
        ),
    ];
    for (case, bytes) in cases {
        let before = one.mesh.counters().bad_streams;
        let (_send, receive) = rogue.send(&bytes).await;
        is_reset(receive).await;
        assert_eq!(one.mesh.counters().bad_streams, before + 1, "{case}");
        rogue.is_served().await;
        assert_eq!(ask(&two, 1, WHO).await.unwrap(), "2");
    }
    assert_eq!(rogue.connection.close_reason(), None);
}

#[tokio::test]
async fn a_stream_that_ends_in_the_middle_of_a_frame_does_no_work() {
    let (one, _two, identity) = beset();
    let rogue = Rogue::greeted(&identity, &one).await;
    let body = frame(b"half of this is missing");
    for bytes in [
        head(0)[..7].to_vec(),
        head(0),
        [head(0), body[..9].to_vec()].concat(),
    ] {
        let (mut send, receive) = rogue.send(&bytes).await;
        send.finish().unwrap();
        is_reset(receive).await;
    }
    rogue.is_served().await;
}

#[tokio::test]
async fn a_greeting_that_is_none_closes_the_connection_with_a_reason() {
    let (one, two, identity) = beset();
    let wrong = Greeting {
        versions: Range { min: 1, max: 1 },
        cluster: "test",
        node: 2,
        incarnation: 1,
        lane: "Main",
    };
    let cases = [
        ("cannot be read", frame(b"\xc1\xc1")),
        ("was announced", u32::MAX.to_be_bytes().to_vec()),
        // Somebody else's number than the certificate's.
        (
            "says it is node 2",
            frame(&rmp_serde::to_vec_named(&wrong).unwrap()),
        ),
    ];
    for (expected, bytes) in cases {
        let before = one.mesh.counters().refused_connections;
        let rogue = Rogue::connect(&identity, &one).await;
        let _halves = rogue.send(&bytes).await;
        let ConnectionError::ApplicationClosed(closed) = rogue.connection.closed().await else {
            panic!("a reason was expected");
        };
        let reason = String::from_utf8_lossy(&closed.reason);
        assert!(reason.contains(expected), "{reason}");
        until("it is counted", || {
            one.mesh.counters().refused_connections == before + 1
        })
        .await;
    }
    assert_eq!(ask(&two, 1, WHO).await.unwrap(), "2");
}

#[tokio::test]
async fn who_does_not_greet_gets_one_stream_and_is_sent_away() {
    let office = Office::new("test");
    let one = node_with(office.identity(1), any_port(), |options| {
        options.timing.connect = Duration::from_millis(300);
        options.members = member(3, ([127, 0, 0, 1], 9).into());
    });
    let rogue = Rogue::connect(&office.identity(3), &one).await;
    let (_send, _receive) = rogue.connection.open_bi().await.unwrap();
    // The second stream is not granted before the connection is closed.
    let second = tokio::time::timeout(LONG, rogue.connection.open_bi()).await;
    assert!(second.unwrap().is_err());
    assert_eq!(one.mesh.peers()[0].incoming, 0);
}

#[tokio::test]
async fn datagrams_that_are_no_quic_are_ignored() {
    let (_office, one, two) = pair();
    ask(&one, 2, ECHO).await.unwrap();
    let stranger = std::net::UdpSocket::bind(any_port()).unwrap();
    let mut noise: u64 = 0x9e37_79b9_7f4a_7c15;
    for length in (0..1500).step_by(7) {
        let datagram: Vec<u8> = (0..length)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        for node in [&one, &two] {
            // A full buffer is the stranger's problem.
            let _ = stranger.send_to(&datagram, node.address());
        }
        if length % 70 == 0 {
            assert_eq!(ask(&one, 2, ECHO).await.unwrap(), "hello");
        }
    }
    for node in [&one, &two] {
        assert!(node.mesh.peers()[0].connected_for.is_some());
    }
}

#[tokio::test]
async fn a_flood_of_connections_of_one_member_pushes_out_its_oldest() {
    let (one, two, identity) = beset();
    let mut rogues = Vec::new();
    for _ in 0..20 {
        rogues.push(Rogue::greeted(&identity, &one).await);
    }
    let told = rogues[0].connection.closed().await;
    assert!(told.to_string().contains("too many connections"), "{told}");
    rogues[19].is_served().await;
    let incoming = one
        .mesh
        .peers()
        .into_iter()
        .find(|peer| peer.id == PeerId::new(3))
        .unwrap()
        .incoming;
    assert!(incoming <= 16, "{incoming}");
    assert_eq!(ask(&two, 1, WHO).await.unwrap(), "2");
}
