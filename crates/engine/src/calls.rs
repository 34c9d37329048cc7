//! The seam between the engine's facade and the shards: what is asked of a shard's leader.
//!
//! A caller names a place; the router finds the shard and its leader. If that is here, the call is
//! served at once; a call to another coordinator carries the same values. What is shown to people
//! holds JSON values, and travels as JSON (see [`meson_core::json`]).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meson_consensus::{Member, NodeId};
use meson_core::definition::Definition;
use meson_core::ids::{IterPath, RunId, TaskId};
use meson_core::run::{Input, RunHeader, RunState};
use meson_core::sizing::Profile;
use meson_core::units::Timestamp;
use meson_protocol::api::{PoolView, RunDetail, RunEvent, RunSummary};
use serde::{Deserialize, Serialize};

use crate::broker::messages::Waiting;
use crate::error::EngineError;
use crate::explain::{RunNow, StepNow};
use crate::machine::ArtifactEntry;
use crate::views::IterationPage;

/// Asked of a shard's leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ShardCall {
    /// Create a run, and start it.
    CreateRun {
        header: Box<RunHeader>,
        definition: Bytes,
    },
    /// Something happened to a run.
    Tell { run: RunId, input: Input },
    /// A run as people see it.
    Run { run: RunId },
    /// A run's header and state.
    Summary { run: RunId },
    /// How a run ended; waits for it if it goes on.
    AwaitEnd { run: RunId, wait: Duration },
    /// Runs, newest first.
    Runs {
        after: Option<(Timestamp, RunId)>,
        limit: usize,
        filter: RunFilter,
    },
    /// A step's iterations.
    Iterations {
        run: RunId,
        step: String,
        after: Option<IterPath>,
        limit: usize,
    },
    /// A step, or one of its iterations, with what it waits for.
    Step {
        run: RunId,
        step: String,
        iteration: Option<IterPath>,
    },
    /// The steps of a run that are not done, each with what it waits for.
    Unfinished { run: RunId, limit: usize },
    /// A run's history; waits for more if there is none.
    Events {
        run: RunId,
        after: u64,
        limit: usize,
        wait: Duration,
    },
    /// A run's definition.
    Definition { run: RunId },
    /// Whether an attempt is still of interest to its run.
    IsWanted { task: TaskId },
    /// Why does the broker not place this attempt?
    Waiting { pool: String, task: TaskId },
    /// How do things stand in this pool? Launching goes on, if an operator says so.
    Pool { pool: String, release_brake: bool },
    /// Register an artifact.
    PutArtifact(Box<ArtifactEntry>),
    /// What the steps of a workflow used.
    Profiles { workflow: String },
    /// Look up an artifact.
    Artifact { name: String, id: String },
    /// Artifacts in order of name and id.
    Artifacts {
        name: Option<String>,
        after: Option<(String, String)>,
        limit: usize,
    },
    /// A piece of a bundle.
    PutBundlePiece {
        digest: String,
        bytes: u64,
        pieces: u32,
        index: u32,
        piece: Bytes,
    },
    /// A bundle.
    Bundle { digest: String },
    /// Whether a bundle is there.
    HasBundle { digest: String },
    /// Note that a node uses its number, with the data that it has; nobody else may.
    RegisterNode { node: NodeId, incarnation: String },
    /// Whether a node has ever used this number.
    KnowsNode { node: NodeId },
    /// Hand leadership over.
    Transfer { to: NodeId },
    /// Let a node have a replica and a vote.
    AddVoter { node: NodeId, member: Member },
    /// Take a node's replica and vote.
    RemoveMember { node: NodeId },
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFilter {
    pub(crate) workflow: Option<String>,
    pub(crate) state: Option<String>,
}

/// A page of runs: what was found, and where the search ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RunPage {
    pub(crate) items: Vec<(Timestamp, RunSummary)>,
    /// The last entry that was looked at; none: there are no more.
    pub(crate) searched_to: Option<(Timestamp, RunId)>,
}

/// Answered by a shard's leader.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ShardReply {
    Done,
    Run(#[serde(with = "meson_core::json")] Box<RunDetail>),
    Summary(Box<RunSummary>),
    Ended {
        state: RunState,
        error: Option<String>,
    },
    Runs(RunPage),
    Iterations(#[serde(with = "meson_core::json")] IterationPage),
    Step(Box<StepNow>),
    Unfinished(Box<RunNow>),
    Events(#[serde(with = "meson_core::json")] Vec<RunEvent>),
    Definition(#[serde(with = "meson_core::json")] Arc<Definition>),
    IsWanted(bool),
    Waiting(Option<Box<Waiting>>),
    Pool(Option<PoolView>),
    Profiles(Vec<(String, Profile)>),
    Artifact(Option<Box<ArtifactEntry>>),
    Artifacts(Vec<ArtifactEntry>),
    Bundle(Option<Bytes>),
    HasBundle(bool),
    KnowsNode(bool),
}

impl ShardReply {
    /// The error of an answer to something else than what was asked.
    pub(crate) fn unexpected(self, action: &'static str) -> EngineError {
        EngineError::Internal {
            action,
            reason: "the shard answered another question".to_owned(),
        }
    }
}

impl ShardCall {
    /// How long an answer may be held back, beside the time that it takes.
    pub(crate) fn waits(&self) -> Duration {
        match self {
            Self::Events { wait, .. } | Self::AwaitEnd { wait, .. } => *wait,
            _ => Duration::ZERO,
        }
    }

    /// Whether the call or its answer is large.
    pub(crate) fn is_bulk(&self) -> bool {
        matches!(self, Self::Bundle { .. } | Self::PutBundlePiece { .. })
    }

    /// What is asked, for error messages.
    pub(crate) fn action(&self) -> &'static str {
        match self {
            Self::CreateRun { .. } => "create the run",
            Self::Tell { .. } => "tell the run",
            Self::Run { .. } | Self::Summary { .. } => "show the run",
            Self::AwaitEnd { .. } => "watch the run",
            Self::Runs { .. } => "list runs",
            Self::Iterations { .. } => "list iterations",
            Self::Step { .. } => "show the step",
            Self::Unfinished { .. } => "show the run's steps",
            Self::Events { .. } => "show the run's history",
            Self::Definition { .. } => "show the run's definition",
            Self::IsWanted { .. } => "ask whether an attempt is wanted",
            Self::Waiting { .. } => "ask the broker why an attempt waits",
            Self::Pool { .. } => "look at a pool",
            Self::PutArtifact(_) => "register an artifact",
            Self::Profiles { .. } => "read what steps used",
            Self::Artifact { .. } => "look up an artifact",
            Self::Artifacts { .. } => "list artifacts",
            Self::PutBundlePiece { .. } => "store a bundle",
            Self::Bundle { .. } | Self::HasBundle { .. } => "read a bundle",
            Self::RegisterNode { .. } => "register the node",
            Self::Transfer { .. } => "hand over leadership",
            Self::KnowsNode { .. } | Self::AddVoter { .. } => "let the node join",
            Self::RemoveMember { .. } => "remove the node",
        }
    }
}
