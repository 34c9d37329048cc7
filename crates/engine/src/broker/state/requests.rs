//! What step actors ask for.

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::run::Claim;
use meson_core::units::Timestamp;
use meson_mesos::types::FrameworkId;

use super::super::queue::Entry;
use super::task::{Task, lost};
use super::{Broker, News, Output, acknowledge_status};

impl Broker {
    pub(super) fn subscribed(
        &mut self,
        framework: FrameworkId,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        // Offers of an earlier session died with it, silently.
        self.displace_all(out);
        self.connected = true;
        for desk in self.desks.values_mut() {
            desk.begin(&framework, &self.settings.executor, now);
        }
        self.framework = Some(framework);
        self.told.begin();
        self.leaving.begin();
        self.questions.begin();
        self.next_implicit = now;
        self.next_explicit = self.soon(self.settings.explicit_every, now);
        self.count_held_again();
        self.ask_about_all(now);
        // Said to nobody while there was no session.
        for task in self.tasks.values_mut().filter(|task| task.killing) {
            task.next = Some(now);
        }
    }

    /// What runs is asked about explicitly, whatever the implicit answers will say.
    pub(super) fn ask_about_all(&mut self, now: Timestamp) {
        for (task, state) in self.tasks.iter().filter(|(_, task)| task.is_launched()) {
            self.questions.ask(task.clone(), state.agent.clone(), now);
        }
    }

    /// Whether these were launched is asked now, and not only once their step actors lose patience.
    pub(super) fn doubt(&mut self, tasks: Vec<TaskId>, now: Timestamp) {
        for task in tasks {
            if let Some(known) = self.tasks.get(&task).filter(|known| !known.seen) {
                self.questions.ask(task, known.agent.clone(), now);
            }
        }
    }

    /// Agents are forgotten with a session; what our tasks hold on them is not.
    fn count_held_again(&mut self) {
        for task in self.tasks.values() {
            let desk = self.desks.get_mut(self.settings.role_of(&task.owner));
            if let (Some(desk), Some(agent)) = (desk, &task.agent)
                && task.resources != Resources::ZERO
            {
                desk.agents.hold(agent, &task.resources);
                if task.launched_at.is_some() {
                    desk.agents.launched(agent);
                }
            }
        }
    }

    /// Offers are void: who had a place and was not confirmed waits again; who was confirmed is
    /// on record as placed there, and must not be launched elsewhere under the same id.
    pub(super) fn displace_all(&mut self, out: &mut Vec<Output>) {
        let displaced: Vec<_> = self
            .desks
            .values_mut()
            .flat_map(|desk| desk.agents.clear_offers())
            .collect();
        for (task, confirmed) in displaced {
            self.displace(task, confirmed, out);
        }
    }

    /// Removes a task and what it holds from the books.
    pub(super) fn forget(&mut self, task: &TaskId) -> Option<Task> {
        let state = self.tasks.remove(task)?;
        self.questions.settled(task);
        if let Some(held) = self.held.get_mut(&state.owner) {
            *held = held.minus(&state.resources);
            if held.fits_in(&Resources::ZERO) {
                self.held.remove(&state.owner);
            }
        }
        let mut desk = self.desks.get_mut(self.settings.role_of(&state.owner));
        if let Some(desk) = &mut desk {
            desk.queue.released(task);
        }
        if let (Some(agent), Some(desk)) = (&state.agent, desk) {
            desk.agents.release(agent, task, &state.resources);
            if state.launched_at.is_some() {
                self.starting = self.starting.saturating_sub(1);
                desk.started(agent);
            }
        }
        Some(state)
    }

    pub(super) fn enqueue(
        &mut self,
        task: TaskId,
        entry: Entry,
        payload: Bytes,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let known = self.members(&task);
        if !known.is_empty() {
            // Asked again by a new incarnation of its step actor.
            let claim = Claim::from(&entry);
            for task in &known {
                self.count(task, &claim, now);
            }
            return self.enqueued_again(&task, known, now, out);
        }
        let Some(desk) = self.desk_of(&entry.owner) else {
            return;
        };
        if desk.queue.add(task.clone(), entry) {
            desk.appetite.grow();
        }
        self.payloads.insert(task.clone(), payload);
        out.push(Output::Signal(task, News::Queued));
    }

    /// Takes a request out of the queue, if it is there.
    pub(super) fn withdraw(&mut self, task: &TaskId) -> Option<Entry> {
        let attempt = task.first();
        self.payloads.remove(&attempt);
        let mut desks = self.desks.values_mut();
        let (desk, entry) = desks.find_map(|desk| {
            let entry = desk.queue.remove(&attempt)?;
            Some((desk, entry))
        })?;
        // What was set aside for it is others'.
        desk.appetite.grow();
        Some(entry)
    }

    /// A task that was launched by somebody else counts for its owner and on its agent from now on, if
    /// it does not already. Not where it is unknown who has it: it could not be taken back from there.
    pub(super) fn count(&mut self, task: &TaskId, claim: &Claim, now: Timestamp) {
        let Some(known) = self.tasks.get_mut(task) else {
            return;
        };
        let Some(agent) = known.agent.as_ref().filter(|_| known.is_uncounted()) else {
            return;
        };
        let Some(desk) = self.desks.get_mut(self.settings.role_of(&claim.owner)) else {
            return;
        };
        let resources = self.settings.held(claim.resources);
        known.resources = resources;
        known.owner.clone_from(&claim.owner);
        let held = self
            .held
            .entry(claim.owner.clone())
            .or_insert(Resources::ZERO);
        *held = held.plus(&resources);
        desk.agents.found(agent, &resources);
        desk.queue
            .found(task.clone(), agent, &resources, claim, now);
    }

    pub(super) fn adopt(
        &mut self,
        task: TaskId,
        agent: String,
        claim: Option<&Claim>,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        // It waits here for a place although it is on record as placed: an attempt is launched where it
        // is on record, or nowhere.
        let waited = self.withdraw(&task).as_ref().map(Claim::from);
        if let Some(known) = self.tasks.get(&task).filter(|known| !known.is_launched()) {
            if known.agent.as_ref() == Some(&agent) {
                // Its step actor was lost between having the placement committed and saying so.
                return self.confirm_one(task, now, out);
            }
            // Its mates, if it has some, are not launched without it.
            for mate in self.unlaunched(&task) {
                self.forget(&mate);
                if mate != task {
                    out.push(lost(
                        mate,
                        "the gang was not launched where it is on record",
                    ));
                }
            }
        }
        let known = self
            .tasks
            .entry(task.clone())
            .or_insert_with(|| Task::elsewhere(Some(agent.clone())));
        known.claimed = true;
        known.agent.get_or_insert_with(|| agent.clone());
        if !known.killing {
            known.next = None;
        }
        let unheard = std::mem::take(&mut known.unheard);
        if let Some(claim) = claim.or(waited.as_ref()) {
            self.count(&task, claim, now);
        }
        // What was told to its last hearer comes first; it may not have become durable.
        let told = self.unacknowledged.remove(&task);
        self.questions.ask(task, Some(agent), now);
        for status in told.into_iter().chain(unheard) {
            self.update(status, now, out);
        }
    }

    pub(super) fn kill(
        &mut self,
        task: TaskId,
        agent: Option<String>,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        if self.withdraw(&task).is_some() {
            out.push(Output::Signal(task, News::Withdrawn));
            return;
        }
        match self.tasks.get_mut(&task) {
            Some(known) if !known.is_launched() => {
                if agent.is_none() {
                    // Not one of its tasks, but all of the attempt.
                    for mate in self.unlaunched(&task) {
                        self.forget(&mate);
                    }
                }
                self.forget(&task);
                out.push(Output::Signal(task, News::Withdrawn));
            }
            Some(known) => {
                known.claimed = true;
                known.moving = false;
                known.kill(now);
            }
            None => match agent {
                Some(agent) => {
                    self.adopt(task.clone(), agent, None, now, out);
                    if let Some(known) = self.tasks.get_mut(&task) {
                        known.kill(now);
                    }
                }
                // Never placed, and not in the queue: it never ran.
                None => out.push(Output::Signal(task, News::Withdrawn)),
            },
        }
    }

    /// Another step actor may come for it, or have come meanwhile. What is not launched waits no
    /// more, and whoever does hear is told so; what runs is asked about, and killed if unwanted.
    pub(super) fn unheard(&mut self, task: &TaskId, now: Timestamp, out: &mut Vec<Output>) {
        if self.withdraw(task).is_some() {
            out.push(Output::Signal(task.clone(), News::Withdrawn));
        }
        let Some(known) = self.tasks.get_mut(task) else {
            // Its end is not durable, and whoever was told of it is gone.
            if let Some(status) = self.unacknowledged.remove(task) {
                self.unclaimed(task.clone(), status, now, out);
            }
            return;
        };
        if known.is_launched() {
            known.claimed = false;
            if !known.killing {
                known.next = Some(now.after(self.settings.orphan_grace));
            }
            return;
        }
        let desk = self.desks.get(self.settings.role_of(&known.owner));
        let agent = known.agent.as_deref();
        // On record as placed there: it is launched, and asked about then.
        if !desk.is_some_and(|desk| desk.agents.is_confirmed(agent, task)) {
            for mate in self.unlaunched(task) {
                self.forget(&mate);
            }
            out.push(Output::Signal(task.first(), News::Withdrawn));
        }
    }

    pub(super) fn verdict(
        &mut self,
        task: &TaskId,
        wanted: Option<bool>,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let Some(known) = self.tasks.get_mut(task).filter(|known| !known.claimed) else {
            return;
        };
        if !known.killing {
            known.next = Some(now.after(self.settings.orphan_grace));
        }
        if wanted != Some(false) {
            return;
        }
        // Its last words are nobody's: they are acknowledged so that the agent forgets them.
        let mut statuses = std::mem::take(&mut known.unheard);
        statuses.extend(self.unacknowledged.remove(task));
        let ended = statuses.iter().any(|status| status.state.is_terminal());
        for status in statuses {
            out.extend(acknowledge_status(&status).map(Output::Call));
        }
        if ended {
            self.forget(task);
        } else if !known.killing {
            known.kill(now);
            self.stats.orphans_killed += 1;
        }
    }
}
