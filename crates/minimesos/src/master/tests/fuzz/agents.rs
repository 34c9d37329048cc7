//! Agents that lie, and say what nobody waits for.

use super::*;
use crate::master::{MachineId, OperatorCall, Schedule, Window};
use meson_mesos::types::{ContainerStatus, StatusReason};

/// What an agent may say of its resources.
fn lies() -> impl Strategy<Value = Vec<Resource>> {
    let amount = prop_oneof![
        Just(-5.0),
        Just(0.0),
        Just(1e308),
        Just(-1e308),
        Just(0.0001),
        0.0..100.0
    ];
    let name = prop_oneof![Just("cpus"), Just("mem"), Just(""), Just("x")];
    let scalar = (name, amount).prop_map(|(name, amount)| Resource::scalar(name, amount));
    let end = || prop_oneof![Just(0), Just(u64::MAX), any::<u64>()];
    let range = (end(), end()).prop_map(|pair| Resource::ranges("ports", [pair]));
    let confused = Just(Resource {
        scalar: None,
        ..Resource::scalar("cpus", 1.0)
    });
    prop::collection::vec(prop_oneof![4 => scalar, 2 => range, 1 => confused], 0..8)
}

#[test]
fn agents_that_lie_about_their_resources_break_nothing() {
    let run = |(first, second, task): (Vec<Resource>, Vec<Resource>, Vec<Resource>)| {
        let mut bench = Bench::new();
        let scheduler = bench.subscribe(aware());
        let (agent, outputs) = bench.hello(hello(first));
        let mut held: Vec<Offer> = offers(&outputs, &scheduler);
        for offer in held.clone() {
            let launch = TaskInfo {
                resources: task.clone(),
                ..super::task("t", &agent, 1.0)
            };
            bench.accept(&scheduler, &[&offer.id], vec![launch], Some(0.0));
        }
        // It comes back as quite another machine, with a task that nobody gave it.
        let mut again = hello(second);
        again.agent.id = Some(agent.id.clone());
        let (agent, outputs) = bench.hello(again);
        held = offers(&outputs, &scheduler);
        let outputs = bench.seconds(3.0);
        held.extend(offers(&outputs, &scheduler));
        prop_assert!(held.len() < 20);
        bench.update(
            &agent,
            &scheduler,
            status("t", TaskState::Finished, "0123456789abcdef"),
        );
        bench.seconds(3.0);
        prop_assert!(bench.master.size() < 60, "{}", bench.master.size());
        prop_assert!(bench.master.summary().is_object());
        Ok(())
    };
    runner(300).run(&(lies(), lies(), lies()), run).unwrap();
}

#[test]
fn updates_for_tasks_that_nobody_knows_are_passed_on_and_not_kept() {
    let (mut bench, scheduler, agent, _) = scene();
    let before = bench.master.size();
    for number in 0..2_000 {
        let id = format!("nobody-{number}");
        let status = status(&id, TaskState::Running, "0123456789abcdef");
        let outputs = bench.update(&agent, &scheduler, status);
        assert_eq!(updates(&outputs, &scheduler).len(), 1);
    }
    assert_eq!(bench.master.size(), before);
}

#[test]
fn an_update_that_comes_a_thousand_times_is_one_update() {
    let (mut bench, scheduler, agent, offer) = scene();
    bench.accept(&scheduler, &[&offer.id], vec![task("t", &agent, 1.0)], None);
    let running = || status("t", TaskState::Running, "0123456789abcdef");
    bench.update(&agent, &scheduler, running());
    let before = bench.master.size();
    for _ in 0..1_000 {
        bench.update(&agent, &scheduler, running());
    }
    assert_eq!(bench.master.size(), before);
    // After the end, whatever is said changes nothing any more.
    bench.update(
        &agent,
        &scheduler,
        status("t", TaskState::Finished, "fedcba9876543210"),
    );
    bench.update(&agent, &scheduler, running());
    let task = &bench.master.frameworks[&scheduler.id].tasks[&TaskId::new("t")];
    assert_eq!(task.state, TaskState::Finished);
}

#[test]
fn a_status_of_five_megabytes_is_passed_on_and_not_kept() {
    let (mut bench, scheduler, agent, offer) = scene();
    bench.accept(&scheduler, &[&offer.id], vec![task("t", &agent, 1.0)], None);
    let big = TaskStatus {
        data: Some(Data::from(vec![7; 5 << 20])),
        ..status("t", TaskState::Running, "0123456789abcdef")
    };
    let outputs = bench.update(&agent, &scheduler, big);
    let passed = updates(&outputs, &scheduler);
    assert_eq!(
        passed[0].data.as_ref().map(|data| data.len()),
        Some(5 << 20)
    );
    let kept = format!("{:?}", bench.master);
    assert!(kept.len() < 100_000, "{} bytes are kept", kept.len());
}

/// What an agent may call a state.
const STATES: &[&str] = &[
    "TASK_RUNNING",
    "TASK_FINISHED",
    "TASK_STAGING",
    "TASK_FROZEN",
    "",
];

/// Task, framework, state, latest state, uuid, and which kind of call.
type Said = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<Vec<u8>>,
    u8,
);

#[test]
fn an_agent_may_say_anything_of_anybody() {
    let case = (
        prop_oneof![Just("t"), Just("u"), Just("")],
        prop_oneof![Just("m-0000"), Just("nobody"), Just("")],
        prop::sample::select(STATES),
        prop::sample::select(STATES),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        0..4_u8,
    );
    let run = |cases: Vec<Said>| {
        let (mut bench, scheduler, agent, offer) = scene();
        bench.accept(
            &scheduler,
            &[&offer.id],
            vec![task("t", &agent, 1.0)],
            Some(0.0),
        );
        for (task_id, framework_id, state, latest, uuid, kind) in cases {
            let framework_id = FrameworkId::new(framework_id);
            let call = match kind {
                0 => FromAgent::ExecutorTerminated {
                    framework_id,
                    executor_id: ExecutorId::new(task_id),
                    status: i32::MIN,
                    is_command_executor: false,
                },
                1 => FromAgent::ExecutorMessage {
                    framework_id,
                    executor_id: ExecutorId::new(task_id),
                    data: Data::from(uuid.unwrap_or_default()),
                },
                _ => FromAgent::StatusUpdate {
                    framework_id,
                    status: Box::new(TaskStatus {
                        uuid: uuid.map(Data::from),
                        agent_id: Some("somebody-else".into()),
                        reason: Some(StatusReason::from("REASON_NONE")),
                        container_status: Some(ContainerStatus::default()),
                        ..TaskStatus::new(task_id.into(), TaskState::from(state))
                    }),
                    latest_state: TaskState::from(latest),
                },
            };
            bench.agent_says(&agent, call);
            bench.seconds(0.3);
        }
        prop_assert!(bench.master.size() < 30, "{}", bench.master.size());
        Ok(())
    };
    let cases = prop::collection::vec(case, 1..30);
    runner(300).run(&cases, run).unwrap();
}

#[test]
fn what_is_remembered_of_those_who_left_has_a_bound() {
    let mut bench = Bench::new();
    let scheduler = bench.subscribe(aware());
    // A plan for a machine whose agents come and go.
    let plan = OperatorCall::Schedule(Schedule {
        windows: vec![Window {
            machine_ids: vec![MachineId {
                hostname: Some("h".into()),
                ip: None,
            }],
            ..Window::default()
        }],
    });
    bench.input(Input::Operator(Box::new(plan)));
    let mut sizes = Vec::new();
    for round in 0..2_400 {
        let (agent, outputs) = bench.hello(hello(machine()));
        let offer = offers(&outputs, &scheduler).pop().unwrap();
        let id = format!("t{round}");
        bench.accept(
            &scheduler,
            &[&offer.id],
            vec![task(&id, &agent, 1.0)],
            Some(3600.0),
        );
        bench.agent_says(&agent, FromAgent::Unregister);
        if round % 1_200 == 1_199 {
            sizes.push(bench.master.size());
        }
    }
    assert_eq!(sizes[0], sizes[1], "it grows with every agent that leaves");
}
