//! What follows from a burst of inputs: who is placed, what is launched, what is given back.

use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::units::Timestamp;
use meson_mesos::scheduler::{Call, Decline};
use meson_mesos::types::{Filters, OfferId};

use super::super::PLACEMENT_HOLD;
use super::super::launch::{self, Launchable};
use super::super::queue::Placed;
use super::super::stats::{Declined, Measured};
use super::task::{Stage, Task};
use super::{Broker, News, Output};

impl Broker {
    /// Draws the conclusions: places, launches, gives back, asks again. To be called after each burst
    /// of inputs and when [`wake_at`](Self::wake_at) says.
    pub fn settle(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.end_holds(now, out);
        self.turn_brake(now, out);
        if self.connected {
            self.catch_breath(now);
            self.constrain(now, out);
            self.place(now, out);
            self.launch(now, out);
            self.give_back(now, out);
            self.appetite(now, out);
            self.ask_again(now, out);
        }
        self.vacate(now);
        self.chase(now, out);
    }

    /// Placements that were not confirmed in time go back into the queue.
    fn end_holds(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let late: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(
                |(_, state)| matches!(&state.stage, Stage::Placed { until, .. } if *until <= now),
            )
            .map(|(task, _)| task.clone())
            .collect();
        for task in late {
            let Some(known) = self.tasks.get(&task) else {
                continue;
            };
            let desk = self.desks.get_mut(self.settings.role_of(&known.owner));
            let agent = desk
                .zip(known.agent.as_ref())
                .and_then(|(desk, agent)| desk.agents.0.get_mut(agent));
            let confirmed = agent.and_then(|agent| match agent.placed.get(&task) {
                Some(true) => Some(true),
                _ => agent.placed.remove(&task),
            });
            if confirmed != Some(true) {
                self.requeue(task, out);
            }
        }
    }

    fn place(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.brake.engaged().is_some() {
            return;
        }
        let limit = self.settings.pacing.starting_per_agent.max(1);
        for desk in self.desks.values_mut() {
            let Some(executor) = desk.executor.as_ref().map(|info| info.executor_id.clone()) else {
                continue;
            };
            if desk.queue.is_empty() {
                continue;
            }
            let mut allowed = self.pace.allowed(now);
            if allowed == 0 {
                desk.paced = true;
                continue;
            }
            let (leaving, crowded) = (&self.leaving, &mut desk.crowded);
            let offers =
                desk.agents
                    .open(&executor, &self.settings.executor.resources, |id, agent| {
                        *crowded |= agent.starting >= limit;
                        agent.starting < limit && !leaving.contains(id, now)
                    });
            let (terms, policy) = (&self.settings.owners, self.settings.policy);
            let placed = desk.queue.place(&offers, &self.held, terms, policy, now);
            for Placed { task, entry, offer } in placed {
                let agent_id = offers[offer].agent.id();
                let Some(agent) = desk.agents.0.get_mut(agent_id) else {
                    continue;
                };
                let crowded = agent.starting + agent.placed.len() >= limit;
                if crowded || allowed == 0 {
                    desk.crowded |= crowded;
                    desk.paced |= allowed == 0;
                    desk.queue.add(task, entry);
                    continue;
                }
                allowed -= 1;
                self.pace.took();
                agent.placed.insert(task.clone(), false);
                let host = offers[offer].agent.hostname().to_owned();
                let resources = entry.shape.resources;
                let held = self
                    .held
                    .entry(entry.owner.clone())
                    .or_insert(Resources::ZERO);
                *held = held.plus(&resources);
                desk.agents.hold(agent_id, &resources);
                let payload = self.payloads.remove(&task).unwrap_or_default();
                let until = now.after(PLACEMENT_HOLD);
                let state = Task::placed(agent_id.to_owned(), entry, payload, until);
                self.tasks.insert(task.clone(), state);
                let agent = agent_id.to_owned();
                out.push(Output::Signal(task, News::Placed { agent, host }));
            }
        }
    }

    /// One ACCEPT for each agent whose placements are all confirmed.
    fn launch(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let refuse = self.settings.refuse.0 as f64 / 1000.0;
        for desk in self.desks.values_mut() {
            let Some(executor) = desk.executor.clone() else {
                continue;
            };
            for (id, agent) in &mut desk.agents.0 {
                if agent.placed.is_empty() || agent.placed.values().any(|confirmed| !confirmed) {
                    continue;
                }
                let offered_for = now.since(agent.offered_at);
                let mut launchables = Vec::new();
                for task in std::mem::take(&mut agent.placed).into_keys() {
                    let Some(state) = self.tasks.get_mut(&task) else {
                        continue;
                    };
                    if let Stage::Placed { payload, entry, .. } =
                        std::mem::replace(&mut state.stage, Stage::Launched)
                    {
                        state.launched_at = Some(now);
                        let waited = now.since(entry.since);
                        out.push(Output::Measured(Measured::RequestToLaunch(waited)));
                        out.push(Output::Measured(Measured::OfferToLaunch(offered_for)));
                        launchables.push(Launchable {
                            task,
                            resources: state.resources,
                            revocable: entry.revocable,
                            owner: state.owner.clone(),
                            payload,
                        });
                    }
                }
                let warm = agent.is_warm(&executor.executor_id);
                let (offers, resources) = agent.take_offers();
                let mut used = if warm {
                    Resources::ZERO
                } else {
                    self.settings.executor.resources
                };
                for it in &launchables {
                    used = used.plus(&it.resources.minus(&it.revocable));
                }
                agent.refuse(&resources, &used);
                out.push(Output::Measured(Measured::Held(offered_for)));
                self.stats.accepted += offers.len() as u64;
                self.stats.launched += launchables.len() as u64;
                self.starting += launchables.len();
                agent.starting += launchables.len();
                agent.warmed(&executor.executor_id);
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
                if !desk.queue.is_empty() {
                    desk.appetite.grow();
                }
            }
        }
    }

    /// Offers that nobody can use now are declined, when their [time](super::desk::Desk) has come.
    fn give_back(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let braked = self.brake.engaged().is_some();
        let mut declined: Vec<OfferId> = Vec::new();
        for desk in self.desks.values_mut() {
            if desk.queue.goes_on() {
                continue;
            }
            let waiting = !desk.queue.is_empty();
            let held_up = desk.is_held_up();
            let in_hand = desk.agents.0.iter();
            let in_hand = in_hand.filter(|(_, agent)| agent.is_idle());
            let due: Vec<(String, Declined)> = in_hand
                .filter_map(|(id, agent)| {
                    let reason = match () {
                        () if !waiting => Declined::Idle,
                        () if braked => Declined::Brake,
                        () if self.leaving.contains(id, now) => Declined::Leaving,
                        () if held_up => Declined::Paced,
                        () => Declined::Unfit,
                    };
                    let may_be_held = matches!(reason, Declined::Idle | Declined::Unfit);
                    let due = desk.give_back_at(agent, &self.settings);
                    (!may_be_held || due <= now).then(|| (id.clone(), reason))
                })
                .collect();
            for (id, reason) in due {
                let Some(agent) = desk.agents.0.get_mut(&id) else {
                    continue;
                };
                let held = now.since(agent.offered_at);
                let (offers, resources) = agent.take_offers();
                agent.refuse(&resources, &Resources::ZERO);
                if waiting {
                    desk.appetite.gave_back(offers.len());
                }
                self.stats.declined(reason, offers.len());
                out.push(Output::Measured(Measured::Held(held)));
                declined.extend(offers);
            }
        }
        if declined.is_empty() {
            return;
        }
        let filters = Some(Filters::refuse(self.settings.refuse.0 as f64 / 1000.0));
        out.push(Output::Call(Call::Decline(Decline {
            offer_ids: declined,
            filters,
        })));
    }
}
