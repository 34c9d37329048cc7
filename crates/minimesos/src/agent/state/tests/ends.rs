//! How executors end, and what becomes of their tasks.

use super::*;

#[test]
fn an_executor_that_dies_fails_its_tasks_after_the_news_of_its_end() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.end(&container, 137 << 8);
    let out = bench.take();
    let exited = out
        .iter()
        .position(|output| matches!(output, Output::ExecutorExited(exit) if exit.status == 35072))
        .unwrap();
    let update = out
        .iter()
        .position(|output| matches!(output, Output::Update(_)))
        .unwrap();
    assert!(exited < update);
    bench.out = out;
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Failed);
    assert_eq!(update.source, Some(StatusSource::Agent));
    assert_eq!(update.reason, Some(StatusReason::ExecutorTerminated));
    assert_eq!(update.message.as_deref(), Some("Executor terminated"));
    assert_eq!(update.executor_id, Some(ExecutorId::new("e")));
    assert!(update.uuid.is_some());
}

#[test]
fn the_good_end_of_a_custom_executor_is_told_and_that_of_a_command_executor_is_not() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Finished, 2));
    bench.take();
    bench.end(&container, 0);
    let told = |out: &[Output]| {
        out.iter()
            .any(|output| matches!(output, Output::ExecutorExited(exit) if !exit.quiet))
    };
    assert!(told(&bench.take()));

    bench.run(command("c"));
    let container = bench.container();
    bench.end(&container, 9);
    let out = bench.take();
    assert!(!told(&out));
    bench.out = out;
    assert_eq!(bench.told(), [("c".to_owned(), TaskState::Failed)]);
}

#[test]
fn what_ended_before_its_executor_did_stays_as_it_was() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Finished, 2));
    assert_eq!(bench.told(), [("t".to_owned(), TaskState::Finished)]);
    bench.end(&container, 9);
    assert_eq!(bench.told(), []);
}

#[test]
fn an_executor_that_never_subscribes_is_killed_after_a_minute() {
    let mut bench = Bench::new();
    bench.run_custom("t");
    let container = bench.container();
    bench.pass(seconds(600));
    assert!(!bench.take().contains(&Output::Destroy(container.clone())));
    // The minute begins when its process does, however long the fetching took.
    bench.started(&container);
    bench.pass(seconds(59));
    assert!(!bench.take().contains(&Output::Destroy(container.clone())));
    bench.pass(seconds(1));
    assert!(bench.take().contains(&Output::Destroy(container.clone())));
    bench.end(&container, 9);
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Failed);
    assert_eq!(
        update.reason,
        Some(StatusReason::ExecutorRegistrationTimeout)
    );
    assert_eq!(
        update.message.as_deref(),
        Some("Executor did not register within 1mins")
    );
}

#[test]
fn a_container_over_its_memory_is_killed_and_its_tasks_name_the_limit() {
    let mut bench = Bench::new();
    bench.state.settings.limit_memory = true;
    let mut first = custom("t");
    first.resources = vec![Resource::scalar("cpus", 1.0), Resource::scalar("mem", 64.0)];
    if let Some(executor) = &mut first.executor {
        executor.resources = vec![Resource::scalar("mem", 32.0)];
    }
    let mut second = first.clone();
    second.task_id = TaskId::new("t2");
    bench.run(first);
    let container = bench.container();
    let limit = |megabytes| Output::LimitMemory(container.clone(), megabytes);
    assert!(bench.take().contains(&limit(96.0)));
    bench.started(&container);
    bench.subscribe("e");
    bench.run(second);
    assert!(bench.take().contains(&limit(160.0)));
    // It was measured before the second task came.
    let used = |used_mb| Input::MemoryExceeded {
        container_id: container.clone(),
        used_mb,
    };
    bench.input(used(100.0));
    assert!(bench.take().is_empty());

    bench.input(used(161.2));
    assert!(bench.take().contains(&Output::Destroy(container.clone())));
    bench.input(used(170.0));
    assert!(bench.take().is_empty());
    bench.end(&container, 9);
    let out = bench.take();
    let exit = out.iter().position(
        |output| matches!(output, Output::ExecutorExited(exit) if exit.status == 9 && !exit.quiet),
    );
    let ends: Vec<&Forward> = out
        .iter()
        .skip(exit.unwrap())
        .filter_map(|output| match output {
            Output::Update(forward) => Some(forward),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 2);
    for Forward { status, .. } in ends {
        assert_eq!(status.state, TaskState::Failed);
        let reason = StatusReason::ContainerLimitationMemory;
        assert_eq!(status.reason, Some(reason));
        assert_eq!(status.source, Some(StatusSource::Agent));
        let limitation = status.limitation.clone().unwrap();
        assert_eq!(limitation.resources, [Resource::scalar("mem", 160.0)]);
        assert_eq!(
            status.message.as_deref(),
            Some("Memory limit exceeded: Requested: 160MB Maximum Used: 161MB")
        );
    }
}

#[test]
fn a_uri_that_cannot_be_fetched_fails_the_task_with_status_256() {
    let mut bench = Bench::new();
    bench.run_custom("t");
    let container_id = bench.container();
    bench.take();
    bench.input(Input::StartFailed {
        container_id,
        failure: LaunchFailure::Container("no such file".to_owned()),
    });
    let out = bench.take();
    assert!(matches!(&out[0], Output::ExecutorExited(exit) if exit.status == 256 && !exit.quiet));
    bench.out = out;
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Failed);
    assert_eq!(update.reason, Some(StatusReason::ContainerLaunchFailed));
    assert_eq!(
        update.message.as_deref(),
        Some("Failed to launch container: no such file")
    );
}

#[test]
fn a_user_that_the_agent_does_not_know_loses_the_task() {
    for (aware, state) in [(false, TaskState::Lost), (true, TaskState::Dropped)] {
        let mut bench = Bench::new();
        bench.aware = aware;
        bench.run_custom("t");
        let container_id = bench.container();
        bench.take();
        bench.input(Input::StartFailed {
            container_id,
            failure: LaunchFailure::Directory("No such user 'x'".to_owned()),
        });
        let out = bench.take();
        assert!(
            !out.iter()
                .any(|output| matches!(output, Output::ExecutorExited(exit) if !exit.quiet))
        );
        bench.out = out;
        let update = bench.only_update();
        assert_eq!(update.state, state);
        assert_eq!(update.reason, Some(StatusReason::ExecutorTerminated));
    }
}
