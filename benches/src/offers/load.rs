//! The load: the same for both that have to bear it.

use meson_core::matching::Shape;
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::Bytes;

pub(super) const AGENTS: u64 = 20;
pub(super) const CPUS: u64 = 8;
pub(super) const MINUTES: u64 = 20;
/// A run of each: large tasks are rare, and one run has too few of them for a 99th percentile.
pub(super) const SEEDS: [u64; 3] = [42, 7, 2026];

/// Tasks that arrive one after the other, the same in every run of a seed.
pub(super) struct Load(u64);

/// A task, and how long it is until the next one.
pub(super) struct Arrival {
    pub(super) cpus: u64,
    pub(super) lasts: u64,
    pub(super) pause: u64,
}

impl Load {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`.
    fn draw(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    pub(super) fn next(&mut self) -> Arrival {
        // Most are small and short; one in a hundred wants a whole agent.
        let (cpus, lasts) = match self.draw(100) {
            0 => (CPUS, 30_000),
            1..20 => (2, 5_000 + self.draw(20_000)),
            _ => (1, 1_000 + self.draw(8_000)),
        };
        // About nine tenths of all cpus are wanted.
        let pause = self.draw(2 * 84);
        Arrival { cpus, lasts, pause }
    }
}

/// What a task of so many cpus asks for.
pub(super) fn shape(cpus: u64) -> Shape {
    Shape {
        resources: Resources {
            cpus: MilliCpus(cpus * 1_000),
            mem: Bytes::from_mib(512),
            ..Resources::ZERO
        },
        ..Shape::default()
    }
}

/// Whose the task of this number is.
pub(super) fn owner(number: usize) -> usize {
    number % 3
}
