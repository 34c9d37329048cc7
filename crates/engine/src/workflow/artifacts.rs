//! What a run and the artifact registry say to each other.
//!
//! Artifacts live in shards of their own. What a step leaves behind is registered there before
//! the step's success is proposed, so whoever sees the success finds the artifact; registering
//! twice changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;
use futures::future::try_join_all;
use meson_core::expression::ArtifactRef;
use meson_core::ids::Instance;
use meson_core::run::{Input, Outcome, ResolvedArtifact};
use serde_json::Value;
use tracing::warn;

use super::WorkflowActor;
use super::inbox::Waiting;
use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;
use crate::layout::Place;
use crate::machine::ArtifactEntry;
use crate::node::Node;

/// Pause before the registry is asked again, doubled each time up to the second.
const AGAIN: Duration = Duration::from_millis(50);
const AGAIN_AT_MOST: Duration = Duration::from_secs(5);

impl WorkflowActor {
    /// What has to be registered before this input may be decided, if anything has.
    pub(super) fn registration(&self, input: &Input) -> Option<Vec<ArtifactEntry>> {
        let Input::Ended {
            instance,
            attempt,
            outcome: Outcome::Succeeded { outputs },
            ..
        } = input
        else {
            return None;
        };
        let produces = self.hot.produces(instance, *attempt)?;
        let (task, _) = self.hot.attempt(instance, *attempt)?;
        let entries: Option<Vec<ArtifactEntry>> = produces
            .into_iter()
            .map(|artifact| {
                let blob = ArtifactRef::from_value(outputs.get(&artifact.name)?)?;
                Some(ArtifactEntry {
                    name: artifact.name,
                    id: artifact.id,
                    blob,
                    run: self.seed.run.clone(),
                    step: task.step.clone(),
                    task: task.clone(),
                    outputs: outputs.clone(),
                    created_at: self.seed.node.now(),
                })
            })
            .collect();
        // One that is missing is for the run to complain about.
        entries.filter(|entries| !entries.is_empty())
    }

    /// Takes the input once everything is registered. Its sender waits, and with it the
    /// acknowledgement to the resource manager; if this actor goes, the update comes again.
    pub(super) fn register_first(
        &self,
        entries: Vec<ArtifactEntry>,
        waiting: Waiting,
        ctx: &mut Context<Self>,
    ) {
        let node = self.seed.node.clone();
        let registered = async move {
            for entry in entries {
                let place = Place::artifact(&entry.name, &entry.id);
                let call = ShardCall::PutArtifact(Box::new(entry));
                until_done("register an artifact", || node.call(&place, call.clone())).await;
            }
        };
        ctx.spawn(registered.into_actor(self).map(move |(), actor, ctx| {
            actor.inbox.push(waiting);
            actor.pump(ctx);
        }));
    }

    /// Asks the registry and feeds its answer to the run.
    pub(super) fn look_up(
        &self,
        instance: Instance,
        artifacts: Vec<ResolvedArtifact>,
        ctx: &mut Context<Self>,
    ) {
        let node = self.seed.node.clone();
        let force = self.hot.header().force;
        let found = async move {
            if force {
                return None;
            }
            until_done("look up artifacts", || all_of(&node, &artifacts)).await
        };
        ctx.spawn(found.into_actor(self).map(move |found, actor, ctx| {
            actor
                .inbox
                .push(Waiting::own(Input::ArtifactsLookedUp { instance, found }));
            actor.pump(ctx);
        }));
    }
}

/// The outputs of the step that left all of the artifacts behind, if all are there. Where they
/// were left by several attempts, the newest one's outputs count, with each artifact's own blob.
async fn all_of(
    node: &Node,
    artifacts: &[ResolvedArtifact],
) -> Result<Option<BTreeMap<String, Value>>, EngineError> {
    let asked = artifacts.iter().map(|artifact| async move {
        let place = Place::artifact(&artifact.name, &artifact.id);
        let (name, id) = (artifact.name.clone(), artifact.id.clone());
        match node.call(&place, ShardCall::Artifact { name, id }).await? {
            ShardReply::Artifact(entry) => Ok(entry),
            other => Err(other.unexpected("look up an artifact")),
        }
    });
    let found: Option<Vec<_>> = try_join_all(asked).await?.into_iter().collect();
    let Some(mut entries) = found else {
        return Ok(None);
    };
    entries.sort_by(|a, b| (a.created_at, &a.task).cmp(&(b.created_at, &b.task)));
    let Some(newest) = entries.last() else {
        return Ok(None);
    };
    let mut outputs = newest.outputs.clone();
    for entry in &entries {
        outputs.insert(entry.name.clone(), entry.blob.to_value());
    }
    Ok(Some(outputs))
}

/// Tries again until it succeeds: the registry's shard may be without a leader for a moment.
async fn until_done<T, F>(action: &'static str, attempt: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, EngineError>>,
{
    let mut pause = AGAIN;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => warn!(%error, "cannot {action}, trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_AT_MOST);
    }
}
