//! The agent's state machine: pure, deterministic, without a clock or I/O.
//!
//! ```text
//! master's messages ─┐                       ┌─► updates and messages to the master
//! executors' calls  ─┼─► State::handle(now) ─┼─► events and answers to executors
//! containers' ends  ─┤                       ├─► containers to start and to destroy
//! the clock (Tick)  ─┘                       └─► records to keep on disk
//! ```
//!
//! Outputs are to be carried out in their order: a record stands before the
//! message that relies on it. [`State::next_deadline`] says when the next `Tick`
//! is due.
//!
//! * [`words`]: inputs and outputs.
//! * [`launches`]: tasks come, executors are started for them; kills.
//! * [`executors`]: subscriptions, shutdowns, ends.
//! * [`limits`]: how much memory a container may use.
//! * [`updates`]: status updates, which are sent again until they are
//!   acknowledged, one at a time for each task.

mod executors;
mod launches;
mod limits;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;
mod updates;
mod words;

pub(super) use updates::duration_text;
pub use words::Timeouts;
pub(crate) use words::{
    Answer, Exit, Forward, Input, Inventory, LaunchFailure, Output, Recovered, RequestId, Settings,
    Time,
};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use meson_mesos::types::{
    AgentInfo, CapabilityType, ContainerId, Data, ExecutorId, FrameworkId, FrameworkInfo,
    KillPolicy, TaskId,
};
use uuid::Uuid;

use super::records::{FrameworkRecord, RunRecord, TaskRecord};

/// Why an executor is ended, as far as that decides what its tasks become.
#[derive(Debug, Clone, PartialEq)]
enum Ending {
    /// By itself, or asked to.
    Plain,
    /// It did not subscribe in time.
    RegistrationTimeout,
    /// It did not come back in time; how long it had.
    ReregistrationTimeout(Duration),
    /// It was never started.
    LaunchFailed(LaunchFailure),
    /// It used more memory than it may.
    MemoryLimit { limit_mb: f64, used_mb: f64 },
}

/// Where an executor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// URIs are fetched, the process is started.
    Starting,
    /// The process runs and has not subscribed.
    Registering { until: Time },
    /// It listens on this stream.
    Subscribed { stream: RequestId },
    /// Its stream is gone, or the agent was: it is expected back.
    Away { until: Time, waits: Duration },
    /// It was told to shut down.
    ShuttingDown {
        until: Time,
        stream: Option<RequestId>,
    },
    /// Its container is being destroyed.
    Destroying,
}

#[derive(Debug)]
struct Executor {
    run: RunRecord,
    phase: Phase,
    ending: Ending,
    /// Tasks that have not ended.
    tasks: BTreeSet<TaskId>,
    /// Those of them that it has not been given yet.
    queued: VecDeque<TaskId>,
    /// Kills that came while it was away.
    kills: BTreeMap<TaskId, Option<KillPolicy>>,
    /// Whether it ever was given a task.
    was_used: bool,
    /// How much memory it and its tasks may use.
    limit_mb: f64,
}

impl Executor {
    fn new(run: RunRecord, phase: Phase) -> Self {
        Self {
            run,
            phase,
            ending: Ending::Plain,
            tasks: BTreeSet::new(),
            queued: VecDeque::new(),
            kills: BTreeMap::new(),
            was_used: false,
            limit_mb: 0.0,
        }
    }

    fn stream(&self) -> Option<RequestId> {
        match self.phase {
            Phase::Subscribed { stream } => Some(stream),
            Phase::ShuttingDown { stream, .. } => stream,
            _ => None,
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Registering { until }
            | Phase::Away { until, .. }
            | Phase::ShuttingDown { until, .. } => Some(until),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Task {
    record: TaskRecord,
    /// When the oldest pending update is sent again, and after which interval then.
    retry: Option<(Time, Duration)>,
}

#[derive(Debug)]
struct Framework {
    record: Arc<FrameworkRecord>,
    executors: BTreeMap<ExecutorId, Executor>,
    tasks: BTreeMap<TaskId, Task>,
    /// It is being removed: nobody waits for its updates any more.
    removing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Executor(FrameworkId, ExecutorId),
    Update(FrameworkId, TaskId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for the executors of before.
    Recovering,
    /// At work.
    Running,
    /// Waits for its executors to end.
    Leaving,
}

/// The agent.
pub(crate) struct State {
    settings: Settings,
    info: AgentInfo,
    stage: Stage,
    registered: bool,
    frameworks: BTreeMap<FrameworkId, Framework>,
    containers: BTreeMap<ContainerId, (FrameworkId, ExecutorId)>,
    streams: BTreeMap<RequestId, ContainerId>,
    /// Deadlines, also those that have been overtaken: whoever is woken looks
    /// whether it is meant.
    timers: BTreeSet<(Time, Timer)>,
    /// Ends of executors that happened while there was no master to tell.
    exits: Vec<Exit>,
    /// Tasks that are killed now are killed because the agent is drained.
    draining: bool,
    /// Frameworks that were seen to be PARTITION_AWARE.
    aware: BTreeSet<FrameworkId>,
    ids: Box<dyn FnMut() -> Uuid + Send>,
}

/// The outputs of one input, as they are collected.
type Out = Vec<Output>;

impl State {
    /// An agent that has found `recovered` of its former life. Its outputs are to
    /// be carried out like those of [`State::handle`].
    pub(crate) fn recover(
        settings: Settings,
        info: AgentInfo,
        recovered: Vec<Recovered>,
        ids: Box<dyn FnMut() -> Uuid + Send>,
        now: Time,
    ) -> (Self, Vec<Output>) {
        let mut state = Self {
            settings,
            info,
            stage: Stage::Recovering,
            registered: false,
            frameworks: BTreeMap::new(),
            containers: BTreeMap::new(),
            streams: BTreeMap::new(),
            timers: BTreeSet::new(),
            exits: Vec::new(),
            draining: false,
            aware: BTreeSet::new(),
            ids,
        };
        let mut out = Vec::new();
        let waits = state.settings.timeouts.executor_reregistration;
        let away = Phase::Away {
            until: now + waits,
            waits,
        };
        let mut dead = Vec::new();
        for Recovered {
            framework: record,
            runs,
            tasks,
        } in recovered
        {
            let id = record.id.clone();
            let mut alive_here = Vec::new();
            state.note(&id, &record.info);
            let mut framework = Framework {
                record: Arc::new(record),
                executors: BTreeMap::new(),
                tasks: BTreeMap::new(),
                removing: false,
            };
            for (run, alive) in runs {
                let key = run.executor_id.clone();
                let container = run.container_id.clone();
                state
                    .containers
                    .insert(container.clone(), (id.clone(), key.clone()));
                if alive {
                    alive_here.push(key.clone());
                    state
                        .timers
                        .insert((now + waits, Timer::Executor(id.clone(), key.clone())));
                } else {
                    dead.push(container);
                }
                let mut executor = Executor::new(run, away);
                executor.was_used = true;
                framework.executors.insert(key, executor);
            }
            let mut orphans = Vec::new();
            for record in tasks {
                if !record.state.is_terminal() && record.info.is_some() {
                    match framework.executors.get_mut(&record.executor_id) {
                        Some(executor) => {
                            executor.tasks.insert(record.task_id.clone());
                        }
                        // Its executor was never written down: the agent died
                        // between the two.
                        None => orphans.push(record.task_id.clone()),
                    }
                }
                framework.tasks.insert(
                    record.task_id.clone(),
                    Task {
                        record,
                        retry: None,
                    },
                );
            }
            state.frameworks.insert(id.clone(), framework);
            for executor_id in alive_here {
                state.limit_memory(&id, &executor_id, &mut out);
            }
            for task_id in orphans {
                state.executor_gone(&id, &task_id, &Ending::Plain, now, &mut out);
            }
        }
        for container in dead {
            state.ended(&container, None, now, &mut out);
        }
        let ids: Vec<FrameworkId> = state.frameworks.keys().cloned().collect();
        for id in ids {
            state.tidy(&id, &mut out);
        }
        state.recovery_may_be_over(&mut out);
        (state, out)
    }

    /// Takes one input at the time `now`, and says what is to be done.
    pub(crate) fn handle(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Registered(id) => {
                self.info.id = Some(id);
                self.registered = true;
                self.report_exits(&mut out);
                self.send_all(now, &mut out);
            }
            Input::Disconnected => self.registered = false,
            Input::RunTask { framework, task } => self.run_task(*framework, *task, now, &mut out),
            Input::KillTask {
                framework_id,
                task_id,
                kill_policy,
            } => self.kill_task(&framework_id, &task_id, kill_policy, now, &mut out),
            Input::ShutdownExecutor {
                framework_id,
                executor_id,
            } => self.shutdown_executor(&framework_id, &executor_id, now, &mut out),
            Input::ShutdownFramework(id) => self.shutdown_framework(&id, now, &mut out),
            Input::UpdateFramework(info) => self.update_framework(*info, now, &mut out),
            Input::Acknowledge {
                framework_id,
                task_id,
                uuid,
            } => self.acknowledge(&framework_id, &task_id, &uuid, now, &mut out),
            Input::MessageToExecutor {
                framework_id,
                executor_id,
                data,
            } => self.message(&framework_id, &executor_id, data, &mut out),
            Input::Drain(grace) => self.drain(grace, now, &mut out),
            Input::Leave => self.leave(now, &mut out),
            Input::Call {
                request,
                framework_id,
                executor_id,
                call,
            } => self.call(request, &framework_id, &executor_id, *call, now, &mut out),
            Input::StreamEnded(stream) => self.stream_ended(stream, now),
            Input::Started {
                container_id,
                process,
            } => self.started(&container_id, process, now, &mut out),
            Input::StartFailed {
                container_id,
                failure,
            } => self.start_failed(&container_id, failure, now, &mut out),
            Input::Ended {
                container_id,
                status,
            } => self.ended(&container_id, status, now, &mut out),
            Input::MemoryExceeded {
                container_id,
                used_mb,
            } => self.memory_exceeded(&container_id, used_mb, &mut out),
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// When the next [`Input::Tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// The agent, with its id once it has one.
    pub(crate) fn info(&self) -> &AgentInfo {
        &self.info
    }

    /// All that runs here, for the master.
    pub(crate) fn inventory(&self) -> Vec<Inventory> {
        self.frameworks
            .values()
            .filter(|framework| !framework.removing)
            .map(|framework| Inventory {
                framework: Arc::clone(&framework.record),
                executors: framework
                    .executors
                    .values()
                    .map(|executor| executor.run.clone())
                    .collect(),
                tasks: framework
                    .tasks
                    .values()
                    .map(|task| task.record.clone())
                    .collect(),
            })
            .collect()
    }

    /// Tells a master that was away of the executors that are no more. It knows of
    /// them, by itself or through the tasks whose end they left behind.
    fn report_exits(&mut self, out: &mut Out) {
        let mut exits = std::mem::take(&mut self.exits);
        for (framework_id, framework) in &self.frameworks {
            for task in framework.tasks.values().filter(|_| !framework.removing) {
                let executor_id = &task.record.executor_id;
                let told = exits.iter().any(|exit| {
                    exit.framework_id == *framework_id && exit.executor_id == *executor_id
                });
                if !framework.executors.contains_key(executor_id) && !told {
                    exits.push(Exit {
                        framework_id: framework_id.clone(),
                        executor_id: executor_id.clone(),
                        status: -1,
                        quiet: true,
                    });
                }
            }
        }
        out.extend(exits.into_iter().map(Output::ExecutorExited));
    }

    fn tick(&mut self, now: Time, out: &mut Out) {
        while let Some((time, _)) = self.timers.first() {
            if *time > now {
                break;
            }
            let Some((_, timer)) = self.timers.pop_first() else {
                break;
            };
            match timer {
                Timer::Executor(framework, executor) => {
                    self.executor_deadline(&framework, &executor, now, out);
                }
                Timer::Update(framework, task) => self.send_again(&framework, &task, now, out),
            }
        }
    }

    /// Remembers how to speak to a framework, also when nothing of it is here.
    fn note(&mut self, framework_id: &FrameworkId, info: &FrameworkInfo) {
        if info.can(&CapabilityType::PartitionAware) {
            self.aware.insert(framework_id.clone());
        } else {
            self.aware.remove(framework_id);
        }
    }

    /// A framework has changed, or its scheduler is back: what it may have missed is sent
    /// again at once, whatever the back-off.
    fn update_framework(&mut self, info: FrameworkInfo, now: Time, out: &mut Out) {
        if let Some(id) = &info.id {
            self.note(&id.clone(), &info);
        }
        let Some(framework) = info.id.as_ref().and_then(|id| self.frameworks.get_mut(id)) else {
            return;
        };
        let record = Arc::new(FrameworkRecord {
            id: framework.record.id.clone(),
            info,
        });
        out.push(Output::SaveFramework(Arc::clone(&record)));
        framework.record = Arc::clone(&record);
        self.send_all_of(Some(&record.id), now, out);
    }

    /// Forgets a framework of which nothing is left.
    fn tidy(&mut self, id: &FrameworkId, out: &mut Out) {
        let empty = self.frameworks.get(id).is_some_and(|framework| {
            framework.executors.is_empty() && (framework.tasks.is_empty() || framework.removing)
        });
        if empty {
            self.frameworks.remove(id);
            out.push(Output::RemoveFramework(id.clone()));
        }
        if self.stage == Stage::Leaving && self.containers.is_empty() {
            out.push(Output::Left);
        }
    }

    fn recovery_may_be_over(&mut self, out: &mut Out) {
        if self.stage != Stage::Recovering {
            return;
        }
        let awaited = self
            .frameworks
            .values()
            .flat_map(|framework| framework.executors.values())
            .any(|executor| matches!(executor.phase, Phase::Away { .. }));
        if !awaited {
            self.stage = Stage::Running;
            out.push(Output::Ready);
        }
    }

    /// 16 random bytes.
    fn uuid(&mut self) -> Data {
        Data::from((self.ids)().as_bytes().as_slice())
    }
}
