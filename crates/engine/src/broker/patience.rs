//! How long an offer is held for a placement that is not durable yet.
//!
//! Too short, and a placement that becomes durable a little later is for nothing, at the
//! platform's cost; too long, and everything else that waits for that agent waits with it. What is
//! right depends on the distance between coordinators and on their disks, so it is measured, the
//! way TCP measures for how long to wait for an acknowledgement (RFC 6298, section 2).

use meson_core::units::Duration;

/// Before anything was measured, and at least: the time for a commit, with room for a slow disk.
const LEAST: Duration = Duration(500);
/// At most: an allocator takes offers back from whoever sits on them.
const MOST: Duration = Duration(3_000);

/// The estimate. Kept in eighths and quarters of milliseconds, as in the RFC's appendix.
#[derive(Debug)]
pub(super) struct Patience {
    smoothed_eighths: Option<u64>,
    variation_quarters: u64,
    hold: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            smoothed_eighths: None,
            variation_quarters: 0,
            hold: LEAST,
        }
    }
}

impl Patience {
    /// For how long the next offer is held.
    pub(super) fn hold(&self) -> Duration {
        self.hold
    }

    /// A placement was durable after this time.
    pub(super) fn confirmed(&mut self, took: Duration) {
        let took = took.0.min(MOST.0);
        let smoothed = match self.smoothed_eighths {
            None => {
                self.variation_quarters = took * 2;
                took * 8
            }
            Some(smoothed) => {
                let off = took.abs_diff(smoothed / 8);
                self.variation_quarters -= self.variation_quarters / 4;
                self.variation_quarters += off;
                smoothed - smoothed / 8 + took
            }
        };
        self.smoothed_eighths = Some(smoothed);
        let hold = smoothed / 8 + self.variation_quarters;
        self.hold = Duration(hold).clamp(LEAST, MOST);
    }

    /// A hold ended before its placement was durable. How long that would have taken is not
    /// known, so the next ones are held twice as long until something is measured.
    pub(super) fn expired(&mut self) {
        self.hold = Duration(self.hold.0 * 2).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commits_within_a_region_are_given_the_least() {
        let mut patience = Patience::default();
        for _ in 0..100 {
            patience.confirmed(Duration(3));
        }
        assert_eq!(patience.hold(), LEAST);
    }

    #[test]
    fn commits_across_regions_under_load_are_given_what_they_take_and_more() {
        let mut patience = Patience::default();
        for took in [600, 900].into_iter().cycle().take(40) {
            patience.confirmed(Duration(took));
        }
        let hold = patience.hold().0;
        assert!((1_000..2_000).contains(&hold), "{hold}");
        for _ in 0..60 {
            patience.confirmed(Duration(5));
        }
        assert_eq!(patience.hold(), LEAST, "the load is over");
    }

    #[test]
    fn a_hold_that_was_too_short_is_doubled_until_something_is_measured() {
        let mut patience = Patience::default();
        let mut holds = Vec::new();
        for _ in 0..4 {
            patience.expired();
            holds.push(patience.hold().0);
        }
        assert_eq!(holds, [1_000, 2_000, 3_000, 3_000]);
        patience.confirmed(Duration(40));
        assert_eq!(patience.hold(), LEAST);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_covers_what_is_steady(
            before in prop::collection::vec(prop::option::of(0_u64..10_000), 0..50),
            steady in 0_u64..2_500,
        ) {
            let mut patience = Patience::default();
            for took in before {
                match took {
                    Some(took) => patience.confirmed(Duration(took)),
                    None => patience.expired(),
                }
                prop_assert!((LEAST..=MOST).contains(&patience.hold()));
            }
            for _ in 0..100 {
                patience.confirmed(Duration(steady));
                prop_assert!((LEAST..=MOST).contains(&patience.hold()));
            }
            prop_assert!(patience.hold() >= Duration(steady), "{} {steady}", patience.hold().0);
        }
    }
}
