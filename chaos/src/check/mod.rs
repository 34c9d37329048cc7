//! Judges a history: was every promise kept?
//!
//! One file per promise, each a pure function of the history. `flow` knows what has to be done before
//! what in a workflow. `samples` makes small histories for the tests: a good one, which each test breaks
//! in one place.

mod artifacts;
mod completion;
mod durable;
mod elsewhere;
mod flow;
mod input;
mod leadership;
mod majority;
mod order;
mod orphans;
mod recovery;
mod replicas;
#[cfg(test)]
mod samples;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::{History, What};

/// What Meson promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Promise {
    /// A run that was acknowledged is never lost, and ends.
    Durable,
    /// At most one effective completion per attempt, and none that was not earned.
    OneCompletion,
    /// At most one leader per shard and term.
    OneLeader,
    /// A step starts only after all that it depends on is done.
    Order,
    /// No task runs on that no run knows of.
    NoOrphans,
    /// Every replica of a shard ends in the same bytes.
    SameState,
    /// An acknowledged artifact can be read back, and its hash is right.
    Artifacts,
    /// Bad input is answered with a clear error.
    BadInput,
    /// Who is cut off from the majority accepts nothing and answers nothing old.
    MajorityOnly,
    /// When the fault is over, all works again.
    Recovery,
    /// When a region is lost, what survives that goes on elsewhere.
    Elsewhere,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Durable,
        Self::OneCompletion,
        Self::OneLeader,
        Self::Order,
        Self::NoOrphans,
        Self::SameState,
        Self::Artifacts,
        Self::BadInput,
        Self::MajorityOnly,
        Self::Recovery,
        Self::Elsewhere,
    ];

    /// In words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Durable => "an acknowledged run is never lost, and ends",
            Self::OneCompletion => "one effective completion per attempt",
            Self::OneLeader => "one leader per shard and term",
            Self::Order => "a step starts after all that it depends on",
            Self::NoOrphans => "no orphan tasks, none forgotten",
            Self::SameState => "every replica ends in the same bytes",
            Self::Artifacts => "artifacts can be read back, unchanged",
            Self::BadInput => "bad input gets a clear error",
            Self::MajorityOnly => "a minority accepts nothing, answers nothing old",
            Self::Recovery => "all works again after the fault",
            Self::Elsewhere => "without a region, the others go on",
        }
    }

    /// How much of a history bears on it: with nothing seen, nothing is proved.
    #[must_use]
    pub fn evidence(self, history: &History) -> usize {
        let seen = |what: fn(&What) -> bool| {
            let entries = history.entries.iter();
            entries.filter(|entry| what(&entry.what)).count()
        };
        match self {
            Self::Durable => history.acknowledged().len(),
            Self::OneCompletion | Self::NoOrphans => history.end.effects.len() / 2,
            Self::OneLeader => seen(|what| matches!(what, What::Leader { .. })),
            Self::Order => history.end.runs.values().map(|run| run.events.len()).sum(),
            Self::SameState => history.end.replicas.len(),
            Self::Artifacts => history.end.artifacts.len(),
            Self::BadInput => seen(|what| {
                matches!(
                    what,
                    What::BadInput {
                        status: Some(_),
                        ..
                    }
                )
            }),
            Self::MajorityOnly => {
                seen(|what| matches!(what, What::MinorityWrite { .. } | What::MinorityRead { .. }))
            }
            Self::Recovery => seen(|what| matches!(what, What::Recovered { .. })),
            Self::Elsewhere => {
                seen(|what| matches!(what, What::WentOn { .. })) + elsewhere::moved(history)
            }
        }
    }

    /// What is counted as evidence.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Durable => "runs",
            Self::OneCompletion | Self::NoOrphans => "executions",
            Self::OneLeader => "views",
            Self::Order => "events",
            Self::SameState => "replicas",
            Self::Artifacts => "artifacts",
            Self::BadInput => "requests",
            Self::MajorityOnly => "probes",
            Self::Recovery => "recoveries",
            Self::Elsewhere => "runs and moves",
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// A run, task, shard or node.
    pub subject: String,
    /// What is wrong, with what proves it.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            promise,
            subject,
            text,
        } = self;
        write!(f, "{}: {subject}: {text}", promise.text())
    }
}

/// Collects what one promise's check finds.
struct Findings {
    promise: Promise,
    found: Vec<Violation>,
}

impl Findings {
    fn of(promise: Promise) -> Self {
        Self {
            promise,
            found: Vec::new(),
        }
    }

    fn add(&mut self, subject: impl fmt::Display, text: impl Into<String>) {
        self.found.push(Violation {
            promise: self.promise,
            subject: subject.to_string(),
            text: text.into(),
        });
    }
}

/// Everything that is wrong with a history; nothing, if all promises were kept.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    [
        durable::check,
        completion::check,
        leadership::check,
        order::check,
        orphans::check,
        replicas::check,
        artifacts::check,
        input::check,
        majority::check,
        recovery::check,
        elsewhere::check,
    ]
    .into_iter()
    .flat_map(|check| check(history).found)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_in_which_all_went_well_has_no_violation() {
        assert_eq!(check(&samples::good()), []);
    }

    #[test]
    fn an_empty_history_has_none_either() {
        assert_eq!(check(&History::default()), []);
    }
}
