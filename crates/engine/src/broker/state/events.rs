//! What the resource manager says.

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::run::{Claim, FailureClass};
use meson_core::units::Timestamp;
use meson_mesos::scheduler::{self, Call, Event, InverseOfferAnswer};
use meson_mesos::types::{AgentId, Offer, StatusReason, StatusSource, TaskState, TaskStatus};
use meson_protocol::task::ExecutorMessage;

use super::super::messages::AttemptState;
use super::super::stats::Measured;
use super::super::status::{Meaning, interpret};
use super::task::Task;
use super::{Broker, MOST_TASKS, News, Output, acknowledge_status};

impl Broker {
    pub(super) fn event(&mut self, event: Event, now: Timestamp, out: &mut Vec<Output>) {
        for agent in live_agents(&event) {
            self.questions.heard_of(agent.as_str(), now);
            self.heard_of(agent.as_str(), out);
        }
        match event {
            Event::Offers(offers) => {
                // One agent's offer may be too little for a gang, and the others' were refused.
                for desk in self.desks.values_mut() {
                    if desk.queue.has_gangs() {
                        desk.appetite.gather(now);
                    }
                }
                for offer in offers.offers {
                    self.offered(offer, now, out);
                }
            }
            Event::Rescind(rescind) => {
                let displaced: Vec<_> = self
                    .desks
                    .values_mut()
                    .filter_map(|desk| desk.agents.rescinded(&rescind.offer_id))
                    .flatten()
                    .collect();
                self.stats.rescinded += 1;
                for (task, confirmed) in displaced {
                    self.displace(task, confirmed, out);
                }
            }
            Event::InverseOffers(asked) => {
                let ids = asked.inverse_offers.iter().map(|offer| offer.id.clone());
                let inverse_offer_ids: Vec<_> = ids.collect();
                for offer in &asked.inverse_offers {
                    self.leaving.asked(offer);
                }
                if inverse_offer_ids.is_empty() {
                    return;
                }
                self.stats.inverse_offers += inverse_offer_ids.len() as u64;
                let filters = None;
                out.push(Output::Call(Call::AcceptInverseOffers(
                    InverseOfferAnswer {
                        inverse_offer_ids,
                        filters,
                    },
                )));
            }
            Event::RescindInverseOffer(rescind) => {
                self.leaving.rescinded(&rescind.inverse_offer_id);
            }
            Event::Update(update) => self.update(update.status, now, out),
            Event::Message(message) => self.message(&message, out),
            Event::Failure(failure) => match (&failure.agent_id, &failure.executor_id) {
                // Good ends are told in the same words; the tasks have their own.
                (Some(agent), Some(executor)) => {
                    for desk in self.desks.values_mut() {
                        desk.agents.executor_gone(agent.as_str(), executor);
                    }
                }
                (Some(agent), None) => self.lost_agent(agent.as_str(), now, out),
                (None, _) => {}
            },
            _ => {}
        }
    }

    fn lost_agent(&mut self, agent: &str, now: Timestamp, out: &mut Vec<Output>) {
        self.brake.lost_agent(agent, now);
        let mut news = false;
        for desk in self.desks.values_mut() {
            news |= desk.agents.lost(agent, now);
            desk.queue.lost(agent);
        }
        if news {
            let there = |task: &&Task| task.agent.as_deref() == Some(agent);
            out.push(Output::AgentLost {
                host: self.host_of(agent),
                tasks: self.tasks.values().filter(there).count(),
            });
        }
    }

    /// The agent is there, if it was not.
    fn heard_of(&mut self, agent: &str, out: &mut Vec<Output>) {
        let mut news = false;
        for desk in self.desks.values_mut() {
            news |= desk.agents.heard_of(agent);
        }
        if news {
            out.push(Output::AgentBack(self.host_of(agent)));
        }
    }

    /// What people call the agent; its id if it has not said.
    pub(super) fn host_of(&self, agent: &str) -> String {
        let mut desks = self.desks.values();
        let name = desks.find_map(|desk| {
            let name = desk.agents.hostname(agent)?;
            (!name.is_empty()).then(|| name.to_owned())
        });
        name.unwrap_or_else(|| agent.to_owned())
    }

    fn offered(&mut self, offer: Offer, now: Timestamp, out: &mut Vec<Output>) {
        self.stats.offers += 1;
        let agent = offer.agent_id.as_str();
        self.brake.agent_is_back(agent);
        self.leaving.offered(agent, offer.unavailability.is_some());
        // Without allocation info there is one role only.
        let role = offer.allocation_info.as_ref();
        let role = role.and_then(|info| info.role.as_deref());
        let role = role.unwrap_or(&self.settings.role);
        match self.desks.get_mut(role) {
            Some(desk) => {
                desk.appetite.fed(now);
                desk.agents.offered(offer, now);
            }
            None => {
                tracing::warn!(role, "an offer for a role that is not ours");
                out.push(Output::Call(Call::Decline(scheduler::Decline {
                    offer_ids: vec![offer.id],
                    filters: None,
                })));
            }
        }
    }

    pub(super) fn message(&mut self, message: &scheduler::Message, out: &mut Vec<Output>) {
        let (task, sequence, news) = match ExecutorMessage::decode(&message.data.0) {
            Ok(ExecutorMessage::Progress {
                task,
                sequence,
                percent,
                message,
                url,
            }) => {
                let news = News::Progress {
                    percent,
                    message,
                    url,
                };
                (task, sequence, news)
            }
            Ok(ExecutorMessage::Usage {
                task,
                sequence,
                usage,
            }) => (task, sequence, News::Usage(usage)),
            Ok(ExecutorMessage::Heartbeat { .. }) | Err(_) => return,
        };
        if let Some(known) = self
            .tasks
            .get_mut(&task)
            .filter(|known| known.progress < sequence)
        {
            known.progress = sequence;
            out.push(Output::Signal(task, news));
        }
    }

    pub(super) fn update(&mut self, status: TaskStatus, now: Timestamp, out: &mut Vec<Output>) {
        let Ok(task) = status.task_id.as_str().parse::<TaskId>() else {
            // Not ours: somebody shares the framework, or an executor lies.
            tracing::warn!(task = status.task_id.as_str(), state = %status.state, "update of a task that no run can know");
            out.extend(acknowledge_status(&status).map(Output::Call));
            return;
        };
        let uuid = status.uuid.as_ref().map(|uuid| &uuid.0[..]);
        if uuid.is_some_and(|uuid| self.recent.contains(&task, uuid)) {
            // It was durable when it was acknowledged; that word was lost, or too late.
            self.stats.repeated += 1;
            out.extend(acknowledge_status(&status).map(Output::Call));
            return;
        }
        let known = self.tasks.contains_key(&task);
        let sent = self.unacknowledged.get(&task);
        if !known
            && let Some(sent) = sent.filter(|sent| sent.uuid == status.uuid)
            && let Meaning::State(state) = interpret(sent, true, true)
        {
            // Its end is not durable yet, or not that of its gang. Whoever was told is told again:
            // if nobody hears it any more, that comes to light.
            self.stats.repeated += 1;
            let agent = status.agent_id.as_ref();
            let agent = agent.map(|agent| agent.as_str().to_owned());
            let uuid = status.uuid.map(|uuid| uuid.0.to_vec());
            out.push(Output::Signal(task, News::State { agent, uuid, state }));
            return;
        }
        if !known && !self.is_worth_knowing(&status) {
            return;
        }
        if let Some(entry) = self.withdraw(&task) {
            // Told of what still waits: it was launched before, whoever asks for it again.
            let agent = status.agent_id.as_ref();
            let launched = Task::elsewhere(agent.map(|agent| agent.as_str().to_owned()));
            let claimed = true;
            self.tasks.insert(
                task.clone(),
                Task {
                    claimed,
                    ..launched
                },
            );
            self.count(&task, &Claim::from(&entry), now);
        }
        match self.tasks.get(&task) {
            Some(known) if known.claimed => self.heard(task, status, now, out),
            _ => self.unclaimed(task, status, now, out),
        }
    }

    /// Whether an update of a task that nobody has asked for is to be kept: it runs, or waits to be
    /// acknowledged. That there is no such task concerns nobody.
    fn is_worth_knowing(&self, status: &TaskStatus) -> bool {
        let lives = matches!(
            status.state,
            TaskState::Staging | TaskState::Starting | TaskState::Running | TaskState::Killing
        );
        (status.uuid.is_some() || lives) && self.tasks.len() < MOST_TASKS
    }

    /// An update of a task whose step actor has not come yet, or is gone.
    pub(super) fn unclaimed(
        &mut self,
        task: TaskId,
        status: TaskStatus,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let grace = now.after(self.settings.orphan_grace);
        let agent = status.agent_id.as_ref();
        let agent = agent.map(|agent| agent.as_str().to_owned());
        let known = self.tasks.entry(task.clone()).or_insert_with(|| Task {
            next: Some(grace),
            ..Task::elsewhere(None)
        });
        if known.agent.is_none() {
            known.agent = agent;
        }
        if !known.killing {
            known.keep(status);
            return;
        }
        // An orphan on its way out.
        out.extend(acknowledge_status(&status).map(Output::Call));
        match status.state {
            TaskState::Unknown | TaskState::GoneByOperator => {
                self.forget(&task);
            }
            state if state.is_terminal() => {
                self.forget(&task);
            }
            TaskState::Running | TaskState::Starting => known.lives_on(now),
            TaskState::Unreachable => known.away = true,
            _ => {}
        }
    }

    /// An update of a task whose step actor hears it.
    fn heard(&mut self, task: TaskId, status: TaskStatus, now: Timestamp, out: &mut Vec<Output>) {
        let agent = status.agent_id.as_ref();
        let agent = agent.map(|agent| agent.as_str().to_owned());
        let Some(known) = self.tasks.get_mut(&task) else {
            return;
        };
        if known.agent.is_none() {
            known.agent.clone_from(&agent);
        }
        let meaning = interpret(&status, known.seen, known.killing && !known.moving);
        known.seen |= status.uuid.is_some();
        let state = match meaning {
            Meaning::Void => return,
            Meaning::Unsure => {
                if self.questions.unknown(&task, agent.clone(), now) {
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
        if state == AttemptState::Unreachable {
            let there = known.agent.clone();
            self.questions.out_of_sight(task.clone(), there, now);
        }
        // That a task has ended is told by a master, when it is asked or an agent comes back, without
        // what it left behind, and without whose fault it was: the update that carries its result is
        // still to come, and comes again until it is acknowledged.
        let result_to_come = status.uuid.is_none()
            && matches!(
                status.reason,
                Some(StatusReason::Reconciliation | StatusReason::AgentReregistered)
            )
            && matches!(
                status.state,
                TaskState::Finished | TaskState::Failed | TaskState::Killed
            );
        let state = match state {
            AttemptState::Failed { .. } if result_to_come => {
                let data = Bytes::new();
                AttemptState::Finished { data }
            }
            state => state,
        };
        self.weigh(&task, &status, &state, now, out);
        let ended = status.state.is_terminal() || matches!(state, AttemptState::Failed { .. });
        self.learn(&task, &state, now);
        if ended && !result_to_come {
            let known = self.forget(&task);
            if let Some(known) = known
                && let Some(desk) = self.desk_of(&known.owner)
                && !desk.queue.is_empty()
            {
                let agent = known.agent.as_deref().unwrap_or_default();
                if known.is_uncounted() || !desk.agents.has_offered(agent) {
                    // What it held is not known, or not what the agent is.
                    desk.appetite.insist();
                } else {
                    desk.appetite.grow();
                }
            }
        }
        if status.uuid.is_some() {
            self.unacknowledged.insert(task.clone(), status.clone());
        }
        let uuid = status.uuid.map(|uuid| uuid.0.to_vec());
        out.push(Output::Signal(task, News::State { agent, uuid, state }));
    }

    /// Draws what else follows from a state: times, losses, kills that were lost on the way.
    fn weigh(
        &mut self,
        task: &TaskId,
        status: &TaskStatus,
        state: &AttemptState,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let Some(known) = self.tasks.get_mut(task) else {
            return;
        };
        match (&status.state, state) {
            (
                TaskState::Unreachable
                | TaskState::Lost
                | TaskState::Gone
                | TaskState::GoneByOperator,
                _,
            ) => {
                let agent = known.agent.clone().unwrap_or_default();
                self.brake.lost_task(task, &agent, now);
            }
            (_, AttemptState::Running { .. } | AttemptState::Launching) => {
                self.brake.task_is_back(task);
                known.lives_on(now);
            }
            _ => {}
        }
        known.away = matches!(state, AttemptState::Unreachable);
        if matches!(state, AttemptState::Launching) {
            return;
        }
        if let Some(launched_at) = known.launched_at.take() {
            self.starting = self.starting.saturating_sub(1);
            let role = self.settings.role_of(&known.owner);
            if let (Some(desk), Some(agent)) = (self.desks.get_mut(role), &known.agent) {
                desk.started(agent);
            }
            if matches!(state, AttemptState::Running { .. }) {
                let took = now.since(launched_at);
                out.push(Output::Measured(Measured::LaunchToRunning(took)));
            }
        }
    }

    /// How long a step's tasks take, and where they were lost, is of use to its others.
    fn learn(&mut self, task: &TaskId, state: &AttemptState, now: Timestamp) {
        let Some(known) = self.tasks.get(task) else {
            return;
        };
        let role = self.settings.role_of(&known.owner);
        let Some(desk) = self.desks.get_mut(role) else {
            return;
        };
        match (state, &known.agent) {
            (AttemptState::Finished { .. }, _) => desk.queue.finished(task, now),
            (
                AttemptState::Failed {
                    class: FailureClass::Platform,
                    ..
                },
                Some(agent),
            ) => desk.queue.failed_there(task, agent, now),
            _ => {}
        }
    }
}

/// The agents that an event comes from, or that must be registered for it to come.
fn live_agents(event: &Event) -> Vec<&AgentId> {
    match event {
        Event::Offers(offers) => offers.offers.iter().map(|it| &it.agent_id).collect(),
        Event::Update(update) => {
            let status = &update.status;
            let back = status.reason == Some(StatusReason::AgentReregistered);
            let agent = status.agent_id.as_ref();
            let there = back || status.source != Some(StatusSource::Master);
            agent.filter(|_| there).into_iter().collect()
        }
        Event::Message(message) => vec![&message.agent_id],
        Event::Failure(failure) if failure.executor_id.is_some() => {
            failure.agent_id.iter().collect()
        }
        _ => Vec::new(),
    }
}
