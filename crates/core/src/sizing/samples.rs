//! What the attempts of a step used in one run.

use serde::{Deserialize, Serialize};

use super::sketch::Sketch;
use super::usage::Usage;
use crate::units::Bytes;

/// How an attempt that is measured ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Well.
    Succeeded,
    /// For want of memory.
    OutOfMemory,
    /// In another way.
    Failed,
}

/// Attempts that succeeded, added up; of those that wanted memory, how much they had.
///
/// Those that failed say little about what the step needs: most end early.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// Peak memory, in bytes.
    pub memory: Sketch,
    /// Processor time, in milliseconds.
    pub cpu: Sketch,
    /// Average cores, in thousandths.
    pub cpus: Sketch,
    /// Time, in milliseconds.
    pub wall: Sketch,
    /// Attempts that ended for want of memory.
    pub starved: u64,
    /// The most that one of those had asked for.
    pub starved_at: Bytes,
}

impl Samples {
    /// Counts an attempt that had asked for so much memory.
    pub fn add(&mut self, end: End, asked_mem: Bytes, usage: &Usage) {
        match end {
            End::Succeeded => {
                self.memory.add(usage.peak_rss_bytes);
                self.cpu.add(usage.cpu_ms);
                self.cpus.add(usage.average_cpus().0);
                self.wall.add(usage.wall_ms);
            }
            End::OutOfMemory => {
                self.starved = self.starved.saturating_add(1);
                self.starved_at = self.starved_at.max(asked_mem);
            }
            End::Failed => {}
        }
    }

    /// Counts all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        self.memory.merge(&other.memory);
        self.cpu.merge(&other.cpu);
        self.cpus.merge(&other.cpus);
        self.wall.merge(&other.wall);
        self.starved = self.starved.saturating_add(other.starved);
        self.starved_at = self.starved_at.max(other.starved_at);
    }

    /// Attempts that succeeded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.memory.count()
    }

    /// Attempts of which anything is known.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.count().saturating_add(self.starved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_all_iterations_stays_small_however_many_there_are() {
        let mut samples = Samples::default();
        let mut state = 7u64;
        for _ in 0..30_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let usage = Usage {
                peak_rss_bytes: state >> 28,
                cpu_ms: state >> 44,
                wall_ms: state >> 42,
            };
            samples.add(End::Succeeded, Bytes(0), &usage);
        }
        assert_eq!(samples.count(), 30_000);
        let bytes = rmp_serde::to_vec(&samples).unwrap().len();
        assert!(bytes < 2_048, "{bytes} bytes");
    }

    #[test]
    fn only_what_succeeded_tells_what_a_step_needs() {
        let usage = Usage {
            peak_rss_bytes: 5,
            cpu_ms: 1,
            wall_ms: 1,
        };
        let mut samples = Samples::default();
        samples.add(End::Failed, Bytes(9), &usage);
        samples.add(End::OutOfMemory, Bytes(9), &usage);
        assert_eq!((samples.count(), samples.seen()), (0, 1));
        assert_eq!(samples.starved_at, Bytes(9));
    }
}
