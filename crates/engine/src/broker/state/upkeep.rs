//! What is asked, said and killed again, and when: reconciliation, appetite, constraints, the
//! brake, maintenance.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{self, Call, Reconcile, Roles};
use meson_mesos::types::AgentId;
use rand::RngExt;

use super::super::appetite::Wish;
use super::super::brake::Turn;
use super::super::constraints::Use;
use super::super::messages::AttemptState;
use super::desk::Desk;
use super::task::Stage;
use super::{Broker, News, Output};

/// Who has waited so long has seen the offers that there are; which others are of use is told
/// then.
const CONSTRAIN_AFTER: Duration = Duration::from_secs(2);

impl Broker {
    /// The earliest time at which [`settle`](Self::settle) has something to do by itself.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let tasks = self.tasks.values().filter_map(|task| match &task.stage {
            Stage::Placed { until, .. } => Some(*until),
            Stage::Launched if task.killing => task.next.map(|next| next.max(self.kills.next())),
            Stage::Launched => task.next,
        });
        let mut others: Vec<Option<Timestamp>> = vec![self.brake.release_at(&self.settings.brake)];
        for desk in self.desks.values() {
            if self.connected {
                let held = desk.agents.0.values().filter(|agent| agent.is_idle());
                let back = held.map(|agent| desk.give_back_at(agent, &self.settings));
                others.push(back.min());
                others.push(desk.appetite.next(self.settings.revive_every));
                others.push(desk.paced.then(|| self.pace.next()));
                // There are offers in hand and requests that were not looked at.
                others.push(desk.queue.goes_on().then_some(Timestamp(0)));
            }
        }
        if self.connected {
            others.push(self.questions.next_due());
            others.push(Some(self.next_implicit.min(self.next_explicit)));
            if self.settings.constrain_offers {
                let since = self.desks.values().filter_map(|desk| desk.waiting_since);
                let due = since.min().map(|since| since.after(CONSTRAIN_AFTER));
                others.push(due.map(|due| self.told.next().map_or(due, |next| next.max(due))));
            }
        }
        if let Some(before) = self.settings.vacate {
            // Those whose time has come were seen to.
            others.push(self.leaving.next(before, self.settled_at));
        }
        tasks.chain(others.into_iter().flatten()).min()
    }

    /// A time from now, a fifth more or less than `period`.
    pub(super) fn soon(&mut self, period: Duration, now: Timestamp) -> Timestamp {
        let spread = period.0 / 5;
        let jitter = self.chance.random_range(0..=spread.saturating_mul(2));
        now.after(Duration(period.0 - spread + jitter))
    }

    pub(super) fn turn_brake(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        self.settled_at = now;
        let (agents, tasks) = (self.agents_of_this_session(), &self.tasks);
        let turn = self.brake.turn(
            |task| tasks.contains_key(task),
            tasks.len(),
            agents,
            &self.settings.brake,
            now,
        );
        match turn {
            Some(Turn::Engaged) => {
                self.stats.brakes += 1;
                let reason = self.brake.engaged().map(|engaged| engaged.reason.clone());
                out.push(Output::Stopped(reason.unwrap_or_default()));
            }
            Some(Turn::Released) => self.go_on(out),
            None => {}
        }
    }

    /// The brake is released: offers are wanted again.
    pub(super) fn go_on(&mut self, out: &mut Vec<Output>) {
        for desk in self.desks.values_mut() {
            desk.appetite.insist();
        }
        out.push(Output::GoesOn);
    }

    /// Who had to wait because many were started may go on.
    pub(super) fn catch_breath(&mut self, now: Timestamp) {
        for desk in self.desks.values_mut() {
            desk.waiting_since = if desk.queue.is_empty() {
                None
            } else {
                desk.waiting_since.or(Some(now))
            };
            if desk.paced && self.pace.next() <= now && self.pace.allowed(now) > 0 {
                desk.paced = false;
                desk.appetite.grow();
            }
            if desk.queue.is_empty() {
                desk.paced = false;
                desk.crowded = false;
            }
        }
    }

    /// Tells which offers are of use: at once when somebody misses some, else now and then.
    pub(super) fn constrain(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if !self.settings.constrain_offers {
            return;
        }
        let (desks, told) = (&self.desks, &mut self.told);
        let harmed: BTreeSet<String> = desks
            .values()
            .filter(|desk| !told.covers(&desk.role, desk.queue.shapes()))
            .map(|desk| desk.role.clone())
            .collect();
        let mut say = self.told.relax(&harmed, now);
        let waited = |since: Timestamp| now.since(since) >= CONSTRAIN_AFTER;
        if !say
            && self.told.may_tighten(now)
            && self
                .desks
                .values()
                .any(|desk| desk.waiting_since.is_some_and(waited))
        {
            let wanted: BTreeMap<String, Use> = self
                .desks
                .iter()
                .filter(|(_, desk)| desk.waiting_since.is_some_and(waited))
                .map(|(role, desk)| (role.clone(), Use::of(desk.queue.shapes())))
                .collect();
            say = self.told.tighten(wanted, now);
        }
        if say {
            self.stats.constraints += 1;
            let suppressed = self.desks.values();
            let suppressed = suppressed.filter(|desk| desk.appetite.is_suppressed());
            let suppressed = suppressed.map(|desk| desk.role.clone()).collect();
            let call = self.told.call(suppressed);
            out.push(Output::Call(Call::UpdateFramework(call)));
            for role in harmed {
                if let Some(desk) = self.desks.get_mut(&role) {
                    // What was kept from us is not known.
                    desk.appetite.insist();
                }
            }
        }
    }

    /// SUPPRESS while nobody waits, REVIVE when somebody newly does.
    pub(super) fn appetite(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let (every, braked) = (self.settings.revive_every, self.brake.engaged().is_some());
        let alone = self.desks.len() == 1;
        for desk in self.desks.values_mut() {
            let wants = !desk.queue.is_empty() && !braked;
            let mut agents = desk.agents.0.values();
            let known = desk.agents.have_offered();
            let idle = known && agents.all(|agent| !agent.has_offers());
            let Desk {
                queue,
                agents,
                appetite,
                executor,
                ..
            } = desk;
            let hopeful = || {
                let Some(executor) = executor.as_ref().filter(|_| known) else {
                    // Nothing to go by.
                    return true;
                };
                let limit = self.settings.pacing.starting_per_agent.max(1);
                let overhead = &self.settings.executor.resources;
                let offers = agents.revivable(&executor.executor_id, overhead, |id, agent| {
                    agent.starting < limit && !self.leaving.contains(id, now)
                });
                let (terms, policy) = (&self.settings.owners, self.settings.policy);
                queue.would_place(&offers, &self.held, terms, policy, now)
            };
            let Some(wish) = appetite.wish(wants, idle, every, now, hopeful) else {
                continue;
            };
            if wish == Wish::Revive {
                agents.revived();
            }
            let roles = Roles {
                roles: if alone {
                    Vec::new()
                } else {
                    vec![desk.role.clone()]
                },
            };
            out.push(Output::Call(match wish {
                Wish::Revive => {
                    self.stats.revives += 1;
                    Call::Revive(roles)
                }
                Wish::Suppress => {
                    self.stats.suppressions += 1;
                    Call::Suppress(roles)
                }
            }));
        }
    }

    pub(super) fn ask_again(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if self.next_explicit <= now {
            self.next_explicit = self.soon(self.settings.explicit_every, now);
            self.ask_about_all(now);
            for desk in self.desks.values_mut() {
                desk.agents.sweep(now);
            }
        }
        let due = self.questions.due(now);
        if let Some(call) = due.call {
            self.stats.reconciles += 1;
            out.push(Output::Call(call));
        }
        for task in due.silent {
            // Nobody knows; what follows from that is the step's to say.
            let Some(known) = self.tasks.get_mut(&task) else {
                self.questions.settled(&task);
                continue;
            };
            let told = std::mem::replace(&mut known.away, true);
            let agent = known.agent.clone();
            self.questions.out_of_sight(task.clone(), agent, now);
            let news = News::State {
                agent: known.agent.clone(),
                uuid: None,
                state: AttemptState::Unreachable,
            };
            if known.claimed && !told {
                out.push(Output::Signal(task, news));
            }
        }
        if self.next_implicit <= now {
            self.next_implicit = self.soon(self.settings.implicit_every, now);
            self.stats.reconciles += 1;
            out.push(Output::Call(Call::Reconcile(Reconcile::default())));
        }
    }

    /// Tasks on agents that are about to be maintained are ended, if that is wanted.
    pub(super) fn vacate(&mut self, now: Timestamp) {
        let Some(before) = self.settings.vacate else {
            return;
        };
        let agents = self.leaving.to_vacate(before, now);
        if agents.is_empty() {
            return;
        }
        for task in self.tasks.values_mut() {
            let there = task.agent.as_deref();
            let there = there.is_some_and(|agent| agents.contains(&agent));
            if there && task.is_launched() && !task.killing {
                task.kill(now);
                task.moving = true;
            }
        }
    }

    /// Kills that did not end yet are said again; tasks that nobody claims are asked about.
    pub(super) fn chase(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let mut to_kill = Vec::new();
        for (task, state) in &mut self.tasks {
            if state.next.is_none_or(|next| next > now) {
                continue;
            }
            if state.killing {
                if !self.connected {
                    // Said as soon as somebody hears it.
                    state.next = None;
                    continue;
                }
                to_kill.push((state.next, task, state));
            } else if !state.claimed {
                state.next = Some(now.after(self.settings.orphan_grace));
                out.push(Output::AskWanted(task.clone()));
            } else {
                state.next = None;
            }
        }
        let room = self.kills.allowed(now);
        if to_kill.len() > room {
            // Those that have waited longest; the others follow.
            to_kill.sort_by_key(|(due, ..)| *due);
            to_kill.truncate(room);
        }
        for (_, task, state) in to_kill {
            self.kills.took();
            state.killed_once_more(now);
            out.push(Output::Call(Call::Kill(scheduler::Kill {
                task_id: meson_mesos::types::TaskId::new(task.to_string()),
                agent_id: state.agent.as_deref().map(AgentId::new),
                kill_policy: None,
            })));
        }
    }
}
