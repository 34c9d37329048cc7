//! The life of every task as values: what came in goes to [`Machine::decide`], what is to
//! be done comes out. No clock, no socket, no process.
//!
//! ```text
//!   LAUNCH ──► Starting ──Started──► Running ──Ended──► (terminal update)
//!                  └──────── KILL ─────► Killing ──Ended──┘
//! ```
//!
//! The machine keeps updates until they are acknowledged, and tasks until their first
//! acknowledgement: both go into every new SUBSCRIBE (`docs/executor-http-api.md`).

use std::collections::BTreeMap;
use std::time::Duration;

use meson_core::run::{Failure, FailureClass, LaunchKind};
use meson_mesos::executor::{Kill, Subscribe, Update};
use meson_mesos::types::{
    Data, StatusReason, StatusSource, TaskId, TaskInfo, TaskState, TaskStatus,
};
use meson_protocol::task::{Started, TaskPayload, TaskResult};

use crate::failure::TaskFailure;

/// From SIGTERM to SIGKILL when nobody says otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The agent wants a task to run.
    Launch(Box<TaskInfo>),
    /// The agent wants a task to end.
    Kill(Kill),
    /// The agent has passed an update on for good.
    Acknowledged {
        /// The task.
        task: TaskId,
        /// Of the update.
        uuid: Data,
    },
    /// The framework understands TASK_KILLING.
    KillingState(bool),
    /// A worker's process runs.
    Started {
        /// The task.
        task: TaskId,
        /// What goes with TASK_RUNNING.
        started: Started,
    },
    /// A worker is done, and nothing of its task is left.
    Ended {
        /// The task.
        task: TaskId,
        /// How.
        ending: Ending,
    },
    /// Everything is to end within this time.
    Shutdown {
        /// From SIGTERM to SIGKILL at most.
        grace: Duration,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Well, or badly where the result holds a failure.
    Done(Box<TaskResult>),
    /// Because we were asked to.
    Killed(Box<TaskResult>),
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Start a worker.
    Run {
        /// The task.
        task: TaskId,
        /// What to run.
        payload: Box<TaskPayload>,
    },
    /// Tell the worker to end its task.
    Stop {
        /// The task.
        task: TaskId,
        /// From SIGTERM to SIGKILL.
        grace: Duration,
    },
    /// Say this to the agent.
    Send(Box<Update>),
}

/// What makes an update unique: given from outside, since the machine knows no chance and no time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stamp {
    /// Random.
    pub uuid: [u8; 16],
    /// Seconds since 1970.
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Killing,
    Ended,
}

#[derive(Debug)]
struct Task {
    info: TaskInfo,
    phase: Phase,
    acknowledged: bool,
}

/// All tasks of an executor that are of interest to somebody.
#[derive(Debug, Default)]
pub struct Machine {
    tasks: BTreeMap<TaskId, Task>,
    /// Not acknowledged, oldest first.
    updates: Vec<Update>,
    killing_state: bool,
    shutting_down: bool,
}

impl Machine {
    /// What to say in the next SUBSCRIBE.
    pub fn subscription(&self) -> Subscribe {
        Subscribe {
            unacknowledged_tasks: self
                .tasks
                .values()
                .filter(|task| !task.acknowledged)
                .map(|task| task.info.clone())
                .collect(),
            unacknowledged_updates: self.updates.clone(),
        }
    }

    /// Tasks whose workers are not done.
    pub fn live(&self) -> impl Iterator<Item = &TaskId> {
        self.tasks
            .iter()
            .filter(|(_, task)| task.phase != Phase::Ended)
            .map(|(id, _)| id)
    }

    /// Whether updates wait for their acknowledgement.
    pub fn has_unacknowledged(&self) -> bool {
        !self.updates.is_empty()
    }

    /// Takes what happened and says what to do about it.
    pub fn decide(&mut self, input: Input, stamp: &mut dyn FnMut() -> Stamp) -> Vec<Action> {
        match input {
            Input::Launch(info) => self.launch(*info, stamp),
            Input::Kill(kill) => self.kill(kill, stamp),
            Input::Acknowledged { task, uuid } => self.acknowledged(&task, &uuid),
            Input::KillingState(known) => {
                self.killing_state = known;
                Vec::new()
            }
            Input::Started { task, started } => self.started(&task, &started, stamp),
            Input::Ended { task, ending } => self.ended(&task, ending, stamp),
            Input::Shutdown { grace } => self.shutdown(grace),
        }
    }

    fn launch(&mut self, info: TaskInfo, stamp: &mut dyn FnMut() -> Stamp) -> Vec<Action> {
        let id = info.task_id.clone();
        if self.tasks.contains_key(&id) {
            // Agents deliver a launch once; a second one must not start the attempt again.
            tracing::warn!(task = %id, "launched a second time, ignored");
            return Vec::new();
        }
        let decoded = self.decode(&info);
        let phase = if decoded.is_ok() {
            Phase::Starting
        } else {
            Phase::Ended
        };
        self.tasks.insert(
            id.clone(),
            Task {
                info,
                phase,
                acknowledged: false,
            },
        );
        match decoded {
            Ok(payload) => {
                let starting = self.update(TaskStatus::new(id.clone(), TaskState::Starting), stamp);
                vec![starting, Action::Run { task: id, payload }]
            }
            Err(failure) => {
                let result = TaskResult {
                    failure: Some(failure.into()),
                    ..TaskResult::default()
                };
                vec![self.terminal(&id, Ending::Done(Box::new(result)), stamp)]
            }
        }
    }

    fn decode(&self, info: &TaskInfo) -> Result<Box<TaskPayload>, TaskFailure> {
        if self.shutting_down {
            return Err(TaskFailure::platform(
                "the executor was shutting down when the task arrived",
            ));
        }
        // Who made the bytes is the platform, so its budget pays; the same bytes fail the same way.
        let hopeless = |message: String| {
            let mut failure = TaskFailure::platform(message);
            failure.0.retryable = false;
            failure
        };
        let data = info.data.as_deref().unwrap_or_default();
        let payload = TaskPayload::decode(data)
            .map_err(|error| hopeless(format!("reading the task's description: {error}")))?;
        if payload.spec.task.to_string() != info.task_id.value {
            return Err(hopeless(format!(
                "the task's description is of {}, the task is {}",
                payload.spec.task, info.task_id
            )));
        }
        if matches!(payload.spec.kind, LaunchKind::Workflow { .. }) {
            return Err(hopeless(
                "a workflow is run by a coordinator, not by an executor".to_owned(),
            ));
        }
        Ok(Box::new(payload))
    }

    fn kill(&mut self, kill: Kill, stamp: &mut dyn FnMut() -> Stamp) -> Vec<Action> {
        let Some(task) = self
            .tasks
            .get_mut(&kill.task_id)
            .filter(|task| task.phase != Phase::Ended)
        else {
            // Its terminal update is on the way, or the agent answers for it.
            tracing::info!(task = %kill.task_id, "asked to kill a task that does not run");
            return Vec::new();
        };
        let grace = kill
            .kill_policy
            .or(task.info.kill_policy)
            .and_then(|policy| policy.grace_period)
            .map_or(DEFAULT_GRACE, |grace| grace.to_duration());
        let first = std::mem::replace(&mut task.phase, Phase::Killing) != Phase::Killing;
        let mut actions = Vec::new();
        if first && self.killing_state {
            actions.push(self.update(
                TaskStatus::new(kill.task_id.clone(), TaskState::Killing),
                stamp,
            ));
        }
        actions.push(Action::Stop {
            task: kill.task_id,
            grace,
        });
        actions
    }

    fn acknowledged(&mut self, id: &TaskId, uuid: &Data) -> Vec<Action> {
        self.updates
            .retain(|update| update.status.uuid.as_ref() != Some(uuid));
        if let Some(task) = self.tasks.get_mut(id) {
            task.acknowledged = true;
        }
        let pending = self
            .updates
            .iter()
            .any(|update| update.status.task_id == *id);
        if !pending
            && self
                .tasks
                .get(id)
                .is_some_and(|task| task.phase == Phase::Ended)
        {
            self.tasks.remove(id);
        }
        Vec::new()
    }

    fn started(
        &mut self,
        id: &TaskId,
        started: &Started,
        stamp: &mut dyn FnMut() -> Stamp,
    ) -> Vec<Action> {
        match self.tasks.get_mut(id) {
            Some(task) if task.phase == Phase::Starting => task.phase = Phase::Running,
            // Being killed already: TASK_RUNNING would take that back.
            _ => return Vec::new(),
        }
        let mut status = TaskStatus::new(id.clone(), TaskState::Running);
        status.data = encoded(started.encode());
        vec![self.update(status, stamp)]
    }

    fn ended(
        &mut self,
        id: &TaskId,
        ending: Ending,
        stamp: &mut dyn FnMut() -> Stamp,
    ) -> Vec<Action> {
        match self.tasks.get_mut(id) {
            Some(task) if task.phase != Phase::Ended => task.phase = Phase::Ended,
            _ => return Vec::new(),
        }
        vec![self.terminal(id, ending, stamp)]
    }

    fn shutdown(&mut self, grace: Duration) -> Vec<Action> {
        self.shutting_down = true;
        let mut actions = Vec::new();
        for (id, task) in self
            .tasks
            .iter_mut()
            .filter(|(_, task)| task.phase != Phase::Ended)
        {
            task.phase = Phase::Killing;
            actions.push(Action::Stop {
                task: id.clone(),
                grace,
            });
        }
        actions
    }

    fn terminal(
        &mut self,
        id: &TaskId,
        ending: Ending,
        stamp: &mut dyn FnMut() -> Stamp,
    ) -> Action {
        let (state, result) = match ending {
            Ending::Killed(result) => (TaskState::Killed, result),
            Ending::Done(result) if result.failure.is_none() => (TaskState::Finished, result),
            Ending::Done(result) => (TaskState::Failed, result),
        };
        let mut status = TaskStatus::new(id.clone(), state);
        if let Some(failure) = &result.failure {
            status.message = Some(failure.message.clone());
            status.reason = match failure.class {
                FailureClass::Timeout => Some(StatusReason::MaxCompletionTimeReached),
                FailureClass::OutOfMemory => Some(StatusReason::ContainerLimitationMemory),
                FailureClass::Step | FailureClass::Platform => None,
            };
        }
        status.data = match result.encode() {
            Ok(bytes) => Some(bytes.into()),
            // Outputs are limited long before this; better no outputs than no end.
            Err(error) => {
                status.state = TaskState::Failed;
                status.message = Some(error.to_string());
                let failure: Failure = TaskFailure::platform(error.to_string()).into();
                let usage = result.usage;
                encoded(
                    TaskResult {
                        failure: Some(failure),
                        usage,
                        ..TaskResult::default()
                    }
                    .encode(),
                )
            }
        };
        self.update(status, stamp)
    }

    fn update(&mut self, mut status: TaskStatus, stamp: &mut dyn FnMut() -> Stamp) -> Action {
        let stamp = stamp();
        status.uuid = Some(Data::from(&stamp.uuid[..]));
        status.timestamp = Some(stamp.seconds);
        status.source = Some(StatusSource::Executor);
        let update = Update { status };
        self.updates.push(update.clone());
        Action::Send(Box::new(update))
    }
}

fn encoded<E: std::fmt::Display>(bytes: Result<Vec<u8>, E>) -> Option<Data> {
    bytes
        .map_err(|error| tracing::error!(%error, "an update goes without its data"))
        .ok()
        .map(Data::from)
}

#[cfg(test)]
mod tests;
