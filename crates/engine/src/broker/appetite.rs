//! When offers are wanted: SUPPRESS while nobody waits, REVIVE when somebody newly does.
//!
//! Both are said at most once on the wire, and may be lost or overtaken by a DECLINE. So a
//! REVIVE that no offer follows is said once more, and a SUPPRESS again if offers come in spite of it;
//! neither is ever said periodically (docs/scheduler-http-api.md).
//!
//! A REVIVE brings everything that is free anywhere, and most of it has to be given back. So it is
//! said only if it is likely to bring a place to somebody; what becomes free beyond what was refused is
//! offered by itself within a second. And the more of what the last one brought was of no use, the
//! later the next one may be said.

use meson_core::units::{Duration, Timestamp};

/// A REVIVE that no offer followed is said once more after so long.
const REVIVE_AGAIN: Duration = Duration::from_secs(1);
/// A REVIVE for what was refused comes so long after the last one, and twice as long each time
/// that it was in vain: offers that come now may be more of the answer to the last one.
const GATHER_AFTER: Duration = Duration(250);
/// So often that wait is doubled at most: to 32 s.
const GATHER_DOUBLED: u32 = 7;
/// Offers that come so long after a SUPPRESS say that it was lost.
const SUPPRESS_AGAIN: Duration = Duration::from_secs(2);

/// Of a REVIVE that is likely to bring nothing, that may be wrong: it is said after so long.
const DOUBT: Duration = Duration::from_secs(10);
/// The next REVIVE is put off by so much for each offer of no use.
const PER_USELESS_OFFER: Duration = Duration(1);
/// But not by more than this: by then what has become free is offered anyway.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the resource manager was told about our appetite, for one role.
#[derive(Debug, Default)]
pub(super) struct Appetite {
    suppressed_at: Option<Timestamp>,
    /// There is a reason to ask for offers again.
    hungry: bool,
    /// And no doubt that it helps.
    sure: bool,
    revived_at: Option<Timestamp>,
    /// When it was last thought about whether to ask.
    thought_at: Option<Timestamp>,
    /// There was a reason, but nothing to hope for.
    doubtful: bool,
    /// Offers that were given back since.
    useless: usize,
    /// No offer has followed the last REVIVE yet.
    unanswered: bool,
    /// When what was refused is to be asked for again.
    gather_at: Option<Timestamp>,
    /// How often it was, since there was another reason to.
    gathered: u32,
}

/// To be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Offers, whatever was refused.
    Revive,
    /// None.
    Suppress,
}

impl Appetite {
    /// A new session: offers come by themselves.
    pub(super) fn begin(&mut self) {
        *self = Self {
            revived_at: self.revived_at,
            ..Self::default()
        };
    }

    /// There is a new reason to want offers.
    pub(super) fn grow(&mut self) {
        self.hungry = true;
        self.gathered = 0;
    }

    /// Offers are wanted, whatever we believe of what there is.
    pub(super) fn insist(&mut self) {
        self.hungry = true;
        self.sure = true;
    }

    /// Offers came.
    pub(super) fn fed(&mut self, now: Timestamp) {
        self.unanswered = false;
        if self
            .suppressed_at
            .is_some_and(|at| now.since(at) >= SUPPRESS_AGAIN)
        {
            self.suppressed_at = None;
        }
    }

    /// Offers come while somebody waits for several agents at once. What was refused of others is
    /// wanted beside them, unless they answer a REVIVE, which brings all that there is.
    pub(super) fn gather(&mut self, now: Timestamp) {
        if self.unanswered {
            return;
        }
        let wait = Duration(GATHER_AFTER.0 << self.gathered.min(GATHER_DOUBLED));
        let at = self.revived_at.map_or(now, |at| at.after(wait).max(now));
        self.gather_at.get_or_insert(at);
    }

    pub(super) fn is_suppressed(&self) -> bool {
        self.suppressed_at.is_some()
    }

    /// Offers were given back although somebody waits.
    pub(super) fn gave_back(&mut self, offers: usize) {
        self.useless += offers;
    }

    /// Least time from one REVIVE, or thought of it, to the next.
    fn pause(&self, every: Duration) -> Duration {
        let useless = u64::try_from(self.useless).unwrap_or(u64::MAX);
        let pause = Duration(useless.saturating_mul(PER_USELESS_OFFER.0));
        pause.min(LONGEST_PAUSE).max(every)
    }

    /// What to say now. `wants`: somebody waits; `idle`: no offer is in hand; `hopeful`: whether
    /// somebody is likely to find a place in what a REVIVE brings.
    pub(super) fn wish(
        &mut self,
        wants: bool,
        idle: bool,
        every: Duration,
        now: Timestamp,
        hopeful: impl FnOnce() -> bool,
    ) -> Option<Wish> {
        if !wants {
            self.hungry = false;
            self.sure = false;
            self.doubtful = false;
            self.unanswered = false;
            self.gather_at = None;
            if !idle || self.suppressed_at.is_some() {
                return None;
            }
            self.suppressed_at = Some(now);
            return Some(Wish::Suppress);
        }
        let passed = |at: Option<Timestamp>, wait| at.is_none_or(|at| now.since(at) >= wait);
        let again = self.unanswered && passed(self.revived_at, REVIVE_AGAIN);
        let mut hungry = self.doubtful && passed(self.revived_at, DOUBT);
        if self.hungry
            && passed(self.revived_at, self.pause(every))
            && passed(self.thought_at, every)
        {
            self.thought_at = Some(now);
            self.hungry = false;
            // To a suppressed role nothing is offered by itself.
            if self.sure || self.suppressed_at.is_some() || hopeful() {
                hungry = true;
            } else {
                self.doubtful = true;
            }
        }
        let gather = self.gather_at.is_some_and(|at| at <= now);
        if !hungry && !again && !gather {
            return None;
        }
        self.unanswered = hungry || gather;
        self.gathered = self.gathered.saturating_add(u32::from(gather));
        self.gather_at = None;
        self.hungry = false;
        self.doubtful = false;
        self.sure = false;
        self.useless = 0;
        self.suppressed_at = None;
        self.revived_at = Some(now);
        Some(Wish::Revive)
    }

    /// When [`wish`](Self::wish) may have something to say by itself.
    pub(super) fn next(&self, every: Duration) -> Option<Timestamp> {
        let after = |at: Option<Timestamp>, wait| at.map_or(Timestamp(0), |at| at.after(wait));
        let hungry = self
            .hungry
            .then(|| after(self.revived_at, self.pause(every)).max(after(self.thought_at, every)));
        let again = self
            .unanswered
            .then(|| after(self.revived_at, REVIVE_AGAIN));
        let doubtful = self.doubtful.then(|| after(self.revived_at, DOUBT));
        let all = [hungry, again, doubtful, self.gather_at];
        all.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration(50);

    #[test]
    fn item_21_revive_is_limited_in_rate_and_repeated_once() {
        let mut appetite = Appetite::default();
        let mut said = Vec::new();
        for ms in 0..100 {
            appetite.grow();
            if appetite
                .wish(true, true, EVERY, Timestamp(ms), || true)
                .is_some()
            {
                said.push(ms);
            }
        }
        assert_eq!(said, [0, 50], "new work every millisecond");
        let later: Vec<u64> = (100..60_000)
            .filter(|ms| {
                appetite
                    .wish(true, true, EVERY, Timestamp(*ms), || true)
                    .is_some()
            })
            .collect();
        assert_eq!(
            later,
            [100, 1_100],
            "what was still to be said, and once more"
        );
    }

    #[test]
    fn item_21_revive_that_was_answered_is_not_repeated() {
        let mut appetite = Appetite::default();
        appetite.grow();
        assert_eq!(
            appetite.wish(true, true, EVERY, Timestamp(0), || true),
            Some(Wish::Revive)
        );
        appetite.fed(Timestamp(5));
        assert_eq!(appetite.next(EVERY), None);
        assert_eq!(
            appetite.wish(true, true, EVERY, Timestamp(5_000), || true),
            None
        );
    }

    #[test]
    fn item_21_revive_for_what_was_refused_is_no_answer_to_itself_and_comes_ever_later() {
        let mut appetite = Appetite::default();
        appetite.grow();
        let mut said = Vec::new();
        // Each answer comes in two parts, and for nobody's use.
        for ms in 0..120_000 {
            if appetite
                .wish(true, true, EVERY, Timestamp(ms), || true)
                .is_some()
            {
                said.push(ms);
                for _ in 0..2 {
                    appetite.gather(Timestamp(ms + 1));
                    appetite.fed(Timestamp(ms + 1));
                }
            }
        }
        let waits: Vec<u64> = said.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(
            waits,
            [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000]
        );
        // In one part, it says all.
        let mut appetite = Appetite::default();
        appetite.grow();
        appetite.wish(true, true, EVERY, Timestamp(0), || true);
        appetite.gather(Timestamp(1));
        appetite.fed(Timestamp(1));
        assert_eq!(appetite.next(EVERY), None);
        // Another one's offer, right after it.
        appetite.gather(Timestamp(2));
        assert_eq!(appetite.next(EVERY), Some(Timestamp(250)));
    }

    #[test]
    fn item_21_suppress_is_said_once_and_again_only_if_offers_come_all_the_same() {
        let mut appetite = Appetite::default();
        assert_eq!(
            appetite.wish(false, true, EVERY, Timestamp(0), || true),
            Some(Wish::Suppress)
        );
        assert_eq!(
            appetite.wish(false, true, EVERY, Timestamp(1_000), || true),
            None
        );
        appetite.fed(Timestamp(1_500));
        assert_eq!(
            appetite.wish(false, true, EVERY, Timestamp(1_500), || true),
            None,
            "it was on its way"
        );
        appetite.fed(Timestamp(10_000));
        assert_eq!(
            appetite.wish(false, false, EVERY, Timestamp(10_000), || true),
            None,
            "offers in hand"
        );
        assert_eq!(
            appetite.wish(false, true, EVERY, Timestamp(10_300), || true),
            Some(Wish::Suppress)
        );
    }
}
