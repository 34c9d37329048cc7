//! What a broker counts and measures (MESOS.md 37), as plain values; [`metrics`](super::metrics)
//! shows them.

use std::collections::BTreeMap;

use meson_core::matching::{Predicate, Shortage};
use meson_core::units::Duration;

/// Why offers were given back. What is of use to nobody who waits is counted by what stands between
/// it and whoever comes nearest to using it; see [`nearest`](meson_core::matching::nearest).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Declined {
    /// Nobody waited.
    Idle,
    /// As many tasks as are allowed were being started.
    Paced,
    /// The agent is about to be maintained.
    Leaving,
    /// Launching had stopped.
    Brake,
    /// Its GPUs are kept for who asks for some.
    GpusKept,
    /// What the steps require of an agent does not hold.
    Where,
    /// The agent has too little of this, even when empty.
    TooSmall(Shortage),
    /// Too little of this is free.
    Busy(Shortage),
    /// There is room, but it is set aside for who has waited longer.
    SetAside,
    /// There is room for some tasks of a gang, and not for all.
    Gang,
    /// Everybody who waits holds as much as its owner may.
    Quota,
    /// Nobody who waited could use it, and it cannot be told why.
    Unfit,
}

impl Declined {
    /// All of them, in order.
    pub const ALL: [Self; 20] = [
        Self::Idle,
        Self::Paced,
        Self::Leaving,
        Self::Brake,
        Self::GpusKept,
        Self::Where,
        Self::TooSmall(Shortage::Cpus),
        Self::TooSmall(Shortage::Mem),
        Self::TooSmall(Shortage::Disk),
        Self::TooSmall(Shortage::Gpus),
        Self::TooSmall(Shortage::Ports),
        Self::Busy(Shortage::Cpus),
        Self::Busy(Shortage::Mem),
        Self::Busy(Shortage::Disk),
        Self::Busy(Shortage::Gpus),
        Self::Busy(Shortage::Ports),
        Self::SetAside,
        Self::Gang,
        Self::Quota,
        Self::Unfit,
    ];

    /// As it is written in metrics; in the words of [`Predicate::code`], where there are some.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Paced => "paced",
            Self::Leaving => "leaving",
            Self::Brake => "brake",
            Self::GpusKept => Predicate::GpusKept.code(),
            Self::Where => Predicate::Where(String::new()).code(),
            Self::TooSmall(shortage) => Predicate::TooSmall(shortage).code(),
            Self::Busy(shortage) => Predicate::Busy(shortage).code(),
            Self::SetAside => Predicate::SetAside.code(),
            Self::Gang => "gang",
            Self::Quota => "quota",
            Self::Unfit => "unfit",
        }
    }
}

/// What happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Offers that came.
    pub offers: u64,
    /// Offers that were used.
    pub accepted: u64,
    /// Offers that were given back, by reason.
    pub declined: BTreeMap<Declined, u64>,
    /// Offers that were taken back by the resource manager.
    pub rescinded: u64,
    /// Tasks launched.
    pub launched: u64,
    /// REVIVE calls.
    pub revives: u64,
    /// SUPPRESS calls.
    pub suppressions: u64,
    /// RECONCILE calls.
    pub reconciles: u64,
    /// UPDATE_FRAMEWORK calls: which offers are of use.
    pub constraints: u64,
    /// Tasks killed because no run knew them.
    pub orphans_killed: u64,
    /// Last words that came once more after they were acknowledged.
    pub repeated: u64,
    /// Times that launching stopped.
    pub brakes: u64,
    /// Times that an agent was promised to be free for its maintenance.
    pub inverse_offers: u64,
}

impl Stats {
    /// Counts offers that are given back.
    pub(super) fn declined(&mut self, reason: Declined, offers: usize) {
        *self.declined.entry(reason).or_default() += offers as u64;
    }
}

/// A time that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// From an offer's arrival to its use or return.
    Held(Duration),
    /// From a request to its launch.
    RequestToLaunch(Duration),
    /// From an offer's arrival to a launch on it.
    OfferToLaunch(Duration),
    /// From a launch to the word that it runs.
    LaunchToRunning(Duration),
}
