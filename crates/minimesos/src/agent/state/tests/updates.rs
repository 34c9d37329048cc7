//! Status updates: in order, again and again, until they are acknowledged.

use super::*;

#[test]
fn an_update_is_written_down_before_it_is_sent_and_answered() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Finished, 2));
    let out = bench.take();
    assert!(matches!(out[0], Output::SaveTask(_)), "{out:?}");
    assert!(matches!(out[1], Output::Update(_)), "{out:?}");
    assert!(matches!(out[2], Output::Answer(_, Answer::Accepted)));
}

#[test]
fn an_update_comes_again_after_10_then_20_then_40_seconds_and_at_most_10_minutes() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Finished, 2));
    bench.take();
    for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
        bench.pass(seconds(wait) - Duration::from_millis(1));
        assert!(bench.told().is_empty(), "too early, before {wait} s");
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.told().len(), 1, "not after {wait} s");
    }
    bench.acknowledge("t", 2);
    bench.pass(seconds(3600));
    assert!(bench.told().is_empty());
}

#[test]
fn later_updates_wait_behind_an_unacknowledged_one() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Killing, 2));
    bench.update("e", status("t", TaskState::Killed, 3));
    let sent = bench.take();
    let forwards: Vec<&Forward> = sent
        .iter()
        .filter_map(|output| match output {
            Output::Update(forward) => Some(forward),
            _ => None,
        })
        .collect();
    assert_eq!(forwards.len(), 1);
    assert_eq!(forwards[0].status.state, TaskState::Killing);
    bench.acknowledge("t", 2);
    assert_eq!(bench.told(), [("t".to_owned(), TaskState::Killed)]);
}

#[test]
fn another_task_does_not_wait() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.run_custom("t2");
    bench.update("e", status("t", TaskState::Finished, 2));
    bench.update("e", status("t2", TaskState::Running, 3));
    assert_eq!(bench.told().len(), 2);
}

#[test]
fn an_acknowledgement_reaches_the_executor_and_counts_once() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Killing, 2));
    bench.update("e", status("t", TaskState::Killed, 3));
    bench.take();
    bench.acknowledge("t", 2);
    assert_eq!(names(&bench.events()), ["ACKNOWLEDGED"]);
    bench.acknowledge("t", 2);
    assert_eq!(bench.take(), []);
}

#[test]
fn an_update_that_the_executor_repeats_is_not_sent_twice() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Killing, 2));
    bench.update("e", status("t", TaskState::Killing, 2));
    assert_eq!(bench.told().len(), 1);
    bench.acknowledge("t", 2);
    bench.take();
    bench.update("e", status("t", TaskState::Killing, 2));
    let out = bench.take();
    assert!(!out.iter().any(|output| matches!(output, Output::Update(_))));
    bench.out = out;
    assert_eq!(names(&bench.events()), ["ACKNOWLEDGED"]);
}

#[test]
fn a_task_is_forgotten_once_its_end_is_acknowledged() {
    let (mut bench, container, _) = Bench::with_running_task();
    bench.update("e", status("t", TaskState::Finished, 2));
    bench.acknowledge("t", 2);
    assert!(bench.take().contains(&Output::RemoveTask(
        FrameworkId::new(FRAMEWORK),
        TaskId::new("t")
    )));
    bench.end(&container, 0);
    let out = bench.take();
    assert!(out.contains(&Output::RemoveFramework(FrameworkId::new(FRAMEWORK))));
    assert_eq!(bench.state.inventory(), []);
}

#[test]
fn an_executor_may_speak_of_a_task_that_nobody_launched() {
    let (mut bench, ..) = Bench::with_running_task();
    bench.update("e", status("no-such-task", TaskState::Running, 9));
    let update = bench.only_update();
    assert_eq!(update.container_status, None);
    assert_eq!(update.agent_id, Some(AgentId::new("S0")));
    bench.acknowledge("no-such-task", 9);
    assert!(bench.take().contains(&Output::RemoveTask(
        FrameworkId::new(FRAMEWORK),
        TaskId::new("no-such-task")
    )));
}

fn refused(out: &[Output]) -> usize {
    let answers = out.iter().filter(|output| {
        matches!(output, Output::Answer(_, Answer::Refused(reason)) if reason.contains("Too many"))
    });
    answers.count()
}

fn one_of_many(task: &str, state: TaskState, n: u32, data: usize) -> TaskStatus {
    let mut uuid = [7; 16];
    uuid[..4].copy_from_slice(&n.to_be_bytes());
    TaskStatus {
        uuid: Some(Data::from(uuid.as_slice())),
        data: (data > 0).then(|| Data::from(vec![0; data].as_slice())),
        ..status(task, state, 0)
    }
}

#[test]
fn an_executor_that_never_stops_talking_of_a_task_is_heard_only_of_its_end() {
    let (mut bench, ..) = Bench::with_running_task();
    for n in 0..1_000 {
        bench.update("e", one_of_many("t", TaskState::Running, n, 0));
    }
    assert_eq!(refused(&bench.take()), 1_000 - 256);
    bench.update("e", one_of_many("t", TaskState::Finished, 1_000, 0));
    bench.update("e", one_of_many("t", TaskState::Failed, 1_001, 0));
    assert_eq!(refused(&bench.take()), 1, "its end, once");
    let pending = |bench: &Bench| bench.state.inventory()[0].tasks[0].pending.len();
    assert_eq!(pending(&bench), 257);
    let (mut bench, ..) = Bench::with_running_task();
    for n in 0..100 {
        bench.update("e", one_of_many("t", TaskState::Running, n, 1 << 20));
    }
    assert_eq!(
        refused(&bench.take()),
        100 - 16,
        "16 MiB of data wait at most"
    );
}

#[test]
fn an_executor_that_makes_tasks_up_without_end_is_not_heard_of_all() {
    let (mut bench, ..) = Bench::with_running_task();
    for n in 0..1_000 {
        bench.update(
            "e",
            one_of_many(&format!("made-up-{n}"), TaskState::Running, n, 0),
        );
    }
    assert_eq!(refused(&bench.take()), 1_000 - 256);
    bench.update("e", one_of_many("t", TaskState::Finished, 1_000, 0));
    assert_eq!(
        refused(&bench.take()),
        0,
        "those that it was given are heard"
    );
}
