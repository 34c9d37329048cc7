//! What goes into the pure master and what comes out of it.

use super::operator::OperatorCall;
use crate::link::{FromAgent, Hello, ToAgent};
use meson_mesos::scheduler::{Call, Event, Subscribe};
use meson_mesos::types::{AgentId, FrameworkId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment, as the time since 1970. The master is told it and never asks a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub Duration);

impl Moment {
    /// Seconds since 1970, as timestamps of task statuses have it.
    pub fn as_seconds(self) -> f64 {
        self.0.as_secs_f64()
    }

    /// Nanoseconds since 1970, as `TimeInfo` has it.
    pub fn as_nanoseconds(self) -> i64 {
        i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, more: Duration) -> Self {
        Self(self.0.saturating_add(more))
    }
}

/// Names one stream of events, to a scheduler or to an agent. Made by the shell; for
/// schedulers it is the `Mesos-Stream-Id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub String);

impl From<&str> for StreamId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A scheduler subscribes on a new stream. The call is well-formed (both ids agree).
    Subscribe {
        /// The new stream.
        stream: StreamId,
        /// The id the framework says it has.
        framework_id: Option<FrameworkId>,
        /// Its call.
        subscribe: Box<Subscribe>,
    },
    /// Any other call of a scheduler.
    Call {
        /// Who calls.
        framework_id: FrameworkId,
        /// The stream it claims to hold, if it names one.
        stream: Option<StreamId>,
        /// Its call.
        call: Box<Call>,
    },
    /// A scheduler's stream broke, or the scheduler closed it.
    SchedulerGone {
        /// The stream.
        stream: StreamId,
    },
    /// An agent opens a stream.
    AgentHello {
        /// The new stream.
        stream: StreamId,
        /// Its first words.
        hello: Box<Hello>,
    },
    /// A call of an agent.
    AgentCall {
        /// Who calls.
        agent_id: AgentId,
        /// The stream it claims to hold.
        stream: StreamId,
        /// Its call.
        call: Box<FromAgent>,
    },
    /// An agent's stream broke, or the agent closed it.
    AgentGone {
        /// The stream.
        stream: StreamId,
    },
    /// An operator says that an agent will never come back.
    MarkAgentGone {
        /// The agent.
        agent_id: AgentId,
    },
    /// An operator's call.
    Operator(Box<OperatorCall>),
    /// An operator removes a framework.
    Teardown {
        /// The framework.
        framework_id: FrameworkId,
    },
    /// Time has passed; something may be due.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The answer to the call that went in. There is exactly one for each call.
    Reply(Reply),
    /// The registry has changed: save [`super::Master::registry`] before what follows.
    SaveRegistry,
    /// Send an event to a scheduler.
    ToScheduler {
        /// On this stream.
        stream: StreamId,
        /// The event.
        event: Box<Event>,
    },
    /// End a scheduler's stream in good order.
    CloseScheduler {
        /// The stream.
        stream: StreamId,
    },
    /// Send a message to an agent.
    ToAgent {
        /// On this stream.
        stream: StreamId,
        /// The message.
        message: Box<ToAgent>,
    },
    /// End an agent's stream in good order.
    CloseAgent {
        /// The stream.
        stream: StreamId,
    },
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 202 without a body.
    Accepted,
    /// 200 without a body (UPDATE_FRAMEWORK).
    Ok,
    /// 200 with JSON.
    Json(String),
    /// 400 with a text.
    BadRequest(String),
    /// 403 with a text.
    Forbidden(String),
    /// 409 with a text: an agent's call on a stream that is not its current one.
    Conflict(String),
}
