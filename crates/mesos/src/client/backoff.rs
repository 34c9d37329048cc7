//! When to try again: exponentially later, with jitter, up to a limit.

use std::time::Duration;

/// Exponential back-off with jitter. The same seed gives the same delays.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    limit: Duration,
    random: u64,
}

impl Backoff {
    /// Delays from about `first` up to `limit`.
    pub fn new(first: Duration, limit: Duration, seed: u64) -> Self {
        Self {
            next: first.min(limit),
            limit,
            random: seed,
        }
    }

    /// The next delay: between half and all of a span that doubles each time.
    pub fn next_delay(&mut self) -> Duration {
        let span = self.next;
        self.next = span.saturating_mul(2).min(self.limit);
        span.mul_f64(0.5 + 0.5 * self.unit())
    }

    /// From 0 to 1, by SplitMix64.
    fn unit(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_are_not_all_alike() {
        let (first, limit) = (Duration::from_millis(100), Duration::from_secs(15));
        let mut backoff = Backoff::new(first, limit, 7);
        let delays: Vec<_> = (0..20).map(|_| backoff.next_delay()).collect();
        for (step, delay) in delays.iter().enumerate() {
            let span = first.saturating_mul(1 << step.min(20)).min(limit);
            assert!(
                *delay >= span / 2 && *delay <= span,
                "{step}: {delay:?} of {span:?}"
            );
        }
        assert_ne!(delays[18], delays[19]);
    }

    #[test]
    fn a_seed_decides_the_delays() {
        let delays = |seed| {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(9), seed);
            (0..5).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }
}
