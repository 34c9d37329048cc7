//! Who waits for a place, and why.
//!
//! * this file: the queue, and how it is put to the matching. * [`ledger`]: who holds what, for how
//!   long still, and where steps failed. * [`explain`]: why a task waits. * [`refuse`]: why an
//!   offer is of use to nobody.

mod explain;
mod ledger;
mod refuse;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use meson_core::ids::{RunId, TaskId};
use meson_core::matching::{
    Class, Constraints, Offer, Owner, Placement, Policy, Problem, Request, Shape, match_offers,
    serves_anybody,
};
use meson_core::resources::Resources;
use meson_core::run::Claim;
use meson_core::units::Timestamp;

use self::ledger::{Hold, Ledger};

/// A request in the queue.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) shape: Shape,
    pub(super) owner: String,
    pub(super) deadline: Option<Timestamp>,
    pub(super) since: Timestamp,
    /// Once it is placed: what of its resources is to be taken from what is revocable.
    pub(super) revocable: Resources,
}

impl Entry {
    pub(super) fn is_gang(&self) -> bool {
        !self.shape.gang.is_single()
    }
}

impl From<&Entry> for Claim {
    fn from(entry: &Entry) -> Self {
        Self {
            resources: entry.shape.resources,
            owner: entry.owner.clone(),
            lasts: entry.shape.lasts,
            deadline: entry.deadline,
            started_at: None,
        }
    }
}

impl From<&Placement> for OfferSeat {
    fn from(placement: &Placement) -> Self {
        Self {
            offer: placement.offer,
            revocable: placement.revocable,
        }
    }
}

/// What an owner may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerTerms {
    /// Who has twice the weight may hold twice as much.
    pub weight: u32,
    /// The most that its tasks may hold at once in the pool; none: as much as there is.
    pub quota: Option<Resources>,
}

impl Default for OwnerTerms {
    fn default() -> Self {
        Self {
            weight: 1,
            quota: None,
        }
    }
}

/// A request that got a place.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) task: TaskId,
    pub(super) entry: Entry,
    /// A place for each of its tasks, by rank.
    pub(super) seats: Vec<OfferSeat>,
}

/// A place for one task.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfferSeat {
    /// Index of the offer.
    pub(super) offer: usize,
    /// What of its resources is to be taken from what is revocable.
    pub(super) revocable: Resources,
}

/// All requests that have no place yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<TaskId, Entry>,
    /// How many of them ask for several tasks at once.
    gangs: usize,
    constraints: Constraints,
    ledger: Ledger,
    /// What the last matching that had offers left behind.
    scene: Option<Scene>,
    /// Agents on which room is set aside, by class.
    kept: HashMap<ClassKey, Vec<String>>,
    /// The last matching stopped before it had looked at everybody.
    unfinished: bool,
    /// Classes that were refused in it: the next one looks at the others.
    refused: HashSet<ClassKey>,
}

/// Requests that are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ClassKey {
    shape: Shape,
    /// The step, where it matters which one it is.
    step: Option<(RunId, String)>,
}

/// What a matching left behind.
#[derive(Debug)]
struct Scene {
    at: Timestamp,
    offers: Vec<Offer>,
    left: Vec<Resources>,
    lent: Vec<Resources>,
    /// Room set aside: for whom, on which offer, how much.
    kept: Vec<(ClassKey, usize, Resources)>,
    /// Those of whom some found no place; see [`refuse::refused`].
    refused: Vec<ClassKey>,
    /// What owners held before.
    held: BTreeMap<String, Resources>,
    terms: BTreeMap<String, OwnerTerms>,
    keep_gpus: bool,
}

/// The waiting requests, as a matching sees them.
struct Batch<'a> {
    tasks: Vec<&'a TaskId>,
    requests: Vec<Request>,
    keys: Vec<ClassKey>,
    owners: Vec<Owner>,
}

impl Scene {
    /// Without what was seen of this agent.
    fn forget(&mut self, agent: &str) {
        let mut offers = self.offers.iter();
        let Some(gone) = offers.position(|offer| offer.agent.id() == agent) else {
            return;
        };
        self.offers.remove(gone);
        for amounts in [&mut self.left, &mut self.lent] {
            if gone < amounts.len() {
                amounts.remove(gone);
            }
        }
        self.kept.retain_mut(|(_, offer, _)| {
            let stays = *offer != gone;
            *offer -= usize::from(*offer > gone);
            stays
        });
    }
}

impl Queue {
    /// The agent is out of sight: what was seen of it is no reason for anything any more.
    pub(super) fn lost(&mut self, agent: &str) {
        if let Some(scene) = &mut self.scene {
            scene.forget(agent);
        }
    }

    /// Adds a request; says whether it is new. One that had a place comes back so, too.
    pub(super) fn add(&mut self, task: TaskId, entry: Entry) -> bool {
        for rank in 0..entry.shape.gang.tasks {
            self.ledger.released(&task.member(rank));
        }
        self.gangs += usize::from(entry.is_gang());
        let old = self.entries.insert(task, entry);
        self.gangs -= usize::from(old.as_ref().is_some_and(Entry::is_gang));
        old.is_none()
    }

    pub(super) fn remove(&mut self, task: &TaskId) -> Option<Entry> {
        let entry = self.entries.remove(task)?;
        self.gangs -= usize::from(entry.is_gang());
        Some(entry)
    }

    /// Whether somebody waits for several places at once, which one agent's offer may not have.
    pub(super) fn has_gangs(&self) -> bool {
        self.gangs > 0
    }

    /// Who holds what where, as the ledger has it.
    #[cfg(test)]
    pub(super) fn holds(&self) -> BTreeMap<&TaskId, (&str, Resources)> {
        self.ledger.held()
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        self.entries.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is asked for, each once.
    pub(super) fn shapes(&self) -> impl Iterator<Item = &Shape> {
        let mut seen = HashSet::new();
        let shapes = self.entries.values().map(|entry| &entry.shape);
        shapes.filter(move |shape| seen.insert(*shape))
    }

    /// The last matching stopped before it had looked at everybody: offers are to be kept, and
    /// places to be sought again.
    pub(super) fn goes_on(&self) -> bool {
        self.unfinished && !self.entries.is_empty()
    }

    /// Whether room is set aside on this agent for somebody.
    pub(super) fn keeps(&self, agent: &str) -> bool {
        self.kept.values().flatten().any(|kept| kept == agent)
    }

    /// A task that somebody else placed holds so much there.
    pub(super) fn found(
        &mut self,
        task: TaskId,
        agent: &str,
        resources: &Resources,
        claim: &Claim,
        now: Timestamp,
    ) {
        let hold = Hold::found(agent, *resources, claim, now);
        self.ledger.holds(task, hold);
    }

    /// A task that had a place holds it no more.
    pub(super) fn released(&mut self, task: &TaskId) {
        self.ledger.released(task);
    }

    /// A task has ended well: how long it took is how long its step's others will take.
    pub(super) fn finished(&mut self, task: &TaskId, now: Timestamp) {
        self.ledger.finished(task, now);
    }

    /// A task was lost through no fault of its own: its step is kept from that agent for a while,
    /// as far as there are others.
    pub(super) fn failed_there(&mut self, task: &TaskId, agent: &str, now: Timestamp) {
        self.ledger.failed_there(task, agent, now);
    }

    /// Finds places on these offers and takes who got one out of the queue.
    pub(super) fn place(
        &mut self,
        offers: &[Offer],
        held: &BTreeMap<String, Resources>,
        terms: &BTreeMap<String, OwnerTerms>,
        policy: Policy,
        now: Timestamp,
    ) -> Vec<Placed> {
        if self.entries.is_empty() || !offers.iter().any(|offer| offer.offered) {
            return Vec::new();
        }
        // Borrowed apart from the entries, whose ids the batch holds.
        let mut constraints = std::mem::take(&mut self.constraints);
        let batch = self.batch(held, terms, now);
        let classes = self.classes(&batch.keys, offers, now);
        let problem = Problem {
            classes: &classes,
            owners: &batch.owners,
            requests: &batch.requests,
            offers,
            policy,
            now,
        };
        let matching = match_offers(&problem, &mut constraints);
        let refused = refuse::refused(&problem, &matching);
        // Those of a gang stand one after the other.
        let requests = matching
            .placements
            .chunk_by(|one, other| one.request == other.request);
        let placements: Vec<(TaskId, Vec<OfferSeat>)> = requests
            .map(|of_one| {
                let task = batch.tasks[of_one[0].request].clone();
                (task, of_one.iter().map(OfferSeat::from).collect())
            })
            .collect();
        let keys = batch.keys;
        self.constraints = constraints;
        let kept: Vec<(ClassKey, usize, Resources)> = matching
            .kept
            .iter()
            .map(|kept| (keys[kept.class].clone(), kept.offer, kept.amount))
            .collect();
        self.kept.clear();
        for (key, offer, _) in &kept {
            let agent = offers[*offer].agent.id().to_owned();
            self.kept.entry(key.clone()).or_default().push(agent);
        }
        self.unfinished = matching.unfinished;
        if matching.unfinished {
            let refused = matching.refused.iter().map(|&class| keys[class].clone());
            self.refused.extend(refused);
        } else {
            self.refused.clear();
        }
        self.scene = Some(Scene {
            at: now,
            offers: offers.to_vec(),
            left: matching.left,
            lent: matching.lent,
            kept,
            refused: refused
                .into_iter()
                .map(|class| keys[class].clone())
                .collect(),
            held: held.clone(),
            terms: terms.clone(),
            keep_gpus: policy.keep_gpus,
        });
        placements
            .into_iter()
            .filter_map(|(task, seats)| {
                let entry = self.remove(&task)?;
                for (rank, seat) in (0..).zip(&seats) {
                    let agent = offers[seat.offer].agent.id();
                    let hold = Hold::new(&entry, agent, now);
                    self.ledger.holds(task.member(rank), hold);
                }
                Some(Placed { task, entry, seats })
            })
            .collect()
    }

    /// Whether somebody would find a place on these offers.
    pub(super) fn would_place(
        &mut self,
        offers: &[Offer],
        held: &BTreeMap<String, Resources>,
        terms: &BTreeMap<String, OwnerTerms>,
        policy: Policy,
        now: Timestamp,
    ) -> bool {
        let mut constraints = std::mem::take(&mut self.constraints);
        let batch = self.batch(held, terms, now);
        let problem = Problem {
            classes: &self.classes(&batch.keys, offers, now),
            owners: &batch.owners,
            requests: &batch.requests,
            offers,
            policy,
            now,
        };
        let found = serves_anybody(&problem, &mut constraints);
        self.constraints = constraints;
        found
    }

    fn batch(
        &self,
        held: &BTreeMap<String, Resources>,
        terms: &BTreeMap<String, OwnerTerms>,
        now: Timestamp,
    ) -> Batch<'_> {
        let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
        let mut keys: Vec<ClassKey> = Vec::new();
        let mut index: HashMap<ClassKey, usize> = HashMap::new();
        let mut tasks: Vec<&TaskId> = Vec::with_capacity(self.entries.len());
        let mut requests: Vec<Request> = Vec::with_capacity(self.entries.len());
        let mut before: Option<(&TaskId, &Entry)> = None;
        for (task, entry) in &self.entries {
            // The iterations of a step stand next to each other: mostly nothing has to be hashed.
            let alike = before.filter(|(other, known)| {
                other.step == task.step
                    && other.run == task.run
                    && known.owner == entry.owner
                    && known.shape == entry.shape
            });
            let (class, owner) = match (alike, requests.last()) {
                (Some(_), Some(last)) => (last.class, last.owner),
                _ => {
                    let next = owners.len();
                    let owner = *owners.entry(&entry.owner).or_insert(next);
                    let key = self.key(task, entry, now);
                    let class = *index.entry(key).or_insert_with_key(|key| {
                        keys.push(key.clone());
                        keys.len() - 1
                    });
                    (class, owner)
                }
            };
            before = Some((task, entry));
            tasks.push(task);
            requests.push(Request {
                class,
                owner,
                deadline: entry.deadline,
                since: entry.since,
            });
        }
        let mut shares = vec![Owner::default(); owners.len()];
        for (owner, index) in owners {
            let terms = terms.get(owner).cloned().unwrap_or_default();
            shares[index] = Owner {
                held: held.get(owner).copied().unwrap_or(Resources::ZERO),
                weight: terms.weight,
                quota: terms.quota,
            };
        }
        Batch {
            tasks,
            requests,
            keys,
            owners: shares,
        }
    }

    /// The class of a request. Its step matters if its tasks are to be spread, or if it is kept
    /// from agents.
    fn key(&self, task: &TaskId, entry: &Entry, now: Timestamp) -> ClassKey {
        let matters = entry.shape.spread.is_some()
            || self
                .ledger
                .avoided(&task.run, &task.step, now)
                .next()
                .is_some();
        ClassKey {
            shape: entry.shape.clone(),
            step: matters.then(|| (task.run.clone(), task.step.clone())),
        }
    }

    fn classes(&self, keys: &[ClassKey], offers: &[Offer], now: Timestamp) -> Vec<Class> {
        let agents: HashMap<&str, usize> = offers
            .iter()
            .enumerate()
            .map(|(index, offer)| (offer.agent.id(), index))
            .collect();
        keys.iter()
            .map(|key| {
                let mut class = Class {
                    shape: key.shape.clone(),
                    seen: self.refused.contains(key),
                    ..Class::default()
                };
                if let Some(kept) = self.kept.get(key) {
                    let kept = kept.iter().filter_map(|agent| agents.get(agent.as_str()));
                    class.kept = kept.copied().collect();
                }
                if let Some((run, step)) = &key.step {
                    let avoided = self.ledger.avoided(run, step, now);
                    class.avoid = avoided
                        .filter_map(|agent| agents.get(agent).copied())
                        .collect();
                    class.avoid.sort_unstable();
                    if key.shape.spread.is_some() {
                        let running = self.ledger.running(run, step).into_iter();
                        class.running = running
                            .filter_map(|(agent, tasks)| Some((*agents.get(agent)?, tasks)))
                            .collect();
                    }
                }
                class
            })
            .collect()
    }
}
