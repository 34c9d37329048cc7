//! What operators do, and what schedulers see of it: maintenance, draining, offer
//! constraints, reservations.

use super::*;
use crate::master::{Drain, MachineId, OperatorCall, Schedule, View, Window};
use meson_mesos::scheduler::{InverseOfferAnswer, UpdateFramework};
use meson_mesos::types::{
    Attribute, DurationInfo, InverseOffer, OperationId, Reservation, ReservationType, TimeInfo,
    Unavailability,
};
use serde_json::{Value as Json, json};

fn here() -> MachineId {
    MachineId {
        hostname: Some("H".into()),
        ip: Some("127.0.0.1".into()),
    }
}

fn window() -> Window {
    Window {
        machine_ids: vec![here()],
        unavailability: Unavailability {
            start: TimeInfo { nanoseconds: 5 },
            duration: None,
        },
    }
}

fn inverse(outputs: &[Output], scheduler: &Scheduler) -> Vec<InverseOffer> {
    let of = |event: Event| match event {
        Event::InverseOffers(offers) => offers.inverse_offers,
        _ => Vec::new(),
    };
    events(outputs, scheduler)
        .into_iter()
        .flat_map(of)
        .collect()
}

impl Bench {
    fn operator(&mut self, call: OperatorCall) -> Vec<Output> {
        self.input(Input::Operator(Box::new(call)))
    }

    fn plan(&mut self, windows: Vec<Window>) -> Vec<Output> {
        let outputs = self.operator(OperatorCall::Schedule(Schedule { windows }));
        assert_eq!(reply(&outputs), Reply::Ok);
        outputs
    }
}

#[test]
fn a_plan_rescinds_offers_again_with_it_and_asks_for_what_is_there() {
    let mut bench = Bench::new();
    let (scheduler, ..) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.accepted(&scheduler, Call::Revive(Default::default()));
    let outputs = bench.plan(vec![window()]);
    assert_eq!(
        kinds(&outputs, &scheduler),
        ["RESCIND", "OFFERS", "INVERSE_OFFERS"]
    );
    let offer = offers(&outputs, &scheduler).pop().unwrap();
    assert_eq!(offer.unavailability, Some(window().unavailability));
    let asked = inverse(&outputs, &scheduler).pop().unwrap();
    assert_eq!(asked.unavailability, window().unavailability);
    // It is asked once, for as long as it does not answer.
    assert!(inverse(&bench.seconds(60.0), &scheduler).is_empty());

    let answer = InverseOfferAnswer {
        inverse_offer_ids: vec![asked.id],
        filters: Some(Filters::refuse(2.0)),
    };
    bench.accepted(&scheduler, Call::DeclineInverseOffers(answer));
    let status = bench.master.view(View::MaintenanceStatus);
    let machine = &status["get_maintenance_status"]["status"]["draining_machines"][0];
    assert_eq!(machine["statuses"][0]["status"], "DECLINE");
    assert!(inverse(&bench.seconds(1.5), &scheduler).is_empty());
    let again = inverse(&bench.seconds(2.0), &scheduler).pop().unwrap();
    let answer = InverseOfferAnswer {
        inverse_offer_ids: vec![again.id],
        filters: Some(Filters::refuse(3600.0)),
    };
    bench.accepted(&scheduler, Call::AcceptInverseOffers(answer));
    assert!(inverse(&bench.seconds(60.0), &scheduler).is_empty());
}

#[test]
fn a_plan_that_is_dropped_rescinds_what_was_asked() {
    let mut bench = Bench::new();
    let (scheduler, ..) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.accepted(&scheduler, Call::Revive(Default::default()));
    bench.plan(vec![window()]);
    let outputs = bench.plan(Vec::new());
    assert_eq!(kinds(&outputs, &scheduler).last().unwrap(), "OFFERS");
    assert!(kinds(&outputs, &scheduler).contains(&"RESCIND_INVERSE_OFFER".to_owned()));
    assert_eq!(offers(&outputs, &scheduler)[0].unavailability, None);
}

#[test]
fn who_has_nothing_on_the_machine_is_not_asked() {
    let mut bench = Bench::new();
    let (holder, ..) = bench.trio(aware());
    let idle = bench.subscribe(aware());
    let outputs = bench.plan(vec![window()]);
    let asked = [&holder, &idle].map(|scheduler| inverse(&outputs, scheduler).len());
    // The offer goes to one of them, and so does the question.
    assert_eq!(asked.iter().sum::<usize>(), 1);
}

#[test]
fn a_machine_goes_down_with_its_tasks_and_comes_up_without_its_plan() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    let early = bench.operator(OperatorCall::MachinesDown(vec![here()]));
    assert!(matches!(reply(&early), Reply::BadRequest(_)), "not planned");
    bench.plan(vec![window()]);
    let outputs = bench.operator(OperatorCall::MachinesDown(vec![here()]));
    let lost = updates(&outputs, &scheduler).pop().unwrap();
    assert_eq!(
        lost.state,
        TaskState::Lost,
        "for PARTITION_AWARE frameworks, too"
    );
    assert_eq!(
        lost.message.as_deref(),
        Some("Agent h removed: Operator initiated 'Machine DOWN'")
    );
    let last = to_agent(&outputs, &agent).pop();
    assert!(matches!(last, Some(ToAgent::Refused { .. })));

    let dropped = bench.operator(OperatorCall::Schedule(Schedule::default()));
    assert!(
        matches!(reply(&dropped), Reply::BadRequest(_)),
        "it is down"
    );
    let (_, outputs) = bench.hello(hello(machine()));
    assert!(
        offers(&outputs, &scheduler).is_empty(),
        "it may not register"
    );
    bench.operator(OperatorCall::MachinesUp(vec![here()]));
    let (_, outputs) = bench.hello(hello(machine()));
    assert_eq!(offers(&outputs, &scheduler)[0].unavailability, None);
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let mut bench = Bench::new();
    let nobody = MachineId::default();
    for (machines, word) in [
        (vec![], "empty"),
        (vec![nobody], "empty"),
        (vec![here(), here()], "more than once"),
    ] {
        let windows = vec![Window {
            machine_ids: machines,
            ..window()
        }];
        let outputs = bench.operator(OperatorCall::Schedule(Schedule { windows }));
        let Reply::BadRequest(why) = reply(&outputs) else {
            panic!("taken");
        };
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn what_operators_decided_outlives_the_master() {
    let mut bench = Bench::new();
    let (_, agent, _) = bench.trio(aware());
    bench.plan(vec![window()]);
    bench.operator(OperatorCall::Deactivate(agent.id.clone()));
    let registry = serde_json::to_string(&bench.master.registry()).unwrap();
    let mut bench = Bench::with(config(), serde_json::from_str(&registry).unwrap());
    let scheduler = bench.subscribe(aware());
    let mut back = hello(machine());
    back.agent.id = Some(agent.id.clone());
    let (_, outputs) = bench.hello(back);
    assert!(offers(&outputs, &scheduler).is_empty(), "it is deactivated");
    bench.operator(OperatorCall::Reactivate(agent.id));
    let offer = offers(&bench.seconds(1.0), &scheduler).pop().unwrap();
    assert_eq!(offer.unavailability, Some(window().unavailability));
}

#[test]
fn a_drained_agent_kills_its_tasks_and_is_offered_again_only_when_reactivated() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.accepted(&scheduler, Call::Revive(Default::default()));
    let grace = DurationInfo::from(Duration::from_secs(3));
    let drain = Drain {
        max_grace_period: Some(grace),
        ..Drain::default()
    };
    let outputs = bench.operator(OperatorCall::Drain(agent.id.clone(), drain));
    assert_eq!(kinds(&outputs, &scheduler), ["RESCIND"]);
    let told = to_agent(&outputs, &agent);
    assert_eq!(
        told,
        [ToAgent::Drain {
            max_grace_period: Some(grace)
        }]
    );
    let state = |bench: &Bench| {
        let view = bench.master.view(View::Agents);
        view["get_agents"]["agents"][0]["drain_info"]["state"].clone()
    };
    assert_eq!(state(&bench), "DRAINING");
    let killed = status("t", TaskState::Killed, "0123456789abcdef");
    bench.update(&agent, &scheduler, killed);
    let acknowledge = meson_mesos::scheduler::Acknowledge {
        agent_id: agent.id.clone(),
        task_id: "t".into(),
        uuid: "0123456789abcdef".into(),
    };
    bench.accepted(&scheduler, Call::Acknowledge(acknowledge));
    assert_eq!(state(&bench), "DRAINED");
    assert!(offers(&bench.seconds(60.0), &scheduler).is_empty());
    let outputs = bench.operator(OperatorCall::Reactivate(agent.id.clone()));
    assert_eq!(reply(&outputs), Reply::Ok);
    assert_eq!(offers(&bench.seconds(1.0), &scheduler).len(), 1);
    let twice = bench.operator(OperatorCall::Reactivate(agent.id));
    assert!(matches!(reply(&twice), Reply::BadRequest(_)));
}

#[test]
fn an_agent_that_restarts_while_it_is_drained_is_told_again() {
    let mut bench = Bench::new();
    let (_, agent, _) = bench.trio(aware());
    bench.operator(OperatorCall::Drain(agent.id.clone(), Drain::default()));
    let mut back = hello(machine());
    back.agent.id = Some(agent.id);
    let (agent, outputs) = bench.hello(back);
    let told = to_agent(&outputs, &agent);
    assert!(
        told.iter()
            .any(|message| matches!(message, ToAgent::Drain { .. }))
    );
}

#[test]
fn an_agent_may_be_gone_once_it_is_drained() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.trio(aware());
    let drain = Drain {
        mark_gone: true,
        ..Drain::default()
    };
    bench.operator(OperatorCall::Drain(agent.id.clone(), drain));
    let outputs = bench.seconds(1.0);
    assert_eq!(kinds(&outputs, &scheduler), ["FAILURE"]);
    assert!(bench.master.gone.contains_key(&agent.id));
}

#[test]
fn an_agent_that_nobody_knows_cannot_be_drained() {
    let mut bench = Bench::new();
    let outputs = bench.operator(OperatorCall::Drain("nobody".into(), Drain::default()));
    assert!(matches!(reply(&outputs), Reply::BadRequest(_)));
}

fn constraints(region: &str) -> Json {
    json!({"role_constraints": {"*": {"groups": [{"attribute_constraints": [
        {"selector": {"attribute_name": "region"}, "predicate": {"text_equals": {"value": region}}},
    ]}]}}})
}

#[test]
fn constraints_keep_useless_offers_away_and_can_be_changed() {
    let mut bench = Bench::new();
    let scheduler = bench.subscribe(aware());
    let update = |region: &str| {
        Call::UpdateFramework(UpdateFramework {
            framework_info: aware(),
            offer_constraints: Some(constraints(region)),
            ..UpdateFramework::default()
        })
    };
    let outputs = bench.call(&scheduler, update("eu"));
    assert_eq!(reply(&outputs), Reply::Ok);
    let mut far = hello(machine());
    far.agent.attributes = vec![Attribute::text("region", "us")];
    let (_, outputs) = bench.hello(far);
    assert!(offers(&outputs, &scheduler).is_empty());
    assert!(offers(&bench.seconds(5.0), &scheduler).is_empty());
    bench.call(&scheduler, update("us"));
    assert_eq!(offers(&bench.seconds(1.0), &scheduler).len(), 1);
}

#[test]
fn constraints_that_make_no_sense_are_refused_where_they_are_said() {
    let mut bench = Bench::new();
    let wrong = json!({"role_constraints": {"*": {}}});
    let scheduler = bench.subscribe(aware());
    let update = UpdateFramework {
        framework_info: aware(),
        offer_constraints: Some(wrong.clone()),
        ..UpdateFramework::default()
    };
    let outputs = bench.call(&scheduler, Call::UpdateFramework(update));
    assert!(matches!(reply(&outputs), Reply::BadRequest(_)));
    let stream = bench.stream();
    let outputs = bench.input(Input::Subscribe {
        stream: stream.clone(),
        framework_id: None,
        subscribe: Box::new(Subscribe {
            framework_info: aware(),
            offer_constraints: Some(wrong),
            ..Subscribe::default()
        }),
    });
    assert!(closes(&outputs, &stream));
}

#[test]
fn less_than_a_framework_wants_is_not_offered() {
    let mut bench = Bench::new();
    let filters = |cpus: f64| {
        Some(json!({"*": {"min_allocatable_resources": {"quantities": [
            {"quantities": {"cpus": {"value": cpus}}},
        ]}}}))
    };
    let scheduler = bench.subscribe(FrameworkInfo {
        offer_filters: filters(8.0),
        ..aware()
    });
    let (_, outputs) = bench.hello(hello(machine()));
    assert!(offers(&outputs, &scheduler).is_empty());
    let update = UpdateFramework {
        framework_info: FrameworkInfo {
            offer_filters: filters(2.0),
            ..aware()
        },
        ..UpdateFramework::default()
    };
    bench.call(&scheduler, Call::UpdateFramework(update));
    assert_eq!(offers(&bench.seconds(1.0), &scheduler).len(), 1);
}

#[test]
fn revocable_resources_are_for_those_who_can_lose_them() {
    let mut resources = machine();
    resources.push(Resource {
        revocable: Some(json!({})),
        ..Resource::scalar("cpus", 2.0)
    });
    let mut bench = Bench::new();
    let careful = bench.subscribe(aware());
    let (_, outputs) = bench.hello(hello(resources));
    let offer = offers(&outputs, &careful).pop().unwrap();
    assert!(
        offer
            .resources
            .iter()
            .all(|resource| resource.revocable.is_none())
    );
    let (greedy, outputs) = bench.subscribe_as(info(&[CapabilityType::RevocableResources]), None);
    let offer = offers(&outputs, &greedy).pop().unwrap();
    assert!(
        offer
            .resources
            .iter()
            .all(|resource| resource.revocable.is_some())
    );
}

fn reserve(kind: &str, id: Option<&str>, role: &str) -> Operation {
    let resource = Resource {
        reservations: vec![Reservation {
            kind: Some(ReservationType::Dynamic),
            role: Some(role.to_owned()),
            ..Reservation::default()
        }],
        ..Resource::scalar("cpus", 1.0)
    };
    let body = json!({ "resources": [resource.allocated_to(role)] });
    Operation {
        kind: kind.to_owned(),
        id: id.map(OperationId::new),
        other: [(kind.to_ascii_lowercase(), body)].into_iter().collect(),
        ..Operation::default()
    }
}

#[test]
fn what_is_reserved_is_offered_as_reserved_until_it_is_not() {
    let mut bench = Bench::new();
    let mine = FrameworkInfo {
        roles: vec!["mine".into()],
        ..info(&[
            CapabilityType::MultiRole,
            CapabilityType::ReservationRefinement,
        ])
    };
    let (scheduler, _, offer) = bench.trio(mine);
    let accept = |offer: &Offer, operation: Operation| {
        Call::Accept(Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![operation],
            filters: Some(Filters::refuse(0.0)),
        })
    };
    let outputs = bench.accepted(
        &scheduler,
        accept(&offer, reserve("RESERVE", Some("op"), "mine")),
    );
    assert_eq!(kinds(&outputs, &scheduler), ["UPDATE_OPERATION_STATUS"]);
    let offer = offers(&bench.seconds(1.0), &scheduler).pop().unwrap();
    let reserved = |offer: &Offer| {
        let all = offer.resources.iter();
        all.filter(|resource| !resource.reservations.is_empty())
            .count()
    };
    assert_eq!((cpus(&offer), reserved(&offer)), (4.0, 1));
    // Others do not get it.
    let other = bench.subscribe(aware());
    let decline = Decline {
        offer_ids: vec![offer.id.clone()],
        filters: Some(Filters::refuse(5.0)),
    };
    bench.accepted(&scheduler, Call::Decline(decline));
    let theirs = offers(&bench.seconds(1.0), &other).pop().unwrap();
    assert_eq!(cpus(&theirs), 3.0);

    // Told again until it is acknowledged.
    assert!(kinds(&bench.seconds(9.0), &scheduler).contains(&"UPDATE_OPERATION_STATUS".to_owned()));
    let finished = bench.master.frameworks[&scheduler.id].operations.len();
    assert_eq!(finished, 1);
    let outputs = bench.accepted(
        &scheduler,
        Call::ReconcileOperations(json!({"operations": []})),
    );
    let Some(Event::UpdateOperationStatus(status)) = events(&outputs, &scheduler).pop() else {
        panic!("no answer");
    };
    assert_eq!(status["status"]["state"], "OPERATION_FINISHED");
    assert!(status["status"]["uuid"].is_null());
}

#[test]
fn an_operation_that_cannot_be_done_is_told_only_to_who_gave_it_an_id() {
    for (operation, told) in [
        (reserve("RESERVE", Some("op"), "other"), true),
        (reserve("RESERVE", None, "other"), false),
        (reserve("UNRESERVE", Some("op"), "*"), true),
        (reserve("CREATE", Some("op"), "*"), true),
    ] {
        let mut bench = Bench::new();
        let (scheduler, _, offer) = bench.trio(aware());
        let accept = Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![operation],
            filters: Some(Filters::refuse(0.0)),
        };
        let outputs = bench.accepted(&scheduler, Call::Accept(accept));
        let errors = events(&outputs, &scheduler).into_iter().filter(|event| {
            matches!(event, Event::UpdateOperationStatus(status)
                if status["status"]["state"] == "OPERATION_ERROR")
        });
        assert_eq!(errors.count(), usize::from(told));
        assert_eq!(
            offers(&bench.seconds(1.0), &scheduler).len(),
            1,
            "it is returned"
        );
    }
}

#[test]
fn questions_of_operators_are_answered() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    let ask = |bench: &mut Bench, view| {
        let outputs = bench.operator(OperatorCall::Ask(view));
        let Reply::Json(body) = reply(&outputs) else {
            panic!("no answer");
        };
        serde_json::from_str::<Json>(&body).unwrap()
    };
    let tasks = ask(&mut bench, View::Tasks);
    assert_eq!(tasks["get_tasks"]["tasks"][0]["task_id"]["value"], "t");
    let agents = ask(&mut bench, View::Agents);
    let first = &agents["get_agents"]["agents"][0];
    assert_eq!(first["agent_info"]["id"]["value"], agent.id.as_str());
    assert_eq!(first["active"], true);
    bench.accepted(&scheduler, Call::Teardown);
    let frameworks = ask(&mut bench, View::Frameworks);
    let completed = &frameworks["get_frameworks"]["completed_frameworks"];
    assert_eq!(completed[0]["framework_info"]["name"], "test");
    let state = ask(&mut bench, View::State);
    assert_eq!(state["type"], "GET_STATE");
}
