//! Lists that are put together from all shards: runs, artifacts.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use meson_core::ids::RunId;
use meson_core::units::Timestamp;
use meson_protocol::api::{ArtifactView, MissingShard, Page, RunSummary};

use super::Engine;
use super::query::{bad_cursor, view};
use crate::calls::{RunFilter, ShardCall, ShardReply};
use crate::error::{EngineError, ErrorKind};
use crate::events::{cursor, read_cursor};

/// How long a list that may have gaps waits for a shard: longer than an election takes within a
/// region, and short enough to look at in a hurry.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a list is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// The items of all shards: an error if one cannot be asked.
    Whole,
    /// Those of the shards that can be asked; the others are named.
    Reachable,
}

impl Engine {
    /// Runs, newest first. A page may hold fewer than `limit` although more follow, when few of
    /// those that were looked at fit; `next` says whether to go on.
    ///
    /// # Errors
    /// `after` is no place in the list, or a shard cannot be reached; with
    /// [`Coverage::Reachable`], no shard can.
    pub async fn runs(
        &self,
        after: Option<&str>,
        limit: usize,
        workflow: Option<&str>,
        state: Option<&str>,
        coverage: Coverage,
    ) -> Result<Page<RunSummary>, EngineError> {
        let limit = self.page(limit);
        let after = after
            .map(|text| read_cursor(text).ok_or_else(|| bad_cursor("list runs", text)))
            .transpose()?;
        let filter = RunFilter {
            workflow: workflow.map(str::to_owned),
            state: state.map(str::to_owned),
        };
        let call = ShardCall::Runs {
            after,
            limit,
            filter,
        };
        let (pages, missing) = self
            .every_shard(&call, coverage, |reply| match reply {
                ShardReply::Runs(page) => Ok(page),
                other => Err(other.unexpected("list runs")),
            })
            .await?;
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
            missing,
        })
    }

    /// Artifacts in order of name and id.
    ///
    /// # Errors
    /// `after` is no place in the list, or a shard cannot be reached; with
    /// [`Coverage::Reachable`], no shard can.
    pub async fn artifacts(
        &self,
        name: Option<&str>,
        after: Option<&str>,
        limit: usize,
        coverage: Coverage,
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
        let call = ShardCall::Artifacts {
            name: name.map(str::to_owned),
            after,
            limit: limit + 1,
        };
        let (entries, missing) = self
            .every_shard(&call, coverage, |reply| match reply {
                ShardReply::Artifacts(entries) => Ok(entries),
                other => Err(other.unexpected("list artifacts")),
            })
            .await?;
        let mut entries: Vec<_> = entries.into_iter().flatten().collect();
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
            missing,
        })
    }

    /// Asks all shards at once for their part of a list.
    async fn every_shard<T>(
        &self,
        call: &ShardCall,
        coverage: Coverage,
        part: impl Fn(ShardReply) -> Result<T, EngineError>,
    ) -> Result<(Vec<T>, Vec<MissingShard>), EngineError> {
        let shards = self.node.consensus().shards();
        let call_limit = self.node.timing().call;
        let limit = match coverage {
            Coverage::Whole => call_limit,
            Coverage::Reachable => call_limit.min(PATIENCE),
        };
        let part = &part;
        let asked = shards.iter().map(|shard| async move {
            let reply = self.node.call_shard_within(shard, call.clone(), limit);
            part(reply.await?)
        });
        if coverage == Coverage::Whole {
            return Ok((try_join_all(asked).await?, Vec::new()));
        }
        let (mut parts, mut missing, mut last) = (Vec::new(), Vec::new(), None);
        for (shard, answer) in shards.iter().zip(join_all(asked).await) {
            match answer {
                Ok(part) => parts.push(part),
                Err(error) if passes(&error) => {
                    missing.push(MissingShard {
                        shard: shard.id().to_string(),
                        reason: error.to_string(),
                    });
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match last {
            // A list of nothing but gaps is no list.
            Some(error) if parts.is_empty() => Err(error),
            _ => Ok((parts, missing)),
        }
    }
}

/// Whether it says something of the shard's state now, not of what was asked.
fn passes(error: &EngineError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

type Spot = (Timestamp, RunId);

/// Newest first, then by id: the order of the list.
fn order(a: &Spot, b: &Spot) -> std::cmp::Ordering {
    b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1))
}

/// So that the largest is the one that comes first in the list.
fn newest_first_is_less(a: &Spot, b: &Spot) -> std::cmp::Ordering {
    order(b, a)
}
