use super::*;
use crate::link::{RunningExecutor, RunningTask};
use meson_mesos::scheduler::{Reconcile, ReconcileTask};
use meson_mesos::types::StatusReason;

fn quick() -> Config {
    Config {
        agent_ping_timeout: Duration::from_secs(1),
        max_agent_ping_timeouts: 2,
        ..config()
    }
}

/// What an agent with one task on a custom executor says when it comes back.
fn comeback(agent: &TestAgent, scheduler: &Scheduler, task: TaskInfo, state: TaskState) -> Hello {
    let executor = task.executor.clone().unwrap();
    let mut hello = hello(machine());
    hello.agent.id = Some(agent.id.clone());
    hello.executors = vec![RunningExecutor {
        framework_id: scheduler.id.clone(),
        executor,
        is_command_executor: false,
        tasks: vec![RunningTask {
            task,
            state,
            latest: None,
        }],
    }];
    hello.frameworks = vec![FrameworkInfo {
        id: Some(scheduler.id.clone()),
        ..aware()
    }];
    hello
}

fn ask(id: &str, agent_id: Option<&AgentId>) -> Call {
    let task = ReconcileTask {
        task_id: id.into(),
        agent_id: agent_id.cloned(),
    };
    Call::Reconcile(Reconcile { tasks: vec![task] })
}

/// Answers every ping for a while.
fn answer_pings(bench: &mut Bench, agent: &TestAgent, seconds: u32) -> Vec<Output> {
    let mut all = Vec::new();
    for _ in 0..seconds * 10 {
        let outputs = bench.seconds(0.1);
        for message in to_agent(&outputs, agent) {
            if let ToAgent::Ping { sequence } = message {
                bench.agent_says(agent, FromAgent::Pong { sequence });
            }
        }
        all.extend(outputs);
    }
    all
}

#[test]
fn an_agent_that_answers_stays() {
    let mut bench = Bench::with(quick(), Registry::default());
    let (scheduler, agent, _) = bench.trio(aware());
    let outputs = answer_pings(&mut bench, &agent, 20);
    assert!(!kinds(&outputs, &scheduler).contains(&"FAILURE".to_owned()));
}

#[test]
fn a_silent_agent_is_unreachable_and_this_is_told_in_order() {
    let mut bench = Bench::with(quick(), Registry::default());
    let (scheduler, agent, id) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.accepted(&scheduler, Call::Revive(Default::default()));
    let outputs = bench.seconds(2.0);
    assert!(
        !kinds(&outputs, &scheduler).contains(&"FAILURE".to_owned()),
        "{:?}",
        kinds(&outputs, &scheduler)
    );
    let outputs = bench.seconds(1.1);
    assert_eq!(
        kinds(&outputs, &scheduler),
        ["UPDATE", "RESCIND", "FAILURE"]
    );
    let told = &updates(&outputs, &scheduler)[0];
    assert_eq!(
        (&told.task_id, &told.state, &told.reason),
        (
            &id,
            &TaskState::Unreachable,
            &Some(StatusReason::AgentRemoved)
        )
    );
    assert!(told.unreachable_time.is_some());
    assert!(
        matches!(events(&outputs, &scheduler).last(), Some(Event::Failure(failure)) if failure.executor_id.is_none())
    );

    let outputs = bench.accepted(&scheduler, ask("t", Some(&agent.id)));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::Unreachable
    );
    let outputs = bench.accepted(&scheduler, ask("t", None));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::Unknown,
        "always send the agent id"
    );
    let outputs = bench.accepted(&scheduler, Call::Reconcile(Reconcile::default()));
    assert!(
        events(&outputs, &scheduler).is_empty(),
        "unreachable tasks are not among the live"
    );
}

#[test]
fn a_task_told_as_lost_comes_back_to_life() {
    for (framework, lost_as) in [
        (info(&[]), TaskState::Lost),
        (aware(), TaskState::Unreachable),
    ] {
        let mut bench = Bench::with(quick(), Registry::default());
        let (scheduler, agent, _) = bench.running(framework, |agent| task_on("e", "t", agent, 1.0));
        let outputs = bench.seconds(4.0);
        assert_eq!(updates(&outputs, &scheduler)[0].state, lost_as);
        let hello = comeback(
            &agent,
            &scheduler,
            task_on("e", "t", &agent, 1.0),
            TaskState::Running,
        );
        let (back, outputs) = bench.hello(hello);
        assert_eq!(back.id, agent.id);
        let told = &updates(&outputs, &scheduler)[0];
        assert_eq!(
            (&told.state, &told.reason),
            (&TaskState::Running, &Some(StatusReason::AgentReregistered))
        );
        assert_eq!(told.uuid, None);
        let offer = offers(&outputs, &scheduler).remove(0);
        assert!(
            (cpus(&offer) - 2.9).abs() < 1e-9,
            "its task and executor count again"
        );
    }
}

#[test]
fn a_broken_connection_rescinds_offers_at_once_and_loses_what_is_not_checkpointed() {
    for checkpoint in [true, false] {
        let mut bench = Bench::new();
        let framework = FrameworkInfo {
            checkpoint: Some(checkpoint),
            ..aware()
        };
        let (scheduler, agent, _) = bench.running(framework, |agent| task("t", agent, 1.0));
        bench.accepted(&scheduler, Call::Revive(Default::default()));
        let outputs = bench.input(Input::AgentGone {
            stream: agent.stream.clone(),
        });
        let expected: &[&str] = if checkpoint {
            &["RESCIND"]
        } else {
            &["RESCIND", "UPDATE"]
        };
        assert_eq!(kinds(&outputs, &scheduler), expected);
        if !checkpoint {
            let told = &updates(&outputs, &scheduler)[0];
            assert_eq!(
                (&told.state, &told.reason),
                (&TaskState::Lost, &Some(StatusReason::AgentDisconnected))
            );
            assert_eq!(told.message.as_deref(), Some("Agent h disconnected"));
        }
        let outputs = bench.accepted(&scheduler, Call::Revive(Default::default()));
        assert!(
            offers(&outputs, &scheduler).is_empty(),
            "a disconnected agent is not offered"
        );
    }
}

#[test]
fn a_restarted_agent_says_what_it_still_has_and_the_rest_is_dropped() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    let tasks = vec![
        task_on("e", "kept", &agent, 1.0),
        task_on("e", "never-arrived", &agent, 1.0),
    ];
    bench.accept(&scheduler, &[&offer.id], tasks, Some(3600.0));
    bench.input(Input::AgentGone {
        stream: agent.stream.clone(),
    });
    let hello = comeback(
        &agent,
        &scheduler,
        task_on("e", "kept", &agent, 1.0),
        TaskState::Running,
    );
    let (_, outputs) = bench.hello(hello);
    let told = updates(&outputs, &scheduler);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (told[0].task_id.as_str(), &told[0].state),
        ("never-arrived", &TaskState::Dropped)
    );
    let outputs = bench.accepted(&scheduler, ask("kept", None));
    assert_eq!(updates(&outputs, &scheduler)[0].state, TaskState::Running);
}

#[test]
fn a_kill_for_an_agent_that_is_away_waits_for_it() {
    let mut bench = Bench::new();
    let (scheduler, agent, id) = bench.running(aware(), |agent| task_on("e", "t", agent, 1.0));
    bench.input(Input::AgentGone {
        stream: agent.stream.clone(),
    });
    let kill = meson_mesos::scheduler::Kill {
        task_id: id.clone(),
        ..Default::default()
    };
    let outputs = bench.accepted(&scheduler, Call::Kill(kill));
    assert!(events(&outputs, &scheduler).is_empty());
    let hello = comeback(
        &agent,
        &scheduler,
        task_on("e", "t", &agent, 1.0),
        TaskState::Running,
    );
    let (back, outputs) = bench.hello(hello);
    assert!(
        to_agent(&outputs, &back)
            .iter()
            .any(|message| matches!(message, ToAgent::KillTask { task_id, .. } if *task_id == id))
    );
}

#[test]
fn an_agent_that_leaves_loses_its_tasks_for_aware_frameworks_too() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    let outputs = bench.agent_says(&agent, FromAgent::Unregister);
    let told = &updates(&outputs, &scheduler)[0];
    assert_eq!(
        (&told.state, told.message.as_deref()),
        (
            &TaskState::Lost,
            Some("Agent h removed: the agent unregistered")
        )
    );
    assert_eq!(kinds(&outputs, &scheduler), ["UPDATE", "FAILURE"]);
}

#[test]
fn an_agent_marked_gone_may_not_come_back() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task_on("e", "t", agent, 1.0));
    let outputs = bench.input(Input::MarkAgentGone {
        agent_id: agent.id.clone(),
    });
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::GoneByOperator
    );
    let hello = comeback(
        &agent,
        &scheduler,
        task_on("e", "t", &agent, 1.0),
        TaskState::Running,
    );
    let (_, outputs) = bench.hello(hello);
    assert!(outputs.iter().any(|o| matches!(o, Output::ToAgent { message, .. } if matches!(**message, ToAgent::Refused { .. }))));
    let outputs = bench.accepted(&scheduler, ask("t", Some(&agent.id)));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::GoneByOperator
    );
}

#[test]
fn a_call_on_an_old_stream_of_an_agent_is_refused() {
    let mut bench = Bench::new();
    let old = bench.agent();
    let mut again = hello(machine());
    again.agent.id = Some(old.id.clone());
    let (new, outputs) = bench.hello(again);
    assert!(outputs.contains(&Output::CloseAgent {
        stream: old.stream.clone()
    }));
    assert!(matches!(
        reply(&bench.agent_says(&old, FromAgent::Pong { sequence: 1 })),
        Reply::Conflict(_)
    ));
    assert_eq!(
        reply(&bench.agent_says(&new, FromAgent::Pong { sequence: 1 })),
        Reply::Accepted
    );
}

/// The state after a restart of the master, with the agent and framework of before.
fn restarted() -> (Bench, Scheduler, TestAgent) {
    let mut before = Bench::new();
    let (scheduler, agent, _) = before.running(aware(), |agent| task_on("e", "t", agent, 1.0));
    let registry = before.master.registry();
    let info = MasterInfo {
        id: "m2".into(),
        ..MasterInfo::default()
    };
    (
        Bench::with(Config { info, ..config() }, registry),
        scheduler,
        agent,
    )
}

#[test]
fn after_a_restart_there_is_silence_about_tasks_until_the_agents_are_back() {
    let (mut bench, scheduler, agent) = restarted();
    let (scheduler, _) = bench.subscribe_as(aware(), Some(scheduler.id));
    for agent_id in [Some(&agent.id), None] {
        let outputs = bench.accepted(&scheduler, ask("t", agent_id));
        assert!(events(&outputs, &scheduler).is_empty());
    }
    let hello = comeback(
        &agent,
        &scheduler,
        task_on("e", "t", &agent, 1.0),
        TaskState::Running,
    );
    let (back, outputs) = bench.hello(hello);
    assert_eq!(back.id, agent.id);
    assert!(
        updates(&outputs, &scheduler).is_empty(),
        "of agents that the registry knew nothing is said"
    );
    let outputs = bench.accepted(&scheduler, ask("t", None));
    assert_eq!(updates(&outputs, &scheduler)[0].state, TaskState::Running);
}

#[test]
fn an_agent_that_does_not_come_back_in_ten_minutes_is_unreachable() {
    let (mut bench, scheduler, agent) = restarted();
    let (scheduler, _) = bench.subscribe_as(aware(), Some(scheduler.id));
    bench.seconds(601.0);
    let outputs = bench.accepted(&scheduler, ask("t", Some(&agent.id)));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::Unreachable
    );
}

#[test]
fn an_agent_may_come_back_before_its_framework() {
    let (mut bench, scheduler, agent) = restarted();
    let hello = comeback(
        &agent,
        &scheduler,
        task_on("e", "t", &agent, 1.0),
        TaskState::Running,
    );
    let (back, outputs) = bench.hello(hello);
    assert!(
        !to_agent(&outputs, &back)
            .iter()
            .any(|message| matches!(message, ToAgent::ShutdownFramework { .. }))
    );
    let (scheduler, outputs) = bench.subscribe_as(aware(), Some(scheduler.id));
    let offer = offers(&outputs, &scheduler).remove(0);
    assert!((cpus(&offer) - 2.9).abs() < 1e-9);
    let outputs = bench.accepted(&scheduler, Call::Reconcile(Reconcile::default()));
    assert_eq!(updates(&outputs, &scheduler)[0].state, TaskState::Running);
}

#[test]
fn a_master_that_remembers_nothing_says_unknown_until_the_agent_is_back() {
    let (_, scheduler, agent) = restarted();
    let mut bench = Bench::new();
    let (scheduler, _) = bench.subscribe_as(aware(), Some(scheduler.id));
    let outputs = bench.accepted(&scheduler, ask("t", Some(&agent.id)));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::Unknown,
        "though the task runs"
    );
    let hello = comeback(
        &agent,
        &scheduler,
        task_on("e", "t", &agent, 1.0),
        TaskState::Running,
    );
    let (_, outputs) = bench.hello(hello);
    let told = &updates(&outputs, &scheduler)[0];
    assert_eq!(
        (&told.state, told.message.as_deref()),
        (&TaskState::Running, Some("Unknown agent reregistered"))
    );
}

#[test]
fn the_registry_is_saved_before_an_agent_hears_that_it_is_registered() {
    let mut bench = Bench::new();
    let (_, outputs) = bench.hello(hello(machine()));
    assert_eq!(outputs[0], Output::SaveRegistry);
    assert_eq!(bench.master.registry().admitted.len(), 1);
}
