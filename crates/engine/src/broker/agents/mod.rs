//! What agents offer, and what our tasks hold there.
//!
//! * [`agent`]: one of them. * [`reading`]: what offers say, in our own words.

mod agent;
mod reading;

use std::collections::BTreeMap;

use meson_core::ids::TaskId;
use meson_core::matching;
use meson_core::resources::Resources;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::types::{ExecutorId, Offer, OfferId};
use rand::rngs::StdRng;

pub(super) use self::agent::{Agent, Place};
use self::reading::Room;
#[cfg(test)]
pub(super) use self::reading::attribute_value;

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

    /// All agents that have offered something and are in sight, as the matching sees them. An agent
    /// without the executor must have room for it as well. Agents that wait for confirmations offer
    /// nothing: an offer can be accepted only once; nor do those that `may` not be used.
    pub(super) fn open(
        &self,
        executor: &ExecutorId,
        overhead: &Resources,
        mut may: impl FnMut(&str, &Agent) -> bool,
    ) -> Vec<matching::Offer> {
        self.as_offers(executor, overhead, |id, agent| {
            (agent.is_idle() && may(id, agent)).then(|| agent.offered())
        })
    }

    /// All agents as they would be offered if offers were asked for now, as far as we can tell: with
    /// what is in hand, what was refused and what our tasks have given back.
    pub(super) fn revivable(
        &self,
        executor: &ExecutorId,
        overhead: &Resources,
        mut may: impl FnMut(&str, &Agent) -> bool,
    ) -> Vec<matching::Offer> {
        self.as_offers(executor, overhead, |id, agent| {
            let open = agent.placed.is_empty() && may(id, agent);
            open.then(|| match agent.has_offers() {
                true => agent.offered().with(&agent.freed),
                false => agent.hidden(),
            })
        })
    }

    /// Those that have offered something and are in sight, each with its room, if it is to have any.
    fn as_offers(
        &self,
        executor: &ExecutorId,
        overhead: &Resources,
        mut room: impl FnMut(&str, &Agent) -> Option<Room>,
    ) -> Vec<matching::Offer> {
        let in_sight = |agent: &Agent| agent.has_offered() && agent.lost_at.is_none();
        let all = self.0.iter().filter(|(_, agent)| in_sight(agent));
        all.map(|(id, agent)| agent.as_offer(executor, overhead, room(id, agent)))
            .collect()
    }
}
