//! Looking at one run, one artifact.

use std::sync::Arc;
use std::time::Duration;

use meson_core::definition::Definition;
use meson_core::ids::{IterPath, RunId};
use meson_protocol::api::{ArtifactView, RunDetail, RunEvent, RunSummary};

use super::Engine;
use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;
use crate::layout::Place;
use crate::machine::ArtifactEntry;
use crate::views::IterationPage;

impl Engine {
    /// A run as people see it, with what goes on in it.
    ///
    /// # Errors
    /// There is no such run, or its shard cannot be reached.
    pub async fn run(&self, run: &RunId) -> Result<RunDetail, EngineError> {
        let call = ShardCall::Run { run: run.clone() };
        match self.node.call(&Place::run(run), call).await? {
            ShardReply::Run(run) => Ok(*run),
            other => Err(other.unexpected("show the run")),
        }
    }

    /// A run's line in the list of runs.
    ///
    /// # Errors
    /// There is no such run, or its shard cannot be reached.
    pub async fn summary(&self, run: &RunId) -> Result<RunSummary, EngineError> {
        let call = ShardCall::Summary { run: run.clone() };
        match self.node.call(&Place::run(run), call).await? {
            ShardReply::Summary(summary) => Ok(*summary),
            other => Err(other.unexpected("show the run")),
        }
    }

    /// A step's iterations after one of them, in order.
    ///
    /// # Errors
    /// There is no such run or step, `after` is no iteration, or the shard cannot be reached.
    pub async fn iterations(
        &self,
        run: &RunId,
        step: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<IterationPage, EngineError> {
        let after = after
            .map(|text| read_iteration("list iterations", text))
            .transpose()?;
        let (limit, step) = (self.page(limit), step.to_owned());
        let call = ShardCall::Iterations {
            run: run.clone(),
            step,
            after,
            limit,
        };
        match self.node.call(&Place::run(run), call).await? {
            ShardReply::Iterations(page) => Ok(page),
            other => Err(other.unexpected("list iterations")),
        }
    }

    /// A run's history after an event, oldest first. If there is nothing yet, waits up to `wait`
    /// for more.
    ///
    /// # Errors
    /// There is no such run, or its shard cannot be reached.
    pub async fn events(
        &self,
        run: &RunId,
        after_seq: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<RunEvent>, EngineError> {
        let limit = self.page(limit);
        let call = ShardCall::Events {
            run: run.clone(),
            after: after_seq,
            limit,
            wait,
        };
        match self.node.call(&Place::run(run), call).await? {
            ShardReply::Events(events) => Ok(events),
            other => Err(other.unexpected("show the run's history")),
        }
    }

    /// A run's definition.
    ///
    /// # Errors
    /// There is no such run, or its shard cannot be reached.
    pub async fn definition(&self, run: &RunId) -> Result<Arc<Definition>, EngineError> {
        let call = ShardCall::Definition { run: run.clone() };
        match self.node.call(&Place::run(run), call).await? {
            ShardReply::Definition(definition) => Ok(definition),
            other => Err(other.unexpected("show the run's definition")),
        }
    }

    /// An artifact, the newest of its id.
    ///
    /// # Errors
    /// There is none, or its shard cannot be reached.
    pub async fn artifact(&self, name: &str, id: &str) -> Result<ArtifactView, EngineError> {
        let call = ShardCall::Artifact {
            name: name.to_owned(),
            id: id.to_owned(),
        };
        match self.node.call(&Place::artifact(name, id), call).await? {
            ShardReply::Artifact(Some(entry)) => Ok(view(*entry)),
            ShardReply::Artifact(None) => Err(EngineError::ArtifactNotFound {
                name: name.to_owned(),
                id: id.to_owned(),
            }),
            other => Err(other.unexpected("look up an artifact")),
        }
    }

    pub(super) fn page(&self, limit: usize) -> usize {
        limit.clamp(1, self.node.limits().page_items)
    }
}

pub(super) fn view(entry: ArtifactEntry) -> ArtifactView {
    ArtifactView {
        name: entry.name,
        id: entry.id,
        digest: entry.blob.digest,
        bytes: entry.blob.bytes.0,
        directory: entry.blob.directory,
        run: entry.run,
        step: entry.step,
        task: entry.task.to_string(),
        created_at: entry.created_at.to_rfc3339(),
    }
}

pub(super) fn read_iteration(action: &'static str, text: &str) -> Result<IterPath, EngineError> {
    text.parse().map_err(|_| EngineError::BadInput {
        action,
        reason: format!("{text:?} is no iteration"),
        remedy: "write `17`, or `2-17` inside of nested loops".to_owned(),
    })
}

pub(super) fn bad_cursor(action: &'static str, text: &str) -> EngineError {
    EngineError::BadInput {
        action,
        reason: format!("{text:?} is no place in this list"),
        remedy: "pass the `next` of the page before".to_owned(),
    }
}
