//! A broker that answers by a script, and the "cluster" behind it, which outlives brokers and
//! coordinators as a real one does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix::prelude::*;
use meson_actors::{BoxError, ChildSpec, Supervisor};
use meson_core::ids::TaskId;
use meson_core::run::{Failure, FailureClass};
use meson_engine::broker::messages::*;
use meson_engine::pool::{BrokerContext, BrokerFactory};
use meson_protocol::api::{PoolView, Reason};
use meson_protocol::task::{TaskPayload, TaskResult};
use serde_json::Value;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

/// What becomes of an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It ends well, with these outputs.
    Succeed(BTreeMap<String, Value>),
    /// It fails, and this class pays.
    Fail(FailureClass),
    /// It runs until it is killed.
    Hang,
    /// There is never a place for it.
    NoPlace,
}

pub(crate) type Script = dyn Fn(&TaskId, &TaskPayload) -> Fate + Send + Sync;

/// A task that was launched.
#[derive(Debug, Clone)]
struct Task {
    fate: Fate,
    /// Its last update, once it has ended.
    ended: Option<AttemptState>,
    acknowledged: bool,
}

#[derive(Default)]
pub(crate) struct Tasks {
    tasks: BTreeMap<TaskId, Task>,
    /// Confirmed launches by attempt: more than one is the worst that can happen.
    pub(crate) launches: BTreeMap<TaskId, u32>,
    /// Attempts by the order of their first launch.
    pub(crate) order: Vec<TaskId>,
    pub(crate) killed: BTreeSet<TaskId>,
    pub(crate) panic_next: bool,
}

/// The resource manager: outlives brokers.
pub(crate) struct Cluster {
    script: Box<Script>,
    tasks: Mutex<Tasks>,
    delay: Duration,
    /// Whether its brokers have a session with it.
    session: watch::Sender<bool>,
}

impl Cluster {
    pub(crate) fn new(
        delay: Duration,
        script: impl Fn(&TaskId, &TaskPayload) -> Fate + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            tasks: Mutex::default(),
            delay,
            session: watch::Sender::new(true),
        })
    }

    /// A cluster where everything succeeds at once.
    pub(crate) fn willing() -> Arc<Self> {
        Self::new(Duration::ZERO, |_, _| Fate::Succeed(BTreeMap::new()))
    }

    pub(crate) fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap()
    }

    /// Loses it, or brings it back: nobody hears of it meanwhile.
    pub(crate) fn be_in_session(&self, session: bool) {
        self.session.send_replace(session);
    }

    pub(crate) fn assert_launched_once_each(&self) {
        for (task, launches) in &self.tasks().launches {
            assert_eq!(*launches, 1, "{task} was launched more than once");
        }
    }

    pub(crate) fn steps_launched(&self) -> Vec<String> {
        self.tasks()
            .order
            .iter()
            .map(|task| task.step.clone())
            .collect()
    }
}

/// Starts scripted brokers for the default pool.
pub(crate) struct Factory(pub(crate) Arc<Cluster>);

impl BrokerFactory for Factory {
    fn pools(&self) -> Vec<String> {
        vec!["default".to_owned()]
    }

    fn start(&self, supervisor: &Supervisor, context: BrokerContext) -> Result<(), BoxError> {
        start(&self.0, supervisor, context)
    }
}

/// Starts scripted brokers for a pool in each of some regions.
pub(crate) struct Regions(pub(crate) Vec<(&'static str, Arc<Cluster>)>);

impl BrokerFactory for Regions {
    fn pools(&self) -> Vec<String> {
        let pools = self.0.iter();
        pools.map(|(region, _)| format!("mesos-{region}")).collect()
    }

    fn region(&self, pool: &str) -> Option<String> {
        pool.strip_prefix("mesos-").map(str::to_owned)
    }

    fn start(&self, supervisor: &Supervisor, context: BrokerContext) -> Result<(), BoxError> {
        let region = self.region(&context.pool);
        let own = |it: &&(&str, _)| region.as_deref() == Some(it.0);
        let (_, cluster) = self.0.iter().find(own).ok_or("no such pool")?;
        start(cluster, supervisor, context)
    }
}

fn start(
    cluster: &Arc<Cluster>,
    supervisor: &Supervisor,
    context: BrokerContext,
) -> Result<(), BoxError> {
    let (cluster, own) = (Arc::clone(cluster), context.clone());
    let name = format!("broker-{}", context.pool);
    let child = supervisor.start_child(ChildSpec::new(name, move |_| {
        let (cluster, context) = (Arc::clone(&cluster), own.clone());
        async move {
            let id = context.set_framework_id("framework-1", false).await?;
            assert_eq!(context.framework_id().await?, Some(id));
            Ok(ScriptedBroker {
                cluster,
                context,
                queue: BTreeMap::new(),
                watched: BTreeMap::new(),
            })
        }
    }))?;
    context.publish(&child);
    Ok(())
}

pub(crate) struct ScriptedBroker {
    cluster: Arc<Cluster>,
    context: BrokerContext,
    /// Enqueued, with what will become of them.
    queue: BTreeMap<TaskId, Fate>,
    watched: BTreeMap<TaskId, Recipient<Signal>>,
}

impl Actor for ScriptedBroker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(WatchStream::new(self.cluster.session.subscribe()));
    }
}

impl StreamHandler<bool> for ScriptedBroker {
    /// All that it waits for and watches is told again once the session is back.
    fn handle(&mut self, session: bool, ctx: &mut Context<Self>) {
        self.context.in_session(session);
        if session {
            let tasks: Vec<TaskId> = self.watched.keys().cloned().collect();
            for task in tasks {
                match self.queue.get(&task) {
                    Some(Fate::NoPlace) => {}
                    Some(_) => self.place(&task),
                    None => self.follow(task, ctx),
                }
            }
        }
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl ScriptedBroker {
    fn signal(&self, task: &TaskId, signal: Signal) {
        let about_the_queue = matches!(signal, Signal::Queued { .. } | Signal::Withdrawn { .. });
        if !about_the_queue && !*self.cluster.session.borrow() {
            return;
        }
        if let Some(observer) = self.watched.get(task) {
            observer.do_send(signal);
        }
    }

    fn place(&self, task: &TaskId) {
        let placed = Signal::Placed {
            task: task.clone(),
            pool: self.context.pool.clone(),
            agent: "agent-1".to_owned(),
            host: "host-1".to_owned(),
            mates: Vec::new(),
        };
        self.signal(task, placed);
    }

    fn update(&self, task: &TaskId, state: AttemptState) {
        let update = Update {
            task: task.clone(),
            agent: Some("agent-1".to_owned()),
            uuid: Some(uuid_of(&state)),
            state,
        };
        self.signal(task, Signal::Update(Box::new(update)));
    }

    /// The task says that it runs, and later how it ended.
    fn follow(&self, task: TaskId, ctx: &mut Context<Self>) {
        let known = self.cluster.tasks().tasks.get(&task).cloned();
        match known {
            None => {
                let update = Update {
                    task: task.clone(),
                    agent: Some("agent-1".to_owned()),
                    uuid: None,
                    state: AttemptState::Failed {
                        class: FailureClass::Platform,
                        message: "the agent does not know it".to_owned(),
                        data: bytes::Bytes::new(),
                    },
                };
                self.signal(&task, Signal::Update(Box::new(update)));
            }
            Some(Task {
                ended: Some(state),
                acknowledged: false,
                ..
            }) => self.update(&task, state),
            Some(Task { ended: Some(_), .. }) => {}
            Some(_) => {
                self.update(&task, AttemptState::Running { url: None });
                ctx.run_later(self.cluster.delay, move |broker, _| broker.finish(&task));
            }
        }
    }

    fn finish(&self, task: &TaskId) {
        let state = {
            let mut tasks = self.cluster.tasks();
            let Some(entry) = tasks
                .tasks
                .get_mut(task)
                .filter(|task| task.ended.is_none())
            else {
                return;
            };
            let state = match &entry.fate {
                Fate::Hang | Fate::NoPlace => return,
                Fate::Succeed(outputs) => {
                    let result = TaskResult {
                        outputs: outputs.clone(),
                        ..TaskResult::default()
                    };
                    AttemptState::Finished {
                        data: result.encode().unwrap().into(),
                    }
                }
                Fate::Fail(class) => {
                    let failure = Failure {
                        class: *class,
                        message: "scripted".to_owned(),
                        retryable: true,
                    };
                    let result = TaskResult {
                        failure: Some(failure),
                        ..TaskResult::default()
                    };
                    AttemptState::Failed {
                        class: FailureClass::Platform,
                        message: String::new(),
                        data: result.encode().unwrap().into(),
                    }
                }
            };
            entry.ended = Some(state.clone());
            state
        };
        self.update(task, state);
    }
}

impl Handler<Enqueue> for ScriptedBroker {
    type Result = ();

    fn handle(&mut self, request: Enqueue, _: &mut Context<Self>) {
        if std::mem::take(&mut self.cluster.tasks().panic_next) {
            panic!("the script says: panic");
        }
        let payload = TaskPayload::decode(&request.payload).unwrap();
        assert_eq!(payload.spec.task, request.task);
        assert_eq!(payload.spec.deadline, request.deadline);
        assert_eq!(payload.spec.resources, request.shape.resources);
        assert_eq!(payload.spec.preemptible, request.shape.preemptible);
        assert_eq!(payload.spec.spread, request.shape.spread);
        let fate = (self.cluster.script)(&request.task, &payload);
        let task = request.task;
        self.watched.insert(task.clone(), request.observer);
        self.signal(&task, Signal::Queued { task: task.clone() });
        let no_place = matches!(fate, Fate::NoPlace);
        self.queue.insert(task.clone(), fate);
        if !no_place {
            self.place(&task);
        }
    }
}

impl Handler<Confirm> for ScriptedBroker {
    type Result = ();

    fn handle(&mut self, Confirm { task, .. }: Confirm, ctx: &mut Context<Self>) {
        let Some(fate) = self.queue.remove(&task) else {
            return;
        };
        {
            let mut tasks = self.cluster.tasks();
            *tasks.launches.entry(task.clone()).or_default() += 1;
            tasks.order.push(task.clone());
            tasks.tasks.insert(
                task.clone(),
                Task {
                    fate,
                    ended: None,
                    acknowledged: false,
                },
            );
        }
        self.follow(task, ctx);
    }
}

impl Handler<Adopt> for ScriptedBroker {
    type Result = ();

    fn handle(&mut self, adopt: Adopt, ctx: &mut Context<Self>) {
        assert_eq!(adopt.agent, "agent-1");
        assert!(adopt.claim.is_some(), "it says what it holds");
        self.watched.insert(adopt.task.clone(), adopt.observer);
        self.follow(adopt.task, ctx);
    }
}

impl Handler<Kill> for ScriptedBroker {
    type Result = ();

    fn handle(&mut self, Kill { task, .. }: Kill, _: &mut Context<Self>) {
        if self.queue.remove(&task).is_some() {
            self.signal(&task, Signal::Withdrawn { task: task.clone() });
            return;
        }
        let runs = {
            let mut tasks = self.cluster.tasks();
            tasks.killed.insert(task.clone());
            match tasks.tasks.get_mut(&task) {
                Some(entry) if entry.ended.is_none() => {
                    entry.ended = Some(AttemptState::Killed);
                    true
                }
                _ => false,
            }
        };
        if runs {
            self.update(&task, AttemptState::Killed);
        } else if !self.cluster.tasks().tasks.contains_key(&task) {
            self.signal(&task, Signal::Withdrawn { task: task.clone() });
        }
    }
}

impl Handler<Acknowledge> for ScriptedBroker {
    type Result = ();

    /// Only the terminal update's own acknowledgement lets the cluster forget it: one of an
    /// earlier update may arrive after the task has ended.
    fn handle(&mut self, ack: Acknowledge, _: &mut Context<Self>) {
        let mut tasks = self.cluster.tasks();
        if let Some(entry) = tasks.tasks.get_mut(&ack.task) {
            entry.acknowledged |= entry
                .ended
                .as_ref()
                .is_some_and(|state| uuid_of(state) == ack.uuid);
        }
    }
}

/// Each update of an attempt has an id of its own.
fn uuid_of(state: &AttemptState) -> Vec<u8> {
    let id: &[u8] = match state {
        AttemptState::Launching => b"launching",
        AttemptState::Running { .. } => b"running",
        AttemptState::Unreachable => b"unreachable",
        AttemptState::Killing => b"killing",
        AttemptState::Finished { .. } | AttemptState::Failed { .. } | AttemptState::Killed => {
            b"ended"
        }
    };
    id.to_vec()
}

impl Handler<Unheard> for ScriptedBroker {
    type Result = ();

    fn handle(&mut self, _: Unheard, _: &mut Context<Self>) {}
}

impl Handler<Explain> for ScriptedBroker {
    type Result = Option<Waiting>;

    fn handle(&mut self, Explain { task }: Explain, _: &mut Context<Self>) -> Self::Result {
        self.queue.contains_key(&task).then(|| Waiting {
            position: 0,
            reasons: vec![Reason {
                code: "mem".to_owned(),
                text: "mem: wants 64g, at most 8g free".to_owned(),
                agents: 3,
            }],
            would_fit: vec!["mem = 8g".to_owned()],
            ..Waiting::default()
        })
    }
}

impl Handler<Look> for ScriptedBroker {
    type Result = Option<PoolView>;

    fn handle(&mut self, _: Look, _: &mut Context<Self>) -> Self::Result {
        None
    }
}
