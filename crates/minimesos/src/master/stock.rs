//! An agent that registers again is compared with what the master believes of it.

use super::agents::Acquaintance;
use super::formats;
use super::input::{Moment, Output};
use super::state::{Agent, Connection, Framework, Master, Task, master_status};
use crate::link::{RunningExecutor, ToAgent};
use meson_mesos::types::{
    AgentId, ExecutorId, FrameworkId, FrameworkInfo, StatusReason, TaskId, TaskState, TaskStatus,
};
use std::collections::BTreeSet;

impl Master {
    /// Compares what an agent runs with what the master believes that it runs.
    pub(super) fn take_stock(
        &mut self,
        agent_id: &AgentId,
        executors: Vec<RunningExecutor>,
        frameworks: Vec<FrameworkInfo>,
        acquaintance: Acquaintance,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        self.recover_frameworks(frameworks, now);
        let mut present: BTreeSet<(FrameworkId, TaskId)> = BTreeSet::new();
        let mut alive = BTreeSet::new();
        let mut strangers: BTreeSet<FrameworkId> = BTreeSet::new();
        for RunningExecutor {
            framework_id,
            executor,
            is_command_executor,
            tasks,
        } in executors
        {
            if !self.frameworks.contains_key(&framework_id) {
                strangers.insert(framework_id);
                continue;
            }
            let executor_id = executor.executor_id.clone();
            alive.insert((framework_id.clone(), executor_id.clone()));
            if !is_command_executor {
                self.add_executor(&framework_id, agent_id, executor);
            }
            for running in tasks {
                let task_id = running.task.task_id.clone();
                present.insert((framework_id.clone(), task_id.clone()));
                let known = self
                    .frameworks
                    .get_mut(&framework_id)
                    .is_some_and(|framework| {
                        framework.unreachable_tasks.remove(&task_id);
                        framework.tasks.contains_key(&task_id)
                    });
                if known {
                    self.set_task_state(&framework_id, &task_id, running.state);
                    continue;
                }
                let latest = running.latest.as_ref();
                let task = Task {
                    name: running.task.name.clone(),
                    agent_id: agent_id.clone(),
                    executor_id: (!is_command_executor).then(|| executor_id.clone()),
                    resources: formats::internal(&running.task.resources),
                    state: running.state,
                    told: None,
                    container_status: latest.and_then(|status| status.container_status.clone()),
                    healthy: latest.and_then(|status| status.healthy),
                };
                let status = TaskStatus {
                    reason: Some(StatusReason::AgentReregistered),
                    message: reregistered_message(acquaintance).map(str::to_owned),
                    ..task.latest_status(&task_id, now)
                };
                self.add_task(&framework_id, task_id, task);
                if status.message.is_some() {
                    self.tell_status(&framework_id, status, out);
                }
            }
        }
        for framework_id in strangers {
            self.tell_agent(agent_id, ToAgent::ShutdownFramework { framework_id }, out);
        }
        self.forget_absent(agent_id, &present, &alive, now, out);
        for (framework_id, task_id) in self.take_pending_kills(agent_id) {
            self.tell_agent(
                agent_id,
                ToAgent::KillTask {
                    framework_id,
                    task_id,
                    kill_policy: None,
                },
                out,
            );
        }
        let infos: Vec<_> = self
            .frameworks
            .values()
            .map(|framework| framework.info.clone())
            .collect();
        for framework in infos.into_iter().filter(|info| {
            info.id
                .as_ref()
                .is_some_and(|id| self.has_work(agent_id, id))
        }) {
            self.tell_agent(agent_id, ToAgent::UpdateFramework { framework }, out);
        }
    }

    pub(super) fn has_work(&self, agent_id: &AgentId, framework_id: &FrameworkId) -> bool {
        let Some(framework) = self.frameworks.get(framework_id) else {
            return false;
        };
        let executes = |agent: &Agent| {
            agent
                .executors
                .keys()
                .any(|(owner, _)| owner == framework_id)
        };
        framework
            .tasks
            .values()
            .any(|task| &task.agent_id == agent_id)
            || self.agents.get(agent_id).is_some_and(executes)
    }

    fn take_pending_kills(&mut self, agent_id: &AgentId) -> BTreeSet<(FrameworkId, TaskId)> {
        self.agents
            .get_mut(agent_id)
            .map(|agent| std::mem::take(&mut agent.pending_kills))
            .unwrap_or_default()
    }

    /// Frameworks of which only an agent tells: their schedulers have not come back yet to
    /// a master that restarted.
    fn recover_frameworks(&mut self, frameworks: Vec<FrameworkInfo>, now: Moment) {
        for info in frameworks {
            let Some(id) = info.id.clone() else { continue };
            if self.frameworks.contains_key(&id) || self.removed_frameworks.contains(&id) {
                continue;
            }
            let mut framework = Framework::new(info, Connection::Disconnected { removed_at: now });
            // With the default of 0 it would be removed before it can come back.
            let timeout = framework
                .failover_timeout()
                .max(self.config.agent_reregister_timeout);
            framework.connection = Connection::Disconnected {
                removed_at: now + timeout,
            };
            self.frameworks.insert(id, framework);
        }
    }

    /// Tasks and executors that the master believes in, and the agent does not have: lost
    /// on the way there, or ended while it was away.
    fn forget_absent(
        &mut self,
        agent_id: &AgentId,
        present: &BTreeSet<(FrameworkId, TaskId)>,
        alive: &BTreeSet<(FrameworkId, ExecutorId)>,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        for (framework_id, task_id) in self.tasks_on(agent_id) {
            if present.contains(&(framework_id.clone(), task_id.clone())) {
                continue;
            }
            let Some(task) = self.remove_task(&framework_id, &task_id) else {
                continue;
            };
            let Some(framework) = self.frameworks.get(&framework_id) else {
                continue;
            };
            if !task.state.is_terminal() {
                let state = framework.or_lost(TaskState::Dropped);
                let message = "Reconciliation: task unknown to the agent";
                let status = master_status(
                    &task_id,
                    state,
                    StatusReason::Reconciliation,
                    message,
                    Some(agent_id),
                    now,
                );
                self.tell_status(&framework_id, status, out);
            }
        }
        let lost = |framework: &Framework| {
            framework
                .unreachable_tasks
                .iter()
                .any(|(_, on)| on == agent_id)
        };
        for framework in self
            .frameworks
            .values_mut()
            .filter(|framework| lost(framework))
        {
            framework.unreachable_tasks.retain(|_, on| on != agent_id);
        }
        let believed: Vec<_> = self
            .agents
            .get(agent_id)
            .map(|agent| agent.executors.keys().cloned().collect())
            .unwrap_or_default();
        for (framework_id, executor_id) in believed {
            if !alive.contains(&(framework_id.clone(), executor_id.clone())) {
                self.remove_executor(&framework_id, agent_id, &executor_id);
            }
        }
    }
}

/// What schedulers hear of tasks that come back with their agent. Of agents that the
/// registry knew, nothing is said.
fn reregistered_message(acquaintance: Acquaintance) -> Option<&'static str> {
    match acquaintance {
        // The spelling is the real one's.
        Acquaintance::Unreachable => Some("Unreachable agent re-reregistered"),
        Acquaintance::Unknown => Some("Unknown agent reregistered"),
        Acquaintance::Registered | Acquaintance::Recovered => None,
    }
}
