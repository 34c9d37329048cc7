//! The numbers that name things: shards, nodes, terms, log indexes, clusters.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a plain number.
            #[must_use]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// One Raft group, counted from 0. The number of shards is fixed when a cluster is created.
    ShardId(u16)
}

number! {
    /// A coordinator. Unique within its cluster, and kept for the life of its data directory.
    NodeId(u64)
}

number! {
    /// A Raft term: at most one node leads a shard in a term. It is also the fence that a
    /// proposer hands in with each command.
    Term(u64)
}

number! {
    /// The position of an entry in a shard's log. Entry 0 is the shard's first membership.
    LogIndex(u64)
}

/// The name of a cluster. Two clusters that meet by mistake must not share data, so it is checked
/// whenever a data directory is opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(String);

impl ClusterId {
    /// Wraps a name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The plain name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The shard that owns `key` in a cluster of `shards` shards.
///
/// 64-bit FNV-1a, finished with MurmurHash3's `fmix64` (FNV alone spreads short keys badly),
/// modulo the number of shards. The function is part of the data format: where a key's records
/// lie depends on it, so it never changes.
#[must_use]
pub fn shard_of(key: &[u8], shards: u16) -> ShardId {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in key {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    let shard = hash % u64::from(shards.max(1));
    ShardId::new(u16::try_from(shard).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_shard_forever() {
        // Computed once and frozen: a change here would orphan stored records.
        let shards: Vec<u16> = ["", "a", "run-1", "run-2", "pool/mesos-eu"]
            .iter()
            .map(|key| shard_of(key.as_bytes(), 8).get())
            .collect();
        assert_eq!(shards, FROZEN);
    }

    const FROZEN: [u16; 5] = [6, 3, 2, 1, 1];

    #[test]
    fn keys_spread_evenly_over_the_shards() {
        let mut counts = [0_u32; 8];
        for n in 0..8_000 {
            counts[usize::from(shard_of(format!("run-{n}").as_bytes(), 8).get())] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
    }
}
