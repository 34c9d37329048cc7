//! Why a request waits, and the smallest changes that would make it fit.
//!
//! Nothing of this is worked out while places are found: it is asked of what a matching left
//! behind ([`Scene`]), for the few requests that somebody asks about.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::constraint::Refusal;
use super::gang::slots;
use super::place::mixed;
use super::{Constraints, Offer, Shape};
use crate::resources::{MilliCpus, Resources};
use crate::units::Bytes;

/// What a matching left behind, as one class sees it.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The agents.
    pub offers: &'a [Offer],
    /// What is left of each; see [`Matching::left`](super::Matching::left).
    pub left: &'a [Resources],
    /// See [`Matching::lent`](super::Matching::lent).
    pub lent: &'a [Resources],
    /// Room that is set aside for others, by offer.
    pub kept: &'a [(usize, Resources)],
    /// See [`Policy::keep_gpus`](super::Policy::keep_gpus).
    pub keep_gpus: bool,
}

/// Why a request waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misfit {
    /// The first predicate that fails, for each agent.
    pub verdicts: Vec<Verdict>,
    /// The same, counted; the most frequent first.
    pub reasons: Vec<Reason>,
    /// Changes to what is asked for that would make it fit; the smallest first.
    pub changes: Vec<Change>,
    /// On how many agents it would fit once our own tasks there have ended: waiting helps.
    pub once_drained: u32,
    /// Of a gang: how many of its tasks have room now.
    pub tasks_now: Option<u32>,
}

/// The first thing that stands in the way on one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Index of the agent's offer.
    pub offer: usize,
    /// What fails.
    pub predicate: Predicate,
}

/// Something that must hold for an agent to be used. In the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Predicate {
    /// Agents with GPUs are kept for who asks for some.
    GpusKept,
    /// The step's own requirement; what it says.
    Where(String),
    /// The agent is too small, even when empty.
    TooSmall(Shortage),
    /// Too little is free.
    Busy(Shortage),
    /// Nothing of the agent is offered now, although our own tasks leave room there.
    NotOffered,
    /// There is room, but it is set aside for who has waited longer.
    SetAside,
    /// Nothing: one task has room there.
    Fits,
}

impl Predicate {
    /// A name that does not change.
    pub fn code(&self) -> &'static str {
        match self {
            Self::GpusKept => "gpus_kept",
            Self::Where(_) => "where",
            Self::TooSmall(shortage) => shortage.codes().1,
            Self::NotOffered => "not_offered",
            Self::Busy(shortage) => shortage.codes().0,
            Self::SetAside => "set_aside",
            Self::Fits => "fits",
        }
    }
}

/// A resource of which there is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// Processor time.
    Cpus,
    /// Memory.
    Mem,
    /// Scratch space.
    Disk,
    /// GPUs.
    Gpus,
}

/// A predicate and on how many agents it is the first to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Which.
    pub predicate: Predicate,
    /// In words.
    pub text: String,
    /// On so many agents.
    pub agents: u32,
}

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
    /// At most so many tasks.
    pub tasks: Option<u32>,
    /// Without the requirement.
    pub without_where: bool,
    /// Not now, but once our own tasks there have ended.
    pub once_drained: bool,
}

/// Changes that are told.
const CHANGES: usize = 4;

/// Why a request of this shape waits.
pub fn explain(scene: &Scene<'_>, shape: &Shape, constraints: &mut Constraints) -> Misfit {
    let wanted = &shape.resources;
    // What is not offered may be free for all that we know, but for what our own tasks hold.
    let left: Vec<Resources> = scene
        .offers
        .iter()
        .zip(scene.left)
        .map(|(offer, left)| match offer.offered {
            true => *left,
            false => offer.total.minus(&offer.held),
        })
        .collect();
    let mut rooms = left.clone();
    for (offer, amount) in scene.kept {
        rooms[*offer] = rooms[*offer].minus(amount);
    }
    let room = |room: &Resources, offer: usize| {
        if shape.preemptible {
            mixed(wanted, room, &scene.lent[offer])
        } else {
            *room
        }
    };
    let mut misfit = Misfit::default();
    for (index, offer) in scene.offers.iter().enumerate() {
        let predicate = match constraints.refusal(shape, offer, scene.keep_gpus) {
            Some(Refusal::GpusKept) => Predicate::GpusKept,
            Some(Refusal::Where(text)) => Predicate::Where(text),
            None => {
                let all = room(&offer.total.max(&left[index]), index);
                let left = room(&left[index], index);
                let open = room(&rooms[index], index);
                let first = |room| shortages(wanted, room).first().copied();
                match (first(&all), first(&left), first(&open)) {
                    (Some(shortage), ..) => Predicate::TooSmall(shortage),
                    (_, Some(shortage), _) => Predicate::Busy(shortage),
                    _ if !offer.offered => Predicate::NotOffered,
                    (.., Some(_)) => Predicate::SetAside,
                    _ => Predicate::Fits,
                }
            }
        };
        if matches!(
            predicate,
            Predicate::NotOffered | Predicate::Busy(_) | Predicate::SetAside
        ) {
            misfit.once_drained += 1;
        }
        misfit.verdicts.push(Verdict {
            offer: index,
            predicate,
        });
    }
    let open: Vec<Resources> = rooms
        .iter()
        .enumerate()
        .map(|(offer, left)| room(left, offer))
        .collect();
    misfit.reasons = count(scene, wanted, &misfit.verdicts, &left);
    misfit.changes = changes(scene, shape, &misfit.verdicts, &open);
    if shape.gang.tasks > 1 {
        misfit.gang(scene, shape, &rooms);
    }
    misfit
}

impl Misfit {
    /// How much of a gang has room now: on all agents, or in the best zone.
    fn gang(&mut self, scene: &Scene<'_>, shape: &Shape, rooms: &[Resources]) {
        let mut by_zone: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for verdict in &self.verdicts {
            if verdict.predicate != Predicate::Fits {
                continue;
            }
            let agent = &scene.offers[verdict.offer].agent;
            let zone = if shape.gang.one_zone {
                (agent.region(), agent.zone())
            } else {
                ("", "")
            };
            let tasks = slots(shape, &rooms[verdict.offer], &scene.lent[verdict.offer]);
            let zone = by_zone.entry(zone).or_default();
            *zone = zone.saturating_add(tasks);
        }
        let now = by_zone.into_values().max().unwrap_or(0);
        self.tasks_now = Some(now.min(shape.gang.tasks));
        if now > 0 && now < shape.gang.tasks {
            self.changes.insert(
                0,
                Change {
                    text: format!("fits now with {now} tasks instead of {}", shape.gang.tasks),
                    tasks: Some(now),
                    ..Change::default()
                },
            );
            self.changes.truncate(CHANGES);
        }
    }
}

/// What fails first, and where; the most frequent first.
fn count(
    scene: &Scene<'_>,
    wanted: &Resources,
    verdicts: &[Verdict],
    rooms: &[Resources],
) -> Vec<Reason> {
    // With the most that one of the agents has left and in all.
    let mut counted: BTreeMap<&Predicate, (u32, Resources, Resources)> = BTreeMap::new();
    for Verdict { offer, predicate } in verdicts {
        let (agents, left, total) =
            counted
                .entry(predicate)
                .or_insert((0, Resources::ZERO, Resources::ZERO));
        *agents += 1;
        *left = left.max(&rooms[*offer]);
        *total = total.max(&scene.offers[*offer].total);
    }
    let mut reasons: Vec<Reason> = counted
        .into_iter()
        .map(|(predicate, (agents, left, total))| Reason {
            text: match predicate {
                Predicate::GpusKept => {
                    "the agent's GPUs are kept for steps that ask for some".to_owned()
                }
                Predicate::Where(text) => format!("where: {text}"),
                Predicate::TooSmall(shortage) | Predicate::Busy(shortage) => {
                    let (name, wants) = shortage.of(wanted);
                    let (left, total) = (shortage.of(&left).1, shortage.of(&total).1);
                    format!("{name}: wants {wants}, at most {left} free of {total}")
                }
                Predicate::NotOffered => {
                    "nothing of it is offered now: others use it, or its next offer is awaited"
                        .to_owned()
                }
                Predicate::SetAside => {
                    "its room is set aside for a step that has waited longer".to_owned()
                }
                Predicate::Fits => "there is room".to_owned(),
            },
            predicate: predicate.clone(),
            agents,
        })
        .collect();
    reasons.sort_by(|a, b| {
        // That there is room somewhere explains nothing (of a gang, it is not enough): last.
        let key = |reason: &Reason| (reason.predicate == Predicate::Fits, Reverse(reason.agents));
        key(a).cmp(&key(b)).then_with(|| a.text.cmp(&b.text))
    });
    reasons
}

fn changes(
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
        let short = shortages(wanted, room);
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
                }
            }
            let asked = change.applied(wanted);
            let fitting = rooms.iter().filter(|room| asked.fits_in(room)).count();
            change.agents = u32::try_from(fitting).unwrap_or(u32::MAX);
            let limits: Vec<String> = short
                .iter()
                .map(|shortage| {
                    let (name, amount) = shortage.of(&asked);
                    format!("{name} ≤ {amount}")
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

/// Resources of which there is too little, in a fixed order.
pub(super) fn shortages(wanted: &Resources, left: &Resources) -> Vec<Shortage> {
    let all = [
        Shortage::Cpus,
        Shortage::Mem,
        Shortage::Disk,
        Shortage::Gpus,
    ];
    all.into_iter()
        .filter(|shortage| shortage.amount(wanted) > shortage.amount(left))
        .collect()
}

impl Shortage {
    /// The amount, in its smallest unit.
    pub fn amount(self, resources: &Resources) -> u64 {
        match self {
            Self::Cpus => resources.cpus.0,
            Self::Mem => resources.mem.0,
            Self::Disk => resources.disk.0,
            Self::Gpus => resources.gpus.into(),
        }
    }

    /// The resource's name and its amount, as people write them.
    pub fn of(self, resources: &Resources) -> (&'static str, String) {
        match self {
            Self::Cpus => ("cpus", cpus(resources.cpus)),
            Self::Mem => ("mem", size(resources.mem)),
            Self::Disk => ("disk", size(resources.disk)),
            Self::Gpus => ("gpus", resources.gpus.to_string()),
        }
    }

    /// Too little is free; the agent has too little in all.
    fn codes(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpus => ("cpus", "cpus_total"),
            Self::Mem => ("mem", "mem_total"),
            Self::Disk => ("disk", "disk_total"),
            Self::Gpus => ("gpus", "gpus_total"),
        }
    }
}

fn agents(count: u32) -> String {
    match count {
        1 => "1 agent".to_owned(),
        count => format!("{count} agents"),
    }
}

fn cpus(cpus: MilliCpus) -> String {
    if cpus.0.is_multiple_of(1000) {
        (cpus.0 / 1000).to_string()
    } else {
        format!("{:.3}", cpus.0 as f64 / 1000.0)
    }
}

/// Rounded down to whole mebibytes, so that what it suggests does fit.
fn size(bytes: Bytes) -> String {
    Bytes::from_mib(bytes.0 >> 20).to_string()
}
