//! The broker's decisions, as a function of plain values: [`Broker::handle`] for each thing that
//! happens, [`Broker::settle`] once after each burst of them.
//!
//! * [`requests`]: what step actors ask for; * [`events`]: what the resource manager says;
//! * [`settle`]: matching, launching, giving back, asking again.

mod events;
#[cfg(test)]
mod properties;
mod requests;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::matching::{Policy, Shape};
use meson_core::resources::{MilliCpus, Resources};
use meson_core::sizing::Usage;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{self, Call, Event};
use meson_mesos::types::{AgentId, Data, ExecutorInfo, FrameworkId, TaskStatus};

use super::agents::Agents;
use super::launch::ExecutorTemplate;
use super::messages::{AttemptState, Update, Waiting};
use super::queue::{Entry, OwnerTerms, Queue};
use super::reconcile::Questions;

/// How a pool is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The role in which offers come.
    pub role: String,
    /// The executor of all tasks.
    pub executor: ExecutorTemplate,
    /// How places are chosen.
    pub policy: Policy,
    /// What owners may have; who is not named has a weight of 1 and no quota.
    pub owners: BTreeMap<String, OwnerTerms>,
    /// How long offers that nobody wants are kept in case somebody does; then they are declined.
    pub idle_hold: Duration,
    /// For how long declined resources are refused; new work revives them before that.
    pub refuse: Duration,
    /// Least time between two REVIVEs.
    pub revive_every: Duration,
    /// A task that nobody claims within this time is asked about and killed if unwanted.
    pub orphan_grace: Duration,
    /// Time between implicit reconciliations.
    pub implicit_every: Duration,
    /// The resource manager hands out whole processors: a step that asks for less holds one.
    pub whole_cpus: bool,
}

impl Settings {
    /// Defaults for a role and an executor.
    pub fn new(role: impl Into<String>, executor: ExecutorTemplate) -> Self {
        Self {
            role: role.into(),
            executor,
            policy: Policy::default(),
            owners: BTreeMap::new(),
            idle_hold: Duration(300),
            refuse: Duration::from_secs(600),
            revive_every: Duration(50),
            orphan_grace: Duration::from_secs(30),
            implicit_every: Duration::from_secs(600),
            whole_cpus: false,
        }
    }

    /// What a request of this size holds.
    fn held(&self, mut resources: Resources) -> Resources {
        if self.whole_cpus {
            resources.cpus = MilliCpus(resources.cpus.0.div_ceil(1000) * 1000);
        }
        resources
    }
}

/// Something that happened.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one call, and is never kept in numbers"
)]
#[derive(Debug)]
pub enum Input {
    /// A session began, under this id.
    Subscribed(FrameworkId),
    /// The session ended.
    Disconnected,
    /// The resource manager said something.
    Event(Event),
    /// A request, see [`messages::Enqueue`](super::messages::Enqueue).
    Enqueue {
        /// The attempt.
        task: TaskId,
        /// What it asks for.
        shape: Shape,
        /// Who pays.
        owner: String,
        /// Wanted done by then.
        deadline: Option<Timestamp>,
        /// For the executor.
        payload: Bytes,
    },
    /// See [`messages::Confirm`](super::messages::Confirm).
    Confirm(TaskId),
    /// See [`messages::Adopt`](super::messages::Adopt).
    Adopt {
        /// The attempt.
        task: TaskId,
        /// Where it was placed.
        agent: String,
    },
    /// See [`messages::Kill`](super::messages::Kill).
    Kill {
        /// The attempt.
        task: TaskId,
        /// Where it runs, if known.
        agent: Option<String>,
    },
    /// See [`messages::Acknowledge`](super::messages::Acknowledge).
    Acknowledge {
        /// The attempt.
        task: TaskId,
        /// Who sent the update.
        agent: String,
        /// The update's own id.
        uuid: Vec<u8>,
    },
    /// Nobody hears the attempt's news any more: its step actor is gone.
    Unheard(TaskId),
    /// Answer to [`Output::AskWanted`]; `None`: cannot be told now.
    Verdict {
        /// The attempt.
        task: TaskId,
        /// Whether a run knows it as current.
        wanted: Option<bool>,
    },
}

/// Something to do.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one call, and is never kept in numbers"
)]
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Say this to the resource manager.
    Call(Call),
    /// Tell the attempt's step actor.
    Signal(TaskId, News),
    /// Is this attempt current? Answer by [`Input::Verdict`].
    AskWanted(TaskId),
}

/// A [`Signal`](super::messages::Signal) without its addressee.
#[derive(Debug, PartialEq)]
pub enum News {
    /// In the queue.
    Queued,
    /// An offer is held.
    Placed {
        /// The agent's id.
        agent: String,
        /// Its host.
        host: String,
    },
    /// A state.
    State {
        /// The agent's id.
        agent: Option<String>,
        /// To be acknowledged.
        uuid: Option<Vec<u8>>,
        /// The state.
        state: AttemptState,
    },
    /// Left the queue without having run.
    Withdrawn,
    /// Percent complete and so on.
    Progress {
        /// 0 to 100.
        percent: u8,
        /// What it is doing.
        message: String,
        /// A page to look at.
        url: Option<String>,
    },
    /// What it used so far.
    Usage(Usage),
}

/// An attempt that has left the queue, or came from elsewhere.
#[derive(Debug)]
struct Task {
    agent: Option<String>,
    /// Zero when adopted: what it holds is not known, and not counted.
    resources: Resources,
    owner: String,
    stage: Stage,
    /// Somebody hears its news.
    claimed: bool,
    /// Heard of from its executor or agent.
    seen: bool,
    killing: bool,
    /// Next time to say KILL again, or to ask whether an unclaimed one is wanted.
    next: Option<Timestamp>,
    /// Progress is unreliable and unordered: the newest wins.
    progress: u64,
    /// News that came before anybody claimed it.
    unheard: Vec<TaskStatus>,
}

#[derive(Debug)]
enum Stage {
    /// An offer is held; becomes a queue entry again when the hold ends.
    Placed {
        entry: Box<Entry>,
        payload: Bytes,
        until: Timestamp,
    },
    /// Mesos was told, or knew before us.
    Launched,
}

/// Time between two KILLs of the same task.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// The broker's state.
#[derive(Debug)]
pub struct Broker {
    settings: Settings,
    framework: Option<FrameworkId>,
    connected: bool,
    executor: Option<ExecutorInfo>,
    queue: Queue,
    payloads: BTreeMap<TaskId, Bytes>,
    tasks: BTreeMap<TaskId, Task>,
    agents: Agents,
    held: BTreeMap<String, Resources>,
    questions: Questions,
    /// Updates that were handed over and are not acknowledged yet. Their hearer may be lost before
    /// they are durable: the next one must not have to wait until the agent repeats them, which it
    /// does after ten seconds, then twenty, then forty. An agent sends one at a time.
    unacknowledged: BTreeMap<TaskId, TaskStatus>,
    suppressed: bool,
    /// There is a reason to ask for offers again.
    hungry: bool,
    revived_at: Option<Timestamp>,
    /// A REVIVE may be lost: it is said once more when no offers followed.
    revive_again: bool,
    next_implicit: Timestamp,
    /// Counters for the metrics page.
    pub stats: Stats,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Offers that came.
    pub offers: u64,
    /// Offers that were used.
    pub accepted: u64,
    /// Offers that were given back.
    pub declined: u64,
    /// Tasks launched.
    pub launched: u64,
    /// REVIVE calls.
    pub revives: u64,
    /// SUPPRESS calls.
    pub suppressions: u64,
    /// RECONCILE calls.
    pub reconciles: u64,
    /// Tasks killed because no run knew them.
    pub orphans_killed: u64,
}

impl Broker {
    /// A broker that is not connected yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            framework: None,
            connected: false,
            executor: None,
            queue: Queue::default(),
            payloads: BTreeMap::new(),
            tasks: BTreeMap::new(),
            agents: Agents::default(),
            held: BTreeMap::new(),
            questions: Questions::default(),
            unacknowledged: BTreeMap::new(),
            suppressed: false,
            hungry: false,
            revived_at: None,
            revive_again: false,
            next_implicit: Timestamp(0),
            stats: Stats::default(),
        }
    }

    /// Why this task waits; none if it is not in the queue.
    pub fn explain(&mut self, task: &TaskId, now: Timestamp) -> Option<Waiting> {
        self.queue
            .explain(task, self.connected, self.agents.known(), now)
    }

    /// How many requests wait for a place.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// How many tasks are launched and not ended.
    pub fn live(&self) -> usize {
        self.tasks.len()
    }

    /// Takes in what happened. What follows from all of a burst is left to [`settle`](Self::settle).
    pub fn handle(&mut self, input: Input, now: Timestamp, out: &mut Vec<Output>) {
        match input {
            Input::Subscribed(framework) => self.subscribed(framework, now),
            Input::Disconnected => {
                self.connected = false;
                self.displace_all(out);
            }
            Input::Event(event) => self.event(event, now, out),
            Input::Enqueue {
                task,
                mut shape,
                owner,
                deadline,
                payload,
            } => {
                shape.resources = self.settings.held(shape.resources);
                self.enqueue(
                    task,
                    Entry {
                        shape,
                        owner,
                        deadline,
                        since: now,
                        revocable: Resources::ZERO,
                    },
                    payload,
                    out,
                );
            }
            Input::Confirm(task) => self.confirm(task, out),
            Input::Adopt { task, agent } => self.adopt(task, agent, now, out),
            Input::Kill { task, agent } => self.kill(task, agent, now, out),
            Input::Acknowledge { task, agent, uuid } => {
                let sent = self.unacknowledged.get(&task);
                let sent = sent.and_then(|status| status.uuid.as_ref());
                if sent.is_some_and(|sent| sent.0[..] == uuid[..]) {
                    self.unacknowledged.remove(&task);
                }
                out.push(Output::Call(acknowledge(&task, &agent, uuid)))
            }
            Input::Unheard(task) => self.unheard(&task, now, out),
            Input::Verdict { task, wanted } => self.verdict(&task, wanted, now, out),
        }
    }
}

fn acknowledge(task: &TaskId, agent: &str, uuid: Vec<u8>) -> Call {
    Call::Acknowledge(scheduler::Acknowledge {
        agent_id: AgentId::new(agent),
        task_id: meson_mesos::types::TaskId::new(task.to_string()),
        uuid: Data(uuid.into()),
    })
}

/// Only updates with a uuid want an acknowledgement.
fn acknowledge_status(task: &TaskId, status: &TaskStatus) -> Option<Call> {
    let (uuid, agent) = (status.uuid.as_ref()?, status.agent_id.as_ref()?);
    Some(acknowledge(task, agent.as_str(), uuid.0.to_vec()))
}

fn foreign_acknowledge(status: &TaskStatus) -> Option<Call> {
    Some(Call::Acknowledge(scheduler::Acknowledge {
        agent_id: status.agent_id.clone()?,
        task_id: status.task_id.clone(),
        uuid: status.uuid.clone()?,
    }))
}

impl From<(TaskId, News)> for super::messages::Signal {
    fn from((task, news): (TaskId, News)) -> Self {
        match news {
            News::Queued => Self::Queued { task },
            // Whose pool it is, only the broker's actor knows.
            News::Placed { agent, host } => Self::Placed {
                task,
                pool: String::new(),
                agent,
                host,
            },
            News::State { agent, uuid, state } => Self::Update(Box::new(Update {
                task,
                agent,
                uuid,
                state,
            })),
            News::Withdrawn => Self::Withdrawn { task },
            News::Usage(usage) => Self::Usage { task, usage },
            News::Progress {
                percent,
                message,
                url,
            } => Self::Progress {
                task,
                percent,
                message,
                url,
            },
        }
    }
}
