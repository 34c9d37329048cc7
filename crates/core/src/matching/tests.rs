use proptest::prelude::*;
use serde_json::json;

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

fn shape(cpus: u64, mem_gib: u64) -> Shape {
    Shape {
        resources: amount(cpus, mem_gib),
        ..Shape::default()
    }
}

fn agent(name: &str, cpus: u64, mem_gib: u64) -> Offer {
    Offer {
        agent: name.to_owned(),
        hostname: name.to_owned(),
        region: String::new(),
        zone: String::new(),
        attributes: BTreeMap::new(),
        free: amount(cpus, mem_gib),
        revocable: Resources::ZERO,
        total: amount(cpus, mem_gib),
        warm: false,
        outage: None,
    }
}

fn request(shape: usize, owner: usize, since: u64) -> Request {
    Request {
        shape,
        owner,
        deadline: None,
        since: Timestamp(since),
    }
}

#[derive(Debug)]
struct Case {
    shapes: Vec<Shape>,
    owners: Vec<Owner>,
    requests: Vec<Request>,
    offers: Vec<Offer>,
    policy: Policy,
    now: u64,
}

impl Case {
    fn new(shapes: Vec<Shape>, requests: Vec<Request>, offers: Vec<Offer>) -> Self {
        let owners = requests
            .iter()
            .map(|r| r.owner)
            .max()
            .map_or(0, |most| most + 1);
        Self {
            shapes,
            owners: vec![Owner::default(); owners],
            requests,
            offers,
            policy: Policy::default(),
            now: 0,
        }
    }

    fn solve(&self) -> Matching {
        let problem = Problem {
            shapes: &self.shapes,
            owners: &self.owners,
            requests: &self.requests,
            offers: &self.offers,
            policy: self.policy,
            now: Timestamp(self.now),
        };
        match_offers(&problem, &mut Constraints::default())
    }
}

#[test]
fn packing_fills_one_agent_before_the_next() {
    let case = Case::new(
        vec![shape(1, 1)],
        (0..3).map(|i| request(0, 0, i)).collect(),
        vec![agent("a", 8, 8), agent("b", 2, 8)],
    );
    let places: Vec<usize> = case
        .solve()
        .placements
        .iter()
        .map(|&(_, offer)| offer)
        .collect();
    assert_eq!(
        places,
        [0, 0, 0],
        "agents equally empty: the first is filled"
    );
}

#[test]
fn spreading_takes_the_emptiest() {
    let mut case = Case::new(
        vec![shape(1, 1)],
        (0..4).map(|i| request(0, 0, i)).collect(),
        vec![agent("a", 2, 8), agent("b", 2, 8)],
    );
    case.policy.packing = Packing::Spread;
    let places: Vec<usize> = case
        .solve()
        .placements
        .iter()
        .map(|&(_, offer)| offer)
        .collect();
    assert_eq!(places, [0, 1, 0, 1]);
}

#[test]
fn an_earlier_deadline_goes_first_and_then_age() {
    let mut case = Case::new(
        vec![shape(1, 1)],
        vec![request(0, 0, 1), request(0, 0, 0), request(0, 0, 2)],
        vec![agent("a", 3, 8)],
    );
    case.requests[2].deadline = Some(Timestamp(500));
    let order: Vec<usize> = case
        .solve()
        .placements
        .iter()
        .map(|&(request, _)| request)
        .collect();
    assert_eq!(order, [2, 1, 0]);
}

#[test]
fn owners_share_by_what_they_hold() {
    let mut case = Case::new(
        vec![shape(1, 1)],
        (0..8).map(|i| request(0, usize::from(i >= 4), i)).collect(),
        vec![agent("a", 4, 64)],
    );
    case.owners[0].held = amount(2, 2);
    let owners: Vec<usize> = case
        .solve()
        .placements
        .iter()
        .map(|&(request, _)| case.requests[request].owner)
        .collect();
    assert_eq!(
        owners.iter().filter(|&&owner| owner == 1).count(),
        3,
        "{owners:?}"
    );
    assert_eq!(owners[0], 1, "who holds nothing goes first");
}

#[test]
fn a_requirement_that_fails_is_told_in_its_own_words() {
    let mut case = Case::new(
        vec![shape(1, 1)],
        vec![request(0, 0, 0)],
        vec![agent("a", 4, 4), agent("b", 4, 4)],
    );
    case.shapes[0].require = Some(Expression("attributes.disk == 'ssd'".to_owned()));
    case.offers[0]
        .attributes
        .insert("disk".to_owned(), json!("hdd"));
    case.offers[1]
        .attributes
        .insert("disk".to_owned(), json!("ssd"));
    assert_eq!(case.solve().placements, [(0, 1)]);

    case.offers.pop();
    let misfit = &case.solve().misfits[&0];
    assert_eq!(
        misfit.reasons,
        [(
            "where: attributes.disk == 'ssd' does not hold".to_owned(),
            1
        )]
    );
}

#[test]
fn a_preference_chooses_but_does_not_exclude() {
    let mut case = Case::new(
        vec![shape(1, 1)],
        vec![request(0, 0, 0), request(0, 0, 1)],
        vec![agent("a", 1, 4), agent("b", 1, 4)],
    );
    case.shapes[0].prefer = Some(Expression("hostname == 'b'".to_owned()));
    assert_eq!(case.solve().placements, [(0, 1), (1, 0)]);
}

#[test]
fn agents_with_gpus_are_kept_for_who_asks_for_some() {
    let mut case = Case::new(
        vec![shape(1, 1)],
        vec![request(0, 0, 0)],
        vec![agent("g", 4, 4)],
    );
    case.offers[0].free.gpus = 1;
    case.offers[0].total.gpus = 1;
    assert!(case.solve().placements.is_empty());
    case.policy.keep_gpus = false;
    assert_eq!(case.solve().placements.len(), 1);
}

#[test]
fn what_is_too_big_hears_what_would_fit() {
    let case = Case::new(
        vec![shape(2, 64)],
        vec![request(0, 0, 0)],
        vec![agent("a", 4, 6), agent("b", 8, 8), agent("c", 1, 2)],
    );
    let misfit = &case.solve().misfits[&0];
    assert!(!misfit.fits_when_drained);
    assert_eq!(
        misfit.reasons,
        [
            ("mem: wants 64g, at most 8g free of 8g".to_owned(), 2),
            ("cpus: wants 2, at most 1 free of 1".to_owned(), 1)
        ]
    );
    assert_eq!(misfit.would_fit[0], "fits now if mem ≤ 8g");
}

#[test]
fn a_big_request_that_waited_long_is_not_starved_by_small_ones() {
    let mut case = Case::new(
        vec![shape(4, 4), shape(1, 1)],
        vec![request(0, 0, 0), request(1, 0, 1)],
        vec![agent("a", 4, 8)],
    );
    case.offers[0].free = amount(2, 4);
    assert_eq!(
        case.solve().placements,
        [(1, 0)],
        "it has not waited long yet"
    );

    case.now = 60_000;
    let matching = case.solve();
    assert!(matching.placements.is_empty());
    assert_eq!(matching.protected, [0]);
    assert!(matching.misfits[&0].fits_when_drained);
    assert!(matching.misfits[&1].reasons[0].0.contains("kept free"));
}

prop_compose! {
    fn cases()(
        shapes in prop::collection::vec((1u64..6, 1u64..6), 1..5),
        agents in prop::collection::vec((0u64..9, 0u64..9), 0..8),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3, 0u64..100, any::<bool>()), 0..40),
        now in 0u64..100_000,
    ) -> Case {
        let offers = agents.iter().enumerate().map(|(i, &(c, m))| agent(&i.to_string(), c, m)).collect();
        let requests = picks.iter().map(|(pick, owner, since, urgent)| Request {
            deadline: urgent.then_some(Timestamp(1_000)),
            ..request(pick.index(shapes.len()), *owner, *since)
        }).collect();
        let shapes = shapes.iter().map(|&(c, m)| shape(c, m)).collect();
        Case { now, ..Case::new(shapes, requests, offers) }
    }
}

proptest! {
    #[test]
    fn nothing_is_placed_twice_or_beyond_what_is_offered(case in cases()) {
        let matching = case.solve();
        let mut used = vec![Resources::ZERO; case.offers.len()];
        let mut seen = std::collections::BTreeSet::new();
        for &(request, offer) in &matching.placements {
            prop_assert!(seen.insert(request));
            used[offer] = used[offer].plus(&case.shapes[case.requests[request].shape].resources);
        }
        for (used, offer) in used.iter().zip(&case.offers) {
            prop_assert!(used.fits_in(&offer.free));
        }
    }

    #[test]
    fn who_is_not_placed_fits_nowhere_and_hears_why(case in cases()) {
        let matching = case.solve();
        let mut left: Vec<Resources> = case.offers.iter().map(|offer| offer.free).collect();
        for &(request, offer) in &matching.placements {
            left[offer] = left[offer].minus(&case.shapes[case.requests[request].shape].resources);
        }
        for (index, request) in case.requests.iter().enumerate() {
            if matching.placements.iter().any(|&(placed, _)| placed == index) {
                continue;
            }
            let wanted = &case.shapes[request.shape].resources;
            let somewhere = left.iter().enumerate().any(|(offer, left)| {
                wanted.fits_in(left) && !matching.protected.contains(&offer)
            });
            prop_assert!(!somewhere, "request {index} fits but waits");
            let agents: u32 = matching.misfits[&request.shape].reasons.iter().map(|(_, agents)| agents).sum();
            prop_assert_eq!(agents as usize, case.offers.len(), "every agent is accounted for");
        }
    }
}
