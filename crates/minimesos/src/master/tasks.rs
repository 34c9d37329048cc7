//! What is said about tasks: updates, acknowledgements, KILL, RECONCILE, and messages
//! between schedulers and executors.

use super::input::{Moment, Output};
use super::state::{Master, Task, master_status};
use crate::link::ToAgent;
use meson_mesos::scheduler::{
    Acknowledge, Event, Failure, Kill, Message, Reconcile, ReconcileTask, Shutdown,
};
use meson_mesos::types::{
    AgentId, Data, ExecutorId, FrameworkId, StatusReason, TaskId, TaskState, TaskStatus, TimeInfo,
};

impl Master {
    /// An update from an agent. It goes on to the scheduler also when nobody launched such
    /// a task; while the scheduler is away, the agent repeats it.
    pub(super) fn status_update(
        &mut self,
        agent_id: &AgentId,
        framework_id: &FrameworkId,
        status: TaskStatus,
        latest_state: TaskState,
        out: &mut Vec<Output>,
    ) {
        if !self.frameworks.contains_key(framework_id) {
            self.tell_agent(
                agent_id,
                ToAgent::ShutdownFramework {
                    framework_id: framework_id.clone(),
                },
                out,
            );
            return;
        }
        self.set_task_state(framework_id, &status.task_id, latest_state);
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let connected = framework.stream().is_some();
        if let Some(task) = framework.tasks.get_mut(&status.task_id)
            && &task.agent_id == agent_id
        {
            if status.container_status.is_some() {
                task.container_status.clone_from(&status.container_status);
            }
            task.healthy = status.healthy.or(task.healthy);
            if connected {
                task.told = Some((status.state.clone(), status.uuid.clone()));
            }
        }
        self.tell_status(framework_id, status, out);
    }

    pub(super) fn acknowledge(
        &mut self,
        framework_id: &FrameworkId,
        ack: Acknowledge,
        out: &mut Vec<Output>,
    ) {
        let Acknowledge {
            agent_id,
            task_id,
            uuid,
        } = ack;
        let task = self
            .frameworks
            .get(framework_id)
            .and_then(|framework| framework.tasks.get(&task_id));
        if let Some(Task {
            told: Some((state, told_uuid)),
            ..
        }) = task
            && state.is_terminal()
            && told_uuid.as_ref() == Some(&uuid)
        {
            // Ended and acknowledged tasks are unknown at once.
            if let Some(task) = self.remove_task(framework_id, &task_id) {
                self.remember_task(framework_id, task_id.clone(), task);
            }
        }
        let framework_id = framework_id.clone();
        self.tell_agent(
            &agent_id,
            ToAgent::AcknowledgeUpdate {
                framework_id,
                task_id,
                uuid,
            },
            out,
        );
    }

    pub(super) fn kill(
        &mut self,
        framework_id: &FrameworkId,
        kill: Kill,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Kill {
            task_id,
            agent_id,
            kill_policy,
        } = kill;
        let task = self
            .frameworks
            .get(framework_id)
            .and_then(|framework| framework.tasks.get(&task_id));
        let Some(on) = task
            .filter(|task| !task.state.is_terminal())
            .map(|task| task.agent_id.clone())
        else {
            let task = ReconcileTask { task_id, agent_id };
            return self.reconcile_task(framework_id, &task, now, out);
        };
        let message = ToAgent::KillTask {
            framework_id: framework_id.clone(),
            task_id: task_id.clone(),
            kill_policy,
        };
        if !self.tell_agent(&on, message, out)
            && let Some(agent) = self.agents.get_mut(&on)
        {
            agent.pending_kills.insert((framework_id.clone(), task_id));
        }
    }

    pub(super) fn reconcile(
        &self,
        framework_id: &FrameworkId,
        reconcile: &Reconcile,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        if !reconcile.tasks.is_empty() {
            for task in &reconcile.tasks {
                self.reconcile_task(framework_id, task, now, out);
            }
            return;
        }
        let Some(framework) = self.frameworks.get(framework_id) else {
            return;
        };
        for (task_id, task) in &framework.tasks {
            let status = task.latest_status(task_id, now);
            self.tell_status(framework_id, status, out);
        }
    }

    /// Says what is known of a task (`Master::_reconcileTasks` in the Mesos repository). About tasks
    /// that agents of an earlier master may have there is silence, until those are back.
    fn reconcile_task(
        &self,
        framework_id: &FrameworkId,
        asked: &ReconcileTask,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Some(framework) = self.frameworks.get(framework_id) else {
            return;
        };
        let ReconcileTask { task_id, agent_id } = asked;
        if let Some(task) = framework.tasks.get(task_id) {
            return self.tell_status(framework_id, task.latest_status(task_id, now), out);
        }
        let agent_id = agent_id.as_ref();
        let say = |state: TaskState, message: &str| {
            let state = framework.or_lost(state);
            master_status(
                task_id,
                state,
                StatusReason::Reconciliation,
                message,
                agent_id,
                now,
            )
        };
        let silent = match agent_id {
            Some(id) => self.recovered.contains_key(id),
            None => !self.recovered.is_empty(),
        };
        if silent {
            return;
        }
        let status = match agent_id {
            Some(id) if self.agents.contains_key(id) => say(
                TaskState::Gone,
                "Reconciliation: Task is unknown to the agent",
            ),
            Some(id) if self.unreachable.contains_key(id) => TaskStatus {
                unreachable_time: self.unreachable.get(id).map(|since| TimeInfo {
                    nanoseconds: since.as_nanoseconds(),
                }),
                ..say(
                    TaskState::Unreachable,
                    "Reconciliation: Task is unreachable",
                )
            },
            Some(id) if self.gone.contains_key(id) => {
                say(TaskState::GoneByOperator, "Reconciliation: Task is gone")
            }
            _ => say(TaskState::Unknown, "Reconciliation: Task is unknown"),
        };
        self.tell_status(framework_id, status, out);
    }

    pub(super) fn shutdown_executor(
        &self,
        framework_id: &FrameworkId,
        shutdown: Shutdown,
        out: &mut Vec<Output>,
    ) {
        let Shutdown {
            executor_id,
            agent_id,
        } = shutdown;
        let framework_id = framework_id.clone();
        self.tell_agent(
            &agent_id,
            ToAgent::ShutdownExecutor {
                framework_id,
                executor_id,
            },
            out,
        );
    }

    pub(super) fn message_to_executor(
        &self,
        framework_id: &FrameworkId,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        let Message {
            agent_id,
            executor_id,
            data,
        } = message;
        let framework_id = framework_id.clone();
        self.tell_agent(
            &agent_id,
            ToAgent::FrameworkMessage {
                framework_id,
                executor_id,
                data,
            },
            out,
        );
    }

    pub(super) fn message_to_scheduler(
        &self,
        agent_id: &AgentId,
        framework_id: &FrameworkId,
        executor_id: ExecutorId,
        data: Data,
        out: &mut Vec<Output>,
    ) {
        let message = Message {
            agent_id: agent_id.clone(),
            executor_id,
            data,
        };
        self.tell(framework_id, Event::Message(message), out);
    }

    pub(super) fn executor_terminated(
        &mut self,
        agent_id: &AgentId,
        framework_id: &FrameworkId,
        executor_id: ExecutorId,
        status: i32,
        is_command_executor: bool,
        out: &mut Vec<Output>,
    ) {
        self.remove_executor(framework_id, agent_id, &executor_id);
        if is_command_executor {
            return;
        }
        let failure = Failure {
            agent_id: Some(agent_id.clone()),
            executor_id: Some(executor_id),
            status: Some(status),
        };
        self.tell(framework_id, Event::Failure(failure), out);
    }
}

impl Task {
    /// The answer to RECONCILE: no data, no labels, no uuid.
    pub(super) fn latest_status(&self, task_id: &TaskId, now: Moment) -> TaskStatus {
        let reason = StatusReason::Reconciliation;
        let message = "Reconciliation: Latest task state";
        TaskStatus {
            executor_id: self.executor_id.clone(),
            container_status: self.container_status.clone(),
            healthy: self.healthy,
            ..master_status(
                task_id,
                self.state.clone(),
                reason,
                message,
                Some(&self.agent_id),
                now,
            )
        }
    }
}
