//! The rules of an agent, one sentence each.

mod ends;
mod launches;
mod orders;
mod restarts;
mod updates;

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
