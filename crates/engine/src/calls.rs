//! The seam between the engine's facade and the shards: what is asked of a shard's leader.
//!
//! A caller names a place; the router finds the shard and its leader. Today every shard is led
//! here, and the call is served at once; a call to another coordinator carries the same values.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meson_core::definition::Definition;
use meson_core::ids::{IterPath, RunId, TaskId};
use meson_core::run::{Input, RunHeader, RunState};
use meson_core::units::Timestamp;
use meson_protocol::api::{RunDetail, RunEvent, RunSummary};

use crate::broker::messages::Waiting;
use crate::error::EngineError;
use crate::explain::StepNow;
use crate::machine::ArtifactEntry;
use crate::views::IterationPage;

/// Asked of a shard's leader.
#[derive(Debug, Clone)]
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
    /// Register an artifact.
    PutArtifact(Box<ArtifactEntry>),
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
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunFilter {
    pub(crate) workflow: Option<String>,
    pub(crate) state: Option<String>,
}

/// A page of runs: what was found, and where the search ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunPage {
    pub(crate) items: Vec<(Timestamp, RunSummary)>,
    /// The last entry that was looked at; none: there are no more.
    pub(crate) searched_to: Option<(Timestamp, RunId)>,
}

/// Answered by a shard's leader.
#[derive(Debug, Clone)]
pub(crate) enum ShardReply {
    Done,
    Run(Box<RunDetail>),
    Summary(Box<RunSummary>),
    Ended {
        state: RunState,
        error: Option<String>,
    },
    Runs(RunPage),
    Iterations(IterationPage),
    Step(Box<StepNow>),
    Events(Vec<RunEvent>),
    Definition(Arc<Definition>),
    IsWanted(bool),
    Waiting(Option<Waiting>),
    Artifact(Option<Box<ArtifactEntry>>),
    Artifacts(Vec<ArtifactEntry>),
    Bundle(Option<Bytes>),
    HasBundle(bool),
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
            Self::Events { .. } => "show the run's history",
            Self::Definition { .. } => "show the run's definition",
            Self::IsWanted { .. } => "ask whether an attempt is wanted",
            Self::Waiting { .. } => "ask the broker why an attempt waits",
            Self::PutArtifact(_) => "register an artifact",
            Self::Artifact { .. } => "look up an artifact",
            Self::Artifacts { .. } => "list artifacts",
            Self::PutBundlePiece { .. } => "store a bundle",
            Self::Bundle { .. } | Self::HasBundle { .. } => "read a bundle",
        }
    }
}
