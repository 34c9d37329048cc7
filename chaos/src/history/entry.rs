//! What can happen.

use serde::{Deserialize, Serialize};

use super::Millis;

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was seen.
    pub at: Millis,
    /// What it was.
    pub what: What,
}

/// What was done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A coordinator got SIGKILL.
    Kill,
    /// A coordinator was stopped (SIGSTOP), to go on later.
    Pause,
    /// Nodes do not hear each other.
    Partition,
    /// The network is slow, loses, doubles or reorders.
    Network,
    /// A Mesos agent got SIGKILL.
    Agent,
    /// An executor got SIGKILL.
    Executor,
    /// The Mesos master got SIGKILL.
    Master,
    /// A node's disk is full.
    Disk,
    /// A node's clock was set.
    Clock,
}

impl FaultKind {
    /// A word for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Network => "network",
            Self::Agent => "agent",
            Self::Executor => "executor",
            Self::Master => "master",
            Self::Disk => "disk",
            Self::Clock => "clock",
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A run is submitted to a node. The same run may be asked for again, of another node.
    Asked {
        /// Its id.
        run: String,
        /// Its workflow.
        workflow: String,
        /// Whom.
        node: u64,
    },
    /// The node says that the run is durable.
    Acknowledged {
        /// Its id.
        run: String,
        /// Who says so.
        node: u64,
    },
    /// No node said whether the run was accepted.
    Unknown {
        /// Its id.
        run: String,
        /// The last answer.
        reason: String,
    },
    /// A node will not have a run that it should have taken.
    Refused {
        /// Its id.
        run: String,
        /// What it said.
        reason: String,
    },
    /// Something is broken from now on.
    Fault {
        /// How.
        kind: FaultKind,
        /// The coordinators that it hits.
        nodes: Vec<u64>,
        /// In words.
        text: String,
    },
    /// What was broken works again.
    Healed {
        /// In words.
        text: String,
    },
    /// A coordinator's process runs.
    Up {
        /// Which.
        node: u64,
    },
    /// A coordinator's process is gone.
    Down {
        /// Which.
        node: u64,
        /// Whether it ended by itself.
        by_itself: bool,
    },
    /// Who leads a shard, as a node sees it. Written when that node sees something new.
    Leader {
        /// Who says so.
        seen_by: u64,
        /// The shard.
        shard: u16,
        /// Its leader, if it has one.
        leader: Option<u64>,
        /// The leader's term.
        term: u64,
        /// Log position up to which all is committed.
        commit: u64,
    },
    /// A node that is cut off from the majority of every shard was asked to accept a run.
    MinorityWrite {
        /// Which node.
        node: u64,
        /// The run.
        run: String,
        /// The HTTP status; none: no answer while it was cut off.
        status: Option<u16>,
    },
    /// Such a node was asked for a run that the majority accepted after the cut.
    MinorityRead {
        /// Which node.
        node: u64,
        /// The run.
        run: String,
        /// The HTTP status; none: no answer while it was cut off.
        status: Option<u16>,
    },
    /// Something was sent that makes no sense.
    BadInput {
        /// To whom.
        node: u64,
        /// What was wrong with it.
        case: String,
        /// The HTTP status; none: no answer.
        status: Option<u16>,
        /// Whether the answer says what is wrong, in the shape of the API's errors.
        explained: bool,
    },
    /// All works again: every node is healthy and a new run went through.
    Recovered {
        /// How long it took since the healing, in milliseconds.
        after_ms: u64,
    },
    /// While a region was lost, a run that survives that was begun elsewhere, and ended.
    WentOn {
        /// How long it took, in milliseconds.
        after_ms: u64,
    },
    /// It did not.
    StoodStill {
        /// What did not end.
        text: String,
    },
    /// Something was measured.
    Measured {
        /// What, and how much.
        text: String,
    },
    /// No run goes on any more, or the time for that is over.
    Over,
    /// It does not, although enough time was given.
    NotRecovered {
        /// What is missing.
        text: String,
    },
}
