//! Several tasks at once, all or none.
//!
//! The tasks of a gang are alike, so how many have room on an offer does not depend on where the
//! others go: counting is exact, and nothing has to be tried and taken back.

use std::collections::BTreeMap;

use super::place::{Candidate, Candidates, Pass, mixed};
use super::{Gang, Shape};
use crate::resources::Resources;

/// An offer with room for some tasks of a gang.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
    pub(super) candidate: Candidate,
    /// So many of its tasks; at most as many as it has.
    pub(super) tasks: u32,
}

impl Slots {
    pub(super) fn offer(&self) -> usize {
        self.candidate.offer as usize
    }
}

/// How many tasks of a gang have room: on what is firm and what is lent.
pub(super) fn slots(shape: &Shape, firm: &Resources, revocable: &Resources) -> u32 {
    let most = if shape.gang.apart {
        1
    } else {
        shape.gang.tasks
    };
    let wanted = &shape.resources;
    if !shape.preemptible || revocable.is_nothing() {
        return times(wanted, firm).min(most);
    }
    let (mut firm, mut revocable) = (*firm, *revocable);
    let mut found = 0;
    while found < most {
        let room = mixed(wanted, &firm, &revocable);
        if !wanted.fits_in(&room) {
            break;
        }
        let from_firm = mixed(wanted, &Resources::ZERO, &revocable);
        let drawn = wanted.minus(&wanted.minus(&from_firm));
        revocable = revocable.minus(&drawn);
        firm = firm.minus(&wanted.minus(&drawn));
        found += 1;
    }
    found
}

/// How often `wanted` fits in `room`.
fn times(wanted: &Resources, room: &Resources) -> u32 {
    [
        (wanted.cpus.0, room.cpus.0),
        (wanted.mem.0, room.mem.0),
        (wanted.disk.0, room.disk.0),
        (wanted.gpus.into(), room.gpus.into()),
        (wanted.ports.into(), room.ports.into()),
    ]
    .into_iter()
    .filter_map(|(wanted, room)| room.checked_div(wanted))
    .min()
    .map_or(u32::MAX, |times| u32::try_from(times).unwrap_or(u32::MAX))
}

/// The offers that a gang takes, if there are enough: `(offer, tasks)`. In one zone, if it asks
/// for that. `cost` orders the offers, the best first.
pub(super) fn choose<C: Ord>(
    gang: &Gang,
    slots: Vec<Slots>,
    zone: impl Fn(&Slots) -> u32,
    cost: impl Fn(&Slots) -> C,
    evenly: bool,
) -> Option<Vec<(usize, u32)>> {
    if !gang.one_zone {
        return fill(gang.tasks, slots, cost, evenly);
    }
    let mut by_zone: BTreeMap<u32, Vec<Slots>> = BTreeMap::new();
    for slots in slots {
        by_zone.entry(zone(&slots)).or_default().push(slots);
    }
    by_zone
        .into_values()
        .filter(|slots| enough(gang.tasks, slots))
        // The zone with the best worst agent; of equal ones the first.
        .min_by_key(|slots| demerits(gang.tasks, slots))
        .and_then(|slots| fill(gang.tasks, slots, cost, evenly))
}

/// What speaks against the agents that a zone would give.
fn demerits(tasks: u32, slots: &[Slots]) -> u8 {
    let mut by_demerits: Vec<(u8, u32)> = slots
        .iter()
        .map(|slots| (slots.candidate.demerits, slots.tasks))
        .collect();
    by_demerits.sort_unstable();
    let mut missing = tasks;
    for (demerits, tasks) in by_demerits {
        missing = missing.saturating_sub(tasks);
        if missing == 0 {
            return demerits;
        }
    }
    u8::MAX
}

fn enough(tasks: u32, slots: &[Slots]) -> bool {
    slots
        .iter()
        .map(|slots| u64::from(slots.tasks))
        .sum::<u64>()
        >= u64::from(tasks)
}

fn fill<C: Ord>(
    tasks: u32,
    mut slots: Vec<Slots>,
    cost: impl Fn(&Slots) -> C,
    evenly: bool,
) -> Option<Vec<(usize, u32)>> {
    if !enough(tasks, &slots) {
        return None;
    }
    slots.sort_by_cached_key(cost);
    let mut missing = tasks;
    let mut taken = vec![0; slots.len()];
    while missing > 0 {
        for (taken, slots) in taken.iter_mut().zip(&slots) {
            let more = (slots.tasks - *taken).min(missing);
            let more = if evenly { more.min(1) } else { more };
            *taken += more;
            missing -= more;
        }
    }
    let chosen = slots.iter().map(Slots::offer).zip(taken);
    Some(chosen.filter(|(_, taken)| *taken > 0).collect())
}

impl Pass<'_, '_> {
    /// Places all tasks of a gang, or none.
    pub(super) fn place_gang(&mut self, request: usize, class: usize) -> bool {
        let shape = &self.problem.classes[class].shape;
        let Candidates::Sorted { list, .. } = &self.classes[class].candidates else {
            return false;
        };
        self.matching.work += list.len() as u64;
        let state = &self.classes[class];
        let slots: Vec<Slots> = list
            .iter()
            .map(|&candidate| {
                let offer = candidate.offer as usize;
                let own = state.own.iter().find(|(kept, _)| *kept == offer);
                let own = own.map_or(Resources::ZERO, |(_, own)| *own);
                let tasks = slots(
                    shape,
                    &self.rooms.room(offer, &own),
                    &self.rooms.lent[offer],
                );
                Slots { candidate, tasks }
            })
            .filter(|slots| slots.tasks > 0)
            .collect();
        let chosen = choose(
            &shape.gang,
            slots,
            |slots| self.zones[slots.offer()],
            |slots| self.score(class, &slots.candidate),
            self.spreads(shape),
        );
        let Some(chosen) = chosen else {
            return false;
        };
        for (offer, tasks) in chosen {
            for _ in 0..tasks {
                self.take(request, class, offer);
            }
        }
        // What was set aside for it beyond that is anybody's again, from the next call on.
        true
    }
}
