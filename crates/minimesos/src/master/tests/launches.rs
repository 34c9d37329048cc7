use super::*;
use meson_mesos::types::StatusReason;
use serde_json::json;

fn error_of(outputs: &[Output], scheduler: &Scheduler) -> String {
    let updates = updates(outputs, scheduler);
    assert_eq!(updates.len(), 1, "{updates:?}");
    let status = &updates[0];
    assert_eq!(
        (&status.state, &status.reason),
        (&TaskState::Error, &Some(StatusReason::TaskInvalid))
    );
    assert_eq!(status.uuid, None, "what the master makes has no uuid");
    status.message.clone().unwrap()
}

#[test]
fn an_accept_reaches_the_agent_with_the_blanks_filled_in() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let outputs = bench.accept(
        &scheduler,
        &[&offer.id],
        vec![task_on("e", "t", &agent, 1.0)],
        None,
    );
    let sent = to_agent(&outputs, &agent);
    let [
        ToAgent::RunTask {
            framework,
            executor: Some(executor),
            task,
        },
    ] = &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(framework.id, Some(scheduler.id.clone()));
    assert_eq!(executor.framework_id, Some(scheduler.id.clone()));
    assert_eq!(task.executor.as_ref(), Some(executor));
    let allocated = |r: &Resource| {
        r.allocation_info
            .as_ref()
            .and_then(|info| info.role.as_deref())
            == Some("*")
    };
    assert!(
        task.resources
            .iter()
            .chain(&executor.resources)
            .all(allocated)
    );
}

#[test]
fn the_rest_of_an_accepted_offer_is_refused_with_its_filter() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    bench.accept(&scheduler, &[&offer.id], vec![task("t", &agent, 1.0)], None);
    assert!(offers(&bench.seconds(4.9), &scheduler).is_empty());
    let rest = offers(&bench.seconds(1.2), &scheduler).remove(0);
    assert!((cpus(&rest) - 3.0).abs() < 1e-9);
}

#[test]
fn bad_tasks_are_answered_with_why() {
    for (change, why) in [
        (
            json!({"task_id": {"value": "a/b"}}),
            "'a/b' contains invalid characters",
        ),
        (json!({"task_id": {"value": ""}}), "ID must not be empty"),
        (
            json!({"task_id": {"value": "L".repeat(300)}}),
            "ID must not be greater than 255 characters",
        ),
        (
            json!({"command": null}),
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        (json!({"resources": []}), "Task uses no resources"),
        (
            json!({"agent_id": {"value": "other"}}),
            "Task uses invalid agent other while agent m-S0 is expected",
        ),
        (
            json!({"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": -1}}]}),
            "Resource 'cpus(allocated: *):-1' is invalid: Invalid scalar resource: value <= 0",
        ),
        (
            json!({"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1000}}]}),
            "Total resources cpus(allocated: *):1000 required by task and its executor is more than available \
             ports(allocated: *):[31000-31099]; cpus(allocated: *):4; mem(allocated: *):2048; disk(allocated: *):4096",
        ),
        (
            json!({"resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}},
                {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31099, "end": 31100}]}},
            ]}),
            "Total resources cpus(allocated: *):1; ports(allocated: *):[31099-31100] required by",
        ),
        (
            json!({"resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}},
                {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31001, "end": 31000}]}},
            ]}),
            "Resource 'ports(allocated: *):[31001-31000]' is invalid",
        ),
        (
            json!({"resources": [{"name": "unobtainium", "type": "SCALAR", "scalar": {"value": 1}}]}),
            "Total resources unobtainium(allocated: *):1 required by",
        ),
    ] {
        let mut bench = Bench::new();
        let (scheduler, agent, offer) = bench.trio(aware());
        let mut value = serde_json::to_value(task("t", &agent, 0.5)).unwrap();
        for (key, changed) in change.as_object().unwrap() {
            value[key] = changed.clone();
        }
        let bad = serde_json::from_value(value).unwrap();
        let outputs = bench.accept(&scheduler, &[&offer.id], vec![bad], Some(0.0));
        let message = error_of(&outputs, &scheduler);
        assert!(message.starts_with(why), "{message}\nexpected: {why}");
        assert!(to_agent(&outputs, &agent).is_empty());
        assert_eq!(
            offers(&bench.seconds(1.0), &scheduler).len(),
            1,
            "the offer is free again"
        );
    }
}

#[test]
fn a_port_is_one_tasks_only_and_comes_back_when_it_ends() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let with_ports = |id: &str, begin, end| {
        let mut task = task(id, &agent, 1.0);
        task.resources
            .push(Resource::ranges("ports", [(begin, end)]));
        task
    };
    let tasks = vec![
        with_ports("first", 31_000, 31_001),
        with_ports("second", 31_001, 31_001),
        with_ports("third", 31_002, 31_002),
    ];
    let outputs = bench.accept(&scheduler, &[&offer.id], tasks, Some(0.0));
    assert_eq!(to_agent(&outputs, &agent).len(), 2);
    let refused = &updates(&outputs, &scheduler)[0];
    assert_eq!(refused.task_id.as_str(), "second");
    let message = refused.message.as_deref().unwrap_or_default();
    assert!(
        message.contains("ports(allocated: *):[31001-31001]"),
        "{message}"
    );
    let rest = offers(&bench.seconds(1.0), &scheduler).remove(0);
    let free = meson_mesos::resources::range_total(&rest.resources, "ports");
    assert_eq!((free.len(), free[0].begin), (1, 31_003));
}

#[test]
fn a_duplicate_id_is_an_error_under_the_id_of_the_task_that_lives() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let outputs = bench.accept(
        &scheduler,
        &[&offer.id],
        vec![task("t", &agent, 1.0), task("t", &agent, 1.0)],
        Some(0.0),
    );
    assert_eq!(error_of(&outputs, &scheduler), "Task has duplicate ID: t");
    assert_eq!(
        to_agent(&outputs, &agent).len(),
        1,
        "the first of them is launched"
    );
}

#[test]
fn one_bad_task_does_not_spoil_its_good_neighbours() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let tasks = vec![
        task("good", &agent, 1.0),
        task("bad", &agent, 100.0),
        task("fine", &agent, 1.0),
    ];
    let outputs = bench.accept(&scheduler, &[&offer.id], tasks, None);
    assert_eq!(to_agent(&outputs, &agent).len(), 2);
    assert_eq!(updates(&outputs, &scheduler)[0].task_id.as_str(), "bad");
}

#[test]
fn several_offers_of_one_agent_are_joined() {
    let mut bench = Bench::new();
    let (scheduler, agent, first) = bench.trio(aware());
    // Ends a task while the rest is held, so that the agent has two offers out.
    bench.accept(
        &scheduler,
        &[&first.id],
        vec![task("t", &agent, 2.0)],
        Some(0.0),
    );
    let rest = offers(&bench.seconds(1.0), &scheduler).remove(0);
    bench.update(
        &agent,
        &scheduler,
        status("t", TaskState::Finished, "0123456789abcdef"),
    );
    let more = offers(&bench.seconds(1.0), &scheduler).remove(0);
    let outputs = bench.accept(
        &scheduler,
        &[&rest.id, &more.id],
        vec![task("big", &agent, 4.0)],
        None,
    );
    assert_eq!(
        to_agent(&outputs, &agent).len(),
        1,
        "{:?}",
        updates(&outputs, &scheduler)
    );
}

#[test]
fn offers_that_may_not_be_used_drop_the_tasks() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let (_, outputs) = bench.hello(hello(machine()));
    let elsewhere = offers(&outputs, &scheduler).remove(0);
    let unknown = OfferId::new("no-such-offer");
    for (offer_ids, why) in [
        (vec![&unknown], "Offer no-such-offer is no longer valid"),
        (
            vec![&offer.id, &offer.id],
            "Duplicate offer m-O0 in offer list",
        ),
        (
            vec![&offer.id, &elsewhere.id],
            "Offer m-O0 is no longer valid",
        ),
        (vec![], "No offers specified"),
    ] {
        let outputs = bench.accept(&scheduler, &offer_ids, vec![task("t", &agent, 1.0)], None);
        let status = &updates(&outputs, &scheduler)[0];
        assert_eq!(status.state, TaskState::Dropped);
        assert_eq!(status.reason, Some(StatusReason::InvalidOffers));
        assert_eq!(
            status.message.as_deref(),
            Some(&*format!("Task launched with invalid offers: {why}"))
        );
        assert!(to_agent(&outputs, &agent).is_empty());
    }
}

#[test]
fn offers_of_two_agents_do_not_go_together() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(info(&[]));
    let (_, outputs) = bench.hello(hello(machine()));
    let elsewhere = offers(&outputs, &scheduler).remove(0);
    let outputs = bench.accept(
        &scheduler,
        &[&offer.id, &elsewhere.id],
        vec![task("t", &agent, 1.0)],
        None,
    );
    let status = &updates(&outputs, &scheduler)[0];
    assert_eq!(
        status.state,
        TaskState::Lost,
        "a framework that is not PARTITION_AWARE hears LOST"
    );
    assert!(
        status
            .message
            .as_ref()
            .unwrap()
            .contains("Aggregated offers must belong to one single agent")
    );
    let again = offers(&bench.seconds(1.0), &scheduler);
    assert_eq!(again.len(), 2, "both are free again, without a filter");
}

#[test]
fn an_offer_of_another_framework_is_not_to_be_used() {
    let mut bench = Bench::new();
    let (_, agent, offer) = bench.trio(aware());
    let thief = bench.subscribe(aware());
    let outputs = bench.accept(&thief, &[&offer.id], vec![task("t", &agent, 1.0)], None);
    assert!(
        updates(&outputs, &thief)[0]
            .message
            .as_ref()
            .unwrap()
            .contains("has invalid framework")
    );
    assert!(
        bench.master.offers.contains_key(&offer.id),
        "and stays with its owner"
    );
}

#[test]
fn a_live_executor_is_paid_for_once_and_must_be_described_alike() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    bench.accept(
        &scheduler,
        &[&offer.id],
        vec![task_on("e", "t-1", &agent, 1.0)],
        Some(0.0),
    );
    let offer = offers(&bench.seconds(1.0), &scheduler).remove(0);
    assert!((cpus(&offer) - 2.9).abs() < 1e-9);
    let mut different = task_on("e", "t-2", &agent, 1.0);
    different.executor.as_mut().unwrap().name = Some("other name".into());
    let tasks = vec![different, task_on("e", "t-3", &agent, 1.0)];
    let outputs = bench.accept(&scheduler, &[&offer.id], tasks, Some(0.0));
    let error = error_of(&outputs, &scheduler);
    assert!(error.starts_with(
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID."
    ));
    assert_eq!(to_agent(&outputs, &agent).len(), 1);
    let offer = offers(&bench.seconds(1.0), &scheduler).remove(0);
    assert!((cpus(&offer) - 1.9).abs() < 1e-9);
}

#[test]
fn operations_that_are_not_done_return_the_offer() {
    let mut bench = Bench::new();
    let (scheduler, _agent, offer) = bench.trio(aware());
    let reserve = |id: Option<&str>| Operation {
        kind: "RESERVE".into(),
        id: id.map(Into::into),
        ..Operation::default()
    };
    let accept = Accept {
        offer_ids: vec![offer.id],
        operations: vec![reserve(None), reserve(Some("op-1")), Operation::default()],
        filters: Some(Filters::refuse(0.0)),
    };
    let outputs = bench.accepted(&scheduler, Call::Accept(accept));
    assert_eq!(
        kinds(&outputs, &scheduler),
        ["UPDATE_OPERATION_STATUS"],
        "only who asked by an id is answered"
    );
    assert_eq!(offers(&bench.seconds(1.0), &scheduler).len(), 1);
}
