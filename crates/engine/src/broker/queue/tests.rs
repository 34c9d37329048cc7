use std::sync::Arc;

use meson_core::expression::Expression;
use meson_core::matching::{Agent, Packing, Spread};
use meson_core::resources::MilliCpus;
use meson_core::units::{Bytes, Duration};

use super::*;

const START: Timestamp = Timestamp(1_000_000);

fn resources(cpus: u64) -> Resources {
    Resources {
        cpus: MilliCpus(cpus * 1000),
        mem: Bytes::from_mib(64),
        ..Resources::ZERO
    }
}

fn task(run: u32, n: u32) -> TaskId {
    format!("run-{run}.step.{n}.1").parse().unwrap()
}

fn entry(cpus: u64, owner: &str) -> Entry {
    Entry {
        shape: Shape {
            resources: resources(cpus),
            ..Shape::default()
        },
        owner: owner.to_owned(),
        deadline: None,
        since: START,
        revocable: Resources::ZERO,
    }
}

fn offer(name: &str, cpus: u64, held: u64) -> Offer {
    let roomy = |cpus: u64| Resources {
        mem: Bytes::from_mib(6400),
        ..resources(cpus)
    };
    Offer {
        agent: Arc::new(Agent::new(
            name,
            format!("{name}.host"),
            "",
            "",
            BTreeMap::new(),
        )),
        free: roomy(cpus - held),
        revocable: Resources::ZERO,
        held: Resources {
            mem: Bytes(0),
            ..resources(held)
        },
        total: roomy(cpus),
        offered: true,
        seen_at: START,
        warm: true,
        outage: None,
    }
}

/// A queue, and what goes with it.
#[derive(Default)]
struct Pool {
    queue: Queue,
    held: BTreeMap<String, Resources>,
    terms: BTreeMap<String, OwnerTerms>,
    policy: Policy,
}

impl Pool {
    /// Places on these offers; returns who went to which of them.
    fn place(&mut self, offers: &[Offer], ms: u64) -> Vec<(TaskId, usize)> {
        let now = START.after(Duration(ms));
        self.queue
            .place(offers, &self.held, &self.terms, self.policy, now)
            .into_iter()
            .map(|placed| (placed.task, placed.seats[0].offer))
            .collect()
    }

    fn explain(&mut self, task: &TaskId, ms: u64) -> super::super::messages::Waiting {
        let now = START.after(Duration(ms));
        self.queue.explain(task, true, 2, now).expect("it waits")
    }
}

#[test]
fn who_waits_hears_who_holds_what_and_until_about_when() {
    let mut pool = Pool::default();
    pool.queue.add(task(1, 0), entry(2, "bob"));
    pool.queue.add(task(1, 1), entry(4, "bob"));
    assert_eq!(pool.place(&[offer("a", 6, 0)], 0).len(), 2);
    pool.queue
        .finished(&task(1, 0), START.after(Duration::from_secs(60)));
    pool.queue.released(&task(1, 0));

    pool.queue.add(task(2, 0), entry(4, "ada"));
    pool.place(&[offer("a", 6, 4)], 61_000);
    let waiting = pool.explain(&task(2, 0), 61_000);
    let next = waiting.view.next.expect("an agent will have room");
    assert_eq!(
        (next.host.as_str(), next.text.as_str()),
        ("a.host", "waits for 2 of 6 cpus")
    );
    let [holder] = &next.holders[..] else {
        panic!("one task is in the way: {:?}", next.holders);
    };
    assert_eq!(
        (holder.run.as_str(), holder.owner.as_str()),
        ("run-1", "bob")
    );
    assert_eq!(holder.until, None, "a minute is over, and it runs on");
    assert_eq!(next.about, None);

    pool.place(&[offer("a", 6, 4)], 30_000);
    let next = pool
        .explain(&task(2, 0), 30_000)
        .view
        .next
        .expect("an agent will have room");
    let about = START.after(Duration::from_secs(60)).to_rfc3339();
    assert_eq!(next.about.as_deref(), Some(about.as_str()));
    assert_eq!(next.holders[0].guessed_from, "earlier");
}

#[test]
fn a_timeout_tells_the_latest_end_when_nothing_else_does() {
    let mut pool = Pool::default();
    let mut limited = entry(4, "bob");
    limited.shape.lasts = Some(Duration::from_secs(600));
    pool.queue.add(task(1, 0), limited);
    pool.place(&[offer("a", 4, 0)], 0);
    pool.queue.add(task(2, 0), entry(4, "ada"));
    pool.place(&[offer("a", 4, 4)], 1000);
    let next = pool
        .explain(&task(2, 0), 1000)
        .view
        .next
        .expect("an agent will have room");
    assert_eq!(next.holders[0].guessed_from, "timeout");
    let about = START.after(Duration::from_secs(600)).to_rfc3339();
    assert_eq!(next.about.as_deref(), Some(about.as_str()));
}

#[test]
fn the_place_in_the_queue_is_told_with_the_owners_parts() {
    let mut pool = Pool::default();
    pool.held.insert("bob".to_owned(), resources(3));
    pool.queue.add(task(1, 0), entry(9, "bob"));
    let mut urgent = entry(9, "bob");
    urgent.deadline = Some(Timestamp(5));
    pool.queue.add(task(1, 1), urgent);
    pool.queue.add(
        task(2, 0),
        Entry {
            since: START.after(Duration(5)),
            ..entry(9, "ada")
        },
    );
    pool.place(&[offer("a", 6, 3)], 10);
    let waiting = pool.explain(&task(2, 0), 10);
    assert_eq!((waiting.position, waiting.view.queue_length), (2, 3));
    let owner = &waiting.view.owner;
    assert_eq!((owner.name.as_str(), owner.position), ("ada", 0));
    assert_eq!(
        (owner.others[0].name.as_str(), owner.others[0].waiting),
        ("bob", 2)
    );
    assert!((owner.others[0].share - 0.5).abs() < 0.01, "{owner:?}");
    assert_eq!(waiting.reasons[0].code, "cpus_total");
}

#[test]
fn silence_of_the_resource_manager_is_told_with_its_length() {
    let mut pool = Pool::default();
    pool.queue.add(task(1, 0), entry(1, "ada"));
    let waiting = pool.explain(&task(1, 0), 40_000);
    assert_eq!(waiting.reasons[0].code, "no_offers");
    assert!(
        waiting.reasons[0].text.contains("for 40 s"),
        "{:?}",
        waiting.reasons
    );
    let now = START.after(Duration(1));
    let none = pool
        .queue
        .explain(&task(1, 0), true, 0, now)
        .expect("it waits");
    assert!(none.reasons[0].text.contains("are agents registered?"));
    let cut = pool
        .queue
        .explain(&task(1, 0), false, 0, now)
        .expect("it waits");
    assert_eq!(cut.reasons[0].code, "disconnected");
}

#[test]
fn who_fits_no_agent_hears_that_and_not_that_nothing_is_offered() {
    let mut pool = Pool::default();
    pool.queue.add(task(1, 0), entry(9, "ada"));
    assert!(pool.place(&[offer("a", 8, 0)], 0).is_empty());
    let codes = |waiting: &super::super::messages::Waiting| -> Vec<String> {
        let codes = waiting.reasons.iter().map(|reason| reason.code.clone());
        codes.collect()
    };
    assert_eq!(codes(&pool.explain(&task(1, 0), 480_000)), ["cpus_total"]);
}

#[test]
fn a_quota_that_is_used_up_is_told() {
    let mut pool = Pool::default();
    pool.terms.insert(
        "ada".to_owned(),
        OwnerTerms {
            quota: Some(resources(4)),
            ..OwnerTerms::default()
        },
    );
    pool.held.insert("ada".to_owned(), resources(3));
    pool.queue.add(task(1, 0), entry(2, "ada"));
    assert!(pool.place(&[offer("a", 8, 0)], 0).is_empty());
    let waiting = pool.explain(&task(1, 0), 0);
    assert_eq!(waiting.reasons[0].code, "quota");
    assert_eq!(
        waiting.reasons[0].text,
        "quota of ada: wants 2 cpus, holds 3 of the 4 that it may"
    );
}

#[test]
fn a_step_is_kept_from_an_agent_that_lost_one_of_its_tasks_for_a_while() {
    let mut pool = Pool::default();
    pool.policy.packing = Packing::Spread;
    let agents = [offer("a", 8, 0), offer("b", 8, 0)];
    pool.queue.failed_there(&task(1, 0), "a", START);
    pool.queue.add(task(1, 1), entry(1, "ada"));
    pool.queue.add(task(2, 1), entry(1, "ada"));
    let places = pool.place(&agents, 1000);
    assert!(places.contains(&(task(1, 1), 1)), "{places:?}");
    assert!(
        places.contains(&(task(2, 1), 0)),
        "others are not: {places:?}"
    );

    pool.queue.add(task(1, 2), entry(1, "ada"));
    assert_eq!(
        pool.place(&agents[..1], 2000),
        [(task(1, 2), 0)],
        "better there than nowhere"
    );
    pool.queue.add(task(1, 3), entry(1, "ada"));
    assert_eq!(
        pool.place(&agents, 700_000),
        [(task(1, 3), 0)],
        "it is forgiven"
    );
}

#[test]
fn iterations_are_spread_over_agents_from_one_offer_to_the_next() {
    let mut pool = Pool::default();
    let agents = [offer("a", 8, 0), offer("b", 8, 0)];
    let mut places = Vec::new();
    for n in 0..4 {
        let mut spread = entry(1, "ada");
        spread.shape.spread = Some(Spread::Agents);
        pool.queue.add(task(1, n), spread);
        places.extend(pool.place(&agents, 0).into_iter().map(|(_, offer)| offer));
    }
    assert_eq!(places, [0, 1, 0, 1]);
    pool.queue.released(&task(1, 1));
    pool.queue.released(&task(1, 3));
    let mut spread = entry(1, "ada");
    spread.shape.spread = Some(Spread::Agents);
    pool.queue.add(task(1, 9), spread);
    assert_eq!(
        pool.place(&agents, 0),
        [(task(1, 9), 1)],
        "those that ended do not count"
    );
}

#[test]
fn room_that_was_set_aside_stays_on_its_agent() {
    let mut pool = Pool::default();
    pool.queue.add(task(1, 0), entry(8, "ada"));
    assert!(
        pool.place(&[offer("a", 8, 2), offer("b", 8, 4)], 60_000)
            .is_empty()
    );
    for n in 0..3 {
        pool.queue.add(task(2, n), entry(1, "bob"));
    }
    // Meanwhile b has less to drain, and a offers nothing: bob's go to b, not to a.
    let away = Offer {
        offered: false,
        free: Resources::ZERO,
        ..offer("a", 8, 2)
    };
    let places = pool.place(&[away, offer("b", 8, 1)], 61_000);
    assert_eq!(places.len(), 3, "{places:?}");
    assert!(places.iter().all(|(_, offer)| *offer == 1));
    pool.queue.add(task(2, 9), entry(1, "bob"));
    assert!(pool.place(&[offer("a", 8, 1)], 62_000).is_empty());
    let waiting = pool.explain(&task(2, 9), 62_000);
    assert_eq!(waiting.reasons[0].code, "set_aside");
    assert_eq!(pool.place(&[offer("a", 8, 0)], 63_000)[0], (task(1, 0), 0));
}

#[test]
fn a_matching_that_stops_early_goes_on_with_the_others() {
    let mut pool = Pool::default();
    pool.policy.max_work = 4;
    for n in 0..6 {
        let mut big = entry(9, "ada");
        big.shape.require = Some(Expression(format!("hostname != 'x{n}'")));
        pool.queue.add(task(1, n), big);
    }
    pool.queue.add(
        task(2, 0),
        Entry {
            since: START.after(Duration(1)),
            ..entry(1, "ada")
        },
    );
    let agents = [offer("a", 8, 0), offer("b", 8, 0)];
    let mut calls = 0;
    while pool.place(&agents, 10).is_empty() {
        calls += 1;
        assert!(pool.queue.goes_on() && calls < 20, "after {calls} calls");
    }
    assert!(calls >= 1);
}
