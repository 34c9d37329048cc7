//! An agent that died and starts again.

use super::*;

/// What the store would hold: the records that were saved and not removed.
#[derive(Default)]
struct Disk {
    framework: Option<Arc<FrameworkRecord>>,
    runs: BTreeMap<ContainerId, RunRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
}

impl Disk {
    fn apply(&mut self, out: &[Output]) {
        for output in out {
            match output {
                Output::SaveFramework(record) => self.framework = Some(Arc::clone(record)),
                Output::SaveRun(run) => {
                    self.runs.insert(run.container_id.clone(), run.clone());
                }
                Output::SaveTask(task) => {
                    self.tasks.insert(task.task_id.clone(), task.clone());
                }
                Output::RemoveRun(_, id) => {
                    self.runs.remove(id);
                }
                Output::RemoveTask(_, id) => {
                    self.tasks.remove(id);
                }
                _ => {}
            }
        }
    }

    fn recovered(self, alive: bool) -> Vec<Recovered> {
        vec![Recovered {
            framework: (*self.framework.unwrap()).clone(),
            runs: self.runs.into_values().map(|run| (run, alive)).collect(),
            tasks: self.tasks.into_values().collect(),
        }]
    }
}

/// An agent that died with a running task `t` on executor `e`.
fn died() -> (Disk, ContainerId) {
    let mut bench = Bench::new();
    let mut disk = Disk::default();
    bench.run_custom("t");
    let container = bench.container();
    bench.started(&container);
    bench.subscribe("e");
    bench.update("e", status("t", TaskState::Running, 1));
    bench.acknowledge("t", 1);
    disk.apply(&bench.take());
    (disk, container)
}

#[test]
fn a_restarted_agent_registers_as_soon_as_its_executors_are_back() {
    let (disk, _) = died();
    let mut bench = Bench::recovered(disk.recovered(true));
    assert_eq!(bench.take(), []);
    bench.pass(seconds(1));
    bench.subscribe("e");
    let out = bench.take();
    assert!(out.contains(&Output::Ready));
    let inventory = bench.state.inventory();
    assert_eq!(inventory.len(), 1);
    assert_eq!(inventory[0].executors.len(), 1);
    assert_eq!(inventory[0].tasks[0].state, TaskState::Running);
    bench.register();
    assert_eq!(bench.told(), []);
}

#[test]
fn a_command_executor_that_never_got_its_task_is_ended_after_the_crash() {
    let mut bench = Bench::new();
    let mut disk = Disk::default();
    bench.run(command("c"));
    let container = bench.container();
    bench.started(&container);
    disk.apply(&bench.take());

    let mut bench = Bench::recovered(disk.recovered(true));
    bench.subscribe("c");
    assert_eq!(names(&bench.events()), ["SUBSCRIBED", "SHUTDOWN"]);
    bench.register();
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Lost);
    assert_eq!(update.reason, Some(StatusReason::AgentRestarted));
}

#[test]
fn an_executor_that_does_not_come_back_in_two_seconds_is_killed() {
    for (aware, state) in [(false, TaskState::Lost), (true, TaskState::Gone)] {
        let (mut disk, container) = died();
        if aware {
            let framework = Arc::make_mut(disk.framework.as_mut().unwrap());
            framework
                .info
                .capabilities
                .push(CapabilityType::PartitionAware.into());
        }
        let mut bench = Bench::recovered(disk.recovered(true));
        bench.pass(Duration::from_millis(1_999));
        assert_eq!(bench.take(), []);
        bench.pass(Duration::from_millis(1));
        let out = bench.take();
        assert!(out.contains(&Output::Destroy(container.clone())));
        assert!(out.contains(&Output::Ready));
        bench.register();
        bench.take();
        bench.end(&container, 9);
        let update = bench.only_update();
        assert_eq!(update.state, state);
        assert_eq!(
            update.reason,
            Some(StatusReason::ExecutorReregistrationTimeout)
        );
        assert_eq!(
            update.message.as_deref(),
            Some("Executor did not reregister within 2secs")
        );
    }
}

#[test]
fn an_executor_that_died_meanwhile_fails_its_tasks_upon_registration() {
    let (disk, _) = died();
    let mut bench = Bench::recovered(disk.recovered(false));
    assert!(bench.take().contains(&Output::Ready));
    bench.register();
    let update = bench.only_update();
    assert_eq!(update.state, TaskState::Failed);
    assert_eq!(update.reason, Some(StatusReason::ExecutorTerminated));
}

#[test]
fn an_update_that_was_not_acknowledged_before_the_crash_is_sent_after_it() {
    let mut bench = Bench::new();
    let mut disk = Disk::default();
    bench.run_custom("t");
    let container = bench.container();
    bench.started(&container);
    bench.subscribe("e");
    bench.update("e", status("t", TaskState::Running, 1));
    disk.apply(&bench.take());

    let mut bench = Bench::recovered(disk.recovered(true));
    // The executor was not told of the acknowledgement either: it says both.
    bench.call(
        "e",
        Call::Subscribe(Subscribe {
            unacknowledged_tasks: vec![custom("t")],
            unacknowledged_updates: vec![
                Update {
                    status: status("t", TaskState::Running, 1),
                },
                Update {
                    status: status("t", TaskState::Finished, 2),
                },
            ],
        }),
    );
    bench.take();
    bench.register();
    assert_eq!(bench.told(), [("t".to_owned(), TaskState::Running)]);
    bench.acknowledge("t", 1);
    assert_eq!(bench.told(), [("t".to_owned(), TaskState::Finished)]);
    bench.acknowledge("t", 2);
    assert_eq!(bench.told(), []);
}

#[test]
fn an_ended_task_waits_for_its_acknowledgement_across_a_restart() {
    let mut bench = Bench::new();
    let mut disk = Disk::default();
    bench.run_custom("t");
    let container = bench.container();
    bench.started(&container);
    bench.subscribe("e");
    bench.update("e", status("t", TaskState::Finished, 1));
    bench.end(&container, 0);
    disk.apply(&bench.take());
    assert!(disk.runs.is_empty());

    let mut bench = Bench::recovered(disk.recovered(false));
    bench.register();
    assert_eq!(bench.told(), [("t".to_owned(), TaskState::Finished)]);
    bench.acknowledge("t", 1);
    assert!(
        bench
            .take()
            .contains(&Output::RemoveFramework(FrameworkId::new(FRAMEWORK)))
    );
}

#[test]
fn tasks_of_a_framework_without_checkpoints_are_not_written_down() {
    let mut bench = Bench::new();
    bench.checkpoint = false;
    bench.run_custom("t");
    let out = bench.take();
    assert!(
        !out.iter()
            .any(|output| matches!(output, Output::SaveTask(_)))
    );
    // Its processes are, so that a restarted agent can kill them.
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::SaveRun(_)))
    );
}

#[test]
fn durations_are_written_as_mesos_writes_them() {
    let text = duration_text;
    assert_eq!(text(seconds(2)), "2secs");
    assert_eq!(text(seconds(60)), "1mins");
    assert_eq!(text(seconds(900)), "15mins");
    assert_eq!(text(seconds(90)), "90secs");
    assert_eq!(text(Duration::from_millis(1500)), "1500ms");
    assert_eq!(text(Duration::ZERO), "0ns");
}
