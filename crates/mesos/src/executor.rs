//! The executor API: what an executor says to its agent (calls) and hears from it
//! (events). `include/mesos/v1/executor/executor.proto` in the Mesos repository.

use crate::types::{
    AgentInfo, ContainerId, Data, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, KillPolicy,
    TaskGroupInfo, TaskId, TaskInfo, TaskStatus,
};
use crate::wire::tagged_union;
use serde::{Deserialize, Serialize};

tagged_union! {
    wire call_wire "call_wire::Wire";
    /// What an executor says to its agent.
    pub enum Call;
    /// A call with the executor that makes it.
    pub struct Envelope {
        /// The executor.
        executor_id: ExecutorId,
        /// Its framework.
        framework_id: FrameworkId
    };
    bodies {
        /// Open the stream of events.
        Subscribe(Subscribe) = "SUBSCRIBE", subscribe;
        /// News of a task.
        Update(Update) = "UPDATE", update;
        /// Bytes for the scheduler; may be lost.
        Message(Message) = "MESSAGE", message;
    }
    units {
        /// The executor is there.
        Heartbeat = "HEARTBEAT";
    }
}

tagged_union! {
    wire event_wire "event_wire::Wire";
    /// What an agent says to an executor.
    pub enum Event;
    /// An event; there is nothing around it.
    pub struct EventEnvelope {};
    bodies {
        /// The first event of a stream.
        Subscribed(Subscribed) = "SUBSCRIBED", subscribed;
        /// Run a task.
        Launch(Launch) = "LAUNCH", launch;
        /// Run several tasks, or none of them.
        LaunchGroup(LaunchGroup) = "LAUNCH_GROUP", launch_group;
        /// Kill a task.
        Kill(Kill) = "KILL", kill;
        /// An update is safe with the scheduler.
        Acknowledged(Acknowledged) = "ACKNOWLEDGED", acknowledged;
        /// Bytes from the scheduler.
        Message(Message) = "MESSAGE", message;
        /// Something is wrong.
        Error(crate::scheduler::Error) = "ERROR", error;
    }
    units {
        /// Kill all tasks and end, within the grace period.
        Shutdown = "SHUTDOWN";
        /// The agent is there.
        Heartbeat = "HEARTBEAT";
    }
}

/// The body of SUBSCRIBE: what the agent may have missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Tasks for which no update has been acknowledged.
    #[serde(default)]
    pub unacknowledged_tasks: Vec<TaskInfo>,
    /// Updates that have not been acknowledged, oldest first.
    #[serde(default)]
    pub unacknowledged_updates: Vec<Update>,
}

/// The body of UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// What is said; with `uuid`, `source` and `timestamp`.
    pub status: TaskStatus,
}

/// The body of MESSAGE, in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// What is said.
    pub data: Data,
}

/// The body of SUBSCRIBED.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subscribed {
    /// The executor, as the framework described it.
    pub executor_info: ExecutorInfo,
    /// The framework.
    pub framework_info: FrameworkInfo,
    /// The agent.
    pub agent_info: AgentInfo,
    /// This run of the executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<ContainerId>,
}

/// The body of LAUNCH.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The task.
    pub task: TaskInfo,
}

/// The body of LAUNCH_GROUP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaunchGroup {
    /// The tasks.
    pub task_group: TaskGroupInfo,
}

/// The body of KILL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The task.
    pub task_id: TaskId,
    /// Instead of the task's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

/// The body of ACKNOWLEDGED.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The task.
    pub task_id: TaskId,
    /// Of the update.
    pub uuid: Data,
}
