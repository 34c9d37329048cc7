//! What a direction of a link does to the packets that go along it.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use serde::Deserialize;

/// Faults of one direction. The default one has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Nothing gets through.
    pub cut: bool,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of packets that others overtake, 0 to 1.
    pub reorder: f64,
    /// How long a packet takes, in milliseconds.
    pub delay_ms: u64,
    /// Up to so many milliseconds more, a new draw for each packet. Packets stay in order.
    pub jitter_ms: u64,
}

/// How much longer than its neighbours a packet takes that is overtaken.
const OVERTAKEN_BY: Duration = Duration::from_millis(8);

/// When the copies of a packet arrive, counted from now. No copy: it is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The packet itself.
    pub(crate) first: Option<Duration>,
    /// Its duplicate.
    pub(crate) second: Option<Duration>,
    /// Whether those behind may overtake it.
    pub(crate) overtaken: bool,
}

impl Shape {
    /// A direction that nothing goes along.
    pub const CUT: Self = Self {
        cut: true,
        loss: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        delay_ms: 0,
        jitter_ms: 0,
    };

    /// A direction that only takes its time.
    #[must_use]
    pub fn slow(delay_ms: u64, jitter_ms: u64) -> Self {
        Self {
            delay_ms,
            jitter_ms,
            ..Self::default()
        }
    }

    /// What happens to the next packet.
    pub(crate) fn judge(&self, random: &mut StdRng) -> Verdict {
        // The draws are made whatever they are needed for: the same seed gives the same fates to
        // the same packets, also if a rule was changed in between.
        let draws: [f64; 4] = random.random();
        if self.cut || draws[0] < self.loss {
            return Verdict::default();
        }
        let jitter = (self.jitter_ms as f64 * draws[1]) as u64;
        let delay = Duration::from_millis(self.delay_ms + jitter);
        let overtaken = draws[2] < self.reorder;
        Verdict {
            first: Some(if overtaken {
                delay + OVERTAKEN_BY
            } else {
                delay
            }),
            second: (draws[3] < self.duplicate).then_some(delay),
            overtaken,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn share(shape: Shape, what: impl Fn(Verdict) -> bool) -> f64 {
        let mut random = StdRng::seed_from_u64(5);
        let hits = (0..10_000)
            .filter(|_| what(shape.judge(&mut random)))
            .count();
        hits as f64 / 10_000.0
    }

    #[test]
    fn without_faults_every_packet_arrives_once_and_at_once() {
        let all = share(Shape::default(), |verdict| {
            verdict.first == Some(Duration::ZERO) && verdict.second.is_none()
        });
        assert_eq!(all, 1.0);
    }

    #[test]
    fn a_cut_direction_lets_nothing_through() {
        assert_eq!(share(Shape::CUT, |verdict| verdict.first.is_some()), 0.0);
    }

    #[test]
    fn faults_hit_as_often_as_asked() {
        let shape = Shape {
            loss: 0.1,
            duplicate: 0.2,
            reorder: 0.3,
            ..Shape::default()
        };
        let close = |found: f64, wanted: f64| (found - wanted).abs() < 0.02;
        assert!(close(share(shape, |it| it.first.is_none()), 0.1));
        assert!(close(share(shape, |it| it.second.is_some()), 0.2 * 0.9));
        assert!(close(share(shape, |it| it.overtaken), 0.3 * 0.9));
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        let shape = Shape {
            loss: 0.5,
            jitter_ms: 20,
            ..Shape::default()
        };
        let fates = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..50)
                .map(|_| shape.judge(&mut random))
                .collect::<Vec<_>>()
        };
        assert_eq!(fates(1), fates(1));
        assert_ne!(fates(1), fates(2));
    }
}
