//! 10,000 requests against 1,000 offers.

use meson_core::expression::Expression;
use meson_core::matching::{
    Constraints, Offer, Owner, Policy, Problem, Request, Shape, match_offers,
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

pub(crate) fn measure(table: &mut Table) {
    // Twenty shapes, a quarter of them with a constraint, of five owners: a few sweeps at once.
    let shapes: Vec<Shape> = (0..20)
        .map(|n| Shape {
            resources: amount(250 * (1 + n % 8), 256 * (1 + n % 5)),
            require: (n % 4 == 0).then(|| Expression("attributes.disk == 'ssd'".to_owned())),
            prefer: (n % 5 == 0).then(|| Expression(format!("zone == 'z{}'", n % 3))),
            ..Shape::default()
        })
        .collect();
    let requests: Vec<Request> = (0..REQUESTS)
        .map(|n| Request {
            shape: n * 7 % shapes.len(),
            owner: n % 5,
            deadline: (n % 10 == 0).then_some(Timestamp(1_000_000 + n as u64)),
            since: Timestamp(n as u64),
        })
        .collect();
    let offers: Vec<Offer> = (0..OFFERS)
        .map(|n| Offer {
            agent: format!("agent-{n}"),
            hostname: format!("agent-{n}"),
            region: "home".to_owned(),
            zone: format!("z{}", n % 3),
            attributes: [(
                "disk".to_owned(),
                if n % 2 == 0 { "ssd" } else { "hdd" }.into(),
            )]
            .into(),
            free: amount(8_000, 32_768),
            revocable: Resources::ZERO,
            total: amount(8_000, 32_768),
            warm: n % 3 == 0,
            outage: None,
        })
        .collect();
    let owners = vec![Owner::default(); 5];
    let problem = Problem {
        shapes: &shapes,
        owners: &owners,
        requests: &requests,
        offers: &offers,
        policy: Policy::default(),
        now: Timestamp(2_000_000),
    };
    let mut constraints = Constraints::default();
    let (first, cold) = timed(|| match_offers(&problem, &mut constraints));
    let mut warm: Vec<_> = (0..ROUNDS)
        .map(|_| timed(|| match_offers(&problem, &mut constraints)).1)
        .collect();
    let figure = format!(
        "{REQUESTS} requests against {OFFERS} offers, {} placed",
        first.placements.len()
    );
    table.add(&figure, ms(quantile(&mut warm, 0.5)), "< 20 ms");
    table.add(
        format!("{figure}, first time (all constraints evaluated)"),
        ms(cold),
        "",
    );
}
