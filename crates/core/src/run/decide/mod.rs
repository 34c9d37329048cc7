//! Decides what an input means for a run.
//!
//! ```text
//!   input ─► attempt | control ─► tasks: enter this, that ended ─► sequence, parallel, for_each, when, repeat, step ─► events
//! ```
//!
//! A transition works off a queue of [`Task`]s, so however long the chain of things that end
//! and begin at once, nothing recurses. Every event is applied to an overlay as it is emitted.

mod attempt;
mod backoff;
mod control;
mod flow;
mod for_each;
mod outputs;
mod repeat;
mod sizing;
mod step;

use std::collections::VecDeque;

use super::apply::apply;
use super::event::Event;
use super::input::Input;
use super::limits;
use super::plan::Plan;
use super::record::{FlowEnd, GroupRecord, Place, RunState, StepRecord};
use super::records::{Overlay, Records};
use super::state::{self, State};
use crate::ids::{Attempt, Instance};
use crate::units::Timestamp;

pub use backoff::back_off;

/// An input that is refused: it changes nothing and nothing is to be committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The records are those of no run.
    #[error("there is no such run here")]
    NoRun,
    /// The run ended.
    #[error("cannot cancel the run: it {}", ended(*state))]
    Ended {
        /// How.
        state: RunState,
    },
    /// Only an ended run can be retried.
    #[error("cannot retry the run: it is still running; cancel it first, or wait for its end")]
    StillRunning,
    /// Everything is done.
    #[error(
        "cannot retry the run: it succeeded; say from which step it is to run again (--from STEP)"
    )]
    NothingToRetry,
    /// No step has this node.
    #[error("cannot retry from node {node}: it is no step of this workflow")]
    NoSuchStep {
        /// Its number.
        node: u32,
    },
    /// Nothing is known of this attempt.
    #[error("nothing is known of attempt {} of node {} at {}", attempt.0, instance.node.0, instance.path)]
    Unknown {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
    },
}

fn ended(state: RunState) -> &'static str {
    match state {
        RunState::Running => "is about to end",
        RunState::Succeeded => "succeeded already",
        RunState::Failed => "failed already",
        RunState::Cancelled => "is cancelled already",
    }
}

/// How something ended: well, or why not.
type End = Result<(), Box<str>>;

/// A part of a transition.
#[derive(Debug)]
enum Task {
    /// Begin this.
    Enter(Instance),
    /// This ended: tell what it is a part of.
    Ended(Instance, End),
}

/// A transition in the making.
struct Transition<'a> {
    plan: &'a Plan,
    records: Overlay<'a>,
    events: Vec<Event>,
    ahead: VecDeque<Task>,
    now: Timestamp,
    /// Iterations that may still be started.
    starts: u32,
    /// Iterations that may still be looked at.
    looks: u32,
}

/// What `input` means for the run, now. Deterministic; reads records and changes none.
pub fn decide(
    plan: &Plan,
    records: &dyn Records,
    input: &Input,
    now: Timestamp,
) -> Result<Vec<Event>, Rejected> {
    let mut transition = Transition {
        plan,
        records: Overlay::new(records),
        events: Vec::new(),
        ahead: VecDeque::new(),
        now,
        starts: limits::STARTS,
        looks: limits::LOOKS,
    };
    transition.input(input)?;
    Ok(transition.events)
}

impl Transition<'_> {
    fn input(&mut self, input: &Input) -> Result<(), Rejected> {
        let status = state::status(&self.records)
            .ok_or(Rejected::NoRun)?
            .into_owned();
        match input {
            Input::Start => self.start(&status),
            Input::Continue if status.started_at.is_none() => self.start(&status),
            Input::Continue => self.proceed(&status),
            Input::Cancel { reason } => self.cancel(&status, reason)?,
            Input::Retry { from } => self.retry(&status, *from)?,
            Input::ArtifactsLookedUp { instance, found } => {
                self.check(instance, Attempt(0))?;
                self.artifacts_looked_up(instance, found.as_ref());
            }
            Input::Requested { instance, attempt } => self.requested(instance, *attempt)?,
            Input::Spilled {
                instance,
                attempt,
                from,
                to,
                reason,
            } => self.spilled(instance, *attempt, [from, to], reason)?,
            Input::Launching {
                instance,
                attempt,
                pool,
                agent,
                host,
                mates,
            } => {
                let place = Place {
                    pool: pool.clone(),
                    agent: agent.clone(),
                    host: host.clone(),
                    url: None,
                    mates: mates.clone(),
                };
                self.launching(instance, *attempt, place)?;
            }
            Input::Running {
                instance,
                attempt,
                url,
            } => self.running(instance, *attempt, url.as_ref())?,
            Input::Unreachable {
                instance,
                attempt,
                reason,
            } => self.unreachable(instance, *attempt, reason.as_deref())?,
            Input::Ended {
                instance,
                attempt,
                outcome,
                usage,
            } => self.attempt_ended(instance, *attempt, outcome, usage.as_ref())?,
            Input::Timer { instance, attempt } => {
                self.check(instance, *attempt)?;
                self.timer(instance, *attempt);
            }
        }
        self.work();
        self.maybe_end();
        Ok(())
    }

    /// Refuses an instance that the definition does not have.
    fn check(&self, instance: &Instance, attempt: Attempt) -> Result<(), Rejected> {
        if self.plan.fits(instance) && self.plan.step(instance.node).is_some() {
            Ok(())
        } else {
            Err(Rejected::Unknown {
                instance: instance.clone(),
                attempt,
            })
        }
    }

    fn work(&mut self) {
        while let Some(task) = self.ahead.pop_front() {
            match task {
                Task::Enter(instance) => self.enter(instance),
                Task::Ended(instance, end) => self.ended(&instance, end),
            }
        }
    }

    fn emit(&mut self, event: Event) {
        apply(&mut self.records, &event);
        self.events.push(event);
    }

    fn state(&self) -> State<'_> {
        State::new(self.plan, &self.records)
    }

    fn step_record(&self, instance: &Instance) -> Option<StepRecord> {
        state::step(&self.records, instance).map(std::borrow::Cow::into_owned)
    }

    fn group_record(&self, instance: &Instance) -> Option<GroupRecord> {
        self.state()
            .current_group(instance)
            .map(std::borrow::Cow::into_owned)
    }

    /// Ends the run once nothing goes on that keeps it.
    fn maybe_end(&mut self) {
        let status = match state::status(&self.records) {
            Some(status) if status.state == RunState::Running && status.live == 0 => {
                status.into_owned()
            }
            _ => return,
        };
        let (state, error) = match (status.cancelling, status.flow) {
            (Some(reason), _) => (RunState::Cancelled, Some(reason)),
            (None, Some(FlowEnd::Succeeded)) => (RunState::Succeeded, None),
            (None, Some(FlowEnd::Failed(error))) => (RunState::Failed, Some(error)),
            (None, None) => return,
        };
        self.emit(Event::RunEnded {
            state,
            error,
            at: self.now,
        });
    }
}

/// At most `bytes` bytes of `text`, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
