//! Word of an attempt: it moves, it ends, it is late, its time is up.

use std::collections::BTreeMap;

use super::{Rejected, Transition, back_off, cut, outputs};
use crate::definition::Unreachable;
use crate::ids::{Attempt, Instance, TaskId};
use crate::run::event::{Event, Late};
use crate::run::input::{Failure, FailureClass, Outcome};
use crate::run::limits;
use crate::run::record::{KillReason, Phase, Place, StepRecord, StepState};
use crate::run::state::header;
use crate::sizing::Usage;
use crate::units::{Duration, Timestamp};

impl Transition<'_> {
    /// The step's record, if the attempt is the one that is under way. Word of another one is
    /// recorded as late.
    fn current(
        &mut self,
        instance: &Instance,
        attempt: Attempt,
        said: Late,
    ) -> Result<Option<StepRecord>, Rejected> {
        self.check(instance, attempt)?;
        let known = self
            .step_record(instance)
            .filter(|record| attempt.0 >= 1 && attempt <= record.attempt);
        let Some(record) = known else {
            return Err(Rejected::Unknown {
                instance: instance.clone(),
                attempt,
            });
        };
        if record.attempt == attempt && record.phase == Phase::Attempt {
            return Ok(Some(record));
        }
        self.emit(Event::LateUpdate {
            instance: instance.clone(),
            attempt,
            update: said,
            at: self.now,
        });
        Ok(None)
    }

    pub(super) fn requested(
        &mut self,
        instance: &Instance,
        attempt: Attempt,
    ) -> Result<(), Rejected> {
        let record = self.current(instance, attempt, Late::Alive)?;
        if record.is_some_and(|record| record.state == StepState::Ready) {
            self.emit(Event::AttemptRequested {
                instance: instance.clone(),
                attempt,
                at: self.now,
            });
        }
        Ok(())
    }

    /// An attempt that was placed does not move: it may run there.
    pub(super) fn spilled(
        &mut self,
        instance: &Instance,
        attempt: Attempt,
        [from, to]: [&String; 2],
        reason: &str,
    ) -> Result<(), Rejected> {
        let Some(record) = self.current(instance, attempt, Late::Alive)? else {
            return Ok(());
        };
        let placed = record
            .place
            .as_ref()
            .is_some_and(|place| !place.agent.is_empty());
        if matches!(record.state, StepState::Ready | StepState::Requested)
            && !placed
            && record.kill.is_none()
        {
            self.emit(Event::AttemptSpilled {
                instance: instance.clone(),
                attempt,
                from: from.clone(),
                to: to.clone(),
                reason: cut(reason, limits::REASON_BYTES).to_owned(),
                at: self.now,
            });
        }
        Ok(())
    }

    pub(super) fn launching(
        &mut self,
        instance: &Instance,
        attempt: Attempt,
        Place {
            pool,
            agent,
            host,
            mates,
            ..
        }: Place,
    ) -> Result<(), Rejected> {
        let Some(record) = self.current(instance, attempt, Late::Alive)? else {
            return Ok(());
        };
        let elsewhere = || {
            record
                .place
                .as_ref()
                .is_none_or(|place| place.agent != agent || place.mates != mates)
        };
        if matches!(record.state, StepState::Ready | StepState::Requested)
            || (record.state == StepState::Launching && elsewhere())
        {
            let instance = instance.clone();
            self.emit(Event::AttemptLaunching {
                instance,
                attempt,
                pool,
                agent,
                host,
                mates,
                at: self.now,
            });
        }
        Ok(())
    }

    pub(super) fn running(
        &mut self,
        instance: &Instance,
        attempt: Attempt,
        url: Option<&String>,
    ) -> Result<(), Rejected> {
        let Some(record) = self.current(instance, attempt, Late::Alive)? else {
            return Ok(());
        };
        let known = record.place.as_ref().and_then(|place| place.url.as_ref());
        if record.state == StepState::Running && (url.is_none() || url == known) {
            return Ok(());
        }
        let since = record.started_at.unwrap_or(self.now);
        let limit = self.plan.step(instance.node).and_then(|step| step.timeout);
        let timer = limit.map(|limit| since.after(limit));
        let (instance, url) = (instance.clone(), url.cloned());
        self.emit(Event::AttemptRunning {
            instance,
            attempt,
            url,
            timer,
            at: self.now,
        });
        Ok(())
    }

    pub(super) fn unreachable(
        &mut self,
        instance: &Instance,
        attempt: Attempt,
        reason: Option<&str>,
    ) -> Result<(), Rejected> {
        let record = self.current(instance, attempt, Late::Alive)?;
        if let Some(record) = record.filter(|record| record.state != StepState::Unreachable) {
            let timer = self.given_up_at(instance, &record);
            let reason = reason.map(|reason| cut(reason, limits::REASON_BYTES).to_owned());
            let instance = instance.clone();
            self.emit(Event::AttemptUnreachable {
                instance,
                attempt,
                reason,
                timer,
                at: self.now,
            });
        }
        Ok(())
    }

    /// Until when an attempt that is out of sight from now on is waited for.
    fn given_up_at(&self, instance: &Instance, record: &StepRecord) -> Option<Timestamp> {
        if record.kill.is_some() {
            return Some(self.now.after(limits::UNWANTED_GRACE));
        }
        let step = self.plan.step(instance.node)?;
        match step.unreachable {
            Unreachable::ReplaceAfter(grace) => Some(self.now.after(grace)),
            Unreachable::Wait => {
                let limit = step.timeout?;
                Some(
                    record
                        .started_at
                        .unwrap_or(self.now)
                        .after(limit)
                        .max(self.now),
                )
            }
        }
    }

    pub(super) fn attempt_ended(
        &mut self,
        instance: &Instance,
        attempt: Attempt,
        outcome: &Outcome,
        usage: Option<&Usage>,
    ) -> Result<(), Rejected> {
        let said = match outcome {
            Outcome::Succeeded { .. } => Late::Succeeded,
            Outcome::Failed(_) => Late::Failed,
            Outcome::Killed => Late::Killed,
        };
        let Some(record) = self.current(instance, attempt, said)? else {
            return Ok(());
        };
        self.measure(instance, &record, outcome, usage);
        match outcome {
            // It was done before the kill arrived: then it is done.
            Outcome::Succeeded { outputs } => {
                let Some(step) = self.plan.step(instance.node) else {
                    return Ok(());
                };
                match outputs::check(step, outputs) {
                    Ok(()) => self.end_step(instance, StepState::Succeeded, None, outputs.clone()),
                    Err(failure) => self.failed(instance, &record, failure),
                }
            }
            Outcome::Failed(failure) => self.failed(instance, &record, failure.clone()),
            Outcome::Killed => {
                let message = "somebody else killed it".to_owned();
                self.failed(
                    instance,
                    &record,
                    Failure {
                        class: FailureClass::Platform,
                        message,
                        retryable: true,
                    },
                );
            }
        }
        Ok(())
    }

    /// An attempt came to a bad end: another one, if a budget pays for it.
    fn failed(&mut self, instance: &Instance, record: &StepRecord, failure: Failure) {
        match record.kill {
            Some(KillReason::Cancelled | KillReason::Lost) => {
                self.end_step(instance, StepState::Killed, None, BTreeMap::new());
            }
            Some(KillReason::Timeout) => {
                self.fail(instance, record, self.too_long(instance), None);
            }
            None => self.fail(instance, record, failure, None),
        }
    }

    /// `given_up`: it did not end, we stop waiting; the next attempt starts at this time.
    fn fail(
        &mut self,
        instance: &Instance,
        record: &StepRecord,
        failure: Failure,
        given_up: Option<Timestamp>,
    ) {
        let message = cut(&failure.message, Failure::MAX_MESSAGE_BYTES).to_owned();
        let failure = self.of_memory(instance, record, Failure { message, ..failure });
        let spent = record.spent[failure.class as usize];
        let budget = match failure.class {
            FailureClass::Step => self.plan.step(instance.node).map_or(0, |step| step.retries),
            FailureClass::Platform => u32::from(limits::PLATFORM_RETRIES),
            FailureClass::OutOfMemory => u32::from(limits::MEMORY_RETRIES),
            FailureClass::Timeout => 0,
        };
        let again =
            failure.retryable && u32::from(spent) < budget && self.state().is_wanted(instance);
        if again || given_up.is_some() {
            let wait = || {
                self.task(instance, record.attempt)
                    .map(|t| back_off(&t, failure.class, spent.saturating_add(1)))
            };
            let retry_at = given_up.unwrap_or_else(|| self.now.after(wait().unwrap_or_default()));
            self.emit(Event::AttemptFailed {
                instance: instance.clone(),
                attempt: record.attempt,
                failure: failure.clone(),
                given_up: given_up.is_some(),
                retry_at,
                at: self.now,
            });
        }
        if !again {
            let state = if failure.class == FailureClass::Timeout {
                StepState::TimedOut
            } else {
                StepState::Failed
            };
            self.end_step(instance, state, Some(failure), BTreeMap::new());
        }
    }

    fn too_long(&self, instance: &Instance) -> Failure {
        let limit = self
            .plan
            .step(instance.node)
            .and_then(|step| step.timeout)
            .unwrap_or_default();
        let message = format!("it ran longer than its timeout of {limit}");
        Failure {
            class: FailureClass::Timeout,
            message,
            retryable: true,
        }
    }

    fn task(&self, instance: &Instance, attempt: Attempt) -> Option<TaskId> {
        Some(TaskId {
            run: header(&self.records)?.id.clone(),
            step: self.plan.step(instance.node)?.name.clone(),
            path: instance.path.clone(),
            attempt,
            rank: 0,
        })
    }

    /// A timer fired. One that was set for something else by now is void.
    pub(super) fn timer(&mut self, instance: &Instance, attempt: Attempt) {
        let Some(record) = self
            .step_record(instance)
            .filter(|record| record.attempt == attempt)
        else {
            return;
        };
        let Some(due) = record
            .timer
            .filter(|_| matches!(record.phase, Phase::Attempt | Phase::BackOff))
        else {
            return;
        };
        if self.now < due {
            let instance = instance.clone();
            return self.emit(Event::TimerMoved {
                instance,
                attempt,
                timer: due,
            });
        }
        if record.phase == Phase::BackOff {
            if self.state().is_wanted(instance) {
                self.start_attempt(instance.clone());
            }
        } else if record.state == StepState::Unreachable {
            self.give_up(instance, &record);
        } else if record.kill.is_none() {
            let (instance, reason) = (instance.clone(), KillReason::Timeout);
            self.emit(Event::KillRequested {
                instance,
                attempt,
                reason,
                at: self.now,
            });
        }
    }

    /// The agent is out of sight for so long that another attempt takes over.
    fn give_up(&mut self, instance: &Instance, record: &StepRecord) {
        let failure = match record.kill {
            Some(KillReason::Timeout) => self.too_long(instance),
            _ => match self.plan.step(instance.node).map(|step| step.unreachable) {
                // It waits for its agent, and only its own timeout ends that.
                Some(Unreachable::Wait) => self.too_long(instance),
                Some(Unreachable::ReplaceAfter(grace)) => out_of_sight(grace),
                None => out_of_sight(limits::UNWANTED_GRACE),
            },
        };
        if matches!(record.kill, Some(KillReason::Cancelled | KillReason::Lost)) {
            return self.end_step(instance, StepState::Killed, Some(failure), BTreeMap::new());
        }
        self.fail(instance, record, failure, Some(self.now));
        let waits = self
            .step_record(instance)
            .is_some_and(|record| record.phase == Phase::BackOff);
        if waits {
            self.start_attempt(instance.clone());
        }
    }
}

fn out_of_sight(grace: Duration) -> Failure {
    Failure {
        class: FailureClass::Platform,
        message: format!("it was out of sight for {grace}"),
        retryable: true,
    }
}
