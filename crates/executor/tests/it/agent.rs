//! A Mesos agent, as far as an executor sees one, and the executor that it starts.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meson_core::run::Failure;
use meson_mesos::executor::{
    Acknowledged, Call, Envelope, Event, EventEnvelope, Kill, Launch, Subscribe, Subscribed,
};
use meson_mesos::recordio;
use meson_mesos::types::{
    AgentInfo, CapabilityType, Data, ExecutorInfo, FrameworkInfo, KillPolicy, TaskInfo, TaskState,
    TaskStatus,
};
use meson_protocol::task::{ExecutorMessage, TaskPayload, TaskResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;

use crate::http::{Handler, Response, Server};
use crate::support::eventually;

/// What the agent has heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) subscriptions: Vec<Subscribe>,
    pub(crate) updates: Vec<TaskStatus>,
    pub(crate) messages: Vec<ExecutorMessage>,
    /// Do not acknowledge.
    pub(crate) silent: bool,
    /// So many subscriptions are answered with 503, as by an agent that recovers.
    pub(crate) refuse: usize,
    stream: Option<mpsc::Sender<Vec<u8>>>,
}

impl Heard {
    pub(crate) fn states(&self, task: &str) -> Vec<TaskState> {
        self.updates
            .iter()
            .filter(|u| u.task_id.value == task)
            .map(|u| u.state.clone())
            .collect()
    }
}

/// The agent and its executor. Dropping it kills the executor.
pub(crate) struct Agent {
    pub(crate) heard: Arc<Mutex<Heard>>,
    pub(crate) sandbox: PathBuf,
    pub(crate) executor: Child,
    server: Option<Server>,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Agent {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With more in the executor's environment.
    pub(crate) async fn with(extra: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = folder.path().join("sandbox");
        std::fs::create_dir(&sandbox).unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let server = Server::start(0, handler(heard.clone())).await;
        let port = server.address.port();
        let log = std::fs::File::create(sandbox.join("stderr")).unwrap();
        let executor = Command::new(env!("CARGO_BIN_EXE_meson-executor"))
            .current_dir(&sandbox)
            .envs([
                ("MESOS_FRAMEWORK_ID", "framework-1"),
                ("MESOS_EXECUTOR_ID", "executor-1"),
                ("MESOS_CHECKPOINT", "1"),
                ("MESOS_RECOVERY_TIMEOUT", "15mins"),
                ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs"),
                ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"),
                ("MESON_LOG", "meson_executor=debug,info"),
            ])
            // Agents of tests that run side by side are not the same one.
            .env("MESOS_SLAVE_ID", format!("agent-{port}"))
            .env("MESOS_SANDBOX", &sandbox)
            .env("MESOS_DIRECTORY", &sandbox)
            .env("MESOS_AGENT_ENDPOINT", format!("127.0.0.1:{port}"))
            .envs(extra.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut agent = Self {
            heard,
            sandbox,
            executor,
            server: Some(server),
            port,
            _folder: folder,
        };
        eventually("its subscription", || {
            let ended = agent.executor.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the executor ended at once\n{}",
                agent.log()
            );
            (!agent.heard.lock().unwrap().subscriptions.is_empty()).then_some(())
        })
        .await;
        agent
    }

    /// Waits until something was heard.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Heard) -> Option<T>,
    ) -> T {
        eventually(what, || look(&self.heard.lock().unwrap())).await
    }

    pub(crate) fn send(&self, event: Event) {
        let stream = self.heard.lock().unwrap().stream.clone();
        stream
            .expect("no executor is subscribed")
            .try_send(framed(event))
            .unwrap();
    }

    pub(crate) fn launch(&self, payload: &TaskPayload) -> String {
        let id = payload.spec.task.to_string();
        self.launch_bytes(&id, payload.encode().unwrap());
        id
    }

    pub(crate) fn launch_bytes(&self, id: &str, data: Vec<u8>) {
        let task = TaskInfo {
            name: id.into(),
            task_id: id.into(),
            data: Some(data.into()),
            ..TaskInfo::default()
        };
        self.send(Event::Launch(Launch { task }));
    }

    pub(crate) fn kill(&self, task: &str, grace: Duration) {
        let kill_policy = Some(KillPolicy {
            grace_period: Some(grace.into()),
        });
        self.send(Event::Kill(Kill {
            task_id: task.into(),
            kill_policy,
        }));
    }

    /// The terminal update of a task.
    pub(crate) async fn end(&self, task: &str) -> TaskStatus {
        self.until(&format!("the end of {task}"), |heard| {
            heard
                .updates
                .iter()
                .find(|u| u.task_id.value == task && u.state.is_terminal())
                .cloned()
        })
        .await
    }

    /// Launches, waits for the end, and expects it to be good.
    pub(crate) async fn succeed(&self, payload: &TaskPayload) -> TaskResult {
        let task = self.launch(payload);
        let status = self.end(&task).await;
        assert_eq!(
            status.state,
            TaskState::Finished,
            "{:?}\n{}",
            status.message,
            self.log()
        );
        result(&status)
    }

    /// Launches, waits for the end, and expects it to be bad.
    pub(crate) async fn fail(&self, payload: &TaskPayload) -> Failure {
        let task = self.launch(payload);
        let status = self.end(&task).await;
        assert_eq!(status.state, TaskState::Failed, "{}", self.log());
        let failure = result(&status).failure.unwrap();
        assert_eq!(status.message.as_ref(), Some(&failure.message));
        failure
    }

    pub(crate) async fn until_running(&self, task: &str) {
        self.until(&format!("{task} to run"), |heard| {
            heard
                .states(task)
                .contains(&TaskState::Running)
                .then_some(())
        })
        .await;
    }

    /// What the executor has said to its own stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.sandbox.join("stderr")).unwrap_or_default()
    }

    /// The executor proper, a child of the guard that the agent sees.
    pub(crate) fn executor_pid(&self) -> i32 {
        let guard = self.guard_pid();
        let children =
            std::fs::read_to_string(format!("/proc/{guard}/task/{guard}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn guard_pid(&self) -> i32 {
        i32::try_from(self.executor.id()).unwrap()
    }

    /// Waits until the executor's process has ended, and gives its exit status.
    pub(crate) async fn exited(&mut self) -> Option<i32> {
        let executor = &mut self.executor;
        eventually("the executor's end", || executor.try_wait().unwrap())
            .await
            .code()
    }

    /// The agent dies.
    pub(crate) async fn go_away(&mut self) {
        self.heard.lock().unwrap().stream = None;
        self.server.take().unwrap().stop().await;
    }

    /// The agent is back, with no memory but that of the test.
    pub(crate) async fn come_back(&mut self) {
        self.server = Some(Server::start(self.port, handler(self.heard.clone())).await);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.executor.try_wait().unwrap().is_none() {
            let _ = kill(Pid::from_raw(self.guard_pid()), Signal::SIGKILL);
            let _ = self.executor.wait();
        }
    }
}

/// What a terminal update carries.
pub(crate) fn result(status: &TaskStatus) -> TaskResult {
    TaskResult::decode(
        status
            .data
            .as_ref()
            .expect("a terminal update without data"),
    )
    .unwrap()
}

fn framed(event: Event) -> Vec<u8> {
    recordio::encode(&serde_json::to_vec(&EventEnvelope { body: event }).unwrap()).to_vec()
}

fn handler(heard: Arc<Mutex<Heard>>) -> Handler {
    Arc::new(move |request| {
        assert_eq!(request.path, "/api/v1/executor");
        let envelope: Envelope = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(envelope.executor_id.unwrap().value, "executor-1");
        let mut heard = heard.lock().unwrap();
        match envelope.body {
            Call::Subscribe(_) if heard.refuse > 0 => {
                heard.refuse -= 1;
                Response::Full(503, b"Agent has not finished recovery".to_vec())
            }
            Call::Subscribe(subscribe) => {
                let (stream, chunks) = mpsc::channel(1000);
                stream
                    .try_send(framed(Event::Subscribed(subscribed())))
                    .unwrap();
                if !heard.silent {
                    for update in &subscribe.unacknowledged_updates {
                        stream
                            .try_send(framed(acknowledge(&update.status)))
                            .unwrap();
                    }
                }
                heard.updates.extend(
                    subscribe
                        .unacknowledged_updates
                        .iter()
                        .map(|update| update.status.clone()),
                );
                heard.stream = Some(stream);
                heard.subscriptions.push(subscribe);
                Response::Stream(chunks)
            }
            Call::Update(update) => {
                if let (false, Some(stream)) = (heard.silent, &heard.stream) {
                    stream
                        .try_send(framed(acknowledge(&update.status)))
                        .unwrap();
                }
                heard.updates.push(update.status);
                Response::Full(202, Vec::new())
            }
            Call::Message(message) => {
                heard
                    .messages
                    .push(ExecutorMessage::decode(&message.data).unwrap());
                Response::Full(202, Vec::new())
            }
            other => panic!("{other:?}"),
        }
    })
}

fn acknowledge(status: &TaskStatus) -> Event {
    let uuid: Data = status
        .uuid
        .clone()
        .expect("an executor's update without uuid");
    Event::Acknowledged(Acknowledged {
        task_id: status.task_id.clone(),
        uuid,
    })
}

fn subscribed() -> Subscribed {
    let framework_info = FrameworkInfo {
        capabilities: vec![CapabilityType::TaskKillingState.into()],
        ..FrameworkInfo::default()
    };
    Subscribed {
        executor_info: ExecutorInfo::default(),
        framework_info,
        agent_info: AgentInfo::default(),
        container_id: None,
    }
}
