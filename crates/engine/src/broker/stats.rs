//! What a broker counts and measures (MESOS.md 37), as plain values; [`metrics`](super::metrics)
//! shows them.

use meson_core::units::Duration;

/// Why offers were given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Declined {
    /// Nobody waited.
    Idle,
    /// Nobody who waited could use it.
    Unfit,
    /// As many tasks as are allowed were being started.
    Paced,
    /// The agent is about to be maintained.
    Leaving,
    /// Launching had stopped.
    Brake,
}

impl Declined {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [
        Self::Idle,
        Self::Unfit,
        Self::Paced,
        Self::Leaving,
        Self::Brake,
    ];

    /// As it is written in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Unfit => "unfit",
            Self::Paced => "paced",
            Self::Leaving => "leaving",
            Self::Brake => "brake",
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
    /// Offers that were given back, by reason, in the order of [`Declined::ALL`].
    pub declined: [u64; Declined::ALL.len()],
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
        self.declined[reason as usize] += offers as u64;
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
