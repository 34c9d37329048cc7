//! Tasks, and what is said about them.

use super::{
    AgentId, CommandInfo, ContainerId, Data, DurationInfo, ExecutorId, ExecutorInfo, Labels,
    Resource, StatusReason, StatusSource, TaskId, TaskState, TimeInfo,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// How a task is to be killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillPolicy {
    /// From SIGTERM to SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<DurationInfo>,
}

/// A task to launch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// For people.
    pub name: String,
    /// Unique among the framework's live tasks.
    pub task_id: TaskId,
    /// Where; must be the agent of the offers.
    pub agent_id: AgentId,
    /// What it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// The executor that runs it; exclusive with `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorInfo>,
    /// A command for the agent's own executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandInfo>,
    /// Container settings, as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Json>,
    /// The framework's own bytes for the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// A health check, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<Json>,
    /// A check, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Json>,
    /// How to kill it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
    /// The framework's own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// How others find it, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Json>,
    /// Ends the task when it runs for longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_time: Option<DurationInfo>,
    /// Limits above the requests, as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Json>,
}

/// Of the container that a task runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<ContainerId>,
    /// Its addresses, as they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_infos: Vec<Json>,
    /// Control group settings, as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_info: Option<Json>,
    /// The process of the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_pid: Option<u32>,
}

/// What is said about a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The task.
    pub task_id: TaskId,
    /// Its state. An executor that leaves it out says STAGING, as protobuf's default.
    #[serde(default)]
    pub state: TaskState,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<StatusSource>,
    /// Why, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<StatusReason>,
    /// The executor's own bytes; absent from answers to RECONCILE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Its executor; a task with a command has one of its own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<ExecutorId>,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<f64>,
    /// 16 bytes; present when the update wants an acknowledgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Data>,
    /// What its health check says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// What its check says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_status: Option<CheckStatusInfo>,
    /// The executor's own labels; absent from answers to RECONCILE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_status: Option<ContainerStatus>,
    /// Since when its agent cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_time: Option<TimeInfo>,
    /// The limit that was exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limitation: Option<TaskResourceLimitation>,
}

impl TaskStatus {
    /// A status with its two indispensable fields.
    pub fn new(task_id: TaskId, state: TaskState) -> Self {
        Self {
            task_id,
            state,
            ..Self::default()
        }
    }
}

/// Which resources were used beyond their limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskResourceLimitation {
    /// The limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

/// The result of a check; which of the arms is set depends on the check's kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatusInfo {
    /// `COMMAND`, `HTTP` or `TCP`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `{"exit_code": n}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Json>,
    /// `{"status_code": n}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Json>,
    /// `{"succeeded": true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Json>,
}
