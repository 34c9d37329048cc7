//! Cases are built here; each file asks one kind of question of them.

mod choice;
mod declined;
mod gangs;
mod properties;
mod reasons;
mod starvation;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::resources::MilliCpus;
use crate::units::Bytes;

fn amount(cpus: u64, mem_gib: u64) -> Resources {
    Resources {
        cpus: MilliCpus(cpus * 1000),
        mem: Bytes::from_mib(mem_gib << 10),
        ..Resources::ZERO
    }
}

fn class(cpus: u64, mem_gib: u64) -> Class {
    Class {
        shape: Shape {
            resources: amount(cpus, mem_gib),
            ..Shape::default()
        },
        ..Class::default()
    }
}

fn about(name: &str, zone: &str, attributes: &[(&str, &str)]) -> Arc<Agent> {
    let attributes: BTreeMap<_, _> = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), serde_json::Value::from(*value)))
        .collect();
    Arc::new(Agent::new(name, name, "home", zone, attributes))
}

fn agent(name: &str, cpus: u64, mem_gib: u64) -> Offer {
    Offer {
        agent: about(name, "", &[]),
        free: amount(cpus, mem_gib),
        revocable: Resources::ZERO,
        held: Resources::ZERO,
        total: amount(cpus, mem_gib),
        offered: true,
        seen_at: Timestamp(0),
        warm: false,
        outage: None,
    }
}

/// An agent of whose processors so many are held by our own tasks.
fn busy(name: &str, cpus: u64, held: u64) -> Offer {
    Offer {
        free: amount(cpus - held, 64),
        held: amount(held, 0),
        ..agent(name, cpus, 64)
    }
}

fn request(class: usize, owner: usize, since: u64) -> Request {
    Request {
        class,
        owner,
        deadline: None,
        since: Timestamp(since),
    }
}

#[derive(Debug, Clone)]
struct Case {
    classes: Vec<Class>,
    owners: Vec<Owner>,
    requests: Vec<Request>,
    offers: Vec<Offer>,
    policy: Policy,
    now: u64,
}

impl Case {
    fn new(classes: Vec<Class>, requests: Vec<Request>, offers: Vec<Offer>) -> Self {
        let owners = requests
            .iter()
            .map(|r| r.owner)
            .max()
            .map_or(0, |most| most + 1);
        Self {
            classes,
            owners: vec![Owner::default(); owners],
            requests,
            offers,
            policy: Policy::default(),
            now: 0,
        }
    }

    /// So many requests of the one class, of one owner.
    fn of_one(class: Class, requests: u64, offers: Vec<Offer>) -> Self {
        let requests = (0..requests).map(|i| request(0, 0, i)).collect();
        Self::new(vec![class], requests, offers)
    }

    fn solve(&self) -> Matching {
        let problem = Problem {
            classes: &self.classes,
            owners: &self.owners,
            requests: &self.requests,
            offers: &self.offers,
            policy: self.policy,
            now: Timestamp(self.now),
        };
        match_offers(&problem, &mut Constraints::default())
    }

    /// Where tasks went, in the order of decision.
    fn places(&self) -> Vec<usize> {
        self.solve().placements.iter().map(|p| p.offer).collect()
    }

    /// Why nothing of the class fits.
    fn misfit(&self, class: usize) -> Misfit {
        let matching = self.solve();
        let kept: Vec<(usize, Resources)> = matching
            .kept
            .iter()
            .filter(|kept| kept.class != class)
            .map(|kept| (kept.offer, kept.amount))
            .collect();
        let scene = Scene {
            offers: &self.offers,
            left: &matching.left,
            lent: &matching.lent,
            kept: &kept,
            keep_gpus: self.policy.keep_gpus,
        };
        explain(
            &scene,
            &self.classes[class].shape,
            &mut Constraints::default(),
        )
    }
}
