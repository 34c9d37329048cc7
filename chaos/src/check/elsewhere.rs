//! When a region is lost, runs that survive that go on elsewhere, steps that may run in another region do,
//! and what moved did so before it was placed.

use std::collections::BTreeSet;

use super::{Findings, Promise};
use crate::history::{History, RunAtEnd, What};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::Elsewhere);
    for entry in &history.entries {
        if let What::StoodStill { text } = &entry.what {
            findings.add("the cluster", text.clone());
        }
    }
    for (id, run) in &history.end.runs {
        moves(id, run, &mut findings);
    }
    findings
}

/// An attempt that was placed may run there, and does not move.
fn moves(id: &str, run: &RunAtEnd, findings: &mut Findings) {
    let mut placed = BTreeSet::new();
    for event in &run.events {
        let attempt = (
            event.step.as_deref(),
            event.iteration.as_deref(),
            event.attempt,
        );
        match event.kind.as_str() {
            "attempt_launching" => {
                placed.insert(attempt);
            }
            "attempt_spilled" if placed.contains(&attempt) => {
                findings.add(
                    id,
                    format!("event {}: {attempt:?} moves after it was placed", event.seq),
                );
            }
            _ => {}
        }
    }
}

/// Attempts that went to another region.
pub(super) fn moved(history: &History) -> usize {
    let events = history.end.runs.values().flat_map(|run| &run.events);
    events
        .filter(|event| event.kind == "attempt_spilled")
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::samples::{RUN, broken},
        history::Entry,
    };

    #[test]
    fn a_run_that_stands_still_without_its_region_is_found() {
        broken(Promise::Elsewhere, |history| {
            let text = "global_eu-1 did not end".to_owned();
            let what = What::StoodStill { text };
            history.entries.push(Entry { at: 1_900, what });
        });
    }

    #[test]
    fn an_attempt_that_moves_after_it_was_placed_is_found() {
        broken(Promise::Elsewhere, |history| {
            let Some(run) = history.end.runs.get_mut(RUN) else {
                return;
            };
            let running = run
                .events
                .iter()
                .position(|event| event.kind == "attempt_running");
            let at = running.unwrap_or_default();
            for kind in ["attempt_spilled", "attempt_launching"] {
                let mut event = run.events[at].clone();
                event.kind = kind.to_owned();
                run.events.insert(at, event);
            }
            for (event, seq) in run.events.iter_mut().zip(1..) {
                event.seq = seq;
            }
        });
    }
}
