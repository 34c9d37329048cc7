//! What goes into the broker's decisions, and what comes out.

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::matching::Shape;
use meson_core::run::{Claim, Seat};
use meson_core::sizing::Usage;
use meson_core::units::Timestamp;
use meson_mesos::scheduler::{Call, Event};
use meson_mesos::types::FrameworkId;

use super::super::messages::{AttemptState, Signal, Update};
use super::super::stats::Measured;

/// Something that happened.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one call, and is never kept in numbers"
)]
#[derive(Debug)]
pub enum Input {
    /// A session began, under this id.
    Subscribed(FrameworkId),
    /// The session ended.
    Disconnected,
    /// The resource manager said something.
    Event(Event),
    /// It may not have heard of the launch of these tasks; their offers were given back since.
    LaunchInDoubt(Vec<TaskId>),
    /// It did not take what it was told last about which offers are of use.
    ConstraintsNotTaken,
    /// A request, see [`messages::Enqueue`](super::super::messages::Enqueue).
    Enqueue {
        /// The attempt.
        task: TaskId,
        /// What it asks for.
        shape: Shape,
        /// Who pays.
        owner: String,
        /// Wanted done by then.
        deadline: Option<Timestamp>,
        /// For the executor.
        payload: Bytes,
    },
    /// See [`messages::Confirm`](super::super::messages::Confirm).
    Confirm {
        /// The attempt.
        task: TaskId,
        /// Where it is on record, by rank.
        agents: Vec<String>,
    },
    /// See [`messages::Adopt`](super::super::messages::Adopt).
    Adopt {
        /// The attempt.
        task: TaskId,
        /// Where it was placed.
        agent: String,
        /// What it holds there, if that is known.
        claim: Option<Box<Claim>>,
    },
    /// See [`messages::Kill`](super::super::messages::Kill).
    Kill {
        /// The attempt.
        task: TaskId,
        /// Where it runs, if known.
        agent: Option<String>,
    },
    /// See [`messages::Acknowledge`](super::super::messages::Acknowledge).
    Acknowledge {
        /// The attempt.
        task: TaskId,
        /// Who sent the update.
        agent: String,
        /// The update's own id.
        uuid: Vec<u8>,
    },
    /// Nobody hears the attempt's news any more: its step actor is gone.
    Unheard(TaskId),
    /// Answer to [`Output::AskWanted`]; `None`: cannot be told now.
    Verdict {
        /// The attempt.
        task: TaskId,
        /// Whether a run knows it as current.
        wanted: Option<bool>,
    },
    /// An operator releases the brake.
    ReleaseBrake,
}

/// Something to do.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one call, and is never kept in numbers"
)]
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Say this to the resource manager.
    Call(Call),
    /// Tell the attempt's step actor.
    Signal(TaskId, News),
    /// Is this attempt current? Answer by [`Input::Verdict`].
    AskWanted(TaskId),
    /// Note a time.
    Measured(Measured),
    /// Launching has stopped, for this reason.
    Stopped(String),
    /// The resource manager has lost sight of an agent; so many tasks of ours are there.
    AgentLost {
        /// Its host.
        host: String,
        /// Tasks that are not over.
        tasks: usize,
    },
    /// Something was heard of such an agent.
    AgentBack(String),
    /// It goes on.
    GoesOn,
}

/// A [`Signal`] without its addressee.
#[derive(Debug, PartialEq)]
pub enum News {
    /// In the queue.
    Queued,
    /// An offer is held.
    Placed {
        /// The agent's id.
        agent: String,
        /// Its host.
        host: String,
        /// Of the further tasks of a gang.
        mates: Vec<Seat>,
    },
    /// A state.
    State {
        /// The agent's id.
        agent: Option<String>,
        /// To be acknowledged.
        uuid: Option<Vec<u8>>,
        /// The state.
        state: AttemptState,
    },
    /// Left the queue without having run.
    Withdrawn,
    /// Percent complete and so on.
    Progress {
        /// 0 to 100.
        percent: u8,
        /// What it is doing.
        message: String,
        /// A page to look at.
        url: Option<String>,
    },
    /// What it used so far.
    Usage(Usage),
}

impl From<(TaskId, News)> for Signal {
    fn from((task, news): (TaskId, News)) -> Self {
        match news {
            News::Queued => Self::Queued { task },
            // Whose pool it is, only the broker's actor knows.
            News::Placed { agent, host, mates } => Self::Placed {
                task,
                pool: String::new(),
                agent,
                host,
                mates,
            },
            News::State { agent, uuid, state } => Self::Update(Box::new(Update {
                task,
                agent,
                uuid,
                state,
            })),
            News::Withdrawn => Self::Withdrawn { task },
            News::Usage(usage) => Self::Usage { task, usage },
            News::Progress {
                percent,
                message,
                url,
            } => Self::Progress {
                task,
                percent,
                message,
                url,
            },
        }
    }
}
