//! Agents register, are pinged, are lost, come back, and leave.

use super::formats;
use super::input::{Moment, Output, StreamId};
use super::operations;
use super::state::{Agent, Master, Ping, master_status};
use crate::link::{Hello, ToAgent};
use meson_mesos::types::{AgentId, AgentInfo, FrameworkId, StatusReason, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};

/// What a master knew of an agent that says hello with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquaintance {
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
        if self.maintenance.is_down(&hello.agent) {
            return refuse_agent(stream, "Machine is 'DOWN'", out);
        }
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
            return refuse_agent(stream, "Agent has been marked gone", out);
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
            if let Some(agent) = self.agents.get_mut(&agent_id) {
                agent.reregistered = Some(now);
            }
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
        self.go_on_draining(&agent_id, out);
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
            conversions: Vec::new(),
            registered: now,
            reregistered: None,
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
        self.rescind_inverse_offers(agent_id, out);
        let next = now + self.config.agent_ping_timeout;
        let Some(agent) = self.agents.get_mut(agent_id) else {
            return;
        };
        agent.total = formats::internal(&info.resources);
        agent.reregistered = Some(now);
        for conversion in &agent.conversions {
            operations::apply(&mut agent.total, conversion);
        }
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
        self.rescind_inverse_offers(&agent_id, out);
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
}

/// The last word to an agent that may not register.
fn refuse_agent(stream: StreamId, message: &str, out: &mut Vec<Output>) {
    let message = message.to_owned();
    out.push(Output::ToAgent {
        stream: stream.clone(),
        message: Box::new(ToAgent::Refused { message }),
    });
    out.push(Output::CloseAgent { stream });
}
