//! The executor of tasks that have a command and no executor: one process for one
//! task, started by the agent like any other executor.
//!
//! It subscribes, runs the command it is given in a process group of its own, and
//! reports TASK_STARTING, TASK_RUNNING and the end. A kill is SIGTERM to the group,
//! and SIGKILL when the grace is over. It lives on while its agent is away, if the
//! framework asks for checkpoints, and ends once the agent has the last update.

mod client;
mod command;

use std::collections::VecDeque;
use std::time::Duration;

use meson_mesos::executor::{Call, Event, Kill, Subscribe, Update};
use meson_mesos::types::{
    CapabilityType, Data, StatusReason, StatusSource, TaskInfo, TaskState, TaskStatus,
};
use tokio::time::Instant;
use uuid::Uuid;

use client::{Client, Stream, Surroundings};
use command::Running;

use super::runner::Clock;

/// The argument by which a program is asked to be the command executor.
pub const ARGUMENT: &str = "command-executor";

/// From SIGTERM to SIGKILL where nobody says otherwise
/// (`DEFAULT_KILL_GRACE_PERIOD` of Mesos).
const KILL_GRACE: Duration = Duration::from_secs(3);

/// Why the executor cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandExecutorError {
    /// The environment is not the one that an agent gives.
    #[error(
        "cannot run as an executor: the environment variable {0} is missing or wrong; this program is started by an agent"
    )]
    Environment(&'static str),
    /// The runtime or the client cannot be set up.
    #[error("cannot set up the executor: {0}")]
    Setup(String),
    /// The agent does not want the executor.
    #[error("the agent refused the executor: {0}")]
    Refused(String),
    /// The agent did not come back.
    #[error("the agent has been away for longer than {0:?}")]
    AgentLost(Duration),
}

/// Runs this process as the command executor of the agent that started it.
///
/// # Errors
/// When it was not started by an agent, or lost it.
pub fn run() -> Result<(), CommandExecutorError> {
    let surroundings = Surroundings::from_environment()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandExecutorError::Setup(error.to_string()))?
        .block_on(async {
            let client = Client::new(surroundings)?;
            Executor::new(client).run().await
        })
}

/// Why the task is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Killed,
    TooLong,
}

struct Executor {
    client: Client,
    clock: Clock,
    /// The stream of events, while the agent is there.
    stream: Option<Stream>,
    task: Option<TaskInfo>,
    running: Option<Running>,
    ending: Option<Cause>,
    /// When the group is sent SIGKILL.
    kill_at: Option<Instant>,
    /// When `max_completion_time` is over.
    limit_at: Option<Instant>,
    /// Updates that the agent does not have yet, or has not acknowledged.
    updates: VecDeque<Update>,
    /// How many of them the agent has.
    taken: usize,
    /// The scheduler understands TASK_KILLING.
    says_killing: bool,
    acknowledged: bool,
    /// The last update has been made.
    over: bool,
}

impl Executor {
    fn new(client: Client) -> Self {
        Self {
            client,
            clock: Clock::new(),
            stream: None,
            task: None,
            running: None,
            ending: None,
            kill_at: None,
            limit_at: None,
            updates: VecDeque::new(),
            taken: 0,
            says_killing: false,
            acknowledged: false,
            over: false,
        }
    }

    async fn run(mut self) -> Result<(), CommandExecutorError> {
        loop {
            if self.stream.is_none() {
                self.subscribe().await?;
            }
            self.report().await;
            if self.over && self.taken == self.updates.len() && self.stream.is_some() {
                // The agent has it all, on disk where that is asked for.
                return Ok(());
            }
            let Some(stream) = &mut self.stream else {
                continue;
            };
            tokio::select! {
                event = stream.next() => match event {
                    Some(event) => {
                        if !self.event(event).await {
                            return Ok(());
                        }
                    }
                    None => self.stream = None,
                },
                outcome = ended(&mut self.running) => self.ended(outcome),
                () = until(self.kill_at) => {
                    self.kill_at = None;
                    if let Some(running) = &self.running {
                        running.kill();
                    }
                }
                () = until(self.limit_at) => {
                    self.limit_at = None;
                    self.end(Cause::TooLong, None);
                }
            }
        }
    }

    /// Subscribes, and keeps trying as long as the agent may come back. The task
    /// goes on meanwhile, and its graces too.
    async fn subscribe(&mut self) -> Result<(), CommandExecutorError> {
        let mut retry = self.client.retry();
        loop {
            let subscribe = Call::Subscribe(Subscribe {
                unacknowledged_tasks: self
                    .task
                    .iter()
                    .filter(|_| !self.acknowledged)
                    .cloned()
                    .collect(),
                unacknowledged_updates: self.updates.iter().cloned().collect(),
            });
            let told = self.updates.len();
            tokio::select! {
                subscribed = self.client.subscribe(subscribe, &mut retry) => match subscribed {
                    Ok(Some(stream)) => {
                        self.stream = Some(stream);
                        self.taken = told;
                        return Ok(());
                    }
                    // Not yet; try again with what has happened meanwhile.
                    Ok(None) => {}
                    Err(error) => {
                        if let Some(running) = &self.running {
                            running.kill();
                        }
                        return Err(error);
                    }
                },
                outcome = ended(&mut self.running) => self.ended(outcome),
                () = until(self.kill_at) => {
                    self.kill_at = None;
                    if let Some(running) = &self.running {
                        running.kill();
                    }
                }
                () = until(self.limit_at) => {
                    self.limit_at = None;
                    self.end(Cause::TooLong, None);
                }
            }
        }
    }

    /// Sends the agent what it does not have yet.
    async fn report(&mut self) {
        while self.stream.is_some()
            && let Some(update) = self.updates.get(self.taken)
        {
            if self.client.call(Call::Update(update.clone())).await {
                self.taken += 1;
            } else {
                // It will be told in the next subscription.
                self.stream = None;
            }
        }
    }

    /// Takes an event; `false` when the executor is to end.
    async fn event(&mut self, event: Event) -> bool {
        match event {
            Event::Subscribed(subscribed) => {
                self.says_killing = subscribed
                    .framework_info
                    .can(&CapabilityType::TaskKillingState);
            }
            Event::Launch(launch) => self.launch(launch.task).await,
            Event::Kill(kill) => self.kill(&kill),
            Event::Acknowledged(acknowledged) => {
                self.acknowledged = true;
                let first = self.updates.front();
                if first.is_some_and(|update| update.status.uuid == Some(acknowledged.uuid)) {
                    self.updates.pop_front();
                    self.taken = self.taken.saturating_sub(1);
                }
            }
            Event::Shutdown => {
                if self.running.is_none() {
                    return false;
                }
                // Sooner than the agent loses its patience.
                let grace = self.client.shutdown_grace().mul_f64(0.8);
                self.end(Cause::Killed, Some(grace.min(self.task_grace())));
            }
            _ => {}
        }
        true
    }

    async fn launch(&mut self, task: TaskInfo) {
        if self.task.is_some() {
            eprintln!("a command executor runs one task; the second one is ignored");
            return;
        }
        self.task = Some(task.clone());
        self.push(TaskState::Starting, None, None);
        self.report().await;
        let limit = task.max_completion_time;
        match Running::start(&task) {
            Ok(running) => {
                self.running = Some(running);
                self.limit_at = limit.map(|limit| Instant::now() + limit.to_duration());
                self.push(TaskState::Running, None, None);
            }
            Err(reason) => {
                self.push(TaskState::Failed, Some(reason), None);
                self.over = true;
            }
        }
    }

    fn kill(&mut self, kill: &Kill) {
        if self.task.as_ref().map(|task| &task.task_id) != Some(&kill.task_id) {
            return;
        }
        let grace = kill
            .kill_policy
            .and_then(|policy| policy.grace_period)
            .map(|grace| grace.to_duration());
        self.end(Cause::Killed, grace);
    }

    /// The grace that the task itself asks for.
    fn task_grace(&self) -> Duration {
        self.task
            .as_ref()
            .and_then(|task| task.kill_policy?.grace_period)
            .map_or(KILL_GRACE, |grace| grace.to_duration())
    }

    /// Begins to end the task; a later kill may only shorten the grace.
    fn end(&mut self, cause: Cause, grace: Option<Duration>) {
        let grace = grace.unwrap_or_else(|| self.task_grace());
        let Some(running) = &self.running else {
            return;
        };
        let at = Instant::now() + grace;
        if self.ending.is_none() {
            running.terminate();
            self.ending = Some(cause);
            self.kill_at = Some(at);
            if cause == Cause::Killed && self.says_killing {
                self.push(TaskState::Killing, None, None);
            }
        } else if let Some(kill_at) = &mut self.kill_at {
            *kill_at = at.min(*kill_at);
        }
    }

    /// The command has ended.
    fn ended(&mut self, outcome: command::Outcome) {
        self.running = None;
        self.kill_at = None;
        self.limit_at = None;
        let (state, reason) = match self.ending {
            Some(Cause::Killed) => (TaskState::Killed, None),
            Some(Cause::TooLong) => (
                TaskState::Failed,
                Some(StatusReason::MaxCompletionTimeReached),
            ),
            None if outcome.succeeded => (TaskState::Finished, None),
            None => (TaskState::Failed, None),
        };
        self.push(state, Some(outcome.message), reason);
        self.over = true;
    }

    fn push(&mut self, state: TaskState, message: Option<String>, reason: Option<StatusReason>) {
        let Some(task) = &self.task else {
            return;
        };
        let status = TaskStatus {
            message,
            reason,
            source: Some(StatusSource::Executor),
            timestamp: Some(self.clock.now().as_secs_f64()),
            uuid: Some(Data::from(Uuid::new_v4().as_bytes().as_slice())),
            ..TaskStatus::new(task.task_id.clone(), state)
        };
        self.updates.push_back(Update { status });
    }
}

/// Waits for the end of the command, for ever if none runs.
async fn ended(running: &mut Option<Running>) -> command::Outcome {
    match running {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits until a moment, for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
