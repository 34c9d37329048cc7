//! The broker's decisions, as a function of plain values: [`Broker::handle`] for each thing that
//! happens, [`Broker::settle`] once after each burst of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::matching::{Policy, Shape};
use meson_core::resources::Resources;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{self, Call, Decline, Event, Reconcile, Roles};
use meson_mesos::types::{AgentId, Data, ExecutorId, ExecutorInfo, Filters, FrameworkId, TaskState, TaskStatus};
use meson_protocol::task::ExecutorMessage;

use super::PLACEMENT_HOLD;
use super::agents::Agents;
use super::launch::{self, ExecutorTemplate, Launchable};
use super::messages::{AttemptState, Update, Waiting};
use super::queue::{Entry, Queue};
use super::reconcile::Questions;
use super::status::{Meaning, interpret};
use meson_core::run::FailureClass;

/// How a pool is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The role in which offers come.
    pub role: String,
    /// The executor of all tasks.
    pub executor: ExecutorTemplate,
    /// How places are chosen.
    pub policy: Policy,
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
}

impl Settings {
    /// Defaults for a role and an executor.
    pub fn new(role: impl Into<String>, executor: ExecutorTemplate) -> Self {
        Self {
            role: role.into(),
            executor,
            policy: Policy::default(),
            idle_hold: Duration(300),
            refuse: Duration::from_secs(600),
            revive_every: Duration(50),
            orphan_grace: Duration::from_secs(30),
            implicit_every: Duration::from_secs(600),
        }
    }
}

/// Something that happened.
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
    /// Answer to [`Output::AskWanted`]; `None`: cannot be told now.
    Verdict {
        /// The attempt.
        task: TaskId,
        /// Whether a run knows it as current.
        wanted: Option<bool>,
    },
}

/// Something to do.
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
    Placed { entry: Box<Entry>, payload: Bytes, until: Timestamp },
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
            suppressed: false,
            hungry: false,
            revived_at: None,
            revive_again: false,
            next_implicit: Timestamp(0),
            stats: Stats::default(),
        }
    }

    /// Why this task waits; none if it is not in the queue.
    pub fn explain(&self, task: &TaskId) -> Option<Waiting> {
        self.queue.explain(task, self.connected, self.agents.known())
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
                self.displace_all(now, out);
            }
            Input::Event(event) => self.event(event, now, out),
            Input::Enqueue { task, shape, owner, deadline, payload } => {
                self.enqueue(task, Entry { shape, owner, deadline, since: now }, payload, out);
            }
            Input::Confirm(task) => self.confirm(task, out),
            Input::Adopt { task, agent } => self.adopt(task, agent, now, out),
            Input::Kill { task, agent } => self.kill(task, agent, now, out),
            Input::Acknowledge { task, agent, uuid } => out.push(Output::Call(acknowledge(&task, &agent, uuid))),
            Input::Verdict { task, wanted } => self.verdict(&task, wanted, now, out),
        }
    }

    fn subscribed(&mut self, framework: FrameworkId, now: Timestamp) {
        self.connected = true;
        self.executor = Some(self.settings.executor.info(&framework, &self.settings.role));
        self.framework = Some(framework);
        self.suppressed = false;
        self.hungry = false;
        self.next_implicit = now;
        // What runs is asked about explicitly, whatever the implicit answers will say.
        for (task, state) in &self.tasks {
            if matches!(state.stage, Stage::Launched) {
                self.questions.ask(task.clone(), state.agent.clone(), now);
            }
        }
    }

    /// Offers are void: who had a place and was not confirmed waits again; who was confirmed is
    /// on record as placed there, and must not be launched elsewhere under the same id.
    fn displace_all(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        for (task, confirmed) in self.agents.clear_offers() {
            self.displace(task, confirmed, now, out);
        }
    }

    fn displace(&mut self, task: TaskId, confirmed: bool, now: Timestamp, out: &mut Vec<Output>) {
        if confirmed {
            let state = AttemptState::Failed {
                class: FailureClass::Platform,
                message: "the offer was withdrawn before the task was launched".to_owned(),
                data: Bytes::new(),
            };
            self.forget(&task);
            out.push(Output::Signal(task, News::State { agent: None, uuid: None, state }));
        } else if let Some(Task { stage: Stage::Placed { entry, payload, .. }, .. }) = self.forget(&task) {
            self.payloads.insert(task.clone(), payload);
            self.queue.add(task, *entry);
            self.hungry = true;
            let _ = now;
        }
    }

    /// Removes a task and what it holds from the books.
    fn forget(&mut self, task: &TaskId) -> Option<Task> {
        let state = self.tasks.remove(task)?;
        self.questions.settled(task);
        if let Some(held) = self.held.get_mut(&state.owner) {
            *held = held.minus(&state.resources);
            if held.fits_in(&Resources::ZERO) {
                self.held.remove(&state.owner);
            }
        }
        if let Some(agent) = &state.agent {
            self.agents.release(agent, &state.resources);
        }
        Some(state)
    }

    fn enqueue(&mut self, task: TaskId, entry: Entry, payload: Bytes, out: &mut Vec<Output>) {
        if let Some(known) = self.tasks.get_mut(&task) {
            // Asked again by a new incarnation of its step actor.
            known.claimed = true;
            if let (Stage::Placed { .. }, Some(agent)) = (&known.stage, &known.agent) {
                let host = self.agents.0.get(agent).map(|agent| agent.hostname().to_owned()).unwrap_or_default();
                out.push(Output::Signal(task, News::Placed { agent: agent.clone(), host }));
            }
            return;
        }
        self.payloads.insert(task.clone(), payload);
        if self.queue.add(task.clone(), entry) {
            self.hungry = true;
        }
        out.push(Output::Signal(task, News::Queued));
    }

    fn confirm(&mut self, task: TaskId, out: &mut Vec<Output>) {
        let place = self
            .tasks
            .get(&task)
            .and_then(|known| known.agent.as_ref())
            .and_then(|agent| self.agents.0.get_mut(agent))
            .and_then(|agent| agent.placed.get_mut(&task));
        match place {
            Some(confirmed) => *confirmed = true,
            None if self.tasks.get(&task).is_some_and(|known| matches!(known.stage, Stage::Launched)) => {}
            None => {
                // Too late: the hold is over. The placement is on record, so this attempt is done for.
                self.queue.remove(&task);
                self.payloads.remove(&task);
                let state = AttemptState::Failed {
                    class: FailureClass::Platform,
                    message: "the placement was confirmed too late: its offer is gone".to_owned(),
                    data: Bytes::new(),
                };
                out.push(Output::Signal(task, News::State { agent: None, uuid: None, state }));
            }
        }
    }

    fn adopt(&mut self, task: TaskId, agent: String, now: Timestamp, out: &mut Vec<Output>) {
        let known = self.tasks.entry(task.clone()).or_insert_with(|| Task {
            agent: Some(agent.clone()),
            resources: Resources::ZERO,
            owner: String::new(),
            stage: Stage::Launched,
            claimed: true,
            seen: false,
            killing: false,
            next: None,
            progress: 0,
            unheard: Vec::new(),
        });
        known.claimed = true;
        known.next = None;
        let unheard = std::mem::take(&mut known.unheard);
        self.questions.ask(task, Some(agent), now);
        for status in unheard {
            self.update(status, now, out);
        }
    }

    fn kill(&mut self, task: TaskId, agent: Option<String>, now: Timestamp, out: &mut Vec<Output>) {
        if self.queue.remove(&task).is_some() {
            self.payloads.remove(&task);
            out.push(Output::Signal(task, News::Withdrawn));
            return;
        }
        if let Some(Task { stage: Stage::Placed { .. }, agent: Some(place), .. }) = self.tasks.get(&task) {
            if let Some(agent) = self.agents.0.get_mut(place) {
                agent.placed.remove(&task);
            }
            self.forget(&task);
            out.push(Output::Signal(task, News::Withdrawn));
            return;
        }
        match self.tasks.get_mut(&task) {
            Some(known) => {
                known.killing = true;
                known.claimed = true;
                known.next = Some(now);
            }
            None => match agent {
                Some(agent) => {
                    self.adopt(task.clone(), agent, now, out);
                    if let Some(known) = self.tasks.get_mut(&task) {
                        known.killing = true;
                        known.next = Some(now);
                    }
                }
                // Never placed, and not in the queue: it never ran.
                None => out.push(Output::Signal(task, News::Withdrawn)),
            },
        }
    }

    fn verdict(&mut self, task: &TaskId, wanted: Option<bool>, now: Timestamp, out: &mut Vec<Output>) {
        let Some(known) = self.tasks.get_mut(task).filter(|known| !known.claimed) else { return };
        known.next = Some(now.after(self.settings.orphan_grace));
        if wanted != Some(false) {
            return;
        }
        // Its last words are nobody's: they are acknowledged so that the agent forgets them.
        let statuses = std::mem::take(&mut known.unheard);
        let ended = statuses.iter().any(|status| status.state.is_terminal());
        for status in statuses {
            out.extend(acknowledge_status(task, &status).map(Output::Call));
        }
        if ended {
            self.forget(task);
        } else {
            known.killing = true;
            known.next = Some(now);
            self.stats.orphans_killed += 1;
        }
    }

    fn event(&mut self, event: Event, now: Timestamp, out: &mut Vec<Output>) {
        match event {
            Event::Offers(offers) => {
                self.revive_again = false;
                for offer in offers.offers {
                    self.stats.offers += 1;
                    self.agents.offered(offer, now);
                }
            }
            Event::Rescind(rescind) => {
                for (task, confirmed) in self.agents.rescinded(&rescind.offer_id) {
                    self.displace(task, confirmed, now, out);
                }
            }
            Event::Update(update) => self.update(update.status, now, out),
            Event::Message(message) => self.message(&message, out),
            Event::Failure(failure) => {
                if let (Some(agent), Some(executor)) = (&failure.agent_id, &failure.executor_id) {
                    self.agents.executor_gone(agent.as_str(), executor);
                }
            }
            // Inverse offers are declined by silence: tasks may stay until the machine goes down.
            _ => {}
        }
    }

    fn message(&mut self, message: &scheduler::Message, out: &mut Vec<Output>) {
        let Ok(ExecutorMessage::Progress { task, sequence, percent, message, url }) =
            ExecutorMessage::decode(&message.data.0)
        else {
            return;
        };
        if let Some(known) = self.tasks.get_mut(&task).filter(|known| known.progress < sequence) {
            known.progress = sequence;
            out.push(Output::Signal(task, News::Progress { percent, message, url }));
        }
    }

    fn update(&mut self, status: TaskStatus, now: Timestamp, out: &mut Vec<Output>) {
        let Ok(task) = status.task_id.as_str().parse::<TaskId>() else {
            // Not ours: somebody shares the framework, or an executor lies.
            tracing::warn!(task = status.task_id.as_str(), state = %status.state, "update of a task that no run can know");
            out.extend(foreign_acknowledge(&status).map(Output::Call));
            return;
        };
        let agent = status.agent_id.as_ref().map(|agent| agent.as_str().to_owned());
        let from_below = status.uuid.is_some();
        let grace = now.after(self.settings.orphan_grace);
        let known = self.tasks.entry(task.clone()).or_insert_with(|| Task {
            agent: agent.clone(),
            resources: Resources::ZERO,
            owner: String::new(),
            stage: Stage::Launched,
            claimed: false,
            seen: false,
            killing: false,
            next: Some(grace),
            progress: 0,
            unheard: Vec::new(),
        });
        if known.agent.is_none() {
            known.agent.clone_from(&agent);
        }
        if !known.claimed {
            if known.killing {
                // An orphan on its way out.
                out.extend(acknowledge_status(&task, &status).map(Output::Call));
                if status.state.is_terminal() {
                    self.forget(&task);
                }
            } else if known.unheard.len() < 8 {
                known.unheard.push(status);
            }
            return;
        }
        let meaning = interpret(&status, known.seen, known.killing);
        known.seen |= from_below;
        let state = match meaning {
            Meaning::Void => return,
            Meaning::Unsure => {
                if self.questions.unknown(&task, agent, now) {
                    AttemptState::Failed {
                        class: FailureClass::Platform,
                        message: "no agent knows the task any more".to_owned(),
                        data: Bytes::new(),
                    }
                } else {
                    AttemptState::Unreachable
                }
            }
            Meaning::State(state) => {
                if state != AttemptState::Unreachable {
                    self.questions.settled(&task);
                }
                state
            }
        };
        if status.state.is_terminal() || matches!(state, AttemptState::Failed { .. }) {
            self.forget(&task);
            self.hungry |= !self.queue.is_empty();
        }
        let uuid = status.uuid.map(|uuid| uuid.0.to_vec());
        let agent = status.agent_id.map(|agent| agent.as_str().to_owned());
        out.push(Output::Signal(task, News::State { agent, uuid, state }));
    }

    /// Draws the conclusions: places, launches, gives back, asks again. To be called after each burst
    /// of inputs and when [`wake_at`](Self::wake_at) says.
    pub fn settle(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.end_holds(now);
        if self.connected {
            self.place(now, out);
            self.launch(out);
            self.give_back(now, out);
            self.appetite(now, out);
            self.ask_again(now, out);
        }
        self.chase(now, out);
    }

    /// The earliest time at which [`settle`](Self::settle) has something to do by itself.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let holds = self.tasks.values().filter_map(|task| match &task.stage {
            Stage::Placed { until, .. } => Some(*until),
            Stage::Launched => task.next,
        });
        let idle = self.agents.0.values().filter(|a| a.has_offers()).map(|a| a.offered_at.after(self.settings.idle_hold));
        let revive = (self.hungry || self.revive_again)
            .then(|| self.revived_at.map_or(Timestamp(0), |at| at.after(self.settings.revive_every)));
        let connected = self.connected.then_some(self.next_implicit);
        holds.chain(idle).chain(revive).chain(self.questions.next_due()).chain(connected).min()
    }

    /// Placements that were not confirmed in time go back into the queue.
    fn end_holds(&mut self, now: Timestamp) {
        let late: Vec<(TaskId, String)> = self
            .tasks
            .iter()
            .filter_map(|(task, state)| match (&state.stage, &state.agent) {
                (Stage::Placed { until, .. }, Some(agent)) if *until <= now => Some((task.clone(), agent.clone())),
                _ => None,
            })
            .collect();
        for (task, agent) in late {
            let agent = self.agents.0.get_mut(&agent);
            let confirmed = agent.and_then(|agent| match agent.placed.get(&task) {
                Some(true) => Some(true),
                _ => agent.placed.remove(&task),
            });
            if confirmed != Some(true)
                && let Some(Task { stage: Stage::Placed { entry, payload, .. }, .. }) = self.forget(&task)
            {
                self.payloads.insert(task.clone(), payload);
                self.queue.add(task, *entry);
                self.hungry = true;
            }
        }
    }

    fn place(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(executor) = self.executor.as_ref().map(|executor| executor.executor_id.clone()) else { return };
        if self.queue.is_empty() {
            return;
        }
        let (ids, offers) = self.agents.open(&executor, &self.settings.executor.resources);
        if offers.is_empty() {
            return;
        }
        let placed = self.queue.place(&offers, &self.held, self.settings.policy, now);
        for (task, entry, offer) in placed {
            let agent_id = &ids[offer];
            let resources = entry.shape.resources;
            let held = self.held.entry(entry.owner.clone()).or_insert(Resources::ZERO);
            *held = held.plus(&resources);
            self.agents.hold(agent_id, &resources);
            let payload = self.payloads.remove(&task).unwrap_or_default();
            let host = offers[offer].hostname.clone();
            if let Some(agent) = self.agents.0.get_mut(agent_id) {
                agent.placed.insert(task.clone(), false);
            }
            let owner = entry.owner.clone();
            let stage = Stage::Placed { entry: Box::new(entry), payload, until: now.after(PLACEMENT_HOLD) };
            let state = Task {
                agent: Some(agent_id.clone()),
                resources,
                owner,
                stage,
                claimed: true,
                seen: false,
                killing: false,
                next: None,
                progress: 0,
                unheard: Vec::new(),
            };
            self.tasks.insert(task.clone(), state);
            out.push(Output::Signal(task, News::Placed { agent: agent_id.clone(), host }));
        }
    }

    /// One ACCEPT for each agent whose placements are all confirmed.
    fn launch(&mut self, out: &mut Vec<Output>) {
        let Some(executor) = self.executor.clone() else { return };
        for (id, agent) in &mut self.agents.0 {
            if agent.placed.is_empty() || agent.placed.values().any(|confirmed| !confirmed) {
                continue;
            }
            let mut launchables = Vec::new();
            for task in std::mem::take(&mut agent.placed).into_keys() {
                let Some(state) = self.tasks.get_mut(&task) else { continue };
                if let Stage::Placed { payload, .. } = std::mem::replace(&mut state.stage, Stage::Launched) {
                    let (resources, owner) = (state.resources, state.owner.clone());
                    launchables.push(Launchable { task, resources, owner, payload });
                }
            }
            let warm = agent.is_warm(&executor.executor_id);
            let (offers, resources) = agent.take_offers();
            self.stats.accepted += offers.len() as u64;
            self.stats.launched += launchables.len() as u64;
            agent.warmed(&executor.executor_id);
            let refuse = self.settings.refuse.0 as f64 / 1000.0;
            out.push(Output::Call(launch::accept(id, offers, resources, &executor, warm, launchables, refuse)));
            // Who still waits wants the rest as soon as possible.
            self.hungry |= !self.queue.is_empty();
        }
    }

    /// Offers that nobody can use now are declined: at once while others wait for something else,
    /// after a short hold while nobody waits, since the next step often follows within a moment.
    fn give_back(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let waiting = !self.queue.is_empty();
        let mut declined = Vec::new();
        for agent in self.agents.0.values_mut().filter(|agent| agent.has_offers() && agent.placed.is_empty()) {
            if waiting || now.since(agent.offered_at) >= self.settings.idle_hold {
                declined.extend(agent.take_offers().0);
            }
        }
        if declined.is_empty() {
            return;
        }
        self.stats.declined += declined.len() as u64;
        let filters = Some(Filters::refuse(self.settings.refuse.0 as f64 / 1000.0));
        out.push(Output::Call(Call::Decline(Decline { offer_ids: declined, filters })));
    }

    /// SUPPRESS while nobody waits, REVIVE when somebody newly does.
    fn appetite(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.queue.is_empty() {
            self.hungry = false;
            self.revive_again = false;
            let idle = self.agents.0.values().all(|agent| !agent.has_offers());
            if idle && !self.suppressed && self.agents.known() > 0 {
                self.suppressed = true;
                self.stats.suppressions += 1;
                out.push(Output::Call(Call::Suppress(Roles::default())));
            }
            return;
        }
        let since = self.revived_at.map(|at| now.since(at));
        let allowed = since.is_none_or(|since| since >= self.settings.revive_every);
        let again = self.revive_again && since.is_some_and(|since| since >= Duration::from_secs(1));
        if (self.hungry && allowed) || again {
            self.revive_again = self.hungry;
            self.hungry = false;
            self.suppressed = false;
            self.revived_at = Some(now);
            self.stats.revives += 1;
            out.push(Output::Call(Call::Revive(Roles::default())));
        }
    }

    fn ask_again(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if let Some(call) = self.questions.due(now) {
            self.stats.reconciles += 1;
            out.push(Output::Call(call));
        }
        if self.next_implicit <= now {
            self.next_implicit = now.after(self.settings.implicit_every);
            self.stats.reconciles += 1;
            out.push(Output::Call(Call::Reconcile(Reconcile::default())));
        }
    }

    /// Kills that did not end yet are said again; tasks that nobody claims are asked about.
    fn chase(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        for (task, state) in &mut self.tasks {
            if state.next.is_none_or(|next| next > now) {
                continue;
            }
            if state.killing {
                state.next = Some(now.after(KILL_AGAIN));
                if self.connected {
                    out.push(Output::Call(Call::Kill(scheduler::Kill {
                        task_id: meson_mesos::types::TaskId::new(task.to_string()),
                        agent_id: state.agent.as_deref().map(AgentId::new),
                        kill_policy: None,
                    })));
                }
            } else if !state.claimed {
                state.next = Some(now.after(self.settings.orphan_grace));
                out.push(Output::AskWanted(task.clone()));
            } else {
                state.next = None;
            }
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
            News::Placed { agent, host } => Self::Placed { task, agent, host },
            News::State { agent, uuid, state } => Self::Update(Box::new(Update { task, agent, uuid, state })),
            News::Withdrawn => Self::Withdrawn { task },
            News::Progress { percent, message, url } => Self::Progress { task, percent, message, url },
        }
    }
}
