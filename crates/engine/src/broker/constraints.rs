//! Which agents are of use to those who wait, told to the resource manager, so that it sends no
//! offers in vain: offer constraints and least allocatable resources
//! (`include/mesos/v1/scheduler/scheduler.proto`, OfferConstraints; `mesos.proto`, OfferFilters).
//!
//! It must never hide an offer that somebody could use, so it is told only what surely holds
//! ([`Demands`](meson_core::expression::Demands)), only of those who have waited a while, and
//! taken back at once when somebody comes whom it would harm.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use meson_core::expression::Demand;
use meson_core::matching::Shape;
use meson_core::resources::Resources;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::resources::from_fixed;
use meson_mesos::scheduler::UpdateFramework;
use meson_mesos::types::FrameworkInfo;
use serde_json::{Map, Value, json};

use super::launch::amounts;

/// Least time between two tightenings: the master forgets nothing, but walks over all agents.
const TIGHTEN_EVERY: Duration = Duration::from_secs(5);
/// After so long, what may not have arrived is said again.
const DOUBT_FOR: Duration = Duration::from_secs(1);
/// Shapes beyond this many in one role are not told apart: everything is of use.
const SHAPES: usize = 64;
/// Most alternatives that are told, per role.
const GROUPS: usize = 64;

/// What is of use to one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// One of these must hold in full. None: any agent.
    groups: Option<BTreeSet<Vec<Demand>>>,
    /// One of these must fit. None: any amount.
    least: Option<Vec<Resources>>,
}

impl Use {
    /// What is of use to these.
    pub(super) fn of<'a>(shapes: impl Iterator<Item = &'a Shape>) -> Self {
        let shapes: Vec<&Shape> = shapes.collect();
        if shapes.is_empty() || shapes.len() > SHAPES {
            return Self::default();
        }
        let mut groups = Some(BTreeSet::new());
        let mut least: Vec<Resources> = Vec::new();
        for shape in shapes {
            groups = match (groups, demands(shape)) {
                (Some(mut all), Some(more)) => {
                    all.extend(more);
                    (all.len() <= GROUPS).then_some(all)
                }
                _ => None,
            };
            least.push(shape.resources);
        }
        let all = least.clone();
        least.retain(|one| !all.iter().any(|other| other != one && other.fits_in(one)));
        least.dedup();
        let nothing = amounts(&Resources::ZERO);
        let least = (!least.iter().any(|one| amounts(one) == nothing)).then_some(least);
        Self { groups, least }
    }

    /// Whether all offers that are of use to `shape` are among these.
    fn covers(&self, shape: &Shape) -> bool {
        let agents = match (&self.groups, demands(shape)) {
            (None, _) => true,
            (Some(known), Some(needed)) => needed.iter().all(|group| known.contains(group)),
            (Some(_), None) => false,
        };
        let room = self
            .least
            .as_ref()
            .is_none_or(|least| least.iter().any(|one| one.fits_in(&shape.resources)));
        agents && room
    }
}

fn demands(shape: &Shape) -> Option<Vec<Vec<Demand>>> {
    // One that cannot be read holds nowhere; whoever explains that to people needs offers to do so.
    shape.require.as_ref()?.demands().ok().flatten()
}

/// What the resource manager was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By role; roles that are not there have no constraints.
    uses: BTreeMap<String, Use>,
    /// Shapes that were found to be covered.
    covered: HashSet<(String, Shape)>,
    /// When it was last changed.
    at: Option<Timestamp>,
    /// It may not have arrived.
    doubtful: bool,
}

impl Told {
    /// A new session: nothing was told.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// What was told last may not have arrived.
    pub(super) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Whether all of these get all offers that they can use, as far as we know.
    pub(super) fn covers<'a>(
        &mut self,
        role: &str,
        mut shapes: impl Iterator<Item = &'a Shape>,
    ) -> bool {
        let Some(told) = self.uses.get(role) else {
            return true;
        };
        shapes.all(|shape| {
            let key = (role.to_owned(), shape.clone());
            let covered = self.covered.contains(&key) || told.covers(shape);
            if covered && self.covered.len() < SHAPES * SHAPES {
                self.covered.insert(key);
            }
            covered
        })
    }

    /// Takes back what was told for these roles. True if that is to be said.
    pub(super) fn relax(&mut self, roles: &BTreeSet<String>, now: Timestamp) -> bool {
        let mut say = false;
        for role in roles {
            say |= self.uses.remove(role).is_some();
        }
        if self.doubtful && self.since(now).is_none_or(|since| since >= DOUBT_FOR) {
            self.uses.clear();
            say = true;
        }
        if say {
            self.covered.clear();
            self.doubtful = false;
            self.at = Some(now);
        }
        say
    }

    /// Tells what is of use to each role. True if that is news.
    pub(super) fn tighten(&mut self, mut wanted: BTreeMap<String, Use>, now: Timestamp) -> bool {
        wanted.retain(|_, told| *told != Use::default());
        // Thought of, if not said: or it would be thought of again at once, and for ever.
        self.at = Some(now);
        if wanted == self.uses {
            return false;
        }
        self.uses = wanted;
        self.covered.clear();
        true
    }

    fn since(&self, now: Timestamp) -> Option<Duration> {
        self.at.map(|at| now.since(at))
    }

    /// Whether tightening is worth a thought again.
    pub(super) fn may_tighten(&self, now: Timestamp) -> bool {
        !self.doubtful && self.since(now).is_none_or(|since| since >= TIGHTEN_EVERY)
    }

    /// When there is something to do by itself.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let at = self.at?;
        Some(at.after(if self.doubtful {
            DOUBT_FOR
        } else {
            TIGHTEN_EVERY
        }))
    }

    /// As a call. Who the framework is otherwise, whoever sends it fills in.
    pub(super) fn call(&self, suppressed_roles: Vec<String>) -> UpdateFramework {
        let mut constraints = Map::new();
        let mut filters = Map::new();
        for (role, told) in &self.uses {
            if let Some(groups) = &told.groups {
                let groups: Vec<Value> = groups.iter().map(|group| self::group(group)).collect();
                constraints.insert(role.clone(), json!({ "groups": groups }));
            }
            if let Some(least) = &told.least {
                let quantities: Vec<Value> = least.iter().map(quantities).collect();
                let least = json!({ "quantities": quantities });
                filters.insert(role.clone(), json!({ "min_allocatable_resources": least }));
            }
        }
        UpdateFramework {
            framework_info: FrameworkInfo {
                offer_filters: (!filters.is_empty()).then_some(Value::Object(filters)),
                ..FrameworkInfo::default()
            },
            suppressed_roles,
            offer_constraints: (!constraints.is_empty())
                .then(|| json!({ "role_constraints": constraints })),
        }
    }
}

fn group(tests: &[Demand]) -> Value {
    let tests: Vec<Value> = tests
        .iter()
        .map(|test| {
            let (selector, predicate) = match test {
                Demand::Has { attribute } => (
                    json!({ "attribute_name": attribute }),
                    json!({ "exists": {} }),
                ),
                Demand::Is { attribute, text } => (
                    json!({ "attribute_name": attribute }),
                    json!({ "text_equals": { "value": text } }),
                ),
                Demand::Like {
                    attribute,
                    prefix,
                    part,
                    suffix,
                } => (
                    json!({ "attribute_name": attribute }),
                    like(prefix, part, suffix),
                ),
                Demand::Host { name } => (
                    json!({ "pseudoattribute_type": "HOSTNAME" }),
                    json!({ "text_equals": { "value": name } }),
                ),
            };
            json!({ "selector": selector, "predicate": predicate })
        })
        .collect();
    json!({ "attribute_constraints": tests })
}

/// A regular expression in RE2's words, which must match the whole text.
fn like(prefix: &str, part: &str, suffix: &str) -> Value {
    if ![prefix, part, suffix].iter().all(|text| text.is_ascii()) {
        return json!({ "exists": {} });
    }
    let quoted = |text: &str| {
        let mut quoted = String::new();
        for c in text.chars() {
            if !c.is_ascii_alphanumeric() {
                // In hexadecimal, nothing has a meaning of its own.
                quoted.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
            } else {
                quoted.push(c);
            }
        }
        quoted
    };
    let regex = format!(
        "(?s){}.*{}.*{}",
        quoted(prefix),
        quoted(part),
        quoted(suffix)
    );
    json!({ "text_matches": { "regex": regex } })
}

fn quantities(least: &Resources) -> Value {
    let quantities: Map<String, Value> = amounts(least)
        .into_iter()
        .filter(|&(_, amount)| amount > 0)
        .map(|(name, amount)| (name.to_owned(), json!({ "value": from_fixed(amount) })))
        .collect();
    json!({ "quantities": quantities })
}

#[cfg(test)]
#[path = "constraints_tests.rs"]
mod tests;
