//! 10,000 requests against 1,000 offers.

use std::sync::Arc;

use meson_core::expression::Expression;
use meson_core::matching::{
    Agent, Class, Constraints, Gang, Offer, Owner, Packing, Policy, Problem, Request, Shape,
    Spread, match_offers,
};
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::{Bytes, Timestamp};

use crate::figures::{Table, ms, quantile, timed};

const REQUESTS: usize = 10_000;
const OFFERS: usize = 1_000;
const ROUNDS: usize = 21;

fn amount(cpus: u64, mib: u64) -> Resources {
    Resources {
        cpus: MilliCpus(cpus),
        mem: Bytes::from_mib(mib),
        ..Resources::ZERO
    }
}

/// Twenty classes, a quarter of them with a constraint: a few sweeps at once.
fn classes(spread: Option<Spread>) -> Vec<Class> {
    (0..20)
        .map(|n| Class {
            shape: Shape {
                resources: amount(250 * (1 + n % 8), 256 * (1 + n % 5)),
                require: (n % 4 == 0).then(|| Expression("attributes.disk == 'ssd'".to_owned())),
                prefer: (n % 5 == 0).then(|| Expression(format!("zone == 'z{}'", n % 3))),
                spread,
                ..Shape::default()
            },
            ..Class::default()
        })
        .collect()
}

fn offers() -> Vec<Offer> {
    (0..OFFERS)
        .map(|n| {
            let disk = if n % 2 == 0 { "ssd" } else { "hdd" };
            let attributes = [("disk".to_owned(), disk.into())].into();
            let (name, zone) = (format!("agent-{n}"), format!("z{}", n % 3));
            Offer {
                agent: Arc::new(Agent::new(
                    name.as_str(),
                    name.as_str(),
                    "home",
                    zone,
                    attributes,
                )),
                free: amount(8_000, 32_768),
                revocable: Resources::ZERO,
                held: Resources::ZERO,
                total: amount(8_000, 32_768),
                offered: true,
                seen_at: Timestamp(0),
                warm: n % 3 == 0,
                outage: None,
            }
        })
        .collect()
}

/// Requests of five owners, some with a deadline.
fn requests(classes: usize) -> Vec<Request> {
    (0..REQUESTS)
        .map(|n| Request {
            class: n * 7 % classes,
            owner: n % 5,
            deadline: (n % 10 == 0).then_some(Timestamp(1_000_000 + n as u64)),
            since: Timestamp(n as u64),
        })
        .collect()
}

pub(crate) fn measure(table: &mut Table) {
    let policy = Policy::default();
    let spread = Policy {
        packing: Packing::Spread,
        ..policy
    };
    one(table, "filling agents", policy, classes(None), "< 20 ms");
    one(
        table,
        "spreading over agents",
        spread,
        classes(None),
        "< 20 ms",
    );
    one(
        table,
        "steps spread over zones",
        policy,
        classes(Some(Spread::Zones)),
        "< 20 ms",
    );
    let mut gangs = classes(None);
    for class in &mut gangs {
        class.shape.gang = Gang {
            tasks: 4,
            apart: true,
            one_zone: true,
        };
    }
    one(table, "gangs of four in one zone", policy, gangs, "");
    // Nothing in common: the bound on work is met, and the rest is left to the next call.
    let mut strangers = classes(None);
    for n in 0..REQUESTS as u64 - 20 {
        let mut class = strangers[n as usize % 20].clone();
        class.shape.resources.disk = Bytes(n);
        strangers.push(class);
    }
    one(table, "no two alike", policy, strangers, "");
}

fn one(table: &mut Table, what: &str, policy: Policy, classes: Vec<Class>, goal: &str) {
    let (offers, requests) = (offers(), requests(classes.len()));
    let owners = vec![Owner::default(); 5];
    let problem = Problem {
        classes: &classes,
        owners: &owners,
        requests: &requests,
        offers: &offers,
        policy,
        now: Timestamp(2_000_000),
    };
    let mut constraints = Constraints::default();
    let (first, cold) = timed(|| match_offers(&problem, &mut constraints));
    let mut warm: Vec<_> = (0..ROUNDS)
        .map(|_| timed(|| match_offers(&problem, &mut constraints)).1)
        .collect();
    let figure = format!(
        "{REQUESTS} requests against {OFFERS} offers, {what}: {} tasks placed{}",
        first.placements.len(),
        if first.unfinished {
            ", to be gone on with"
        } else {
            ""
        },
    );
    table.add(&figure, ms(quantile(&mut warm, 0.5)), goal);
    table.add(format!("{figure}, the first time"), ms(cold), "");
}
