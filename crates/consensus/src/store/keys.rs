//! The layout of keys and of the fixed-size records. Big-endian throughout, so that the order of
//! keys is the order of numbers.
//!
//! ```text
//! log    shard:u16 index:u64             → entry
//! meta   shard:u16 kind:u8               → vote | purge mark | applied mark | membership
//! state  shard:u16 generation:u32 key…   → the state machine's value
//! ```
//!
//! The generation lets a received snapshot be written beside the state that it replaces, and take
//! its place by one write of the applied mark.

use std::ops::Bound;

use super::StoreError;
use crate::ids::ShardId;

/// What precedes the state machine's own key.
pub(super) const STATE_PREFIX_BYTES: usize = 6;

/// A shard's records in `meta`.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Meta {
    Vote = 1,
    Purged = 2,
    Applied = 3,
    Membership = 4,
}

pub(super) fn log(shard: ShardId, index: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&shard.get().to_be_bytes());
    key[2..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index in a log key, or `None` if it is not one.
pub(super) fn log_index(key: &[u8]) -> Option<u64> {
    let bytes: [u8; 10] = key.try_into().ok()?;
    let [_, _, index @ ..] = bytes;
    Some(u64::from_be_bytes(index))
}

pub(super) fn meta(shard: ShardId, kind: Meta) -> [u8; 3] {
    let [high, low] = shard.get().to_be_bytes();
    [high, low, kind as u8]
}

pub(super) fn state(shard: ShardId, generation: u32, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(STATE_PREFIX_BYTES + key.len());
    bytes.extend_from_slice(&shard.get().to_be_bytes());
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The range of a shard's keys that start with `prefix` and are not before `from`.
pub(super) fn state_range(
    shard: ShardId,
    generation: u32,
    prefix: &[u8],
    from: Option<&[u8]>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let first = from.map_or(prefix, |from| from.max(prefix));
    let end = successor(&state(shard, generation, prefix));
    let start = state(shard, generation, first);
    // A start beyond the end is an empty range; not every map takes one, so say it properly.
    match end {
        Some(end) if start >= end => (Bound::Included(end.clone()), Bound::Excluded(end)),
        Some(end) => (Bound::Included(start), Bound::Excluded(end)),
        None => (Bound::Included(start), Bound::Unbounded),
    }
}

/// The range of all generations of a shard's state.
pub(super) fn state_of_shard(shard: ShardId) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = shard.get().to_be_bytes().to_vec();
    let end = successor(&start).map_or(Bound::Unbounded, Bound::Excluded);
    (Bound::Included(start), end)
}

pub(super) fn generation_of(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(
        key.get(2..STATE_PREFIX_BYTES)?.try_into().ok()?,
    ))
}

/// The first byte string after all that start with `prefix`.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

/// How far a shard's state has come, and under which generation it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AppliedMark {
    pub(super) generation: u32,
    /// Term and index of the last entry applied.
    pub(super) applied: Option<(u64, u64)>,
}

impl AppliedMark {
    const VERSION: u8 = 1;

    pub(super) fn encode(self) -> [u8; 22] {
        let (present, (term, index)) = self.applied.map_or((0, (0, 0)), |id| (1, id));
        let mut bytes = [0; 22];
        bytes[0] = Self::VERSION;
        bytes[1..5].copy_from_slice(&self.generation.to_be_bytes());
        bytes[5] = present;
        bytes[6..14].copy_from_slice(&u64::to_be_bytes(term));
        bytes[14..].copy_from_slice(&u64::to_be_bytes(index));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = || {
            StoreError::new(
                "read a shard's applied mark",
                "it is damaged, or of a newer release",
            )
        };
        let bytes: [u8; 22] = bytes.try_into().map_err(|_| damaged())?;
        let [version, g0, g1, g2, g3, present, rest @ ..] = bytes;
        let [t0, t1, t2, t3, t4, t5, t6, t7, index @ ..] = rest;
        let id = (
            u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            u64::from_be_bytes(index),
        );
        match (version, present) {
            (Self::VERSION, 0 | 1) => Ok(Self {
                generation: u32::from_be_bytes([g0, g1, g2, g3]),
                applied: (present == 1).then_some(id),
            }),
            _ => Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn log_keys_sort_as_shard_then_index(a: (u16, u64), b: (u16, u64)) {
            let key = |(shard, index)| log(ShardId::new(shard), index);
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(log_index(&key(a)), Some(a.1));
        }

        #[test]
        fn state_keys_sort_as_shard_then_generation_then_key(a: (u16, u32, Vec<u8>), b: (u16, u32, Vec<u8>)) {
            let key = |(shard, generation, key): &(u16, u32, Vec<u8>)| state(ShardId::new(*shard), *generation, key);
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            prop_assert_eq!(generation_of(&key(&a)), Some(a.1));
        }

        #[test]
        fn a_range_holds_exactly_the_keys_of_the_prefix_from_the_start(
            shard in prop_oneof![Just(0_u16), Just(7), Just(u16::MAX)],
            generation in prop_oneof![Just(0_u32), Just(1), Just(u32::MAX)],
            prefix in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff)], 0..3),
            from in prop::option::of(prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff)], 0..4)),
            other: (u16, u32),
            key in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff)], 0..5),
            same_place: bool,
        ) {
            let (at_shard, at_generation) = if same_place { (shard, generation) } else { other };
            let range = state_range(ShardId::new(shard), generation, &prefix, from.as_deref());
            let inside = (at_shard, at_generation) == (shard, generation)
                && key.starts_with(&prefix)
                && from.is_none_or(|from| key >= from);
            prop_assert_eq!(range.contains(&state(ShardId::new(at_shard), at_generation, &key)), inside);
        }

        #[test]
        fn an_applied_mark_reads_back(generation: u32, applied: Option<(u64, u64)>) {
            let mark = AppliedMark { generation, applied };
            prop_assert_eq!(AppliedMark::decode(&mark.encode()), Ok(mark));
        }
    }

    #[test]
    fn a_mark_of_a_newer_version_is_refused() {
        let mut bytes = AppliedMark::default().encode();
        bytes[0] = 2;
        assert!(AppliedMark::decode(&bytes).is_err());
        assert!(AppliedMark::decode(&bytes[..10]).is_err());
    }
}
