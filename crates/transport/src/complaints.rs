//! Strangers, and members that send nonsense: counted always, told now and then.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use meson_certs::PeerId;
use tokio::time::Instant;

/// One line of the log per address in this time, whatever comes from there.
const QUIET: Duration = Duration::from_secs(60);
/// So many addresses are remembered; while they are all recent, others are only counted.
const MAX_ADDRESSES: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Complaints {
    refused: AtomicU64,
    bad_streams: AtomicU64,
    twins: AtomicU64,
    connections: Recent,
    streams: Recent,
    doubles: Recent,
}

impl Complaints {
    /// A connection was not let in.
    pub(crate) fn connection(&self, address: SocketAddr, reason: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        if self.connections.is_first(address.ip()) {
            tracing::warn!(%address, reason, "refused a connection");
        } else {
            tracing::debug!(%address, reason, "refused a connection");
        }
    }

    /// A stream carried what it should not.
    pub(crate) fn stream(&self, address: SocketAddr, peer: PeerId, reason: &str) {
        self.bad_streams.fetch_add(1, Ordering::Relaxed);
        if self.streams.is_first(address.ip()) {
            tracing::warn!(%address, %peer, reason, "reset a stream");
        } else {
            tracing::debug!(%address, %peer, reason, "reset a stream");
        }
    }

    /// Two processes run under one number: their certificate and their data were copied.
    pub(crate) fn twins(&self, peer: PeerId, one: SocketAddr, other: SocketAddr) {
        self.twins.fetch_add(1, Ordering::Relaxed);
        if self.doubles.is_first(one.ip()) {
            tracing::error!(%peer, %one, %other, "two processes run as the same node, with the same data: stop the one that should not, and never start it again");
        }
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn seen_twins(&self) -> u64 {
        self.twins.load(Ordering::Relaxed)
    }

    pub(crate) fn bad_streams(&self) -> u64 {
        self.bad_streams.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Recent(Mutex<BTreeMap<IpAddr, Instant>>);

impl Recent {
    fn is_first(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.get_mut(&address) {
            let first = now.duration_since(*last) >= QUIET;
            if first {
                *last = now;
            }
            return first;
        }
        if seen.len() >= MAX_ADDRESSES {
            seen.retain(|_, last| now.duration_since(*last) < QUIET);
        }
        if seen.len() >= MAX_ADDRESSES {
            return false;
        }
        seen.insert(address, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_told_once_a_minute_and_memory_is_bounded() {
        let recent = Recent::default();
        let address = |n: u32| IpAddr::V4(n.into());
        assert!(recent.is_first(address(1)) && !recent.is_first(address(1)));
        tokio::time::advance(QUIET).await;
        assert!(recent.is_first(address(1)));
        let told = (2..5000).filter(|n| recent.is_first(address(*n))).count();
        assert_eq!(told, MAX_ADDRESSES - 1);
        tokio::time::advance(QUIET).await;
        assert!(recent.is_first(address(9999)));
    }
}
