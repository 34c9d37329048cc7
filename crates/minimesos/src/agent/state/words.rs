//! The words of the state machine: what it is told and what it says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meson_mesos::executor::{Call, Event};
use meson_mesos::types::{
    AgentId, ContainerId, Data, DurationInfo, ExecutorId, FrameworkId, FrameworkInfo, KillPolicy,
    TaskId, TaskInfo, TaskState, TaskStatus,
};

use crate::agent::process::ProcessId;
use crate::agent::records::{FrameworkRecord, RunRecord, TaskRecord};

/// A moment: time since 1970, from a clock that never goes back.
pub(crate) type Time = Duration;

/// Timeouts, with the defaults of the real agent's flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start of an executor's process to its first SUBSCRIBE.
    pub executor_registration: Duration,
    /// From the agent's recovery to an executor's next SUBSCRIBE.
    pub executor_reregistration: Duration,
    /// From SHUTDOWN to the end of an executor that does not say otherwise.
    pub executor_shutdown_grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            executor_registration: Duration::from_secs(60),
            executor_reregistration: Duration::from_secs(2),
            executor_shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// What does not change while an agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Under which the sandboxes are.
    pub(crate) work_dir: PathBuf,
    /// The address that containers are said to have.
    pub(crate) ip: String,
    /// Timeouts.
    pub(crate) timeouts: Timeouts,
    /// Whether containers are held to the memory that they asked for.
    pub(crate) limit_memory: bool,
}

/// Names one HTTP call of an executor and, if that subscribes, its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestId(pub(crate) u64);

/// Why a container did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LaunchFailure {
    /// A URI could not be fetched, or the process not be started.
    Container(String),
    /// The sandbox could not be made; an unknown user, as a rule.
    Directory(String),
}

/// What happens to an agent.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// The master has registered the agent, or registered it again.
    Registered(AgentId),
    /// The connection to the master is lost.
    Disconnected,
    /// Run a task.
    RunTask {
        framework: Box<FrameworkInfo>,
        task: Box<TaskInfo>,
    },
    /// Kill a task.
    KillTask {
        framework_id: FrameworkId,
        task_id: TaskId,
        kill_policy: Option<KillPolicy>,
    },
    /// End an executor.
    ShutdownExecutor {
        framework_id: FrameworkId,
        executor_id: ExecutorId,
    },
    /// End all executors of a framework and forget it.
    ShutdownFramework(FrameworkId),
    /// A framework describes itself anew.
    UpdateFramework(Box<FrameworkInfo>),
    /// The scheduler has an update.
    Acknowledge {
        framework_id: FrameworkId,
        task_id: TaskId,
        uuid: Data,
    },
    /// Bytes for an executor.
    MessageToExecutor {
        framework_id: FrameworkId,
        executor_id: ExecutorId,
        data: Data,
    },
    /// Kill all tasks, within this grace if they have none that is shorter.
    Drain(Option<DurationInfo>),
    /// End all executors, then leave the cluster.
    Leave,
    /// An executor calls.
    Call {
        request: RequestId,
        framework_id: FrameworkId,
        executor_id: ExecutorId,
        call: Box<Call>,
    },
    /// An executor's stream broke.
    StreamEnded(RequestId),
    /// A container's first process has started.
    Started {
        container_id: ContainerId,
        process: ProcessId,
    },
    /// A container could not be started; there is nothing of it.
    StartFailed {
        container_id: ContainerId,
        failure: LaunchFailure,
    },
    /// A container has ended with this raw wait status, if anybody knows it.
    Ended {
        container_id: ContainerId,
        status: Option<i32>,
    },
    /// A container uses more memory than it may.
    MemoryExceeded {
        container_id: ContainerId,
        used_mb: f64,
    },
    /// Time has passed.
    Tick,
}

/// An answer to an executor's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200, and the stream of events begins.
    Streaming,
    /// 202.
    Accepted,
    /// 400, with this text.
    Refused(&'static str),
    /// 403, with this text.
    Forbidden(&'static str),
}

/// A status update on its way to the scheduler.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Forward {
    /// To whom.
    pub(crate) framework_id: FrameworkId,
    /// What it says.
    pub(crate) status: Arc<TaskStatus>,
    /// The task's latest state, which may be further.
    pub(crate) latest_state: TaskState,
}

/// The end of an executor, for the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Whose it was.
    pub(crate) framework_id: FrameworkId,
    /// The executor.
    pub(crate) executor_id: ExecutorId,
    /// Raw wait status; -1 where nobody could wait for the process.
    pub(crate) status: i32,
    /// The scheduler is not told: it was the agent's own executor, or never began.
    pub(crate) quiet: bool,
}

/// What an agent is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    /// Everything that could come back has: register with the master.
    Ready,
    /// Send an update to the master.
    Update(Forward),
    /// Pass on an executor's message.
    MessageToScheduler {
        framework_id: FrameworkId,
        executor_id: ExecutorId,
        data: Data,
    },
    /// Tell the master that an executor has ended.
    ExecutorExited(Exit),
    /// Tell the master that the agent leaves.
    Unregister,
    /// Nothing is left: the agent may end.
    Left,
    /// Answer an executor's call.
    Answer(RequestId, Answer),
    /// Send an event to an executor.
    Event(RequestId, Box<Event>),
    /// End an executor's stream.
    Close(RequestId),
    /// Fetch what the executor needs and start it.
    Start {
        framework: Arc<FrameworkRecord>,
        run: RunRecord,
        /// The role that a command task's resources are allocated to.
        role: Option<String>,
    },
    /// Watch that a container uses no more memory than this.
    LimitMemory(ContainerId, f64),
    /// Kill all processes of a container, or stop starting it.
    Destroy(ContainerId),
    /// Keep the framework's record.
    SaveFramework(Arc<FrameworkRecord>),
    /// Keep the run's record.
    SaveRun(RunRecord),
    /// Keep the task's record.
    SaveTask(TaskRecord),
    /// Forget a framework.
    RemoveFramework(FrameworkId),
    /// Forget a run.
    RemoveRun(FrameworkId, ContainerId),
    /// Forget a task.
    RemoveTask(FrameworkId, TaskId),
}

/// All that a task's run needs, found again after a restart.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The framework.
    pub(crate) framework: FrameworkRecord,
    /// Its runs; whether each still has a living process.
    pub(crate) runs: Vec<(RunRecord, bool)>,
    /// Its tasks.
    pub(crate) tasks: Vec<TaskRecord>,
}

/// What an agent tells its master of one framework when it registers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inventory {
    /// The framework.
    pub(crate) framework: Arc<FrameworkRecord>,
    /// Its executors, those of command tasks included.
    pub(crate) executors: Vec<RunRecord>,
    /// Its tasks.
    pub(crate) tasks: Vec<TaskRecord>,
}
