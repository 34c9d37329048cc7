//! Keeps the connections to one peer up.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use meson_certs::dns_name;
use quinn::ConnectionError;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

use crate::mesh::Shared;
use crate::options::MeshTiming;
use crate::peer::{Link, Peer, Road};
use crate::tls;
use crate::wire::{self, Lane, close};

/// Attempts at one time: one that may be waiting for a peer that is just coming up, and one that
/// starts afresh when that peer shows signs of life.
const MAX_ATTEMPTS: usize = 2;

/// Dials, waits until the connection is lost, dials again; until the peer leaves.
pub(crate) async fn keep_up(shared: Arc<Shared>, peer: Arc<Peer>, lane: Lane, seed: u64) {
    let road = peer.road(lane);
    let gone = peer.gone.clone();
    let keep = async {
        let mut backoff = Backoff::new(&shared.timing, seed);
        loop {
            if lane == Lane::Bulk {
                road.wanted.notified().await;
            }
            let link = connect(&shared, &peer, road, &mut backoff).await;
            let connection = link.connection.clone();
            let since = link.since;
            road.link.send_replace(Some(link));
            let end = connection.closed().await;
            road.link.send_replace(None);
            peer.count(&connection);
            let reason = wire::explain(&end);
            peer.note(&reason);
            if end == ConnectionError::LocallyClosed {
                // We know that it restarted or moved: it is worth dialling at once.
                backoff.reset();
                tracing::info!(peer = %peer.id, ?lane, "dialling again");
                continue;
            }
            tracing::warn!(peer = %peer.id, ?lane, reason, "lost the connection");
            if since.elapsed() >= shared.timing.backoff_max {
                backoff.reset();
            } else {
                pause(road, &mut backoff).await;
            }
        }
    };
    tokio::select! {
        () = gone.cancelled() => {}
        () = keep => {}
    }
    if let Some(link) = road.link.send_replace(None) {
        link.connection
            .close(close::SHUTDOWN, b"this node no longer dials you");
        peer.count(&link.connection);
    }
}

async fn connect(shared: &Shared, peer: &Peer, road: &Road, backoff: &mut Backoff) -> Link {
    loop {
        let reason = match race(shared, peer, road, backoff).await {
            Ok(link) => {
                tracing::info!(
                    peer = %peer.id, lane = ?road.lane, version = link.version,
                    address = %link.connection.remote_address(), "connected"
                );
                return link;
            }
            Err(reason) => reason,
        };
        if peer.note(&reason) && road.lane == Lane::Main {
            tracing::warn!(peer = %peer.id, reason, "cannot connect; trying again");
        } else {
            tracing::debug!(peer = %peer.id, lane = ?road.lane, reason, "cannot connect");
        }
        pause(road, backoff).await;
    }
}

/// One attempt, and a second one beside it if the peer shows signs of life meanwhile: the first
/// may have sent its packets before the peer listened, and would send them again only late. The
/// first is not given up, because the second is not faster than a long way allows.
async fn race(
    shared: &Shared,
    peer: &Peer,
    road: &Road,
    backoff: &mut Backoff,
) -> Result<Link, String> {
    let mut attempts = FuturesUnordered::new();
    attempts.push(attempt(shared, peer, road.lane));
    loop {
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(link) => return Ok(link),
                Err(reason) if attempts.is_empty() => return Err(reason),
                Err(_) => {}
            },
            () = road.hurry.notified(), if attempts.len() < MAX_ATTEMPTS => {
                backoff.reset();
                attempts.push(attempt(shared, peer, road.lane));
            }
        }
    }
}

async fn attempt(shared: &Shared, peer: &Peer, lane: Lane) -> Result<Link, String> {
    let place = shared.place_of(peer);
    let connecting = async {
        let address = resolve(&place, shared.local).await?;
        let config = shared
            .client
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let name = dns_name(peer.id, &shared.introduction.cluster);
        let connection = shared
            .endpoint
            .connect_with(config, address, &name)
            .map_err(|error| error.to_string())?
            .await
            .map_err(|error| wire::explain(&error))?;
        let (id, cluster) = tls::peer_of(&connection)?;
        if id != peer.id || cluster != shared.introduction.cluster {
            let reason = format!("node {id} of {cluster:?} answers there");
            connection.close(close::BAD_GREETING, reason.as_bytes());
            return Err(reason);
        }
        let greeted = shared
            .introduction
            .greet(&connection, peer.id, lane, &shared.complaints)
            .await?;
        Ok(Link {
            connection,
            incarnation: greeted.incarnation,
            version: greeted.version,
            since: Instant::now(),
        })
    };
    match timeout(shared.timing.connect, connecting).await {
        Ok(result) => result.map_err(|reason| format!("at {place}: {reason}")),
        Err(_) => Err(format!(
            "at {place}: no answer within {:?}",
            shared.timing.connect
        )),
    }
}

/// An address that our socket can send to.
async fn resolve(place: &str, local: SocketAddr) -> Result<SocketAddr, String> {
    if let Ok(address) = place.parse() {
        return Ok(address);
    }
    let found = tokio::net::lookup_host(place)
        .await
        .map_err(|error| format!("cannot look up its address: {error}"))?;
    let mut all: Vec<_> = found.collect();
    all.sort_by_key(|address| address.is_ipv4() != local.is_ipv4());
    all.into_iter()
        .next()
        .ok_or_else(|| "its name has no address".to_owned())
}

/// Waits until the next attempt, or until the peer shows signs of life.
async fn pause(road: &Road, backoff: &mut Backoff) {
    tokio::select! {
        () = sleep(backoff.next()) => {}
        () = road.hurry.notified() => backoff.reset(),
    }
}

/// Waits that double, with jitter so that nodes do not dial in step.
struct Backoff {
    min: Duration,
    max: Duration,
    current: Duration,
    random: StdRng,
}

impl Backoff {
    fn new(timing: &MeshTiming, seed: u64) -> Self {
        Self {
            min: timing.backoff_min,
            max: timing.backoff_max,
            current: timing.backoff_min,
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn next(&mut self) -> Duration {
        let wait = self.current.mul_f64(self.random.random_range(0.5..=1.0));
        self.current = self.current.saturating_mul(2).min(self.max);
        wait
    }

    fn reset(&mut self) {
        self.current = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again() {
        let timing = MeshTiming::default();
        let mut backoff = Backoff::new(&timing, 7);
        let mut expected = timing.backoff_min;
        for _ in 0..20 {
            let wait = backoff.next();
            assert!(
                wait <= expected && wait >= expected / 2,
                "{wait:?} of {expected:?}"
            );
            expected = (expected * 2).min(timing.backoff_max);
        }
        backoff.reset();
        assert!(backoff.next() <= timing.backoff_min);
    }
}
