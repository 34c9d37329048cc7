//! The time that the engine sees: wall time for what is recorded, tokio's time for waiting.
//!
//! Both come from outside, so that a simulator can hold them.

use std::sync::{Arc, Mutex, PoisonError};

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

/// A machine's clock without its jumps: it goes with tokio's time, and runs up to a tenth faster or
/// slower until it shows what the machine's clock shows. It never goes back.
///
/// Somebody who sets the clock of a coordinator's machine by hours must not make the timeouts of
/// all its steps come true at once, nor keep a retry waiting for hours.
pub struct SteadyClock {
    machine: Box<dyn Fn() -> Timestamp + Send + Sync>,
    shown: Mutex<Shown>,
}

struct Shown {
    /// What was shown, in microseconds since 1970, when the machine's clock was last looked at.
    then_us: u64,
    at: tokio::time::Instant,
    /// The latest that anybody was shown, in milliseconds.
    latest: Timestamp,
    /// The machine's clock is elsewhere, and that was said.
    apart: bool,
}

/// The machine's clock is looked at so often at most: a tenth of less is nothing.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(10);

/// A difference beyond this is said.
const APART: std::time::Duration = std::time::Duration::from_secs(1);

impl SteadyClock {
    /// A clock that shows what the machine's clock shows at this moment.
    pub fn following(machine: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let now = machine();
        Self {
            machine: Box::new(machine),
            shown: Mutex::new(Shown {
                then_us: now.0.saturating_mul(1_000),
                at: tokio::time::Instant::now(),
                latest: now,
                apart: false,
            }),
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        // A panic while the lock was held leaves a whole reading behind.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = shown.at.elapsed();
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let mut now_us = shown.then_us.saturating_add(elapsed_us);
        if elapsed >= LOOK_EVERY {
            let machine_us = (self.machine)().0.saturating_mul(1_000);
            let ahead_us = machine_us.abs_diff(now_us);
            let apart = u128::from(ahead_us) > APART.as_micros();
            if apart && !shown.apart {
                tracing::warn!(
                    by_ms = ahead_us / 1_000,
                    forward = machine_us > now_us,
                    "the machine's clock has jumped; it is followed slowly"
                );
            }
            now_us = towards(now_us, machine_us, elapsed_us / 10);
            shown.apart = apart;
            shown.then_us = now_us;
            shown.at += elapsed;
        }
        shown.latest = shown.latest.max(Timestamp(now_us / 1_000));
        shown.latest
    }
}

/// From here in the direction of `goal`, by `step` at most.
fn towards(from: u64, goal: u64, step: u64) -> u64 {
    if goal > from {
        goal.min(from.saturating_add(step))
    } else {
        goal.max(from.saturating_sub(step))
    }
}

/// How long to wait from `now` until `at`; nothing if that is past.
pub(crate) fn until(now: Timestamp, at: Timestamp) -> std::time::Duration {
    at.since(now).to_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A steady clock, and the machine's, which can be set.
    fn steady() -> (SteadyClock, Arc<Mutex<TokioClock>>) {
        let machine = Arc::new(Mutex::new(TokioClock::starting_at(Timestamp(
            1_000_000_000,
        ))));
        let seen = Arc::clone(&machine);
        let clock = SteadyClock::following(move || seen.lock().unwrap().now());
        (clock, machine)
    }

    async fn pass(clock: &SteadyClock, seconds: u64) {
        for _ in 0..seconds * 10 {
            let before = clock.now();
            tokio::time::advance(std::time::Duration::from_millis(100)).await;
            assert!(clock.now() >= before, "a clock never goes back");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_clock_goes_with_a_machine_that_keeps_time() {
        let (clock, machine) = steady();
        pass(&clock, 3_600).await;
        assert_eq!(clock.now(), machine.lock().unwrap().now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_the_machine_s_clock_is_followed_slowly() {
        for hours in [-3_i64, 3] {
            let (clock, machine) = steady();
            let began = clock.now();
            let jumped = began.0.saturating_add_signed(hours * 3_600_000);
            *machine.lock().unwrap() = TokioClock::starting_at(Timestamp(jumped));
            pass(&clock, 60).await;
            let shown_ms = clock.now().since(began).0;
            assert!(
                (54_000..=66_000).contains(&shown_ms),
                "a minute takes about a minute, not {shown_ms} ms"
            );
            pass(&clock, 32 * 3_600).await;
            assert_eq!(clock.now(), machine.lock().unwrap().now(), "and gets there");
        }
    }

    #[test]
    fn waiting_for_the_past_takes_no_time() {
        assert_eq!(
            until(Timestamp(10), Timestamp(5)),
            std::time::Duration::ZERO
        );
        assert_eq!(until(Timestamp(5), Timestamp(10)).as_millis(), 5);
    }
}
