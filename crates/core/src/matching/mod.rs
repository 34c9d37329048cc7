//! Offer matching: requests against offers, as a function of plain values.
//!
//! ```text
//!   requests ─► order (deadline, fair share, age) ─► per request: constraints, fit, score ─► placements
//!                                                            │
//!                                                            └─► what failed first, per offer ─► reasons
//! ```
//!
//! Requests of a sweep ask for the same thing, so the work is done per [shape](Shape), not
//! per request: constraints are evaluated once per shape and agent, and a shape that found no
//! place in a pass is not tried again, because offers only shrink within one.

mod constraint;
mod order;
mod place;
mod reason;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::constraint::Constraints;
pub use self::reason::{Misfit, Shortage};
use crate::expression::Expression;
use crate::resources::Resources;
use crate::units::{Duration, Timestamp};

/// What a request asks for: requests of one shape are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Shape {
    /// Amounts, of each task.
    pub resources: Resources,
    /// Must hold for the agent.
    pub require: Option<Expression>,
    /// Should hold for the agent.
    pub prefer: Option<Expression>,
    /// The region whose agents are taken first; empty: no matter.
    pub region: String,
    /// How many tasks, and how they stand together.
    pub gang: Gang,
    /// May be ended for others' sake, and may therefore use what can be taken away again.
    pub preemptible: bool,
    /// What the tasks of the step should not share, as far as there is a choice.
    pub spread: Option<Spread>,
    /// For how long it runs at most, if known: agents that go down before that are avoided.
    pub lasts: Option<Duration>,
}

/// Tasks that are placed together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gang {
    /// How many; 1 for the ordinary request.
    pub tasks: u32,
    /// No two on one agent.
    pub apart: bool,
    /// All in one zone of one region.
    pub one_zone: bool,
}

impl Default for Gang {
    fn default() -> Self {
        Self {
            tasks: 1,
            apart: false,
            one_zone: false,
        }
    }
}

/// What the tasks of a step should not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// An agent.
    Agents,
    /// A zone, and within it an agent.
    Zones,
}

/// A request that waits for a place.
#[derive(Debug, Clone)]
pub struct Request {
    /// Index into [`Problem::shapes`].
    pub shape: usize,
    /// Index into [`Problem::owners`].
    pub owner: usize,
    /// Wanted done by then.
    pub deadline: Option<Timestamp>,
    /// When it was enqueued: older ones go first, other things being equal.
    pub since: Timestamp,
}

/// Resources of one agent that are ours to use for a moment.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The agent's id.
    pub agent: String,
    /// The agent's host name.
    pub hostname: String,
    /// Its region, empty if it does not say.
    pub region: String,
    /// Its zone, empty if it does not say.
    pub zone: String,
    /// Its attributes: scalars as numbers, texts as strings, ranges as text.
    pub attributes: BTreeMap<String, Value>,
    /// What may be used now, and is kept for as long as it is used.
    pub free: Resources,
    /// What may be used now beside that, and may be taken away again (oversubscription): only
    /// for requests that are [`preemptible`](Shape::preemptible).
    pub revocable: Resources,
    /// What the agent has, as far as we know: free and what our own tasks hold there.
    pub total: Resources,
    /// Whether an executor of ours already runs there.
    pub warm: bool,
    /// When its machine will be down.
    pub outage: Option<Outage>,
}

/// A time in which a machine is down, as its operator has announced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// From.
    pub from: Timestamp,
    /// Until; for ever when absent.
    pub until: Option<Timestamp>,
}

/// Somebody who pays.
#[derive(Debug, Clone, Default)]
pub struct Owner {
    /// What its running tasks hold.
    pub held: Resources,
}

/// How places are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Fill agents one after the other, or spread over them.
    pub packing: Packing,
    /// Keep agents that have GPUs for steps that ask for some.
    pub keep_gpus: bool,
    /// A request that fits nowhere now but could once an agent drains gets that agent kept
    /// free for it after it has waited so long, so that small ones cannot starve it.
    pub protect_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            packing: Packing::Pack,
            keep_gpus: true,
            protect_after: Duration::from_secs(30),
        }
    }
}

/// Which of the agents that fit is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// The fullest: leaves whole agents for big tasks.
    Pack,
    /// The emptiest: evens out load.
    Spread,
}

/// Everything that a matching depends on.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// The distinct shapes.
    pub shapes: &'a [Shape],
    /// The distinct owners.
    pub owners: &'a [Owner],
    /// What waits.
    pub requests: &'a [Request],
    /// What is offered, at most one per agent (offers of one agent are merged before).
    pub offers: &'a [Offer],
    /// How to choose.
    pub policy: Policy,
    /// The time.
    pub now: Timestamp,
}

/// Who goes where.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    /// Request and offer, by index, in the order of decision.
    pub placements: Vec<(usize, usize)>,
    /// For each shape that still has requests waiting: why.
    pub misfits: BTreeMap<usize, Misfit>,
    /// Offers that are kept free for a big request that waits.
    pub protected: Vec<usize>,
}

/// Finds places for as many requests as possible, in order, and the reasons for the rest.
///
/// Deterministic. `constraints` remembers what expressions gave for which agent, between
/// calls as well.
pub fn match_offers(problem: &Problem<'_>, constraints: &mut Constraints) -> Matching {
    place::Pass::new(problem, constraints).run()
}
