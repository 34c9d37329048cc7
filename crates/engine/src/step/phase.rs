//! Where an attempt may be.

use meson_core::run::Seat;

use super::state::Member;
use super::words::Action;

/// Where the attempt is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Nobody has it, or it is in the broker's queue.
    Asking { reported: bool },
    /// The run is told where it will be; nothing is launched yet.
    Placing {
        /// By rank.
        seats: Vec<Seat>,
        superseded: Option<Vec<Seat>>,
    },
    /// Its tasks may be running.
    Launched {
        /// By rank.
        members: Vec<Member>,
        /// What the run was told last of its running, if it is not out of sight.
        told: Option<Option<String>>,
        /// The run knows that the whole pool is out of reach.
        lost: bool,
    },
    /// Its end is reported.
    Ending,
    /// Its end is committed.
    Over,
}

/// What was heard of a launched attempt that does not run yet. Silence says nothing: a master that
/// has restarted is silent until the agents are back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing since the last launch timeout.
    Silence { staged: u32 },
    /// That it was launched, made up by the master.
    Staged { staged: u32 },
    /// The agent or executor has it: they will say how it ends.
    Below,
    /// Its agent is out of sight, and the run was told.
    Away,
}

impl Known {
    /// The master says that it was launched; counted once for each time that it is asked.
    pub(super) fn staged(self) -> Self {
        match self {
            Self::Silence { staged } => Self::Staged { staged: staged + 1 },
            Self::Away => Self::Staged { staged: 1 },
            known => known,
        }
    }
}

/// A report under way, and what follows its commit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pending {
    pub(super) acknowledge: Vec<Action>,
    pub(super) then: Then,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Placed,
    /// It waits in this pool from now on.
    Moved(String),
    Over,
}
