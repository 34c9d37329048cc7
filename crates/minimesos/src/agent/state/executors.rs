//! Executors: launched with their first task, subscribed, told what to do, ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use meson_mesos::executor::{Call, Event, Kill, Launch, Message, Subscribe, Subscribed};
use meson_mesos::types::{
    CommandInfo, ContainerId, Data, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo,
    KillPolicy, Resource, StatusReason, TaskId, TaskInfo, TaskState, validate_id,
};

use super::updates::Verdict;
use super::{
    Answer, Ending, Executor, Exit, Framework, LaunchFailure, Out, Output, Phase, RequestId, Stage,
    State, Task, Time, Timer,
};
use crate::agent::process::ProcessId;
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
            .insert(container_id, (framework_id.clone(), executor_id));
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

    fn executor_mut(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
    ) -> Option<&mut Executor> {
        self.frameworks
            .get_mut(framework_id)?
            .executors
            .get_mut(executor_id)
    }

    pub(super) fn message(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        data: Data,
        out: &mut Out,
    ) {
        // Messages are unreliable: to one that does not listen they are lost.
        if let Some(executor) = self.executor_mut(framework_id, executor_id)
            && let Phase::Subscribed { stream } = executor.phase
        {
            let event = Event::Message(Message { data });
            out.push(Output::Event(stream, Box::new(event)));
        }
    }

    pub(super) fn shutdown_executor(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        now: Time,
        out: &mut Out,
    ) {
        let default = self.settings.timeouts.executor_shutdown_grace;
        let Some(executor) = self.executor_mut(framework_id, executor_id) else {
            return;
        };
        match executor.phase {
            Phase::Subscribed { stream } => {
                let grace = executor
                    .run
                    .info
                    .shutdown_grace_period
                    .map_or(default, |grace| grace.to_duration());
                out.push(Output::Event(stream, Box::new(Event::Shutdown)));
                let until = now + grace;
                executor.phase = Phase::ShuttingDown {
                    until,
                    stream: Some(stream),
                };
                let timer = Timer::Executor(framework_id.clone(), executor_id.clone());
                self.timers.insert((until, timer));
            }
            // Who does not listen cannot be asked.
            Phase::Starting | Phase::Registering { .. } | Phase::Away { .. } => {
                executor.phase = Phase::Destroying;
                out.push(Output::Destroy(executor.run.container_id.clone()));
            }
            Phase::ShuttingDown { .. } | Phase::Destroying => {}
        }
        self.recovery_may_be_over(out);
    }

    fn shutdown_all_of(&mut self, framework_id: &FrameworkId, now: Time, out: &mut Out) {
        let executors: Vec<ExecutorId> = self
            .frameworks
            .get(framework_id)
            .map(|framework| framework.executors.keys().cloned().collect())
            .unwrap_or_default();
        for executor in executors {
            self.shutdown_executor(framework_id, &executor, now, out);
        }
    }

    pub(super) fn shutdown_framework(
        &mut self,
        framework_id: &FrameworkId,
        now: Time,
        out: &mut Out,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        framework.removing = true;
        self.exits.retain(|exit| exit.framework_id != *framework_id);
        self.shutdown_all_of(framework_id, now, out);
        self.tidy(framework_id, out);
    }

    pub(super) fn leave(&mut self, now: Time, out: &mut Out) {
        if self.stage == Stage::Leaving {
            return;
        }
        self.stage = Stage::Leaving;
        // The real agent unregisters first: the scheduler hears TASK_LOST from
        // the master at once, and not of each end afterwards.
        out.push(Output::Unregister);
        let frameworks: Vec<FrameworkId> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            self.shutdown_all_of(&framework, now, out);
        }
        if self.containers.is_empty() {
            out.push(Output::Left);
        }
    }

    pub(super) fn call(
        &mut self,
        request: RequestId,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        call: Call,
        now: Time,
        out: &mut Out,
    ) {
        let answer = match self.frameworks.get(framework_id) {
            None => Some(Answer::Refused("Framework cannot be found")),
            Some(framework) => match framework.executors.get(executor_id) {
                None => Some(Answer::Refused("Executor cannot be found")),
                Some(executor) => match (&call, executor.phase) {
                    (Call::Subscribe(_), _) => None,
                    (_, Phase::Starting | Phase::Registering { .. }) => {
                        Some(Answer::Forbidden("Executor is not subscribed"))
                    }
                    _ => Some(Answer::Accepted),
                },
            },
        };
        if answer.is_some_and(|answer| answer != Answer::Accepted) {
            out.extend(answer.map(|answer| Output::Answer(request, answer)));
            return;
        }
        match call {
            Call::Subscribe(subscribe) => {
                self.subscribe(request, framework_id, executor_id, subscribe, now, out);
            }
            Call::Update(update) => {
                self.executor_update(framework_id, executor_id, update.status, now, out);
            }
            Call::Message(message) => out.push(Output::MessageToScheduler {
                framework_id: framework_id.clone(),
                executor_id: executor_id.clone(),
                data: message.data,
            }),
            _ => {}
        }
        // An update is answered once it is written down.
        out.extend(answer.map(|answer| Output::Answer(request, answer)));
    }

    fn subscribe(
        &mut self,
        stream: RequestId,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        subscribe: Subscribe,
        now: Time,
        out: &mut Out,
    ) {
        let agent_info = self.info.clone();
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let framework_info = framework.record.info.clone();
        let Some(executor) = framework.executors.get_mut(executor_id) else {
            return;
        };
        if let Some(old) = executor.stream() {
            self.streams.remove(&old);
            out.push(Output::Close(old));
        }
        let container_id = executor.run.container_id.clone();
        self.streams.insert(stream, container_id.clone());
        out.push(Output::Answer(stream, Answer::Streaming));
        let subscribed = Subscribed {
            executor_info: (*executor.run.info).clone(),
            framework_info,
            agent_info,
            container_id: Some(container_id),
        };
        out.push(Output::Event(
            stream,
            Box::new(Event::Subscribed(subscribed)),
        ));

        let mut heard_of: BTreeSet<TaskId> = subscribe
            .unacknowledged_tasks
            .into_iter()
            .map(|task| task.task_id)
            .collect();
        match executor.phase {
            Phase::ShuttingDown { until, .. } => {
                executor.phase = Phase::ShuttingDown {
                    until,
                    stream: Some(stream),
                };
                out.push(Output::Event(stream, Box::new(Event::Shutdown)));
            }
            Phase::Destroying => {}
            _ => executor.phase = Phase::Subscribed { stream },
        }
        for update in subscribe.unacknowledged_updates {
            heard_of.insert(update.status.task_id.clone());
            self.executor_update(framework_id, executor_id, update.status, now, out);
        }
        self.drop_unheard(framework_id, executor_id, &heard_of, now, out);
        self.catch_up(framework_id, executor_id, stream, now, out);
        self.recovery_may_be_over(out);
    }

    /// Tasks that were sent to the executor and never reached it: the stream
    /// broke, or the agent died, in between.
    fn drop_unheard(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        heard_of: &BTreeSet<TaskId>,
        now: Time,
        out: &mut Out,
    ) {
        let Some(framework) = self.frameworks.get(framework_id) else {
            return;
        };
        let Some(executor) = framework.executors.get(executor_id) else {
            return;
        };
        let unheard: Vec<TaskId> = executor
            .tasks
            .iter()
            .filter(|task_id| {
                let staging = framework
                    .tasks
                    .get(*task_id)
                    .is_some_and(|task| task.record.state == TaskState::Staging);
                staging && !executor.queued.contains(*task_id) && !heard_of.contains(*task_id)
            })
            .cloned()
            .collect();
        for task_id in unheard {
            let verdict = self.dropped(
                framework_id,
                StatusReason::AgentRestarted,
                "Task launched during agent restart",
            );
            self.judge(framework_id, &task_id, verdict, now, out);
        }
    }

    /// Gives a freshly subscribed executor what waited for it.
    fn catch_up(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        stream: RequestId,
        now: Time,
        out: &mut Out,
    ) {
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let Some(executor) = framework.executors.get_mut(executor_id) else {
            return;
        };
        if executor.phase != (Phase::Subscribed { stream }) {
            return;
        }
        while let Some(task_id) = executor.queued.pop_front() {
            deliver(executor, &framework.tasks, stream, &task_id, out);
        }
        for (task_id, kill_policy) in std::mem::take(&mut executor.kills) {
            let event = Event::Kill(Kill {
                task_id,
                kill_policy,
            });
            out.push(Output::Event(stream, Box::new(event)));
        }
        let idle_for_ever = executor.run.kind == Kind::Command && executor.tasks.is_empty();
        if !executor.was_used || idle_for_ever {
            // All that it was started for was killed meanwhile, or was lost with
            // a former agent.
            self.shutdown_executor(framework_id, executor_id, now, out);
        }
    }

    pub(super) fn stream_ended(&mut self, stream: RequestId, now: Time) {
        let Some(container_id) = self.streams.remove(&stream) else {
            return;
        };
        let Some((framework_id, executor_id)) = self.containers.get(&container_id).cloned() else {
            return;
        };
        // One that lost its connection and lives comes back within its own
        // back-off; one that died is noticed by its process.
        let waits = self.settings.timeouts.executor_registration;
        let Some(executor) = self.executor_mut(&framework_id, &executor_id) else {
            return;
        };
        match executor.phase {
            Phase::Subscribed { stream: current } if current == stream => {
                let until = now + waits;
                executor.phase = Phase::Away { until, waits };
                self.timers
                    .insert((until, Timer::Executor(framework_id, executor_id)));
            }
            Phase::ShuttingDown {
                until,
                stream: Some(current),
            } if current == stream => {
                executor.phase = Phase::ShuttingDown {
                    until,
                    stream: None,
                };
            }
            _ => {}
        }
    }

    pub(super) fn started(
        &mut self,
        container_id: &ContainerId,
        process: ProcessId,
        now: Time,
        out: &mut Out,
    ) {
        let until = now + self.settings.timeouts.executor_registration;
        let Some((framework_id, executor_id)) = self.containers.get(container_id).cloned() else {
            return;
        };
        let Some(executor) = self.executor_mut(&framework_id, &executor_id) else {
            return;
        };
        executor.run.process = Some(process);
        out.push(Output::SaveRun(executor.run.clone()));
        // A fast one may have subscribed already.
        if executor.phase == Phase::Starting {
            executor.phase = Phase::Registering { until };
            self.timers
                .insert((until, Timer::Executor(framework_id, executor_id)));
        }
    }

    pub(super) fn start_failed(
        &mut self,
        container_id: &ContainerId,
        failure: LaunchFailure,
        now: Time,
        out: &mut Out,
    ) {
        // The real fetcher's exit status, 1, as a raw wait status.
        let status = match failure {
            LaunchFailure::Container(_) => Some(1 << 8),
            LaunchFailure::Directory(_) => None,
        };
        if let Some((framework_id, executor_id)) = self.containers.get(container_id).cloned()
            && let Some(executor) = self.executor_mut(&framework_id, &executor_id)
        {
            executor.ending = Ending::LaunchFailed(failure);
        }
        self.ended(container_id, status, now, out);
    }

    /// A container is no more: its executor's live tasks end with it.
    pub(super) fn ended(
        &mut self,
        container_id: &ContainerId,
        status: Option<i32>,
        now: Time,
        out: &mut Out,
    ) {
        let Some((framework_id, executor_id)) = self.containers.remove(container_id) else {
            return;
        };
        let Some(framework) = self.frameworks.get_mut(&framework_id) else {
            return;
        };
        let removing = framework.removing;
        let Some(executor) = framework.executors.remove(&executor_id) else {
            return;
        };
        if let Some(stream) = executor.stream() {
            self.streams.remove(&stream);
            out.push(Output::Close(stream));
        }
        let never_began = matches!(
            executor.ending,
            Ending::LaunchFailed(LaunchFailure::Directory(_))
        );
        let exit = Exit {
            framework_id: framework_id.clone(),
            executor_id,
            // As the real agent does when it could not wait for the process,
            // which was started by its predecessor.
            status: status.unwrap_or(-1),
            quiet: executor.run.kind == Kind::Command || never_began || removing,
        };
        if self.registered {
            out.push(Output::ExecutorExited(exit));
        } else {
            self.exits.push(exit);
        }
        for task_id in &executor.tasks {
            self.executor_gone(&framework_id, task_id, &executor.ending, now, out);
        }
        out.push(Output::RemoveRun(
            framework_id.clone(),
            container_id.clone(),
        ));
        self.tidy(&framework_id, out);
        self.recovery_may_be_over(out);
    }

    /// The time of an executor is up, if it has not been overtaken.
    pub(super) fn executor_deadline(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        now: Time,
        out: &mut Out,
    ) {
        let Some(executor) = self.executor_mut(framework_id, executor_id) else {
            return;
        };
        if executor.deadline().is_none_or(|until| until > now) {
            return;
        }
        match executor.phase {
            Phase::Registering { .. } => executor.ending = Ending::RegistrationTimeout,
            Phase::Away { waits, .. } => executor.ending = Ending::ReregistrationTimeout(waits),
            _ => {}
        }
        if let Some(stream) = executor.stream() {
            out.push(Output::Close(stream));
        }
        executor.phase = Phase::Destroying;
        out.push(Output::Destroy(executor.run.container_id.clone()));
        self.recovery_may_be_over(out);
    }
}

/// Hands a task to an executor that listens.
fn deliver(
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
