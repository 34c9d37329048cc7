//! When to subscribe: at once after a long subscription, ever later after short ones, and not
//! for a while when the master has had enough of us.

use super::SchedulerOptions;
use crate::client::Backoff;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What one client remembers from one subscription to the next.
#[derive(Debug)]
pub(super) struct Pace {
    fresh: Backoff,
    /// A subscription that lasted so long was a good one.
    good: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    backoff: Backoff,
    /// When the last subscription began, if nobody has subscribed again since.
    subscribed: Option<Instant>,
    /// Not before this.
    quiet_until: Option<Instant>,
}

impl Pace {
    pub(super) fn new(options: &SchedulerOptions) -> Self {
        let fresh = Backoff::new(options.first_backoff, options.max_backoff, options.seed);
        Self {
            good: options.max_backoff,
            state: Mutex::new(State {
                backoff: fresh.clone(),
                subscribed: None,
                quiet_until: None,
            }),
            fresh,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is half done in there.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody wants to subscribe now: how long to wait before the first try.
    pub(super) fn begin(&self, now: Instant) -> Duration {
        let mut state = self.lock();
        let wait = match state.subscribed.take() {
            Some(since) if now.duration_since(since) < self.good => state.backoff.next_delay(),
            _ => {
                state.backoff = self.fresh.clone();
                Duration::ZERO
            }
        };
        let quiet = state.quiet_until.take();
        wait.max(quiet.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)))
    }

    /// No master could be subscribed to: how long to wait before the next try.
    pub(super) fn again(&self) -> Duration {
        self.lock().backoff.next_delay()
    }

    /// Subscribed.
    pub(super) fn subscribed(&self, now: Instant) {
        self.lock().subscribed = Some(now);
    }

    /// The master limits our rate.
    pub(super) fn be_quiet(&self, now: Instant) {
        self.lock().quiet_until = Some(now + self.good);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> (Pace, Instant) {
        let options = SchedulerOptions {
            first_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(15),
            ..SchedulerOptions::default()
        };
        (Pace::new(&options), Instant::now())
    }

    #[test]
    fn short_subscriptions_are_followed_by_ever_longer_waits() {
        let (pace, now) = pace();
        assert_eq!(pace.begin(now), Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..8 {
            pace.subscribed(now);
            waits.push(pace.begin(now + Duration::from_secs(1)));
        }
        assert!(waits[0] <= Duration::from_secs(1), "{waits:?}");
        assert!(waits[3] >= Duration::from_secs(4), "{waits:?}");
        let most = Duration::from_secs(15);
        assert!(
            waits[7] >= most / 2 && waits.iter().all(|wait| *wait <= most),
            "{waits:?}"
        );
    }

    #[test]
    fn a_long_subscription_is_followed_by_another_at_once() {
        let (pace, now) = pace();
        pace.subscribed(now);
        pace.begin(now + Duration::from_secs(1));
        pace.subscribed(now);
        assert_eq!(pace.begin(now + Duration::from_secs(16)), Duration::ZERO);
        assert!(
            pace.again() <= Duration::from_secs(1),
            "and the delays begin anew"
        );
    }

    #[test]
    fn item_28_a_limited_rate_keeps_us_quiet() {
        let (pace, now) = pace();
        pace.subscribed(now);
        pace.be_quiet(now + Duration::from_secs(60));
        let wait = pace.begin(now + Duration::from_secs(60));
        assert_eq!(wait, Duration::from_secs(15));
    }
}
