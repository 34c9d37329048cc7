//! What agents offer, and what our tasks hold there.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::ids::TaskId;
use meson_core::matching;
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::{Bytes, Timestamp};
use meson_mesos::resources::{scalar_total, to_fixed};
use meson_mesos::types::{Attribute, ExecutorId, Offer, OfferId, Resource};
use serde_json::Value;

/// An agent as far as its offers tell.
#[derive(Debug)]
pub(super) struct Agent {
    hostname: String,
    region: String,
    zone: String,
    attributes: BTreeMap<String, Value>,
    /// Offers in hand; an ACCEPT takes all of them together.
    offers: Vec<Offer>,
    /// Since when the oldest of them is in hand.
    pub(super) offered_at: Timestamp,
    executors: BTreeSet<ExecutorId>,
    /// What our tasks hold there.
    held: Resources,
    /// Placed on the offers in hand; true once confirmed.
    pub(super) placed: BTreeMap<TaskId, bool>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            region: String::new(),
            zone: String::new(),
            attributes: BTreeMap::new(),
            offers: Vec::new(),
            offered_at: Timestamp::default(),
            executors: BTreeSet::new(),
            // The default of resources is what a step gets that asks for nothing.
            held: Resources::ZERO,
            placed: BTreeMap::new(),
        }
    }
}

/// All agents that we ever heard of in this session.
#[derive(Debug, Default)]
pub(super) struct Agents(pub(super) BTreeMap<String, Agent>);

impl Agents {
    pub(super) fn offered(&mut self, offer: Offer, now: Timestamp) {
        let agent = self
            .0
            .entry(offer.agent_id.as_str().to_owned())
            .or_default();
        if agent.offers.is_empty() {
            agent.offered_at = now;
        }
        agent.describe(&offer);
        agent.offers.push(offer);
    }

    /// The offer is void. Returns the tasks that had a place on it.
    pub(super) fn rescinded(&mut self, offer: &OfferId) -> Vec<(TaskId, bool)> {
        for agent in self.0.values_mut() {
            if let Some(index) = agent.offers.iter().position(|have| &have.id == offer) {
                agent.offers.remove(index);
                return std::mem::take(&mut agent.placed).into_iter().collect();
            }
        }
        Vec::new()
    }

    /// The session is over: no offer is worth anything. Returns the tasks that had a place.
    pub(super) fn clear_offers(&mut self) -> Vec<(TaskId, bool)> {
        let mut displaced = Vec::new();
        for agent in self.0.values_mut() {
            agent.offers.clear();
            displaced.extend(std::mem::take(&mut agent.placed));
        }
        displaced
    }

    pub(super) fn hold(&mut self, agent: &str, resources: &Resources) {
        let agent = self.0.entry(agent.to_owned()).or_default();
        agent.held = agent.held.plus(resources);
    }

    /// Whether a placement there was confirmed.
    pub(super) fn is_confirmed(&self, agent: Option<&str>, task: &TaskId) -> bool {
        let agent = agent.and_then(|agent| self.0.get(agent));
        agent.is_some_and(|agent| agent.placed.get(task) == Some(&true))
    }

    /// The task holds nothing there any more, no offer either.
    pub(super) fn release(&mut self, agent: &str, task: &TaskId, resources: &Resources) {
        if let Some(agent) = self.0.get_mut(agent) {
            agent.placed.remove(task);
            agent.held = agent.held.minus(resources);
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self, agent: &str) -> Resources {
        self.0
            .get(agent)
            .map_or(Resources::ZERO, |agent| agent.held)
    }

    pub(super) fn executor_gone(&mut self, agent: &str, executor: &ExecutorId) {
        if let Some(agent) = self.0.get_mut(agent) {
            agent.executors.remove(executor);
        }
    }

    pub(super) fn known(&self) -> usize {
        self.0.len()
    }

    /// Agents with free offers, as the matching sees them. An agent without the executor must
    /// have room for it as well. Agents that wait for confirmations are left alone: an offer can be
    /// accepted only once.
    pub(super) fn open(&self, executor: &ExecutorId, overhead: &Resources) -> Vec<matching::Offer> {
        self.0
            .iter()
            .filter(|(_, agent)| !agent.offers.is_empty() && agent.placed.is_empty())
            .map(|(id, agent)| agent.as_offer(id, executor, overhead))
            .collect()
    }
}

impl Agent {
    fn describe(&mut self, offer: &Offer) {
        self.hostname.clone_from(&offer.hostname);
        let fault_domain = offer
            .domain
            .as_ref()
            .and_then(|domain| domain.fault_domain.as_ref());
        self.region = fault_domain
            .map(|domain| domain.region.name.clone())
            .unwrap_or_default();
        self.zone = fault_domain
            .map(|domain| domain.zone.name.clone())
            .unwrap_or_default();
        self.attributes = offer
            .attributes
            .iter()
            .map(|a| (a.name.clone(), attribute_value(a)))
            .collect();
        // An agent that does not say its domain may say it by attributes.
        for (field, name) in [(&mut self.region, "region"), (&mut self.zone, "zone")] {
            if field.is_empty()
                && let Some(Value::String(text)) = self.attributes.get(name)
            {
                field.clone_from(text);
            }
        }
        self.executors = offer.executor_ids.iter().cloned().collect();
    }

    fn as_offer(&self, id: &str, executor: &ExecutorId, overhead: &Resources) -> matching::Offer {
        let offered = self
            .offers
            .iter()
            .map(|offer| amounts(&offer.resources))
            .fold(Resources::ZERO, |a, b| a.plus(&b));
        let warm = self.is_warm(executor);
        let free = if warm {
            offered
        } else {
            offered.minus(overhead)
        };
        matching::Offer {
            agent: id.to_owned(),
            hostname: self.hostname.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            attributes: self.attributes.clone(),
            free,
            revocable: Resources::ZERO,
            total: free.plus(&self.held),
            warm,
            outage: None,
        }
    }

    pub(super) fn hostname(&self) -> &str {
        &self.hostname
    }

    pub(super) fn has_offers(&self) -> bool {
        !self.offers.is_empty()
    }

    /// Takes the offers in hand, to accept or decline them: their ids and all their resources.
    pub(super) fn take_offers(&mut self) -> (Vec<OfferId>, Vec<Resource>) {
        let mut ids = Vec::new();
        let mut resources = Vec::new();
        for offer in self.offers.drain(..) {
            ids.push(offer.id);
            resources.extend(offer.resources);
        }
        (ids, resources)
    }

    pub(super) fn is_warm(&self, executor: &ExecutorId) -> bool {
        self.executors.contains(executor)
    }

    /// An executor of ours is about to be there.
    pub(super) fn warmed(&mut self, executor: &ExecutorId) {
        self.executors.insert(executor.clone());
    }
}

/// The scalars that Meson schedules, out of Mesos's list.
fn amounts(resources: &[Resource]) -> Resources {
    let thousandths = |name| u64::try_from(to_fixed(scalar_total(resources, name))).unwrap_or(0);
    // Mesos counts memory and disk in mebibytes, with three decimals.
    let size = |name| Bytes(thousandths(name).saturating_mul(1 << 20) / 1000);
    Resources {
        cpus: MilliCpus(thousandths("cpus")),
        mem: size("mem"),
        disk: size("disk"),
        gpus: u32::try_from(thousandths("gpus") / 1000).unwrap_or(u32::MAX),
        stated: true,
    }
}

/// `spark:3.5` is the number 3.5 to Mesos, `spark:3.5.1` a text: expressions see what Mesos sees.
fn attribute_value(attribute: &Attribute) -> Value {
    if let Some(scalar) = &attribute.scalar {
        return serde_json::json!(scalar.value);
    }
    if let Some(text) = &attribute.text {
        return Value::String(text.value.clone());
    }
    let ranges = attribute.ranges.as_ref().map(|ranges| {
        ranges
            .range
            .iter()
            .map(|range| format!("{}-{}", range.begin, range.end))
            .collect::<Vec<_>>()
            .join(",")
    });
    Value::String(ranges.unwrap_or_default())
}
