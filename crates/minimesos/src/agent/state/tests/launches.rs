//! Launches, and the executors that they start.

use super::*;

#[test]
fn the_first_task_starts_the_executor_and_waits_for_it() {
    let mut bench = Bench::new();
    bench.run_custom("t");
    let out = bench.take();
    let order: Vec<usize> = [
        |output: &Output| matches!(output, Output::SaveTask(_)),
        |output: &Output| matches!(output, Output::SaveRun(_)),
        |output: &Output| matches!(output, Output::Start { .. }),
    ]
    .iter()
    .map(|wanted| out.iter().position(wanted).unwrap())
    .collect();
    assert!(order.is_sorted(), "records come before the start: {out:?}");

    let stream = bench.subscribe("e");
    let out = bench.take();
    assert_eq!(out[0], Output::Answer(stream, Answer::Streaming));
    bench.out = out;
    assert_eq!(names(&bench.events()), ["SUBSCRIBED", "LAUNCH"]);
}

#[test]
fn a_sandbox_lies_where_mesos_puts_it() {
    let mut bench = Bench::new();
    bench.run_custom("t");
    let Some(Output::Start { run, role, .. }) = bench.take().pop() else {
        panic!("nothing started");
    };
    let container = run.container_id.as_str();
    assert_eq!(
        run.directory,
        PathBuf::from(format!(
            "/work-dir/agents/S0/frameworks/{FRAMEWORK}/executors/e/runs/{container}"
        ))
    );
    assert_eq!(role, None);
}

#[test]
fn a_further_task_goes_straight_to_the_live_executor() {
    let (mut bench, _, stream) = Bench::with_running_task();
    bench.run_custom("t2");
    let events = bench.events();
    assert_eq!(names(&events), ["LAUNCH"]);
    assert_eq!(events[0].0, stream);
}

#[test]
fn a_command_gets_an_executor_of_its_own() {
    let mut bench = Bench::new();
    bench.run(command("c"));
    let Some(Output::Start { run, role, .. }) = bench.take().pop() else {
        panic!("nothing started");
    };
    assert_eq!(run.kind, Kind::Command);
    assert_eq!(run.executor_id.as_str(), "c");
    assert_eq!(role.as_deref(), Some("research"));
    bench.started(&run.container_id);
    bench.subscribe("c");
    bench.update("c", status("c", TaskState::Running, 1));
    let update = bench.only_update();
    assert_eq!(update.executor_id, Some(ExecutorId::new("c")));
    assert_eq!(update.container_status.unwrap().executor_pid, Some(4711));
}
