//! What a task's processes use.

use meson_protocol::task::Usage;
use std::time::Duration;

use super::table::{Stat, TICKS_PER_SECOND, page_bytes};

/// Pause between two looks at `/proc`.
pub const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// Adds up what samples show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    peak_rss_bytes: u64,
    /// At the last look.
    rss_bytes: u64,
    /// The largest sum seen: processes that nobody waited for take theirs along when they go.
    cpu_ticks: u64,
}

impl Meter {
    /// All processes of the task at one moment.
    pub fn sample(&mut self, members: &[Stat]) {
        let rss: u64 = members
            .iter()
            .filter(|stat| !stat.dead)
            .map(|stat| stat.rss_pages)
            .sum();
        let cpu = members.iter().map(|stat| stat.cpu_ticks).sum();
        self.resident(rss * page_bytes());
        self.cpu_ticks = self.cpu_ticks.max(cpu);
    }

    /// All memory of the task at one moment, as something knows that counts shared pages once.
    pub fn resident(&mut self, bytes: u64) {
        self.rss_bytes = bytes;
        self.peak(bytes);
    }

    /// So much was used at some time.
    pub fn peak(&mut self, bytes: u64) {
        self.peak_rss_bytes = self.peak_rss_bytes.max(bytes);
    }

    /// Processor time that something else has counted, in nanoseconds.
    pub fn cpu_nanos(&mut self, nanos: u64) {
        let ticks = nanos / (1_000_000_000 / TICKS_PER_SECOND);
        self.cpu_ticks = self.cpu_ticks.max(ticks);
    }

    /// What was resident at the last look.
    pub fn resident_bytes(&self) -> u64 {
        self.rss_bytes
    }

    /// Only its first process.
    pub fn sample_one(&mut self, leader: &Stat) {
        self.sample(&[*leader]);
    }

    /// For the result.
    pub fn usage(&self, wall: Duration) -> Usage {
        Usage {
            peak_rss_bytes: self.peak_rss_bytes,
            cpu_ms: self.cpu_ticks * 1000 / TICKS_PER_SECOND,
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_peaks_and_processor_time_only_grows() {
        let stat = |cpu_ticks, rss_pages| Stat {
            pid: 1,
            dead: false,
            parent: 0,
            group: 1,
            session: 1,
            cpu_ticks,
            start_ticks: 0,
            rss_pages,
        };
        let mut meter = Meter::default();
        meter.sample(&[stat(10, 100), stat(5, 50)]);
        meter.sample(&[stat(12, 20)]);
        let usage = meter.usage(Duration::from_millis(1500));
        assert_eq!(usage.peak_rss_bytes, 150 * page_bytes());
        assert_eq!((usage.cpu_ms, usage.wall_ms), (150, 1500));
    }
}
