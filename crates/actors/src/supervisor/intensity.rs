//! How many restarts are too many.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// More than `restarts` in a `window`, and the supervisor gives up (OTP's
/// `intensity` and `period`). A restart of several children because of one crash
/// counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// How many are tolerated.
    pub restarts: usize,
    /// In how long a time.
    pub window: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self {
            restarts: 3,
            window: Duration::from_secs(5),
        }
    }
}

/// The restarts of late.
#[derive(Debug, Default)]
pub(crate) struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// Counts one more; returns whether it is one too many.
    pub(crate) fn exceed(&mut self, limit: Intensity, now: Instant) -> bool {
        self.0.push_back(now);
        while self
            .0
            .front()
            .is_some_and(|first| now.duration_since(*first) > limit.window)
        {
            self.0.pop_front();
        }
        self.0.len() > limit.restarts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_fourth_restart_in_five_seconds_is_one_too_many() {
        let mut restarts = Restarts::default();
        for _ in 0..3 {
            assert!(!restarts.exceed(Intensity::default(), Instant::now()));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(restarts.exceed(Intensity::default(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_that_are_far_apart_go_on_for_ever() {
        let mut restarts = Restarts::default();
        for _ in 0..100 {
            assert!(!restarts.exceed(Intensity::default(), Instant::now()));
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        assert!(restarts.0.len() <= 3, "what is past is forgotten");
    }
}
