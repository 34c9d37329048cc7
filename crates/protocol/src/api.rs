//! Bodies of the HTTP API (JSON). Field names are stable: scripts read them.
//!
//! A run as people see it is [`meson_core::run::view`]'s; what is here goes around it.

mod explain;

use std::collections::BTreeMap;

use meson_core::definition::{Definition, Replication};
use meson_core::ids::RunId;
use meson_core::run::view::RunView;
use meson_core::sizing::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::explain::{
    AgentVerdict, ChangeView, Explanation, GangView, HolderView, IterationCounts, NextRoom,
    OffersView, OwnerShare, OwnerView, Reason, RunExplanation, WaitingView,
};

/// `POST /v1/runs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRun {
    /// The run's id, chosen by the client so that sending the request again is safe; none: the
    /// server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RunId>,
    /// The compiled workflow.
    pub definition: Definition,
    /// Values for its parameters.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    /// Digest of the bundle uploaded before, by `PUT /v1/bundles/{digest}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// Run steps even if their artifacts exist.
    #[serde(default)]
    pub force: bool,
}

/// Answer to [`SubmitRun`]: the run is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAccepted {
    /// Its id.
    pub id: RunId,
}

/// `GET /v1/run-id`: for a client that wants to submit under an id of its own, so that it can
/// repeat the submission safely. Answered with a [`RunAccepted`] that accepts nothing yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawRunId {
    /// The workflow's name.
    pub workflow: String,
    /// Its home region; empty: the coordinator's.
    #[serde(default)]
    pub region: String,
    /// Whether the run is to survive the loss of a region.
    #[serde(default)]
    pub replication: Replication,
}

/// `POST /v1/runs/{id}/cancel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRun {
    /// Why, for the history.
    #[serde(default)]
    pub reason: String,
}

/// `POST /v1/runs/{id}/retry`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRun {
    /// The step to start from; none: what did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Every error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Stable and short, for programs: `run_not_found`.
    pub code: String,
    /// For people.
    pub message: String,
    /// What to do about it, where there is something to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// Details, one per problem of a refused definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A line of `GET /v1/runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Its workflow's name.
    pub workflow: String,
    /// `running`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// Who pays.
    pub owner: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339; none while it runs.
    pub finished_at: Option<String>,
    /// The Raft group that it lives in.
    #[serde(default)]
    pub shard: u16,
}

/// `GET /v1/runs/{id}`: a run with what goes on in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: RunView,
    /// What goes on, at most a hundred attempts of it; the rest is found among the iterations.
    pub live: Vec<LiveAttempt>,
    /// The Raft group that it lives in.
    #[serde(default)]
    pub shard: u16,
    /// The coordinator that runs it: the leader of that group, which has answered.
    #[serde(default)]
    pub coordinator: u64,
}

/// An attempt that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAttempt {
    /// The step.
    pub step: String,
    /// Which iteration of the loops around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<String>,
    /// Which attempt.
    pub attempt: u32,
    /// The step's state.
    pub state: String,
    /// When the attempt began to run, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The hosts of the further tasks of a gang, by rank from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mates: Vec<String>,
    /// The host that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The pool that it was placed in, or went to because its first choice could not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// A page to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it used so far, as its executor last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// An item of `GET /v1/runs/{id}/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Its number in the run's history, from 1.
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    /// What kind of event it is: `attempt_running`.
    pub kind: String,
    /// The step that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Which iteration of the loops around the step, `2-17`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<String>,
    /// Which attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// One sentence that says what happened.
    pub text: String,
}

/// `GET /v1/workflows/{name}/profile`: requested against used, over the recent attempts of each step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowProfile {
    /// The workflow's name.
    pub workflow: String,
    /// Steps of which an attempt was measured, by name.
    pub steps: Vec<StepProfile>,
}

/// What a step asked for and used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepProfile {
    /// Its name.
    pub step: String,
    /// Recent attempts that succeeded: what follows is about them.
    pub attempts: u64,
    /// Recent attempts that ended for want of memory.
    pub out_of_memory: u64,
    /// RFC 3339: when the newest attempt ended.
    pub last_at: String,
    /// What the newest attempt asked for.
    pub requested: Amounts,
    /// Peak memory.
    pub memory_bytes: Quantiles,
    /// Average cores, in thousandths.
    pub cpu_millis: Quantiles,
    /// Time.
    pub duration_ms: Quantiles,
    /// What the step should state; none while too little is known.
    pub suggested: Option<Amounts>,
    /// Why, or what is missing.
    pub why: String,
}

/// Resources.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Amounts {
    /// Cores.
    pub cpus: f64,
    /// Memory.
    pub mem_bytes: u64,
}

/// A distribution; quantiles are off by three percent at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// In the middle.
    pub p50: u64,
    /// Not above it: 95 of a hundred.
    pub p95: u64,
    /// The largest.
    pub max: u64,
}

/// A page of a list; `next` is what to ask for as `after` to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, newest first unless the route says otherwise.
    pub items: Vec<T>,
    /// None on the last page.
    pub next: Option<String>,
    /// Shards whose items are not in it, because they could not be asked. Only ever filled when
    /// the caller said that a list with gaps is welcome.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingShard>,
}

/// A shard that a list goes without.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingShard {
    /// Its name.
    pub shard: String,
    /// Why it could not be asked.
    pub reason: String,
}

/// An artifact in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactView {
    /// Its name, as the step calls it.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `sha256:…`.
    pub digest: String,
    /// Size of the stored blob in bytes.
    pub bytes: u64,
    /// Whether it is a packed directory.
    pub directory: bool,
    /// The run that made it.
    pub run: RunId,
    /// The step that made it.
    pub step: String,
    /// The task id of the attempt that made it.
    pub task: String,
    /// RFC 3339.
    pub created_at: String,
}

/// A line of `GET /v1/runs/{id}/logs`: what one attempt wrote to one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// The attempt's task id, for `GET /v1/tasks/{task}/logs/{stream}`.
    pub task: String,
    /// The step.
    pub step: String,
    /// The iteration, empty outside of loops.
    pub iteration: String,
    /// The attempt's number.
    pub attempt: u32,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Where it ends.
    pub bytes: u64,
}

/// `GET /v1/cluster`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Coordinators.
    pub nodes: Vec<NodeView>,
    /// Raft groups.
    pub shards: Vec<ShardView>,
}

/// A pool of resources, and what its broker knows: `GET /v1/pools`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Whether the broker has a session with the resource manager.
    pub connected: bool,
    /// The id under which the resource manager knows us.
    #[serde(default)]
    pub framework: Option<String>,
    /// Attempts that wait for a place.
    pub queued: u64,
    /// Attempts that have one and are not over.
    pub live: u64,
    /// Those of them that were launched and do not run yet.
    pub starting: u64,
    /// Agents that offered something in this session, or run something of ours, and are in sight.
    pub agents: u64,
    /// Hosts of agents that were lost of late, or that something of ours may still run on.
    #[serde(default)]
    pub out_of_sight: Vec<String>,
    /// The roles in which resources are offered.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Why nothing is launched, if so.
    #[serde(default)]
    pub brake: Option<BrakeView>,
    /// What else people should know: why there is no session, machines that are out of service.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Why the broker cannot be asked, if so; everything else is unknown then.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Launching has stopped by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakeView {
    /// What was lost.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// When it goes on, if nothing more is lost.
    pub released_at: Option<String>,
}

/// A coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub region: String,
    /// The zone of its region; empty if it did not say.
    #[serde(default)]
    pub zone: String,
    /// Its HTTP address.
    pub addr: String,
    /// `up`, `draining` or `down`.
    pub state: String,
    /// Its release, if it was heard lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// By how much its clock is before that of the coordinator that answers, in milliseconds; none
    /// for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    /// Round-trip time to it from the coordinator that answers, in milliseconds; none for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Why the coordinator that answers has no connection to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `POST /v1/cluster/shards/{shard}/transfer`: who should lead it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferShard {
    /// The node's number.
    pub to: u64,
}

/// `PUT /v1/cluster/nodes/{node}`: a node that joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinNode {
    /// Where other nodes reach it, `host:port` (QUIC, over UDP).
    pub addr: String,
    /// Its HTTP API's address, as a URL.
    #[serde(default)]
    pub http: String,
    /// Its region.
    #[serde(default)]
    pub region: String,
    /// Its zone.
    #[serde(default)]
    pub zone: String,
}

/// `POST /v1/cluster/nodes/{node}/drain`: whether to lead nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainNode {
    /// False ends it.
    pub on: bool,
}

/// A Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardView {
    /// Its number.
    pub id: u16,
    /// The node that leads it, if one does.
    pub leader: Option<u64>,
    /// Raft term.
    pub term: u64,
    /// Nodes that hold a copy.
    pub replicas: Vec<u64>,
    /// Last committed log index.
    pub commit_index: u64,
}

/// `GET /v1/cluster/replicas`: what the coordinator that answers holds and believes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicasView {
    /// Its number.
    pub node: u64,
    /// Its copies.
    pub shards: Vec<ReplicaState>,
}

/// A coordinator's copy of a Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaState {
    /// The group's number.
    pub shard: u16,
    /// The leader of `term`, if this coordinator knows it.
    pub leader: Option<u64>,
    /// The highest term that it has seen.
    pub term: u64,
    /// Last log index that it knows to be committed.
    pub commit_index: u64,
    /// Last log index that its records contain.
    pub applied_index: u64,
    /// `sha256:…` of its records; only with `?digest=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
