//! Agents that an operator takes out of service: DEACTIVATE_AGENT stops their offers,
//! DRAIN_AGENT kills their tasks as well, REACTIVATE_AGENT brings them back.
//!
//! It survives what happens to the agent meanwhile: one that restarts is told again.

use super::input::{Moment, Output, Reply};
use super::state::Master;
use crate::link::ToAgent;
use meson_mesos::types::{AgentId, DurationInfo, TimeInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// Why an agent is out of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deactivation {
    /// Its tasks are killed, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// How an agent is drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// Tasks may take so long to end, unless they ask for less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_grace_period: Option<DurationInfo>,
    /// Mark the agent gone once nothing runs there.
    #[serde(default)]
    pub mark_gone: bool,
    /// Since when.
    #[serde(default)]
    pub since: Moment,
}

impl Master {
    fn is_known(&self, agent_id: &AgentId) -> bool {
        self.agents.contains_key(agent_id)
            || self.unreachable.contains_key(agent_id)
            || self.recovered.contains_key(agent_id)
    }

    pub(super) fn deactivate_agent(
        &mut self,
        agent_id: &AgentId,
        drain: Option<Drain>,
        out: &mut Vec<Output>,
    ) -> Reply {
        if !self.is_known(agent_id) {
            return Reply::BadRequest(format!("Agent {agent_id} is unknown"));
        }
        let deactivation = self.deactivated.entry(agent_id.clone()).or_default();
        // A mere deactivation does not stop a drain.
        deactivation.drain = drain.or(deactivation.drain);
        out.push(Output::SaveRegistry);
        for offer_id in self.offers_where(|offer| offer.offer.agent_id == *agent_id) {
            self.rescind(&offer_id, out);
        }
        self.rescind_inverse_offers(agent_id, out);
        if let Some(drain) = drain {
            self.tell_drain(agent_id, drain, out);
        }
        Reply::Ok
    }

    pub(super) fn reactivate_agent(&mut self, agent_id: &AgentId, out: &mut Vec<Output>) -> Reply {
        if self.deactivated.remove(agent_id).is_none() {
            return Reply::BadRequest(format!("Agent {agent_id} is not deactivated"));
        }
        out.push(Output::SaveRegistry);
        Reply::Ok
    }

    fn tell_drain(&self, agent_id: &AgentId, drain: Drain, out: &mut Vec<Output>) {
        let max_grace_period = drain.max_grace_period;
        self.tell_agent(agent_id, ToAgent::Drain { max_grace_period }, out);
    }

    /// An agent that is being drained is back, and may have forgotten.
    pub(super) fn go_on_draining(&self, agent_id: &AgentId, out: &mut Vec<Output>) {
        let drain = self.deactivated.get(agent_id).and_then(|d| d.drain);
        if let Some(drain) = drain {
            self.tell_drain(agent_id, drain, out);
        }
    }

    /// Whether nothing is left on an agent that is being drained.
    fn is_drained(&self, agent_id: &AgentId) -> bool {
        self.agents.contains_key(agent_id) && self.tasks_on(agent_id).is_empty()
    }

    /// Marks agents gone that were to be once they are drained.
    pub(super) fn finish_drains(&mut self, now: Moment, out: &mut Vec<Output>) {
        let finished: Vec<AgentId> = self
            .deactivated
            .iter()
            .filter(|(_, deactivation)| deactivation.drain.is_some_and(|drain| drain.mark_gone))
            .map(|(agent_id, _)| agent_id)
            .filter(|agent_id| self.is_drained(agent_id))
            .cloned()
            .collect();
        for agent_id in finished {
            self.mark_gone(&agent_id, now, out);
        }
    }

    /// What GET_AGENTS says of a drain.
    pub(super) fn drain_info(&self, agent_id: &AgentId) -> Option<(Json, TimeInfo)> {
        let drain = self.deactivated.get(agent_id)?.drain?;
        let state = if self.is_drained(agent_id) {
            "DRAINED"
        } else {
            "DRAINING"
        };
        let mut config = json!({ "mark_gone": drain.mark_gone });
        if let Some(grace) = drain.max_grace_period {
            config["max_grace_period"] = json!(grace);
        }
        let nanoseconds = drain.since.as_nanoseconds();
        Some((
            json!({ "state": state, "config": config }),
            TimeInfo { nanoseconds },
        ))
    }
}
