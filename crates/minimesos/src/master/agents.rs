//! Agents register, are pinged, are lost, come back, and leave.

use super::formats;
use super::input::{Moment, Output, StreamId};
use super::state::{Agent, Connection, Framework, Master, Ping, Task, master_status};
use crate::link::{Hello, RunningExecutor, ToAgent};
use meson_mesos::scheduler::{Event, Failure};
use meson_mesos::types::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, StatusReason, TaskId, TaskState, TaskStatus,
    TimeInfo,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a master knew of an agent that says hello with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acquaintance {
    /// It is registered.
    Registered,
    /// It was unreachable.
    Unreachable,
    /// An earlier master admitted it.
    Recovered,
    /// Never heard of.
    Unknown,
}

impl Master {
    pub(super) fn agent_hello(
        &mut self,
        stream: StreamId,
        hello: Hello,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let master_timeout_ms = self.master_timeout_ms();
        let Some(agent_id) = hello.agent.id.clone().filter(|id| !id.value.is_empty()) else {
            let agent_id = AgentId::new(format!("{}-S{}", self.config.info.id, self.next_agent));
            self.next_agent += 1;
            self.admit(&agent_id, hello.agent, stream, now);
            out.push(Output::SaveRegistry);
            self.tell_agent(
                &agent_id,
                ToAgent::Registered {
                    agent_id: agent_id.clone(),
                    master_timeout_ms,
                },
                out,
            );
            return self.allocate(Some(&agent_id), now, out);
        };
        if self.gone.contains_key(&agent_id) {
            let message = Box::new(ToAgent::Refused {
                message: "Agent has been marked gone".to_owned(),
            });
            out.push(Output::ToAgent {
                stream: stream.clone(),
                message,
            });
            out.push(Output::CloseAgent { stream });
            return;
        }
        let acquaintance = if self.agents.contains_key(&agent_id) {
            Acquaintance::Registered
        } else if self.unreachable.remove(&agent_id).is_some() {
            Acquaintance::Unreachable
        } else if self.recovered.remove(&agent_id).is_some() {
            Acquaintance::Recovered
        } else {
            Acquaintance::Unknown
        };
        let Hello {
            agent,
            executors,
            frameworks,
            ..
        } = hello;
        if acquaintance == Acquaintance::Registered {
            self.replace_stream(&agent_id, agent, stream, now, out);
        } else {
            self.admit(&agent_id, agent, stream, now);
        }
        out.push(Output::SaveRegistry);
        self.tell_agent(
            &agent_id,
            ToAgent::Reregistered {
                agent_id: agent_id.clone(),
                master_timeout_ms,
            },
            out,
        );
        self.take_stock(&agent_id, executors, frameworks, acquaintance, now, out);
        self.allocate(Some(&agent_id), now, out);
    }

    /// An agent takes the master for lost after as long as the master takes it for lost.
    fn master_timeout_ms(&self) -> u64 {
        let span = self
            .config
            .agent_ping_timeout
            .saturating_mul(self.config.max_agent_ping_timeouts.max(1));
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
    }

    fn admit(&mut self, agent_id: &AgentId, info: AgentInfo, stream: StreamId, now: Moment) {
        let agent = Agent {
            total: formats::internal(&info.resources),
            info: AgentInfo {
                id: Some(agent_id.clone()),
                ..info
            },
            stream: Some(stream),
            used: Vec::new(),
            offered: Vec::new(),
            executors: BTreeMap::new(),
            pending_kills: BTreeSet::new(),
            ping: Ping {
                sequence: 0,
                answered: true,
                missed: 0,
                next: now + self.config.agent_ping_timeout,
            },
        };
        self.agents.insert(agent_id.clone(), agent);
    }

    /// A registered agent has a new stream: it restarted, or its connection broke.
    fn replace_stream(
        &mut self,
        agent_id: &AgentId,
        info: AgentInfo,
        stream: StreamId,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        // Offers were made of what the agent was before.
        for offer_id in self.offers_where(|offer| &offer.offer.agent_id == agent_id) {
            self.rescind(&offer_id, out);
        }
        let next = now + self.config.agent_ping_timeout;
        let Some(agent) = self.agents.get_mut(agent_id) else {
            return;
        };
        agent.total = formats::internal(&info.resources);
        agent.info = AgentInfo {
            id: Some(agent_id.clone()),
            ..info
        };
        agent.ping = Ping {
            sequence: agent.ping.sequence,
            answered: true,
            missed: 0,
            next,
        };
        if let Some(old) = agent.stream.replace(stream) {
            out.push(Output::CloseAgent { stream: old });
        }
    }

    /// Compares what an agent runs with what the master believes that it runs.
    fn take_stock(
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

    fn has_work(&self, agent_id: &AgentId, framework_id: &FrameworkId) -> bool {
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
        alive: &BTreeSet<(FrameworkId, meson_mesos::types::ExecutorId)>,
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

    pub(super) fn agent_stream_gone(
        &mut self,
        stream: &StreamId,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Some((agent_id, agent)) = self
            .agents
            .iter_mut()
            .find(|(_, agent)| agent.stream.as_ref() == Some(stream))
        else {
            return;
        };
        agent.stream = None;
        let (agent_id, hostname) = (agent_id.clone(), agent.info.hostname.clone());
        for offer_id in self.offers_where(|offer| offer.offer.agent_id == agent_id) {
            self.rescind(&offer_id, out);
        }
        // Without checkpointing nothing outlives the agent's connection.
        let fragile: BTreeSet<_> = self
            .frameworks
            .iter()
            .filter(|(_, framework)| !framework.info.checkpoint.unwrap_or(false))
            .map(|(id, _)| id.clone())
            .collect();
        let message = format!("Agent {hostname} disconnected");
        for (framework_id, task_id) in self.tasks_on(&agent_id) {
            if fragile.contains(&framework_id) {
                self.lose(
                    &framework_id,
                    &task_id,
                    &agent_id,
                    StatusReason::AgentDisconnected,
                    &message,
                    now,
                    out,
                );
            }
        }
        let executors: Vec<_> = self
            .agents
            .get(&agent_id)
            .map(|agent| agent.executors.keys().cloned().collect())
            .unwrap_or_default();
        for (framework_id, executor_id) in executors {
            if fragile.contains(&framework_id) {
                self.remove_executor(&framework_id, &agent_id, &executor_id);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a status has all of these")]
    fn lose(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        agent_id: &AgentId,
        reason: StatusReason,
        message: &str,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Some(task) = self.remove_task(framework_id, task_id) else {
            return;
        };
        if !task.state.is_terminal() {
            let status = master_status(
                task_id,
                TaskState::Lost,
                reason,
                message,
                Some(agent_id),
                now,
            );
            self.tell_status(framework_id, status, out);
        }
    }

    pub(super) fn pong(&mut self, agent_id: &AgentId, sequence: u64) {
        if let Some(agent) = self.agents.get_mut(agent_id)
            && agent.ping.sequence == sequence
        {
            agent.ping.answered = true;
            agent.ping.missed = 0;
        }
    }

    pub(super) fn ping_agents(&mut self, now: Moment, out: &mut Vec<Output>) {
        let (interval, limit) = (
            self.config.agent_ping_timeout,
            self.config.max_agent_ping_timeouts.max(1),
        );
        let mut lost = Vec::new();
        for (agent_id, agent) in &mut self.agents {
            let ping = &mut agent.ping;
            if ping.next > now {
                continue;
            }
            ping.missed = if ping.answered { 0 } else { ping.missed + 1 };
            if ping.missed >= limit {
                lost.push(agent_id.clone());
                continue;
            }
            ping.sequence += 1;
            ping.answered = false;
            ping.next = now + interval;
            if let Some(stream) = agent.stream.clone() {
                let message = Box::new(ToAgent::Ping {
                    sequence: ping.sequence,
                });
                out.push(Output::ToAgent { stream, message });
            }
        }
        for agent_id in lost {
            self.mark_unreachable(&agent_id, now, out);
        }
    }

    fn mark_unreachable(&mut self, agent_id: &AgentId, now: Moment, out: &mut Vec<Output>) {
        self.unreachable.insert(agent_id.clone(), now);
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
        self.gone.insert(agent_id.clone(), now);
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
                    let event = Event::Update(meson_mesos::scheduler::Update { status });
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
    fn remove_agent(
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
                continue;
            }
            let status = departure.status(framework, &task_id, agent_id, &hostname, now);
            if matches!(departure, Departure::Unreachable) {
                framework
                    .unreachable_tasks
                    .insert(task_id, agent_id.clone());
            }
            self.tell_status(&framework_id, status, out);
        }
        for offer_id in self.offers_where(|offer| &offer.offer.agent_id == agent_id) {
            self.rescind(&offer_id, out);
        }
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
            self.unreachable.insert(agent_id, now);
        }
        out.push(Output::SaveRegistry);
    }
}

/// Why an agent is taken out of the books.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Departure {
    Unreachable,
    Unregistered,
    Gone,
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
