//! What actors have to do: after a transition, and after an actor's restart.

use super::effect::Effect;
use super::event::{Event, Late};
use super::key::{Family, RecordKey, Scan};
use super::launch::produced;
use super::plan::Plan;
use super::record::{Phase, Place, RunState, StepRecord};
use super::records::Records;
use super::state::{status, step};
use crate::definition::StepKind;
use crate::ids::{Attempt, Instance};

/// How many records are read at once.
const PAGE: usize = 512;

/// What is to be done once `events` are committed. `records` are those after the events.
pub fn effects(plan: &Plan, records: &dyn Records, events: &[Event]) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut left_over = false;
    for event in events {
        match event {
            Event::StepReady { instance, .. }
                if step(records, instance).is_some_and(|record| record.phase == Phase::LookUp) =>
            {
                effects.push(look_up(plan, records, instance));
            }
            Event::AttemptStarted {
                instance, attempt, ..
            } if step(records, instance).is_some_and(|record| is_under_way(&record, *attempt)) => {
                effects.push(start(plan, instance, *attempt, None));
            }
            Event::AttemptRunning {
                instance,
                attempt,
                timer: Some(at),
                ..
            }
            | Event::AttemptUnreachable {
                instance,
                attempt,
                timer: Some(at),
                ..
            }
            | Event::TimerMoved {
                instance,
                attempt,
                timer: at,
            }
            | Event::AttemptFailed {
                instance,
                attempt,
                given_up: false,
                retry_at: at,
                ..
            } => {
                effects.push(Effect::SetTimer {
                    instance: instance.clone(),
                    attempt: *attempt,
                    at: *at,
                });
            }
            Event::AttemptFailed {
                instance,
                attempt,
                given_up: true,
                ..
            }
            | Event::KillRequested {
                instance, attempt, ..
            }
            | Event::LateUpdate {
                instance,
                attempt,
                update: Late::Alive,
                ..
            } => {
                effects.push(Effect::KillAttempt {
                    instance: instance.clone(),
                    attempt: *attempt,
                });
            }
            Event::TodoSet { .. } | Event::TodoDone { .. } | Event::Retried { .. } => {
                left_over = true
            }
            Event::RunEnded { .. } => effects.push(Effect::RunEnded),
            _ => {}
        }
    }
    if left_over
        && status(records)
            .is_some_and(|status| status.todo > 0 && status.state == RunState::Running)
    {
        effects.push(Effect::Continue);
    }
    effects
}

/// Everything that must be going on, from the records alone. Doing all of it again is harmless:
/// attempts that are under way are adopted by their number.
pub fn recover(plan: &Plan, records: &dyn Records) -> Vec<Effect> {
    let Some(status) = status(records) else {
        return Vec::new();
    };
    if status.state != RunState::Running {
        return vec![Effect::RunEnded];
    }
    let mut effects = Vec::new();
    let mut after: Option<RecordKey> = None;
    loop {
        let page = records.scan(&Scan::all(Family::Live), after.as_ref(), PAGE);
        for instance in page.iter().filter_map(|(key, _)| key.instance()) {
            if let Some(record) = step(records, instance) {
                recover_step(plan, records, instance, &record, &mut effects);
            }
        }
        if page.len() < PAGE {
            break;
        }
        after = page.last().map(|(key, _)| key.clone());
    }
    // A run that was never started begins with the first thing that it hears.
    if status.todo > 0 || status.started_at.is_none() {
        effects.push(Effect::Continue);
    }
    effects
}

fn recover_step(
    plan: &Plan,
    records: &dyn Records,
    instance: &Instance,
    record: &StepRecord,
    effects: &mut Vec<Effect>,
) {
    let attempt = record.attempt;
    match record.phase {
        Phase::LookUp => effects.push(look_up(plan, records, instance)),
        Phase::Attempt => {
            effects.push(start(plan, instance, attempt, record.place.clone()));
            if record.kill.is_some() {
                effects.push(Effect::KillAttempt {
                    instance: instance.clone(),
                    attempt,
                });
            }
        }
        Phase::BackOff | Phase::Ended => {}
    }
    if let Some(at) = record.timer.filter(|_| record.phase != Phase::Ended) {
        effects.push(Effect::SetTimer {
            instance: instance.clone(),
            attempt,
            at,
        });
    }
}

fn is_under_way(record: &StepRecord, attempt: Attempt) -> bool {
    record.attempt == attempt && record.phase == Phase::Attempt
}

fn start(plan: &Plan, instance: &Instance, attempt: Attempt, place: Option<Box<Place>>) -> Effect {
    let noop = plan
        .step(instance.node)
        .is_some_and(|step| step.kind == StepKind::Noop);
    let instance = instance.clone();
    if noop {
        Effect::CompleteNoop { instance, attempt }
    } else {
        Effect::StartAttempt {
            instance,
            attempt,
            place,
        }
    }
}

fn look_up(plan: &Plan, records: &dyn Records, instance: &Instance) -> Effect {
    // The ids could be evaluated when the step was entered, and nothing that they depend on
    // changes; asking for nothing would be answered with nothing, and the step would run.
    let artifacts = plan
        .step(instance.node)
        .and_then(|step| produced(plan, records, instance, step).ok());
    Effect::LookUpArtifacts {
        instance: instance.clone(),
        artifacts: artifacts.unwrap_or_default(),
    }
}
