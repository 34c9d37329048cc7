//! What the engine answers when it cannot do what it was asked: a code for programs, a sentence
//! for people, and what to do about it.

use meson_core::ids::RunId;
use meson_protocol::api::ErrorDetail;
use serde::{Deserialize, Serialize};

/// What kind of trouble it is; the API chooses the HTTP status by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// There is no such thing.
    NotFound,
    /// The request makes no sense; sending it again changes nothing.
    BadInput,
    /// The request contradicts what exists.
    Conflict,
    /// Something exceeds its limit.
    TooLarge,
    /// Not now; the same request may succeed later, or at another coordinator.
    Unavailable,
    /// No answer in time; whether the request was carried out is not known.
    Timeout,
    /// A fault of ours; the log says more.
    Internal,
}

/// Why a call to the engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No run has this id.
    #[error("there is no run {run}")]
    RunNotFound {
        /// The id asked for.
        run: String,
    },
    /// The run's workflow has no such step.
    #[error("run {run} has no step {step:?}")]
    StepNotFound {
        /// The run.
        run: RunId,
        /// The step asked for.
        step: String,
        /// The names that are closest to it.
        similar: Vec<String>,
    },
    /// No pool has this name.
    #[error("there is no pool {pool:?}")]
    PoolNotFound {
        /// The name asked for.
        pool: String,
        /// The names that are closest to it.
        similar: Vec<String>,
    },
    /// The loop has no such iteration, or the step is not there yet.
    #[error("step {step:?} of run {run} has no iteration {iteration:?}")]
    IterationNotFound {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// The iteration asked for.
        iteration: String,
    },
    /// Nobody stored such an artifact.
    #[error("there is no artifact {name} with id {id:?}")]
    ArtifactNotFound {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Nobody uploaded such a bundle, or its upload is not complete.
    #[error("there is no bundle {digest}")]
    BundleNotFound {
        /// Its digest.
        digest: String,
    },
    /// The definition or the parameters are wrong.
    #[error("cannot accept workflow {workflow:?}: {}", first(problems))]
    Rejected {
        /// The workflow's name.
        workflow: String,
        /// One sentence for each problem.
        problems: Vec<String>,
    },
    /// An argument of the call is wrong.
    #[error("cannot {action}: {reason}")]
    BadInput {
        /// What was asked for.
        action: &'static str,
        /// What is wrong with it.
        reason: String,
        /// What to do instead.
        remedy: String,
    },
    /// A run with this id exists and is not the same.
    #[error("run {run} exists already, with another definition or other parameters")]
    RunExists {
        /// The id.
        run: RunId,
    },
    /// The run is in a state that does not allow it.
    #[error("cannot {action} run {run}: it is {state}")]
    WrongState {
        /// What was asked for.
        action: &'static str,
        /// The run.
        run: RunId,
        /// Its state.
        state: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Something exceeds its limit.
    #[error("{what} of {bytes} bytes is above the limit of {limit} bytes")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: usize,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The bytes of an upload are not what its digest says.
    #[error("the uploaded bytes have the digest {found}, not {expected}")]
    DigestMismatch {
        /// What was announced.
        expected: String,
        /// What came.
        found: String,
    },
    /// The shard cannot be served here now.
    #[error("cannot {action}: {reason}")]
    Unavailable {
        /// What was asked for.
        action: &'static str,
        /// What is missing.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer in {waited_ms} ms to: {action}")]
    Timeout {
        /// What was asked for.
        action: &'static str,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// A node's number is in use with other data.
    #[error("node {node} is known to the cluster with other data than this node has")]
    NodeTaken {
        /// The number.
        node: u64,
    },
    /// The coordinator that leads the shard has answered with an error.
    #[error("{}", detail.message)]
    Elsewhere {
        /// What kind of trouble it is.
        kind: ErrorKind,
        /// What it said.
        detail: ErrorDetail,
    },
    /// Something of ours is broken.
    #[error("cannot {action}: {reason}")]
    Internal {
        /// What was asked for.
        action: &'static str,
        /// What failed.
        reason: String,
    },
}

fn first(problems: &[String]) -> String {
    match problems {
        [] => "it is not valid".to_owned(),
        [one] => one.clone(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}

impl EngineError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::RunNotFound { .. }
            | Self::StepNotFound { .. }
            | Self::PoolNotFound { .. }
            | Self::IterationNotFound { .. }
            | Self::ArtifactNotFound { .. }
            | Self::BundleNotFound { .. } => ErrorKind::NotFound,
            Self::Rejected { .. } | Self::BadInput { .. } | Self::DigestMismatch { .. } => {
                ErrorKind::BadInput
            }
            Self::RunExists { .. } | Self::WrongState { .. } | Self::NodeTaken { .. } => {
                ErrorKind::Conflict
            }
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Elsewhere { kind, .. } => *kind,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// A stable, short name for programs.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::RunNotFound { .. } => "run_not_found",
            Self::StepNotFound { .. } => "step_not_found",
            Self::PoolNotFound { .. } => "pool_not_found",
            Self::IterationNotFound { .. } => "iteration_not_found",
            Self::ArtifactNotFound { .. } => "artifact_not_found",
            Self::BundleNotFound { .. } => "bundle_not_found",
            Self::Rejected { .. } => "workflow_rejected",
            Self::BadInput { .. } => "bad_input",
            Self::RunExists { .. } => "run_exists",
            Self::WrongState { .. } => "wrong_state",
            Self::TooLarge { .. } => "too_large",
            Self::DigestMismatch { .. } => "digest_mismatch",
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::NodeTaken { .. } => "node_taken",
            Self::Elsewhere { detail, .. } => &detail.code,
            Self::Internal { .. } => "internal",
        }
    }

    /// What to do about it; empty where there is nothing to say.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::RunNotFound { .. } => {
                "look at `mesonctl runs` for the runs that there are".to_owned()
            }
            Self::StepNotFound { similar, .. } if similar.is_empty() => {
                "look at `mesonctl status RUN` for the steps that there are".to_owned()
            }
            Self::PoolNotFound { similar, .. } if similar.is_empty() => {
                "look at `mesonctl pool` for the pools that there are".to_owned()
            }
            Self::StepNotFound { similar, .. } | Self::PoolNotFound { similar, .. } => {
                format!("did you mean {}?", similar.join(" or "))
            }
            Self::IterationNotFound { .. } => {
                "iterations are numbered from 0, `2-17` inside of nested loops".to_owned()
            }
            Self::ArtifactNotFound { .. } => {
                "look at `mesonctl artifacts` for the artifacts that there are".to_owned()
            }
            Self::BundleNotFound { .. } => "upload the bundle, then submit the run".to_owned(),
            Self::Rejected { .. } => "run `mesonctl check` on the file".to_owned(),
            Self::RunExists { .. } => {
                "choose another id, or leave the choice to the coordinator".to_owned()
            }
            Self::BadInput { remedy, .. } => remedy.clone(),
            Self::WrongState { remedy, .. } | Self::TooLarge { remedy, .. } => (*remedy).to_owned(),
            Self::DigestMismatch { .. } => "upload the bundle again".to_owned(),
            Self::Unavailable { .. } => {
                "try again in a moment, or ask another coordinator".to_owned()
            }
            Self::Timeout { .. } => {
                "it may have been done: look before you ask again, or ask with the same id"
                    .to_owned()
            }
            Self::NodeTaken { .. } => {
                "give it a number of its own; if the node has lost its data, restore them from a backup, or remove the node and let a new one join".to_owned()
            }
            Self::Elsewhere { detail, .. } => detail.remedy.clone(),
            Self::Internal { .. } => "the coordinator's log says more".to_owned(),
        }
    }

    /// The body of the HTTP API's answer.
    #[must_use]
    pub fn detail(&self) -> ErrorDetail {
        ErrorDetail {
            code: self.code().to_owned(),
            message: self.to_string(),
            remedy: self.remedy(),
            problems: match self {
                Self::Rejected { problems, .. } => problems.clone(),
                Self::Elsewhere { detail, .. } => detail.problems.clone(),
                _ => Vec::new(),
            },
        }
    }
}

/// Up to three of `names` that `text` may have been meant for, the closest first.
pub(crate) fn similar<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut close: Vec<(usize, &str)> = names
        .map(|name| (distance(text, name), name))
        .filter(|(distance, name)| *distance <= 2 + name.len() / 4)
        .collect();
    close.sort_unstable();
    close
        .into_iter()
        .take(3)
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// Levenshtein's distance, case apart.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_step_is_answered_with_what_was_meant() {
        let names = ["wrangle", "train_all", "train_one", "publish"];
        assert_eq!(similar("train_al", names.into_iter())[0], "train_all");
        assert!(similar("zzzzzzzzzz", names.into_iter()).is_empty());
        let error = EngineError::StepNotFound {
            run: "recs-1".parse().unwrap(),
            step: "publsh".to_owned(),
            similar: similar("publsh", names.into_iter()),
        };
        assert_eq!(error.remedy(), "did you mean publish?");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn every_problem_of_a_refused_definition_is_listed() {
        let error = EngineError::Rejected {
            workflow: "w".to_owned(),
            problems: vec!["no root".to_owned(), "no steps".to_owned()],
        };
        assert_eq!(
            error.to_string(),
            "cannot accept workflow \"w\": no root (and 1 more)"
        );
        assert_eq!(error.detail().problems.len(), 2);
    }
}
