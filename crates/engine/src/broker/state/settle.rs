//! What follows from a burst of inputs: who is placed, what is launched, given back, asked again.

use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{self, Call, Decline, Reconcile, Roles};
use meson_mesos::types::{AgentId, Filters};

use super::super::PLACEMENT_HOLD;
use super::super::launch::{self, Launchable};
use super::super::queue::Placed;
use super::{Broker, KILL_AGAIN, News, Output, Stage, Task};

impl Broker {
    /// Draws the conclusions: places, launches, gives back, asks again. To be called after each burst
    /// of inputs and when [`wake_at`](Self::wake_at) says.
    pub fn settle(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.end_holds(now, out);
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
        let idle = self
            .agents
            .0
            .values()
            .filter(|a| a.has_offers())
            .map(|a| a.offered_at.after(self.settings.idle_hold));
        let revive = (self.hungry || self.revive_again).then(|| {
            self.revived_at
                .map_or(Timestamp(0), |at| at.after(self.settings.revive_every))
        });
        let connected = self.connected.then_some(self.next_implicit);
        holds
            .chain(idle)
            .chain(revive)
            .chain(self.questions.next_due())
            .chain(connected)
            // There are offers in hand and requests that were not looked at.
            .chain(self.queue.goes_on().then_some(Timestamp(0)))
            .min()
    }

    /// Placements that were not confirmed in time go back into the queue.
    pub(super) fn end_holds(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let late: Vec<(TaskId, String)> = self
            .tasks
            .iter()
            .filter_map(|(task, state)| match (&state.stage, &state.agent) {
                (Stage::Placed { until, .. }, Some(agent)) if *until <= now => {
                    Some((task.clone(), agent.clone()))
                }
                _ => None,
            })
            .collect();
        for (task, agent) in late {
            let agent = self.agents.0.get_mut(&agent);
            let confirmed = agent.and_then(|agent| match agent.placed.get(&task) {
                Some(true) => Some(true),
                _ => agent.placed.remove(&task),
            });
            if confirmed != Some(true) {
                self.requeue(task, out);
            }
        }
    }

    pub(super) fn place(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let Some(executor) = self
            .executor
            .as_ref()
            .map(|executor| executor.executor_id.clone())
        else {
            return;
        };
        if self.queue.is_empty() {
            return;
        }
        let offers = self
            .agents
            .open(&executor, &self.settings.executor.resources);
        let (terms, policy) = (&self.settings.owners, self.settings.policy);
        let placed = self.queue.place(&offers, &self.held, terms, policy, now);
        for Placed { task, entry, offer } in placed {
            let agent_id = &offers[offer].agent.id().to_owned();
            let resources = entry.shape.resources;
            let held = self
                .held
                .entry(entry.owner.clone())
                .or_insert(Resources::ZERO);
            *held = held.plus(&resources);
            self.agents.hold(agent_id, &resources);
            let payload = self.payloads.remove(&task).unwrap_or_default();
            let host = offers[offer].agent.hostname().to_owned();
            if let Some(agent) = self.agents.0.get_mut(agent_id) {
                agent.placed.insert(task.clone(), false);
            }
            let owner = entry.owner.clone();
            let stage = Stage::Placed {
                entry: Box::new(entry),
                payload,
                until: now.after(PLACEMENT_HOLD),
            };
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
            out.push(Output::Signal(
                task,
                News::Placed {
                    agent: agent_id.clone(),
                    host,
                },
            ));
        }
    }

    /// One ACCEPT for each agent whose placements are all confirmed.
    pub(super) fn launch(&mut self, out: &mut Vec<Output>) {
        let Some(executor) = self.executor.clone() else {
            return;
        };
        for (id, agent) in &mut self.agents.0 {
            if agent.placed.is_empty() || agent.placed.values().any(|confirmed| !confirmed) {
                continue;
            }
            let mut launchables = Vec::new();
            for task in std::mem::take(&mut agent.placed).into_keys() {
                let Some(state) = self.tasks.get_mut(&task) else {
                    continue;
                };
                if let Stage::Placed { payload, entry, .. } =
                    std::mem::replace(&mut state.stage, Stage::Launched)
                {
                    let (resources, owner) = (state.resources, state.owner.clone());
                    launchables.push(Launchable {
                        task,
                        resources,
                        revocable: entry.revocable,
                        owner,
                        payload,
                    });
                }
            }
            let warm = agent.is_warm(&executor.executor_id);
            let (offers, resources) = agent.take_offers();
            self.stats.accepted += offers.len() as u64;
            self.stats.launched += launchables.len() as u64;
            agent.warmed(&executor.executor_id);
            let refuse = self.settings.refuse.0 as f64 / 1000.0;
            out.push(Output::Call(launch::accept(
                id,
                offers,
                resources,
                &executor,
                warm,
                launchables,
                refuse,
            )));
            // Who still waits wants the rest as soon as possible.
            self.hungry |= !self.queue.is_empty();
        }
    }

    /// Offers that nobody can use now are declined: at once while others wait for something else,
    /// after a short hold while nobody waits, since the next step often follows within a moment.
    pub(super) fn give_back(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.queue.goes_on() {
            return;
        }
        let waiting = !self.queue.is_empty();
        let mut declined = Vec::new();
        for agent in self
            .agents
            .0
            .values_mut()
            .filter(|agent| agent.has_offers() && agent.placed.is_empty())
        {
            if waiting || now.since(agent.offered_at) >= self.settings.idle_hold {
                declined.extend(agent.take_offers().0);
            }
        }
        if declined.is_empty() {
            return;
        }
        self.stats.declined += declined.len() as u64;
        let filters = Some(Filters::refuse(self.settings.refuse.0 as f64 / 1000.0));
        out.push(Output::Call(Call::Decline(Decline {
            offer_ids: declined,
            filters,
        })));
    }

    /// SUPPRESS while nobody waits, REVIVE when somebody newly does.
    pub(super) fn appetite(&mut self, now: Timestamp, out: &mut Vec<Output>) {
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

    pub(super) fn ask_again(&mut self, now: Timestamp, out: &mut Vec<Output>) {
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
    pub(super) fn chase(&mut self, now: Timestamp, out: &mut Vec<Output>) {
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
