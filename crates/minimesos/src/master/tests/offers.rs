use super::*;
use meson_mesos::scheduler::Roles;
use meson_mesos::types::{DomainInfo, Reservation, ReservationType};

/// Seconds until something of the agent is offered again.
fn seconds_to_next_offer(bench: &mut Bench, scheduler: &Scheduler) -> f64 {
    for tenth in 1..200 {
        let outputs = bench.seconds(0.1);
        if !offers(&outputs, scheduler).is_empty() {
            return f64::from(tenth) / 10.0;
        }
    }
    panic!("no offer for 20 s");
}

#[test]
fn a_new_agent_is_offered_at_once_and_whole() {
    let mut bench = Bench::new();
    let (_, agent, offer) = bench.trio(aware());
    assert_eq!(offer.agent_id, agent.id);
    assert_eq!(offer.id.as_str(), "m-O0");
    assert!((cpus(&offer) - 4.0).abs() < 1e-9);
    assert!(
        offer
            .resources
            .iter()
            .all(|r| r.role.as_deref() == Some("*")),
        "without RESERVATION_REFINEMENT"
    );
    assert!(
        offer
            .resources
            .iter()
            .all(|r| r.allocation_info == offer.allocation_info)
    );
}

#[test]
fn a_refusal_ends_with_the_run_after_it() {
    // Declined 0.05 s after a run; runs come once a second.
    for (refuse, least, most) in [
        (Some(0.0), 0.9, 1.0),
        (Some(0.5), 1.9, 2.0),
        (Some(3.0), 3.9, 4.0),
        (None, 5.9, 6.0),
        (Some(-5.0), 5.9, 6.0),
    ] {
        let mut bench = Bench::new();
        let scheduler = bench.subscribe(aware());
        bench.seconds(1.0);
        let outputs = bench.hello(hello(machine())).1;
        let offer = offers(&outputs, &scheduler).remove(0);
        bench.seconds(0.05);
        bench.decline(&scheduler, &offer, refuse);
        let waited = seconds_to_next_offer(&mut bench, &scheduler);
        assert!(
            (least..=most + 0.01).contains(&waited),
            "{refuse:?}: {waited}"
        );
    }
}

#[test]
fn revive_forgets_filters_and_offers_at_once() {
    let mut bench = Bench::new();
    let (scheduler, _agent, offer) = bench.trio(aware());
    bench.decline(&scheduler, &offer, Some(3600.0));
    assert!(offers(&bench.seconds(10.0), &scheduler).is_empty());
    let outputs = bench.accepted(&scheduler, Call::Revive(Roles::default()));
    assert_eq!(offers(&outputs, &scheduler).len(), 1);
}

#[test]
fn suppress_leaves_offers_in_hand_and_sends_none() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let outputs = bench.accepted(&scheduler, Call::Suppress(Roles::default()));
    assert!(events(&outputs, &scheduler).is_empty());
    let outputs = bench.accept(
        &scheduler,
        &[&offer.id],
        vec![task("t", &agent, 1.0)],
        Some(0.0),
    );
    assert_eq!(to_agent(&outputs, &agent).len(), 1);
    assert!(offers(&bench.seconds(10.0), &scheduler).is_empty());
    let outputs = bench.accepted(&scheduler, Call::Revive(Roles::default()));
    assert_eq!(offers(&outputs, &scheduler).len(), 1);
}

#[test]
fn revive_and_suppress_of_a_foreign_role_do_nothing() {
    let mut bench = Bench::new();
    let (scheduler, _agent, offer) = bench.trio(aware());
    bench.decline(&scheduler, &offer, Some(30.0));
    let foreign = Roles {
        roles: vec!["not-mine".into()],
    };
    let outputs = bench.accepted(&scheduler, Call::Revive(foreign.clone()));
    assert!(events(&outputs, &scheduler).is_empty());
    bench.accepted(&scheduler, Call::Suppress(foreign));
    assert_eq!(offers(&bench.seconds(32.0), &scheduler).len(), 1);
}

#[test]
fn a_filter_holds_only_for_what_fits_inside_what_was_refused() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    bench.accept(
        &scheduler,
        &[&offer.id],
        vec![task("t", &agent, 1.0)],
        Some(30.0),
    );
    assert!(offers(&bench.seconds(5.0), &scheduler).is_empty());
    bench.update(
        &agent,
        &scheduler,
        status("t", TaskState::Finished, "0123456789abcdef"),
    );
    let offer = offers(&bench.seconds(1.0), &scheduler).remove(0);
    assert!(
        (cpus(&offer) - 4.0).abs() < 1e-9,
        "more is free than was refused: the whole is offered"
    );
}

#[test]
fn one_framework_gets_all_of_an_agent_and_the_next_only_what_it_gives_back() {
    let mut bench = Bench::new();
    let (first, _agent, offer) = bench.trio(aware());
    let second = bench.subscribe(aware());
    assert!(offers(&bench.seconds(5.0), &second).is_empty());
    bench.decline(&first, &offer, Some(30.0));
    assert_eq!(offers(&bench.seconds(1.0), &second).len(), 1);
}

#[test]
fn an_offer_that_is_kept_too_long_is_rescinded_and_goes_to_the_next() {
    let mut bench = Bench::with(
        Config {
            offer_timeout: Some(Duration::from_secs(3)),
            ..config()
        },
        Registry::default(),
    );
    let (first, agent, offer) = bench.trio(aware());
    let second = bench.subscribe(aware());
    assert!(kinds(&bench.seconds(2.9), &first).is_empty());
    let outputs = bench.seconds(1.2);
    assert_eq!(kinds(&outputs, &first), ["RESCIND"]);
    assert_eq!(offers(&outputs, &second).len(), 1);
    let outputs = bench.accept(&first, &[&offer.id], vec![task("t", &agent, 1.0)], None);
    assert_eq!(
        updates(&outputs, &first)[0].message.as_deref(),
        Some("Task launched with invalid offers: Offer m-O0 is no longer valid")
    );
}

#[test]
fn a_framework_that_has_less_is_asked_first() {
    let mut bench = Bench::new();
    let (rich, agent, offer) = bench.trio(aware());
    bench.accept(&rich, &[&offer.id], vec![task("t", &agent, 2.0)], Some(0.0));
    let poor = bench.subscribe(aware());
    let outputs = bench.seconds(1.0);
    let _ = outputs;
    // The rest was free when the poor one came, and went to it.
    let held: Vec<_> = bench
        .master
        .offers
        .values()
        .map(|offer| offer.offer.framework_id.clone())
        .collect();
    assert_eq!(held, [poor.id]);
}

#[test]
fn scraps_are_not_offered() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let mut all = task("t", &agent, 4.0);
    all.resources[1] = Resource::scalar("mem", 2040.0);
    bench.accept(&scheduler, &[&offer.id], vec![all], Some(0.0));
    assert!(
        offers(&bench.seconds(3.0), &scheduler).is_empty(),
        "8 MB and no processor"
    );
}

#[test]
fn reserved_and_other_resources_come_in_one_offer_for_the_role() {
    let mut bench = Bench::new();
    let refined = info(&[
        CapabilityType::MultiRole,
        CapabilityType::ReservationRefinement,
    ]);
    let analytics = bench.subscribe(FrameworkInfo {
        roles: vec!["analytics".into()],
        ..refined
    });
    let layer = Reservation {
        kind: Some(ReservationType::Static),
        role: Some("analytics".into()),
        ..Reservation::default()
    };
    let mut resources = machine();
    resources.push(Resource {
        reservations: vec![layer.clone()],
        ..Resource::scalar("cpus", 2.0)
    });
    let (_, outputs) = bench.hello(hello(resources));
    let offer = offers(&outputs, &analytics).remove(0);
    assert!((cpus(&offer) - 6.0).abs() < 1e-9);
    assert_eq!(
        offer
            .resources
            .iter()
            .filter(|r| r.reservations == [layer.clone()])
            .count(),
        1
    );
    assert!(
        offer.resources.iter().all(|r| r.role.is_none()),
        "with RESERVATION_REFINEMENT there is no role"
    );
    // Another role gets nothing of it.
    bench.decline(&analytics, &offer, Some(30.0));
    let other = bench.subscribe(aware());
    let offer = offers(&bench.seconds(1.0), &other).pop();
    let offer = offer
        .or_else(|| bench.master.offers.values().next().map(|o| o.offer.clone()))
        .unwrap();
    assert!((cpus(&offer) - 4.0).abs() < 1e-9);
}

#[test]
fn gpus_and_far_regions_are_only_for_those_who_ask() {
    let mut bench = Bench::new();
    bench.master.config.info.domain = Some(DomainInfo::new("us", "a"));
    let plain = bench.subscribe(aware());
    let gpu = bench.subscribe(info(&[CapabilityType::GpuResources]));
    let far = bench.subscribe(info(&[CapabilityType::RegionAware]));
    let mut with_gpu = machine();
    with_gpu.push(Resource::scalar("gpus", 1.0));
    let (_, outputs) = bench.hello(hello(with_gpu));
    assert_eq!(offers(&outputs, &gpu).len(), 1);
    let mut distant = hello(machine());
    distant.agent.domain = Some(DomainInfo::new("eu", "a"));
    let (_, outputs) = bench.hello(distant);
    assert_eq!(offers(&outputs, &far).len(), 1);
    assert!(offers(&bench.seconds(3.0), &plain).is_empty());
}

#[test]
fn an_offer_names_the_executors_that_wait_there() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    bench.accept(
        &scheduler,
        &[&offer.id],
        vec![task_on("warm", "t", &agent, 1.0)],
        Some(0.0),
    );
    let offer = offers(&bench.seconds(1.0), &scheduler).remove(0);
    assert_eq!(offer.executor_ids, [ExecutorId::new("warm")]);
}
