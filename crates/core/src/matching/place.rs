//! One pass over the queue: who fits where.

use super::constraint::Eligibility;
use super::order::Queue;
use super::reason::{self, Rejection};
use super::{Constraints, Matching, Offer, Packing, Problem};
use crate::resources::Resources;

pub(super) struct Pass<'p, 'c> {
    problem: &'p Problem<'p>,
    constraints: &'c mut Constraints,
    /// What is left of each offer.
    left: Vec<Resources>,
    /// Offers kept free for somebody bigger.
    protected: Vec<bool>,
    shapes: Vec<ShapeState>,
    matching: Matching,
}

/// What is known of a shape within this pass.
#[derive(Default)]
struct ShapeState {
    /// Per offer, once the shape has been looked at.
    eligible: Option<Vec<Eligibility>>,
    /// The offer that took the last one: packing goes on there while it fits.
    last: Option<usize>,
    /// It found no place; nothing has become freer since.
    exhausted: bool,
}

impl<'p, 'c> Pass<'p, 'c> {
    pub(super) fn new(problem: &'p Problem<'p>, constraints: &'c mut Constraints) -> Self {
        Self {
            left: problem.offers.iter().map(|offer| offer.free).collect(),
            protected: vec![false; problem.offers.len()],
            shapes: problem
                .shapes
                .iter()
                .map(|_| ShapeState::default())
                .collect(),
            matching: Matching::default(),
            problem,
            constraints,
        }
    }

    pub(super) fn run(mut self) -> Matching {
        let mut queue = Queue::new(self.problem);
        while let Some(request) = queue.next() {
            let shape = self.problem.requests[request].shape;
            match self.find(shape) {
                Some(offer) => {
                    let wanted = &self.problem.shapes[shape].resources;
                    self.left[offer] = self.left[offer].minus(wanted);
                    self.shapes[shape].last = Some(offer);
                    self.matching.placements.push((request, offer));
                    queue.placed(request, wanted);
                }
                None => {
                    self.refuse(request, shape);
                    queue.passed_over(request);
                }
            }
        }
        self.matching.protected = (0..self.protected.len())
            .filter(|&offer| self.protected[offer])
            .collect();
        self.matching
    }

    /// The best offer for this shape, if any has room.
    fn find(&mut self, shape: usize) -> Option<usize> {
        if self.shapes[shape].exhausted {
            return None;
        }
        self.evaluate(shape);
        let wanted = &self.problem.shapes[shape].resources;
        let state = &self.shapes[shape];
        let eligible = state.eligible.as_deref().unwrap_or_default();
        // The fullest agent that fits is fuller still after it took one: no need to look again.
        if self.problem.policy.packing == Packing::Pack
            && let Some(last) = state.last
            && !self.protected[last]
            && wanted.fits_in(&self.left[last])
        {
            return Some(last);
        }
        (0..eligible.len())
            .filter(|&offer| {
                eligible[offer].allowed()
                    && !self.protected[offer]
                    && wanted.fits_in(&self.left[offer])
            })
            .min_by_key(|&offer| self.score(offer, &eligible[offer]))
    }

    /// Lower is better: preference, then a warm executor, then how full the agent is.
    fn score(&self, offer: usize, eligibility: &Eligibility) -> (bool, bool, u64, usize) {
        let left = free_share(&self.problem.offers[offer], &self.left[offer]);
        let fullness = match self.problem.policy.packing {
            Packing::Pack => left,
            Packing::Spread => u64::MAX - left,
        };
        (
            !eligibility.preferred(),
            !self.problem.offers[offer].warm,
            fullness,
            offer,
        )
    }

    fn evaluate(&mut self, shape: usize) {
        if self.shapes[shape].eligible.is_none() {
            let keep_gpus = self.problem.policy.keep_gpus;
            let wanted = &self.problem.shapes[shape];
            let all = self
                .problem
                .offers
                .iter()
                .map(|offer| self.constraints.check(wanted, offer, keep_gpus));
            self.shapes[shape].eligible = Some(all.collect());
        }
    }

    /// Notes why, once per shape and pass, and keeps an agent free if the request waited long.
    fn refuse(&mut self, request: usize, shape: usize) {
        let since = self.problem.requests[request].since;
        if self.problem.now.since(since) >= self.problem.policy.protect_after
            && !self.shapes[shape].exhausted
        {
            self.protect(shape);
        }
        if self.shapes[shape].exhausted {
            return;
        }
        self.shapes[shape].exhausted = true;
        let wanted = &self.problem.shapes[shape];
        let eligible = self.shapes[shape].eligible.as_deref().unwrap_or_default();
        let rejections =
            eligible
                .iter()
                .enumerate()
                .map(|(index, eligibility)| match eligibility {
                    Eligibility::Refused(predicate) => Rejection::Constraint(predicate),
                    Eligibility::Allowed { .. } => Rejection::Room {
                        left: self.left[index],
                        total: self.problem.offers[index].total,
                        protected: self.protected[index],
                    },
                });
        let misfit = reason::explain(&wanted.resources, rejections);
        self.matching.misfits.insert(shape, misfit);
    }

    /// Keeps the agent free that could take the shape once it drains and has least to drain.
    fn protect(&mut self, shape: usize) {
        let wanted = &self.problem.shapes[shape].resources;
        let eligible = self.shapes[shape].eligible.as_deref().unwrap_or_default();
        let best = (0..eligible.len())
            .filter(|&offer| {
                eligible[offer].allowed()
                    && !self.protected[offer]
                    && wanted.fits_in(&self.problem.offers[offer].total)
            })
            .max_by_key(|&offer| {
                (
                    free_share(&self.problem.offers[offer], &self.left[offer]),
                    std::cmp::Reverse(offer),
                )
            });
        if let Some(offer) = best {
            self.protected[offer] = true;
        }
    }
}

/// Share of the agent that is left, in millionths: the scarcer of processors and memory.
fn free_share(offer: &Offer, left: &Resources) -> u64 {
    let share = |left: u64, total: u64| {
        left.saturating_mul(1_000_000)
            .checked_div(total)
            .unwrap_or(0)
    };
    share(left.cpus.0, offer.total.cpus.0).min(share(left.mem.0 >> 20, offer.total.mem.0 >> 20))
}
