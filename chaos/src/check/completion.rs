//! Promise 2, first half: at most one effective completion per attempt. And none that was not earned: a
//! command that is said to have succeeded was really executed to its end.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::definition::StepKind;
use meson_protocol::api::RunEvent;

use super::{Findings, Promise, flow::succeeded};
use crate::history::{History, Moment, RunAtEnd};

type Place<'a> = (&'a str, Option<&'a str>);

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::OneCompletion);
    for (id, run) in &history.end.runs {
        events(id, run, &mut findings);
    }
    executions(history, &mut findings);
    earned(history, &mut findings);
    findings
}

fn place(event: &RunEvent) -> Option<Place<'_>> {
    Some((event.step.as_deref()?, event.iteration.as_deref()))
}

/// A run's own history: no gaps, one end per step, attempts one after the other.
fn events(id: &str, run: &RunAtEnd, findings: &mut Findings) {
    #[derive(Default)]
    struct Seen {
        attempt: u32,
        failed: Option<u32>,
        ended: bool,
    }
    let mut steps: BTreeMap<Place<'_>, Seen> = BTreeMap::new();
    let mut run_ended = 0;
    for (event, expected) in run.events.iter().zip(1..) {
        if event.seq != expected {
            return findings.add(
                id,
                format!(
                    "its history has event {} where {expected} belongs",
                    event.seq
                ),
            );
        }
        run_ended += u32::from(event.kind == "run_ended");
        let Some(place) = place(event) else { continue };
        let seen = steps.entry(place).or_default();
        match event.kind.as_str() {
            "attempt_started" => {
                let attempt = event.attempt.unwrap_or(0);
                if seen.ended {
                    findings.add(
                        id,
                        format!("event {}: {place:?} starts again after its end", event.seq),
                    );
                }
                if attempt <= seen.attempt {
                    findings.add(
                        id,
                        format!(
                            "event {}: {place:?} starts attempt {attempt} after attempt {}",
                            event.seq, seen.attempt
                        ),
                    );
                }
                seen.attempt = attempt;
            }
            "attempt_failed" => {
                if seen.ended || (event.attempt.is_some() && seen.failed == event.attempt) {
                    findings.add(
                        id,
                        format!("event {}: {place:?} fails after its end", event.seq),
                    );
                }
                seen.failed = event.attempt;
            }
            "step_ended" => {
                if seen.ended {
                    findings.add(id, format!("event {}: {place:?} ends twice", event.seq));
                }
                if succeeded(event) && seen.attempt > 0 && seen.failed == Some(seen.attempt) {
                    findings.add(
                        id,
                        format!(
                            "event {}: {place:?} succeeds by attempt {}, which has failed",
                            event.seq, seen.attempt
                        ),
                    );
                }
                seen.ended = true;
            }
            _ => {}
        }
    }
    if run_ended > 1 {
        findings.add(id, format!("it ended {run_ended} times"));
    }
}

/// What really ran: an attempt's task is launched once.
fn executions(history: &History, findings: &mut Findings) {
    let mut counts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for effect in &history.end.effects {
        let (starts, ends) = counts.entry(effect.to_string()).or_default();
        match effect.moment {
            Moment::Start => *starts += 1,
            Moment::End => *ends += 1,
        }
    }
    for (task, (starts, ends)) in counts {
        if starts > 1 || ends > 1 {
            findings.add(
                task,
                format!("was executed {starts} times, {ends} times to its end"),
            );
        }
    }
}

/// What is said to have succeeded was executed to its end.
fn earned(history: &History, findings: &mut Findings) {
    let ends: BTreeSet<(&str, Place<'_>)> = history
        .end
        .effects
        .iter()
        .filter(|effect| effect.moment == Moment::End)
        .map(|effect| {
            let place = (effect.step.as_str(), effect.iteration.as_deref());
            (effect.run.as_str(), place)
        })
        .collect();
    for (id, run) in &history.end.runs {
        let Some(definition) = history.workflows.get(&run.workflow) else {
            continue;
        };
        for event in run
            .events
            .iter()
            .filter(|event| event.kind == "step_ended" && event.text.ends_with(": succeeded"))
        {
            let Some(place) = place(event) else { continue };
            let command = definition
                .step_named(place.0)
                .is_some_and(|(_, step)| matches!(step.kind, StepKind::Command(_)));
            if command && !ends.contains(&(id.as_str(), place)) {
                findings.add(
                    id,
                    format!(
                        "event {}: {place:?} succeeded, and was never executed to its end",
                        event.seq
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples::{RUN, broken, events_of, renumber};

    #[test]
    fn a_second_end_of_a_step_is_found() {
        broken(Promise::OneCompletion, |history| {
            let events = events_of(history, RUN);
            let end = events
                .iter()
                .position(|event| event.kind == "step_ended")
                .unwrap();
            let again = events[end].clone();
            events.insert(end + 1, again);
            renumber(events);
        });
    }

    #[test]
    fn a_success_of_an_attempt_that_has_failed_is_found() {
        broken(Promise::OneCompletion, |history| {
            let events = events_of(history, RUN);
            let end = events
                .iter()
                .position(|event| event.kind == "step_ended")
                .unwrap();
            let mut failed = events[end].clone();
            failed.kind = "attempt_failed".to_owned();
            failed.attempt = Some(1);
            events.insert(end, failed);
            renumber(events);
        });
    }

    #[test]
    fn a_gap_in_a_history_is_found() {
        broken(Promise::OneCompletion, |history| {
            events_of(history, RUN).last_mut().unwrap().seq += 1;
        });
    }

    #[test]
    fn a_task_that_is_executed_twice_is_found() {
        broken(Promise::OneCompletion, |history| {
            let again = history.end.effects[0].clone();
            history.end.effects.insert(1, again);
        });
    }

    #[test]
    fn a_success_without_an_execution_is_found() {
        broken(Promise::OneCompletion, |history| {
            history
                .end
                .effects
                .retain(|effect| effect.moment == Moment::Start || effect.step != "second");
        });
    }
}
