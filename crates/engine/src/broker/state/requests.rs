//! What step actors ask for.

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::run::FailureClass;
use meson_core::units::Timestamp;
use meson_mesos::types::FrameworkId;

use super::super::messages::AttemptState;
use super::super::queue::Entry;
use super::{Broker, News, Output, Stage, Task, acknowledge_status};

impl Broker {
    pub(super) fn subscribed(&mut self, framework: FrameworkId, now: Timestamp) {
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
    pub(super) fn displace_all(&mut self, out: &mut Vec<Output>) {
        for (task, confirmed) in self.agents.clear_offers() {
            self.displace(task, confirmed, out);
        }
    }

    pub(super) fn displace(&mut self, task: TaskId, confirmed: bool, out: &mut Vec<Output>) {
        if confirmed {
            let state = AttemptState::Failed {
                class: FailureClass::Platform,
                message: "the offer was withdrawn before the task was launched".to_owned(),
                data: Bytes::new(),
            };
            self.forget(&task);
            out.push(Output::Signal(
                task,
                News::State {
                    agent: None,
                    uuid: None,
                    state,
                },
            ));
        } else {
            self.requeue(task, out);
        }
    }

    /// A placement came to nothing: the request waits again, in its old place. One that nobody
    /// hears does not: its step actor is gone, or went to another pool, and if anybody does hear, he
    /// asks again.
    pub(super) fn requeue(&mut self, task: TaskId, out: &mut Vec<Output>) {
        if let Some(Task {
            stage: Stage::Placed { entry, payload, .. },
            claimed,
            ..
        }) = self.forget(&task)
        {
            if !claimed {
                out.push(Output::Signal(task, News::Withdrawn));
                return;
            }
            self.payloads.insert(task.clone(), payload);
            self.queue.add(task, *entry);
            self.hungry = true;
        }
    }

    /// Removes a task and what it holds from the books.
    pub(super) fn forget(&mut self, task: &TaskId) -> Option<Task> {
        let state = self.tasks.remove(task)?;
        self.queue.released(task);
        self.questions.settled(task);
        if let Some(held) = self.held.get_mut(&state.owner) {
            *held = held.minus(&state.resources);
            if held.fits_in(&Resources::ZERO) {
                self.held.remove(&state.owner);
            }
        }
        if let Some(agent) = &state.agent {
            self.agents.release(agent, task, &state.resources);
        }
        Some(state)
    }

    pub(super) fn enqueue(
        &mut self,
        task: TaskId,
        entry: Entry,
        payload: Bytes,
        out: &mut Vec<Output>,
    ) {
        if let Some(known) = self.tasks.get_mut(&task) {
            // Asked again by a new incarnation of its step actor.
            known.claimed = true;
            if let (Stage::Placed { .. }, Some(agent)) = (&known.stage, &known.agent) {
                let host = self
                    .agents
                    .0
                    .get(agent)
                    .map(|agent| agent.hostname().to_owned())
                    .unwrap_or_default();
                out.push(Output::Signal(
                    task,
                    News::Placed {
                        agent: agent.clone(),
                        host,
                    },
                ));
            }
            return;
        }
        self.payloads.insert(task.clone(), payload);
        if self.queue.add(task.clone(), entry) {
            self.hungry = true;
        }
        out.push(Output::Signal(task, News::Queued));
    }

    pub(super) fn confirm(&mut self, task: TaskId, out: &mut Vec<Output>) {
        let place = self
            .tasks
            .get(&task)
            .and_then(|known| known.agent.as_ref())
            .and_then(|agent| self.agents.0.get_mut(agent))
            .and_then(|agent| agent.placed.get_mut(&task));
        match place {
            Some(confirmed) => *confirmed = true,
            None if self
                .tasks
                .get(&task)
                .is_some_and(|known| matches!(known.stage, Stage::Launched)) => {}
            None => {
                // Too late: the hold is over. The placement is on record, so this attempt is done for.
                self.withdraw(&task);
                let state = AttemptState::Failed {
                    class: FailureClass::Platform,
                    message: "the placement was confirmed too late: its offer is gone".to_owned(),
                    data: Bytes::new(),
                };
                out.push(Output::Signal(
                    task,
                    News::State {
                        agent: None,
                        uuid: None,
                        state,
                    },
                ));
            }
        }
    }

    pub(super) fn adopt(
        &mut self,
        task: TaskId,
        agent: String,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        // It waits here for a place although it is on record as placed: an attempt is launched where it
        // is on record, or nowhere.
        self.withdraw(&task);
        if let Some(Task {
            stage: Stage::Placed { .. },
            agent: Some(place),
            ..
        }) = self.tasks.get(&task)
        {
            if *place == agent {
                // Its step actor was lost between having the placement committed and saying so.
                self.confirm(task, out);
                return;
            }
            self.forget(&task);
        }
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
        if self.withdraw(&task) {
            out.push(Output::Signal(task, News::Withdrawn));
            return;
        }
        if let Some(Task {
            stage: Stage::Placed { .. },
            ..
        }) = self.tasks.get(&task)
        {
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

    /// Takes a request out of the queue: whether it was there.
    pub(super) fn withdraw(&mut self, task: &TaskId) -> bool {
        self.payloads.remove(task);
        self.queue.remove(task).is_some()
    }

    /// Another step actor may come for it, or have come meanwhile. What is not launched waits no
    /// more, and whoever does hear is told so; what runs is asked about, and killed if unwanted.
    pub(super) fn unheard(&mut self, task: &TaskId, now: Timestamp, out: &mut Vec<Output>) {
        if self.withdraw(task) {
            out.push(Output::Signal(task.clone(), News::Withdrawn));
        }
        let Some(known) = self.tasks.get_mut(task) else {
            return;
        };
        match &known.stage {
            Stage::Launched => {
                known.claimed = false;
                if !known.killing {
                    known.next = Some(now.after(self.settings.orphan_grace));
                }
            }
            // On record as placed there: it is launched, and asked about then.
            Stage::Placed { .. } if self.agents.is_confirmed(known.agent.as_deref(), task) => {}
            Stage::Placed { .. } => {
                self.forget(task);
                out.push(Output::Signal(task.clone(), News::Withdrawn));
            }
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
        known.next = Some(now.after(self.settings.orphan_grace));
        if wanted != Some(false) {
            return;
        }
        // Its last words are nobody's: they are acknowledged so that the agent forgets them.
        let mut statuses = std::mem::take(&mut known.unheard);
        statuses.extend(self.unacknowledged.remove(task));
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
}
