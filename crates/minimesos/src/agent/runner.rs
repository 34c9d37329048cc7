//! The loop around the state machine: it alone owns the agent's state, feeds it,
//! and carries out what it says, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use meson_mesos::recordio;
use meson_mesos::types::{AgentId, ExecutorId, ExecutorInfo};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::AgentError;
use super::container::Containers;
use super::http::Incoming;
use super::records::{AgentRecord, TaskRecord};
use super::sandboxes;
use super::session::FromMaster;
use super::state::{Answer, Input, Inventory, Output, RequestId, State, Time};
use super::store::{Store, StoreError};
use crate::link::{FromAgent, Hello, RunningExecutor, RunningTask, ToAgent};

/// How long the last words to the master may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Time since 1970 that never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Time,
    started: Instant,
}

impl Clock {
    /// A clock that shows the machine's time now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where an agent looks at the machine's clock"
    )]
    pub(crate) fn new() -> Self {
        Self {
            origin: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.origin + self.started.elapsed()
    }

    fn instant(&self, time: Time) -> Instant {
        self.started + time.saturating_sub(self.origin)
    }
}

/// What the owner of an agent may ask of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// End now; executors go on.
    Stop,
    /// End the executors, leave the cluster, then end.
    Leave,
}

/// How the loop ends.
#[derive(Debug)]
enum Flow {
    Continue,
    /// All executors have ended, and the agent is to be forgotten.
    Left,
}

/// Everything that the loop works with.
pub(crate) struct Runner {
    pub(crate) state: State,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) containers: Containers,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) calls: mpsc::Receiver<Incoming>,
    pub(crate) master: mpsc::Receiver<FromMaster>,
    pub(crate) control: mpsc::Receiver<Control>,
    pub(crate) agent_id: watch::Sender<Option<AgentId>>,
    pub(crate) work_dir: PathBuf,
    pub(crate) gc_delay: Duration,
    pub(crate) wires: Wires,
}

/// Channels that come and go.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    /// To the master, while registered.
    to_master: Option<mpsc::Sender<FromAgent>>,
    /// Whether the agent has recovered.
    ready: bool,
    /// The session that waits for the agent to recover.
    hello: Option<oneshot::Sender<Hello>>,
    /// Calls of executors that are not answered yet.
    answers: HashMap<RequestId, (oneshot::Sender<Answer>, Option<mpsc::Sender<Bytes>>)>,
    /// Executors' streams.
    streams: HashMap<RequestId, mpsc::Sender<Bytes>>,
    /// Streams that broke in our hands and that the state machine believes in.
    broken: Vec<RequestId>,
    /// Why the master refused the agent.
    refusal: Option<String>,
}

impl Runner {
    /// Carries out the outputs of the recovery, then runs until the agent ends.
    pub(crate) async fn run(mut self, first: Vec<Output>) -> Result<(), AgentError> {
        let mut flow = self.carry_out(first)?;
        let mut sweeps = tokio::time::interval(sandboxes::INTERVAL);
        loop {
            while let Some(stream) = self.wires.broken.pop() {
                self.handle(Input::StreamEnded(stream))?;
            }
            if matches!(flow, Flow::Left) {
                return self.farewell().await;
            }
            let due = self.state.next_deadline();
            let wake = async {
                match due {
                    Some(time) => tokio::time::sleep_until(self.clock.instant(time)).await,
                    None => std::future::pending().await,
                }
            };
            let input = tokio::select! {
                control = self.control.recv() => match control {
                    Some(Control::Leave) => Some(Input::Leave),
                    Some(Control::Stop) | None => return Ok(()),
                },
                Some(call) = self.calls.recv() => Some(self.incoming(call)),
                Some(input) = self.inputs.recv() => Some(input),
                Some(event) = self.master.recv() => self.hear(event)?,
                () = wake => Some(Input::Tick),
                _ = sweeps.tick() => {
                    self.sweep();
                    None
                }
            };
            flow = match input {
                Some(input) => self.handle(input)?,
                None => Flow::Continue,
            };
        }
    }

    fn handle(&mut self, input: Input) -> Result<Flow, AgentError> {
        if let Input::Ended { container_id, .. } | Input::StartFailed { container_id, .. } = &input
        {
            self.containers.forget(container_id);
        }
        if let Input::Started {
            container_id,
            process,
        } = &input
        {
            self.containers.started(container_id, *process);
        }
        let out = self.state.handle(input, self.clock.now());
        self.carry_out(out)
    }

    fn incoming(&mut self, call: Incoming) -> Input {
        self.wires
            .answers
            .insert(call.request, (call.answer, call.events));
        Input::Call {
            request: call.request,
            framework_id: call.framework_id,
            executor_id: call.executor_id,
            call: Box::new(call.call),
        }
    }

    fn hear(&mut self, event: FromMaster) -> Result<Option<Input>, AgentError> {
        Ok(match event {
            FromMaster::Hello(ask) => {
                self.wires.hello = Some(ask);
                self.say_hello();
                None
            }
            FromMaster::Registered(agent_id, sender) => {
                let known = self.state.info().id.as_ref();
                if known != Some(&agent_id) {
                    let mut info = self.state.info().clone();
                    info.id = Some(agent_id.clone());
                    self.store.set_agent(&AgentRecord { info })?;
                }
                self.wires.to_master = Some(sender);
                self.agent_id.send_replace(Some(agent_id.clone()));
                Some(Input::Registered(agent_id))
            }
            FromMaster::Disconnected => {
                self.wires.to_master = None;
                Some(Input::Disconnected)
            }
            FromMaster::Refused(message) => {
                error!(reason = message, "the master refuses this agent");
                self.wires.refusal = Some(message);
                Some(Input::Leave)
            }
            FromMaster::Message(message) => input(*message),
        })
    }

    fn say_hello(&mut self) {
        if self.wires.ready
            && let Some(ask) = self.wires.hello.take()
        {
            let _ = ask.send(hello(&self.state));
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) -> Result<Flow, AgentError> {
        let mut flow = Flow::Continue;
        for output in outputs {
            match output {
                Output::Ready => {
                    self.wires.ready = true;
                    self.say_hello();
                }
                Output::Left => flow = Flow::Left,
                Output::Start {
                    framework,
                    run,
                    role,
                } => {
                    let agent_id = self.state.info().id.as_ref();
                    let agent_id = agent_id.map(ToString::to_string).unwrap_or_default();
                    self.containers.start(framework, run, role, agent_id);
                }
                Output::LimitMemory(container_id, megabytes) => {
                    self.containers.limit_memory(&container_id, megabytes);
                }
                Output::Destroy(container_id) => self.containers.destroy(&container_id),
                Output::Update(forward) => self.tell(FromAgent::StatusUpdate {
                    framework_id: forward.framework_id,
                    status: Box::new((*forward.status).clone()),
                    latest_state: forward.latest_state,
                }),
                Output::MessageToScheduler {
                    framework_id,
                    executor_id,
                    data,
                } => self.tell(FromAgent::ExecutorMessage {
                    framework_id,
                    executor_id,
                    data,
                }),
                Output::ExecutorExited(exit) => {
                    info!(executor = %exit.executor_id, status = exit.status, "executor ended");
                    self.tell(FromAgent::ExecutorTerminated {
                        framework_id: exit.framework_id,
                        executor_id: exit.executor_id,
                        status: exit.status,
                        is_command_executor: exit.quiet,
                    });
                }
                Output::Unregister => self.tell(FromAgent::Unregister),
                Output::Answer(request, answer) => self.answer(request, answer),
                Output::Event(stream, event) => match recordio::encode_json(&event) {
                    Ok(record) => self.send_event(stream, record),
                    Err(error) => error!(%error, "an event has no JSON form"),
                },
                Output::Close(stream) => {
                    self.wires.streams.remove(&stream);
                }
                record => self.record(record)?,
            }
        }
        Ok(flow)
    }

    /// Writes down what is to be kept. An agent that cannot must end: its
    /// promises would not survive it.
    fn record(&self, output: Output) -> Result<(), StoreError> {
        let store = &self.store;
        match &output {
            Output::SaveFramework(framework) => {
                store.set_framework(framework.id.as_str(), framework)
            }
            Output::SaveRun(run) => {
                store.set_run(run.framework_id.as_str(), run.container_id.as_str(), run)
            }
            Output::SaveTask(task) => {
                store.set_task(task.framework_id.as_str(), task.task_id.as_str(), task)
            }
            Output::RemoveFramework(id) => store.remove_framework(id.as_str()),
            Output::RemoveRun(id, container) => store.remove_run(id.as_str(), container.as_str()),
            Output::RemoveTask(id, task) => store.remove_task(id.as_str(), task.as_str()),
            _ => Ok(()),
        }
    }

    fn tell(&mut self, call: FromAgent) {
        let Some(sender) = &self.wires.to_master else {
            return;
        };
        // Messages are unreliable: an executor that talks without end takes no room from the rest.
        let is_message = matches!(call, FromAgent::ExecutorMessage { .. });
        if is_message && sender.capacity() < sender.max_capacity() / 2 {
            debug!("an executor's message is lost: the master hears them too slowly");
            return;
        }
        if let Err(error) = sender.try_send(call) {
            // Without a sender, the session notices and opens a new connection;
            // what matters is then said again.
            warn!(%error, "the master takes no more calls");
            self.wires.to_master = None;
        }
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let Some((sender, events)) = self.wires.answers.remove(&request) else {
            return;
        };
        if answer == Answer::Streaming
            && let Some(events) = events
        {
            self.wires.streams.insert(request, events);
        }
        if sender.send(answer).is_err() && self.wires.streams.remove(&request).is_some() {
            // Whoever subscribed hung up before it heard that it may.
            self.wires.broken.push(request);
        }
    }

    fn send_event(&mut self, stream: RequestId, record: Bytes) {
        if let Some(sender) = self.wires.streams.get(&stream)
            && let Err(error) = sender.try_send(record)
        {
            debug!(%error, "an executor's stream is cut");
            self.wires.streams.remove(&stream);
            self.wires.broken.push(stream);
        }
    }

    /// Removes old sandboxes, beside everything else.
    fn sweep(&self) {
        let live: BTreeSet<PathBuf> = self
            .state
            .inventory()
            .into_iter()
            .flat_map(|inventory| inventory.executors)
            .map(|run| run.directory)
            .collect();
        let before = UNIX_EPOCH + self.clock.now().saturating_sub(self.gc_delay);
        let work_dir = self.work_dir.clone();
        tokio::task::spawn_blocking(move || {
            let removed = sandboxes::sweep(&work_dir, &live, before);
            if removed > 0 {
                info!(removed, "old sandboxes removed");
            }
        });
    }

    /// The last words, when nothing runs any more.
    async fn farewell(mut self) -> Result<(), AgentError> {
        if let Some(sender) = self.wires.to_master.take() {
            // Closed by the session once it has made the calls that wait.
            let capacity = sender.max_capacity();
            let said = async {
                while sender.capacity() < capacity {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                // The last one is taken out of the queue before it is made.
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            let _ = tokio::time::timeout(FAREWELL, said).await;
        }
        self.store.clear()?;
        info!("agent has left");
        match self.wires.refusal {
            Some(message) => Err(AgentError::Refused { message }),
            None => Ok(()),
        }
    }
}

/// A message of the master, for the state machine.
fn input(message: ToAgent) -> Option<Input> {
    Some(match message {
        ToAgent::RunTask {
            framework,
            executor,
            mut task,
        } => {
            if task.executor.is_none() && task.command.is_none() {
                task.executor = executor;
            }
            Input::RunTask {
                framework: framework.into(),
                task,
            }
        }
        ToAgent::KillTask {
            framework_id,
            task_id,
            kill_policy,
        } => Input::KillTask {
            framework_id,
            task_id,
            kill_policy,
        },
        ToAgent::AcknowledgeUpdate {
            framework_id,
            task_id,
            uuid,
        } => Input::Acknowledge {
            framework_id,
            task_id,
            uuid,
        },
        ToAgent::FrameworkMessage {
            framework_id,
            executor_id,
            data,
        } => Input::MessageToExecutor {
            framework_id,
            executor_id,
            data,
        },
        ToAgent::ShutdownExecutor {
            framework_id,
            executor_id,
        } => Input::ShutdownExecutor {
            framework_id,
            executor_id,
        },
        ToAgent::ShutdownFramework { framework_id } => Input::ShutdownFramework(framework_id),
        ToAgent::Drain { max_grace_period } => Input::Drain(max_grace_period),
        ToAgent::UpdateFramework { framework } => Input::UpdateFramework(framework.into()),
        // The session deals with these.
        ToAgent::Registered { .. }
        | ToAgent::Reregistered { .. }
        | ToAgent::Refused { .. }
        | ToAgent::Ping { .. } => return None,
    })
}

/// The first words to a master.
fn hello(state: &State) -> Hello {
    let mut hello = Hello {
        agent: state.info().clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Hello::default()
    };
    for Inventory {
        framework,
        executors,
        tasks,
    } in state.inventory()
    {
        hello.frameworks.push(framework.info.clone());
        let mut running: BTreeMap<ExecutorId, RunningExecutor> = executors
            .into_iter()
            .map(|run| {
                let executor = RunningExecutor {
                    framework_id: framework.id.clone(),
                    executor: (*run.info).clone(),
                    is_command_executor: run.kind == super::records::Kind::Command,
                    tasks: Vec::new(),
                };
                (run.executor_id, executor)
            })
            .collect();
        for record in tasks {
            let TaskRecord {
                info: Some(info), ..
            } = &record
            else {
                continue;
            };
            // An executor that has left nothing but the news of its tasks' ends.
            let gone = || RunningExecutor {
                framework_id: framework.id.clone(),
                executor: info.executor.clone().unwrap_or_else(|| ExecutorInfo {
                    executor_id: record.executor_id.clone(),
                    framework_id: Some(framework.id.clone()),
                    ..ExecutorInfo::default()
                }),
                is_command_executor: info.executor.is_none(),
                tasks: Vec::new(),
            };
            running
                .entry(record.executor_id.clone())
                .or_insert_with(gone)
                .tasks
                .push(RunningTask {
                    task: (**info).clone(),
                    state: record.state.clone(),
                    latest: record.latest.as_deref().cloned(),
                });
        }
        hello.executors.extend(running.into_values());
    }
    hello
}
