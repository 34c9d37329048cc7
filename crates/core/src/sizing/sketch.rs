//! A distribution of whole numbers in little space.
//!
//! Values are counted in buckets whose width is a sixteenth of the power of two below them, as
//! high dynamic range histograms have them: a quantile is off by three percent at most. What two
//! sketches counted can be added up, so each shard keeps its own and whoever asks adds them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets that a sketch keeps. Beyond that the lowest ones become one: high quantiles are what
/// is asked for.
const MAX_BUCKETS: usize = 64;
/// Bits of a value below its highest one that tell buckets apart.
const PRECISION: u32 = 4;

/// Counts values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    count: u64,
    min: u64,
    max: u64,
    buckets: BTreeMap<u16, u32>,
}

impl Sketch {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        self.min = if self.count == 0 {
            value
        } else {
            self.min.min(value)
        };
        self.max = self.max.max(value);
        self.count = self.count.saturating_add(1);
        self.fill(bucket(value), 1);
    }

    /// Counts all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        self.min = if self.count == 0 {
            other.min
        } else {
            self.min.min(other.min)
        };
        self.max = self.max.max(other.max);
        self.count = self.count.saturating_add(other.count);
        for (bucket, count) in &other.buckets {
            self.fill(*bucket, *count);
        }
    }

    fn fill(&mut self, bucket: u16, count: u32) {
        let slot = self.buckets.entry(bucket).or_default();
        *slot = slot.saturating_add(count);
        while self.buckets.len() > MAX_BUCKETS {
            let Some((_, lowest)) = self.buckets.pop_first() else {
                return;
            };
            if let Some(mut next) = self.buckets.first_entry() {
                *next.get_mut() = next.get().saturating_add(lowest);
            }
        }
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest one; 0 if there is none.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.min
    }

    /// The largest one; 0 if there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `percent` of all are not above, nearly; 0 if there is none.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> u64 {
        let all: u64 = self.buckets.values().map(|count| u64::from(*count)).sum();
        let rank = (u128::from(all) * u128::from(percent.min(100))).div_ceil(100);
        let rank = u64::try_from(rank).unwrap_or(u64::MAX).max(1);
        let mut seen = 0u64;
        for (bucket, count) in &self.buckets {
            seen = seen.saturating_add(u64::from(*count));
            if seen >= rank {
                // The end of the scale is known for sure.
                return if seen == all && rank == all {
                    self.max
                } else {
                    middle(*bucket).clamp(self.min, self.max)
                };
            }
        }
        self.max
    }
}

/// The bucket of a value: where its highest bit is, and the bits below that.
fn bucket(value: u64) -> u16 {
    let top = 63 - value.max(1).leading_zeros();
    let index = if top < PRECISION {
        value
    } else {
        let above = u64::from(top - PRECISION + 1);
        (above << PRECISION) | ((value >> (top - PRECISION)) & ((1 << PRECISION) - 1))
    };
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// A value in the middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let (above, low) = (u32::from(bucket >> PRECISION), u64::from(bucket & 15));
    let Some(shift) = above.checked_sub(1) else {
        return low;
    };
    let first = ((1 << PRECISION) | low) << shift;
    first + ((1u64 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    #[test]
    fn small_numbers_are_exact() {
        let sketch = of(&[1, 2, 3, 4, 5]);
        assert_eq!(
            (sketch.min(), sketch.percentile(50), sketch.max()),
            (1, 3, 5)
        );
        assert_eq!(Sketch::default().percentile(95), 0);
    }

    #[test]
    fn a_wide_spread_stays_small_and_keeps_its_upper_end() {
        let mut sketch = Sketch::default();
        for exponent in 0..63 {
            for step in 0..16u64 {
                sketch.add((1 << exponent) + (step << exponent) / 16);
            }
        }
        assert!(sketch.buckets.len() <= MAX_BUCKETS);
        assert_eq!(sketch.count(), 63 * 16);
        assert_eq!(sketch.min(), 1);
        assert!(sketch.percentile(99) > 1 << 61);
    }

    proptest! {
        #[test]
        fn a_percentile_is_off_by_a_few_percent_at_most(
            mut values in prop::collection::vec(1u64..1 << 20, 1..200), percent in 1u8..=100,
        ) {
            let sketch = of(&values);
            values.sort_unstable();
            let rank = (values.len() * usize::from(percent)).div_ceil(100).max(1);
            let exact = values[rank - 1];
            let buckets = values.iter().map(|value| bucket(*value)).collect::<std::collections::BTreeSet<_>>();
            // Where the lowest buckets became one, low percentiles are not kept.
            prop_assume!(buckets.len() <= MAX_BUCKETS);
            let told = sketch.percentile(percent);
            prop_assert!(told.abs_diff(exact) <= exact / 16 + 1, "{told} for {exact}");
        }

        #[test]
        fn what_is_counted_apart_adds_up(
            a in prop::collection::vec(0u64..1 << 12, 0..60), b in prop::collection::vec(0u64..1 << 12, 0..60),
        ) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let all: Vec<u64> = a.into_iter().chain(b).collect();
            let together = of(&all);
            prop_assert_eq!(merged.count(), together.count());
            prop_assert_eq!((merged.min(), merged.max()), (together.min(), together.max()));
        }

        #[test]
        fn a_bucket_s_middle_is_within_it(value in any::<u64>()) {
            prop_assert_eq!(bucket(middle(bucket(value))), bucket(value));
        }
    }
}
