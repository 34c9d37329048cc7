//! What is said of an attempt's tasks, and what silence means.

use meson_core::run::{Input, Outcome, Seat};
use meson_core::sizing::Usage;

use super::super::phase::{Known, Phase, Then};
use super::super::result;
use super::super::words::Action;
use super::members::{self, End, Member};
use super::{StepState, acknowledgement, launched, platform};
use crate::broker::messages::{AttemptState, Update};

/// How often in a row it may be said, after a launch timeout, that the attempt was launched, by
/// somebody who knows no more than that: then its agent never heard of it.
pub(crate) const MAX_STAGED: u32 = 10;

impl StepState {
    pub(super) fn update(&mut self, update: Update, actions: &mut Vec<Action>) {
        if !self.may_run(&update, actions) {
            return;
        }
        let ack = acknowledgement(&update);
        let rank = update.task.rank;
        let Phase::Launched { members, told, .. } = &mut self.phase else {
            return;
        };
        let Some(member) = members.get_mut(rank as usize) else {
            return;
        };
        if let Some(end) = &mut member.end {
            // A repetition: it is acknowledged once the end of the attempt is committed. What
            // somebody else made up before wanted no answer.
            end.acknowledge = end.acknowledge.take().or(ack);
            return;
        }
        if let Some(agent) = update.agent.filter(|agent| !agent.is_empty()) {
            member.agent = agent;
        }
        match update.state {
            AttemptState::Launching if ack.is_none() => {
                member.known = member.known.staged();
                self.watch_awaited(actions);
            }
            AttemptState::Launching | AttemptState::Killing => {
                member.known = Known::Below;
                // It says nothing that is not durable already.
                actions.extend(ack);
                self.watch_awaited(actions);
            }
            AttemptState::Running { url } => {
                member.known = Known::Below;
                member.running = Some(url);
                self.report_running(ack, actions);
            }
            AttemptState::Unreachable if member.known == Known::Away => {
                // It is said again whenever somebody asks.
                actions.extend(ack);
            }
            AttemptState::Unreachable => {
                // Once it is back it is news that it runs.
                member.known = Known::Away;
                member.running = None;
                *told = None;
                let input = Input::Unreachable {
                    instance: self.instance.clone(),
                    attempt: self.attempt(),
                    reason: None,
                };
                self.report(input, Vec::from_iter(ack), Then::Nothing, actions);
            }
            AttemptState::Finished { data } if data.is_empty() && ack.is_none() => {
                // An answer to a reconciliation: outputs come only with the agent's own update,
                // which it repeats until it is acknowledged (MESOS.md 9, 15).
                member.known = Known::Below;
                if !std::mem::replace(&mut member.awaiting_result, true) {
                    actions.push(Action::AwaitResult { rank });
                }
            }
            AttemptState::Finished { data } => {
                let usage = result::usage(&data);
                self.member_ended(rank, result::finished(&data), usage, ack, actions);
            }
            AttemptState::Failed {
                class,
                message,
                data,
            } => {
                let usage = result::usage(&data);
                let outcome = result::failed(class, &message, &data);
                self.member_ended(rank, outcome, usage, ack, actions);
            }
            AttemptState::Killed => {
                let outcome = if self.is_unwanted() {
                    Outcome::Killed
                } else {
                    platform("it was killed, and not by its run")
                };
                self.member_ended(rank, outcome, None, ack, actions);
            }
        }
    }

    /// Whether an update can be of a task of ours: one that is not on record as placed may have
    /// been launched all the same, says whoever knows of it.
    fn may_run(&mut self, update: &Update, actions: &mut Vec<Action>) -> bool {
        match &mut self.phase {
            Phase::Launched { .. } => true,
            Phase::Placing { seats, .. } => {
                self.phase = launched(std::mem::take(seats));
                true
            }
            Phase::Asking { .. } if self.tasks <= 1 => {
                let agent = update.agent.clone().unwrap_or_default();
                let host = String::new();
                self.phase = launched(vec![Seat { agent, host }]);
                true
            }
            // Of a gang nobody can say where the others would be.
            Phase::Asking { .. } => {
                let outcome = match &update.state {
                    AttemptState::Failed {
                        class,
                        message,
                        data,
                    } => result::failed(*class, message, data),
                    _ => platform("one of its tasks was heard of before it had a place"),
                };
                actions.push(Action::Kill {
                    rank: 0,
                    agent: None,
                });
                actions.push(Action::Kill {
                    rank: update.task.rank,
                    agent: update.agent.clone(),
                });
                let ack = Vec::from_iter(acknowledgement(update));
                self.end(outcome, None, ack, actions);
                false
            }
            // A repetition: the commit under way acknowledges it.
            Phase::Ending | Phase::Over => false,
        }
    }

    /// Tells the run that it runs, once all of it does. An update that is not news is
    /// acknowledged at once.
    fn report_running(&mut self, ack: Option<Action>, actions: &mut Vec<Action>) {
        let Phase::Launched {
            members,
            told,
            lost,
        } = &mut self.phase
        else {
            return;
        };
        let up = members.iter().all(Member::is_up);
        let url = members.first().and_then(|first| first.running.clone()?);
        let news = up && (*lost || told.as_ref() != Some(&url));
        if !news {
            actions.extend(ack);
            return;
        }
        *lost = false;
        *told = Some(url.clone());
        let input = Input::Running {
            instance: self.instance.clone(),
            attempt: self.attempt(),
            url,
        };
        self.report(input, Vec::from_iter(ack), Then::Nothing, actions);
    }

    /// One of its tasks has ended. If that was the last, the attempt has; if it ended badly, the
    /// others end with it.
    pub(super) fn member_ended(
        &mut self,
        rank: u32,
        outcome: Outcome,
        usage: Option<Usage>,
        acknowledge: Option<Action>,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Launched { members, .. } = &mut self.phase else {
            return;
        };
        let nth = members.iter().filter(|member| member.has_ended()).count();
        let Some(member) = members.get_mut(rank as usize).filter(|m| !m.has_ended()) else {
            return;
        };
        member.end = Some(End {
            outcome,
            usage,
            acknowledge,
            nth,
        });
        if let Some((outcome, usage, acknowledge)) = members::verdict(members) {
            self.end(outcome, usage, acknowledge, actions);
        } else if !members::is_broken(members) {
            self.report_running(None, actions);
        } else if !self.is_unwanted() {
            self.falling = true;
            self.kill(actions);
        }
    }

    /// What one of its tasks used so far, unreliably told.
    pub(super) fn uses(&mut self, rank: u32, usage: Usage, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Ending => {}
            Phase::Launched { members, .. } => {
                if let Some(member) = members.get_mut(rank as usize) {
                    member.usage = Some(usage);
                    actions.extend(members::live_usage(members).map(Action::Usage));
                }
            }
            _ => actions.push(Action::Usage(usage)),
        }
    }

    pub(super) fn result_overdue(&mut self, rank: u32, actions: &mut Vec<Action>) {
        let Phase::Launched { members, .. } = &self.phase else {
            return;
        };
        let member = members.get(rank as usize);
        if member.is_some_and(|member| member.awaiting_result) {
            let outcome = platform("the task ended, but the update with its result never came");
            self.member_ended(rank, outcome, None, None, actions);
        }
    }

    pub(super) fn launch_overdue(&mut self, actions: &mut Vec<Action>) {
        let Phase::Launched { members, .. } = &mut self.phase else {
            return;
        };
        if !self.broker {
            // Nobody could have answered. The next broker starts the watch again.
            return;
        }
        let (mut again, mut given_up) = (false, Vec::new());
        for (rank, member) in (0..).zip(members).filter(|(_, member)| member.is_awaited()) {
            let staged = match member.known {
                Known::Staged { staged } | Known::Silence { staged } => staged,
                // Whoever has it says how it ends; what becomes of one out of sight, the run decides.
                Known::Below | Known::Away => continue,
            };
            member.known = Known::Silence { staged };
            let agent = member.agent.clone();
            if staged > MAX_STAGED {
                // It may run all the same; its fencing token is void from here on (D6).
                let agent = Some(agent);
                actions.push(Action::Kill { rank, agent });
                given_up.push(rank);
            } else {
                actions.push(Action::Adopt { rank, agent });
                again = true;
            }
        }
        for rank in given_up {
            let outcome = platform("it was launched, and its agent never heard of it");
            self.member_ended(rank, outcome, None, None, actions);
        }
        if again {
            self.watch_launch(actions);
        }
    }

    /// Whoever is not known to run yet is watched on.
    fn watch_awaited(&self, actions: &mut Vec<Action>) {
        if let Phase::Launched { members, .. } = &self.phase
            && members.iter().any(Member::is_awaited)
        {
            self.watch_launch(actions);
        }
    }
}
