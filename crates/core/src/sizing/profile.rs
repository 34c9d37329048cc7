//! What a step has used in recent runs of its workflow, and what it should therefore state.
//!
//! Two windows: the newer one is filled, and when it is full it takes the place of the older
//! one. So a profile tells of the last 256 to 512 attempts of a step, however many there were,
//! and forgets what was before. Each shard has its own; they are added up when somebody asks.

use serde::{Deserialize, Serialize};

use super::samples::{End, Samples};
use super::usage::Usage;
use super::{MIN_SAMPLES, grown, more, rounded};
use crate::resources::MilliCpus;
use crate::units::{Bytes, Timestamp};

/// Attempts in a window.
const WINDOW: u64 = 256;
/// Room above the peak that a suggestion leaves, in percent: there is no second try with more.
const HEADROOM: u64 = 20;

/// What a step should state that uses so much memory at most.
#[must_use]
pub fn stated_for(peak: Bytes) -> Bytes {
    rounded(Bytes(more(peak.0, HEADROOM)))
}

/// What is known of a step of a workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    newer: Samples,
    older: Samples,
    /// What the newest attempt asked for.
    pub asked_cpus: MilliCpus,
    /// What the newest attempt asked for.
    pub asked_mem: Bytes,
    /// When the newest attempt ended.
    pub last_at: Timestamp,
}

impl Profile {
    /// Counts an attempt that had asked for so much.
    pub fn add(&mut self, end: End, asked: (MilliCpus, Bytes), usage: &Usage, at: Timestamp) {
        if self.newer.seen() >= WINDOW {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.add(end, asked.1, usage);
        if at >= self.last_at {
            (self.asked_cpus, self.asked_mem) = asked;
            self.last_at = at;
        }
    }

    /// Adds what another shard has counted.
    pub fn merge(&mut self, other: &Self) {
        self.newer.merge(&other.newer);
        self.older.merge(&other.older);
        if other.last_at > self.last_at {
            (self.asked_cpus, self.asked_mem) = (other.asked_cpus, other.asked_mem);
            self.last_at = other.last_at;
        }
    }

    /// Both windows together.
    #[must_use]
    pub fn samples(&self) -> Samples {
        let mut all = self.newer.clone();
        all.merge(&self.older);
        all
    }

    /// What a run is told of it.
    #[must_use]
    pub fn learned(&self) -> Learned {
        Learned::of(&self.samples())
    }

    /// What the step should state; none while there is too little data.
    #[must_use]
    pub fn suggestion(&self) -> Option<Suggestion> {
        let samples = self.samples();
        if samples.count() < MIN_SAMPLES {
            return None;
        }
        let peak = samples.memory.max();
        let mut mem = stated_for(Bytes(peak));
        let hungry = samples.starved > 0 && mem <= samples.starved_at;
        if hungry {
            mem = grown(samples.starved_at, Bytes(u64::MAX)).unwrap_or(mem);
        }
        let used = samples.cpus.percentile(95);
        let cpus = MilliCpus(more(used, HEADROOM).div_ceil(100).max(1) * 100);
        let why = if hungry {
            format!(
                "{} of {} attempts ran out of memory with up to {}",
                samples.starved,
                samples.seen(),
                samples.starved_at
            )
        } else {
            let mib = peak.div_ceil(1 << 20);
            format!(
                "the largest of {} attempts used {mib}m; with {HEADROOM}% above that, rounded up",
                samples.count()
            )
        };
        Some(Suggestion { cpus, mem, why })
    }
}

/// What a run is told of a step's past when it is created: enough to size its attempts by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Learned {
    /// Attempts that succeeded.
    pub samples: u64,
    /// Peak memory that 95 of a hundred were not above.
    pub mem_p95: Bytes,
    /// The largest peak.
    pub mem_max: Bytes,
    /// Average cores that 95 of a hundred were not above.
    pub cpus_p95: MilliCpus,
    /// Attempts that wanted memory.
    pub starved: u64,
    /// The most that one of those had.
    pub starved_at: Bytes,
}

impl Learned {
    /// What these samples teach.
    #[must_use]
    pub fn of(samples: &Samples) -> Self {
        Self {
            samples: samples.count(),
            mem_p95: Bytes(samples.memory.percentile(95)),
            mem_max: Bytes(samples.memory.max()),
            cpus_p95: MilliCpus(samples.cpus.percentile(95)),
            starved: samples.starved,
            starved_at: samples.starved_at,
        }
    }
}

/// What a step should state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// Processor time.
    pub cpus: MilliCpus,
    /// Memory.
    pub mem: Bytes,
    /// Why.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: (MilliCpus, Bytes) = (MilliCpus(1_000), Bytes::from_mib(1_024));

    fn used(mib: u64) -> Usage {
        Usage {
            peak_rss_bytes: mib << 20,
            cpu_ms: 500,
            wall_ms: 1_000,
        }
    }

    fn of(peaks: impl IntoIterator<Item = u64>) -> Profile {
        let mut profile = Profile::default();
        for (n, mib) in (1u64..).zip(peaks) {
            profile.add(End::Succeeded, ASKED, &used(mib), Timestamp(n));
        }
        profile
    }

    #[test]
    fn too_little_data_suggest_nothing() {
        assert_eq!(of([300, 300]).suggestion(), None);
        let suggestion = of([300, 280, 310]).suggestion().unwrap();
        assert_eq!(suggestion.mem, Bytes::from_mib(384));
        assert_eq!(suggestion.cpus, MilliCpus(600));
        assert!(suggestion.why.contains("310m"), "{}", suggestion.why);
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let peaks = std::iter::once(9_000).chain(std::iter::repeat_n(100, 600));
        let profile = of(peaks);
        assert!(profile.samples().seen() <= 2 * WINDOW);
        assert_eq!(profile.samples().memory.max(), 100 << 20);
    }

    #[test]
    fn a_profile_stays_small_however_many_attempts_there_were() {
        let mut state = 1u64;
        let profile = of((0..5_000).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            1 + (state >> 33) % 100_000
        }));
        let bytes = rmp_serde::to_vec(&profile).unwrap().len();
        assert!(bytes < 4_096, "{bytes} bytes");
    }

    #[test]
    fn shards_add_up_and_the_newest_says_what_is_asked_for() {
        let mut one = of([100, 100]);
        let mut other = Profile::default();
        let asked = (MilliCpus(2_000), Bytes::from_mib(2_048));
        other.add(End::Succeeded, asked, &used(500), Timestamp(77));
        one.merge(&other);
        assert_eq!(one.samples().count(), 3);
        assert_eq!(one.samples().memory.max(), 500 << 20);
        assert_eq!((one.asked_cpus, one.asked_mem), asked);
    }

    #[test]
    fn what_ran_out_of_memory_is_suggested_more_than_it_had() {
        let mut profile = of([900, 900, 900]);
        profile.add(
            End::OutOfMemory,
            (MilliCpus(1_000), Bytes::from_mib(2_048)),
            &used(2_000),
            Timestamp(9),
        );
        let suggestion = profile.suggestion().unwrap();
        assert_eq!(suggestion.mem, Bytes::from_mib(4_096));
        assert!(
            suggestion.why.contains("out of memory"),
            "{}",
            suggestion.why
        );
    }
}
