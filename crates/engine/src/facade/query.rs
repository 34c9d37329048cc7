//! Looking at runs and artifacts.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meson_core::definition::Definition;
use meson_core::ids::{IterPath, RunId};
use meson_protocol::api::{ArtifactView, Page, RunDetail, RunEvent, RunSummary};

use super::Engine;
use crate::calls::{RunFilter, ShardCall, ShardReply};
use crate::error::EngineError;
use crate::events::{cursor, read_cursor};
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

    /// Runs, newest first. A page may hold fewer than `limit` although more follow, when few of
    /// those that were looked at fit; `next` says whether to go on.
    ///
    /// # Errors
    /// `after` is no place in the list, or a shard cannot be reached.
    pub async fn runs(
        &self,
        after: Option<&str>,
        limit: usize,
        workflow: Option<&str>,
        state: Option<&str>,
    ) -> Result<Page<RunSummary>, EngineError> {
        let limit = self.page(limit);
        let after = after
            .map(|text| read_cursor(text).ok_or_else(|| bad_cursor("list runs", text)))
            .transpose()?;
        let filter = RunFilter {
            workflow: workflow.map(str::to_owned),
            state: state.map(str::to_owned),
        };
        let asked = self.node.consensus().shards().iter().map(|shard| {
            let call = ShardCall::Runs {
                after: after.clone(),
                limit,
                filter: filter.clone(),
            };
            async move {
                match self.node.call_shard(shard, call).await? {
                    ShardReply::Runs(page) => Ok(page),
                    other => Err(other.unexpected("list runs")),
                }
            }
        });
        let pages = try_join_all(asked).await?;
        // Where a shard's search stopped early, nothing older than that may be shown yet: what
        // it holds in between was not looked at.
        let horizon = pages
            .iter()
            .filter_map(|page| page.searched_to.clone())
            .max_by(newest_first_is_less);
        let mut items: Vec<_> = pages.into_iter().flat_map(|page| page.items).collect();
        items.sort_by(|(a_at, a), (b_at, b)| b_at.cmp(a_at).then_with(|| a.id.cmp(&b.id)));
        if let Some(horizon) = &horizon {
            items.retain(|(at, item)| {
                order(&(*at, item.id.clone()), horizon) != std::cmp::Ordering::Greater
            });
        }
        let more = items.len() > limit || horizon.is_some();
        items.truncate(limit);
        let next = match items.last() {
            _ if !more => None,
            Some((at, item)) if items.len() == limit => Some(cursor(*at, &item.id)),
            _ => horizon.map(|(at, run)| cursor(at, &run)),
        };
        Ok(Page {
            items: items.into_iter().map(|(_, item)| item).collect(),
            next,
        })
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

    /// Artifacts in order of name and id.
    ///
    /// # Errors
    /// `after` is no place in the list, or a shard cannot be reached.
    pub async fn artifacts(
        &self,
        name: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<ArtifactView>, EngineError> {
        let limit = self.page(limit);
        let after = after
            .map(|text| {
                let (name, id) = text
                    .split_once('/')
                    .ok_or_else(|| bad_cursor("list artifacts", text))?;
                Ok((name.to_owned(), id.to_owned()))
            })
            .transpose()?;
        let asked = self.node.consensus().shards().iter().map(|shard| {
            let (name, after) = (name.map(str::to_owned), after.clone());
            let call = ShardCall::Artifacts {
                name,
                after,
                limit: limit + 1,
            };
            async move {
                match self.node.call_shard(shard, call).await? {
                    ShardReply::Artifacts(entries) => Ok(entries),
                    other => Err(other.unexpected("list artifacts")),
                }
            }
        });
        let mut entries: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
        entries.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries
            .last()
            .filter(|_| more)
            .map(|last| format!("{}/{}", last.name, last.id));
        Ok(Page {
            items: entries.into_iter().map(view).collect(),
            next,
        })
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

    fn page(&self, limit: usize) -> usize {
        limit.clamp(1, self.node.limits().page_items)
    }
}

type Spot = (meson_core::units::Timestamp, RunId);

/// Newest first, then by id: the order of the list.
fn order(a: &Spot, b: &Spot) -> std::cmp::Ordering {
    b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1))
}

/// So that the largest is the one that comes first in the list.
fn newest_first_is_less(a: &Spot, b: &Spot) -> std::cmp::Ordering {
    order(b, a)
}

fn view(entry: ArtifactEntry) -> ArtifactView {
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

fn bad_cursor(action: &'static str, text: &str) -> EngineError {
    EngineError::BadInput {
        action,
        reason: format!("{text:?} is no place in this list"),
        remedy: "pass the `next` of the page before".to_owned(),
    }
}
