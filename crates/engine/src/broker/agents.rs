//! What agents offer, and what our tasks hold there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meson_core::ids::TaskId;
use meson_core::matching::{self, Outage};
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::{Bytes, Duration, Timestamp};
use meson_mesos::resources::{is_plain, to_fixed};
use meson_mesos::types::{
    Attribute, ExecutorId, ExecutorInfo, Offer, OfferId, Resource, Unavailability,
};
use rand::rngs::StdRng;
use serde_json::Value;

use super::ports;

/// An agent as far as its offers tell.
#[derive(Debug)]
pub(super) struct Agent {
    about: Arc<matching::Agent>,
    /// Offers in hand; an ACCEPT takes all of them together.
    offers: Vec<Offer>,
    /// Since when the oldest of them is in hand.
    pub(super) offered_at: Timestamp,
    executors: BTreeSet<ExecutorId>,
    /// The executor that was started there last, where its share had to come out of what is
    /// reserved for us: it is another one than elsewhere.
    special: Option<Box<ExecutorInfo>>,
    /// What our tasks hold there.
    held: Resources,
    /// What it had when it last offered something: that, and what our tasks held there.
    total: Resources,
    outage: Option<Outage>,
    /// When it last offered something.
    seen_at: Timestamp,
    /// It has offered something in this session, or runs something of ours.
    here: bool,
    /// The resource manager has lost sight of it, and nothing was heard of it since.
    lost_at: Option<Timestamp>,
    /// What we may have refused since offers were last asked for: the most of each resource that was
    /// given back. The resource manager does not offer it again by itself, unless it has more.
    refused: Room,
    /// What our tasks have given back since it last offered something. It is offered soon.
    freed: Resources,
    /// Placed on the offers in hand.
    pub(super) placed: BTreeMap<TaskId, Place>,
    /// Tasks that were launched there and do not run yet.
    pub(super) starting: usize,
    /// The port that was handed out last.
    last_port: Option<u16>,
}

/// A place on the offers in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// It is on record.
    pub(super) confirmed: bool,
    /// The ports that the task gets.
    pub(super) ports: Vec<u16>,
}

/// What may be kept for as long as it is used, and what may be taken away again.
#[derive(Debug, Clone, Copy)]
struct Room {
    firm: Resources,
    revocable: Resources,
}

impl Room {
    const NOTHING: Self = Self {
        firm: Resources::ZERO,
        revocable: Resources::ZERO,
    };

    fn with(self, firm: &Resources) -> Self {
        Self {
            firm: self.firm.plus(firm),
            ..self
        }
    }

    fn of<'a>(resources: impl IntoIterator<Item = &'a Resource> + Clone) -> Self {
        let sum = |revocable: bool| {
            let all = resources.clone().into_iter();
            amounts(all.filter(move |resource| resource.revocable.is_some() == revocable))
        };
        Self {
            firm: Resources {
                ports: ports::count(resources.clone()),
                ..sum(false)
            },
            revocable: sum(true),
        }
    }
}

/// An agent that holds nothing of ours and has offered nothing for so long is forgotten with the
/// session that knew it.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// All agents that we heard of in this session, and what is remembered of those of the one before.
#[derive(Debug, Default)]
pub(super) struct Agents(pub(super) BTreeMap<String, Agent>);

impl Agents {
    pub(super) fn offered(&mut self, offer: Offer, now: Timestamp) {
        let agent = self
            .0
            .entry(offer.agent_id.as_str().to_owned())
            .or_insert_with_key(|id| Agent::unknown(id));
        if agent.offers.is_empty() {
            agent.offered_at = now;
        }
        agent.seen_at = now;
        agent.here = true;
        agent.freed = Resources::ZERO;
        agent.describe(&offer);
        agent.offers.push(offer);
        // What is placed is both offered and held.
        if agent.placed.is_empty() {
            agent.total = agent.offered().firm.plus(&agent.held);
        }
    }

    /// The offer is void. Returns the tasks that had a place on it; none if it is not known.
    pub(super) fn rescinded(&mut self, offer: &OfferId) -> Option<Vec<(TaskId, bool)>> {
        self.0.values_mut().find_map(|agent| {
            let index = agent.offers.iter().position(|have| &have.id == offer)?;
            agent.offers.remove(index);
            Some(agent.displace().collect())
        })
    }

    /// The session is over: no offer is worth anything. Returns the tasks that had a place.
    pub(super) fn clear_offers(&mut self) -> Vec<(TaskId, bool)> {
        let mut displaced = Vec::new();
        for agent in self.0.values_mut() {
            agent.offers.clear();
            displaced.extend(agent.displace());
        }
        displaced
    }

    pub(super) fn hold(&mut self, agent: &str, resources: &Resources) {
        let agent = self
            .0
            .entry(agent.to_owned())
            .or_insert_with_key(|id| Agent::unknown(id));
        agent.held = agent.held.plus(resources);
        agent.here = true;
    }

    /// A task of ours is there that we did not know of: the agent has that much more than it seemed.
    pub(super) fn found(&mut self, agent: &str, resources: &Resources) {
        self.hold(agent, resources);
        if let Some(agent) = self.0.get_mut(agent) {
            agent.total = agent.total.plus(resources);
        }
    }

    /// Whether it has offered something since it was last forgotten. Until then nothing is known of
    /// it but what our tasks hold there.
    pub(super) fn has_offered(&self, agent: &str) -> bool {
        self.0.get(agent).is_some_and(Agent::has_offered)
    }

    /// Whether a placement there was confirmed.
    pub(super) fn is_confirmed(&self, agent: Option<&str>, task: &TaskId) -> bool {
        let agent = agent.and_then(|agent| self.0.get(agent));
        let place = agent.and_then(|agent| agent.placed.get(task));
        place.is_some_and(|place| place.confirmed)
    }

    /// The task holds nothing there any more, no offer either.
    pub(super) fn release(&mut self, agent: &str, task: &TaskId, resources: &Resources) {
        if let Some(agent) = self.0.get_mut(agent) {
            agent.placed.remove(task);
            agent.held = agent.held.minus(resources);
            agent.freed = agent.freed.plus(resources);
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self, agent: &str) -> Resources {
        self.0
            .get(agent)
            .map_or(Resources::ZERO, |agent| agent.held)
    }

    /// A new session: who is there, offers tell, and nothing is refused any more. What the agents
    /// have in all is remembered, because one that our own tasks fill offers nothing until they end:
    /// shares are of the whole, and room is set aside there as well.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.0.retain(|_, agent| {
            let holds = !agent.held.is_nothing();
            agent.begin();
            holds || now.since(agent.seen_at) < FORGET_AFTER
        });
    }

    /// Offers were asked for: what was refused is offered again.
    pub(super) fn revived(&mut self) {
        for agent in self.0.values_mut() {
            agent.refused = Room::NOTHING;
            agent.freed = Resources::ZERO;
        }
    }

    /// So many ports for each of the tasks that go to these agents; fewer if one has no more.
    pub(super) fn ports<'a>(
        &mut self,
        agents: impl Iterator<Item = &'a str>,
        wanted: u32,
        chance: &mut StdRng,
    ) -> Vec<Vec<u16>> {
        if wanted == 0 {
            return agents.map(|_| Vec::new()).collect();
        }
        let mut chosen: Vec<(&str, Vec<u16>)> = Vec::new();
        for id in agents {
            let of_others = chosen.iter().filter(|(other, _)| *other == id);
            let of_others = of_others.flat_map(|(_, ports)| ports).copied().collect();
            let agent = self.0.get_mut(id);
            let ports = agent.map(|agent| agent.choose_ports(of_others, wanted, chance));
            chosen.push((id, ports.unwrap_or_default()));
        }
        chosen.into_iter().map(|(_, ports)| ports).collect()
    }

    pub(super) fn launched(&mut self, agent: &str) {
        if let Some(agent) = self.0.get_mut(agent) {
            agent.starting += 1;
        }
    }

    pub(super) fn started(&mut self, agent: &str) {
        if let Some(agent) = self.0.get_mut(agent) {
            agent.starting = agent.starting.saturating_sub(1);
        }
    }

    pub(super) fn hostname(&self, agent: &str) -> Option<&str> {
        self.0.get(agent).map(|agent| agent.about.hostname())
    }

    pub(super) fn executor_gone(&mut self, agent: &str, executor: &ExecutorId) {
        if let Some(agent) = self.0.get_mut(agent) {
            agent.executors.remove(executor);
        }
    }

    /// The resource manager has lost sight of it. Nothing is placed there, and no room is set aside,
    /// until something is heard of it. False: that was known, or the agent is not.
    pub(super) fn lost(&mut self, agent: &str, now: Timestamp) -> bool {
        let Some(agent) = self.0.get_mut(agent) else {
            return false;
        };
        agent.refused = Room::NOTHING;
        agent.freed = Resources::ZERO;
        agent.lost_at.replace(now).is_none()
    }

    /// Forgets agents that were lost long ago and have nothing of ours. Where machines come and go, a
    /// session that lasts for months would otherwise know all that ever were.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let long = |at| now.since(at) >= FORGET_AFTER;
        self.0.retain(|_, agent| {
            let forgotten = agent.lost_at.is_some_and(long) && agent.is_unused();
            !forgotten || agent.has_offers()
        });
    }

    /// Something was heard of it. False: it was not lost.
    pub(super) fn heard_of(&mut self, agent: &str) -> bool {
        let agent = self.0.get_mut(agent);
        agent.is_some_and(|agent| agent.lost_at.take().is_some())
    }

    /// Agents out of sight that matter: something of ours may still run there, or they were lost of
    /// late.
    pub(super) fn out_of_sight(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |(id, agent)| {
            let late = now.since(agent.lost_at?) < FORGET_AFTER;
            (late || !agent.is_unused()).then_some(id.as_str())
        })
    }

    /// Agents that are there, as far as this session tells.
    pub(super) fn known(&self) -> impl Iterator<Item = &str> {
        let here = self.0.iter().filter(|(_, agent)| agent.is_here());
        here.map(|(id, _)| id.as_str())
    }

    /// The same, and those that were lost since.
    pub(super) fn of_this_session(&self) -> impl Iterator<Item = &str> {
        let all = self.0.iter().filter(|(_, agent)| agent.here);
        all.map(|(id, _)| id.as_str())
    }

    /// Whether any of them has offered something and is there.
    pub(super) fn have_offered(&self) -> bool {
        let mut agents = self.0.values();
        agents.any(|agent| agent.is_here() && agent.has_offered())
    }

    /// All agents that have offered something and are in sight, as the matching sees them. An agent without the executor must have room for
    /// it as well. Agents that wait for confirmations offer nothing: an offer can be accepted only
    /// once; nor do those that `may` not be used.
    pub(super) fn open(
        &self,
        executor: &ExecutorId,
        overhead: &Resources,
        mut may: impl FnMut(&str, &Agent) -> bool,
    ) -> Vec<matching::Offer> {
        self.0
            .iter()
            .filter(|(_, agent)| agent.has_offered() && agent.lost_at.is_none())
            .map(|(id, agent)| {
                let open = agent.is_idle() && may(id, agent);
                let room = if open { agent.offered() } else { Room::NOTHING };
                agent.as_offer(executor, overhead, open, room)
            })
            .collect()
    }

    /// All agents as they would be offered if offers were asked for now, as far as we can tell: with
    /// what is in hand, what was refused and what our tasks have given back.
    pub(super) fn revivable(
        &self,
        executor: &ExecutorId,
        overhead: &Resources,
        mut may: impl FnMut(&str, &Agent) -> bool,
    ) -> Vec<matching::Offer> {
        self.0
            .iter()
            .filter(|(_, agent)| agent.has_offered() && agent.lost_at.is_none())
            .map(|(id, agent)| {
                let open = agent.placed.is_empty() && may(id, agent);
                let room = match () {
                    () if !open => Room::NOTHING,
                    () if agent.has_offers() => agent.offered().with(&agent.freed),
                    () => agent.hidden(),
                };
                agent.as_offer(executor, overhead, open, room)
            })
            .collect()
    }
}

impl Agent {
    fn unknown(id: &str) -> Self {
        let about = matching::Agent::new(id, "", "", "", BTreeMap::new());
        Self {
            about: Arc::new(about),
            offers: Vec::new(),
            offered_at: Timestamp(0),
            executors: BTreeSet::new(),
            special: None,
            held: Resources::ZERO,
            total: Resources::ZERO,
            outage: None,
            seen_at: Timestamp(0),
            here: false,
            lost_at: None,
            refused: Room::NOTHING,
            freed: Resources::ZERO,
            placed: BTreeMap::new(),
            starting: 0,
            last_port: None,
        }
    }

    fn begin(&mut self) {
        self.offers.clear();
        self.executors.clear();
        self.placed.clear();
        self.held = Resources::ZERO;
        self.starting = 0;
        self.here = false;
        self.lost_at = None;
        self.refused = Room::NOTHING;
        self.freed = Resources::ZERO;
    }

    /// Nobody has a place on its offers any more. Returns who had one, and whether it was confirmed.
    fn displace(&mut self) -> impl Iterator<Item = (TaskId, bool)> + use<> {
        let placed = std::mem::take(&mut self.placed).into_iter();
        placed.map(|(task, place)| (task, place.confirmed))
    }

    /// Ports that are offered and that nobody gets who has a place there.
    fn choose_ports(
        &mut self,
        mut taken: BTreeSet<u16>,
        wanted: u32,
        chance: &mut StdRng,
    ) -> Vec<u16> {
        taken.extend(self.placed.values().flat_map(|place| &place.ports));
        let offered = self.offers.iter().flat_map(|offer| &offer.resources);
        ports::choose(offered, &taken, wanted, &mut self.last_port, chance)
    }

    /// What is probably free there although nothing of it is offered.
    fn hidden(&self) -> Room {
        let firm = self.refused.firm.plus(&self.freed);
        let most = self.total.minus(&self.held);
        Room {
            // The smaller of the two; what was refused long ago may be in use since.
            firm: firm.minus(&firm.minus(&most)),
            revocable: self.refused.revocable,
        }
    }

    /// What is left of its offers was given back.
    pub(super) fn refuse(&mut self, resources: &[Resource], used: &Resources) {
        let rest = Room::of(resources);
        self.refused = Room {
            firm: self.refused.firm.max(&rest.firm.minus(used)),
            revocable: self.refused.revocable.max(&rest.revocable),
        };
    }

    fn describe(&mut self, offer: &Offer) {
        let fault_domain = offer
            .domain
            .as_ref()
            .and_then(|domain| domain.fault_domain.as_ref());
        let region = fault_domain.map(|domain| domain.region.name.clone());
        let zone = fault_domain.map(|domain| domain.zone.name.clone());
        let mut attributes: BTreeMap<String, Value> = BTreeMap::new();
        for attribute in &offer.attributes {
            // Of several with one name the first counts, as it does in offer constraints.
            attributes
                .entry(attribute.name.clone())
                .or_insert_with(|| attribute_value(attribute));
        }
        // An agent that does not say its domain may say it by attributes.
        let or_attribute = |told: Option<String>, name: &str| match (told, attributes.get(name)) {
            (Some(told), _) if !told.is_empty() => told,
            (_, Some(Value::String(text))) => text.clone(),
            _ => String::new(),
        };
        let (region, zone) = (or_attribute(region, "region"), or_attribute(zone, "zone"));
        let id = offer.agent_id.as_str();
        let about = matching::Agent::new(id, offer.hostname.as_str(), region, zone, attributes);
        if *self.about != about {
            self.about = Arc::new(about);
        }
        self.outage = offer.unavailability.as_ref().map(outage);
        self.executors = offer.executor_ids.iter().cloned().collect();
    }

    /// What the offers in hand hold.
    fn offered(&self) -> Room {
        Room::of(self.offers.iter().flat_map(|offer| &offer.resources))
    }

    fn as_offer(
        &self,
        executor: &ExecutorId,
        overhead: &Resources,
        open: bool,
        room: Room,
    ) -> matching::Offer {
        let warm = self.is_warm(executor);
        let Room {
            firm: mut free,
            revocable,
        } = room;
        let mut total = self.total;
        if !warm {
            free = free.minus(overhead);
            total = total.minus(overhead);
        }
        matching::Offer {
            agent: Arc::clone(&self.about),
            free,
            revocable,
            held: self.held,
            total,
            offered: open,
            seen_at: self.seen_at,
            warm,
            outage: self.outage,
        }
    }

    pub(super) fn id(&self) -> &str {
        self.about.id()
    }

    fn has_offered(&self) -> bool {
        self.seen_at > Timestamp(0)
    }

    /// It is there, as far as this session tells.
    fn is_here(&self) -> bool {
        self.here && self.lost_at.is_none()
    }

    /// Nothing of ours is there, or about to be.
    fn is_unused(&self) -> bool {
        self.held.is_nothing() && self.placed.is_empty() && self.starting == 0
    }

    pub(super) fn has_offers(&self) -> bool {
        !self.offers.is_empty()
    }

    /// It has offers in hand, and nobody has a place on them.
    pub(super) fn is_idle(&self) -> bool {
        self.has_offers() && self.placed.is_empty()
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

    fn is_warm(&self, usual: &ExecutorId) -> bool {
        let special = self.special.as_ref();
        let special = special.is_some_and(|it| self.executors.contains(&it.executor_id));
        special || self.executors.contains(usual)
    }

    /// The executor of ours that is there: the usual one, or one of its own.
    pub(super) fn running<'a>(&'a self, usual: &'a ExecutorInfo) -> Option<&'a ExecutorInfo> {
        let mut either = std::iter::once(usual).chain(self.special.as_deref());
        either.find(|info| self.executors.contains(&info.executor_id))
    }

    /// An executor of ours is about to be there.
    pub(super) fn warmed(&mut self, executor: &ExecutorInfo, usual: &ExecutorInfo) {
        self.executors.insert(executor.executor_id.clone());
        if executor.executor_id != usual.executor_id {
            self.special = Some(Box::new(executor.clone()));
        }
    }
}

/// When a machine goes down, in our own units.
fn outage(unavailability: &Unavailability) -> Outage {
    let ms = |nanoseconds: i64| u64::try_from(nanoseconds / 1_000_000).unwrap_or(0);
    let from = Timestamp(ms(unavailability.start.nanoseconds));
    Outage {
        from,
        until: unavailability
            .duration
            .map(|duration| from.after(Duration(ms(duration.nanoseconds)))),
    }
}

/// The scalars that Meson schedules, no ports, out of Mesos's list.
fn amounts<'a>(resources: impl Iterator<Item = &'a Resource>) -> Resources {
    let mut thousandths = [0u64; 4];
    for resource in resources.filter(|resource| is_plain(resource)) {
        let name = ["cpus", "mem", "disk", "gpus"];
        let Some(index) = name.iter().position(|name| *name == resource.name) else {
            continue;
        };
        if let Some(scalar) = &resource.scalar {
            let amount = u64::try_from(to_fixed(scalar.value)).unwrap_or(0);
            thousandths[index] = thousandths[index].saturating_add(amount);
        }
    }
    let [cpus, mem, disk, gpus] = thousandths;
    // Mesos counts memory and disk in mebibytes, with three decimals.
    let size = |thousandths: u64| Bytes(thousandths.saturating_mul(1 << 20) / 1000);
    Resources {
        cpus: MilliCpus(cpus),
        mem: size(mem),
        disk: size(disk),
        gpus: u32::try_from(gpus / 1000).unwrap_or(u32::MAX),
        ports: 0,
        stated: true,
    }
}

/// `spark:3.5` is the number 3.5 to Mesos, `spark:3.5.1` a text: expressions see what Mesos sees.
pub(super) fn attribute_value(attribute: &Attribute) -> Value {
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
