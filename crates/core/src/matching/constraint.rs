//! Predicates over agents: where a step must and should run.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::json;

use super::{Offer, Shape};
use crate::expression::Expression;

/// Remembers what an expression gave for an agent: attributes seldom change, sweeps repeat.
#[derive(Debug, Default)]
pub struct Constraints {
    known: HashMap<(Expression, u64), Result<bool, String>>,
}

/// Most answers that are remembered; beyond it all are forgotten and asked again.
const MAX_KNOWN: usize = 100_000;

/// Whether a shape may run on an agent at all, room aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Eligibility {
    /// It may, and whether its preference holds.
    Allowed { preferred: bool },
    /// It may not, for this reason.
    Refused(String),
}

impl Eligibility {
    pub(super) fn allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    pub(super) fn preferred(&self) -> bool {
        matches!(self, Self::Allowed { preferred: true })
    }
}

impl Constraints {
    /// What the shape's predicates say of the agent. A preference that cannot be evaluated
    /// does not hold; a requirement that cannot is a refusal that says so.
    pub(super) fn check(&mut self, shape: &Shape, offer: &Offer, keep_gpus: bool) -> Eligibility {
        if keep_gpus && shape.resources.gpus == 0 && offer.total.gpus > 0 {
            return Eligibility::Refused(
                "the agent's GPUs are kept for steps that ask for some".to_owned(),
            );
        }
        if let Some(require) = &shape.require {
            match self.holds(require, offer) {
                Ok(true) => {}
                Ok(false) => {
                    return Eligibility::Refused(format!("where: {} does not hold", require.0));
                }
                Err(error) => {
                    return Eligibility::Refused(format!("where: {}: {error}", require.0));
                }
            }
        }
        let preferred = shape
            .prefer
            .as_ref()
            .is_some_and(|prefer| self.holds(prefer, offer) == Ok(true));
        Eligibility::Allowed { preferred }
    }

    fn holds(&mut self, expression: &Expression, offer: &Offer) -> Result<bool, String> {
        let key = (expression.clone(), fingerprint(offer));
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let context = json!({
            "attributes": offer.attributes,
            "hostname": offer.hostname,
            "region": offer.region,
            "zone": offer.zone,
        });
        let answer = expression
            .holds(&context)
            .map_err(|error| error.to_string());
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(key, answer.clone());
        answer
    }
}

/// Of all that an expression can see of an agent.
fn fingerprint(offer: &Offer) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&offer.hostname, &offer.region, &offer.zone).hash(&mut hasher);
    for (name, value) in &offer.attributes {
        (name, value.to_string()).hash(&mut hasher);
    }
    hasher.finish()
}
