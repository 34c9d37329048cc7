//! What an attempt asks for: what its author stated, unless the step may learn, or wanted memory.
//!
//! What is known of this run goes before what earlier runs have left, once there is enough of
//! it: the data of a run decide what its steps need. An attempt that was ended for want of memory
//! gets twice as much, up to the cap, whatever the others used.

use serde::{Deserialize, Serialize};

use super::profile::Learned;
use super::samples::Samples;
use super::{MIN_SAMPLES, more, rounded};
use crate::resources::{MilliCpus, Resources};
use crate::units::Bytes;

/// Room above the peak, in percent.
const HEADROOM: u64 = 25;
/// With so many samples of its own, a run no longer looks at earlier ones.
const ENOUGH: u64 = 20;
/// A step that states nothing may be given so much more than the default.
const UNSTATED_GROWTH: u64 = 8;

/// A step's leave to ask for what it turns out to need: `resources = auto(…)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Auto {
    /// Never more memory than this.
    pub max_mem: Bytes,
    /// Never more processor time than this; none: what is stated is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpus: Option<MilliCpus>,
}

/// What an attempt asks for, where that is not simply what its step states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Asked {
    /// Processor time.
    pub cpus: MilliCpus,
    /// Memory.
    pub mem: Bytes,
    /// Why.
    pub why: Why,
}

/// Why an attempt asks for what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nothing is known yet: what is stated.
    Stated,
    /// The attempt before wanted memory with so much.
    OutOfMemory {
        /// What it had.
        before: Bytes,
    },
    /// By what so many attempts of this run used.
    ThisRun {
        /// How many.
        samples: u64,
    },
    /// By what so many attempts of earlier runs used.
    EarlierRuns {
        /// How many.
        samples: u64,
    },
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stated => f.write_str("as stated: nothing is known yet of what it uses"),
            Self::OutOfMemory { before } => write!(f, "it ran out of memory with {before}"),
            Self::ThisRun { samples } => {
                write!(f, "by what {samples} attempts of this run used")
            }
            Self::EarlierRuns { samples } => {
                write!(f, "by what {samples} attempts of earlier runs used")
            }
        }
    }
}

/// What is known when an attempt is sized.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The step in this run.
    pub run: &'a Samples,
    /// The step in earlier runs, as far as this run was told at its creation.
    pub earlier: Option<&'a Learned>,
    /// What this instance's attempt before asked for, if it asked for more than stated.
    pub before: Option<Asked>,
    /// Whether that attempt, or whichever came before, wanted memory: with how much.
    pub starved: Option<Bytes>,
}

/// What the next attempt of a step asks for; none: what the step states.
#[must_use]
pub fn ask(stated: &Resources, auto: Option<&Auto>, known: Known<'_>) -> Option<Asked> {
    let learned = auto.map(|auto| learn(stated, auto, known));
    let cap = most_mem(stated, auto);
    let after_hunger = known.starved.and_then(|before| {
        let mem = grown(before, cap).unwrap_or(before);
        (mem > stated.mem || auto.is_some()).then_some(Asked {
            cpus: learned.map_or(stated.cpus, |learned| learned.cpus),
            mem,
            why: Why::OutOfMemory { before },
        })
    });
    // An attempt that failed for another reason after one that wanted memory keeps what it got.
    let kept = known
        .before
        .filter(|before| matches!(before.why, Why::OutOfMemory { .. }));
    [learned, kept, after_hunger]
        .into_iter()
        .flatten()
        .max_by_key(|asked| asked.mem)
}

/// The most memory that an attempt of this step is ever given. Without leave to learn: what is
/// stated; where nothing is stated the default was our guess, and may be corrected.
#[must_use]
pub fn most_mem(stated: &Resources, auto: Option<&Auto>) -> Bytes {
    match auto {
        Some(auto) => auto.max_mem.max(stated.mem),
        None if stated.stated => stated.mem,
        None => Bytes(stated.mem.0.saturating_mul(UNSTATED_GROWTH)),
    }
}

/// What is tried after `mem` was not enough; none if that was the most.
#[must_use]
pub fn grown(mem: Bytes, cap: Bytes) -> Option<Bytes> {
    (mem < cap).then(|| rounded(Bytes(mem.0.saturating_mul(2))).min(cap))
}

fn learn(stated: &Resources, auto: &Auto, known: Known<'_>) -> Asked {
    let own = (known.run.count() >= MIN_SAMPLES).then(|| Learned::of(known.run));
    let earlier = known
        .earlier
        .filter(|earlier| earlier.samples >= MIN_SAMPLES);
    let by = |learned: &Learned, why| {
        let mut mem = needed(learned);
        // Where many wanted more than others used, what they had was not enough.
        if learned.starved.saturating_mul(10) >= learned.samples && mem <= learned.starved_at {
            mem = grown(learned.starved_at, auto.max_mem).unwrap_or(auto.max_mem);
        }
        Asked {
            cpus: cores(stated, auto, learned),
            mem: mem.min(auto.max_mem),
            why,
        }
    };
    let own = own.map(|own| {
        let samples = own.samples;
        by(&own, Why::ThisRun { samples })
    });
    let earlier = earlier.map(|earlier| {
        let samples = earlier.samples;
        by(earlier, Why::EarlierRuns { samples })
    });
    match (own, earlier) {
        (Some(own), Some(earlier)) if known.run.count() < ENOUGH => {
            if earlier.mem > own.mem {
                earlier
            } else {
                own
            }
        }
        (Some(own), _) => own,
        (None, Some(earlier)) => earlier,
        (None, None) => Asked {
            cpus: stated.cpus,
            mem: stated.mem,
            why: Why::Stated,
        },
    }
}

/// Enough for all, unless a few used far more than the rest: those are tried again with more,
/// which costs less than giving it to everybody.
fn needed(learned: &Learned) -> Bytes {
    let usual = learned.mem_p95.0;
    let peak = if learned.mem_max.0 <= more(usual, 50) {
        learned.mem_max.0
    } else {
        usual
    };
    rounded(Bytes(more(peak, HEADROOM)))
}

fn cores(stated: &Resources, auto: &Auto, learned: &Learned) -> MilliCpus {
    let Some(most) = auto.max_cpus else {
        return stated.cpus;
    };
    let tenths = more(learned.cpus_p95.0, HEADROOM).div_ceil(100).max(1);
    MilliCpus(tenths.saturating_mul(100)).min(most)
}

#[cfg(test)]
mod tests;
