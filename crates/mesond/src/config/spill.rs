//! When steps that name several regions go on to the next one.

use std::time::Duration;

use serde::Deserialize;

/// The shortest patience: shorter than an election, a pool would be left whenever its broker moves.
const LEAST_MS: u64 = 1_000;
/// And the longest: a week.
const MOST_MS: u64 = 7 * 24 * 3_600_000;

/// `[spill]`: the same on all coordinators of a cluster.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Spill {
    /// A pool that was out of reach for so long, in milliseconds, is left for the next region of the
    /// step: no coordinator that speaks to it can be reached, or that one has lost the Mesos master.
    /// Longer than elections and restarts take.
    after_ms: u64,
}

impl Default for Spill {
    fn default() -> Self {
        Self { after_ms: 30_000 }
    }
}

impl Spill {
    /// What makes no sense, as key and problem.
    pub(super) fn check(self) -> Result<(), (&'static str, String)> {
        if (LEAST_MS..=MOST_MS).contains(&self.after_ms) {
            return Ok(());
        }
        let problem = format!("{} is not between {LEAST_MS} and {MOST_MS}", self.after_ms);
        Err(("spill.after_ms", problem))
    }

    /// After which time.
    pub(crate) fn after(self) -> Duration {
        Duration::from_millis(self.after_ms)
    }
}
