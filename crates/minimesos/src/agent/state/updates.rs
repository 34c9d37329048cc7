//! Status updates: enriched, kept, sent one at a time for each task, and sent
//! again until the scheduler has acknowledged them.

use std::sync::Arc;
use std::time::Duration;

use meson_mesos::executor::{Acknowledged, Event};
use meson_mesos::types::{
    ContainerStatus, Data, ExecutorId, FrameworkId, Resource, StatusReason, StatusSource, TaskId,
    TaskResourceLimitation, TaskState, TaskStatus,
};
use serde_json::json;

use super::{
    Ending, Executor, Forward, Framework, LaunchFailure, Out, Output, Stage, State, Time, Timer,
};
use crate::agent::records::{Kind, TaskRecord};

/// The first wait before an update is sent again; it doubles each time
/// (`STATUS_UPDATE_RETRY_INTERVAL_MIN` of Mesos).
const RETRY_MIN: Duration = Duration::from_secs(10);
/// The longest wait (`STATUS_UPDATE_RETRY_INTERVAL_MAX` of Mesos).
const RETRY_MAX: Duration = Duration::from_secs(600);

/// Most updates of one task that wait for the scheduler, and bytes of data in them. An executor
/// that goes on nevertheless is not heard, except of the task's end.
const MOST_PENDING: usize = 256;
const MOST_PENDING_BYTES: usize = 16 << 20;
/// Most tasks that an executor may speak of though nobody launched them.
const MOST_UNLAUNCHED: usize = 256;

/// What the agent itself says of a task.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) state: TaskState,
    pub(super) reason: StatusReason,
    pub(super) message: String,
}

/// Mesos's way of writing a duration: `2secs`, `1mins`, `500ms`.
pub(in crate::agent) fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, name) in [
        (604_800_000_000_000, "weeks"),
        (86_400_000_000_000, "days"),
        (3_600_000_000_000, "hrs"),
        (60_000_000_000, "mins"),
        (1_000_000_000, "secs"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ] {
        if nanos >= unit && nanos.is_multiple_of(unit) {
            return format!("{}{name}", nanos / unit);
        }
    }
    format!("{nanos}ns")
}

impl State {
    /// What becomes of the live tasks of an executor that has ended.
    fn verdict(&self, framework_id: &FrameworkId, ending: &Ending) -> Verdict {
        let aware = self
            .frameworks
            .get(framework_id)
            .is_some_and(|framework| framework.record.partition_aware());
        match ending {
            Ending::Plain => Verdict {
                state: TaskState::Failed,
                reason: StatusReason::ExecutorTerminated,
                message: "Executor terminated".to_owned(),
            },
            Ending::RegistrationTimeout => Verdict {
                state: TaskState::Failed,
                reason: StatusReason::ExecutorRegistrationTimeout,
                message: format!(
                    "Executor did not register within {}",
                    duration_text(self.settings.timeouts.executor_registration)
                ),
            },
            Ending::ReregistrationTimeout(waited) => Verdict {
                // The process was alive until now, so GONE and not DROPPED.
                state: if aware {
                    TaskState::Gone
                } else {
                    TaskState::Lost
                },
                reason: StatusReason::ExecutorReregistrationTimeout,
                message: format!(
                    "Executor did not reregister within {}",
                    duration_text(*waited)
                ),
            },
            Ending::MemoryLimit { limit_mb, used_mb } => Verdict {
                state: TaskState::Failed,
                reason: StatusReason::ContainerLimitationMemory,
                message: format!(
                    "Memory limit exceeded: Requested: {limit_mb:.0}MB Maximum Used: {used_mb:.0}MB"
                ),
            },
            Ending::LaunchFailed(LaunchFailure::Container(message)) => Verdict {
                state: TaskState::Failed,
                reason: StatusReason::ContainerLaunchFailed,
                message: format!("Failed to launch container: {message}"),
            },
            Ending::LaunchFailed(LaunchFailure::Directory(message)) => Verdict {
                state: if aware {
                    TaskState::Dropped
                } else {
                    TaskState::Lost
                },
                reason: StatusReason::ExecutorTerminated,
                message: message.clone(),
            },
        }
    }

    /// A task that the scheduler thinks is here, and is not or will not be.
    pub(super) fn dropped(
        &self,
        framework_id: &FrameworkId,
        reason: StatusReason,
        message: &str,
    ) -> Verdict {
        let aware = self
            .frameworks
            .get(framework_id)
            .is_some_and(|framework| framework.record.partition_aware());
        Verdict {
            state: if aware {
                TaskState::Dropped
            } else {
                TaskState::Lost
            },
            reason,
            message: message.to_owned(),
        }
    }

    /// Ends a task whose executor is no more.
    pub(super) fn executor_gone(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        ending: &Ending,
        now: Time,
        out: &mut Out,
    ) {
        let verdict = self.verdict(framework_id, ending);
        self.judge_limited(framework_id, task_id, verdict, limitation(ending), now, out);
    }

    /// Makes an update of the agent's own, for a task that it knows.
    pub(super) fn judge(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        verdict: Verdict,
        now: Time,
        out: &mut Out,
    ) {
        self.judge_limited(framework_id, task_id, verdict, None, now, out);
    }

    fn judge_limited(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        verdict: Verdict,
        limitation: Option<TaskResourceLimitation>,
        now: Time,
        out: &mut Out,
    ) {
        let uuid = self.uuid();
        let agent_id = self.info.id.clone();
        let Some(task) = self
            .frameworks
            .get(framework_id)
            .and_then(|framework| framework.tasks.get(task_id))
        else {
            return;
        };
        let status = TaskStatus {
            task_id: task_id.clone(),
            state: verdict.state,
            message: Some(verdict.message),
            source: Some(StatusSource::Agent),
            reason: Some(verdict.reason),
            agent_id,
            executor_id: Some(task.record.executor_id.clone()),
            timestamp: Some(now.as_secs_f64()),
            uuid: Some(uuid),
            limitation,
            ..TaskStatus::default()
        };
        self.enqueue(framework_id, status, now, out);
    }

    /// Answers for a task that is not here, without keeping the answer.
    pub(super) fn disown(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        now: Time,
        out: &mut Out,
    ) {
        if !self.registered {
            return;
        }
        let state = if self.aware.contains(framework_id) {
            TaskState::Gone
        } else {
            TaskState::Lost
        };
        let status = TaskStatus {
            message: Some("Cannot kill a task that the agent does not know".to_owned()),
            source: Some(StatusSource::Agent),
            reason: Some(StatusReason::TaskUnknown),
            agent_id: self.info.id.clone(),
            timestamp: Some(now.as_secs_f64()),
            uuid: Some(self.uuid()),
            ..TaskStatus::new(task_id.clone(), state.clone())
        };
        out.push(Output::Update(Forward {
            framework_id: framework_id.clone(),
            status: Arc::new(status),
            latest_state: state,
        }));
    }

    /// Whether the updates of a task, or the tasks that nobody launched, have become too many for
    /// this one.
    fn is_too_much(framework: &Framework, executor_id: &ExecutorId, status: &TaskStatus) -> bool {
        let Some(task) = framework.tasks.get(&status.task_id) else {
            let made_up = framework.tasks.values().filter(|task| {
                task.record.info.is_none() && task.record.executor_id == *executor_id
            });
            return made_up.count() >= MOST_UNLAUNCHED;
        };
        let bytes = |status: &TaskStatus| status.data.as_ref().map_or(0, |data| data.len());
        let pending = &task.record.pending;
        let waiting: usize = pending.iter().map(|status| bytes(status)).sum();
        let is_end = status.state.is_terminal() && !task.record.state.is_terminal();
        let many = pending.len() >= MOST_PENDING || waiting + bytes(status) > MOST_PENDING_BYTES;
        many && !is_end
    }

    /// An executor speaks of a task, whether that was launched or not. Says whether it is heard.
    pub(super) fn executor_update(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        mut status: TaskStatus,
        now: Time,
        out: &mut Out,
    ) -> bool {
        let ip = &self.settings.ip;
        let agent_id = self.info.id.clone();
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return true;
        };
        let Some(executor) = framework.executors.get(executor_id) else {
            return true;
        };
        let Some(uuid) = status.uuid.clone() else {
            return true;
        };
        let known = framework.tasks.get(&status.task_id);
        let acknowledged = known.is_some_and(|task| task.record.acknowledged.contains(&uuid));
        if acknowledged || framework.removing {
            // It missed the acknowledgement, or nobody is left to give one.
            acknowledge_to(executor, status.task_id, uuid, out);
            return true;
        }
        if known.is_some_and(|task| task.record.awaits(&uuid)) {
            return true;
        }
        if Self::is_too_much(framework, executor_id, &status) {
            return false;
        }
        status.agent_id = agent_id;
        if self.draining && matches!(status.state, TaskState::Killing | TaskState::Killed) {
            status.reason = Some(StatusReason::AgentDraining);
        }
        status.source.get_or_insert(StatusSource::Executor);
        status.timestamp.get_or_insert(now.as_secs_f64());
        if executor.run.kind == Kind::Command {
            status.executor_id = Some(executor_id.clone());
        }
        if known.is_some_and(|task| task.record.info.is_some()) {
            status.container_status.get_or_insert(ContainerStatus {
                container_id: Some(executor.run.container_id.clone()),
                network_infos: vec![
                    json!({"ip_addresses": [{"protocol": "IPv4", "ip_address": ip}]}),
                ],
                cgroup_info: None,
                executor_pid: executor
                    .run
                    .process
                    .and_then(|process| u32::try_from(process.pid).ok()),
            });
        } else if known.is_none() {
            let record = TaskRecord::new(
                framework_id.clone(),
                status.task_id.clone(),
                executor_id.clone(),
                None,
            );
            let task = super::Task {
                record,
                retry: None,
            };
            framework.tasks.insert(status.task_id.clone(), task);
        }
        self.enqueue(framework_id, status, now, out);
        true
    }

    /// Puts an update behind those of its task, and sends it if it is the first.
    fn enqueue(
        &mut self,
        framework_id: &FrameworkId,
        status: TaskStatus,
        now: Time,
        out: &mut Out,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let Some(task) = framework.tasks.get_mut(&status.task_id) else {
            return;
        };
        let record = &mut task.record;
        // What comes after the end is passed on and changes nothing here.
        if !record.state.is_terminal() {
            record.state = status.state.clone();
            if record.state.is_terminal()
                && let Some(executor) = framework.executors.get_mut(&record.executor_id)
            {
                executor.tasks.remove(&status.task_id);
                executor.queued.retain(|queued| *queued != status.task_id);
                executor.kills.remove(&status.task_id);
            }
        }
        let task_id = status.task_id.clone();
        let status = Arc::new(status);
        record.latest = Some(Arc::clone(&status));
        record.pending.push_back(status);
        if framework.record.checkpoints() {
            out.push(Output::SaveTask(record.clone()));
        }
        if record.pending.len() == 1 {
            self.send(framework_id, &task_id, RETRY_MIN, now, out);
        }
    }

    /// Sends the oldest pending update of a task.
    fn send(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        interval: Duration,
        now: Time,
        out: &mut Out,
    ) {
        if !self.registered || self.stage == Stage::Leaving {
            // All are sent upon the next registration.
            return;
        }
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let Some(task) = framework.tasks.get_mut(task_id) else {
            return;
        };
        let Some(status) = task.record.pending.front().filter(|_| !framework.removing) else {
            task.retry = None;
            return;
        };
        out.push(Output::Update(Forward {
            framework_id: framework_id.clone(),
            status: Arc::clone(status),
            latest_state: task.record.state.clone(),
        }));
        let at = now + interval;
        task.retry = Some((at, interval));
        self.timers
            .insert((at, Timer::Update(framework_id.clone(), task_id.clone())));
    }

    /// The retry timer of a task has fired.
    pub(super) fn send_again(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        now: Time,
        out: &mut Out,
    ) {
        let retry = self
            .frameworks
            .get(framework_id)
            .and_then(|framework| framework.tasks.get(task_id))
            .and_then(|task| task.retry);
        if let Some((at, interval)) = retry
            && at <= now
        {
            let interval = (interval * 2).min(RETRY_MAX);
            self.send(framework_id, task_id, interval, now, out);
        }
    }

    /// Sends the oldest pending update of every task, after a registration.
    pub(super) fn send_all(&mut self, now: Time, out: &mut Out) {
        self.send_all_of(None, now, out);
    }

    /// Sends the oldest pending update of every task of one framework, or of all.
    pub(super) fn send_all_of(&mut self, only: Option<&FrameworkId>, now: Time, out: &mut Out) {
        let waiting: Vec<(FrameworkId, TaskId)> = self
            .frameworks
            .iter()
            .filter(|(id, _)| only.is_none_or(|only| only == *id))
            .flat_map(|(id, framework)| {
                framework
                    .tasks
                    .iter()
                    .filter(|(_, task)| !task.record.pending.is_empty())
                    .map(|(task_id, _)| (id.clone(), task_id.clone()))
            })
            .collect();
        for (framework_id, task_id) in waiting {
            self.send(&framework_id, &task_id, RETRY_MIN, now, out);
        }
    }

    /// The scheduler has acknowledged an update.
    pub(super) fn acknowledge(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        uuid: &Data,
        now: Time,
        out: &mut Out,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let Some(task) = framework.tasks.get_mut(task_id) else {
            return;
        };
        let record = &mut task.record;
        // Only the one that was sent can have been acknowledged; anything else
        // is the acknowledgement of a repetition.
        let Some(status) = record
            .pending
            .pop_front_if(|status| status.uuid.as_ref() == Some(uuid))
        else {
            return;
        };
        record.remember(uuid.clone());
        task.retry = None;
        if status.source == Some(StatusSource::Executor)
            && let Some(executor) = framework.executors.get(&record.executor_id)
        {
            acknowledge_to(executor, task_id.clone(), uuid.clone(), out);
        }
        let kept = framework.record.checkpoints();
        if record.is_done() {
            framework.tasks.remove(task_id);
            if kept {
                out.push(Output::RemoveTask(framework_id.clone(), task_id.clone()));
            }
            self.tidy(framework_id, out);
        } else {
            if kept {
                out.push(Output::SaveTask(record.clone()));
            }
            self.send(framework_id, task_id, RETRY_MIN, now, out);
        }
    }
}

/// The limit that an executor broke, if that was its end.
fn limitation(ending: &Ending) -> Option<TaskResourceLimitation> {
    let Ending::MemoryLimit { limit_mb, .. } = ending else {
        return None;
    };
    Some(TaskResourceLimitation {
        resources: vec![Resource::scalar("mem", *limit_mb)],
    })
}

/// Tells an executor that one of its updates is with the scheduler.
fn acknowledge_to(executor: &Executor, task_id: TaskId, uuid: Data, out: &mut Out) {
    if let Some(stream) = executor.stream() {
        let event = Event::Acknowledged(Acknowledged { task_id, uuid });
        out.push(Output::Event(stream, Box::new(event)));
    }
}
