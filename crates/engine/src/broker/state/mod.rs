//! The broker's decisions, as a function of plain values: [`Broker::handle`] for each thing that
//! happens, [`Broker::settle`] once after each burst of them.
//!
//! * [`words`]: what goes in and comes out; [`task`]: an attempt that has left the queue;
//!   [`desk`]: what belongs to one role.
//! * [`requests`]: what step actors ask for; [`events`]: what the resource manager says.
//! * [`gang`]: the tasks of one attempt, placed together and launched together.
//! * [`settle`]: what follows: places, launches, returns; [`upkeep`]: what is asked, said and
//!   killed again, the brake, maintenance.

mod desk;
mod events;
#[cfg(test)]
mod fuzz;
mod gang;
#[cfg(test)]
mod port_ledger;
#[cfg(test)]
mod properties;
mod requests;
mod settle;
mod task;
#[cfg(test)]
mod tests;
mod upkeep;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::units::Timestamp;
use meson_mesos::scheduler::{self, Call};
use meson_mesos::types::{AgentId, Data, FrameworkId, TaskStatus};
use meson_protocol::api::{BrakeView, PoolView, Reason};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::desk::Desk;
use self::task::Task;
pub use self::words::{Input, News, Output};
use super::brake::Brake;
use super::constraints::Told;
use super::maintenance::Leaving;
use super::messages::Waiting;
use super::pace::Pace;
use super::patience::Patience;
use super::queue::Entry;
use super::recent::Recent;
use super::reconcile::Questions;
pub use super::settings::Settings;
use super::stats::Stats;

/// Most attempts that are kept in mind. More than any run may have under way: beyond it somebody
/// makes tasks up.
const MOST_TASKS: usize = 2_000_000;

/// KILLs per second at most, and at once after a pause. Ten thousand tasks that are cancelled in one
/// instant must not fill the lane in which everything else that is said waits its turn.
const KILLS_PER_SECOND: u32 = 1_000;

/// The broker's state.
#[derive(Debug)]
pub struct Broker {
    settings: Settings,
    framework: Option<FrameworkId>,
    connected: bool,
    /// By role.
    desks: BTreeMap<String, Desk>,
    payloads: BTreeMap<TaskId, Bytes>,
    tasks: BTreeMap<TaskId, Task>,
    /// What the tasks of each owner hold.
    held: BTreeMap<String, Resources>,
    questions: Questions,
    /// Updates that were handed over and are not acknowledged yet. Their hearer may be lost before
    /// they are durable: the next one must not have to wait until the agent repeats them, which it
    /// does after ten seconds, then twenty, then forty. An agent sends one at a time.
    unacknowledged: BTreeMap<TaskId, TaskStatus>,
    recent: Recent,
    brake: Brake,
    pace: Pace,
    /// How fast tasks are killed: each KILL is a call of its own.
    kills: Pace,
    patience: Patience,
    leaving: Leaving,
    told: Told,
    /// Tasks that were launched and do not run yet.
    starting: usize,
    next_implicit: Timestamp,
    next_explicit: Timestamp,
    /// When conclusions were last drawn.
    settled_at: Timestamp,
    /// For jitter.
    chance: StdRng,
    stats: Stats,
}

/// How things stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Whether there is a session.
    pub connected: bool,
    /// Requests without a place.
    pub queued: usize,
    /// Tasks that are not over.
    pub live: usize,
    /// Tasks that were launched and do not run yet.
    pub starting: usize,
    /// Agents that were heard of in this session.
    pub agents: usize,
    /// Updates that are not durable yet.
    pub unacknowledged: usize,
    /// Tasks that are being reconciled.
    pub questions: usize,
    /// Whether launching has stopped.
    pub braked: bool,
}

impl Broker {
    /// A broker that is not connected yet.
    pub fn new(settings: Settings) -> Self {
        let desks = settings
            .roles()
            .into_iter()
            .map(|role| (role.to_owned(), Desk::new(role)))
            .collect();
        Self {
            framework: None,
            connected: false,
            desks,
            payloads: BTreeMap::new(),
            tasks: BTreeMap::new(),
            held: BTreeMap::new(),
            questions: Questions::default(),
            unacknowledged: BTreeMap::new(),
            recent: Recent::default(),
            brake: Brake::default(),
            pace: Pace::new(settings.pacing.per_second),
            kills: Pace::new(KILLS_PER_SECOND),
            patience: Patience::default(),
            leaving: Leaving::default(),
            told: Told::default(),
            starting: 0,
            next_implicit: Timestamp(0),
            next_explicit: Timestamp(0),
            settled_at: Timestamp(0),
            chance: StdRng::seed_from_u64(settings.seed),
            stats: Stats::default(),
            settings,
        }
    }

    /// Why this task waits; none if it is not in the queue.
    pub fn explain(&mut self, task: &TaskId, now: Timestamp) -> Option<Waiting> {
        let connected = self.connected;
        let mut waiting = self.desks.values_mut().find_map(|desk| {
            let known = desk.agents.known().count();
            desk.queue.explain(task, connected, known, now)
        })?;
        if let Some(brake) = self.brake.engaged() {
            let text = format!(
                "launching has stopped: {}; it goes on once it is calm, or by `mesonctl pool release`",
                brake.reason
            );
            waiting.reasons.insert(0, Reason::new("brake", text));
        } else if self.desks.values().any(Desk::is_held_up) {
            let text = "as many tasks as are allowed are being started".to_owned();
            waiting.reasons.insert(0, Reason::new("pacing", text));
        }
        Some(waiting)
    }

    /// How things stand.
    pub fn now(&self) -> Now {
        Now {
            connected: self.connected,
            queued: self.queued(),
            live: self.live(),
            starting: self.starting,
            agents: self.known_agents(),
            unacknowledged: self.unacknowledged.len(),
            questions: self.questions.len(),
            braked: self.brake.engaged().is_some(),
        }
    }

    /// How things stand, for people.
    pub fn view(&self, pool: &str, at: Timestamp) -> PoolView {
        let now = self.now();
        let out_of_sight: BTreeSet<&str> = self
            .desks
            .values()
            .flat_map(|desk| desk.agents.out_of_sight(at))
            .collect();
        PoolView {
            name: pool.to_owned(),
            connected: now.connected,
            framework: self.framework.as_ref().map(|id| id.as_str().to_owned()),
            queued: now.queued as u64,
            live: now.live as u64,
            starting: now.starting as u64,
            agents: now.agents as u64,
            out_of_sight: out_of_sight
                .into_iter()
                .map(|id| self.host_of(id))
                .collect(),
            roles: self.desks.keys().cloned().collect(),
            remarks: Vec::new(),
            problem: None,
            brake: self.brake.engaged().map(|engaged| BrakeView {
                reason: engaged.reason.clone(),
                since: engaged.since.to_rfc3339(),
                released_at: self
                    .brake
                    .release_at(&self.settings.brake)
                    .map(Timestamp::to_rfc3339),
            }),
        }
    }

    /// What happened so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How many requests wait for a place.
    pub fn queued(&self) -> usize {
        self.desks.values().map(|desk| desk.queue.len()).sum()
    }

    /// How many tasks are launched or placed, and not ended.
    pub fn live(&self) -> usize {
        self.tasks.len()
    }

    fn known_agents(&self) -> usize {
        if let [desk] = &self.desks.values().collect::<Vec<_>>()[..] {
            return desk.agents.known().count();
        }
        let all = self.desks.values().flat_map(|desk| desk.agents.known());
        all.collect::<BTreeSet<_>>().len()
    }

    /// Those of which too many may be lost.
    fn agents_of_this_session(&self) -> usize {
        let desks = self.desks.values();
        let all = desks.flat_map(|desk| desk.agents.of_this_session());
        all.collect::<BTreeSet<_>>().len()
    }

    /// The desk of an owner's role. There is one for every role that the settings name.
    fn desk_of(&mut self, owner: &str) -> Option<&mut Desk> {
        self.desks.get_mut(self.settings.role_of(owner))
    }

    /// Takes in what happened. What follows from all of a burst is left to [`settle`](Self::settle).
    pub fn handle(&mut self, input: Input, now: Timestamp, out: &mut Vec<Output>) {
        match input {
            Input::Subscribed(framework) => self.subscribed(framework, now, out),
            Input::Disconnected => {
                self.connected = false;
                self.displace_all(out);
            }
            Input::Event(event) => self.event(event, now, out),
            Input::LaunchInDoubt(tasks) => self.doubt(tasks, now),
            Input::ConstraintsNotTaken => self.told.doubt(),
            Input::Enqueue {
                task,
                mut shape,
                owner,
                deadline,
                payload,
            } => {
                shape.resources = self.settings.held(shape.resources);
                let entry = Entry {
                    shape,
                    owner,
                    deadline,
                    since: now,
                    revocable: Resources::ZERO,
                };
                self.enqueue(task, entry, payload, now, out);
            }
            Input::Confirm { task, agents } => self.confirm(task, &agents, now, out),
            Input::Adopt { task, agent, claim } => {
                self.adopt(task, agent, claim.as_deref(), now, out);
            }
            Input::Kill { task, agent } => self.kill(task, agent, now, out),
            Input::Acknowledge { task, agent, uuid } => self.acknowledged(task, &agent, uuid, out),
            Input::Unheard(task) => self.unheard(&task, now, out),
            Input::Verdict { task, wanted } => self.verdict(&task, wanted, now, out),
            Input::ReleaseBrake => {
                if self.brake.release() {
                    self.go_on(out);
                }
            }
        }
    }

    fn acknowledged(&mut self, task: TaskId, agent: &str, uuid: Vec<u8>, out: &mut Vec<Output>) {
        let sent = self.unacknowledged.get(&task);
        let sent = sent.and_then(|status| status.uuid.as_ref());
        if sent.is_some_and(|sent| sent.0[..] == uuid[..]) {
            self.unacknowledged.remove(&task);
        }
        out.push(Output::Call(acknowledge(&task, agent, uuid.clone())));
        if !self.tasks.contains_key(&task) {
            self.recent.add(task, uuid);
        }
    }
}

#[cfg(test)]
impl Broker {
    /// That the placement of this attempt which is held now is durable.
    fn confirmation(&self, task: TaskId) -> Input {
        let members = self.members(&task).into_iter();
        let agents = members.filter_map(|id| self.tasks.get(&id)?.agent.clone());
        let agents = agents.collect();
        Input::Confirm { task, agents }
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
fn acknowledge_status(status: &TaskStatus) -> Option<Call> {
    Some(Call::Acknowledge(scheduler::Acknowledge {
        agent_id: status.agent_id.clone()?,
        task_id: status.task_id.clone(),
        uuid: status.uuid.clone()?,
    }))
}
