//! One link: a socket that node `i` dials instead of node `j`, and what comes back.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::lane::{Lane, Rules};

/// Largest datagram.
const PACKET_BYTES: usize = 65_536;

/// Most sockets of the dialling node that are kept apart. A node has one; each restart may bring another.
const MOST_CLIENTS: usize = 64;

/// What a link is made of.
pub(crate) struct Link {
    /// Where the dialling node's packets arrive.
    pub(crate) socket: UdpSocket,
    /// The node that is dialled.
    pub(crate) to: SocketAddr,
    /// From the dialling node to the dialled one.
    pub(crate) forth: Rules,
    /// Answers.
    pub(crate) back: Rules,
    /// For the fates of packets.
    pub(crate) seed: u64,
}

impl Link {
    /// Forwards until it is dropped.
    pub(crate) async fn run(self) -> io::Result<()> {
        let front = Arc::new(self.socket);
        let mut lane = Lane::new(self.forth, StdRng::seed_from_u64(self.seed));
        let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        // The way back has a task for each client, all of which end with this one.
        let mut returns = JoinSet::new();
        let mut buffer = vec![0; PACKET_BYTES];
        loop {
            let due = lane.next_due();
            tokio::select! {
                received = front.recv_from(&mut buffer) => {
                    // An ICMP error of an earlier packet: the other side is down, which is the point.
                    let Ok((length, client)) = received else { continue };
                    let upstream = match clients.get(&client) {
                        Some(upstream) => upstream.clone(),
                        None if clients.len() >= MOST_CLIENTS => continue,
                        None => {
                            let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                            upstream.connect(self.to).await?;
                            let upstream = Arc::new(upstream);
                            clients.insert(client, upstream.clone());
                            let random = StdRng::seed_from_u64(
                                self.seed ^ (0xb4c4 + clients.len() as u64) << 40,
                            );
                            let back = Lane::new(self.back.clone(), random);
                            returns.spawn(give_back(upstream.clone(), front.clone(), client, back));
                            upstream
                        }
                    };
                    let packet = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                    lane.offer(Instant::now(), upstream, packet);
                }
                () = arrive(due) => {}
            }
            while let Some((upstream, packet)) = lane.arrived(Instant::now()) {
                // A refused packet is a lost packet.
                let _ = upstream.send(&packet).await;
            }
        }
    }
}

async fn give_back(
    upstream: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    client: SocketAddr,
    mut lane: Lane<()>,
) {
    let mut buffer = vec![0; PACKET_BYTES];
    loop {
        let due = lane.next_due();
        tokio::select! {
            received = upstream.recv(&mut buffer) => {
                let Ok(length) = received else { continue };
                let packet = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                lane.offer(Instant::now(), (), packet);
            }
            () = arrive(due) => {}
        }
        while let Some(((), packet)) = lane.arrived(Instant::now()) {
            let _ = front.send_to(&packet, client).await;
        }
    }
}

/// Sleeps until then; for ever if there is no then.
async fn arrive(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
