//! Whatever happens, in whatever order: an update at a time for each task, no task
//! without an end once its executor has ended, and the same answers to the same
//! inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use meson_mesos::executor::{Call, Subscribe, Update};
use meson_mesos::types::{
    AgentId, CommandInfo, Data, ExecutorInfo, Resource, StatusSource, TaskInfo, TaskState,
    TaskStatus,
};
use proptest::prelude::*;

use super::*;
use crate::agent::process::ProcessId;
use crate::agent::records::{RunRecord, TaskRecord};

/// Something that happens, with small numbers for names.
#[derive(Debug, Clone)]
enum Step {
    Run { task: u8, executor: u8 },
    Kill { task: u8 },
    Started { executor: u8 },
    Subscribe { executor: u8 },
    Report { task: u8, executor: u8, state: u8 },
    Acknowledge { task: u8 },
    StreamEnds { executor: u8 },
    Dies { executor: u8 },
    UsesMemory { executor: u8, megabytes: u8 },
    Shutdown { executor: u8 },
    MasterGoes,
    MasterComes,
    Wait { seconds: u16 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let (task, executor) = (0..4u8, 0..2u8);
    prop_oneof![
        4 => (task.clone(), executor.clone()).prop_map(|(task, executor)| Step::Run { task, executor }),
        1 => task.clone().prop_map(|task| Step::Kill { task }),
        3 => executor.clone().prop_map(|executor| Step::Started { executor }),
        4 => executor.clone().prop_map(|executor| Step::Subscribe { executor }),
        6 => (task.clone(), executor.clone(), 0..3u8)
            .prop_map(|(task, executor, state)| Step::Report { task, executor, state }),
        6 => task.prop_map(|task| Step::Acknowledge { task }),
        1 => executor.clone().prop_map(|executor| Step::StreamEnds { executor }),
        1 => executor.clone().prop_map(|executor| Step::Dies { executor }),
        1 => (executor.clone(), 0..255u8)
            .prop_map(|(executor, megabytes)| Step::UsesMemory { executor, megabytes }),
        1 => executor.prop_map(|executor| Step::Shutdown { executor }),
        1 => Just(Step::MasterGoes),
        2 => Just(Step::MasterComes),
        2 => (0..700u16).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Crash),
    ]
}

/// The agent and what the world around it knows.
struct World {
    state: State,
    now: Time,
    requests: u64,
    uuids: u128,
    connected: bool,
    /// Only an agent that has recovered says hello to a master.
    ready: bool,
    log: Vec<String>,
    /// What is on disk.
    framework: Option<FrameworkRecord>,
    runs: BTreeMap<ContainerId, RunRecord>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    /// Containers that live, and whether they have been asked to be destroyed.
    alive: BTreeMap<ContainerId, bool>,
    streams: BTreeMap<ExecutorId, RequestId>,
    /// The update of a task that the scheduler was sent last and has not
    /// acknowledged.
    unacknowledged: BTreeMap<TaskId, Data>,
    /// Tasks that were launched, are not known to have ended, and so must end.
    open: BTreeSet<TaskId>,
}

fn settings() -> Settings {
    Settings {
        work_dir: PathBuf::from("/w"),
        ip: "127.0.0.1".to_owned(),
        timeouts: Timeouts::default(),
        limit_memory: true,
    }
}

fn ids(seed: u128) -> Box<dyn FnMut() -> Uuid + Send> {
    let mut next = seed << 64;
    Box::new(move || {
        next += 1;
        Uuid::from_u128(next)
    })
}

fn framework_id() -> FrameworkId {
    FrameworkId::new("F")
}

fn executor_id(executor: u8) -> ExecutorId {
    ExecutorId::new(format!("e{executor}"))
}

impl World {
    fn new() -> Self {
        let now = Duration::from_secs(1000);
        let (state, out) =
            State::recover(settings(), AgentInfo::default(), Vec::new(), ids(1), now);
        let mut world = Self {
            state,
            now,
            requests: 0,
            uuids: 0,
            connected: false,
            ready: false,
            log: Vec::new(),
            framework: None,
            runs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            alive: BTreeMap::new(),
            streams: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            open: BTreeSet::new(),
        };
        world.carry_out(out);
        world.input(Input::Registered(AgentId::new("S")));
        world
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Registered(_) => {
                self.connected = true;
                // A new connection: everything pending may be sent once more.
                self.unacknowledged.clear();
            }
            Input::Disconnected => self.connected = false,
            _ => {}
        }
        let out = self.state.handle(input, self.now);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            self.log.push(format!("{output:?}"));
            match output {
                Output::SaveFramework(record) => self.framework = Some((*record).clone()),
                Output::RemoveFramework(_) => {
                    self.framework = None;
                    self.runs.clear();
                    self.tasks.clear();
                }
                Output::SaveRun(run) => {
                    self.runs.insert(run.container_id.clone(), run);
                }
                Output::RemoveRun(_, id) => {
                    self.runs.remove(&id);
                }
                Output::SaveTask(task) => {
                    self.tasks.insert(task.task_id.clone(), task);
                }
                Output::RemoveTask(_, id) => {
                    self.tasks.remove(&id);
                }
                Output::Start { run, .. } => {
                    assert!(
                        self.runs.contains_key(&run.container_id),
                        "started before it was written down"
                    );
                    self.alive.insert(run.container_id, false);
                }
                Output::Destroy(id) => {
                    self.alive.insert(id, true);
                }
                Output::Update(forward) => {
                    assert!(self.connected, "sent without a master");
                    let task_id = forward.status.task_id.clone();
                    let uuid = forward.status.uuid.clone().expect("an update has a uuid");
                    let Some(record) = self.tasks.get(&task_id) else {
                        // The answer to a kill of a task that is not here.
                        assert!(forward.status.source == Some(StatusSource::Agent));
                        continue;
                    };
                    assert_eq!(
                        record
                            .pending
                            .front()
                            .and_then(|status| status.uuid.clone()),
                        Some(uuid.clone()),
                        "sent what is not the oldest that is written down"
                    );
                    if let Some(before) = self.unacknowledged.insert(task_id, uuid.clone()) {
                        assert_eq!(before, uuid, "sent past an unacknowledged update");
                    }
                    if forward.status.state.is_terminal() {
                        self.open.remove(&forward.status.task_id);
                    }
                }
                Output::Ready => self.ready = true,
                Output::Answer(..)
                | Output::Event(..)
                | Output::Close(_)
                | Output::MessageToScheduler { .. }
                | Output::LimitMemory(..)
                | Output::ExecutorExited(_) => {}
                Output::Unregister | Output::Left => panic!("nobody asked it to leave"),
            }
        }
    }

    fn container(&self, executor: u8) -> Option<ContainerId> {
        let id = executor_id(executor);
        self.runs
            .values()
            .find(|run| run.executor_id == id && self.alive.contains_key(&run.container_id))
            .map(|run| run.container_id.clone())
    }

    fn call(&mut self, executor: u8, call: Call) {
        self.requests += 1;
        let request = RequestId(self.requests);
        if matches!(call, Call::Subscribe(_)) {
            self.streams.insert(executor_id(executor), request);
        }
        self.input(Input::Call {
            request,
            framework_id: framework_id(),
            executor_id: executor_id(executor),
            call: Box::new(call),
        });
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Run { task, executor } => {
                let task_id = TaskId::new(format!("t{task}"));
                if !self.connected
                    || self.open.contains(&task_id)
                    || self.tasks.contains_key(&task_id)
                {
                    return;
                }
                self.open.insert(task_id.clone());
                self.input(Input::RunTask {
                    framework: Box::new(FrameworkInfo {
                        id: Some(framework_id()),
                        checkpoint: Some(true),
                        ..FrameworkInfo::default()
                    }),
                    task: Box::new(TaskInfo {
                        task_id,
                        resources: vec![Resource::scalar("mem", 64.0)],
                        executor: Some(ExecutorInfo {
                            executor_id: executor_id(executor),
                            command: Some(CommandInfo::shell("x")),
                            ..ExecutorInfo::default()
                        }),
                        ..TaskInfo::default()
                    }),
                });
            }
            Step::Kill { task } if self.connected => self.input(Input::KillTask {
                framework_id: framework_id(),
                task_id: TaskId::new(format!("t{task}")),
                kill_policy: None,
            }),
            Step::Started { executor } => {
                if let Some(container_id) = self.container(executor) {
                    let process = ProcessId {
                        pid: 1,
                        start_ticks: 1,
                    };
                    self.input(Input::Started {
                        container_id,
                        process,
                    });
                }
            }
            Step::Subscribe { executor } if self.container(executor).is_some() => {
                self.call(executor, Call::Subscribe(Subscribe::default()));
            }
            Step::Report {
                task,
                executor,
                state,
            } if self.container(executor).is_some() => {
                self.uuids += 1;
                let states = [TaskState::Starting, TaskState::Running, TaskState::Finished];
                let status = TaskStatus {
                    uuid: Some(Data::from(
                        Uuid::from_u128(self.uuids).as_bytes().as_slice(),
                    )),
                    ..TaskStatus::new(
                        TaskId::new(format!("t{task}")),
                        states[usize::from(state)].clone(),
                    )
                };
                self.call(executor, Call::Update(Update { status }));
            }
            Step::Acknowledge { task } if self.connected => {
                let task_id = TaskId::new(format!("t{task}"));
                if let Some(uuid) = self.unacknowledged.remove(&task_id) {
                    self.input(Input::Acknowledge {
                        framework_id: framework_id(),
                        task_id,
                        uuid,
                    });
                }
            }
            Step::StreamEnds { executor } => {
                if let Some(stream) = self.streams.remove(&executor_id(executor)) {
                    self.input(Input::StreamEnded(stream));
                }
            }
            Step::Dies { executor } => {
                if let Some(container_id) = self.container(executor) {
                    self.dies(container_id);
                }
            }
            Step::UsesMemory {
                executor,
                megabytes,
            } => {
                if let Some(container_id) = self.container(executor) {
                    self.input(Input::MemoryExceeded {
                        container_id,
                        used_mb: megabytes.into(),
                    });
                }
            }
            Step::Shutdown { executor } => self.input(Input::ShutdownExecutor {
                framework_id: framework_id(),
                executor_id: executor_id(executor),
            }),
            Step::MasterGoes => self.input(Input::Disconnected),
            Step::MasterComes if self.ready => self.input(Input::Registered(AgentId::new("S"))),
            Step::Wait { seconds } => self.wait(Duration::from_secs(seconds.into())),
            Step::Crash => self.crash(),
            _ => {}
        }
    }

    fn dies(&mut self, container_id: ContainerId) {
        self.alive.remove(&container_id);
        self.input(Input::Ended {
            container_id,
            status: Some(9),
        });
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.state.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.input(Input::Tick);
        }
        self.now = end;
        self.bury();
    }

    /// Containers that were to be destroyed have been.
    fn bury(&mut self) {
        let destroyed: Vec<ContainerId> = self
            .alive
            .iter()
            .filter(|(_, destroy)| **destroy)
            .map(|(id, _)| id.clone())
            .collect();
        for id in destroyed {
            self.dies(id);
        }
    }

    fn crash(&mut self) {
        let recovered = self
            .framework
            .iter()
            .map(|framework| Recovered {
                framework: framework.clone(),
                runs: self
                    .runs
                    .values()
                    .map(|run| (run.clone(), self.alive.contains_key(&run.container_id)))
                    .collect(),
                tasks: self.tasks.values().cloned().collect(),
            })
            .collect();
        self.connected = false;
        self.ready = false;
        self.streams.clear();
        // Those that the former agent was about to kill live on until told again.
        self.alive.values_mut().for_each(|destroy| *destroy = false);
        let info = AgentInfo {
            id: Some(AgentId::new("S")),
            ..AgentInfo::default()
        };
        self.uuids += 1 << 32;
        let (state, out) = State::recover(settings(), info, recovered, ids(self.uuids), self.now);
        self.state = state;
        self.carry_out(out);
    }

    /// Lets everything come to its end: executors die, updates are acknowledged.
    fn settle(&mut self) {
        self.wait(Duration::from_secs(3));
        let containers: Vec<ContainerId> = self.alive.keys().cloned().collect();
        for id in containers {
            self.dies(id);
        }
        self.input(Input::Registered(AgentId::new("S")));
        for _ in 0..10_000 {
            let Some((task_id, uuid)) = self.unacknowledged.pop_first() else {
                break;
            };
            self.input(Input::Acknowledge {
                framework_id: framework_id(),
                task_id,
                uuid,
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_task_ends_and_nothing_is_left(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        prop_assert!(world.open.is_empty(), "no end: {:?}", world.open);
        prop_assert!(world.tasks.is_empty(), "kept: {:?}", world.tasks.keys());
        prop_assert!(world.runs.is_empty());
        prop_assert!(world.framework.is_none());
        prop_assert_eq!(world.state.inventory(), vec![]);
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(steps in prop::collection::vec(step(), 0..40)) {
        let run = || {
            let mut world = World::new();
            for step in &steps {
                world.step(step);
            }
            world.log
        };
        prop_assert_eq!(run(), run());
    }
}
