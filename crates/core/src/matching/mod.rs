//! Offer matching: requests against offers, as a function of plain values.
//!
//! ```text
//!   who has waited long ─► room is set aside for it
//!   requests ─► order (fair share, deadline, age) ─► per request: constraints, fit, score ─► placements
//!                                                            └─► who got none ─► explain: why
//! ```
//!
//! Requests of a sweep ask for the same thing, so the work is done per [`Class`], not per
//! request: constraints are evaluated once per class and agent, an offer that has too little
//! left for a class is not looked at again for it, and a class that found no place in a pass is
//! not tried again, because offers only shrink within one.
//!
//! * `order`: who goes first. * `reserve`: room for who has waited long.
//! * `place`: the pass itself. * `gang`: several tasks, all or none.
//! * `constraint`: predicates over agents. * `reason`: why a request waits, and why an offer is of
//!   no use. * `change`: what would make a request fit.

mod agent;
mod change;
mod constraint;
mod gang;
mod order;
mod place;
mod reason;
mod reserve;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::agent::Agent;
pub use self::change::Change;
pub use self::constraint::Constraints;
pub use self::reason::{Misfit, Predicate, Reason, Scene, Shortage, Verdict, explain, nearest};
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

impl Gang {
    /// Whether there is one task only.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.tasks <= 1
    }
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

/// Requests that are interchangeable: of one shape and, where that matters, of one step.
#[derive(Debug, Clone, Default)]
pub struct Class {
    /// What they ask for.
    pub shape: Shape,
    /// Offers that are taken only if nothing else fits: the step failed there lately, through no
    /// fault of its own. In ascending order.
    pub avoid: Vec<usize>,
    /// How many tasks of the step run already on an offer's agent; matters to who is to be
    /// [spread](Shape::spread).
    pub running: Vec<(usize, u32)>,
    /// Where room was set aside for it by the call before, as that told in [`Matching::kept`].
    pub kept: Vec<usize>,
    /// It was refused already in the round that the call before did not finish.
    pub seen: bool,
}

/// A request that waits for a place.
#[derive(Debug, Clone)]
pub struct Request {
    /// Index into [`Problem::classes`].
    pub class: usize,
    /// Index into [`Problem::owners`].
    pub owner: usize,
    /// Wanted done by then.
    pub deadline: Option<Timestamp>,
    /// When it was enqueued: older ones go first, other things being equal.
    pub since: Timestamp,
}

/// An agent that we know, and what of it is ours to use for a moment.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Who it is.
    pub agent: Arc<Agent>,
    /// What may be used now, and is kept for as long as it is used. Nothing, if nothing of the
    /// agent is offered now.
    pub free: Resources,
    /// What may be used now beside that, and may be taken away again (oversubscription): only
    /// for requests that are [`preemptible`](Shape::preemptible).
    pub revocable: Resources,
    /// What our own tasks hold there.
    pub held: Resources,
    /// What the agent has, as far as we know: the most that was free and held at once.
    pub total: Resources,
    /// Whether anything of it is offered now; the others are known, so that room can be set aside
    /// on them and reasons can be told.
    pub offered: bool,
    /// When something of it was last offered.
    pub seen_at: Timestamp,
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
#[derive(Debug, Clone)]
pub struct Owner {
    /// What its running tasks hold.
    pub held: Resources,
    /// Who has twice the weight may hold twice as much. At least 1.
    pub weight: u32,
    /// The most that it may hold at once.
    pub quota: Option<Resources>,
}

impl Default for Owner {
    fn default() -> Self {
        Self {
            held: Resources::ZERO,
            weight: 1,
            quota: None,
        }
    }
}

/// How places are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Fill agents one after the other, or spread over them.
    pub packing: Packing,
    /// Keep agents that have GPUs for steps that ask for some.
    pub keep_gpus: bool,
    /// A request that has waited so long gets room set aside on one agent (a gang: on as many as
    /// it needs), so that small ones cannot starve it.
    pub protect_after: Duration,
    /// An agent that goes down within this time is taken only if nothing else fits; so is one
    /// that goes down before the step is expected to end.
    pub outage_margin: Duration,
    /// A call ends after looking at so many pairs of class and offer; the next one goes on.
    pub max_work: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            packing: Packing::Pack,
            keep_gpus: true,
            protect_after: Duration::from_secs(30),
            outage_margin: Duration::from_secs(900),
            max_work: 4_000_000,
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
    /// The distinct classes.
    pub classes: &'a [Class],
    /// The distinct owners.
    pub owners: &'a [Owner],
    /// What waits.
    pub requests: &'a [Request],
    /// The agents, each once (offers of one agent are merged before).
    pub offers: &'a [Offer],
    /// How to choose.
    pub policy: Policy,
    /// The time.
    pub now: Timestamp,
}

/// A task got a place. A gang has as many of these, one after the other, as it has tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Index of the request.
    pub request: usize,
    /// Index of the offer.
    pub offer: usize,
    /// What of its resources comes out of [`Offer::revocable`]: of each resource all or nothing,
    /// since Mesos refuses a task that mixes the two.
    pub revocable: Resources,
}

/// Room that is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// For a request of this class.
    pub class: usize,
    /// On the agent of this offer.
    pub offer: usize,
    /// So much, which may not be free yet.
    pub amount: Resources,
}

/// Who goes where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matching {
    /// In the order of decision.
    pub placements: Vec<Placement>,
    /// Classes of which a request found no place in this call.
    pub refused: Vec<usize>,
    /// Room that is set aside for who has waited long; to be given back in [`Class::kept`] next
    /// time, so that it is not set aside anew somewhere else.
    pub kept: Vec<Kept>,
    /// What is left of each offer ([`Offer::free`]).
    pub left: Vec<Resources>,
    /// What is left of each offer for who may be pre-empted ([`Offer::revocable`]).
    pub lent: Vec<Resources>,
    /// The bound on work was met before everybody was looked at: call again with the same
    /// offers, and [`Class::seen`] for who was refused.
    pub unfinished: bool,
    /// Pairs of class and offer that were looked at.
    pub work: u64,
}

/// Finds places for as many requests as possible, in order.
///
/// Deterministic. `constraints` remembers what expressions gave for which agent, between
/// calls as well.
pub fn match_offers(problem: &Problem<'_>, constraints: &mut Constraints) -> Matching {
    place::Pass::new(problem, constraints).run()
}

/// Whether anybody finds a place: [`match_offers`], that stops at the first one. If the bound on
/// work is met before that, somebody may.
pub fn serves_anybody(problem: &Problem<'_>, constraints: &mut Constraints) -> bool {
    place::Pass::new(problem, constraints).serves_anybody()
}
