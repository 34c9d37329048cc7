use super::*;
use meson_mesos::scheduler::{Acknowledge, Kill, Message, Reconcile, ReconcileTask, Shutdown};
use meson_mesos::types::StatusReason;

fn ask(id: &str, agent_id: Option<&AgentId>) -> Call {
    let task = ReconcileTask {
        task_id: id.into(),
        agent_id: agent_id.cloned(),
    };
    Call::Reconcile(Reconcile { tasks: vec![task] })
}

fn acknowledge(agent: &TestAgent, id: &str, uuid: &str) -> Call {
    Call::Acknowledge(Acknowledge {
        agent_id: agent.id.clone(),
        task_id: id.into(),
        uuid: uuid.into(),
    })
}

fn kill(id: &str, agent_id: Option<&AgentId>) -> Call {
    Call::Kill(Kill {
        task_id: id.into(),
        agent_id: agent_id.cloned(),
        kill_policy: None,
    })
}

#[test]
fn an_update_passes_through_as_it_is() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    let sent = status("t", TaskState::Finished, "0123456789abcdef");
    let outputs = bench.update(&agent, &scheduler, sent.clone());
    assert_eq!(updates(&outputs, &scheduler), [sent]);
}

#[test]
fn an_update_of_a_task_that_nobody_launched_reaches_the_scheduler() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.trio(aware());
    let outputs = bench.update(
        &agent,
        &scheduler,
        status("no-such-task", TaskState::Running, "0123456789abcdef"),
    );
    assert_eq!(updates(&outputs, &scheduler).len(), 1);
}

#[test]
fn acknowledgements_go_to_the_agent_and_end_an_ended_task() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.update(
        &agent,
        &scheduler,
        status("t", TaskState::Finished, "0123456789abcdef"),
    );
    let outputs = bench.accepted(&scheduler, ask("t", None));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::Finished,
        "until then it is known"
    );
    let outputs = bench.accepted(&scheduler, acknowledge(&agent, "t", "0123456789abcdef"));
    assert!(
        matches!(&to_agent(&outputs, &agent)[..], [ToAgent::AcknowledgeUpdate { uuid, .. }] if **uuid == *b"0123456789abcdef")
    );
    let outputs = bench.accepted(&scheduler, ask("t", Some(&agent.id)));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::Gone,
        "ended and acknowledged: unknown at once"
    );
}

#[test]
fn acknowledging_an_older_update_does_not_end_the_task() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.update(
        &agent,
        &scheduler,
        status("t", TaskState::Finished, "0123456789abcdef"),
    );
    bench.accepted(&scheduler, acknowledge(&agent, "t", "running-uuid-000"));
    let outputs = bench.accepted(&scheduler, ask("t", None));
    assert_eq!(updates(&outputs, &scheduler)[0].state, TaskState::Finished);
}

#[test]
fn resources_of_an_ended_task_are_free_before_its_update_is_through() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    let held_back = FromAgent::StatusUpdate {
        framework_id: scheduler.id.clone(),
        status: Box::new(status("t", TaskState::Running, "0123456789abcdef")),
        latest_state: TaskState::Finished,
    };
    bench.agent_says(&agent, held_back);
    let offer = offers(&bench.seconds(1.0), &scheduler).remove(0);
    assert!((cpus(&offer) - 4.0).abs() < 1e-9);
    let outputs = bench.accepted(&scheduler, ask("t", None));
    assert_eq!(
        updates(&outputs, &scheduler)[0].state,
        TaskState::Finished,
        "the latest state is told"
    );
}

#[test]
fn reconciliation_leaves_out_data_and_uuid() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task_on("e", "t", agent, 1.0));
    let outputs = bench.accepted(&scheduler, Call::Reconcile(Reconcile::default()));
    let told = updates(&outputs, &scheduler);
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0].state, &told[0].reason),
        (&TaskState::Running, &Some(StatusReason::Reconciliation))
    );
    assert_eq!((&told[0].data, &told[0].uuid), (&None, &None));
    assert_eq!(
        told[0].message.as_deref(),
        Some("Reconciliation: Latest task state")
    );
    assert_eq!(
        (&told[0].agent_id, &told[0].executor_id),
        (&Some(agent.id), &Some("e".into()))
    );
}

#[test]
fn a_task_that_its_executor_has_not_mentioned_is_staging() {
    let mut bench = Bench::new();
    let (scheduler, agent, offer) = bench.trio(aware());
    bench.accept(&scheduler, &[&offer.id], vec![task("t", &agent, 1.0)], None);
    let outputs = bench.accepted(&scheduler, ask("t", None));
    assert_eq!(updates(&outputs, &scheduler)[0].state, TaskState::Staging);
}

#[test]
fn an_implicit_reconciliation_without_tasks_is_answered_by_nothing() {
    let mut bench = Bench::new();
    let (scheduler, ..) = bench.trio(aware());
    let outputs = bench.accepted(&scheduler, Call::Reconcile(Reconcile::default()));
    assert!(events(&outputs, &scheduler).is_empty());
}

#[test]
fn unknown_tasks_are_gone_where_their_agent_says_so_and_unknown_elsewhere() {
    for (framework, gone, unknown) in [
        (aware(), TaskState::Gone, TaskState::Unknown),
        (info(&[]), TaskState::Lost, TaskState::Lost),
    ] {
        let mut bench = Bench::new();
        let (scheduler, agent, _) = bench.trio(framework);
        let nowhere = AgentId::new("no-such-agent");
        for call in [ask, kill] {
            for (agent_id, state, message) in [
                (
                    Some(&agent.id),
                    &gone,
                    "Reconciliation: Task is unknown to the agent",
                ),
                (Some(&nowhere), &unknown, "Reconciliation: Task is unknown"),
                (None, &unknown, "Reconciliation: Task is unknown"),
            ] {
                let outputs = bench.accepted(&scheduler, call("never-was", agent_id));
                let told = &updates(&outputs, &scheduler)[0];
                assert_eq!(
                    (&told.state, told.message.as_deref()),
                    (state, Some(message))
                );
                assert_eq!(told.agent_id.as_ref(), agent_id, "printed as it was asked");
            }
        }
    }
}

#[test]
fn a_kill_goes_to_the_agent_with_its_policy() {
    let mut bench = Bench::new();
    let (scheduler, agent, id) = bench.running(aware(), |agent| task("t", agent, 1.0));
    let outputs = bench.accepted(&scheduler, kill("t", None));
    let expected = ToAgent::KillTask {
        framework_id: scheduler.id.clone(),
        task_id: id,
        kill_policy: None,
    };
    assert_eq!(to_agent(&outputs, &agent), [expected]);
}

#[test]
fn messages_pass_both_ways() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task_on("e", "t", agent, 1.0));
    let message = Message {
        agent_id: agent.id.clone(),
        executor_id: "e".into(),
        data: "hello".into(),
    };
    let outputs = bench.accepted(&scheduler, Call::Message(message.clone()));
    assert!(
        matches!(&to_agent(&outputs, &agent)[..], [ToAgent::FrameworkMessage { data, .. }] if **data == *b"hello")
    );
    let back = FromAgent::ExecutorMessage {
        framework_id: scheduler.id.clone(),
        executor_id: "e".into(),
        data: "hello".into(),
    };
    let outputs = bench.agent_says(&agent, back);
    assert_eq!(events(&outputs, &scheduler), [Event::Message(message)]);
}

#[test]
fn the_end_of_a_custom_executor_is_a_failure_event_and_of_a_command_executor_none() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task_on("e", "t", agent, 1.0));
    let shutdown = Shutdown {
        executor_id: "e".into(),
        agent_id: agent.id.clone(),
    };
    let outputs = bench.accepted(&scheduler, Call::Shutdown(shutdown));
    assert!(matches!(
        to_agent(&outputs, &agent)[..],
        [ToAgent::ShutdownExecutor { .. }]
    ));
    let mut ended = |is_command_executor| {
        let framework_id = scheduler.id.clone();
        let executor_id = ExecutorId::new("e");
        let call = FromAgent::ExecutorTerminated {
            framework_id,
            executor_id,
            status: 9,
            is_command_executor,
        };
        let outputs = bench.agent_says(&agent, call);
        events(&outputs, &scheduler)
    };
    assert!(matches!(&ended(false)[..], [Event::Failure(failure)] if failure.status == Some(9)));
    assert!(ended(true).is_empty());
}

#[test]
fn updates_for_a_removed_framework_are_answered_by_its_shutdown() {
    let mut bench = Bench::new();
    let (scheduler, agent, _) = bench.running(aware(), |agent| task("t", agent, 1.0));
    bench.accepted(&scheduler, Call::Teardown);
    let outputs = bench.update(
        &agent,
        &scheduler,
        status("t", TaskState::Killed, "0123456789abcdef"),
    );
    assert!(matches!(
        to_agent(&outputs, &agent)[..],
        [ToAgent::ShutdownFramework { .. }]
    ));
}
