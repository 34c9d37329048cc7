//! Why a request waits, and why an offer is of no use to anybody.
//!
//! Nothing of this is worked out while places are found: it is asked of what a matching left
//! behind ([`Scene`]), for the few requests that somebody asks about.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::change::{CHANGES, Change, changes};
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
    /// Ports.
    Ports,
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

/// Why a request of this shape waits.
pub fn explain(scene: &Scene<'_>, shape: &Shape, constraints: &mut Constraints) -> Misfit {
    let wanted = &shape.resources;
    let left: Vec<Resources> = (0..scene.offers.len())
        .map(|index| scene.rest(index))
        .collect();
    let mut rooms = left.clone();
    for (offer, amount) in scene.kept {
        rooms[*offer] = rooms[*offer].minus(amount);
    }
    let mut misfit = Misfit::default();
    for index in 0..scene.offers.len() {
        let predicate = first_failing(
            scene,
            shape,
            index,
            &left[index],
            &rooms[index],
            constraints,
        );
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
        .map(|(offer, left)| scene.room(shape, left, offer))
        .collect();
    misfit.reasons = count(scene, wanted, &misfit.verdicts, &left);
    misfit.changes = changes(scene, shape, &misfit.verdicts, &open);
    if shape.gang.tasks > 1 {
        misfit.gang(scene, shape, &rooms);
    }
    misfit
}

/// What stands between an offer that nobody took and those who wait: of what fails for each of
/// them, that which is asked last ([`Predicate`] is in order), so it speaks of whoever comes nearest
/// to using the offer. [`Predicate::Fits`], if one task of somebody's has room there and others of it
/// have none elsewhere; nothing, if nobody waits.
///
/// Far less than [`explain`]: one offer, and of each of those who wait the first thing that fails.
/// Each stands with what is set aside on the offer for others than it.
pub fn nearest<'s>(
    scene: &Scene<'_>,
    offer: usize,
    waiting: impl IntoIterator<Item = (&'s Shape, Resources)>,
    constraints: &mut Constraints,
) -> Option<Predicate> {
    let left = scene.rest(offer);
    let mut nearest = None;
    for (shape, kept) in waiting {
        let open = left.minus(&kept);
        let fails = first_failing(scene, shape, offer, &left, &open, constraints);
        nearest = nearest.max(Some(fails));
        if nearest == Some(Predicate::Fits) {
            break;
        }
    }
    nearest
}

/// The first thing that stands in the way of one task on one agent, of which so much is left and so
/// much of that is not set aside for others.
fn first_failing(
    scene: &Scene<'_>,
    shape: &Shape,
    index: usize,
    left: &Resources,
    open: &Resources,
    constraints: &mut Constraints,
) -> Predicate {
    let offer = &scene.offers[index];
    match constraints.refusal(shape, offer, scene.keep_gpus) {
        Some(Refusal::GpusKept) => return Predicate::GpusKept,
        Some(Refusal::Where(text)) => return Predicate::Where(text),
        None => {}
    }
    let short = |room: &Resources| {
        let room = scene.room(shape, room, index);
        shortages(&shape.resources, &room).next()
    };
    if let Some(shortage) = short(&offer.total.max(left)) {
        return Predicate::TooSmall(shortage);
    }
    if let Some(shortage) = short(left) {
        return Predicate::Busy(shortage);
    }
    if !offer.offered {
        return Predicate::NotOffered;
    }
    match short(open) {
        Some(_) => Predicate::SetAside,
        None => Predicate::Fits,
    }
}

impl Scene<'_> {
    /// What is left of an agent. What is not offered may be free for all that we know, but for what
    /// our own tasks hold.
    fn rest(&self, index: usize) -> Resources {
        let offer = &self.offers[index];
        if offer.offered {
            self.left[index]
        } else {
            offer.total.minus(&offer.held)
        }
    }

    /// What of it is there for a task of this shape, with what it may borrow.
    fn room(&self, shape: &Shape, left: &Resources, index: usize) -> Resources {
        if shape.preemptible {
            mixed(&shape.resources, left, &self.lent[index])
        } else {
            *left
        }
    }
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
                // Not a question of how many: there are resource managers that have none to give.
                Predicate::TooSmall(Shortage::Ports) if total.ports == 0 => format!(
                    "ports: wants {}, but there are none to give: a Mesos agent has those of its `ports` \
                     resource, a Slurm node has none",
                    wanted.ports
                ),
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

/// Resources of which there is too little, in a fixed order.
pub(super) fn shortages<'a>(
    wanted: &'a Resources,
    left: &'a Resources,
) -> impl Iterator<Item = Shortage> + use<'a> {
    Shortage::ALL
        .into_iter()
        .filter(|shortage| shortage.amount(wanted) > shortage.amount(left))
}

impl Shortage {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Cpus, Self::Mem, Self::Disk, Self::Gpus, Self::Ports];

    /// The amount, in its smallest unit.
    pub fn amount(self, resources: &Resources) -> u64 {
        match self {
            Self::Cpus => resources.cpus.0,
            Self::Mem => resources.mem.0,
            Self::Disk => resources.disk.0,
            Self::Gpus => resources.gpus.into(),
            Self::Ports => resources.ports.into(),
        }
    }

    /// The resource's name and its amount, as people write them.
    pub fn of(self, resources: &Resources) -> (&'static str, String) {
        match self {
            Self::Cpus => ("cpus", cpus(resources.cpus)),
            Self::Mem => ("mem", size(resources.mem)),
            Self::Disk => ("disk", size(resources.disk)),
            Self::Gpus => ("gpus", resources.gpus.to_string()),
            Self::Ports => ("ports", resources.ports.to_string()),
        }
    }

    /// Too little is free; the agent has too little in all.
    fn codes(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpus => ("cpus", "cpus_total"),
            Self::Mem => ("mem", "mem_total"),
            Self::Disk => ("disk", "disk_total"),
            Self::Gpus => ("gpus", "gpus_total"),
            Self::Ports => ("ports", "ports_total"),
        }
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
