//! What the agent remembers of frameworks, runs of executors, and tasks: the
//! values that its state machine works on and that its store keeps.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use meson_mesos::types::{
    AgentInfo, CapabilityType, ContainerId, Data, ExecutorId, ExecutorInfo, FrameworkId,
    FrameworkInfo, TaskId, TaskInfo, TaskState, TaskStatus,
};
use serde::{Deserialize, Serialize};

use super::process::ProcessId;

/// How many acknowledged uuids of a task are remembered, to recognise an update
/// that its executor sends once more.
const REMEMBERED: usize = 64;

/// The agent's identity, written when it first registers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AgentRecord {
    /// What it registered, its id included.
    pub(crate) info: AgentInfo,
}

/// A framework that has, or had, something on this agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FrameworkRecord {
    /// Its id.
    pub(crate) id: FrameworkId,
    /// As the master last described it.
    pub(crate) info: FrameworkInfo,
}

impl FrameworkRecord {
    /// Whether its executors are to outlive the agent.
    pub(crate) fn checkpoints(&self) -> bool {
        self.info.checkpoint.unwrap_or(false)
    }

    /// Whether it understands the finer states of lost tasks.
    pub(crate) fn partition_aware(&self) -> bool {
        self.info.can(&CapabilityType::PartitionAware)
    }
}

/// Whose executor it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The framework's own.
    Custom,
    /// Ours, made for one task that has a command.
    Command,
}

/// One run of an executor: a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// The framework.
    pub(crate) framework_id: FrameworkId,
    /// The executor.
    pub(crate) executor_id: ExecutorId,
    /// This run of it.
    pub(crate) container_id: ContainerId,
    /// The executor, as the framework described it, or as we made it up.
    pub(crate) info: Arc<ExecutorInfo>,
    /// Whose it is.
    pub(crate) kind: Kind,
    /// The sandbox.
    pub(crate) directory: PathBuf,
    /// Its first process, once started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<ProcessId>,
}

/// A task, from its launch until its last update is acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TaskRecord {
    /// The framework.
    pub(crate) framework_id: FrameworkId,
    /// The task.
    pub(crate) task_id: TaskId,
    /// Absent when nobody launched it, and its executor only speaks of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<Arc<TaskInfo>>,
    /// The executor that has it.
    pub(crate) executor_id: ExecutorId,
    /// The latest state, of which the scheduler may not know yet.
    pub(crate) state: TaskState,
    /// The latest update, for a master that has forgotten everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latest: Option<Arc<TaskStatus>>,
    /// Updates that the scheduler has not acknowledged, oldest first.
    #[serde(default)]
    pub(crate) pending: VecDeque<Arc<TaskStatus>>,
    /// The uuids of those that it has, latest last.
    #[serde(default)]
    pub(crate) acknowledged: Vec<Data>,
}

impl TaskRecord {
    /// A task that has just arrived.
    pub(crate) fn new(
        framework_id: FrameworkId,
        task_id: TaskId,
        executor_id: ExecutorId,
        info: Option<Arc<TaskInfo>>,
    ) -> Self {
        Self {
            framework_id,
            task_id,
            info,
            executor_id,
            state: TaskState::Staging,
            latest: None,
            pending: VecDeque::new(),
            acknowledged: Vec::new(),
        }
    }

    /// Whether an update with this uuid waits for its acknowledgement.
    pub(crate) fn awaits(&self, uuid: &Data) -> bool {
        self.pending
            .iter()
            .any(|status| status.uuid.as_ref() == Some(uuid))
    }

    /// Remembers that this update is done with.
    pub(crate) fn remember(&mut self, uuid: Data) {
        if self.acknowledged.len() == REMEMBERED {
            self.acknowledged.remove(0);
        }
        self.acknowledged.push(uuid);
    }

    /// Whether nothing more is to be done about the task.
    pub(crate) fn is_done(&self) -> bool {
        self.pending.is_empty() && (self.info.is_none() || self.state.is_terminal())
    }
}
