//! What a step actor decides, as plain values: no clock, no mailbox, no broker.
//!
//! ```text
//!            ┌──────── placement lost, another one offered ────────┐
//!            ▼                                                      │
//!   Asking ──► Placing ── committed ──► Launched ── terminal update ──► Ending ── committed ──► Over
//!     │  (Placed)        (Confirm)     (Adopt, if found so)            (Ended)                (Stop)
//!     ├── kill: Withdrawn, or nobody has it ────────────────────────────►┘
//!     └── the pool is lost: Spilled, committed, Asking another one (Move)
//! ```
//!
//! Two rules hold throughout. Whatever is reported to the run is acknowledged to the broker only
//! after the run committed it (MESOS.md 9). And an attempt that was ever reported as placed is
//! never enqueued again, only adopted, in the pool where it was placed: at most one process per
//! attempt.
//!
//! An attempt has one task or, if its step asks for a gang, several [`members`]: placed together or
//! not at all, on record together before the first is launched, and ended together. One that ends
//! badly takes the others with it, and the attempt ends when the last of them has.

mod members;
mod moves;
mod updates;

use std::collections::VecDeque;

use meson_core::ids::{Attempt, Instance, TaskId};
use meson_core::run::{Failure, FailureClass, Input, Outcome, Seat};
use meson_core::sizing::Usage;

use super::phase::{Pending, Phase, Then};
use super::words::{Action, Event};
use crate::broker::messages::{Signal, Update};

pub(super) use self::members::Member;
#[cfg(test)]
pub(super) use self::updates::MAX_STAGED;

/// The state of one live attempt.
#[derive(Debug, Clone)]
pub(crate) struct StepState {
    task: TaskId,
    instance: Instance,
    pool: String,
    /// How many tasks it has.
    tasks: u32,
    phase: Phase,
    pending: VecDeque<Pending>,
    broker: bool,
    killed: bool,
    /// One of its tasks ended badly: the others are ended.
    falling: bool,
    /// It is about to go to another pool.
    moving: bool,
}

impl StepState {
    /// An attempt of so many tasks that starts now in this pool or, with seats, was placed there
    /// before and is to be found.
    pub(crate) fn new(
        task: TaskId,
        instance: Instance,
        pool: String,
        tasks: u32,
        launched_on: Vec<Seat>,
    ) -> Self {
        let phase = if launched_on.is_empty() {
            Phase::Asking { reported: false }
        } else {
            launched(launched_on)
        };
        Self {
            task,
            instance,
            pool,
            tasks,
            phase,
            pending: VecDeque::new(),
            broker: false,
            killed: false,
            falling: false,
            moving: false,
        }
    }

    /// The attempt is not wanted: it is ended as soon as a broker can be asked to.
    pub(crate) fn mark_unwanted(&mut self) {
        self.killed = true;
    }

    /// The attempt.
    pub(crate) fn task(&self) -> &TaskId {
        &self.task
    }

    /// Whether it is to end.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.killed || self.falling
    }

    /// Whether it waits for a place.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Asking { .. })
    }

    /// Whether it is to be asked of the broker.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        self.is_waiting() && !self.moving
    }

    fn attempt(&self) -> Attempt {
        self.task.attempt
    }

    /// What follows from `event`.
    pub(crate) fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Over {
            // A terminal update that comes once more, because its acknowledgement was lost.
            if let Event::Signal(Signal::Update(update)) = event {
                actions.extend(acknowledgement(&update));
            }
            return actions;
        }
        match event {
            Event::BrokerUp => self.broker_up(&mut actions),
            Event::BrokerGone => self.broker = false,
            Event::Signal(signal) => self.signal(signal, &mut actions),
            Event::Committed => self.committed(&mut actions),
            Event::LaunchOverdue => self.launch_overdue(&mut actions),
            Event::ResultOverdue { rank } => self.result_overdue(rank, &mut actions),
            Event::PoolLost { to, reason } => self.pool_lost(to, reason, &mut actions),
            Event::Kill => {
                if !self.killed {
                    self.killed = true;
                    self.kill(&mut actions);
                }
            }
            Event::KillOverdue => self.kill(&mut actions),
        }
        actions
    }

    /// The attempt cannot even be described: it ends with this report instead.
    pub(crate) fn give_up(&mut self, ended: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_waiting() {
            self.phase = Phase::Ending;
            self.report(ended, Vec::new(), Then::Over, &mut actions);
        }
        actions
    }

    fn broker_up(&mut self, actions: &mut Vec<Action>) {
        self.broker = true;
        match &self.phase {
            Phase::Asking { .. } if self.killed => self.kill(actions),
            Phase::Asking { .. } if self.moving => {}
            Phase::Asking { .. } => actions.push(Action::Enqueue),
            // The placement dies with the broker that held the offer, and so far it is only
            // being made durable: once it is, the new broker finds out that it never ran.
            Phase::Placing { .. } | Phase::Ending | Phase::Over => {}
            Phase::Launched { members, .. } => {
                for (rank, member) in (0..).zip(members).filter(|(_, member)| !member.has_ended()) {
                    let agent = member.agent.clone();
                    actions.push(Action::Adopt { rank, agent });
                }
                self.watch_launch(actions);
                self.kill(actions);
            }
        }
    }

    fn signal(&mut self, signal: Signal, actions: &mut Vec<Action>) {
        match signal {
            Signal::Queued { .. } => {
                if let Phase::Asking { reported } = &mut self.phase {
                    if self.killed {
                        self.kill(actions);
                    } else if !std::mem::replace(reported, true) {
                        let input = Input::Requested {
                            instance: self.instance.clone(),
                            attempt: self.attempt(),
                        };
                        self.report(input, Vec::new(), Then::Nothing, actions);
                    }
                }
            }
            // Another pool's placement was on its way when the attempt left; its hold ends.
            Signal::Placed { pool, .. } if pool != self.pool => {}
            Signal::Placed {
                agent, host, mates, ..
            } => {
                let mut seats = vec![Seat { agent, host }];
                seats.extend(mates);
                self.placed(seats, actions);
            }
            Signal::Update(update) => self.update(*update, actions),
            Signal::Withdrawn { task } => match &self.phase {
                Phase::Ending | Phase::Over => {}
                // It was placed, and never launched.
                Phase::Launched { .. } if self.is_unwanted() => {
                    self.member_ended(task.rank, Outcome::Killed, None, None, actions);
                }
                Phase::Asking { .. } | Phase::Placing { .. } if self.killed => {
                    self.end(Outcome::Killed, None, Vec::new(), actions);
                }
                // Nobody of us asked for it: the broker does not have it any more.
                Phase::Asking { .. } if self.broker && !self.moving => {
                    actions.push(Action::Enqueue);
                }
                _ => {}
            },
            Signal::Usage { task, usage } => self.uses(task.rank, usage, actions),
            Signal::Progress {
                task,
                percent,
                message,
                url,
            } => {
                // Of a gang, the first one speaks.
                if !matches!(self.phase, Phase::Ending) && task.rank == 0 {
                    actions.push(Action::Progress {
                        percent,
                        message,
                        url,
                    });
                }
            }
        }
    }

    fn placed(&mut self, seats: Vec<Seat>, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Asking { .. } if self.killed => self.kill(actions),
            // It is on record as leaving.
            Phase::Asking { .. } if self.moving => {}
            Phase::Asking { .. } => self.place(seats, actions),
            // The hold was over before the commit was: the offer is another one now, and the
            // run must know of it before anything is launched.
            Phase::Placing {
                seats: placing,
                superseded,
            } => {
                *superseded = (*placing != seats).then_some(seats);
            }
            // The broker did not get the confirmation in time, and offers a place once more.
            Phase::Launched { members, .. }
                if members.iter().all(Member::was_never_heard_of) && !self.falling =>
            {
                self.place(seats, actions);
            }
            Phase::Launched { .. } | Phase::Ending | Phase::Over => {}
        }
    }

    fn place(&mut self, seats: Vec<Seat>, actions: &mut Vec<Action>) {
        self.phase = Phase::Placing {
            seats: seats.clone(),
            superseded: None,
        };
        let mut seats = seats.into_iter();
        let Seat { agent, host } = seats.next().unwrap_or_default();
        let input = Input::Launching {
            instance: self.instance.clone(),
            attempt: self.attempt(),
            pool: self.pool.clone(),
            agent,
            host,
            mates: seats.collect(),
        };
        self.report(input, Vec::new(), Then::Placed, actions);
    }

    fn committed(&mut self, actions: &mut Vec<Action>) {
        let Some(done) = self.pending.pop_front() else {
            return;
        };
        actions.extend(done.acknowledge);
        match done.then {
            Then::Nothing => {}
            Then::Placed => {
                let Phase::Placing { seats, superseded } = &mut self.phase else {
                    return;
                };
                if let Some(seats) = superseded.take() {
                    if self.killed {
                        self.kill(actions);
                    } else {
                        self.place(seats, actions);
                    }
                    return;
                }
                let agents = seats.iter().map(|seat| seat.agent.clone()).collect();
                self.phase = launched(std::mem::take(seats));
                if self.killed {
                    self.kill(actions);
                } else {
                    if self.broker {
                        actions.push(Action::Confirm { agents });
                    }
                    self.watch_launch(actions);
                }
            }
            Then::Moved(pool) => self.moved(pool, actions),
            Then::Over => {
                self.phase = Phase::Over;
                actions.push(Action::Stop);
            }
        }
    }

    fn watch_launch(&self, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Launched { .. }) {
            actions.push(Action::WatchLaunch);
        }
    }

    /// Asks for its end, or for that of what is left of it, again and again until it has ended.
    fn kill(&mut self, actions: &mut Vec<Action>) {
        if !self.is_unwanted() {
            return;
        }
        let left: Vec<(u32, String)> = match &self.phase {
            // No broker has it: the queue it was in, if any, died with its broker.
            Phase::Asking { .. } if !self.broker => {
                return self.end(Outcome::Killed, None, Vec::new(), actions);
            }
            Phase::Asking { .. } => {
                actions.push(Action::Kill {
                    rank: 0,
                    agent: None,
                });
                actions.push(Action::WatchKill);
                return;
            }
            // Decided once the commit is done; until then nothing is launched.
            Phase::Placing { .. } if self.pending.iter().any(|p| p.then == Then::Placed) => return,
            Phase::Placing { seats, .. } => {
                let seats = (0..).zip(seats);
                seats
                    .map(|(rank, seat)| (rank, seat.agent.clone()))
                    .collect()
            }
            Phase::Launched { members, .. } => (0..)
                .zip(members)
                .filter(|(_, member)| !member.has_ended())
                .map(|(rank, member)| (rank, member.agent.clone()))
                .collect(),
            Phase::Ending | Phase::Over => return,
        };
        if self.broker {
            let kills = left.into_iter().map(|(rank, agent)| Action::Kill {
                rank,
                agent: Some(agent),
            });
            actions.extend(kills);
        }
        actions.push(Action::WatchKill);
    }

    fn end(
        &mut self,
        outcome: Outcome,
        usage: Option<Usage>,
        acknowledge: Vec<Action>,
        actions: &mut Vec<Action>,
    ) {
        self.phase = Phase::Ending;
        let input = Input::Ended {
            instance: self.instance.clone(),
            attempt: self.attempt(),
            outcome,
            usage,
        };
        self.report(input, acknowledge, Then::Over, actions);
    }

    fn report(
        &mut self,
        input: Input,
        acknowledge: Vec<Action>,
        then: Then,
        actions: &mut Vec<Action>,
    ) {
        self.pending.push_back(Pending { acknowledge, then });
        actions.push(Action::Report(input));
    }
}

fn launched(seats: Vec<Seat>) -> Phase {
    Phase::Launched {
        members: seats.into_iter().map(Member::on).collect(),
        told: None,
        lost: false,
    }
}

fn platform(message: &str) -> Outcome {
    Outcome::Failed(Failure {
        class: FailureClass::Platform,
        message: message.to_owned(),
        retryable: true,
    })
}

/// What an update has to be acknowledged with, if it wants to be.
fn acknowledgement(update: &Update) -> Option<Action> {
    Some(Action::Acknowledge {
        rank: update.task.rank,
        agent: update.agent.clone()?,
        uuid: update.uuid.clone()?,
    })
}
