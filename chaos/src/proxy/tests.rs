//! The network with real sockets.

use tokio::time::{Instant, timeout};

use super::*;

/// Two nodes, each of which dials the other.
struct Two {
    network: Network,
    one: UdpSocket,
    two: UdpSocket,
}

const SOON: Duration = Duration::from_secs(5);
/// Long enough for a packet on loopback, by far.
const NEVER: Duration = Duration::from_millis(150);

impl Two {
    async fn open() -> Self {
        let one = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let two = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let nodes = [
            (1, one.local_addr().unwrap()),
            (2, two.local_addr().unwrap()),
        ];
        let network = Network::open(&nodes.into(), 3).await.unwrap();
        Self { network, one, two }
    }

    /// Node 1 says something on the connection that it opened.
    async fn ask(&self, text: &[u8]) {
        let route = self.network.route(1, 2).unwrap();
        self.one.send_to(text, route).await.unwrap();
    }
}

async fn hear(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 100];
    let (length, from) = timeout(SOON, socket.recv_from(&mut buffer))
        .await
        .expect("a packet arrives")
        .unwrap();
    (buffer[..length].to_vec(), from)
}

async fn silent(socket: &UdpSocket) -> bool {
    let mut buffer = [0; 100];
    timeout(NEVER, socket.recv_from(&mut buffer)).await.is_err()
}

#[tokio::test]
async fn packets_go_there_and_back() {
    let two = Two::open().await;
    two.ask(b"ping").await;
    let (text, from) = hear(&two.two).await;
    assert_eq!(text, b"ping");
    two.two.send_to(b"pong", from).await.unwrap();
    let (text, from) = hear(&two.one).await;
    assert_eq!(text, b"pong");
    assert_eq!(Some(from), two.network.route(1, 2), "it seems to be node 2");
}

#[tokio::test]
async fn a_one_way_cut_stops_questions_and_answers_of_one_node_only() {
    let two = Two::open().await;
    two.ask(b"ping").await;
    let (_, opened_by_one) = hear(&two.two).await;
    let route = two.network.route(2, 1).unwrap();
    two.two.send_to(b"hello", route).await.unwrap();
    let (_, opened_by_two) = hear(&two.one).await;

    two.network.cut(2, 1);
    two.two.send_to(b"an answer", opened_by_one).await.unwrap();
    two.two.send_to(b"a question", route).await.unwrap();
    assert!(silent(&two.one).await, "nothing of node 2 reaches node 1");
    two.ask(b"are you there?").await;
    assert_eq!(hear(&two.two).await.0, b"are you there?");
    two.one
        .send_to(b"hello yourself", opened_by_two)
        .await
        .unwrap();
    assert_eq!(hear(&two.two).await.0, b"hello yourself");

    two.network.heal();
    two.two.send_to(b"yes", opened_by_one).await.unwrap();
    assert_eq!(hear(&two.one).await.0, b"yes");
}

#[tokio::test]
async fn an_isolated_node_is_back_after_the_healing() {
    let two = Two::open().await;
    two.network.isolate(2);
    assert_eq!(two.network.cuts(), [(1, 2), (2, 1)].into());
    two.ask(b"lost").await;
    assert!(silent(&two.two).await);
    two.network.heal();
    assert!(two.network.cuts().is_empty());
    two.ask(b"found").await;
    assert_eq!(hear(&two.two).await.0, b"found");
}

#[tokio::test]
async fn a_distance_delays_and_survives_the_healing() {
    let two = Two::open().await;
    two.network.distance(1, 2, Shape::slow(60, 0));
    two.network.isolate(1);
    two.network.heal();
    let before = Instant::now();
    two.ask(b"far").await;
    hear(&two.two).await;
    assert!(before.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn a_duplicated_packet_arrives_twice() {
    let two = Two::open().await;
    two.network.shape_all(Shape {
        duplicate: 1.0,
        ..Shape::default()
    });
    two.ask(b"twice").await;
    assert_eq!(hear(&two.two).await.0, b"twice");
    assert_eq!(hear(&two.two).await.0, b"twice");
}

#[tokio::test]
async fn a_flapping_node_comes_and_goes() {
    let two = Two::open().await;
    let often = Duration::from_millis(20);
    two.network.flap(2, often, often);
    let deadline = Instant::now() + SOON;
    let (mut seen_cut, mut seen_whole) = (false, false);
    while !(seen_cut && seen_whole) {
        assert!(Instant::now() < deadline, "it is always the same");
        let cut = !two.network.cuts().is_empty();
        seen_cut |= cut;
        seen_whole |= seen_cut && !cut;
        sleep(Duration::from_millis(1)).await;
    }
    two.network.heal();
    assert!(two.network.cuts().is_empty());
}

#[tokio::test]
async fn groups_of_a_split_hear_their_own() {
    let mut sockets = BTreeMap::new();
    for node in 1..=5 {
        sockets.insert(
            node,
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
        );
    }
    let addresses = sockets
        .iter()
        .map(|(node, socket)| (*node, socket.local_addr().unwrap()))
        .collect();
    let network = Network::open(&addresses, 1).await.unwrap();
    network.split(&[&[1, 2]]);
    let cuts = network.cuts();
    assert!(!cuts.contains(&(1, 2)) && !cuts.contains(&(3, 5)));
    assert!(cuts.contains(&(1, 3)) && cuts.contains(&(5, 2)));
    assert_eq!(cuts.len(), 12);
}
