//! The tasks of an attempt that may run: one, or all of a gang.

use meson_core::run::{Failure, FailureClass, Outcome, Seat};
use meson_core::sizing::Usage;

use super::super::phase::Known;
use super::super::words::Action;

/// A task of the attempt that may run.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Member {
    pub(in super::super) agent: String,
    pub(in super::super) host: String,
    pub(in super::super) known: Known,
    pub(in super::super) running: Option<Option<String>>,
    /// Somebody said that it has ended; the update that carries its result is still to come.
    pub(in super::super) awaiting_result: bool,
    /// What it used so far.
    pub(in super::super) usage: Option<Usage>,
    pub(in super::super) end: Option<End>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct End {
    pub(in super::super) outcome: Outcome,
    pub(in super::super) usage: Option<Usage>,
    /// Due once the end of the whole attempt is durable: until then the agent keeps the update,
    /// and whoever takes the attempt over hears it once more.
    pub(in super::super) acknowledge: Option<Action>,
    /// So many others had ended before it.
    pub(in super::super) nth: usize,
}

impl Member {
    /// One that was launched there, or is about to be.
    pub(in super::super) fn on(Seat { agent, host }: Seat) -> Self {
        Self {
            agent,
            host,
            known: Known::Silence { staged: 0 },
            running: None,
            awaiting_result: false,
            usage: None,
            end: None,
        }
    }

    pub(in super::super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    fn has_succeeded(&self) -> bool {
        self.end
            .as_ref()
            .is_some_and(|end| matches!(end.outcome, Outcome::Succeeded { .. }))
    }

    /// It runs, or ran and has ended well.
    pub(in super::super) fn is_up(&self) -> bool {
        if self.has_ended() {
            self.has_succeeded()
        } else {
            self.running.is_some()
        }
    }

    /// Nobody has said a word of it since the last launch timeout.
    pub(in super::super) fn was_never_heard_of(&self) -> bool {
        matches!(self.known, Known::Silence { .. }) && !self.has_ended()
    }

    /// It is not known to run, and may never have been launched.
    pub(in super::super) fn is_awaited(&self) -> bool {
        !self.has_ended() && self.running.is_none()
    }
}

/// Whether one of them has ended badly.
pub(super) fn is_broken(members: &[Member]) -> bool {
    let mut ended = members.iter().filter(|member| member.has_ended());
    ended.any(|member| !member.has_succeeded())
}

/// What the hungriest of them used so far. All of them asked for the same, so that is what counts
/// beside it.
pub(super) fn live_usage(members: &[Member]) -> Option<Usage> {
    let used = members.iter().filter_map(|member| member.usage);
    used.reduce(Usage::most)
}

/// What all that ended makes of the attempt: how it ended, what the hungriest of its tasks used,
/// and what is to be acknowledged then. None before the last one has ended.
pub(super) fn verdict(members: &mut [Member]) -> Option<(Outcome, Option<Usage>, Vec<Action>)> {
    let mut acknowledge = Vec::new();
    if !members.iter().all(Member::has_ended) {
        return None;
    }
    let outcome = outcome(members)?;
    let used = members
        .iter()
        .filter_map(|member| member.end.as_ref()?.usage);
    let usage = used.reduce(Usage::most);
    for member in members {
        acknowledge.extend(member.end.take().and_then(|end| end.acknowledge));
    }
    Some((outcome, usage, acknowledge))
}

/// The outcome of a gang is that of its first task, which alone leaves outputs, if all ended well.
/// If not, it is the failure that explains the others: what befell a task from outside, which its
/// mates may well have failed of before anybody saw it, so that losing an agent never costs a
/// retry of the step's own; then want of memory; then whatever came first.
fn outcome(members: &[Member]) -> Option<Outcome> {
    let ends = || members.iter().filter_map(|member| member.end.as_ref());
    let weight = |class: FailureClass| match class {
        FailureClass::Platform => 0,
        FailureClass::OutOfMemory => 1,
        FailureClass::Step | FailureClass::Timeout => 2,
    };
    let failures = (0..).zip(members).filter_map(|(rank, member)| {
        let end = member.end.as_ref()?;
        match &end.outcome {
            Outcome::Failed(failure) => Some((weight(failure.class), end.nth, rank, failure)),
            _ => None,
        }
    });
    let failure = failures.min_by_key(|(weight, nth, ..)| (*weight, *nth));
    if let Some((_, _, rank, failure)) = failure {
        return Some(Outcome::Failed(of_member(members, rank, failure)));
    }
    let killed = ends().any(|end| end.outcome == Outcome::Killed);
    if killed {
        return Some(Outcome::Killed);
    }
    ends().next().map(|end| end.outcome.clone())
}

/// A failure with the name of the task whose it is, if there are several.
fn of_member(members: &[Member], rank: usize, failure: &Failure) -> Failure {
    if members.len() == 1 {
        return failure.clone();
    }
    let on = match members[rank].host.as_str() {
        "" => String::new(),
        host => format!(" on {host}"),
    };
    Failure {
        message: format!(
            "task {rank} of its gang of {}{on}: {}",
            members.len(),
            failure.message
        ),
        ..failure.clone()
    }
}
