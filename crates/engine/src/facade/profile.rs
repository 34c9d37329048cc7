//! What the steps of a workflow used: added up over all shards, for people and for new runs.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use meson_core::definition::Definition;
use meson_core::resources::MilliCpus;
use meson_core::sizing::{Learned, MIN_SAMPLES, Profile, Sketch};
use meson_core::units::Bytes;
use meson_protocol::api::{Amounts, Quantiles, StepProfile, WorkflowProfile};
use tokio::time::timeout;
use tracing::warn;

use super::Engine;
use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;

/// A new run does not wait longer for the past: it can also learn from its own first steps.
const PATIENCE: Duration = Duration::from_secs(2);

impl Engine {
    /// Requested against used, per step, over the recent runs of a workflow.
    ///
    /// # Errors
    /// A shard cannot be reached.
    pub async fn profile(&self, workflow: &str) -> Result<WorkflowProfile, EngineError> {
        let asked = self.asked_of_all(workflow).map(|asked| asked.1);
        let mut merged = BTreeMap::new();
        for part in try_join_all(asked).await? {
            merge(&mut merged, part);
        }
        Ok(WorkflowProfile {
            workflow: workflow.to_owned(),
            steps: merged.into_iter().map(shown).collect(),
        })
    }

    /// What a run of this definition is told of the past of its steps that may learn. A shard that
    /// does not answer soon is left out.
    pub(crate) async fn learned(&self, definition: &Definition) -> BTreeMap<String, Learned> {
        let learners: Vec<&str> = definition
            .steps()
            .filter(|(_, step)| step.auto.is_some())
            .map(|(_, step)| step.name.as_str())
            .collect();
        if learners.is_empty() {
            return BTreeMap::new();
        }
        let asked = self
            .asked_of_all(&definition.name)
            .map(|(shard, asked)| async move { (shard, timeout(PATIENCE, asked).await) });
        let mut merged = BTreeMap::new();
        for (shard, answer) in join_all(asked).await {
            match answer {
                Ok(Ok(part)) => merge(&mut merged, part),
                Ok(Err(error)) => {
                    warn!(%shard, %error, "a new run does not learn from this shard");
                }
                Err(_) => warn!(%shard, "a new run does not wait for what this shard knows"),
            }
        }
        merged
            .into_iter()
            .filter(|(step, _)| learners.contains(&step.as_str()))
            .map(|(step, profile)| (step, profile.learned()))
            .collect()
    }

    fn asked_of_all(
        &self,
        workflow: &str,
    ) -> impl Iterator<
        Item = (
            meson_consensus::ShardId,
            impl Future<Output = Result<Vec<(String, Profile)>, EngineError>>,
        ),
    > {
        let workflow = workflow.to_owned();
        self.node.consensus().shards().iter().map(move |shard| {
            let (node, workflow, id) = (self.node.clone(), workflow.clone(), shard.id());
            let asked = async move {
                match node
                    .call_shard(shard, ShardCall::Profiles { workflow })
                    .await?
                {
                    ShardReply::Profiles(profiles) => Ok(profiles),
                    other => Err(other.unexpected("read what steps used")),
                }
            };
            (id, asked)
        })
    }
}

fn merge(into: &mut BTreeMap<String, Profile>, part: Vec<(String, Profile)>) {
    for (step, profile) in part {
        into.entry(step).or_default().merge(&profile);
    }
}

fn shown((step, profile): (String, Profile)) -> StepProfile {
    let samples = profile.samples();
    let suggestion = profile.suggestion();
    let why = suggestion.as_ref().map_or_else(
        || {
            let mut why = format!(
                "too little is known: {} succeeded so far, and {MIN_SAMPLES} are needed",
                match samples.count() {
                    0 => "no attempt has".to_owned(),
                    1 => "one attempt has".to_owned(),
                    more => format!("{more} attempts have"),
                }
            );
            if samples.starved > 0 {
                why.push_str(&format!(
                    "; with {} it ran out of memory, so state more",
                    samples.starved_at
                ));
            }
            why
        },
        |suggestion| suggestion.why.clone(),
    );
    StepProfile {
        step,
        attempts: samples.count(),
        out_of_memory: samples.starved,
        last_at: profile.last_at.to_rfc3339(),
        requested: amounts(profile.asked_cpus, profile.asked_mem),
        memory_bytes: quantiles(&samples.memory),
        cpu_millis: quantiles(&samples.cpus),
        duration_ms: quantiles(&samples.wall),
        suggested: suggestion.map(|suggestion| amounts(suggestion.cpus, suggestion.mem)),
        why,
    }
}

fn amounts(cpus: MilliCpus, mem: Bytes) -> Amounts {
    Amounts {
        cpus: cpus.0 as f64 / 1000.0,
        mem_bytes: mem.0,
    }
}

fn quantiles(sketch: &Sketch) -> Quantiles {
    Quantiles {
        p50: sketch.percentile(50),
        p95: sketch.percentile(95),
        max: sketch.max(),
    }
}
