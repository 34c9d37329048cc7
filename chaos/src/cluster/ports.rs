//! Free ports.
//!
//! They are not those that the system gives out for port 0: a node that is down for a while would find its
//! port taken by some outgoing connection. So they are looked for below the range for these.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Result, bail};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Below the range of outgoing connections (`net.ipv4.ip_local_port_range` begins at 32768).
const RANGE: std::ops::Range<u16> = 12_000..31_000;

/// So many ports that are free for TCP and for UDP.
pub(super) fn free(count: usize, seed: u64) -> Result<Vec<u16>> {
    // Harnesses that run side by side with the same seed must not look at the same ports.
    let mut random = StdRng::seed_from_u64(seed ^ u64::from(std::process::id()) << 20);
    let mut found: Vec<u16> = Vec::new();
    for _ in 0..10_000 {
        let port = random.random_range(RANGE);
        let free = !found.contains(&port)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free {
            found.push(port);
        }
        if found.len() == count {
            return Ok(found);
        }
    }
    bail!("there are no {count} free ports between {RANGE:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_all_different() {
        let mut ports = free(20, 1).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
