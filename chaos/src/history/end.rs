//! What the cluster says when all is over.

use std::collections::BTreeMap;

use meson_protocol::api::RunEvent;
use serde::{Deserialize, Serialize};

use super::Effect;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Every run that the cluster knows of.
    pub runs: BTreeMap<String, RunAtEnd>,
    /// What steps wrote down themselves, in the order in which they did.
    pub effects: Vec<Effect>,
    /// Tasks that the Mesos master believes to be alive.
    pub tasks: Vec<TaskAtEnd>,
    /// Command lines of processes that still run on the agents, beside executors.
    #[serde(default)]
    pub processes: Vec<String>,
    /// What each node holds of each shard, where that could be read.
    pub replicas: Vec<Replica>,
    /// Artifacts that successful steps announced, read back.
    pub artifacts: Vec<ArtifactAtEnd>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunAtEnd {
    /// Its workflow.
    pub workflow: String,
    /// The shard that it lives in.
    #[serde(default)]
    pub shard: u16,
    /// `running`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Its history, complete.
    pub events: Vec<RunEvent>,
}

/// A task that Mesos believes to be alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskAtEnd {
    /// `{run}.{step}[.{iteration}].{attempt}`.
    pub id: String,
    /// As Mesos calls it.
    pub state: String,
}

/// A node's copy of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The node.
    pub node: u64,
    /// The shard.
    pub shard: u16,
    /// Log position up to which it has applied.
    pub applied: u64,
    /// Hash of its records.
    pub digest: String,
}

/// An artifact that a step announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactAtEnd {
    /// The run that made it.
    pub run: String,
    /// Its name and id.
    pub id: String,
    /// The digest that the cluster knows it by; none: the cluster does not know it.
    pub digest: Option<String>,
    /// The digest of what was read back; none: it could not be read.
    pub found: Option<String>,
}
