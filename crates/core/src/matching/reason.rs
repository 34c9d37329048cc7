//! Why a request waits, and the smallest changes that would make it fit.

use std::collections::BTreeMap;

use crate::resources::{MilliCpus, Resources};
use crate::units::Bytes;

/// Why nothing of a shape fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misfit {
    /// The first failing predicate and on how many agents it fails, most frequent first.
    pub reasons: Vec<(String, u32)>,
    /// Changes to what is asked for, each with the number of agents that it would fit on.
    pub would_fit: Vec<String>,
    /// Whether some agent could take it once it is empty: waiting helps.
    pub fits_when_drained: bool,
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

/// Why one offer was not used.
pub(super) enum Rejection<'a> {
    /// A predicate other than room failed.
    Constraint(&'a str),
    /// Too little room.
    Room {
        left: Resources,
        total: Resources,
        protected: bool,
    },
}

pub(super) fn explain<'a>(
    wanted: &Resources,
    rejections: impl Iterator<Item = Rejection<'a>>,
) -> Misfit {
    let mut constraints: BTreeMap<String, u32> = BTreeMap::new();
    // Per first shortage: how many agents, and the most that one of them has left and in all.
    let mut rooms: BTreeMap<Shortage, (u32, Resources, Resources)> = BTreeMap::new();
    let mut protected_agents = 0;
    let mut fits_when_drained = false;
    let mut changes: BTreeMap<Vec<Shortage>, (u32, Resources)> = BTreeMap::new();

    for rejection in rejections {
        let (left, total, protected) = match rejection {
            Rejection::Constraint(predicate) => {
                *constraints.entry(predicate.to_owned()).or_default() += 1;
                continue;
            }
            Rejection::Room {
                left,
                total,
                protected,
            } => (left, total, protected),
        };
        fits_when_drained |= wanted.fits_in(&total);
        let short = shortages(wanted, &left);
        let Some(&first) = short.first() else {
            protected_agents += u32::from(protected);
            continue;
        };
        let entry = rooms.entry(first).or_insert((0, left, total));
        entry.0 += 1;
        entry.1 = entry.1.max(&left);
        entry.2 = entry.2.max(&total);
        let change = changes.entry(short).or_insert((0, left));
        change.0 += 1;
        change.1 = change.1.max(&left);
    }

    let mut reasons: Vec<(String, u32)> = constraints.into_iter().collect();
    reasons.extend(rooms.iter().map(|(shortage, (agents, left, total))| {
        let (name, wants) = shortage.of(wanted);
        (
            format!(
                "{name}: wants {wants}, at most {} free of {}",
                shortage.of(left).1,
                shortage.of(total).1
            ),
            *agents,
        )
    }));
    if protected_agents > 0 {
        reasons.push((
            "kept free for a bigger step that has waited longer".to_owned(),
            protected_agents,
        ));
    }
    reasons.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));

    let mut changes: Vec<_> = changes
        .into_iter()
        .filter(|(_, (_, best))| best.cpus.0 > 0 && best.mem.0 > 0)
        .collect();
    // Fewest changes first, then the one that opens most agents.
    changes.sort_by_key(|(short, (agents, _))| (short.len(), std::cmp::Reverse(*agents)));
    let would_fit = changes
        .into_iter()
        .take(3)
        .map(|(short, (_, best))| suggestion(&short, &best))
        .collect();
    Misfit {
        reasons,
        would_fit,
        fits_when_drained,
    }
}

fn shortages(wanted: &Resources, left: &Resources) -> Vec<Shortage> {
    [
        (wanted.cpus > left.cpus, Shortage::Cpus),
        (wanted.mem > left.mem, Shortage::Mem),
        (wanted.disk > left.disk, Shortage::Disk),
        (wanted.gpus > left.gpus, Shortage::Gpus),
    ]
    .into_iter()
    .filter_map(|(short, what)| short.then_some(what))
    .collect()
}

fn suggestion(short: &[Shortage], best: &Resources) -> String {
    let limits: Vec<String> = short
        .iter()
        .map(|shortage| {
            let (name, amount) = shortage.of(best);
            format!("{name} ≤ {amount}")
        })
        .collect();
    format!("fits now if {}", limits.join(" and "))
}

impl Shortage {
    /// The resource's name and its amount, as people write them.
    fn of(self, resources: &Resources) -> (&'static str, String) {
        match self {
            Self::Cpus => ("cpus", cpus(resources.cpus)),
            Self::Mem => ("mem", size(resources.mem)),
            Self::Disk => ("disk", size(resources.disk)),
            Self::Gpus => ("gpus", resources.gpus.to_string()),
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
