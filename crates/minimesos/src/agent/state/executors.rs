//! Executors: subscribed, told what to do, shut down, ended.

use std::collections::BTreeSet;

use meson_mesos::executor::{Call, Event, Kill, Message, Subscribe, Subscribed};
use meson_mesos::types::{
    ContainerId, Data, ExecutorId, FrameworkId, StatusReason, TaskId, TaskState,
};

use super::launches::deliver;
use super::{
    Answer, Ending, Executor, Exit, LaunchFailure, Out, Output, Phase, RequestId, Stage, State,
    Time, Timer,
};
use crate::agent::process::ProcessId;
use crate::agent::records::Kind;

impl State {
    pub(super) fn executor_mut(
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
        let mut answer = match self.frameworks.get(framework_id) {
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
                let heard =
                    self.executor_update(framework_id, executor_id, update.status, now, out);
                answer = answer.filter(|_| heard).or(Some(Answer::Refused(
                    "Too many updates of the executor wait for their acknowledgement",
                )));
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
