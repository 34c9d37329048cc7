//! Promise 1: a run that was acknowledged is never lost, and ends. The workflows of the load cannot fail
//! by themselves more often than their retries allow, so they have to end well.

use super::{Findings, Promise};
use crate::history::{History, What};

pub(super) fn check(history: &History) -> Findings {
    let mut findings = Findings::of(Promise::Durable);
    for (run, at) in history.acknowledged() {
        if !history.end.runs.contains_key(run) {
            findings.add(
                run,
                format!("was acknowledged at {at} ms, and no node knows it"),
            );
        }
    }
    for (id, run) in &history.end.runs {
        match run.state.as_str() {
            "succeeded" => {}
            "running" => findings.add(id, "did not end, although its shard has a majority"),
            state => findings.add(
                id,
                format!(
                    "{state}, although its steps cannot fail by themselves: {}",
                    run.error.as_deref().unwrap_or("it does not say why")
                ),
            ),
        }
    }
    for entry in &history.entries {
        if let What::Refused { run, reason } = &entry.what {
            findings.add(run, format!("is a good run, and was refused: {reason}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::samples::{RUN, broken};

    #[test]
    fn a_lost_run_is_found() {
        broken(Promise::Durable, |history| {
            history.end.runs.remove(RUN);
            history.end.effects.clear();
        });
    }

    #[test]
    fn a_run_that_does_not_end_is_found() {
        broken(Promise::Durable, |history| {
            history.end.runs.get_mut(RUN).unwrap().state = "running".to_owned();
        });
    }

    #[test]
    fn a_run_that_the_platform_let_fail_is_found() {
        broken(Promise::Durable, |history| {
            history.end.runs.get_mut(RUN).unwrap().state = "failed".to_owned();
        });
    }

    #[test]
    fn a_good_run_that_is_refused_is_found() {
        broken(Promise::Durable, |history| {
            let at = history.entries[0].at;
            let (run, reason) = ("chain-9".to_owned(), "409".to_owned());
            let what = What::Refused { run, reason };
            history.entries.push(crate::history::Entry { at, what });
        });
    }
}
