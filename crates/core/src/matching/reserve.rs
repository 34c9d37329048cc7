//! Room for who has waited long, so that what is small cannot starve what is big.
//!
//! Before anybody is served, each class whose oldest request has waited for
//! [`protect_after`](super::Policy::protect_after) gets room for one request set aside, the longest
//! waiting first: where it fits now, or else on the agent that has least to drain. The room is
//! an amount, not the agent: what an agent has beyond it stays open. It stays in the same place from
//! call to call ([`Class::kept`](super::Class::kept)), so that the agent does drain.
//!
//! Requests that want half an agent or more get room each: an agent drains for as long as the
//! longest of what runs there, and draining one after the other would make them wait for each
//! other's draining. What is smaller needs one end only, and ends come all the time.
//!
//! At most a quarter of the agents is set aside for single tasks. A gang needs room on several
//! agents, and two that each held half of what both need would wait for each other for ever: so
//! only one may accumulate, the one that has waited longest of those that fit the agents at all. Its
//! age does not change while it waits (its place in the order of fair shares does), so the right does
//! not pass to and fro. The others are placed when they fit into what is open.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::gang::{Slots, choose, slots};
use super::order::within_quota;
use super::place::{Candidate, Candidates, Pass};
use super::{Offer, Problem, Shape};
use crate::resources::Resources;
use crate::units::Timestamp;

impl Pass<'_, '_> {
    /// Sets room aside for who has waited long.
    pub(super) fn reserve(&mut self) {
        let mut agents = (self.problem.offers.len() / 4).max(1);
        let mut gang_may = true;
        let most = self.problem.policy.max_work / 2;
        let mut large: Vec<Option<bool>> = vec![None; self.problem.classes.len()];
        for LongWaiting { class, first, .. } in long_waiting(self.problem, agents) {
            if self.matching.work >= most {
                break;
            }
            let shape = &self.problem.classes[class].shape;
            let gang = shape.gang.tasks > 1;
            if (gang && !gang_may) || (!gang && agents == 0) {
                continue;
            }
            self.evaluate(class);
            if !first {
                let known = large[class].unwrap_or_else(|| self.is_large(class));
                large[class] = Some(known);
                if !known {
                    continue;
                }
            }
            let chosen = if gang {
                self.room_for_gang(class)
            } else {
                self.room_for_one(class).map(|offer| vec![(offer, 1)])
            };
            let Some(chosen) = chosen else { continue };
            if gang {
                gang_may = false;
            } else {
                agents -= 1;
            }
            for (offer, tasks) in chosen {
                let amount = shape.resources.times(tasks);
                self.rooms.kept[offer] = self.rooms.kept[offer].plus(&amount);
                self.rooms.refresh(&self.problem.offers[offer], offer);
                let own = &mut self.classes[class].own;
                match own.iter_mut().find(|(kept, _)| *kept == offer) {
                    Some((_, kept)) => *kept = kept.plus(&amount),
                    None => own.push((offer, amount)),
                }
            }
        }
    }

    /// Whether one task wants half of an agent or more, on most of those that it may use.
    fn is_large(&mut self, class: usize) -> bool {
        let wanted = self.problem.classes[class].shape.resources.times(2);
        let candidates = self.candidates(class);
        self.matching.work += candidates.len() as u64;
        let totals = candidates
            .iter()
            .map(|candidate| &self.problem.offers[candidate.offer as usize].total)
            .filter(|total| !total.is_nothing());
        let (mut small, mut all) = (0, 0);
        for total in totals {
            all += 1;
            small += usize::from(wanted.cpus < total.cpus && wanted.mem < total.mem);
        }
        small * 2 < all
    }

    fn candidates(&self, class: usize) -> Vec<Candidate> {
        match &self.classes[class].candidates {
            Candidates::Unknown => Vec::new(),
            Candidates::Sorted { list, .. } => list.clone(),
            Candidates::Heaps(heaps) => {
                let all = heaps.iter().flat_map(|heap| heap.iter());
                all.map(|Reverse((_, candidate))| *candidate).collect()
            }
        }
    }

    fn room_for_one(&mut self, class: usize) -> Option<usize> {
        let known = &self.problem.classes[class];
        let shape = &known.shape;
        let candidates = self.candidates(class);
        self.matching.work += candidates.len() as u64;
        let now = candidates
            .iter()
            .filter(|candidate| self.rooms.fits(shape, candidate.offer as usize))
            .min_by_key(|candidate| {
                // Where it was promised before, if that is as good.
                let before = known.kept.contains(&(candidate.offer as usize));
                (candidate.demerits, !before, self.score(class, candidate))
            });
        let later = || {
            candidates
                .iter()
                .filter(|candidate| self.could_take(shape, candidate.offer as usize) > 0)
                .min_by_key(|candidate| {
                    let offer = candidate.offer as usize;
                    (
                        !known.kept.contains(&offer),
                        candidate.demerits,
                        self.to_drain(&shape.resources, offer),
                        offer,
                    )
                })
        };
        now.or_else(later).map(|candidate| candidate.offer as usize)
    }

    /// Where a gang would go if it waited until enough has ended there; none if it never fits.
    fn room_for_gang(&mut self, class: usize) -> Option<Vec<(usize, u32)>> {
        let known = &self.problem.classes[class];
        let shape = &known.shape;
        let candidates = self.candidates(class);
        self.matching.work += candidates.len() as u64;
        let zone = |slots: &Slots| self.zones[slots.offer()];
        let counted = |tasks: &dyn Fn(usize) -> u32| -> Vec<Slots> {
            let slots = candidates.iter().map(|&candidate| Slots {
                candidate,
                tasks: tasks(candidate.offer as usize),
            });
            slots.filter(|slots| slots.tasks > 0).collect()
        };
        let now = counted(&|offer| {
            slots(
                shape,
                &self.rooms.room(offer, &Resources::ZERO),
                &self.rooms.lent[offer],
            )
        });
        let now = choose(
            &shape.gang,
            now,
            zone,
            |slots| self.score(class, &slots.candidate),
            self.spreads(shape),
        );
        if now.is_some() {
            return now;
        }
        let cost = |slots: &Slots| {
            let offer = slots.offer();
            (
                !known.kept.contains(&offer),
                slots.candidate.demerits,
                self.to_drain(&shape.resources.times(slots.tasks), offer),
                offer,
            )
        };
        // In the zone where it began, if that still holds all of it.
        let later = counted(&|offer| self.could_take(shape, offer));
        if shape.gang.one_zone
            && let Some(&first) = known.kept.first()
        {
            let mut there = later.clone();
            there.retain(|slots| self.zones[slots.offer()] == self.zones[first]);
            let chosen = choose(&shape.gang, there, zone, cost, false);
            if chosen.is_some() {
                return chosen;
            }
        }
        choose(&shape.gang, later, zone, cost, false)
    }

    /// How many tasks have room there once everything of ours that runs there has ended.
    fn could_take(&self, shape: &Shape, index: usize) -> u32 {
        let offer = &self.problem.offers[index];
        if !self.is_there(offer) {
            return 0;
        }
        let room = offer.total.minus(&self.rooms.kept[index]);
        slots(shape, &room, &Resources::ZERO)
    }

    /// Whether something can be hoped for there: an agent that has offered nothing for a while and
    /// runs nothing of ours may be gone, or wholly in others' hands.
    fn is_there(&self, offer: &Offer) -> bool {
        let quiet = self.problem.now.since(offer.seen_at);
        offer.offered || !offer.held.is_nothing() || quiet < self.problem.policy.protect_after
    }

    /// How much has to end there first, in millionths of the agent.
    fn to_drain(&self, wanted: &Resources, index: usize) -> u64 {
        let missing = wanted.minus(&self.rooms.room(index, &Resources::ZERO));
        let total = &self.problem.offers[index].total;
        let share = |missing: u64, total: u64| {
            missing
                .saturating_mul(1_000_000)
                .checked_div(total)
                .unwrap_or(0)
        };
        share(missing.cpus.0, total.cpus.0) + share(missing.mem.0 >> 20, total.mem.0 >> 20)
    }
}

/// A request that has waited long.
struct LongWaiting {
    since: Timestamp,
    class: usize,
    /// It is the oldest of its class.
    first: bool,
}

/// Requests that have waited long, the longest first; of each class no more than there may be rooms
/// for. Who may not have it anyway, because its quota is used up, does not count.
fn long_waiting(problem: &Problem<'_>, rooms: usize) -> Vec<LongWaiting> {
    // Per class, the youngest of the oldest on top.
    let mut oldest: Vec<BinaryHeap<(Timestamp, usize)>> = Vec::new();
    oldest.resize_with(problem.classes.len(), BinaryHeap::new);
    for (index, request) in problem.requests.iter().enumerate() {
        let class = &problem.classes[request.class];
        let owner = &problem.owners[request.owner];
        let oldest = &mut oldest[request.class];
        let late = oldest
            .peek()
            .is_some_and(|(since, _)| *since <= request.since);
        let full = oldest.len() >= if class.shape.gang.tasks > 1 { 1 } else { rooms };
        if class.seen
            || (full && late)
            || problem.now.since(request.since) < problem.policy.protect_after
        {
            continue;
        }
        let wanted = class.shape.resources.times(class.shape.gang.tasks);
        if within_quota(owner, &owner.held, &wanted) {
            if full {
                oldest.pop();
            }
            oldest.push((request.since, index));
        }
    }
    let mut held: Vec<Resources> = problem.owners.iter().map(|owner| owner.held).collect();
    let mut all: Vec<LongWaiting> = Vec::new();
    for (class, oldest) in oldest.into_iter().enumerate() {
        let shape = &problem.classes[class].shape;
        let wanted = shape.resources.times(shape.gang.tasks);
        let mut first = true;
        for (since, request) in oldest.into_sorted_vec() {
            // Those of one owner may be too many together.
            let owner = problem.requests[request].owner;
            if first || within_quota(&problem.owners[owner], &held[owner], &wanted) {
                held[owner] = held[owner].plus(&wanted);
                all.push(LongWaiting {
                    since,
                    class,
                    first,
                });
                first = false;
            }
        }
    }
    all.sort_by_key(|it| (it.since, it.class));
    all
}
