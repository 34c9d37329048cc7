//! What the master and executors ask for: kills, shutdowns, messages, subscriptions.

use super::*;

#[test]
fn a_kill_before_the_executor_registered_never_reaches_it() {
    let mut bench = Bench::new();
    bench.run_custom("t");
    let container = bench.container();
    bench.started(&container);
    bench.take();
    bench.kill("t");
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Killed);
    assert_eq!(update.source, Some(StatusSource::Agent));
    assert_eq!(update.reason, Some(StatusReason::TaskKilledDuringLaunch));
    assert_eq!(
        update.message.as_deref(),
        Some("Killed before delivery to the executor")
    );
    // Now there is nothing for it to do.
    bench.subscribe("e");
    assert_eq!(names(&bench.events()), ["SUBSCRIBED", "SHUTDOWN"]);
}

#[test]
fn a_kill_while_uris_are_fetched_stops_the_start() {
    let mut bench = Bench::new();
    bench.run_custom("t");
    let container = bench.container();
    bench.kill("t");
    assert!(bench.take().contains(&Output::Destroy(container.clone())));
    bench.end(&container, 9);
    assert_eq!(bench.told(), []);
}

#[test]
fn a_kill_of_a_running_task_is_the_executors_business() {
    let (mut bench, _, stream) = Bench::with_running_task();
    bench.kill("t");
    let events = bench.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, stream);
    assert_eq!(events[0].1.type_name(), "KILL");
}

#[test]
fn a_kill_of_a_task_that_is_not_here_says_so() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.kill("unknown");
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Lost);
    assert!(update.uuid.is_some());
    let mut framework = bench.framework();
    framework
        .capabilities
        .push(CapabilityType::PartitionAware.into());
    bench.input(Input::UpdateFramework(Box::new(framework)));
    bench.take();
    bench.kill("unknown");
    assert_eq!(bench.only_update().state, TaskState::Gone);
}

#[test]
fn the_end_of_an_executor_is_told_to_a_master_that_was_away() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.input(Input::Disconnected);
    bench.end(&container, 9);
    assert!(
        !bench
            .take()
            .iter()
            .any(|output| matches!(output, Output::ExecutorExited(_)))
    );
    bench.register();
    let out = bench.take();
    assert!(matches!(&out[0], Output::ExecutorExited(exit) if exit.status == 9));
    assert!(matches!(out[1], Output::Update(_)));
}

#[test]
fn an_executor_that_is_deaf_to_shutdown_is_killed_after_its_grace() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.input(Input::ShutdownExecutor {
        framework_id: FrameworkId::new(FRAMEWORK),
        executor_id: ExecutorId::new("e"),
    });
    assert_eq!(names(&bench.events()), ["SHUTDOWN"]);
    bench.pass(Duration::from_millis(4_999));
    assert_eq!(bench.take(), []);
    bench.pass(Duration::from_millis(1));
    assert!(bench.take().contains(&Output::Destroy(container.clone())));
    bench.end(&container, 9);
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Failed);
    assert_eq!(update.reason, Some(StatusReason::ExecutorTerminated));
}

#[test]
fn a_task_for_an_executor_that_shuts_down_is_lost() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.input(Input::ShutdownExecutor {
        framework_id: FrameworkId::new(FRAMEWORK),
        executor_id: ExecutorId::new("e"),
    });
    bench.take();
    bench.run_custom("t2");
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Lost);
    assert_eq!(update.reason, Some(StatusReason::ExecutorTerminated));
}

#[test]
fn the_same_executor_id_after_its_end_starts_a_new_run() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.end(&container, 0);
    bench.take();
    bench.run_custom("t2");
    assert_ne!(bench.container(), container);
}

#[test]
fn the_end_of_a_framework_ends_its_executors_and_silences_its_updates() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.input(Input::ShutdownFramework(FrameworkId::new(FRAMEWORK)));
    assert_eq!(names(&bench.events()), ["SHUTDOWN"]);
    bench.update("e", status("t", TaskState::Killed, 5));
    let out = bench.take();
    assert!(!out.iter().any(|output| matches!(output, Output::Update(_))));
    bench.out = out;
    assert_eq!(names(&bench.events()), ["ACKNOWLEDGED"]);
    bench.end(&container, 0);
    let out = bench.take();
    assert!(out.contains(&Output::RemoveFramework(FrameworkId::new(FRAMEWORK))));
    assert!(!out.iter().any(|output| matches!(output, Output::Update(_))));
    assert!(
        out.iter()
            .all(|output| !matches!(output, Output::ExecutorExited(exit) if !exit.quiet))
    );
}

#[test]
fn messages_go_both_ways_and_are_lost_when_nobody_listens() {
    let (mut bench, ..) = Bench::with_running_task();
    let to_executor = |data: &str| Input::MessageToExecutor {
        framework_id: FrameworkId::new(FRAMEWORK),
        executor_id: ExecutorId::new("e"),
        data: Data::from(data),
    };
    bench.input(to_executor("hello"));
    assert_eq!(names(&bench.events()), ["MESSAGE"]);
    let stream = RequestId(101);
    bench.call(
        "e",
        Call::Message(Message {
            data: Data::from("echo"),
        }),
    );
    assert!(
        bench
            .take()
            .iter()
            .any(|output| matches!(output, Output::MessageToScheduler { .. }))
    );
    bench.input(Input::StreamEnded(stream));
    bench.input(to_executor("lost"));
    assert_eq!(bench.take(), []);
}

#[test]
fn calls_of_strangers_are_refused() {
    let (mut bench, ..) = Bench::with_running_task();
    let request = bench.subscribe("nobody");
    assert_eq!(
        bench.take(),
        [Output::Answer(
            request,
            Answer::Refused("Executor cannot be found")
        )]
    );
    bench.input(Input::Call {
        request: RequestId(1),
        framework_id: FrameworkId::new("nope"),
        executor_id: ExecutorId::new("e"),
        call: Box::new(Call::Heartbeat),
    });
    assert_eq!(
        bench.take(),
        [Output::Answer(
            RequestId(1),
            Answer::Refused("Framework cannot be found")
        )]
    );
}

#[test]
fn a_second_subscription_replaces_the_first() {
    let (mut bench, _, first) = Bench::with_running_task();
    let second = bench.subscribe("e");
    assert!(bench.take().contains(&Output::Close(first)));
    // The news of the old stream's end comes late and means nothing.
    bench.input(Input::StreamEnded(first));
    bench.kill("t");
    assert_eq!(bench.events()[0].0, second);
}

#[test]
fn a_kill_for_an_executor_that_is_away_waits_for_it() {
    let (mut bench, _, stream) = Bench::with_running_task();
    bench.input(Input::StreamEnded(stream));
    bench.kill("t");
    assert_eq!(bench.take(), []);
    bench.subscribe("e");
    assert_eq!(names(&bench.events()), ["SUBSCRIBED", "KILL"]);
}

#[test]
fn a_task_that_was_lost_on_its_way_to_the_executor_is_told_as_lost() {
    let (mut bench, _, stream) = Bench::with_running_task();
    bench.run_custom("t2");
    bench.run_custom("t3");
    bench.input(Input::StreamEnded(stream));
    bench.take();
    // The executor got t3 and not t2.
    bench.call(
        "e",
        Call::Subscribe(Subscribe {
            unacknowledged_tasks: vec![custom("t3")],
            unacknowledged_updates: vec![],
        }),
    );
    let update = bench.only_update();
    assert_eq!(update.task_id.as_str(), "t2");
    assert_eq!(update.state, TaskState::Lost);
    assert_eq!(update.reason, Some(StatusReason::AgentRestarted));
}

#[test]
fn nothing_is_sent_without_a_master_and_everything_upon_its_return() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.input(Input::Disconnected);
    bench.update("e", status("t", TaskState::Killing, 2));
    bench.update("e", status("t", TaskState::Killed, 3));
    bench.pass(seconds(100));
    assert_eq!(bench.told(), []);
    bench.register();
    assert_eq!(bench.told(), [("t".to_owned(), TaskState::Killing)]);
}

#[test]
fn a_scheduler_that_is_back_gets_at_once_what_it_may_have_missed() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Killed, 3));
    bench.pass(seconds(100));
    bench.take();
    let framework = bench.framework();
    bench.input(Input::UpdateFramework(Box::new(framework)));
    assert_eq!(bench.told(), [("t".to_owned(), TaskState::Killed)]);
}

#[test]
fn a_leaving_agent_unregisters_shuts_down_and_is_gone_when_nothing_is_left() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.input(Input::Leave);
    let out = bench.take();
    assert_eq!(out[0], Output::Unregister);
    assert!(!out.contains(&Output::Left));
    bench.out = out;
    assert_eq!(names(&bench.events()), ["SHUTDOWN"]);
    bench.run_custom("late");
    assert_eq!(bench.take(), []);
    bench.end(&container, 0);
    assert!(bench.take().contains(&Output::Left));

    let mut idle = Bench::new();
    idle.input(Input::Leave);
    assert_eq!(idle.take(), [Output::Unregister, Output::Left]);
}

#[test]
fn a_task_that_the_master_sends_twice_runs_once() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.run_custom("t");
    assert_eq!(bench.take(), []);
}

#[test]
fn an_id_that_would_leave_its_folder_is_an_error() {
    let mut bench = Bench::new();
    let mut task = custom("t");
    task.executor.as_mut().unwrap().executor_id = ExecutorId::new("../../etc");
    bench.run(task);
    let out = bench.take();
    assert!(
        !out.iter()
            .any(|output| matches!(output, Output::Start { .. }))
    );
    bench.out = out;
    assert_eq!(bench.only_update().state, TaskState::Error);
}

#[test]
fn a_drain_kills_every_task_within_its_grace_and_says_so() {
    let (mut bench, _, stream) = Bench::with_running_task();
    let mut patient = custom("patient");
    patient.kill_policy = Some(KillPolicy {
        grace_period: Some(seconds(60).into()),
    });
    bench.run(patient);
    bench.take();
    bench.input(Input::Drain(Some(seconds(3).into())));
    let kills = bench.events();
    assert_eq!(names(&kills), ["KILL", "KILL"]);
    for (to, event) in kills {
        let Event::Kill(kill) = event else {
            panic!("{event:?}");
        };
        assert_eq!(to, stream);
        let grace = kill.kill_policy.and_then(|policy| policy.grace_period);
        assert_eq!(grace, Some(seconds(3).into()));
    }
    bench.update("e", status("t", TaskState::Killed, 9));
    let killed = bench.only_update();
    assert_eq!(killed.reason, Some(StatusReason::AgentDraining));
    bench.acknowledge("t", 9);

    // New work means that the agent is in service again.
    bench.run_custom("next");
    bench.update("e", status("next", TaskState::Killed, 10));
    assert_eq!(bench.only_update().reason, None);
}

#[test]
fn a_drain_does_not_lengthen_a_shorter_grace() {
    let mut bench = Bench::new();
    let mut hasty = custom("t");
    hasty.kill_policy = Some(KillPolicy {
        grace_period: Some(seconds(1).into()),
    });
    bench.run(hasty);
    let container = bench.container();
    bench.started(&container);
    bench.subscribe("e");
    bench.take();
    bench.input(Input::Drain(Some(seconds(600).into())));
    let kill = bench.events().pop();
    let Some((_, Event::Kill(kill))) = kill else {
        panic!("{kill:?}");
    };
    let grace = kill.kill_policy.and_then(|policy| policy.grace_period);
    assert_eq!(grace, Some(seconds(1).into()));
}
