//! Calls of schedulers and operators that are broken at random.

use super::*;
use crate::master::{decode, operator};
use serde_json::{Value as Json, json};

/// One way to break a JSON value, somewhere.
#[derive(Clone, Debug)]
struct Breakage {
    /// Which of its places.
    place: usize,
    /// What comes there; `None` takes the place away.
    with: Option<Json>,
}

fn garbage() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        Just(json!(1e308)),
        Just(json!(-1.5)),
        Just(json!(u64::MAX)),
        ".{0,12}".prop_map(Json::from),
        Just(json!("../../etc/passwd")),
        Just(json!("x".repeat(10_000))),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[], {}, null])),
        Just(json!({"value": "S9999"})),
        Just(json!({"value": {"value": 1}})),
        Just(json!({"nanoseconds": i64::MIN})),
    ]
}

fn breakage() -> impl Strategy<Value = Breakage> {
    (any::<usize>(), prop::option::of(garbage())).prop_map(|(place, with)| Breakage { place, with })
}

/// How many places a value has.
fn places(value: &Json) -> usize {
    1 + match value {
        Json::Object(fields) => fields.values().map(places).sum(),
        Json::Array(items) => items.iter().map(places).sum::<usize>(),
        _ => 0,
    }
}

/// Breaks the value's place number `place`, counted in depth. Says how many it has passed.
fn break_at(value: &mut Json, place: usize, with: &Option<Json>) -> Option<usize> {
    let mut next = 1;
    let remove = |next: usize| next == place && with.is_none();
    match value {
        Json::Object(fields) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            for key in keys {
                if remove(next) {
                    fields.remove(&key);
                    return None;
                }
                if next == place {
                    fields.insert(key, with.clone().unwrap_or_default());
                    return None;
                }
                let child = fields.get_mut(&key).unwrap();
                next += break_at(child, place - next, with)?;
            }
        }
        Json::Array(items) => {
            for index in 0..items.len() {
                if remove(next) {
                    items.remove(index);
                    return None;
                }
                if next == place {
                    items[index] = with.clone().unwrap_or_default();
                    return None;
                }
                next += break_at(&mut items[index], place - next, with)?;
            }
        }
        _ => {}
    }
    // Not among them: a place that is further away.
    Some(next)
}

fn broken(mut value: Json, breakages: &[Breakage]) -> Json {
    for breakage in breakages {
        let count = places(&value);
        if count > 1 {
            break_at(&mut value, 1 + breakage.place % (count - 1), &breakage.with);
        }
    }
    value
}

/// Well-formed calls to begin with.
fn calls(framework: &str, agent: &str, offer: &str) -> Vec<Json> {
    let resources = json!([
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}, "role": "*"},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}, "allocation_info": {"role": "*"}},
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}},
    ]);
    let reserved = json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0},
        "allocation_info": {"role": "*"}, "reservations": [{"type": "DYNAMIC", "role": "*"}]}]);
    let info = json!({"user": "root", "name": "fuzz", "roles": ["*"], "failover_timeout": 60,
        "checkpoint": true, "capabilities": [{"type": "MULTI_ROLE"}], "id": {"value": framework},
        "offer_filters": {"*": {"min_allocatable_resources": {"quantities": [{"quantities": {"cpus": {"value": 1}}}]}}}});
    let constraints = json!({"role_constraints": {"*": {"groups": [{"attribute_constraints": [
        {"selector": {"attribute_name": "a"}, "predicate": {"text_matches": {"regex": "a+"}}},
    ]}]}}});
    let id = json!({"value": framework});
    let on = json!({"value": agent});
    let task = json!({"name": "t", "task_id": {"value": "t"}, "agent_id": on, "resources": resources,
        "command": {"shell": true, "value": "true"}, "kill_policy": {"grace_period": {"nanoseconds": 5}}});
    let call = |kind: &str, field: &str, body: Json| json!({"type": kind, "framework_id": id, field: body});
    vec![
        call(
            "SUBSCRIBE",
            "subscribe",
            json!({"framework_info": info, "offer_constraints": constraints}),
        ),
        call(
            "ACCEPT",
            "accept",
            json!({"offer_ids": [{"value": offer}], "filters": {"refuse_seconds": 5},
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]}),
        ),
        call(
            "ACCEPT",
            "accept",
            json!({"offer_ids": [{"value": offer}],
            "operations": [{"type": "RESERVE", "id": {"value": "o"}, "reserve": {"resources": reserved}}]}),
        ),
        call(
            "ACCEPT",
            "accept",
            json!({"offer_ids": [{"value": offer}], "operations": [{"type": "LAUNCH_GROUP",
            "launch_group": {"executor": {"executor_id": {"value": "e"}}, "task_group": {"tasks": [task]}}}]}),
        ),
        call(
            "DECLINE",
            "decline",
            json!({"offer_ids": [{"value": offer}], "filters": {"refuse_seconds": 5}}),
        ),
        call("REVIVE", "revive", json!({"roles": ["*"]})),
        call("SUPPRESS", "suppress", json!({"roles": ["*"]})),
        call(
            "KILL",
            "kill",
            json!({"task_id": {"value": "t"}, "agent_id": on}),
        ),
        call(
            "SHUTDOWN",
            "shutdown",
            json!({"executor_id": {"value": "e"}, "agent_id": on}),
        ),
        call(
            "ACKNOWLEDGE",
            "acknowledge",
            json!({"agent_id": on, "task_id": {"value": "t"}, "uuid": "KSHeA9VISIS0+mYto2WaGg=="}),
        ),
        call(
            "RECONCILE",
            "reconcile",
            json!({"tasks": [{"task_id": {"value": "t"}, "agent_id": on}]}),
        ),
        call(
            "MESSAGE",
            "message",
            json!({"agent_id": on, "executor_id": {"value": "e"}, "data": "cmVzdWx0"}),
        ),
        call(
            "UPDATE_FRAMEWORK",
            "update_framework",
            json!({"framework_info": info, "offer_constraints": constraints}),
        ),
        call(
            "DECLINE_INVERSE_OFFERS",
            "decline_inverse_offers",
            json!({"inverse_offer_ids": [{"value": offer}]}),
        ),
        call(
            "RECONCILE_OPERATIONS",
            "reconcile_operations",
            json!({"operations": [{"operation_id": {"value": "o"}}]}),
        ),
        call(
            "ACKNOWLEDGE_OPERATION_STATUS",
            "acknowledge_operation_status",
            json!({"operation_id": {"value": "o"}, "uuid": {"value": "eA=="}, "agent_id": on}),
        ),
    ]
}

#[test]
fn broken_calls_are_answered_once_and_leave_nothing_behind() {
    let which = (any::<usize>(), prop::collection::vec(breakage(), 1..4));
    let cases = prop::collection::vec(which, 1..12);
    let run = |cases: Vec<(usize, Vec<Breakage>)>| {
        let (mut bench, scheduler, agent, offer) = scene();
        let mut offer = offer.id.to_string();
        for (index, breakages) in cases {
            let all = calls(scheduler.id.as_str(), agent.id.as_str(), &offer);
            let call = broken(all[index % all.len()].clone(), &breakages);
            let Ok(envelope) = decode::call(call.to_string().as_bytes()) else {
                continue;
            };
            let outputs = match envelope.body {
                Call::Subscribe(subscribe) => {
                    let stream = bench.stream();
                    bench.input(Input::Subscribe {
                        stream,
                        framework_id: envelope.framework_id,
                        subscribe: Box::new(subscribe),
                    })
                }
                body => {
                    let outputs = bench.input(Input::Call {
                        framework_id: envelope.framework_id.unwrap_or_default(),
                        stream: Some(scheduler.stream.clone()),
                        call: Box::new(body),
                    });
                    reply(&outputs);
                    outputs
                }
            };
            for new in offers(&outputs, &scheduler) {
                offer = new.id.to_string();
            }
            bench.seconds(1.5);
        }
        // A framework or two, an agent, an offer; a task, filter and operation for each call.
        prop_assert!(bench.master.size() < 60, "{}", bench.master.size());
        prop_assert!(bench.master.summary().is_object());
        Ok(())
    };
    runner(400).run(&cases, run).unwrap();
}

#[test]
fn any_bytes_are_refused_or_understood() {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let text = "[\\[\\]{}\":,a-z0-9 ]{0,200}";
    let run = |bytes: Vec<u8>| {
        let _ = decode::call(&bytes);
        let _ = operator::decode(&bytes);
        Ok(())
    };
    runner(500).run(&bytes, run).unwrap();
    let run = |text: String| {
        prop_assert!(decode::call(text.as_bytes()).is_err());
        prop_assert!(operator::decode(text.as_bytes()).is_err());
        Ok(())
    };
    runner(500).run(&text, run).unwrap();
}

#[test]
fn a_body_that_is_nested_without_end_is_refused() {
    for open in ["[", "{\"type\":"] {
        let body = open.repeat(100_000);
        assert!(decode::call(body.as_bytes()).is_err());
        assert!(operator::decode(body.as_bytes()).is_err());
    }
}

#[test]
fn broken_operator_calls_are_refused_or_done() {
    let machine = json!({"hostname": "h", "ip": "10.0.0.1"});
    let window = json!({"machine_ids": [machine],
        "unavailability": {"start": {"nanoseconds": 5}, "duration": {"nanoseconds": 5}}});
    let on = json!({"agent_id": {"value": "m-S0"}});
    let all = [
        json!({"type": "DRAIN_AGENT", "drain_agent":
            {"agent_id": {"value": "m-S0"}, "max_grace_period": {"seconds": 3}, "mark_gone": true}}),
        json!({"type": "DEACTIVATE_AGENT", "deactivate_agent": on}),
        json!({"type": "REACTIVATE_AGENT", "reactivate_agent": on}),
        json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": on}),
        json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule":
            {"schedule": {"windows": [window]}}}),
        json!({"type": "START_MAINTENANCE", "start_maintenance": {"machines": [machine]}}),
        json!({"type": "STOP_MAINTENANCE", "stop_maintenance": {"machines": [machine]}}),
        json!({"type": "GET_STATE"}),
    ];
    let which = (any::<usize>(), prop::collection::vec(breakage(), 0..3));
    let cases = prop::collection::vec(which, 1..12);
    let run = |cases: Vec<(usize, Vec<Breakage>)>| {
        let (mut bench, ..) = scene();
        for (index, breakages) in cases {
            let call = broken(all[index % all.len()].clone(), &breakages);
            if let Ok(call) = operator::decode(call.to_string().as_bytes()) {
                let outputs = bench.input(Input::Operator(Box::new(call)));
                reply(&outputs);
            }
            bench.seconds(1.5);
        }
        prop_assert!(bench.master.size() < 60, "{}", bench.master.size());
        Ok(())
    };
    runner(300).run(&cases, run).unwrap();
}
