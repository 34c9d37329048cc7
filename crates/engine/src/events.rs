//! A run's history as people and programs read it: each event with its number, time, what it is
//! about, and one sentence.

use meson_core::definition::Definition;
use meson_core::ids::{Attempt, Instance};
use meson_core::run::{Event, Failure, FailureClass, Late};
use meson_core::units::Timestamp;
use meson_protocol::api::RunEvent;

use crate::machine::HistoryEntry;

/// An event as it is shown.
pub(crate) fn show(definition: &Definition, entry: &HistoryEntry) -> RunEvent {
    let event = &entry.event;
    let instance = event.instance();
    let step = instance
        .and_then(|at| definition.step(at.node))
        .map(|step| step.name.clone());
    let iteration = instance
        .filter(|at| !at.path.0.is_empty())
        .map(|at| at.path.to_string());
    let (kind, attempt, text) = describe(event);
    let subject = step
        .clone()
        .or_else(|| instance.map(|at| node_name(definition, at)));
    let text = match (subject, &iteration) {
        (Some(subject), Some(iteration)) => format!("{subject}[{iteration}]: {text}"),
        (Some(subject), None) => format!("{subject}: {text}"),
        (None, _) => text,
    };
    RunEvent {
        seq: entry.seq,
        time: entry.at.to_rfc3339(),
        kind: kind.to_owned(),
        step,
        iteration,
        attempt: attempt.map(|Attempt(n)| n),
        text,
    }
}

/// What to call an inner node, which has no name of its own.
fn node_name(definition: &Definition, instance: &Instance) -> String {
    use meson_core::definition::NodeKind;
    let kind = definition
        .nodes
        .get(instance.node.0 as usize)
        .map(|node| &node.kind);
    let kind = match kind {
        Some(NodeKind::Step(step)) => return step.name.clone(),
        Some(NodeKind::Sequence(_)) => "sequence",
        Some(NodeKind::Parallel { .. }) => "parallel",
        Some(NodeKind::ForEach { .. }) => "for_each",
        Some(NodeKind::When { .. }) => "when",
        Some(NodeKind::Repeat { .. }) => "repeat",
        None => "node",
    };
    format!("{kind} {}", instance.node.0)
}

/// Kind, attempt, and what happened.
fn describe(event: &Event) -> (&'static str, Option<Attempt>, String) {
    match event {
        Event::RunStarted { .. } => ("run_started", None, "the run started".to_owned()),
        Event::Entered { .. } => ("entered", None, "begins".to_owned()),
        Event::ItemsListed { lists, .. } => {
            let sizes: Vec<String> = lists.iter().map(|list| list.len.to_string()).collect();
            (
                "items_listed",
                None,
                format!("iterates over {} items", sizes.join(" × ")),
            )
        }
        Event::ItemsStored { values, .. } => (
            "items_stored",
            None,
            format!("{} items stored", values.len()),
        ),
        Event::LoopMoved { progress, .. } => {
            let total = progress
                .total
                .map_or_else(|| "?".to_owned(), |total| total.to_string());
            let text = format!(
                "{} of {total} iterations done, {} failed, {} running",
                progress.succeeded, progress.failed, progress.running
            );
            ("loop_moved", None, text)
        }
        Event::BranchEnded {
            succeeded, failed, ..
        } => (
            "branch_ended",
            None,
            format!("{succeeded} branches done, {failed} failed"),
        ),
        Event::RoundStarted { round, .. } => {
            ("round_started", None, format!("round {} begins", round + 1))
        }
        Event::GroupEnded { error: None, .. } => ("group_ended", None, "done".to_owned()),
        Event::GroupEnded {
            error: Some(error), ..
        } => ("group_ended", None, format!("failed: {error}")),
        Event::StepReady { .. } => ("step_ready", None, "ready".to_owned()),
        Event::AttemptStarted { attempt, .. } => (
            "attempt_started",
            Some(*attempt),
            format!("attempt {} begins", attempt.0),
        ),
        Event::AttemptRequested { attempt, .. } => (
            "attempt_requested",
            Some(*attempt),
            "waits for resources".to_owned(),
        ),
        Event::AttemptSpilled {
            attempt,
            from,
            to,
            reason,
            ..
        } => (
            "attempt_spilled",
            Some(*attempt),
            format!("goes from pool {from} to pool {to}: {reason}"),
        ),
        Event::AttemptLaunching {
            attempt,
            pool,
            host,
            mates,
            ..
        } => {
            let mut hosts = host.clone();
            for mate in mates {
                hosts.push_str(", ");
                hosts.push_str(&mate.host);
            }
            let text = format!("launching on {hosts} in pool {pool}");
            ("attempt_launching", Some(*attempt), text)
        }
        Event::AttemptRunning { attempt, url, .. } => {
            let text = match url {
                Some(url) => format!("running, see {url}"),
                None => "running".to_owned(),
            };
            ("attempt_running", Some(*attempt), text)
        }
        Event::AttemptUnreachable {
            attempt, reason, ..
        } => {
            let text = match reason {
                Some(reason) => format!("{reason}; it may come back"),
                None => "its agent is out of sight; it may come back".to_owned(),
            };
            ("attempt_unreachable", Some(*attempt), text)
        }
        Event::AttemptFailed {
            attempt,
            failure,
            retry_at,
            ..
        } => {
            let text = format!(
                "attempt {} failed ({}), the next one begins at {}: {}",
                attempt.0,
                payer(failure),
                retry_at.to_rfc3339(),
                failure.message
            );
            ("attempt_failed", Some(*attempt), text)
        }
        Event::TimerMoved { attempt, timer, .. } => (
            "timer_moved",
            Some(*attempt),
            format!("due at {}", timer.to_rfc3339()),
        ),
        Event::KillRequested { attempt, .. } => (
            "kill_requested",
            Some(*attempt),
            format!("attempt {} is to be killed", attempt.0),
        ),
        Event::StepEnded { state, failure, .. } => {
            let text = match failure {
                Some(failure) => format!("{}: {}", state.name(), failure.message),
                None => state.name().to_owned(),
            };
            ("step_ended", None, text)
        }
        Event::LateUpdate {
            attempt, update, ..
        } => {
            let said = match update {
                Late::Alive => "is alive",
                Late::Succeeded => "succeeded",
                Late::Failed => "failed",
                Late::Killed => "was killed",
            };
            let text = format!(
                "late word of attempt {}: it {said}; nothing changed",
                attempt.0
            );
            ("late_update", Some(*attempt), text)
        }
        Event::AttemptSized { attempt, asked, .. } => (
            "attempt_sized",
            Some(*attempt),
            format!(
                "attempt {} asks for {} of memory and {} cpus: {}",
                attempt.0,
                asked.mem,
                asked.cpus.0 as f64 / 1000.0,
                asked.why
            ),
        ),
        Event::AttemptMeasured { attempt, usage, .. } => {
            let text = format!(
                "attempt {} used {}m of memory at most and {}s of processor time in {}s",
                attempt.0,
                usage.peak_rss_bytes.div_ceil(1 << 20),
                usage.cpu_ms as f64 / 1000.0,
                usage.wall_ms as f64 / 1000.0
            );
            ("attempt_measured", Some(*attempt), text)
        }
        Event::TodoSet { .. } => ("todo_set", None, "more to do".to_owned()),
        Event::TodoDone { .. } => ("todo_done", None, "that is done".to_owned()),
        Event::CancelRequested { reason, .. } if reason.is_empty() => (
            "cancel_requested",
            None,
            "the run is to be cancelled".to_owned(),
        ),
        Event::CancelRequested { reason, .. } => (
            "cancel_requested",
            None,
            format!("the run is to be cancelled: {reason}"),
        ),
        Event::FlowEnded { error: None } => (
            "flow_ended",
            None,
            "all is done; attempts that are not wanted end".to_owned(),
        ),
        Event::FlowEnded { error: Some(error) } => (
            "flow_ended",
            None,
            format!("{error}; attempts that are not wanted end"),
        ),
        Event::Retried { .. } => ("retried", None, "the run goes on by a retry".to_owned()),
        Event::RunEnded {
            state, error: None, ..
        } => ("run_ended", None, format!("the run {}", state.name())),
        Event::RunEnded {
            state,
            error: Some(error),
            ..
        } => (
            "run_ended",
            None,
            format!("the run {}: {error}", state.name()),
        ),
    }
}

fn payer(failure: &Failure) -> &'static str {
    match failure.class {
        FailureClass::Step => "its own fault",
        FailureClass::Platform => "the platform's fault",
        FailureClass::Timeout => "out of time",
        FailureClass::OutOfMemory => "out of memory, the platform pays",
    }
}

/// The time of a page's entry, as a cursor.
pub(crate) fn cursor(at: Timestamp, run: &meson_core::ids::RunId) -> String {
    format!("{}-{run}", at.0)
}

/// The place in the list of runs that a cursor stands for.
pub(crate) fn read_cursor(text: &str) -> Option<(Timestamp, meson_core::ids::RunId)> {
    let (at, run) = text.split_once('-')?;
    Some((Timestamp(at.parse().ok()?), run.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back() {
        let run = "recs-2-k3x9".parse().unwrap();
        assert_eq!(
            read_cursor(&cursor(Timestamp(17), &run)),
            Some((Timestamp(17), run))
        );
        assert_eq!(read_cursor("x"), None);
    }
}
