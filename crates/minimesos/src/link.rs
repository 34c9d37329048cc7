//! The protocol between a minimesos agent and its master. **Not** libprocess: a real
//! Mesos agent cannot speak it, and this agent cannot join a real master.
//!
//! 1. The agent opens `POST /minimesos/agent` ([`STREAM_PATH`]) with a [`Hello`] as JSON.
//!    The answer is an endless RecordIO stream of [`ToAgent`], whose first record is
//!    [`ToAgent::Registered`] or [`ToAgent::Reregistered`], or [`ToAgent::Refused`] and
//!    the end. The response header [`STREAM_HEADER`] names the stream.
//! 2. Everything else the agent says by `POST /minimesos/agent/call` ([`CALL_PATH`]) with
//!    one [`FromAgent`] as JSON in an [`AgentCall`], one call at a time, so that order is
//!    kept. 202: taken. 409: the stream is not the agent's current one (open a new
//!    stream). 503: the master is not ready.
//! 3. The master sends [`ToAgent::Ping`]; the agent answers with [`FromAgent::Pong`]. An
//!    agent that hears no ping for `total ping timeout` (see [`ToAgent::Registered`])
//!    opens a new stream. An agent that does not answer becomes unreachable.
//!
//! Status updates are at-least-once: the agent sends an update until
//! [`ToAgent::AcknowledgeUpdate`] names its `uuid`, and holds back later updates of the
//! same task until then.

use meson_mesos::types::{
    AgentId, AgentInfo, Data, DurationInfo, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo,
    KillPolicy, TaskId, TaskInfo, TaskState, TaskStatus,
};
use serde::{Deserialize, Serialize};

/// Where an agent opens its stream.
pub const STREAM_PATH: &str = "/minimesos/agent";
/// Where an agent makes its calls.
pub const CALL_PATH: &str = "/minimesos/agent/call";
/// The header that names the stream in the master's answer.
pub const STREAM_HEADER: &str = "Minimesos-Stream-Id";

/// The first words of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// `id` is set when the agent has registered before and has recovered that; then this
    /// is a re-registration.
    pub agent: AgentInfo,
    /// The agent's version, for people.
    #[serde(default)]
    pub version: String,
    /// Executors that are alive, with their tasks; empty at a first registration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executors: Vec<RunningExecutor>,
    /// The frameworks of those executors, as the agent last knew them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frameworks: Vec<FrameworkInfo>,
}

/// An executor that is alive on an agent which re-registers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunningExecutor {
    /// Whose it is.
    pub framework_id: FrameworkId,
    /// As the agent started it. For a task with a command, the executor that the agent
    /// made for it; its id is the task's.
    pub executor: ExecutorInfo,
    /// Whether it is the agent's own for a task with a command. Such an executor's end
    /// makes no FAILURE event.
    #[serde(default)]
    pub is_command_executor: bool,
    /// Its tasks: the live ones, and ended ones whose last update is not acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<RunningTask>,
}

/// A task that an agent which re-registers has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunningTask {
    /// As it was launched.
    pub task: TaskInfo,
    /// Its latest state; STAGING until the executor has said something.
    pub state: TaskState,
    /// The latest update, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<TaskStatus>,
}

/// What the master says to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
// Tagged from outside: a tag inside would be read through a buffer, which loses numbers where
// another crate of the build turns serde_json's `arbitrary_precision` on.
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    clippy::large_enum_variant,
    reason = "launches are what it is mostly used for, and it travels boxed"
)]
pub enum ToAgent {
    /// Welcome. The agent keeps its id for ever (in its work folder).
    Registered {
        /// The agent's new id.
        agent_id: AgentId,
        /// Milliseconds without a ping after which the agent takes the master for lost.
        master_timeout_ms: u64,
    },
    /// Welcome back.
    Reregistered {
        /// As the agent said.
        agent_id: AgentId,
        /// As in `Registered`.
        master_timeout_ms: u64,
    },
    /// The agent may not register (it was marked gone, say). It shuts its executors down
    /// and exits.
    Refused {
        /// Why.
        message: String,
    },
    /// Launch a task.
    RunTask {
        /// Whose it is.
        framework: FrameworkInfo,
        /// The executor; absent for a task with a command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        executor: Option<ExecutorInfo>,
        /// The task.
        task: Box<TaskInfo>,
    },
    /// Kill a task. One that the agent does not know is answered with TASK_GONE, or
    /// TASK_LOST where the framework is not PARTITION_AWARE.
    KillTask {
        /// Whose it is.
        framework_id: FrameworkId,
        /// The task.
        task_id: TaskId,
        /// Instead of the task's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kill_policy: Option<KillPolicy>,
    },
    /// The scheduler has an update; the next one of the task may be sent.
    AcknowledgeUpdate {
        /// Whose it is.
        framework_id: FrameworkId,
        /// The task.
        task_id: TaskId,
        /// Of the update.
        uuid: Data,
    },
    /// Bytes for an executor; an unknown one is ignored.
    FrameworkMessage {
        /// Whose it is.
        framework_id: FrameworkId,
        /// The executor.
        executor_id: ExecutorId,
        /// What is said.
        data: Data,
    },
    /// Shut an executor down; an unknown one is ignored.
    ShutdownExecutor {
        /// Whose it is.
        framework_id: FrameworkId,
        /// The executor.
        executor_id: ExecutorId,
    },
    /// Shut all executors of a framework down, and forget its updates.
    ShutdownFramework {
        /// The framework.
        framework_id: FrameworkId,
    },
    /// A framework has changed, or its scheduler is back. The agent sends what it has of
    /// unacknowledged updates of this framework again at once, whatever their back-off.
    UpdateFramework {
        /// As it is now.
        framework: FrameworkInfo,
    },
    /// Kill all tasks: the agent is taken out of service. Who is told of their end hears
    /// REASON_AGENT_DRAINING.
    Drain {
        /// Instead of a longer grace of theirs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_grace_period: Option<DurationInfo>,
    },
    /// Are you there?
    Ping {
        /// To be said back.
        sequence: u64,
    },
}

/// One call of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentCall {
    /// Who calls.
    pub agent_id: AgentId,
    /// The stream that the agent holds, from [`STREAM_HEADER`].
    pub stream_id: String,
    /// What is said.
    pub call: FromAgent,
}

/// What an agent says to the master.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
// Tagged from outside: a tag inside would be read through a buffer, which loses numbers where
// another crate of the build turns serde_json's `arbitrary_precision` on.
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FromAgent {
    /// News of a task, from its executor or the agent itself; with a `uuid`.
    StatusUpdate {
        /// Whose it is.
        framework_id: FrameworkId,
        /// What is said; `agent_id`, `executor_id`, `timestamp` and `uuid` are set.
        status: Box<TaskStatus>,
        /// The newest state that the agent knows for this task: later than `status` when
        /// updates wait for acknowledgements. Resources of an ended task are free at once.
        latest_state: TaskState,
    },
    /// Bytes of an executor for its scheduler.
    ExecutorMessage {
        /// Whose it is.
        framework_id: FrameworkId,
        /// The executor.
        executor_id: ExecutorId,
        /// What is said.
        data: Data,
    },
    /// An executor is no more. Sent before the updates of its tasks.
    ExecutorTerminated {
        /// Whose it was.
        framework_id: FrameworkId,
        /// The executor.
        executor_id: ExecutorId,
        /// A raw wait status, as in FAILURE events.
        status: i32,
        /// Whether it was the agent's own for a task with a command (no FAILURE event).
        #[serde(default)]
        is_command_executor: bool,
    },
    /// An answer to [`ToAgent::Ping`].
    Pong {
        /// Of the ping.
        sequence: u64,
    },
    /// The agent leaves for good; its tasks are lost.
    Unregister,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_a_round_trip() {
        let message = ToAgent::KillTask {
            framework_id: "f".into(),
            task_id: "t".into(),
            kill_policy: None,
        };
        let json = serde_json::to_string(&message).unwrap();
        assert_eq!(
            json,
            r#"{"KILL_TASK":{"framework_id":{"value":"f"},"task_id":{"value":"t"}}}"#
        );
        assert_eq!(serde_json::from_str::<ToAgent>(&json).unwrap(), message);
        let call = FromAgent::Unregister;
        let json = serde_json::to_string(&call).unwrap();
        assert_eq!(serde_json::from_str::<FromAgent>(&json).unwrap(), call);
    }
}
