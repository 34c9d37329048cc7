//! Smallest changes to what is asked for that would make a request fit.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Shape;
use super::reason::{Predicate, Scene, Shortage, Verdict, shortages};
use crate::resources::{MilliCpus, Resources};
use crate::units::Bytes;

/// A change to what is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// In words.
    pub text: String,
    /// It would then fit on so many agents.
    pub agents: u32,
    /// At most so much processor time.
    pub cpus: Option<MilliCpus>,
    /// At most so much memory.
    pub mem: Option<Bytes>,
    /// At most so much scratch space.
    pub disk: Option<Bytes>,
    /// At most so many GPUs.
    pub gpus: Option<u32>,
    /// At most so many ports.
    pub ports: Option<u32>,
    /// At most so many tasks.
    pub tasks: Option<u32>,
    /// Without the requirement.
    pub without_where: bool,
    /// Not now, but once our own tasks there have ended.
    pub once_drained: bool,
}

/// Changes that are told.
pub(super) const CHANGES: usize = 4;

/// The smallest changes that would make a request fit, of agents with so much room for it.
pub(super) fn changes(
    scene: &Scene<'_>,
    shape: &Shape,
    verdicts: &[Verdict],
    open: &[Resources],
) -> Vec<Change> {
    let wanted = &shape.resources;
    let mut changes = Vec::new();
    let now: Vec<&Resources> = verdicts
        .iter()
        .filter(|verdict| {
            matches!(
                verdict.predicate,
                Predicate::Busy(_) | Predicate::TooSmall(_) | Predicate::SetAside
            ) && scene.offers[verdict.offer].offered
        })
        .map(|verdict| &open[verdict.offer])
        .collect();
    changes.extend(less(wanted, &now, false));
    let bare = verdicts.iter().filter(|verdict| {
        matches!(verdict.predicate, Predicate::Where(_)) && wanted.fits_in(&open[verdict.offer])
    });
    let bare = u32::try_from(bare.count()).unwrap_or(u32::MAX);
    if bare > 0 {
        changes.push(Change {
            text: format!("fits now on {} without its `where`", agents(bare)),
            agents: bare,
            without_where: true,
            ..Change::default()
        });
    }
    if verdicts.iter().all(|verdict| {
        matches!(
            verdict.predicate,
            Predicate::TooSmall(_) | Predicate::Where(_) | Predicate::GpusKept
        )
    }) {
        // It will never fit as it is: what would, if it waited?
        let all: Vec<&Resources> = verdicts
            .iter()
            .filter(|verdict| matches!(verdict.predicate, Predicate::TooSmall(_)))
            .map(|verdict| &scene.offers[verdict.offer].total)
            .collect();
        let more = less(wanted, &all, true);
        changes.extend(
            more.into_iter()
                .filter(|change| !changes_contain(&now, wanted, change)),
        );
    }
    changes.truncate(CHANGES);
    changes
}

/// Whether asking for less, as the change says, would fit at once: then the wait need not be told.
fn changes_contain(now: &[&Resources], wanted: &Resources, change: &Change) -> bool {
    let asked = change.applied(wanted);
    now.iter().any(|room| asked.fits_in(room))
}

/// Amounts that would fit: for each set of resources of which there is too little somewhere, the
/// most that one agent of those has.
fn less(wanted: &Resources, rooms: &[&Resources], once_drained: bool) -> Vec<Change> {
    let mut best: BTreeMap<Vec<Shortage>, Resources> = BTreeMap::new();
    for room in rooms {
        let short: Vec<Shortage> = shortages(wanted, room).collect();
        if short.is_empty() {
            continue;
        }
        let have = best.entry(short.clone()).or_insert(**room);
        // The one that comes nearest: of what is short there, the larger share of what is wanted.
        if nearness(wanted, room, &short) > nearness(wanted, have, &short) {
            *have = **room;
        }
    }
    let mut changes: Vec<(usize, u64, Change)> = best
        .into_iter()
        .filter(|(_, best)| best.cpus.0 > 0 && best.mem.0 > 0)
        .map(|(short, best)| {
            let near = nearness(wanted, &best, &short);
            let mut change = Change {
                once_drained,
                ..Change::default()
            };
            for shortage in &short {
                match shortage {
                    Shortage::Cpus => change.cpus = Some(best.cpus),
                    // Rounded down to whole mebibytes, as it is told, so that it does fit.
                    Shortage::Mem => change.mem = Some(Bytes::from_mib(best.mem.0 >> 20)),
                    Shortage::Disk => change.disk = Some(Bytes::from_mib(best.disk.0 >> 20)),
                    Shortage::Gpus => change.gpus = Some(best.gpus),
                    Shortage::Ports => change.ports = Some(best.ports),
                }
            }
            let asked = change.applied(wanted);
            let fitting = rooms.iter().filter(|room| asked.fits_in(room)).count();
            change.agents = u32::try_from(fitting).unwrap_or(u32::MAX);
            let limits: Vec<String> = short
                .iter()
                .map(|shortage| {
                    let (name, amount) = shortage.of(&asked);
                    let none = *shortage == Shortage::Gpus && asked.gpus == 0;
                    let sign = if none { '=' } else { '≤' };
                    format!("{name} {sign} {amount}")
                })
                .collect();
            let when = if once_drained {
                ", once they are empty,"
            } else {
                " now"
            };
            change.text = format!(
                "fits{when} on {} if {}",
                agents(change.agents),
                limits.join(" and ")
            );
            (short.len(), near, change)
        })
        .collect();
    // Fewest resources first, then the smallest reduction, then what opens most agents.
    changes.sort_by_key(|(short, near, change)| (*short, Reverse(*near), Reverse(change.agents)));
    changes.into_iter().map(|(.., change)| change).collect()
}

impl Change {
    /// What is asked for after the change.
    pub fn applied(&self, wanted: &Resources) -> Resources {
        Resources {
            cpus: self.cpus.unwrap_or(wanted.cpus),
            mem: self.mem.unwrap_or(wanted.mem),
            disk: self.disk.unwrap_or(wanted.disk),
            gpus: self.gpus.unwrap_or(wanted.gpus),
            ports: self.ports.unwrap_or(wanted.ports),
            stated: wanted.stated,
        }
    }
}

/// How much of what is wanted is there, in millionths, of the scarcest resource.
fn nearness(wanted: &Resources, room: &Resources, short: &[Shortage]) -> u64 {
    short
        .iter()
        .map(|shortage| {
            let (wanted, room) = (shortage.amount(wanted), shortage.amount(room));
            let share = u128::from(room) * 1_000_000 / u128::from(wanted.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        })
        .min()
        .unwrap_or(0)
}

fn agents(count: u32) -> String {
    match count {
        1 => "1 agent".to_owned(),
        count => format!("{count} agents"),
    }
}
