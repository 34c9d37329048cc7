//! What step actors and the broker of a pool say to each other.
//!
//! ```text
//!  StepActor                          BrokerActor                     resource manager
//!     │ Enqueue(request) ───────────────►│ queue, match against offers      │
//!     │◄──────────── Signal::Placed ─────│ (offer held, some ms)            │
//!     │   commit Input::Launching        │                                  │
//!     │ Confirm ────────────────────────►│ ACCEPT ─────────────────────────►│
//!     │◄──────────── Signal::Update ─────│◄─────────────────────── UPDATE ──│
//!     │   commit                         │                                  │
//!     │ Acknowledge ────────────────────►│ ACKNOWLEDGE ────────────────────►│
//! ```
//!
//! The agent of an attempt is durable before the resource manager hears of the attempt. An
//! attempt without one was therefore never launched and may be enqueued again under the same
//! task id; an attempt with one is adopted ([`Adopt`]) and never launched a second time. What an
//! adopted one holds counts from then on: for its owner, on its agent, and in what is explained.
//!
//! The broker is soft state: when it is gone, senders get an error that says so, and step
//! actors send `Enqueue` or `Adopt` again to the next one. Everything here is idempotent by
//! task id.
//!
//! An attempt of several tasks, a gang, is enqueued, placed and confirmed as one, under the id of
//! its first task, and withdrawn as one while it waits. From its launch on each task goes its own
//! way under its own id ([`TaskId::member`]), and whoever enqueued the attempt hears of all of
//! them.

use actix::prelude::*;
use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::matching::Shape;
use meson_core::run::{Claim, FailureClass, Seat};
use meson_core::sizing::Usage;
use meson_core::units::Timestamp;
use meson_protocol::api::{PoolView, Reason, WaitingView};
use serde::{Deserialize, Serialize};

/// Asks for a place to run. Answered by signals; nothing is launched before [`Confirm`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Enqueue {
    /// The attempt.
    pub task: TaskId,
    /// What it needs.
    pub shape: Shape,
    /// Wanted done by then: earlier ones go first.
    pub deadline: Option<Timestamp>,
    /// Who pays, for fair shares.
    pub owner: String,
    /// An encoded [`TaskPayload`](meson_protocol::task::TaskPayload), for the executor.
    pub payload: Bytes,
    /// Where signals go.
    pub observer: Recipient<Signal>,
}

/// The placement is durable: launch, all of it. Said of another placement than the one that is
/// held now, because the hold of the first was over meanwhile, it launches nothing: the step actor
/// has been told of the second, and confirms that too once it is durable.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Confirm {
    /// The attempt.
    pub task: TaskId,
    /// The agents on which it is on record, by rank.
    pub agents: Vec<String>,
}

/// Takes over an attempt that was placed before this broker or this step actor lived.
/// Reconciled explicitly, with the agent's id; answered by [`Signal::Update`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Adopt {
    /// The attempt.
    pub task: TaskId,
    /// The agent that it was placed on.
    pub agent: String,
    /// What it holds there, so that it counts for its owner and in what is told of the agent; not
    /// counted if nobody can say.
    pub claim: Option<Box<Claim>>,
    /// Where signals go.
    pub observer: Recipient<Signal>,
}

/// Not wanted any more: leaves the queue, or is killed where it runs (with the step's grace).
/// Answered by [`Signal::Update`] with a terminal state, or [`Signal::Withdrawn`] if it never ran.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Kill {
    /// The attempt.
    pub task: TaskId,
    /// The agent that it runs on, if known.
    pub agent: Option<String>,
}

/// What the update said is durable: the resource manager may forget it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Acknowledge {
    /// The attempt.
    pub task: TaskId,
    /// The agent that sent it.
    pub agent: String,
    /// The update's own id.
    pub uuid: Vec<u8>,
}

/// Why does this attempt wait?
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Waiting>")]
pub struct Explain {
    /// The attempt.
    pub task: TaskId,
}

/// How do things stand in the pool?
#[derive(Debug, Clone, Copy, Default, Message)]
#[rtype(result = "Option<PoolView>")]
pub struct Look {
    /// Launching, if it has stopped, goes on: an operator knows better.
    pub release_brake: bool,
}

/// Nobody hears the attempt's news any more: whoever heard them is gone, and the broker did not
/// notice, because somebody stood in between.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Unheard {
    /// The attempt.
    pub task: TaskId,
    /// Who heard them in vain. Another one may have claimed the attempt before this is read: a new
    /// leader's step actor, elsewhere.
    pub observer: Recipient<Signal>,
}

/// Answer to [`Explain`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Waiting {
    /// Place in the queue, 0 is next.
    pub position: usize,
    /// What stands in the way, most frequent first.
    pub reasons: Vec<Reason>,
    /// The smallest changes that would make it fit.
    pub would_fit: Vec<String>,
    /// The rest of what the broker knows.
    pub view: WaitingView,
}

/// What the broker tells a step actor about its attempt.
#[derive(Debug, Clone, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub enum Signal {
    /// It is in the queue.
    Queued {
        /// The attempt.
        task: TaskId,
    },
    /// An offer is held for it until [`Confirm`]; without one it is queued again after a time that
    /// follows how long placements take to become durable.
    Placed {
        /// The attempt.
        task: TaskId,
        /// The broker's pool.
        pool: String,
        /// The agent's id.
        agent: String,
        /// The agent's host name.
        host: String,
        /// Where the further tasks of a gang are to be, by rank from 1.
        mates: Vec<Seat>,
    },
    /// The resource manager reported a state.
    Update(Box<Update>),
    /// It left the queue without having run.
    Withdrawn {
        /// The attempt.
        task: TaskId,
    },
    /// An unreliable word of the executor: percent complete and what it does.
    Progress {
        /// The attempt.
        task: TaskId,
        /// 0 to 100.
        percent: u8,
        /// What it is doing.
        message: String,
        /// A page to look at.
        url: Option<String>,
    },
    /// Another one: what it used so far.
    Usage {
        /// The attempt.
        task: TaskId,
        /// That.
        usage: Usage,
    },
}

impl Signal {
    /// The attempt that it is about.
    #[must_use]
    pub fn task(&self) -> &TaskId {
        match self {
            Self::Queued { task }
            | Self::Placed { task, .. }
            | Self::Withdrawn { task }
            | Self::Progress { task, .. }
            | Self::Usage { task, .. } => task,
            Self::Update(update) => &update.task,
        }
    }
}

/// A state of an attempt, in the words that a step actor needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Update {
    /// The attempt.
    pub task: TaskId,
    /// The agent's id, when the update says.
    pub agent: Option<String>,
    /// To be acknowledged once durable; none for updates that the master made up.
    pub uuid: Option<Vec<u8>>,
    /// What happened.
    pub state: AttemptState,
}

/// What happened to an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AttemptState {
    /// Staged or starting.
    Launching,
    /// The process runs.
    Running {
        /// A page to look at.
        url: Option<String>,
    },
    /// Its agent is out of sight; it may come back.
    Unreachable,
    /// Asked to end, not ended yet.
    Killing,
    /// Ended well; the data of the executor's update ([`TaskResult`](meson_protocol::task::TaskResult)).
    Finished {
        /// Encoded result; empty when the update carried none (a reconciliation answer).
        data: Bytes,
    },
    /// Ended badly.
    Failed {
        /// Who pays, as far as state, source and reason of the update tell.
        class: FailureClass,
        /// What the update said.
        message: String,
        /// Encoded result of the executor, which knows better than the reason does.
        data: Bytes,
    },
    /// Ended because it was asked to.
    Killed,
}
