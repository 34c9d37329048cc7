//! What follows from a burst of inputs: who is placed, what is launched, what is given back.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_core::run::Seat;
use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{Call, Decline};
use meson_mesos::types::{Filters, OfferId};

use super::super::agents::{Agents, Place};
use super::super::launch::{self, Launchable};
use super::super::queue::{Entry, OfferSeat, Placed};
use super::super::stats::{Declined, Measured};
use super::gang::{self, indescribable, is_confirmed, payloads};
use super::task::{Stage, Task};
use super::{Broker, Output};

/// An agent that is about to be maintained is offered again so soon: nobody tells that its
/// maintenance was called off but its next offer.
const REFUSE_LEAVING: Duration = Duration::from_secs(15);

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
        let mut expired = false;
        for task in late {
            let Some(known) = self.tasks.get(&task) else {
                continue;
            };
            let desk = self.desks.get(self.settings.role_of(&known.owner));
            if !desk.is_some_and(|desk| is_confirmed(&self.tasks, &desk.agents, &task)) {
                expired = true;
                self.requeue(task, out);
            }
        }
        if expired {
            self.patience.expired();
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
            for Placed { task, entry, seats } in placed {
                let agent_of = |seat: &OfferSeat| &offers[seat.offer].agent;
                // A gang that finds room to start may take more of it than is left: it cannot
                // begin in parts.
                let crowded = seats.iter().any(|seat| {
                    let agent = desk.agents.0.get(agent_of(seat).id());
                    agent.is_none_or(|agent| agent.starting + agent.placed.len() >= limit)
                });
                if crowded || allowed == 0 {
                    desk.crowded |= crowded;
                    desk.paced |= allowed == 0;
                    desk.queue.add(task, entry);
                    continue;
                }
                let of_core = |seat| Seat {
                    agent: agent_of(seat).id().to_owned(),
                    host: agent_of(seat).hostname().to_owned(),
                };
                let places: Vec<Seat> = seats.iter().map(of_core).collect();
                let hosts: Vec<String> = places.iter().map(|place| place.host.clone()).collect();
                let ports = desk.agents.ports(
                    places.iter().map(|place| place.agent.as_str()),
                    entry.shape.resources.ports,
                    &mut self.chance,
                );
                let payload = self.payloads.remove(&task).unwrap_or_default();
                let payloads = match payloads(payload, &hosts, &ports) {
                    Ok(payloads) => payloads,
                    Err(error) => {
                        for rank in 0..entry.shape.gang.tasks {
                            desk.queue.released(&task.member(rank));
                        }
                        out.push(indescribable(task, &error));
                        continue;
                    }
                };
                let resources = entry.shape.resources;
                let held = self
                    .held
                    .entry(entry.owner.clone())
                    .or_insert(Resources::ZERO);
                *held = held.plus(&resources.times(entry.shape.gang.tasks));
                let until = now.after(self.patience.hold());
                let ranks = (0..).zip(&places).zip(seats).zip(payloads).zip(ports);
                for ((((rank, place), seat), payload), ports) in ranks {
                    allowed = allowed.saturating_sub(1);
                    self.pace.took();
                    let member = task.member(rank);
                    if let Some(agent) = desk.agents.0.get_mut(&place.agent) {
                        let confirmed = false;
                        agent
                            .placed
                            .insert(member.clone(), Place { confirmed, ports });
                    }
                    desk.agents.hold(&place.agent, &resources);
                    let entry = Entry {
                        revocable: seat.revocable,
                        ..entry.clone()
                    };
                    let state = Task::placed(place.agent.clone(), entry, payload, now, until);
                    self.tasks.insert(member, state);
                }
                out.extend(gang::placed(&task, places));
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
            let ready = ready(&self.tasks, &desk.agents);
            for (id, agent) in &mut desk.agents.0 {
                if !ready.contains(id) {
                    continue;
                }
                let offered_for = now.since(agent.offered_at);
                let mut launchables = Vec::new();
                for (task, place) in std::mem::take(&mut agent.placed) {
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
                            ports: place.ports,
                            owner: state.owner.clone(),
                            payload,
                        });
                    }
                }
                let running = agent.running(&executor).cloned();
                let (offers, resources) = agent.take_offers();
                let mut used = match running {
                    Some(_) => Resources::ZERO,
                    None => self.settings.executor.resources,
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
                let mut offered = launch::in_one(resources, &desk.role);
                let running =
                    running.unwrap_or_else(|| launch::start_executor(&executor, &mut offered));
                agent.warmed(&running, &executor);
                out.push(Output::Call(launch::accept(
                    id,
                    offers,
                    offered,
                    &running,
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
        let mut leaving: Vec<OfferId> = Vec::new();
        for desk in self.desks.values_mut() {
            if desk.queue.goes_on() {
                continue;
            }
            let waiting = !desk.queue.is_empty();
            let held_up = desk.is_held_up();
            let in_hand = desk.agents.0.iter();
            let in_hand = in_hand.filter(|(_, agent)| agent.is_idle());
            // Why nobody can use an offer is asked of those that are given back alone.
            let due: Vec<(String, Option<Declined>)> = in_hand
                .filter_map(|(id, agent)| {
                    let reason = match () {
                        () if !waiting => Some(Declined::Idle),
                        () if braked => Some(Declined::Brake),
                        () if self.leaving.contains(id, now) => Some(Declined::Leaving),
                        () if held_up => Some(Declined::Paced),
                        () => None,
                    };
                    let may_be_held = matches!(reason, Some(Declined::Idle) | None);
                    let due = desk.give_back_at(agent, &self.settings);
                    (!may_be_held || due <= now).then(|| (id.clone(), reason))
                })
                .collect();
            for (id, reason) in due {
                let reason = reason.unwrap_or_else(|| desk.queue.refusal(&id));
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
                match reason {
                    Declined::Leaving => leaving.extend(offers),
                    _ => declined.extend(offers),
                }
            }
        }
        let refuse = self.settings.refuse;
        for (offer_ids, refuse) in [(declined, refuse), (leaving, refuse.min(REFUSE_LEAVING))] {
            if !offer_ids.is_empty() {
                let filters = Some(Filters::refuse(refuse.0 as f64 / 1000.0));
                out.push(Output::Call(Call::Decline(Decline { offer_ids, filters })));
            }
        }
    }
}

/// Agents on which there are placements, all of them confirmed.
fn ready(tasks: &BTreeMap<TaskId, Task>, agents: &Agents) -> BTreeSet<String> {
    let with_places = agents
        .0
        .iter()
        .filter(|(_, agent)| !agent.placed.is_empty());
    let all_confirmed = with_places.filter(|(_, agent)| {
        // Those of one attempt stand next to each other, and go together.
        let mut before: Option<&TaskId> = None;
        agent.placed.iter().all(|(task, place)| {
            let alike = before.is_some_and(|before| before.is_mate_of(task));
            before = Some(task);
            place.confirmed && (alike || is_confirmed(tasks, agents, task))
        })
    });
    all_confirmed.map(|(id, _)| id.clone()).collect()
}
