//! What one attempt used.

use serde::{Deserialize, Serialize};

use crate::resources::MilliCpus;

/// What an attempt used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Largest resident set of its processes together, in bytes.
    pub peak_rss_bytes: u64,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// From the process's start to its end, in milliseconds.
    pub wall_ms: u64,
}

impl Usage {
    /// Whether anything ran that could be measured.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        *self != Self::default()
    }

    /// The most of each amount.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            peak_rss_bytes: self.peak_rss_bytes.max(other.peak_rss_bytes),
            cpu_ms: self.cpu_ms.max(other.cpu_ms),
            wall_ms: self.wall_ms.max(other.wall_ms),
        }
    }

    /// The cores that it kept busy on average. What took no time used none.
    #[must_use]
    pub fn average_cpus(&self) -> MilliCpus {
        let millis = u128::from(self.cpu_ms) * 1000 / u128::from(self.wall_ms.max(1));
        MilliCpus(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_cores_are_processor_time_by_time() {
        let used = |cpu_ms, wall_ms| Usage {
            peak_rss_bytes: 1,
            cpu_ms,
            wall_ms,
        };
        assert_eq!(used(3_000, 2_000).average_cpus(), MilliCpus(1_500));
        assert_eq!(used(0, 0).average_cpus(), MilliCpus(0));
        assert!(used(0, 0).is_measured() && !Usage::default().is_measured());
    }
}
