//! The rules of an agent, one sentence each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meson_mesos::executor::{Call, Event, Message, Subscribe, Update};
use meson_mesos::types::{
    AgentId, CapabilityType, CommandInfo, Data, ExecutorInfo, Resource, StatusReason, StatusSource,
    TaskInfo, TaskState, TaskStatus,
};

use super::*;
use crate::agent::process::ProcessId;
use crate::agent::records::Kind;

const FRAMEWORK: &str = "F-0000";

/// An agent with a hand on its clock.
struct Bench {
    state: State,
    now: Time,
    out: Vec<Output>,
    requests: u64,
    aware: bool,
    checkpoint: bool,
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings() -> Settings {
    Settings {
        work_dir: PathBuf::from("/work-dir"),
        ip: "127.0.0.1".to_owned(),
        timeouts: Timeouts::default(),
        limit_memory: false,
    }
}

fn counter() -> Box<dyn FnMut() -> Uuid + Send> {
    let mut next = 0;
    Box::new(move || {
        next += 1;
        Uuid::from_u128(next)
    })
}

fn agent_info() -> AgentInfo {
    AgentInfo {
        hostname: "host".to_owned(),
        ..AgentInfo::default()
    }
}

fn status(task: &str, state: TaskState, uuid: u8) -> TaskStatus {
    TaskStatus {
        uuid: Some(Data::from(vec![uuid; 16])),
        source: Some(StatusSource::Executor),
        ..TaskStatus::new(TaskId::new(task), state)
    }
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self::recovered(Vec::new());
        assert_eq!(bench.take(), vec![Output::Ready]);
        bench.register();
        bench
    }

    fn recovered(recovered: Vec<Recovered>) -> Self {
        let now = seconds(1_000_000);
        let (state, out) = State::recover(settings(), agent_info(), recovered, counter(), now);
        Self {
            state,
            now,
            out,
            requests: 100,
            aware: false,
            checkpoint: true,
        }
    }

    fn register(&mut self) {
        self.input(Input::Registered(AgentId::new("S0")));
    }

    fn input(&mut self, input: Input) {
        self.out.extend(self.state.handle(input, self.now));
    }

    /// Lets time pass, and wakes the agent whenever it wants to be woken.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.state.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.input(Input::Tick);
        }
        self.now = end;
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    fn framework(&self) -> FrameworkInfo {
        let mut framework = FrameworkInfo {
            user: "root".to_owned(),
            name: "test".to_owned(),
            id: Some(FrameworkId::new(FRAMEWORK)),
            checkpoint: Some(self.checkpoint),
            ..FrameworkInfo::default()
        };
        if self.aware {
            framework
                .capabilities
                .push(CapabilityType::PartitionAware.into());
        }
        framework
    }

    fn run(&mut self, task: TaskInfo) {
        self.input(Input::RunTask {
            framework: Box::new(self.framework()),
            task: Box::new(task),
        });
    }

    fn run_custom(&mut self, task: &str) {
        self.run(custom(task));
    }

    /// The container that was started last.
    fn container(&self) -> ContainerId {
        self.out
            .iter()
            .rev()
            .find_map(|output| match output {
                Output::Start { run, .. } => Some(run.container_id.clone()),
                _ => None,
            })
            .unwrap()
    }

    fn call(&mut self, executor: &str, call: Call) -> RequestId {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(Input::Call {
            request,
            framework_id: FrameworkId::new(FRAMEWORK),
            executor_id: ExecutorId::new(executor),
            call: Box::new(call),
        });
        request
    }

    fn subscribe(&mut self, executor: &str) -> RequestId {
        self.call(executor, Call::Subscribe(Subscribe::default()))
    }

    fn update(&mut self, executor: &str, status: TaskStatus) {
        self.call(executor, Call::Update(Update { status }));
    }

    fn started(&mut self, container_id: &ContainerId) {
        self.input(Input::Started {
            container_id: container_id.clone(),
            process: ProcessId {
                pid: 4711,
                start_ticks: 1,
            },
        });
    }

    /// A running executor `e` with the task `t`.
    fn with_running_task() -> (Self, ContainerId, RequestId) {
        let mut bench = Self::new();
        bench.run_custom("t");
        let container = bench.container();
        bench.started(&container);
        let stream = bench.subscribe("e");
        bench.update("e", status("t", TaskState::Running, 1));
        bench.acknowledge("t", 1);
        bench.take();
        (bench, container, stream)
    }

    fn acknowledge(&mut self, task: &str, uuid: u8) {
        self.acknowledge_data(task, Data::from(vec![uuid; 16]));
    }

    fn acknowledge_data(&mut self, task: &str, uuid: Data) {
        self.input(Input::Acknowledge {
            framework_id: FrameworkId::new(FRAMEWORK),
            task_id: TaskId::new(task),
            uuid,
        });
    }

    fn kill(&mut self, task: &str) {
        self.input(Input::KillTask {
            framework_id: FrameworkId::new(FRAMEWORK),
            task_id: TaskId::new(task),
            kill_policy: None,
        });
    }

    fn end(&mut self, container_id: &ContainerId, status: i32) {
        self.input(Input::Ended {
            container_id: container_id.clone(),
            status: Some(status),
        });
    }

    /// The states that were sent to the scheduler since the last look.
    fn told(&mut self) -> Vec<(String, TaskState)> {
        self.take()
            .into_iter()
            .filter_map(|output| match output {
                Output::Update(forward) => Some((
                    forward.status.task_id.to_string(),
                    forward.status.state.clone(),
                )),
                _ => None,
            })
            .collect()
    }

    fn only_update(&mut self) -> TaskStatus {
        let updates: Vec<TaskStatus> = self
            .take()
            .into_iter()
            .filter_map(|output| match output {
                Output::Update(forward) => Some((*forward.status).clone()),
                _ => None,
            })
            .collect();
        let [update] = updates.as_slice() else {
            panic!("not one update: {updates:?}");
        };
        update.clone()
    }

    fn events(&mut self) -> Vec<(RequestId, Event)> {
        self.take()
            .into_iter()
            .filter_map(|output| match output {
                Output::Event(stream, event) => Some((stream, *event)),
                _ => None,
            })
            .collect()
    }
}

fn custom(task: &str) -> TaskInfo {
    TaskInfo {
        task_id: TaskId::new(task),
        executor: Some(ExecutorInfo {
            executor_id: ExecutorId::new("e"),
            command: Some(CommandInfo::shell("./executor")),
            ..ExecutorInfo::default()
        }),
        ..TaskInfo::default()
    }
}

fn command(task: &str) -> TaskInfo {
    TaskInfo {
        task_id: TaskId::new(task),
        command: Some(CommandInfo::shell("true")),
        resources: vec![Resource::scalar("cpus", 1.0).allocated_to("research")],
        ..TaskInfo::default()
    }
}

fn names(events: &[(RequestId, Event)]) -> Vec<&str> {
    events.iter().map(|(_, event)| event.type_name()).collect()
}

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
    let text = super::updates::duration_text;
    assert_eq!(text(seconds(2)), "2secs");
    assert_eq!(text(seconds(60)), "1mins");
    assert_eq!(text(seconds(900)), "15mins");
    assert_eq!(text(seconds(90)), "90secs");
    assert_eq!(text(Duration::from_millis(1500)), "1500ms");
    assert_eq!(text(Duration::ZERO), "0ns");
}
