//! Maintenance: machines that will be down, what schedulers are told of it in offers and
//! inverse offers, and machines that are down (`docs/maintenance.md`).
//!
//! A schedule rescinds the offers of its machines, which are offered again with their
//! `unavailability`; whoever has something on a machine is asked for it by inverse offers,
//! at every run until it has answered, and again when its filter is over.

use super::allocator::{agent_url, refuse_span};
use super::departure::Departure;
use super::input::{Moment, Output, Reply};
use super::state::Master;
use crate::link::ToAgent;
use meson_mesos::scheduler::{Event, InverseOfferAnswer, InverseOffers, RescindInverseOffer};
use meson_mesos::types::{
    AgentId, AgentInfo, FrameworkId, InverseOffer, OfferId, TimeInfo, Unavailability,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// A machine, as an operator names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MachineId {
    /// As its agents say; upper case and lower case are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

impl MachineId {
    /// Whether an agent is on it. An agent's address is not known here but as its host's
    /// name, so an address counts only where no name is given.
    fn has(&self, agent: &AgentInfo) -> bool {
        match (&self.hostname, &self.ip) {
            (Some(name), _) => name.eq_ignore_ascii_case(&agent.hostname),
            (None, Some(ip)) => *ip == agent.hostname,
            (None, None) => false,
        }
    }
}

/// Machines that will be down together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The machines.
    #[serde(default)]
    pub machine_ids: Vec<MachineId>,
    /// When.
    pub unavailability: Unavailability,
}

/// All that is planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The windows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
}

/// An inverse offer that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct AskedBack {
    pub(super) framework_id: FrameworkId,
    pub(super) agent_id: AgentId,
}

/// What a framework said about leaving a machine.
#[derive(Clone, Debug)]
pub(super) struct Consent {
    accepted: bool,
    at: Moment,
}

/// What the master knows of maintenance.
#[derive(Clone, Debug, Default)]
pub(super) struct Maintenance {
    pub(super) schedule: Schedule,
    pub(super) down: BTreeSet<MachineId>,
    asked: BTreeMap<OfferId, AskedBack>,
    consents: BTreeMap<MachineId, BTreeMap<FrameworkId, Consent>>,
    /// Until when a framework is not asked again about an agent.
    filters: BTreeMap<(FrameworkId, AgentId), Moment>,
}

impl Maintenance {
    /// What an earlier master knew.
    pub(super) fn remembered(schedule: Schedule, down: BTreeSet<MachineId>) -> Self {
        Self {
            schedule,
            down,
            ..Self::default()
        }
    }

    /// The machine of an agent, if something is planned for it.
    fn machine_of(&self, agent: &AgentInfo) -> Option<(&MachineId, Unavailability)> {
        self.schedule.windows.iter().find_map(|window| {
            let machine = window
                .machine_ids
                .iter()
                .find(|machine| machine.has(agent))?;
            Some((machine, window.unavailability))
        })
    }

    /// When an agent will not be there.
    pub(super) fn unavailability(&self, agent: &AgentInfo) -> Option<Unavailability> {
        self.machine_of(agent)
            .map(|(_, unavailability)| unavailability)
    }

    /// Whether an agent's machine is down: it may not register.
    pub(super) fn is_down(&self, agent: &AgentInfo) -> bool {
        self.down.iter().any(|machine| machine.has(agent))
    }

    fn machines(&self) -> impl Iterator<Item = &MachineId> {
        self.schedule
            .windows
            .iter()
            .flat_map(|window| &window.machine_ids)
    }

    /// Which machines drain, and what was said about it; which are down.
    pub(super) fn status(&self) -> Json {
        let draining: Vec<Json> = self
            .machines()
            .filter(|machine| !self.down.contains(machine))
            .map(|machine| {
                let mut entry = json!({ "id": machine });
                if let Some(consents) = self.consents.get(machine) {
                    let statuses: Vec<Json> = consents.iter().map(consent_json).collect();
                    entry["statuses"] = json!(statuses);
                }
                entry
            })
            .collect();
        let mut status = json!({});
        if !draining.is_empty() {
            status["draining_machines"] = json!(draining);
        }
        if !self.down.is_empty() {
            status["down_machines"] = json!(self.down);
        }
        status
    }

    /// Inverse offers that wait for an answer.
    #[cfg(test)]
    pub(super) fn asked_back(&self) -> &BTreeMap<OfferId, AskedBack> {
        &self.asked
    }

    /// How much is kept; for tests of its bounds.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.asked.len()
            + self.filters.len()
            + self.consents.values().map(BTreeMap::len).sum::<usize>()
    }
}

fn consent_json((framework_id, consent): (&FrameworkId, &Consent)) -> Json {
    let nanoseconds = consent.at.as_nanoseconds();
    json!({
        "framework_id": framework_id,
        "status": if consent.accepted { "ACCEPT" } else { "DECLINE" },
        "timestamp": TimeInfo { nanoseconds },
    })
}

/// Whether a schedule makes sense.
fn check(schedule: &Schedule, down: &BTreeSet<MachineId>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for window in &schedule.windows {
        if window.machine_ids.is_empty() {
            return Err("List of machines in the maintenance window is empty".to_owned());
        }
        for machine in &window.machine_ids {
            check_machine(machine)?;
            if !seen.insert(machine) {
                let machine = json!(machine);
                return Err(format!(
                    "Machine '{machine}' appears more than once in the schedule"
                ));
            }
        }
    }
    match down.iter().find(|machine| !seen.contains(machine)) {
        Some(machine) => Err(format!(
            "Machine '{}' is deactivated and cannot be removed from the schedule",
            json!(machine)
        )),
        None => Ok(()),
    }
}

fn check_machine(machine: &MachineId) -> Result<(), String> {
    let is_empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if is_empty(&machine.hostname) && is_empty(&machine.ip) {
        return Err("Both 'hostname' and 'ip' for a machine are empty".to_owned());
    }
    Ok(())
}

impl Master {
    pub(super) fn plan_maintenance(
        &mut self,
        schedule: Schedule,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Reply {
        if let Err(why) = check(&schedule, &self.maintenance.down) {
            return Reply::BadRequest(why);
        }
        let before = std::mem::replace(&mut self.maintenance.schedule, schedule);
        let machines: BTreeSet<MachineId> = self.maintenance.machines().cloned().collect();
        self.maintenance
            .consents
            .retain(|machine, _| machines.contains(machine));
        out.push(Output::SaveRegistry);
        let old = Maintenance::remembered(before, BTreeSet::new());
        let changed: Vec<AgentId> = self
            .agents
            .iter()
            .filter(|(_, agent)| {
                old.unavailability(&agent.info) != self.maintenance.unavailability(&agent.info)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for agent_id in changed {
            self.maintenance
                .filters
                .retain(|(_, about), _| *about != agent_id);
            for offer_id in self.offers_where(|offer| offer.offer.agent_id == agent_id) {
                self.rescind(&offer_id, out);
            }
            self.rescind_inverse_offers(&agent_id, out);
            self.allocate(Some(&agent_id), now, out);
        }
        Reply::Ok
    }

    pub(super) fn machines_down(
        &mut self,
        machines: Vec<MachineId>,
        now: Moment,
        out: &mut Vec<Output>,
    ) -> Reply {
        for machine in &machines {
            if let Err(why) = check_machine(machine) {
                return Reply::BadRequest(why);
            }
            let planned = self.maintenance.machines().any(|known| known == machine);
            if !planned || self.maintenance.down.contains(machine) {
                return Reply::BadRequest(format!(
                    "Machine '{}' is not in DRAINING mode and cannot be brought down",
                    json!(machine)
                ));
            }
        }
        self.maintenance.down.extend(machines);
        let lost: Vec<AgentId> = self
            .agents
            .iter()
            .filter(|(_, agent)| self.maintenance.is_down(&agent.info))
            .map(|(id, _)| id.clone())
            .collect();
        out.push(Output::SaveRegistry);
        for agent_id in lost {
            let message = "Operator initiated 'Machine DOWN'".to_owned();
            self.tell_agent(&agent_id, ToAgent::Refused { message }, out);
            self.remove_agent(&agent_id, &Departure::MachineDown, now, out);
        }
        Reply::Ok
    }

    pub(super) fn machines_up(&mut self, machines: &[MachineId], out: &mut Vec<Output>) -> Reply {
        if let Some(machine) = machines
            .iter()
            .find(|machine| !self.maintenance.down.contains(machine))
        {
            return Reply::BadRequest(format!(
                "Machine '{}' is not in DOWN mode and cannot be brought up",
                json!(machine)
            ));
        }
        let windows = &mut self.maintenance.schedule.windows;
        for window in windows.iter_mut() {
            window.machine_ids.retain(|known| !machines.contains(known));
        }
        windows.retain(|window| !window.machine_ids.is_empty());
        for machine in machines {
            self.maintenance.down.remove(machine);
            self.maintenance.consents.remove(machine);
        }
        out.push(Output::SaveRegistry);
        Reply::Ok
    }

    /// Asks those who have something on machines that will be down.
    pub(super) fn ask_back(&mut self, agents: &[AgentId], now: Moment, out: &mut Vec<Output>) {
        if self.maintenance.schedule.windows.is_empty() {
            return;
        }
        self.maintenance.filters.retain(|_, until| *until > now);
        let mut made: BTreeMap<FrameworkId, Vec<InverseOffer>> = BTreeMap::new();
        for agent_id in agents {
            let Some(agent) = self.agents.get(agent_id).filter(|a| a.stream.is_some()) else {
                continue;
            };
            let Some(unavailability) = self.maintenance.unavailability(&agent.info) else {
                continue;
            };
            let url = agent_url(&agent.info);
            for framework_id in self.tenants(agent_id) {
                let known =
                    self.maintenance.asked.values().any(|asked| {
                        asked.framework_id == framework_id && asked.agent_id == *agent_id
                    });
                let key = (framework_id.clone(), agent_id.clone());
                if known || self.maintenance.filters.contains_key(&key) {
                    continue;
                }
                let id = self.new_offer_id();
                self.maintenance.asked.insert(
                    id.clone(),
                    AskedBack {
                        framework_id: framework_id.clone(),
                        agent_id: agent_id.clone(),
                    },
                );
                made.entry(framework_id.clone())
                    .or_default()
                    .push(InverseOffer {
                        id,
                        url: Some(url.clone()),
                        framework_id,
                        agent_id: Some(agent_id.clone()),
                        unavailability,
                        resources: Vec::new(),
                    });
            }
        }
        for (framework_id, inverse_offers) in made {
            let event = Event::InverseOffers(InverseOffers { inverse_offers });
            self.tell(&framework_id, event, out);
        }
    }

    /// The frameworks that are there to be asked and have something on an agent.
    fn tenants(&self, agent_id: &AgentId) -> Vec<FrameworkId> {
        let offered: BTreeSet<&FrameworkId> = self
            .offers
            .values()
            .filter(|offer| offer.offer.agent_id == *agent_id)
            .map(|offer| &offer.offer.framework_id)
            .collect();
        self.frameworks
            .iter()
            .filter(|(id, framework)| {
                framework.stream().is_some()
                    && (offered.contains(id) || self.has_work(agent_id, id))
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub(super) fn answer_inverse_offers(
        &mut self,
        framework_id: &FrameworkId,
        answer: &InverseOfferAnswer,
        accepted: bool,
        now: Moment,
    ) {
        for id in &answer.inverse_offer_ids {
            let is_own = self
                .maintenance
                .asked
                .get(id)
                .is_some_and(|asked| asked.framework_id == *framework_id);
            if !is_own {
                continue;
            }
            let Some(AskedBack { agent_id, .. }) = self.maintenance.asked.remove(id) else {
                continue;
            };
            let span = refuse_span(answer.filters.as_ref(), self.config.allocation_interval);
            if let Some(span) = span {
                let key = (framework_id.clone(), agent_id.clone());
                self.maintenance.filters.insert(key, now + span);
            }
            let machine = self
                .agents
                .get(&agent_id)
                .and_then(|agent| self.maintenance.machine_of(&agent.info))
                .map(|(machine, _)| machine.clone());
            if let Some(machine) = machine {
                let consent = Consent { accepted, at: now };
                let of_machine = self.maintenance.consents.entry(machine).or_default();
                of_machine.insert(framework_id.clone(), consent);
            }
        }
    }

    /// Inverse offers about an agent are void.
    pub(super) fn rescind_inverse_offers(&mut self, agent_id: &AgentId, out: &mut Vec<Output>) {
        let (void, kept) = std::mem::take(&mut self.maintenance.asked)
            .into_iter()
            .partition(|(_, asked)| asked.agent_id == *agent_id);
        self.maintenance.asked = kept;
        let void: BTreeMap<OfferId, AskedBack> = void;
        for (inverse_offer_id, asked) in void {
            let event = Event::RescindInverseOffer(RescindInverseOffer { inverse_offer_id });
            self.tell(&asked.framework_id, event, out);
        }
    }

    /// A scheduler is gone, and what it was asked with it.
    pub(super) fn forget_inverse_offers(&mut self, framework_id: &FrameworkId) {
        let maintenance = &mut self.maintenance;
        maintenance
            .asked
            .retain(|_, asked| asked.framework_id != *framework_id);
        maintenance
            .filters
            .retain(|(about, _), _| about != framework_id);
    }

    /// A framework is removed, and what it said with it.
    pub(super) fn forget_consents(&mut self, framework_id: &FrameworkId) {
        for of_machine in self.maintenance.consents.values_mut() {
            of_machine.remove(framework_id);
        }
    }
}
