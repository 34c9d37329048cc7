//! The load without a protocol: whatever is free is known at once and can be taken at once, by the
//! same matching. So what waits here waits for room, and the rest of a wait is the protocol's.

use std::collections::BTreeMap;
use std::sync::Arc;

use meson_core::matching::{
    Agent, Class, Constraints, Offer, Owner, Policy, Problem, Request, match_offers,
};
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::{Bytes, Timestamp};

use super::load::{self, AGENTS, CPUS, Load, MINUTES};

/// Cpus by class.
const CLASSES: [u64; 3] = [1, 2, CPUS];

enum Deed {
    Arrive,
    End {
        agent: usize,
        owner: usize,
        amount: Resources,
    },
}

struct Waiting {
    class: usize,
    owner: usize,
    lasts: u64,
    since: u64,
}

/// Cpus asked for, and how long it took to get them, for each task.
pub(super) fn run(seed: u64) -> Vec<(u64, u64)> {
    let mut load = Load::new(seed);
    let whole = Resources {
        cpus: MilliCpus(CPUS * 1_000),
        mem: Bytes::from_mib(65_536 - 64),
        ..Resources::ZERO
    };
    let mut offers: Vec<Offer> = (0..AGENTS)
        .map(|number| Offer {
            agent: Arc::new(Agent::new(number.to_string(), "", "", "", BTreeMap::new())),
            free: whole,
            revocable: Resources::ZERO,
            held: Resources::ZERO,
            total: whole,
            offered: true,
            seen_at: Timestamp(0),
            warm: true,
            outage: None,
        })
        .collect();
    let mut classes: Vec<Class> = CLASSES
        .iter()
        .map(|cpus| Class {
            shape: load::shape(*cpus),
            ..Class::default()
        })
        .collect();
    let mut owners = vec![Owner::default(); 3];
    let mut constraints = Constraints::default();
    let mut deeds = BTreeMap::from([((1, 0), Deed::Arrive)]);
    let (mut serial, mut number) = (0, 0);
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut waits = Vec::new();
    while let Some(((now, _), deed)) = deeds.pop_first() {
        if now > MINUTES * 60_000 {
            break;
        }
        match deed {
            Deed::Arrive => {
                let next = load.next();
                let class = CLASSES.iter().position(|cpus| *cpus == next.cpus);
                waiting.push(Waiting {
                    class: class.unwrap_or_default(),
                    owner: load::owner(number),
                    lasts: next.lasts,
                    since: now,
                });
                number += 1;
                serial += 1;
                deeds.insert((now + next.pause, serial), Deed::Arrive);
            }
            Deed::End {
                agent,
                owner,
                amount,
            } => {
                let offer = &mut offers[agent];
                offer.free = offer.free.plus(&amount);
                offer.held = offer.held.minus(&amount);
                owners[owner].held = owners[owner].held.minus(&amount);
            }
        }
        let requests: Vec<Request> = waiting
            .iter()
            .map(|it| Request {
                class: it.class,
                owner: it.owner,
                deadline: None,
                since: Timestamp(it.since),
            })
            .collect();
        let problem = Problem {
            classes: &classes,
            owners: &owners,
            requests: &requests,
            offers: &offers,
            policy: Policy::default(),
            now: Timestamp(now),
        };
        let matching = match_offers(&problem, &mut constraints);
        for (class, known) in classes.iter_mut().enumerate() {
            let kept = matching.kept.iter().filter(|kept| kept.class == class);
            known.kept = kept.map(|kept| kept.offer).collect();
        }
        let mut served = vec![false; waiting.len()];
        for placement in matching.placements {
            let it = &waiting[placement.request];
            served[placement.request] = true;
            let amount = classes[it.class].shape.resources;
            let offer = &mut offers[placement.offer];
            offer.free = offer.free.minus(&amount);
            offer.held = offer.held.plus(&amount);
            owners[it.owner].held = owners[it.owner].held.plus(&amount);
            waits.push((CLASSES[it.class], now - it.since));
            let (agent, owner) = (placement.offer, it.owner);
            let end = Deed::End {
                agent,
                owner,
                amount,
            };
            serial += 1;
            deeds.insert((now + it.lasts, serial), end);
        }
        let mut served = served.into_iter();
        waiting.retain(|_| !served.next().unwrap_or_default());
    }
    waits
}
