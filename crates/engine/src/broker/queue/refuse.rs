//! Why an offer is of use to nobody who waits.

use meson_core::matching::{self, Matching, Predicate, Problem, nearest};
use meson_core::resources::Resources;
use meson_core::units::Timestamp;

use super::super::stats::Declined;
use super::{Queue, Scene};

/// Classes that are asked what stands between them and an offer: with very many, those that have
/// waited longest speak for all.
const ASKED: usize = 16;

/// Classes of which somebody found no place, in this call or an earlier one of the same round; if
/// there are more than are [asked](ASKED), those whose oldest request is oldest.
pub(super) fn refused(problem: &Problem<'_>, matching: &Matching) -> Vec<usize> {
    let seen = (0..problem.classes.len()).filter(|&class| problem.classes[class].seen);
    let mut refused: Vec<usize> = matching.refused.iter().copied().chain(seen).collect();
    refused.sort_unstable();
    refused.dedup();
    if refused.len() > ASKED {
        let mut oldest = vec![Timestamp(u64::MAX); problem.classes.len()];
        for request in problem.requests {
            let oldest = &mut oldest[request.class];
            *oldest = request.since.min(*oldest);
        }
        refused.sort_by_key(|&class| oldest[class]);
        refused.truncate(ASKED);
    }
    refused
}

impl Queue {
    /// Why nobody who waits can use what this agent offers, as the last matching left it.
    pub(in super::super) fn refusal(&mut self, agent: &str) -> Declined {
        let Some(scene) = &self.scene else {
            return Declined::Unfit;
        };
        if scene.refused.is_empty() {
            // Nobody looked for a place in vain: who waits was not let look.
            return Declined::Quota;
        }
        match scene.obstacle(agent, &mut self.constraints) {
            Some(Predicate::GpusKept) => Declined::GpusKept,
            Some(Predicate::Where(_)) => Declined::Where,
            Some(Predicate::TooSmall(shortage)) => Declined::TooSmall(shortage),
            Some(Predicate::Busy(shortage)) => Declined::Busy(shortage),
            Some(Predicate::SetAside) => Declined::SetAside,
            Some(Predicate::Fits) if self.gangs > 0 => Declined::Gang,
            Some(Predicate::NotOffered | Predicate::Fits) | None => Declined::Unfit,
        }
    }
}

impl Scene {
    /// What stands between an agent's offer and whoever comes nearest to using it.
    fn obstacle(&self, agent: &str, constraints: &mut matching::Constraints) -> Option<Predicate> {
        // Agents stand in the order of their ids.
        let offers = &self.offers;
        let offer = offers
            .binary_search_by(|offer| offer.agent.id().cmp(agent))
            .ok()?;
        let scene = matching::Scene {
            offers,
            left: &self.left,
            lent: &self.lent,
            kept: &[],
            keep_gpus: self.keep_gpus,
        };
        let kept: Vec<_> = self.kept.iter().filter(|(_, at, _)| *at == offer).collect();
        let waiting = self.refused.iter().map(|key| {
            let others = kept.iter().filter(|(of, ..)| of != key);
            let kept = others.fold(Resources::ZERO, |sum, (.., amount)| sum.plus(amount));
            (&key.shape, kept)
        });
        nearest(&scene, offer, waiting, constraints)
    }
}
