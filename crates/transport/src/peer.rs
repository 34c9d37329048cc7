//! Another member, as we dial it: two lanes, each with a connection of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use meson_certs::PeerId;
use quinn::{Connection, VarInt};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::status::PeerStatus;
use crate::wire::{Lane, close};

/// A connection that we dialled and that has been greeted.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) incarnation: u64,
    pub(crate) version: u16,
    pub(crate) since: Instant,
}

/// One of the connections to a peer, whether it is there or not. `dial` keeps it up.
#[derive(Debug)]
pub(crate) struct Road {
    pub(crate) lane: Lane,
    pub(crate) link: watch::Sender<Option<Link>>,
    /// Somebody wants to use it.
    pub(crate) wanted: Notify,
    /// The peer shows signs of life: do not wait before dialling again.
    pub(crate) hurry: Notify,
}

impl Road {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            link: watch::Sender::new(None),
            wanted: Notify::new(),
            hurry: Notify::new(),
        }
    }

    pub(crate) fn up(&self) -> Option<Link> {
        usable(&self.link.borrow())
    }
}

/// A link is published a moment longer than it lives.
fn usable(link: &Option<Link>) -> Option<Link> {
    link.clone()
        .filter(|link| link.connection.close_reason().is_none())
}

/// Another member.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) address: Mutex<String>,
    pub(crate) main: Road,
    pub(crate) bulk: Road,
    /// Cancelled when it leaves, and at shutdown.
    pub(crate) gone: CancellationToken,
    last_error: Mutex<Option<String>>,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Peer {
    pub(crate) fn new(id: PeerId, address: String, gone: CancellationToken) -> Self {
        Self {
            id,
            address: Mutex::new(address),
            main: Road::new(Lane::Main),
            bulk: Road::new(Lane::Bulk),
            gone,
            last_error: Mutex::new(None),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn road(&self, lane: Lane) -> &Road {
        match lane {
            Lane::Main => &self.main,
            Lane::Bulk => &self.bulk,
        }
    }

    /// The connection, as soon as there is one; none if the peer has left. Callers set the deadline.
    pub(crate) async fn link(&self, lane: Lane) -> Option<Link> {
        let road = self.road(lane);
        let mut watching = road.link.subscribe();
        loop {
            if let Some(link) = usable(&watching.borrow_and_update()) {
                return Some(link);
            }
            road.wanted.notify_one();
            tokio::select! {
                () = self.gone.cancelled() => return None,
                // The sender lives in `road`.
                _ = watching.changed() => {}
            }
        }
    }

    /// The peer has dialled us. If it is not the process that our connections were made to, they
    /// lead nowhere: a process that was killed does not say goodbye.
    pub(crate) fn heard(&self, incarnation: u64) {
        for road in [&self.main, &self.bulk] {
            match road.up() {
                Some(link) if link.incarnation != incarnation => {
                    link.connection
                        .close(close::RESTARTED, b"the peer restarted");
                }
                Some(_) => {}
                None => road.hurry.notify_one(),
            }
        }
    }

    /// Dials it elsewhere from now on, if `address` is another one.
    pub(crate) fn moves_to(&self, address: &str) {
        {
            let mut current = lock(&self.address);
            if *current == address {
                return;
            }
            address.clone_into(&mut current);
        }
        self.close(close::MOVED, "the peer has moved");
        self.main.hurry.notify_one();
    }

    pub(crate) fn close(&self, code: VarInt, reason: &str) {
        for road in [&self.main, &self.bulk] {
            if let Some(link) = road.up() {
                link.connection.close(code, reason.as_bytes());
            }
        }
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// Remembers why there is no connection; true if that is news.
    pub(crate) fn note(&self, error: &str) -> bool {
        let mut last = lock(&self.last_error);
        let news = last.as_deref() != Some(error);
        *last = Some(error.to_owned());
        news
    }

    /// Keeps the bytes of a connection that is over.
    pub(crate) fn count(&self, connection: &Connection) {
        let stats = connection.stats();
        self.sent_bytes
            .fetch_add(stats.udp_tx.bytes, Ordering::Relaxed);
        self.received_bytes
            .fetch_add(stats.udp_rx.bytes, Ordering::Relaxed);
    }

    /// `incoming`: the connections that the peer dialled.
    pub(crate) fn status(&self, incoming: &[Connection]) -> PeerStatus {
        let main = self.main.up();
        let bulk = self.bulk.up();
        let mut status = PeerStatus {
            id: self.id,
            address: lock(&self.address).clone(),
            connected_for: main.as_ref().map(|link| link.since.elapsed()),
            rtt: main.as_ref().map(|link| link.connection.rtt()),
            version: main.as_ref().map(|link| link.version),
            bulk: bulk.is_some(),
            incoming: incoming.len(),
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            last_error: self.last_error(),
        };
        let ours = main.iter().chain(&bulk).map(|link| &link.connection);
        for connection in ours.chain(incoming) {
            let stats = connection.stats();
            status.sent_bytes += stats.udp_tx.bytes;
            status.received_bytes += stats.udp_rx.bytes;
        }
        status
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
