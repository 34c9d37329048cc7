//! The state of a run: records, each small, each named by a [`RecordKey`](super::RecordKey).
//!
//! Counters roll up into the records of loops and of [summaries](Summary), so that nobody has
//! to look at all children to know how far a run is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::codec::{CodecError, FORMAT};
use super::codec::{decode, encode};
use super::input::{Failure, FailureClass};
use crate::definition::Definition;
use crate::ids::{Attempt, Instance, NodeId, RunId};
use crate::sizing::{Asked, Learned, Samples, Usage};
use crate::units::Timestamp;

/// The value of a [`RecordKey`](super::RecordKey).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// Of [`RecordKey::Header`](super::RecordKey::Header).
    Header(Box<RunHeader>),
    /// Of [`RecordKey::Status`](super::RecordKey::Status).
    Status(Box<RunStatus>),
    /// Of [`RecordKey::Resets`](super::RecordKey::Resets).
    Resets(Resets),
    /// Of [`RecordKey::Summary`](super::RecordKey::Summary).
    Summary(Box<Summary>),
    /// Of [`RecordKey::Instance`](super::RecordKey::Instance), for a leaf.
    Step(StepRecord),
    /// Of [`RecordKey::Instance`](super::RecordKey::Instance), for an inner node.
    Group(GroupRecord),
    /// Of [`RecordKey::Outputs`](super::RecordKey::Outputs).
    Outputs(#[serde(with = "crate::json")] BTreeMap<String, Value>),
    /// Of [`RecordKey::Items`](super::RecordKey::Items), number 0.
    ItemsIndex(Vec<ItemsList>),
    /// Of [`RecordKey::Items`](super::RecordKey::Items), from number 1.
    Items(#[serde(with = "crate::json")] Vec<Value>),
    /// Of [`RecordKey::Live`](super::RecordKey::Live).
    Live,
    /// Of [`RecordKey::Todo`](super::RecordKey::Todo).
    Todo(Todo),
    /// Of [`RecordKey::Samples`](super::RecordKey::Samples).
    Samples(Box<Samples>),
}

/// What a run was made with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// The run's id.
    pub id: RunId,
    /// The workflow's name.
    pub workflow: String,
    /// Digest of the definition, for whoever stores it.
    pub definition: String,
    /// Digest of the bundle with the workflow's files.
    pub bundle: Option<String>,
    /// Values of all parameters, as [`bind`](crate::params::bind) gave them.
    #[serde(with = "crate::json")]
    pub params: BTreeMap<String, Value>,
    /// Who pays, for steps that do not say.
    pub owner: String,
    /// Run steps even if their artifacts exist.
    pub force: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The attempt of another run that this one is a step of.
    pub parent: Option<String>,
    /// What earlier runs used, by the names of steps that may learn from it.
    #[serde(default)]
    pub learned: BTreeMap<String, Learned>,
}

impl RunHeader {
    /// The header of a new run of `definition`, whose digest is `digest`.
    pub fn new(
        id: RunId,
        definition: &Definition,
        digest: impl Into<String>,
        params: BTreeMap<String, Value>,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            workflow: definition.name.clone(),
            definition: digest.into(),
            bundle: None,
            params,
            owner: definition.owner.clone(),
            force: false,
            created_at,
            parent: None,
            learned: BTreeMap::new(),
        }
    }
}

/// The state of a run as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// All is done.
    Succeeded,
    /// Something failed that may not.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl RunState {
    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStatus {
    /// Its state.
    pub state: RunState,
    /// When it was first started; none: not yet.
    pub started_at: Option<Timestamp>,
    /// When it ended; none while it runs.
    pub finished_at: Option<Timestamp>,
    /// How often it was retried.
    pub generation: u32,
    /// How many steps have something going on.
    pub live: u32,
    /// How many [`Todo`]s there are.
    pub todo: u32,
    /// Why it is being cancelled, if it is.
    pub cancelling: Option<String>,
    /// The flow ended, and only attempts that are no longer wanted keep the run from it.
    pub flow: Option<FlowEnd>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
}

impl Default for RunStatus {
    fn default() -> Self {
        Self {
            state: RunState::Running,
            started_at: None,
            finished_at: None,
            generation: 0,
            live: 0,
            todo: 0,
            cancelling: None,
            flow: None,
            error: None,
        }
    }
}

/// How the flow ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowEnd {
    /// All is done.
    Succeeded,
    /// Why not.
    Failed(String),
}

/// What retries made void, by node. Records remember the generation that wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resets(pub BTreeMap<NodeId, Reset>);

/// What is void of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// Records of earlier generations do not count, but for the number of attempts.
    pub fresh_below: u32,
    /// Records of earlier generations are not done; what they know (items, round, branch) stays.
    pub reopen_below: u32,
}

/// The state of a step or of one of its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Something before it is not done.
    Waiting,
    /// It waits for a join that has some branches done.
    Activated,
    /// It may start: it asks for its artifacts, or waits to be tried again.
    Ready,
    /// Resources were asked for.
    Requested,
    /// Resources were found.
    Launching,
    /// Its process runs.
    Running,
    /// Its agent is out of sight.
    Unreachable,
    /// Done.
    Succeeded,
    /// Failed for good.
    Failed,
    /// It took too long, for good.
    TimedOut,
    /// Ended because nobody wants it any more.
    Killed,
    /// On a branch that was not taken.
    Skipped,
    /// Its artifacts existed.
    Memoized,
    /// Something before it failed.
    UpstreamFailed,
}

impl StepState {
    /// Every state, in the order of [`Summary::counts`].
    pub const ALL: [Self; 14] = [
        Self::Waiting,
        Self::Activated,
        Self::Ready,
        Self::Requested,
        Self::Launching,
        Self::Running,
        Self::Unreachable,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Killed,
        Self::Skipped,
        Self::Memoized,
        Self::UpstreamFailed,
    ];

    /// As people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Activated => "activated",
            Self::Ready => "ready",
            Self::Requested => "requested",
            Self::Launching => "launching",
            Self::Running => "running",
            Self::Unreachable => "unreachable",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Killed => "killed",
            Self::Skipped => "skipped",
            Self::Memoized => "memoized",
            Self::UpstreamFailed => "upstream_failed",
        }
    }

    /// Whether what comes after it may start.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Succeeded | Self::Memoized | Self::Skipped)
    }

    /// Whether nothing will happen to it any more.
    pub fn is_ended(self) -> bool {
        self >= Self::Succeeded
    }
}

/// How many instances of a step are in which state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// By state, in the order of [`StepState::ALL`].
    pub counts: [u32; 14],
    /// Attempts of all instances.
    pub attempts: u64,
    /// Of a for-each: iterations of all its instances.
    pub expected: u64,
}

impl Summary {
    /// How many instances are in `state`.
    pub fn count(&self, state: StepState) -> u32 {
        self.counts[state as usize]
    }
}

/// An instance of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The run's generation when it was entered.
    pub generation: u32,
    /// Its state.
    pub state: StepState,
    /// The newest attempt; 0: none yet.
    pub attempt: Attempt,
    /// Failures that each budget paid for, by [`FailureClass`], since it was entered.
    pub spent: [u16; FailureClass::COUNT],
    /// Why the newest attempt is to be killed, if it is.
    pub kill: Option<KillReason>,
    /// What it is about.
    pub phase: Phase,
    /// When it was entered.
    pub entered_at: Timestamp,
    /// When the newest attempt began to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When something is due if nothing happens: the next attempt, the time limit, the replacement.
    pub timer: Option<Timestamp>,
    /// Where the newest attempt is.
    pub place: Option<Box<Place>>,
    /// Why the last attempt that failed did.
    pub failure: Option<Box<Failure>>,
    /// What the newest attempt asks for, if not what the step states.
    pub asked: Option<Box<Asked>>,
    /// What the newest attempt used, once it has ended.
    pub usage: Option<Box<Usage>>,
}

/// What a step instance is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The registry was asked for its artifacts.
    LookUp,
    /// The newest attempt is under way.
    Attempt,
    /// The newest attempt failed; the next one waits for [`StepRecord::timer`].
    BackOff,
    /// It is over.
    Ended,
}

/// Where an attempt is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The pool that it was placed in, or waits in if that is not its first choice.
    pub pool: String,
    /// The Mesos agent's id; empty: none yet.
    pub agent: String,
    /// Its host.
    pub host: String,
    /// Where to look at the process.
    pub url: Option<String>,
    /// Where the further tasks of a gang are, by rank from 1.
    pub mates: Vec<Seat>,
}

/// Where one task of an attempt is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seat {
    /// The Mesos agent's id.
    pub agent: String,
    /// Its host.
    pub host: String,
}

/// Why an attempt is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillReason {
    /// The run was cancelled.
    Cancelled,
    /// Another branch was first.
    Lost,
    /// It took too long.
    Timeout,
}

/// An instance of an inner node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The run's generation when it was entered.
    pub generation: u32,
    /// Its state.
    pub state: GroupState,
    /// What it knows.
    pub kind: Group,
}

/// The state of an inner node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// Something in it goes on.
    Active,
    /// Done.
    Succeeded,
    /// Why not.
    Failed(Box<str>),
}

/// What an inner node knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Group {
    /// Which child is on follows from the children.
    Sequence,
    /// Branches that ended.
    Parallel {
        /// Well.
        succeeded: u32,
        /// Badly.
        failed: u32,
    },
    /// Iterations.
    ForEach(Loop),
    /// Which way was taken; none: the condition could not be evaluated.
    When {
        /// `then`, rather than `otherwise`.
        taken: Option<bool>,
    },
    /// Rounds.
    Repeat {
        /// The newest round, from 0.
        round: u32,
        /// The first round that counts against the limit: a retry allows as many again.
        base: u32,
    },
}

/// How far a for-each is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loop {
    /// How many iterations there are; none: the lists could not be evaluated.
    pub total: Option<u32>,
    /// The next one to start.
    pub next: u32,
    /// Started and not ended.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended badly.
    pub failed: u32,
}

/// A loop variable's list, cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemsList {
    /// How many values.
    pub len: u32,
    /// Number of its first chunk; 0: the list stands in the definition.
    pub chunk: u32,
    /// Index of the first value of each of its chunks.
    pub starts: Vec<u32>,
}

/// Work that did not fit into one transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Todo {
    /// The run's generation; that of an older one is void.
    pub generation: u32,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Start more iterations of this loop.
    Start,
    /// Kill what is live below this node.
    Kill {
        /// Why.
        reason: KillReason,
        /// Not this branch.
        spare: Option<NodeId>,
        /// Go on after this one.
        after: Option<Instance>,
    },
}

impl Record {
    /// As bytes: a version and MessagePack. The same record gives the same bytes.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        encode("record", self)
    }

    /// The record that [`encode`](Self::encode) made these bytes of.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        decode("record", bytes)
    }
}
