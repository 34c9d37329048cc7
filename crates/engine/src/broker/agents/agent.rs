//! One agent, as far as its offers tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meson_core::ids::TaskId;
use meson_core::matching::{self, Outage};
use meson_core::resources::Resources;
use meson_core::units::Timestamp;
use meson_mesos::types::{ExecutorId, ExecutorInfo, Offer, OfferId, Resource};
use rand::rngs::StdRng;
use serde_json::Value;

use super::reading::{Room, attribute_value, outage};
use crate::broker::ports;

/// An agent as far as its offers tell.
#[derive(Debug)]
pub(in crate::broker) struct Agent {
    pub(super) about: Arc<matching::Agent>,
    /// Offers in hand; an ACCEPT takes all of them together.
    pub(super) offers: Vec<Offer>,
    /// Since when the oldest of them is in hand.
    pub(in crate::broker) offered_at: Timestamp,
    pub(super) executors: BTreeSet<ExecutorId>,
    /// The executor that was started there last, where its share had to come out of what is
    /// reserved for us: it is another one than elsewhere.
    pub(super) special: Option<Box<ExecutorInfo>>,
    /// What our tasks hold there.
    pub(super) held: Resources,
    /// What it had when it last offered something: that, and what our tasks held there.
    pub(super) total: Resources,
    pub(super) outage: Option<Outage>,
    /// When it last offered something.
    pub(super) seen_at: Timestamp,
    /// It has offered something in this session, or runs something of ours.
    pub(super) here: bool,
    /// The resource manager has lost sight of it, and nothing was heard of it since.
    pub(super) lost_at: Option<Timestamp>,
    /// What we may have refused since offers were last asked for: the most of each resource that was
    /// given back. The resource manager does not offer it again by itself, unless it has more.
    pub(super) refused: Room,
    /// What our tasks have given back since it last offered something. It is offered soon.
    pub(super) freed: Resources,
    /// Placed on the offers in hand.
    pub(in crate::broker) placed: BTreeMap<TaskId, Place>,
    /// Tasks that were launched there and do not run yet.
    pub(in crate::broker) starting: usize,
    /// The port that was handed out last.
    pub(super) last_port: Option<u16>,
}

/// A place on the offers in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Place {
    /// It is on record.
    pub(in crate::broker) confirmed: bool,
    /// The ports that the task gets.
    pub(in crate::broker) ports: Vec<u16>,
}

impl Agent {
    pub(super) fn unknown(id: &str) -> Self {
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

    pub(super) fn begin(&mut self) {
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
    pub(super) fn displace(&mut self) -> impl Iterator<Item = (TaskId, bool)> + use<> {
        let placed = std::mem::take(&mut self.placed).into_iter();
        placed.map(|(task, place)| (task, place.confirmed))
    }

    /// Ports that are offered and that nobody gets who has a place there.
    pub(super) fn choose_ports(
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
    pub(super) fn hidden(&self) -> Room {
        let firm = self.refused.firm.plus(&self.freed);
        let most = self.total.minus(&self.held);
        Room {
            // The smaller of the two; what was refused long ago may be in use since.
            firm: firm.minus(&firm.minus(&most)),
            revocable: self.refused.revocable,
        }
    }

    /// What is left of its offers was given back.
    pub(in crate::broker) fn refuse(&mut self, resources: &[Resource], used: &Resources) {
        let rest = Room::of(resources);
        self.refused = Room {
            firm: self.refused.firm.max(&rest.firm.minus(used)),
            revocable: self.refused.revocable.max(&rest.revocable),
        };
    }

    pub(super) fn describe(&mut self, offer: &Offer) {
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
    pub(super) fn offered(&self) -> Room {
        Room::of(self.offers.iter().flat_map(|offer| &offer.resources))
    }

    /// As the matching sees it, with this room if anything may be placed there.
    pub(super) fn as_offer(
        &self,
        executor: &ExecutorId,
        overhead: &Resources,
        room: Option<Room>,
    ) -> matching::Offer {
        let (warm, open) = (self.is_warm(executor), room.is_some());
        let Room {
            firm: mut free,
            revocable,
        } = room.unwrap_or(Room::NOTHING);
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

    pub(in crate::broker) fn id(&self) -> &str {
        self.about.id()
    }

    pub(super) fn has_offered(&self) -> bool {
        self.seen_at > Timestamp(0)
    }

    /// It is there, as far as this session tells.
    pub(super) fn is_here(&self) -> bool {
        self.here && self.lost_at.is_none()
    }

    /// Nothing of ours is there, or about to be.
    pub(super) fn is_unused(&self) -> bool {
        self.held.is_nothing() && self.placed.is_empty() && self.starting == 0
    }

    pub(in crate::broker) fn has_offers(&self) -> bool {
        !self.offers.is_empty()
    }

    /// It has offers in hand, and nobody has a place on them.
    pub(in crate::broker) fn is_idle(&self) -> bool {
        self.has_offers() && self.placed.is_empty()
    }

    /// Takes the offers in hand, to accept or decline them: their ids and all their resources.
    pub(in crate::broker) fn take_offers(&mut self) -> (Vec<OfferId>, Vec<Resource>) {
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
    pub(in crate::broker) fn running<'a>(
        &'a self,
        usual: &'a ExecutorInfo,
    ) -> Option<&'a ExecutorInfo> {
        let mut either = std::iter::once(usual).chain(self.special.as_deref());
        either.find(|info| self.executors.contains(&info.executor_id))
    }

    /// An executor of ours is about to be there.
    pub(in crate::broker) fn warmed(&mut self, executor: &ExecutorInfo, usual: &ExecutorInfo) {
        self.executors.insert(executor.executor_id.clone());
        if executor.executor_id != usual.executor_id {
            self.special = Some(Box::new(executor.clone()));
        }
    }
}
