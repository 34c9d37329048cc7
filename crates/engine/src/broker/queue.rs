//! Who waits for a place, and why.

use std::collections::{BTreeMap, HashMap};

use meson_core::ids::TaskId;
use meson_core::matching::{
    Constraints, Matching, Misfit, Offer, Owner, Policy, Problem, Request, Shape, match_offers,
};
use meson_core::resources::Resources;
use meson_core::units::Timestamp;
use meson_protocol::api::Reason;

use super::messages::Waiting;

/// A request in the queue.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) shape: Shape,
    pub(super) owner: String,
    pub(super) deadline: Option<Timestamp>,
    pub(super) since: Timestamp,
}

/// A request that got a place.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) task: TaskId,
    pub(super) entry: Entry,
    /// Index of the offer.
    pub(super) offer: usize,
}

/// All requests that have no place yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<TaskId, Entry>,
    /// Why nothing of a shape fits, from the last matching that had offers.
    misfits: HashMap<Shape, Misfit>,
    constraints: Constraints,
}

impl Queue {
    /// Adds a request; says whether it is new.
    pub(super) fn add(&mut self, task: TaskId, entry: Entry) -> bool {
        self.entries.insert(task, entry).is_none()
    }

    pub(super) fn remove(&mut self, task: &TaskId) -> Option<Entry> {
        self.entries.remove(task)
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

    /// Finds places on these offers and takes who got one out of the queue.
    pub(super) fn place(
        &mut self,
        offers: &[Offer],
        held: &BTreeMap<String, Resources>,
        policy: Policy,
        now: Timestamp,
    ) -> Vec<Placed> {
        let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
        let mut shapes: Vec<Shape> = Vec::new();
        let mut shape_index: HashMap<&Shape, usize> = HashMap::new();
        let mut tasks: Vec<&TaskId> = Vec::with_capacity(self.entries.len());
        let mut requests = Vec::with_capacity(self.entries.len());
        for (task, entry) in &self.entries {
            let next_owner = owners.len();
            let owner = *owners.entry(&entry.owner).or_insert(next_owner);
            let shape = *shape_index.entry(&entry.shape).or_insert_with(|| {
                shapes.push(entry.shape.clone());
                shapes.len() - 1
            });
            tasks.push(task);
            requests.push(Request {
                shape,
                owner,
                deadline: entry.deadline,
                since: entry.since,
            });
        }
        let mut shares = vec![Owner::default(); owners.len()];
        for (owner, index) in owners {
            shares[index].held = held.get(owner).copied().unwrap_or(Resources::ZERO);
        }
        let problem = Problem {
            shapes: &shapes,
            owners: &shares,
            requests: &requests,
            offers,
            policy,
            now,
        };
        let Matching {
            placements,
            misfits,
            ..
        } = match_offers(&problem, &mut self.constraints);
        let placed: Vec<(TaskId, usize)> = placements
            .into_iter()
            .map(|(request, offer)| (tasks[request].clone(), offer))
            .collect();
        self.misfits = misfits
            .into_iter()
            .map(|(shape, misfit)| (shapes[shape].clone(), misfit))
            .collect();
        placed
            .into_iter()
            .filter_map(|(task, offer)| {
                let entry = self.entries.remove(&task)?;
                Some(Placed { task, entry, offer })
            })
            .collect()
    }

    /// Why this task waits.
    pub(super) fn explain(
        &self,
        task: &TaskId,
        connected: bool,
        agents_known: usize,
    ) -> Option<Waiting> {
        let entry = self.entries.get(task)?;
        let position = self
            .entries
            .values()
            .filter(|other| {
                (other.deadline.is_none(), other.deadline, other.since)
                    < (entry.deadline.is_none(), entry.deadline, entry.since)
            })
            .count();
        let mut waiting = Waiting {
            position,
            ..Waiting::default()
        };
        match self.misfits.get(&entry.shape) {
            _ if !connected => waiting.reasons.push(Reason {
                text: "not connected to the resource manager: is it up?".to_owned(),
                agents: 0,
            }),
            Some(misfit) => {
                waiting.reasons = misfit
                    .reasons
                    .iter()
                    .map(|(text, agents)| Reason {
                        text: text.clone(),
                        agents: *agents,
                    })
                    .collect();
                waiting.would_fit.clone_from(&misfit.would_fit);
                if misfit.fits_when_drained {
                    waiting
                        .would_fit
                        .push("fits once tasks that run now have ended".to_owned());
                }
            }
            None if agents_known == 0 => waiting.reasons.push(Reason {
                text: "no agent has offered anything yet: are agents registered?".to_owned(),
                agents: 0,
            }),
            None => waiting.reasons.push(Reason {
                text: "waits for the next offers of the resource manager".to_owned(),
                agents: 0,
            }),
        }
        Some(waiting)
    }
}
