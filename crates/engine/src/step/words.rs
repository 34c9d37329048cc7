//! What goes into a step actor's decisions, and what comes out.

use meson_core::run::Input;
use meson_core::sizing::Usage;

use crate::broker::messages::Signal;

/// Something that happens to a step actor.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A broker can be reached; it is another one than the last.
    BrokerUp,
    /// The broker is gone.
    BrokerGone,
    /// The broker says something.
    Signal(Signal),
    /// The oldest report that was not yet committed now is.
    Committed,
    /// The time that [`Action::WatchLaunch`] asked for is over.
    LaunchOverdue,
    /// The time that [`Action::AwaitResult`] asked for is over.
    ResultOverdue {
        /// Which task of the attempt.
        rank: u32,
    },
    /// The time that [`Action::WatchKill`] asked for is over.
    KillOverdue,
    /// The pool has been out of reach for longer than the attempt is to be patient, and there is
    /// another one that it could go to, or it is not wanted any more.
    PoolLost {
        /// That one.
        to: String,
        /// What is known of it, for the history.
        reason: String,
    },
    /// The run does not want the attempt any more.
    Kill,
}

/// Something for the step actor to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Ask the broker for a place.
    Enqueue,
    /// Leave the broker, and speak to the one of this pool from now on.
    Move {
        /// The pool.
        pool: String,
    },
    /// Ask the broker to find out about the attempt on this agent.
    Adopt {
        /// Which task of the attempt.
        rank: u32,
        /// The agent's id.
        agent: String,
    },
    /// Tell the broker that the placement on these agents, by rank, is durable.
    Confirm {
        /// Their ids.
        agents: Vec<String>,
    },
    /// Ask the broker to end it.
    Kill {
        /// Which task of the attempt; the first one, if none was launched.
        rank: u32,
        /// Where it is, if anybody knows.
        agent: Option<String>,
    },
    /// Hand this to the run; [`Event::Committed`] follows, in order.
    Report(Input),
    /// Let the resource manager forget an update.
    Acknowledge {
        /// Which task of the attempt.
        rank: u32,
        /// Who sent it.
        agent: String,
        /// Its id.
        uuid: Vec<u8>,
    },
    /// [`Event::LaunchOverdue`] after the launch timeout, counted anew.
    WatchLaunch,
    /// [`Event::ResultOverdue`] after a while.
    AwaitResult {
        /// Which task of the attempt.
        rank: u32,
    },
    /// [`Event::KillOverdue`] after a while.
    WatchKill,
    /// Note unreliable progress.
    Progress {
        /// 0 to 100.
        percent: u8,
        /// What it does.
        message: String,
        /// A page to look at.
        url: Option<String>,
    },
    /// Note what it used so far.
    Usage(Usage),
    /// Nothing is left to do.
    Stop,
}
