//! Promise 3: a step starts only after all that it depends on is committed as done. Seen twice: in the run's
//! own history, and in what the steps' processes wrote down.

use std::collections::BTreeMap;

use super::{
    Findings, Promise,
    flow::{Flow, Path, Point, path_of, succeeded},
};
use crate::history::{History, Moment, RunAtEnd};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::Order);
    let mut effects = BTreeMap::new();
    for (effect, position) in history.end.effects.iter().zip(1_u64..) {
        let of_run: &mut Vec<_> = effects.entry(effect.run.as_str()).or_default();
        of_run.push((effect, position));
    }
    for (id, run) in &history.end.runs {
        let Some(definition) = history.workflows.get(&run.workflow) else {
            continue;
        };
        let told = told(run);
        for late in Flow::new(definition, &told.0, false).violations(&told.1) {
            findings.add(id, format!("by its history: {late}"));
        }
        let mut points = BTreeMap::new();
        let mut starts = Vec::new();
        for (effect, position) in effects.get(id.as_str()).into_iter().flatten() {
            let key = (effect.step.as_str(), path_of(effect.iteration.as_deref()));
            match effect.moment {
                Moment::Start => {
                    starts.push((key.0, key.1.clone(), *position));
                    points.entry(key).or_insert(Point::default());
                }
                Moment::End => {
                    let point = points.entry(key).or_insert(Point::default());
                    point.done = point.done.or(Some(*position));
                }
            }
        }
        for late in Flow::new(definition, &points, true).violations(&starts) {
            findings.add(id, format!("by what was executed: {late}"));
        }
    }
    findings
}

type Told<'a> = (BTreeMap<(&'a str, Path), Point>, Vec<(&'a str, Path, u64)>);

/// Ends and starts in a run's history.
fn told(run: &RunAtEnd) -> Told<'_> {
    let mut points: BTreeMap<_, Point> = BTreeMap::new();
    let mut starts = Vec::new();
    for event in &run.events {
        let Some(step) = event.step.as_deref() else {
            continue;
        };
        let path = path_of(event.iteration.as_deref());
        match event.kind.as_str() {
            "step_ready" | "attempt_started" => {
                points.entry((step, path.clone())).or_default();
                starts.push((step, path, event.seq));
            }
            "step_ended" => {
                let point = points.entry((step, path)).or_default();
                if succeeded(event) {
                    point.done = Some(event.seq);
                }
            }
            _ => {}
        }
    }
    (points, starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples::{RUN, broken, events_of, renumber};

    #[test]
    fn a_step_that_starts_before_its_predecessor_is_committed_as_done_is_found() {
        broken(Promise::Order, |history| {
            let events = events_of(history, RUN);
            let end = events
                .iter()
                .position(|event| {
                    event.kind == "step_ended" && event.step.as_deref() == Some("first")
                })
                .unwrap();
            events.swap(end, end + 1);
            renumber(events);
        });
    }

    #[test]
    fn a_process_that_runs_before_its_predecessor_has_ended_is_found() {
        broken(Promise::Order, |history| {
            // first starts, second starts, first ends, second ends
            history.end.effects.swap(1, 2);
        });
    }
}
