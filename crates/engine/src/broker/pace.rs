//! How fast tasks are started, and killed: a bucket that fills by the second.

use meson_core::units::{Duration, Timestamp};

/// After the bucket ran empty, it is looked at again once this part of a second's launches is in it.
const PARTS: u64 = 10;

/// What may be launched now.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: u64,
    /// In thousandths of a launch: a millisecond brings `per_second` of them.
    full_to: u64,
    since: Timestamp,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second.max(1));
        Self {
            per_second,
            full_to: per_second * 1_000,
            since: Timestamp(0),
        }
    }

    fn fill(&mut self, now: Timestamp) {
        let come = now.since(self.since).0.saturating_mul(self.per_second);
        self.full_to = self
            .full_to
            .saturating_add(come)
            .min(self.per_second * 1_000);
        self.since = self.since.max(now);
    }

    /// How many may be launched now.
    pub(super) fn allowed(&mut self, now: Timestamp) -> usize {
        self.fill(now);
        usize::try_from(self.full_to / 1_000).unwrap_or(usize::MAX)
    }

    /// One is launched.
    pub(super) fn took(&mut self) {
        self.full_to = self.full_to.saturating_sub(1_000);
    }

    /// When it is worth asking again.
    pub(super) fn next(&self) -> Timestamp {
        let wanted = (self.per_second * 1_000 / PARTS).max(1_000);
        let missing = wanted.saturating_sub(self.full_to);
        self.since
            .after(Duration(missing.div_ceil(self.per_second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_39_pace_lets_a_seconds_worth_go_at_once_and_then_as_many_a_second() {
        let mut pace = Pace::new(100);
        let mut launched = 0;
        for ms in 0..3_000 {
            while pace.allowed(Timestamp(1_000_000 + ms)) > 0 {
                pace.took();
                launched += 1;
            }
        }
        assert_eq!(launched, 100 + 299);
        assert_eq!(
            pace.next(),
            Timestamp(1_002_999 + 91),
            "a tenth of a second's worth later"
        );
    }

    #[test]
    fn item_39_pace_of_one_a_second_goes_on() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.allowed(Timestamp(5)), 1);
        pace.took();
        assert_eq!(pace.allowed(Timestamp(900)), 0);
        assert_eq!(pace.allowed(pace.next()), 1);
    }
}
