//! Agents are lost, leave, or are marked gone: their tasks and offers go with them.

use super::input::{Moment, Output};
use super::state::{
    Framework, MAX_ABSENT_AGENTS, MAX_COMPLETED_TASKS, Master, Task, master_status,
};
use crate::link::ToAgent;
use meson_mesos::scheduler::{Event, Failure, Update};
use meson_mesos::types::{AgentId, StatusReason, TaskId, TaskState, TaskStatus, TimeInfo};
use std::collections::BTreeMap;

impl Master {
    pub(super) fn mark_unreachable(
        &mut self,
        agent_id: &AgentId,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        remember(&mut self.unreachable, agent_id, now);
        self.remove_agent(agent_id, &Departure::Unreachable, now, out);
    }

    pub(super) fn unregister(&mut self, agent_id: &AgentId, now: Moment, out: &mut Vec<Output>) {
        self.remove_agent(agent_id, &Departure::Unregistered, now, out);
    }

    pub(super) fn mark_gone(&mut self, agent_id: &AgentId, now: Moment, out: &mut Vec<Output>) {
        let recovered = self.recovered.remove(agent_id).is_some();
        let unreachable = self.unreachable.remove(agent_id).is_some();
        if !recovered && !unreachable && !self.agents.contains_key(agent_id) {
            return;
        }
        remember(&mut self.gone, agent_id, now);
        self.deactivated.remove(agent_id);
        let message = ToAgent::Refused {
            message: "Agent has been marked gone".to_owned(),
        };
        self.tell_agent(agent_id, message, out);
        self.remove_agent(agent_id, &Departure::Gone, now, out);
        for (framework_id, framework) in &mut self.frameworks {
            let tasks: Vec<_> = framework
                .unreachable_tasks
                .iter()
                .filter(|(_, on)| *on == agent_id)
                .map(|(id, _)| id.clone())
                .collect();
            for task_id in tasks {
                framework.unreachable_tasks.remove(&task_id);
                if let Some(stream) = framework.stream() {
                    let status = Departure::Gone.status(framework, &task_id, agent_id, "", now);
                    let event = Event::Update(Update { status });
                    out.push(Output::ToScheduler {
                        stream: stream.clone(),
                        event: Box::new(event),
                    });
                }
                tracing::debug!(framework = %framework_id, task = %task_id, "task is gone with its agent");
            }
        }
    }

    /// Takes an agent and its tasks out of the books. Who asks hears, in the real one's
    /// order: updates, rescinded offers, the failure.
    pub(super) fn remove_agent(
        &mut self,
        agent_id: &AgentId,
        departure: &Departure,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let hostname = self
            .agents
            .get(agent_id)
            .map(|agent| agent.info.hostname.clone())
            .unwrap_or_default();
        out.push(Output::SaveRegistry);
        for (framework_id, task_id) in self.tasks_on(agent_id) {
            let Some(task) = self.remove_task(&framework_id, &task_id) else {
                continue;
            };
            let Some(framework) = self.frameworks.get_mut(&framework_id) else {
                continue;
            };
            if task.state.is_terminal() {
                self.remember_task(&framework_id, task_id, task);
                continue;
            }
            let status = departure.status(framework, &task_id, agent_id, &hostname, now);
            let state = status.state.clone();
            if matches!(departure, Departure::Unreachable) {
                if framework.unreachable_tasks.len() >= MAX_COMPLETED_TASKS {
                    framework.unreachable_tasks.pop_first();
                }
                framework
                    .unreachable_tasks
                    .insert(task_id, agent_id.clone());
            } else {
                self.remember_task(&framework_id, task_id, Task { state, ..task });
            }
            self.tell_status(&framework_id, status, out);
        }
        for offer_id in self.offers_where(|offer| &offer.offer.agent_id == agent_id) {
            self.rescind(&offer_id, out);
        }
        self.rescind_inverse_offers(agent_id, out);
        let executors: Vec<_> = self
            .agents
            .get(agent_id)
            .map(|agent| agent.executors.keys().cloned().collect())
            .unwrap_or_default();
        for (framework_id, executor_id) in executors {
            self.remove_executor(&framework_id, agent_id, &executor_id);
        }
        let Some(agent) = self.agents.remove(agent_id) else {
            return;
        };
        let failure = Failure {
            agent_id: Some(agent_id.clone()),
            ..Failure::default()
        };
        for framework_id in self.frameworks.keys() {
            self.tell(framework_id, Event::Failure(failure.clone()), out);
        }
        for framework in self.frameworks.values_mut() {
            framework.filters.retain(|(on, _), _| on != agent_id);
        }
        if let Some(stream) = agent.stream {
            out.push(Output::CloseAgent { stream });
        }
    }

    /// Agents of an earlier master that did not come back in time.
    pub(super) fn give_up_recovered(&mut self, now: Moment, out: &mut Vec<Output>) {
        if self.recovered.is_empty() || now < self.recovered_until {
            return;
        }
        for (agent_id, _) in std::mem::take(&mut self.recovered) {
            remember(&mut self.unreachable, &agent_id, now);
        }
        out.push(Output::SaveRegistry);
    }
}

/// Why an agent is taken out of the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    Unreachable,
    Unregistered,
    MachineDown,
    Gone,
}

/// Notes an agent that is away, and forgets the one that has been away longest when there
/// are too many.
fn remember(absent: &mut BTreeMap<AgentId, Moment>, agent_id: &AgentId, now: Moment) {
    if absent.len() >= MAX_ABSENT_AGENTS
        && let Some(oldest) = absent
            .iter()
            .min_by_key(|(_, since)| **since)
            .map(|(id, _)| id.clone())
    {
        absent.remove(&oldest);
    }
    absent.insert(agent_id.clone(), now);
}

impl Departure {
    fn status(
        &self,
        framework: &Framework,
        task_id: &TaskId,
        agent_id: &AgentId,
        hostname: &str,
        now: Moment,
    ) -> TaskStatus {
        let agent = Some(agent_id);
        match self {
            Self::Unreachable => TaskStatus {
                unreachable_time: Some(TimeInfo {
                    nanoseconds: now.as_nanoseconds(),
                }),
                ..master_status(
                    task_id,
                    framework.or_lost(TaskState::Unreachable),
                    StatusReason::AgentRemoved,
                    "health check timed out",
                    agent,
                    now,
                )
            },
            // LOST for PARTITION_AWARE frameworks too.
            Self::Unregistered => {
                let message = format!("Agent {hostname} removed: the agent unregistered");
                master_status(
                    task_id,
                    TaskState::Lost,
                    StatusReason::AgentRemoved,
                    message,
                    agent,
                    now,
                )
            }
            Self::MachineDown => {
                let message =
                    format!("Agent {hostname} removed: Operator initiated 'Machine DOWN'");
                master_status(
                    task_id,
                    TaskState::Lost,
                    StatusReason::AgentRemoved,
                    message,
                    agent,
                    now,
                )
            }
            Self::Gone => master_status(
                task_id,
                framework.or_lost(TaskState::GoneByOperator),
                StatusReason::AgentRemovedByOperator,
                "Agent has been marked gone",
                agent,
                now,
            ),
        }
    }
}
