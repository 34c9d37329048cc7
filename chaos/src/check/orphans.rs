//! Promise 4: no task runs on that no run knows of, and none is forgotten. When every run has ended, no
//! task may be left; and nothing may ever have run for a run that does not exist.

use std::collections::BTreeSet;

use super::{Findings, Promise};
use crate::history::History;

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::NoOrphans);
    for task in &history.end.tasks {
        let run = task.id.split('.').next().unwrap_or_default();
        let known = history.end.runs.get(run);
        // A run that goes on may have tasks: that it goes on is found elsewhere.
        if known.is_none_or(|run| run.state != "running") {
            let whose = known.map_or("of no run".to_owned(), |run| {
                format!("of a run that {}", run.state)
            });
            findings.add(&task.id, format!("is {} at the end, {whose}", task.state));
        }
    }
    let all_ended = history.end.runs.values().all(|run| run.state != "running");
    for process in history.end.processes.iter().filter(|_| all_ended) {
        findings.add(process, "still runs on an agent, and every run has ended");
    }
    let strangers: BTreeSet<&str> = history
        .end
        .effects
        .iter()
        .map(|effect| effect.run.as_str())
        .filter(|run| !history.end.runs.contains_key(*run))
        .collect();
    for run in strangers {
        findings.add(run, "steps of it were executed, and no node knows it");
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::samples::{RUN, broken},
        history::TaskAtEnd,
    };

    #[test]
    fn a_task_that_outlives_its_run_is_found() {
        broken(Promise::NoOrphans, |history| {
            history.end.tasks.push(TaskAtEnd {
                id: format!("{RUN}.first.1"),
                state: "TASK_RUNNING".to_owned(),
            });
        });
    }

    #[test]
    fn a_task_of_no_run_is_found() {
        broken(Promise::NoOrphans, |history| {
            history.end.tasks.push(TaskAtEnd {
                id: "ghost-1.first.1".to_owned(),
                state: "TASK_RUNNING".to_owned(),
            });
        });
    }

    #[test]
    fn a_process_that_outlives_its_task_is_found() {
        broken(Promise::NoOrphans, |history| {
            history.end.processes.push("sleep 60".to_owned());
        });
    }

    #[test]
    fn an_execution_for_no_run_is_found() {
        broken(Promise::NoOrphans, |history| {
            let mut effect = history.end.effects[0].clone();
            effect.run = "ghost-1".to_owned();
            history.end.effects.push(effect);
        });
    }
}
