//! A step from its entry to its end: artifacts looked up, attempts started, ended for good.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Task, Transition, cut, outputs};
use crate::definition::Step;
use crate::ids::{Attempt, Instance};
use crate::run::event::Event;
use crate::run::input::{Failure, FailureClass};
use crate::run::launch::produced;
use crate::run::limits;
use crate::run::record::{KillReason, Phase, StepState};
use crate::run::state::header;

/// Longest part of a failure's message that is handed upwards, in bytes.
const CAUSE_BYTES: usize = 300;

impl Transition<'_> {
    pub(super) fn enter_step(&mut self, instance: Instance, step: &Step) {
        if self
            .step_record(&instance)
            .is_some_and(|record| record.generation == self.state().generation())
        {
            return;
        }
        let force = header(&self.records).is_some_and(|header| header.force);
        if step.produces.is_empty() || force {
            return self.start_attempt(instance);
        }
        match produced(self.plan, &self.records, &instance, step) {
            Ok(_) => self.emit(Event::StepReady {
                instance,
                at: self.now,
            }),
            Err(error) => {
                let failure = Failure {
                    class: FailureClass::Step,
                    message: error.to_string(),
                    retryable: false,
                };
                self.end_step(&instance, StepState::Failed, Some(failure), BTreeMap::new());
            }
        }
    }

    pub(super) fn start_attempt(&mut self, instance: Instance) {
        let newest = self
            .step_record(&instance)
            .map_or(0, |record| record.attempt.0);
        let attempt = Attempt(newest.saturating_add(1));
        // By what is known before the attempt takes the place of the one before.
        let asked = self.asked(&instance);
        self.emit(Event::AttemptStarted {
            instance: instance.clone(),
            attempt,
            at: self.now,
        });
        if let Some(asked) = asked {
            self.emit(Event::AttemptSized {
                instance,
                attempt,
                asked,
            });
        }
    }

    pub(super) fn artifacts_looked_up(
        &mut self,
        instance: &Instance,
        found: Option<&BTreeMap<String, Value>>,
    ) {
        let looking = self
            .step_record(instance)
            .is_some_and(|record| record.phase == Phase::LookUp);
        if !looking || !self.state().is_wanted(instance) {
            return;
        }
        let fits = |outputs: &BTreeMap<String, Value>| {
            self.plan
                .step(instance.node)
                .is_some_and(|step| outputs::check(step, outputs).is_ok())
        };
        match found.filter(|outputs| fits(outputs)) {
            Some(outputs) => self.end_step(instance, StepState::Memoized, None, outputs.clone()),
            None => self.start_attempt(instance.clone()),
        }
    }

    /// Ends a step for good, and tells what it is a part of if that still cares.
    pub(super) fn end_step(
        &mut self,
        instance: &Instance,
        state: StepState,
        failure: Option<Failure>,
        outputs: BTreeMap<String, Value>,
    ) {
        let wanted = self.state().is_wanted(instance);
        let end = if state.is_success() {
            Ok(())
        } else {
            Err(self.cause(instance, state, failure.as_ref()))
        };
        self.emit(Event::StepEnded {
            instance: instance.clone(),
            state,
            failure,
            outputs,
            at: self.now,
        });
        if wanted {
            self.ahead.push_back(Task::Ended(instance.clone(), end));
        }
    }

    fn cause(&self, instance: &Instance, state: StepState, failure: Option<&Failure>) -> Box<str> {
        let name = self.plan.step(instance.node).map_or("", |step| &step.name);
        let place = if instance.path.0.is_empty() {
            String::new()
        } else {
            format!(" ({})", instance.path)
        };
        let verb = match state {
            StepState::TimedOut => "took too long",
            StepState::Killed => "was killed",
            _ => "failed",
        };
        let why = failure.map_or_else(String::new, |f| {
            format!(": {}", cut(&f.message, CAUSE_BYTES))
        });
        format!("step {name}{place} {verb}{why}").into()
    }

    /// Nobody wants this step any more.
    pub(super) fn kill(&mut self, instance: &Instance, reason: KillReason) {
        let Some(record) = self.step_record(instance) else {
            return;
        };
        match record.phase {
            Phase::LookUp | Phase::BackOff => {
                let event = Event::StepEnded {
                    instance: instance.clone(),
                    state: StepState::Killed,
                    failure: None,
                    outputs: BTreeMap::new(),
                    at: self.now,
                };
                self.emit(event);
            }
            Phase::Attempt
                if !matches!(record.kill, Some(KillReason::Cancelled | KillReason::Lost)) =>
            {
                let attempt = record.attempt;
                self.emit(Event::KillRequested {
                    instance: instance.clone(),
                    attempt,
                    reason,
                    at: self.now,
                });
                // Its agent may never come back: who does not want it does not wait for that.
                if record.state == StepState::Unreachable && record.timer.is_none() {
                    self.emit(Event::TimerMoved {
                        instance: instance.clone(),
                        attempt,
                        timer: self.now.after(limits::UNWANTED_GRACE),
                    });
                }
            }
            Phase::Attempt | Phase::Ended => {}
        }
    }
}
