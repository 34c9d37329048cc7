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

mod moves;

use std::collections::VecDeque;

use meson_core::ids::{Attempt, Instance, TaskId};
use meson_core::run::{Failure, FailureClass, Input, Outcome};
use meson_core::sizing::Usage;

use super::phase::{Known, Pending, Phase, Then};
use super::result;
use super::words::{Action, Event};
use crate::broker::messages::{AttemptState, Signal, Update};

/// How often in a row it may be said, after a launch timeout, that the attempt was launched, by
/// somebody who knows no more than that: then its agent never heard of it.
pub(crate) const MAX_STAGED: u32 = 10;

/// The state of one live attempt.
#[derive(Debug, Clone)]
pub(crate) struct StepState {
    task: TaskId,
    instance: Instance,
    pool: String,
    phase: Phase,
    pending: VecDeque<Pending>,
    broker: bool,
    killed: bool,
    /// It is about to go to another pool.
    moving: bool,
    awaiting_result: bool,
    /// What its end says that it used.
    usage: Option<Usage>,
}

impl StepState {
    /// An attempt that starts now in this pool or, with `launched_on`, was placed there before and is
    /// to be found.
    pub(crate) fn new(
        task: TaskId,
        instance: Instance,
        pool: String,
        launched_on: Option<String>,
    ) -> Self {
        let phase = match launched_on {
            None => Phase::Asking { reported: false },
            Some(agent) => Phase::Launched {
                agent,
                known: Known::Silence { staged: 0 },
                running: None,
                lost: false,
            },
        };
        Self {
            task,
            instance,
            pool,
            phase,
            pending: VecDeque::new(),
            broker: false,
            killed: false,
            moving: false,
            awaiting_result: false,
            usage: None,
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
        self.killed
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
                actions.extend(acknowledgement(&update).map(acknowledge));
            }
            return actions;
        }
        match event {
            Event::BrokerUp => self.broker_up(&mut actions),
            Event::BrokerGone => self.broker = false,
            Event::Signal(signal) => self.signal(signal, &mut actions),
            Event::Committed => self.committed(&mut actions),
            Event::LaunchOverdue => self.launch_overdue(&mut actions),
            Event::ResultOverdue => {
                if self.awaiting_result && !matches!(self.phase, Phase::Ending) {
                    self.end(
                        platform("the task ended, but the update with its result never came"),
                        None,
                        &mut actions,
                    );
                }
            }
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
            self.report(ended, None, Then::Over, &mut actions);
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
            Phase::Launched { agent, .. } => {
                actions.push(Action::Adopt {
                    agent: agent.clone(),
                });
                self.watch_launch(actions);
                if self.killed {
                    self.kill(actions);
                }
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
                        self.report(input, None, Then::Nothing, actions);
                    }
                }
            }
            // Another pool's placement was on its way when the attempt left; its hold ends.
            Signal::Placed { pool, .. } if pool != self.pool => {}
            Signal::Placed { agent, host, .. } => self.placed(agent, host, actions),
            Signal::Update(update) => self.update(*update, actions),
            Signal::Withdrawn { .. } => match self.phase {
                Phase::Ending | Phase::Over => {}
                _ if self.killed => self.end(Outcome::Killed, None, actions),
                // Nobody of us asked for it: the broker does not have it any more.
                Phase::Asking { .. } if self.broker && !self.moving => {
                    actions.push(Action::Enqueue);
                }
                _ => {}
            },
            Signal::Usage { usage, .. } => {
                if !matches!(self.phase, Phase::Ending) {
                    actions.push(Action::Usage(usage));
                }
            }
            Signal::Progress {
                percent,
                message,
                url,
                ..
            } => {
                if !matches!(self.phase, Phase::Ending) {
                    actions.push(Action::Progress {
                        percent,
                        message,
                        url,
                    });
                }
            }
        }
    }

    fn placed(&mut self, agent: String, host: String, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Asking { .. } if self.killed => self.kill(actions),
            // It is on record as leaving.
            Phase::Asking { .. } if self.moving => {}
            Phase::Asking { .. } => self.place(agent, host, actions),
            // The hold was over before the commit was: the offer is another one now, and the
            // run must know of it before anything is launched.
            Phase::Placing {
                agent: placing,
                superseded,
            } => {
                *superseded = (*placing != agent).then_some((agent, host));
            }
            // The broker did not get the confirmation in time, and offers a place once more.
            Phase::Launched {
                known: Known::Silence { .. },
                ..
            } => self.place(agent, host, actions),
            Phase::Launched { .. } | Phase::Ending | Phase::Over => {}
        }
    }

    fn place(&mut self, agent: String, host: String, actions: &mut Vec<Action>) {
        self.phase = Phase::Placing {
            agent: agent.clone(),
            superseded: None,
        };
        let input = Input::Launching {
            instance: self.instance.clone(),
            attempt: self.attempt(),
            pool: self.pool.clone(),
            agent,
            host,
        };
        self.report(input, None, Then::Placed, actions);
    }

    fn update(&mut self, update: Update, actions: &mut Vec<Action>) {
        let ack = acknowledgement(&update);
        if matches!(self.phase, Phase::Ending) {
            // A repetition: the commit under way acknowledges it.
            return;
        }
        let known = match &self.phase {
            Phase::Launched { agent, .. } | Phase::Placing { agent, .. } => agent.clone(),
            _ => String::new(),
        };
        let at = update
            .agent
            .clone()
            .filter(|agent| !agent.is_empty())
            .unwrap_or(known);
        let (was_running, was_lost) = match &self.phase {
            Phase::Launched { running, lost, .. } => (running.clone(), *lost),
            _ => (None, false),
        };
        let (instance, attempt) = (self.instance.clone(), self.attempt());
        let before = self.known();
        let mut launched = |known, running, lost| {
            self.phase = Phase::Launched {
                agent: at.clone(),
                known,
                running,
                lost,
            };
        };
        match update.state {
            AttemptState::Launching if ack.is_none() => {
                launched(before.staged(), was_running, was_lost);
                if !self.is_running() {
                    self.watch_launch(actions);
                }
            }
            AttemptState::Launching | AttemptState::Killing => {
                launched(Known::Below, was_running, was_lost);
                // It says nothing that is not durable already.
                actions.extend(ack.map(acknowledge));
                if !self.is_running() {
                    self.watch_launch(actions);
                }
            }
            AttemptState::Running { url } => {
                let news = was_lost || was_running.as_ref() != Some(&url);
                launched(Known::Below, Some(url.clone()), false);
                if news {
                    let input = Input::Running {
                        instance,
                        attempt,
                        url,
                    };
                    self.report(input, ack, Then::Nothing, actions);
                } else {
                    actions.extend(ack.map(acknowledge));
                }
            }
            AttemptState::Unreachable if before == Known::Away => {
                // It is said again whenever somebody asks.
                actions.extend(ack.map(acknowledge));
            }
            AttemptState::Unreachable => {
                // Once it is back it is news that it runs.
                launched(Known::Away, None, false);
                self.report(
                    Input::Unreachable {
                        instance,
                        attempt,
                        reason: None,
                    },
                    ack,
                    Then::Nothing,
                    actions,
                );
            }
            AttemptState::Finished { data } if data.is_empty() && ack.is_none() => {
                // An answer to a reconciliation: outputs come only with the agent's own update,
                // which it repeats until it is acknowledged (MESOS.md 9, 15).
                launched(Known::Below, was_running, was_lost);
                if !std::mem::replace(&mut self.awaiting_result, true) {
                    actions.push(Action::AwaitResult);
                }
            }
            AttemptState::Finished { data } => {
                self.usage = result::usage(&data);
                self.end(result::finished(&data), ack, actions);
            }
            AttemptState::Failed {
                class,
                message,
                data,
            } => {
                self.usage = result::usage(&data);
                self.end(result::failed(class, &message, &data), ack, actions);
            }
            AttemptState::Killed if self.killed => self.end(Outcome::Killed, ack, actions),
            AttemptState::Killed => {
                self.end(platform("it was killed, and not by its run"), ack, actions);
            }
        }
    }

    fn is_running(&self) -> bool {
        matches!(
            self.phase,
            Phase::Launched {
                running: Some(_),
                ..
            }
        )
    }

    fn committed(&mut self, actions: &mut Vec<Action>) {
        let Some(done) = self.pending.pop_front() else {
            return;
        };
        actions.extend(done.acknowledge.map(acknowledge));
        match done.then {
            Then::Nothing => {}
            Then::Placed => {
                let Phase::Placing { agent, superseded } = &mut self.phase else {
                    return;
                };
                if let Some((agent, host)) = superseded.take() {
                    if self.killed {
                        self.kill(actions);
                    } else {
                        self.place(agent, host, actions);
                    }
                    return;
                }
                let agent = std::mem::take(agent);
                self.phase = Phase::Launched {
                    agent,
                    known: Known::Silence { staged: 0 },
                    running: None,
                    lost: false,
                };
                if self.killed {
                    self.kill(actions);
                } else {
                    if self.broker {
                        actions.push(Action::Confirm);
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

    fn launch_overdue(&mut self, actions: &mut Vec<Action>) {
        let Phase::Launched {
            agent,
            known,
            running: None,
            ..
        } = &mut self.phase
        else {
            return;
        };
        if !self.broker {
            // Nobody could have answered. The next broker starts the watch again.
            return;
        }
        let agent = agent.clone();
        let staged = match known {
            Known::Staged { staged } | Known::Silence { staged } => *staged,
            // Whoever has it says how it ends; what becomes of one out of sight, the run decides.
            Known::Below | Known::Away => return,
        };
        *known = Known::Silence { staged };
        if staged > MAX_STAGED {
            // It may run all the same; its fencing token is void from here on (D6).
            actions.push(Action::Kill { agent: Some(agent) });
            self.end(
                platform("it was launched, and its agent never heard of it"),
                None,
                actions,
            );
        } else {
            actions.push(Action::Adopt { agent });
            self.watch_launch(actions);
        }
    }

    fn known(&self) -> Known {
        match &self.phase {
            Phase::Launched { known, .. } => *known,
            _ => Known::Silence { staged: 0 },
        }
    }

    fn watch_launch(&self, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Launched { .. }) {
            actions.push(Action::WatchLaunch);
        }
    }

    /// Asks for its end, again and again until it has ended.
    fn kill(&mut self, actions: &mut Vec<Action>) {
        if !self.killed {
            return;
        }
        match &self.phase {
            // No broker has it: the queue it was in, if any, died with its broker.
            Phase::Asking { .. } if !self.broker => self.end(Outcome::Killed, None, actions),
            Phase::Asking { .. } => {
                actions.push(Action::Kill { agent: None });
                actions.push(Action::WatchKill);
            }
            // Decided once the commit is done; until then nothing is launched.
            Phase::Placing { .. } if self.pending.iter().any(|p| p.then == Then::Placed) => {}
            Phase::Placing { agent, .. } | Phase::Launched { agent, .. } => {
                if self.broker {
                    actions.push(Action::Kill {
                        agent: Some(agent.clone()),
                    });
                }
                actions.push(Action::WatchKill);
            }
            Phase::Ending | Phase::Over => {}
        }
    }

    fn end(
        &mut self,
        outcome: Outcome,
        acknowledge: Option<(String, Vec<u8>)>,
        actions: &mut Vec<Action>,
    ) {
        self.phase = Phase::Ending;
        let input = Input::Ended {
            instance: self.instance.clone(),
            attempt: self.attempt(),
            outcome,
            usage: self.usage.take(),
        };
        self.report(input, acknowledge, Then::Over, actions);
    }

    fn report(
        &mut self,
        input: Input,
        acknowledge: Option<(String, Vec<u8>)>,
        then: Then,
        actions: &mut Vec<Action>,
    ) {
        self.pending.push_back(Pending { acknowledge, then });
        actions.push(Action::Report(input));
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
fn acknowledgement(update: &Update) -> Option<(String, Vec<u8>)> {
    Some((update.agent.clone()?, update.uuid.clone()?))
}

fn acknowledge((agent, uuid): (String, Vec<u8>)) -> Action {
    Action::Acknowledge { agent, uuid }
}
