//! Several masters, of which one leads: who finds it, and what becomes of frameworks, agents
//! and tasks when it dies.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use meson_mesos::client::StreamError;
use meson_mesos::client::scheduler::{EventStream, SchedulerClient, SchedulerOptions, Session};
use meson_mesos::scheduler::{Accept, Acknowledge, Call, Event, Reconcile, ReconcileTask};
use meson_mesos::types::{
    AgentId, Capability, CapabilityType, CommandInfo, FrameworkId, FrameworkInfo, Offer, Operation,
    Resource, TaskId, TaskInfo, TaskState, TaskStatus,
};
use meson_tests::zookeeper::{self, ZooKeeper};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use crate::support::{Agent, DEADLINE, until};

/// Long enough that a loaded machine does not lose a leader that lives.
const SESSION: &str = "--zk_session_timeout=5secs";

/// A master in a process of its own.
struct Master {
    port: u16,
    process: Child,
}

impl Master {
    /// Starts one, and waits until it serves.
    async fn start(folder: &Path, name: &str, more: &[&str]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = folder.join(format!("{name}.out"));
        let create = |path| std::fs::File::create(path).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_minimesos"))
            .args(["master", "--port=0", "--allocation_interval=50ms"])
            .args(more)
            .env("RUST_LOG", "minimesos=debug")
            .stdin(Stdio::null())
            .stdout(create(&out))
            .stderr(create(&log))
            .spawn()
            .unwrap();
        let ready = until("a master that serves", || {
            let text = std::fs::read_to_string(&out).ok()?;
            let port = text.strip_prefix("ready ")?.trim_end().rsplit_once(':')?.1;
            port.parse().ok()
        });
        Self {
            port: ready.await,
            process,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        until("the master's end", || process.try_wait().unwrap()).await
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// ZooKeeper, two masters, and which of them leads.
struct Masters {
    zookeeper: ZooKeeper,
    both: [Master; 2],
}

impl Masters {
    async fn start(folder: &Path) -> Self {
        let zookeeper = ZooKeeper::start(folder);
        let zk = format!("--zk={}", zookeeper.url());
        let work_dir = |name: &str| format!("--work_dir={}", folder.join(name).display());
        let first = Master::start(folder, "first", &[&zk, SESSION, &work_dir("first")]).await;
        let second = Master::start(folder, "second", &[&zk, SESSION, &work_dir("second")]).await;
        Self {
            zookeeper,
            both: [first, second],
        }
    }

    /// The master that a session is with, and the other one.
    fn split(&mut self, session: &Session) -> (&mut Master, &mut Master) {
        let [first, second] = &mut self.both;
        if session.master().contains(&format!(":{}/", first.port)) {
            (first, second)
        } else {
            (second, first)
        }
    }
}

fn client(master: &str) -> SchedulerClient {
    let options = SchedulerOptions {
        give_up_after: Some(DEADLINE),
        ..SchedulerOptions::default()
    };
    SchedulerClient::new([master], options).unwrap()
}

async fn subscribe(client: &SchedulerClient, id: Option<FrameworkId>) -> (Session, EventStream) {
    let info = FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        failover_timeout: Some(600.0),
        checkpoint: Some(true),
        capabilities: vec![Capability::from(CapabilityType::PartitionAware)],
        ..FrameworkInfo::default()
    };
    client.subscribe(info, id).await.unwrap()
}

async fn next(events: &mut EventStream) -> Result<Event, StreamError> {
    let next = timeout(DEADLINE, events.next());
    next.await.expect("an event in time").expect("no end yet")
}

/// Skips what is not of interest.
async fn wait_for<T>(events: &mut EventStream, mut look: impl FnMut(Event) -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look(next(events).await.unwrap()) {
                return seen;
            }
        }
    };
    // Heartbeats come for ever.
    timeout(DEADLINE, looking).await.expect("seen in time")
}

/// Why the stream ends.
async fn end(events: &mut EventStream) -> StreamError {
    loop {
        if let Err(end) = next(events).await {
            return end;
        }
    }
}

async fn offer(events: &mut EventStream) -> Offer {
    wait_for(events, |event| match event {
        Event::Offers(mut offers) => offers.offers.pop(),
        _ => None,
    })
    .await
}

async fn update(events: &mut EventStream) -> TaskStatus {
    wait_for(events, |event| match event {
        Event::Update(update) => Some(update.status),
        _ => None,
    })
    .await
}

/// Launches a task that sleeps, and waits until it runs.
async fn launch(session: &Session, events: &mut EventStream, offer: Offer, id: &str) -> AgentId {
    let task = TaskInfo {
        name: id.to_owned(),
        task_id: TaskId::new(id),
        agent_id: offer.agent_id.clone(),
        resources: vec![Resource::scalar("cpus", 0.1), Resource::scalar("mem", 32.0)],
        command: Some(CommandInfo::shell("exec sleep 1000")),
        ..TaskInfo::default()
    };
    let accept = Accept {
        offer_ids: vec![offer.id],
        operations: vec![Operation::launch(vec![task])],
        filters: None,
    };
    session.call(Call::Accept(accept)).await.unwrap();
    loop {
        let status = update(events).await;
        if let Some(uuid) = status.uuid.clone() {
            let acknowledge = Acknowledge {
                agent_id: offer.agent_id.clone(),
                task_id: status.task_id.clone(),
                uuid,
            };
            session.call(Call::Acknowledge(acknowledge)).await.unwrap();
        }
        if status.state == TaskState::Running {
            return offer.agent_id;
        }
    }
}

/// The master says that the task runs.
async fn runs(session: &Session, events: &mut EventStream, task: &str, agent: &AgentId) {
    let reconcile = Reconcile {
        tasks: vec![ReconcileTask {
            task_id: TaskId::new(task),
            agent_id: Some(agent.clone()),
        }],
    };
    session.call(Call::Reconcile(reconcile)).await.unwrap();
    let status = update(events).await;
    assert_eq!(status.state, TaskState::Running, "{status:?}");
}

#[tokio::test]
async fn item_05_a_killed_leader_is_followed_by_the_next_with_framework_agent_and_task() {
    if !zookeeper::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut masters = Masters::start(folder.path()).await;
    let zk = masters.zookeeper.url();
    let resources = ["--resources", "cpus:2;mem:512;disk:512"];
    let _agent = Agent::start(&zk, &folder.path().join("agent"), &resources);
    let client = client(&zk);
    let (session, mut events) = subscribe(&client, None).await;
    let framework = session.framework_id().clone();
    let first = offer(&mut events).await;
    let agent = launch(&session, &mut events, first, "t1").await;
    let (leader, other) = masters.split(&session);
    leader.signal(Signal::SIGKILL);
    let other = format!(":{}/", other.port);
    let ended = end(&mut events).await;
    assert!(!ended.is_fenced(), "{ended}");

    let (session, mut events) = subscribe(&client, Some(framework.clone())).await;
    assert_eq!(session.framework_id(), &framework);
    assert!(session.master().contains(&other), "{}", session.master());
    let second = offer(&mut events).await;
    assert_eq!(second.agent_id, agent, "the agent came along");
    runs(&session, &mut events, "t1", &agent).await;
    launch(&session, &mut events, second, "t2").await;
}

#[tokio::test]
async fn item_05_follows_307_to_the_leading_master() {
    if !zookeeper::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut masters = Masters::start(folder.path()).await;
    let (session, events) = subscribe(&client(&masters.zookeeper.url()), None).await;
    let leader = session.master().to_owned();
    let (_, follower) = masters.split(&session);
    let follower = format!("127.0.0.1:{}", follower.port);
    session.call(Call::Teardown).await.unwrap();
    drop(events);
    let (session, mut events) = subscribe(&client(&follower), None).await;
    assert_eq!(session.master(), leader);
    // An agent that knows the follower only gets there as well.
    let resources = ["--resources", "cpus:2;mem:512;disk:512"];
    let _agent = Agent::start(&follower, &folder.path().join("agent"), &resources);
    offer(&mut events).await;
}

#[tokio::test]
async fn item_05_a_frozen_leader_is_left_for_the_next_and_ends_when_it_thaws() {
    if !zookeeper::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut masters = Masters::start(folder.path()).await;
    let client = client(&masters.zookeeper.url());
    let (session, mut events) = subscribe(&client, None).await;
    let framework = session.framework_id().clone();
    let (leader, _) = masters.split(&session);
    leader.signal(Signal::SIGSTOP);
    // Long before heartbeats are missed.
    let ended = end(&mut events).await;
    assert!(matches!(ended, StreamError::NotLeading(_)), "{ended}");
    let (again, _events) = subscribe(&client, Some(framework.clone())).await;
    assert_eq!(again.framework_id(), &framework);
    assert_ne!(again.master(), session.master());
    let (leader, _) = masters.split(&session);
    leader.signal(Signal::SIGCONT);
    assert!(!leader.ended().await.success());
}

#[tokio::test]
async fn item_05_zookeeper_may_be_away_for_less_than_a_session() {
    if !zookeeper::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let zookeeper = &mut ZooKeeper::start(folder.path());
    let zk = format!("--zk={}", zookeeper.url());
    let mut master =
        Master::start(folder.path(), "only", &[&zk, "--zk_session_timeout=60secs"]).await;
    let client = client(&zookeeper.url());
    let (session, mut events) = subscribe(&client, None).await;
    zookeeper.kill();
    // The master leads on, and the subscription with it.
    session
        .call(Call::Reconcile(Reconcile::default()))
        .await
        .unwrap();
    assert!(zookeeper.restart());
    let resources = ["--resources", "cpus:2;mem:512;disk:512"];
    let _agent = Agent::start(&zookeeper.url(), &folder.path().join("agent"), &resources);
    offer(&mut events).await;
    assert!(master.process.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn item_05_nobody_leads_until_zookeeper_is_there() {
    if !zookeeper::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let zookeeper = &mut ZooKeeper::start(folder.path());
    zookeeper.kill();
    let zk = format!("--zk={}", zookeeper.url());
    let master = Master::start(folder.path(), "only", &[&zk]).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = format!("http://127.0.0.1:{}/api/v1/scheduler", master.port);
    let answer = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.text().await.unwrap(), "No leader elected");
    let client = client(&zookeeper.url());
    let subscribing = tokio::spawn(async move { subscribe(&client, None).await });
    assert!(zookeeper.restart());
    let (session, _events) = subscribing.await.unwrap();
    assert!(session.master().contains(&format!(":{}/", master.port)));
}
