//! The time that the engine sees: wall time for what is recorded, tokio's time for waiting.
//!
//! Both come from outside, so that a simulator can hold them.

use std::sync::Arc;

use meson_core::units::{Duration, Timestamp};

/// Wall time. Waiting is done with tokio's timers, whose time a simulator holds as well.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

impl<F: Fn() -> Timestamp + Send + Sync + 'static> Clock for F {
    fn now(&self) -> Timestamp {
        self()
    }
}

/// A clock shared by all actors of a node.
pub type SharedClock = Arc<dyn Clock>;

/// A clock that is set once and then follows tokio's time.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    set_to: Timestamp,
    set_at: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `now` at this moment.
    #[must_use]
    pub fn starting_at(now: Timestamp) -> Self {
        Self {
            set_to: now,
            set_at: tokio::time::Instant::now(),
        }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let elapsed = self.set_at.elapsed().as_millis();
        self.set_to
            .after(Duration(u64::try_from(elapsed).unwrap_or(u64::MAX)))
    }
}

/// How long to wait from `now` until `at`; nothing if that is past.
pub(crate) fn until(now: Timestamp, at: Timestamp) -> std::time::Duration {
    at.since(now).to_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_past_takes_no_time() {
        assert_eq!(
            until(Timestamp(10), Timestamp(5)),
            std::time::Duration::ZERO
        );
        assert_eq!(until(Timestamp(5), Timestamp(10)).as_millis(), 5);
    }
}
