//! Predicates over agents: where a step must and should run.

use std::collections::HashMap;

use super::{Agent, Offer, Shape};
use crate::expression::Expression;

/// Remembers what an expression gave for an agent: attributes seldom change, sweeps repeat.
#[derive(Debug, Default)]
pub struct Constraints {
    known: HashMap<Expression, HashMap<u64, Answer>>,
    answers: usize,
}

/// Whether it holds; why that cannot be told, otherwise.
type Answer = Result<bool, String>;

/// Most answers that are remembered; beyond it all are forgotten and asked again.
const MAX_KNOWN: usize = 100_000;

/// Why an agent may not be used at all, room aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its GPUs are kept for who asks for some.
    GpusKept,
    /// The requirement does not hold, or cannot be evaluated.
    Where(String),
}

impl Constraints {
    /// Of each offer whether the shape may use it at all and, if so, whether its preference
    /// holds there. A requirement that cannot be evaluated does not hold, nor does a preference.
    pub(super) fn check_all(
        &mut self,
        shape: &Shape,
        offers: &[Offer],
        keep_gpus: bool,
        mut each: impl FnMut(usize, bool),
    ) {
        let mut allowed: Vec<bool> = offers
            .iter()
            .map(|offer| !spares_gpus(shape, offer, keep_gpus))
            .collect();
        if let Some(require) = &shape.require {
            let mut known = self.about(require);
            for (allowed, offer) in allowed.iter_mut().zip(offers) {
                *allowed &= known.holds(&offer.agent);
            }
        }
        match &shape.prefer {
            Some(prefer) => {
                let mut known = self.about(prefer);
                for (index, offer) in offers.iter().enumerate() {
                    if allowed[index] {
                        each(index, known.holds(&offer.agent));
                    }
                }
            }
            None => {
                for index in (0..offers.len()).filter(|&index| allowed[index]) {
                    each(index, true);
                }
            }
        }
    }

    /// Why the shape may not use this offer at all.
    pub(super) fn refusal(
        &mut self,
        shape: &Shape,
        offer: &Offer,
        keep_gpus: bool,
    ) -> Option<Refusal> {
        if spares_gpus(shape, offer, keep_gpus) {
            return Some(Refusal::GpusKept);
        }
        let require = shape.require.as_ref()?;
        match self.about(require).answer(&offer.agent) {
            Ok(true) => None,
            Ok(false) => Some(Refusal::Where(format!("{} does not hold", require.0))),
            // It names the expression.
            Err(error) => Some(Refusal::Where(error.to_string())),
        }
    }

    fn about<'a>(&'a mut self, expression: &'a Expression) -> Known<'a> {
        if self.answers >= MAX_KNOWN {
            self.known.clear();
            self.answers = 0;
        }
        Known {
            expression,
            // Expressions that do not look at the host's name say the same of all agents with
            // the same attributes, which are far fewer.
            with_hostname: expression.0.contains("hostname"),
            known: self.known.entry(expression.clone()).or_default(),
            answers: &mut self.answers,
        }
    }
}

/// What is known of one expression.
struct Known<'a> {
    expression: &'a Expression,
    with_hostname: bool,
    known: &'a mut HashMap<u64, Answer>,
    answers: &'a mut usize,
}

impl Known<'_> {
    fn holds(&mut self, agent: &Agent) -> bool {
        matches!(self.answer(agent), Ok(true))
    }

    fn answer(&mut self, agent: &Agent) -> &Answer {
        self.known
            .entry(agent.fingerprint(self.with_hostname))
            .or_insert_with(|| {
                *self.answers += 1;
                self.expression
                    .holds(&agent.context())
                    .map_err(|error| error.to_string())
            })
    }
}

fn spares_gpus(shape: &Shape, offer: &Offer, keep_gpus: bool) -> bool {
    keep_gpus && shape.resources.gpus == 0 && offer.total.gpus > 0
}
