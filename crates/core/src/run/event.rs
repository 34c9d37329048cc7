//! What was decided: the history of a run, and all that [`apply`](super::apply()) needs.
//!
//! Events carry absolute values (`running: 7`, not `one more`), so applying one needs no
//! definition, and a replica needs no more than the event to follow.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::codec::{CodecError, decode, encode};
use super::input::Failure;
use super::record::{Group, ItemsList, KillReason, Loop, RunState, Seat, StepState, Todo};
use crate::ids::{Attempt, Instance, NodeId};
use crate::resources::MilliCpus;
use crate::sizing::{Asked, End, Usage};
use crate::units::{Bytes, Timestamp};

/// Something that happened to a run, for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The run began.
    RunStarted {
        /// When.
        at: Timestamp,
    },
    /// An inner node was entered.
    Entered {
        /// Which.
        instance: Instance,
        /// What it knows to begin with.
        group: Group,
    },
    /// The table of contents of a loop's lists.
    ItemsListed {
        /// Whose.
        instance: Instance,
        /// One for each loop variable.
        lists: Vec<ItemsList>,
    },
    /// A part of a loop's lists.
    ItemsStored {
        /// Whose.
        instance: Instance,
        /// Number of the part, from 1.
        chunk: u32,
        /// Its values.
        #[serde(with = "crate::json")]
        values: Vec<Value>,
    },
    /// Iterations of a for-each started or ended.
    LoopMoved {
        /// Which loop.
        instance: Instance,
        /// How far it is.
        progress: Loop,
    },
    /// A branch of a parallel node ended.
    BranchEnded {
        /// Which node.
        instance: Instance,
        /// Branches that ended well.
        succeeded: u32,
        /// And badly.
        failed: u32,
    },
    /// A repeat goes into another round.
    RoundStarted {
        /// Which repeat.
        instance: Instance,
        /// Which round, from 0.
        round: u32,
        /// The first round that counts against the limit.
        base: u32,
        /// Nodes whose counts begin anew with the round.
        recount: Vec<NodeId>,
    },
    /// An inner node ended.
    GroupEnded {
        /// Which.
        instance: Instance,
        /// Why it failed; none: it did not.
        error: Option<Box<str>>,
    },
    /// A step may start if its artifacts do not exist.
    StepReady {
        /// Which.
        instance: Instance,
        /// When.
        at: Timestamp,
    },
    /// An attempt has a number and is to be started.
    AttemptStarted {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// When.
        at: Timestamp,
    },
    /// The attempt asks for something else than its step states.
    AttemptSized {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// What it asks for, and why.
        asked: Asked,
    },
    /// Resources were asked for.
    AttemptRequested {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// When.
        at: Timestamp,
    },
    /// Nothing is to be had from the pool where resources were asked for: they are asked for in
    /// another one. Nothing was launched.
    AttemptSpilled {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// The pool that it leaves.
        from: String,
        /// The pool that it goes to.
        to: String,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// Resources were found.
    AttemptLaunching {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// The pool that they are in: where it is looked for from now on.
        pool: String,
        /// The Mesos agent's id.
        agent: String,
        /// Its host.
        host: String,
        /// Where the further tasks of a gang are, by rank from 1.
        mates: Vec<Seat>,
        /// When.
        at: Timestamp,
    },
    /// The process runs.
    AttemptRunning {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// Where to look at it.
        url: Option<String>,
        /// When it takes too long.
        timer: Option<Timestamp>,
        /// When.
        at: Timestamp,
    },
    /// The agent, or the whole pool, is out of sight.
    AttemptUnreachable {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// Why it cannot be reached, if it is not only the agent.
        reason: Option<String>,
        /// When it is given up, if it ever is.
        timer: Option<Timestamp>,
        /// When.
        at: Timestamp,
    },
    /// The attempt ended, having used so much. Comes before the event that says how it goes on,
    /// and is all that a step's profile needs to know.
    AttemptMeasured {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// The step's name.
        step: String,
        /// What it had asked for: processor time.
        asked_cpus: MilliCpus,
        /// What it had asked for: memory.
        asked_mem: Bytes,
        /// What it used.
        usage: Usage,
        /// How it ended.
        end: End,
    },
    /// The attempt failed, and there will be another.
    AttemptFailed {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// Why, and who pays.
        failure: Failure,
        /// Whether it may still run somewhere: it was given up, it did not end.
        given_up: bool,
        /// When the next one starts.
        retry_at: Timestamp,
        /// When.
        at: Timestamp,
    },
    /// A timer fired before its time by our clock, and is set again.
    TimerMoved {
        /// Whose.
        instance: Instance,
        /// Which attempt.
        attempt: Attempt,
        /// To when.
        timer: Timestamp,
    },
    /// The attempt is no longer wanted.
    KillRequested {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// Why.
        reason: KillReason,
        /// When.
        at: Timestamp,
    },
    /// A step ended.
    StepEnded {
        /// Which.
        instance: Instance,
        /// How; one of the ended states.
        state: StepState,
        /// Why it failed.
        failure: Option<Failure>,
        /// What it leaves.
        #[serde(with = "crate::json")]
        outputs: BTreeMap<String, Value>,
        /// When.
        at: Timestamp,
    },
    /// Word of an attempt that is no longer current. It changed nothing.
    LateUpdate {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// What was said.
        update: Late,
        /// When.
        at: Timestamp,
    },
    /// There is more to do than fits into this transition.
    TodoSet {
        /// Where.
        instance: Instance,
        /// What.
        todo: Todo,
    },
    /// It is done, or void.
    TodoDone {
        /// Where.
        instance: Instance,
    },
    /// Somebody wants the run to end.
    CancelRequested {
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// The flow ended, but attempts that nobody wants any more have not.
    FlowEnded {
        /// Why it failed; none: it did not.
        error: Option<String>,
    },
    /// An ended run goes on.
    Retried {
        /// The step that it goes on from; none: what did not succeed.
        from: Option<NodeId>,
        /// Nodes that begin from nothing.
        fresh: Vec<NodeId>,
        /// Nodes that begin again with what they know.
        reopened: Vec<NodeId>,
        /// When.
        at: Timestamp,
    },
    /// The run ended.
    RunEnded {
        /// How.
        state: RunState,
        /// Why, if not well.
        error: Option<String>,
        /// When.
        at: Timestamp,
    },
}

/// What was said of an attempt that is no longer current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// That it is alive: it is to be killed.
    Alive,
    /// That it ended well.
    Succeeded,
    /// That it failed.
    Failed,
    /// That it was killed.
    Killed,
}

impl Event {
    /// As bytes: a version and MessagePack.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        encode("event", self)
    }

    /// The event that [`encode`](Self::encode) made these bytes of.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode("event", bytes)
    }

    /// The instance that it is about, if about one.
    pub fn instance(&self) -> Option<&Instance> {
        match self {
            Self::RunStarted { .. }
            | Self::CancelRequested { .. }
            | Self::FlowEnded { .. }
            | Self::Retried { .. }
            | Self::RunEnded { .. } => None,
            Self::Entered { instance, .. }
            | Self::ItemsListed { instance, .. }
            | Self::ItemsStored { instance, .. }
            | Self::LoopMoved { instance, .. }
            | Self::BranchEnded { instance, .. }
            | Self::RoundStarted { instance, .. }
            | Self::GroupEnded { instance, .. }
            | Self::StepReady { instance, .. }
            | Self::AttemptStarted { instance, .. }
            | Self::AttemptSized { instance, .. }
            | Self::AttemptMeasured { instance, .. }
            | Self::AttemptRequested { instance, .. }
            | Self::AttemptSpilled { instance, .. }
            | Self::AttemptLaunching { instance, .. }
            | Self::AttemptRunning { instance, .. }
            | Self::AttemptUnreachable { instance, .. }
            | Self::AttemptFailed { instance, .. }
            | Self::TimerMoved { instance, .. }
            | Self::KillRequested { instance, .. }
            | Self::StepEnded { instance, .. }
            | Self::LateUpdate { instance, .. }
            | Self::TodoSet { instance, .. }
            | Self::TodoDone { instance, .. } => Some(instance),
        }
    }
}
