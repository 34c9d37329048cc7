//! Launches: a task comes, its executor is started or told of it; and kills.

use std::sync::Arc;

use meson_mesos::executor::{Event, Kill, Launch};
use meson_mesos::types::{
    CommandInfo, ContainerId, DurationInfo, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo,
    KillPolicy, Resource, StatusReason, TaskId, TaskInfo, TaskState, validate_id,
};

use super::updates::Verdict;
use super::{Executor, Framework, Out, Output, Phase, RequestId, Stage, State, Task, Time};
use crate::agent::records::{FrameworkRecord, Kind, RunRecord, TaskRecord};

/// What the executor of a command task is said to use beside the task
/// (`DEFAULT_EXECUTOR_CPUS` and `DEFAULT_EXECUTOR_MEM` of Mesos).
const COMMAND_EXECUTOR_CPUS: f64 = 0.1;
const COMMAND_EXECUTOR_MEM_MB: f64 = 32.0;

/// The executor that the agent makes up for a task with a command.
fn command_executor(framework_id: &FrameworkId, task: &TaskInfo) -> ExecutorInfo {
    let command = task.command.clone().unwrap_or_default();
    let text = command.value.clone().unwrap_or_default();
    ExecutorInfo {
        executor_id: ExecutorId::new(task.task_id.as_str()),
        framework_id: Some(framework_id.clone()),
        // What the agent itself needs of the command: files, user, environment.
        command: Some(CommandInfo {
            uris: command.uris,
            environment: command.environment,
            user: command.user,
            ..CommandInfo::default()
        }),
        resources: vec![
            Resource::scalar("cpus", COMMAND_EXECUTOR_CPUS),
            Resource::scalar("mem", COMMAND_EXECUTOR_MEM_MB),
        ],
        name: Some(format!(
            "Command Executor (Task: {}) (Command: {text})",
            task.task_id
        )),
        source: Some(task.task_id.to_string()),
        container: task.container.clone(),
        ..ExecutorInfo::default()
    }
}

impl State {
    pub(super) fn run_task(
        &mut self,
        framework: FrameworkInfo,
        task: TaskInfo,
        now: Time,
        out: &mut Out,
    ) {
        let Some(framework_id) = framework.id.clone() else {
            return;
        };
        if self.stage != Stage::Running {
            return;
        }
        // The master sends work to agents that are in service only.
        self.draining = false;
        let task_id = task.task_id.clone();
        let (info, kind) = match &task.executor {
            Some(info) => {
                let mut info = info.clone();
                info.framework_id.get_or_insert(framework_id.clone());
                (info, Kind::Custom)
            }
            None => (command_executor(&framework_id, &task), Kind::Command),
        };
        let executor_id = info.executor_id.clone();
        self.note(&framework_id, &framework);
        let entry = self
            .frameworks
            .entry(framework_id.clone())
            .or_insert_with(|| {
                let record = Arc::new(FrameworkRecord {
                    id: framework_id.clone(),
                    info: framework.clone(),
                });
                out.push(Output::SaveFramework(Arc::clone(&record)));
                Framework {
                    record,
                    executors: Default::default(),
                    tasks: Default::default(),
                    removing: false,
                }
            });
        let known = entry.tasks.get(&task_id);
        if entry.removing || known.is_some_and(|task| task.record.info.is_some()) {
            // The master has sent it twice, or tore the framework down meanwhile.
            return;
        }
        let role = task
            .resources
            .iter()
            .find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
        let mut record = TaskRecord::new(
            framework_id.clone(),
            task_id.clone(),
            executor_id.clone(),
            Some(Arc::new(task)),
        );
        if let Some(early) = entry.tasks.remove(&task_id) {
            // Its executor has spoken of it before it was launched.
            record.pending = early.record.pending;
        }
        if entry.record.checkpoints() {
            out.push(Output::SaveTask(record.clone()));
        }
        let task = Task {
            record,
            retry: None,
        };
        entry.tasks.insert(task_id.clone(), task);

        for id in [
            framework_id.as_str(),
            executor_id.as_str(),
            task_id.as_str(),
        ] {
            // The master has looked already; but these become folders here.
            if let Err(message) = validate_id(id) {
                let verdict = Verdict {
                    state: TaskState::Error,
                    reason: StatusReason::TaskInvalid,
                    message,
                };
                self.judge(&framework_id, &task_id, verdict, now, out);
                return;
            }
        }
        if let Some(executor) = entry.executors.get_mut(&executor_id) {
            match executor.phase {
                Phase::Subscribed { stream } => {
                    executor.tasks.insert(task_id.clone());
                    deliver(executor, &entry.tasks, stream, &task_id, out);
                }
                Phase::Starting | Phase::Registering { .. } | Phase::Away { .. } => {
                    executor.tasks.insert(task_id.clone());
                    executor.queued.push_back(task_id);
                }
                Phase::ShuttingDown { .. } | Phase::Destroying => {
                    let verdict = self.dropped(
                        &framework_id,
                        StatusReason::ExecutorTerminated,
                        "Executor terminating",
                    );
                    self.judge(&framework_id, &task_id, verdict, now, out);
                }
            }
            self.limit_memory(&framework_id, &executor_id, out);
            return;
        }
        self.launch(&framework_id, info, kind, task_id, role, out);
    }

    /// Starts a new run of an executor, for its first task.
    fn launch(
        &mut self,
        framework_id: &FrameworkId,
        info: ExecutorInfo,
        kind: Kind,
        task_id: TaskId,
        role: Option<String>,
        out: &mut Out,
    ) {
        let container_id = ContainerId::new((self.ids)().to_string());
        let agent = self.info.id.as_ref().map_or("", |id| id.as_str());
        let executor_id = info.executor_id.clone();
        let directory = self
            .settings
            .work_dir
            .join("agents")
            .join(agent)
            .join("frameworks")
            .join(framework_id.as_str())
            .join("executors")
            .join(executor_id.as_str())
            .join("runs")
            .join(container_id.as_str());
        let run = RunRecord {
            framework_id: framework_id.clone(),
            executor_id: executor_id.clone(),
            container_id: container_id.clone(),
            info: Arc::new(info),
            kind,
            directory,
            process: None,
        };
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        // Written down before anything starts: a crash in between leaves a run
        // to look for, never a process that nobody knows of.
        out.push(Output::SaveRun(run.clone()));
        out.push(Output::Start {
            framework: Arc::clone(&framework.record),
            run: run.clone(),
            role,
        });
        let mut executor = Executor::new(run, Phase::Starting);
        executor.tasks.insert(task_id.clone());
        executor.queued.push_back(task_id);
        framework.executors.insert(executor_id.clone(), executor);
        self.containers
            .insert(container_id, (framework_id.clone(), executor_id.clone()));
        self.limit_memory(framework_id, &executor_id, out);
    }

    pub(super) fn kill_task(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        kill_policy: Option<KillPolicy>,
        now: Time,
        out: &mut Out,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            self.disown(framework_id, task_id, now, out);
            return;
        };
        let Some(task) = framework.tasks.get(task_id) else {
            self.disown(framework_id, task_id, now, out);
            return;
        };
        let executor_id = task.record.executor_id.clone();
        let Some(executor) = framework.executors.get_mut(&executor_id) else {
            return;
        };
        if executor.queued.contains(task_id) {
            let verdict = Verdict {
                state: TaskState::Killed,
                reason: StatusReason::TaskKilledDuringLaunch,
                message: "Killed before delivery to the executor".to_owned(),
            };
            self.judge(framework_id, task_id, verdict, now, out);
            self.abandon_start(framework_id, &executor_id, out);
            return;
        }
        if !executor.tasks.contains(task_id) {
            return;
        }
        match executor.phase {
            Phase::Subscribed { stream } => {
                let event = Event::Kill(Kill {
                    task_id: task_id.clone(),
                    kill_policy,
                });
                out.push(Output::Event(stream, Box::new(event)));
            }
            Phase::Away { .. } => {
                executor.kills.insert(task_id.clone(), kill_policy);
            }
            // The end of the executor is the end of the task.
            _ => {}
        }
    }

    /// Kills everything: the agent is taken out of service.
    pub(super) fn drain(&mut self, grace: Option<DurationInfo>, now: Time, out: &mut Out) {
        self.draining = true;
        let live: Vec<(FrameworkId, TaskId, Option<DurationInfo>)> = self
            .frameworks
            .iter()
            .flat_map(|(framework_id, framework)| {
                let tasks = framework.tasks.iter();
                let live = tasks.filter(|(_, task)| !task.record.state.is_terminal());
                live.map(|(task_id, task)| {
                    let info = task.record.info.as_deref();
                    let own = info
                        .and_then(|info| info.kill_policy)
                        .and_then(|policy| policy.grace_period);
                    (framework_id.clone(), task_id.clone(), own)
                })
            })
            .collect();
        for (framework_id, task_id, own) in live {
            let policy = match (grace, own) {
                (Some(grace), Some(own)) => Some(grace.min(own)),
                (grace, own) => grace.or(own),
            }
            .map(|grace_period| KillPolicy {
                grace_period: Some(grace_period),
            });
            self.kill_task(&framework_id, &task_id, policy, now, out);
        }
    }

    /// Stops starting an executor that has nothing to do any more. One that
    /// already runs is shut down when it subscribes.
    fn abandon_start(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        out: &mut Out,
    ) {
        if let Some(executor) = self.executor_mut(framework_id, executor_id)
            && executor.phase == Phase::Starting
            && executor.tasks.is_empty()
        {
            executor.phase = Phase::Destroying;
            out.push(Output::Destroy(executor.run.container_id.clone()));
        }
    }
}

/// Hands a task to an executor that listens.
pub(super) fn deliver(
    executor: &mut Executor,
    tasks: &std::collections::BTreeMap<TaskId, Task>,
    stream: RequestId,
    task_id: &TaskId,
    out: &mut Out,
) {
    let Some(info) = tasks.get(task_id).and_then(|task| task.record.info.clone()) else {
        return;
    };
    executor.was_used = true;
    let launch = Launch {
        task: Arc::unwrap_or_clone(info),
    };
    out.push(Output::Event(stream, Box::new(Event::Launch(launch))));
}
