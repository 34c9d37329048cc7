//! Right-sizing: what attempts used, and what the next ones should therefore ask for.
//!
//! ```text
//!   attempt ends ──► Usage ──► Samples of its step in this run ──┐
//!                       │                                        ├──► ask ──► Asked: what an attempt gets, and why
//!                       └──► Profile of (workflow, step) ──► Learned ┘
//!                                    └──► suggestion, for people
//! ```
//!
//! * [`usage`]: what one attempt used.
//! * [`sketch`]: a distribution in a few hundred bytes, mergeable.
//! * [`samples`]: the attempts of a step in one run.
//! * [`profile`]: the recent attempts of a step in all runs of its workflow.
//! * [`ask`](mod@ask): the decision.
//!
//! Whole numbers only: every replica has to come to the same bytes.

pub mod ask;
pub mod profile;
pub mod samples;
pub mod sketch;
pub mod usage;

pub use ask::{Asked, Auto, Known, Why, ask, grown, most_mem};
pub use profile::{Learned, Profile, Suggestion, stated_for};
pub use samples::{End, Samples};
pub use sketch::Sketch;
pub use usage::Usage;

use crate::units::Bytes;

/// Samples that are needed before anything is concluded from them.
pub const MIN_SAMPLES: u64 = 3;
/// Iterations of a for-each that run at first, while nothing is known of a step that learns.
pub const LEARN_FIRST: u32 = 8;
/// The least that is asked for or suggested: what a task needs to start.
pub const LEAST_MEM: Bytes = Bytes::from_mib(32);

/// Rounded up to what people would write: steps of an eighth of the next power of two, at least
/// 32 MiB.
#[must_use]
pub fn rounded(bytes: Bytes) -> Bytes {
    let step = (bytes.0.checked_next_power_of_two().unwrap_or(1 << 63) / 8).max(LEAST_MEM.0);
    Bytes(bytes.0.div_ceil(step).saturating_mul(step).max(LEAST_MEM.0))
}

/// A part more than `amount`, in percent.
fn more(amount: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(100 + percent) / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_what_people_write() {
        for (mib, expected) in [
            (0, 32),
            (1, 32),
            (33, 64),
            (500, 512),
            (513, 640),
            (1_100, 1_280),
            (5_000, 5_120),
        ] {
            assert_eq!(
                rounded(Bytes::from_mib(mib)),
                Bytes::from_mib(expected),
                "{mib}"
            );
        }
        assert!(rounded(Bytes(u64::MAX)).0 > 1 << 62);
    }
}
