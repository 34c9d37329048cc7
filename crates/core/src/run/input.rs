//! What happens to a run: everything that [`decide`](super::decide()) decides about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Seat;
use crate::ids::{Attempt, Instance, NodeId};
use crate::sizing::Usage;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// The run's first input: enter the root.
    Start,
    /// There was more to do than one transition may: do the next part.
    Continue,
    /// The artifact registry's answer to [`Effect::LookUpArtifacts`](super::Effect::LookUpArtifacts).
    ArtifactsLookedUp {
        /// Who asked.
        instance: Instance,
        /// The outputs of the step that left all of them, or none if one is missing.
        #[serde(with = "crate::json")]
        found: Option<BTreeMap<String, Value>>,
    },
    /// The broker took the attempt's request into its queue.
    Requested {
        /// Whose attempt.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
    },
    /// The attempt waits in vain for a pool that cannot be reached, and goes on to the next one. It
    /// was not placed: a broker launches nothing before its placement is durable and confirmed.
    Spilled {
        /// Whose attempt.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// The pool that it leaves.
        from: String,
        /// The pool that it goes to.
        to: String,
        /// Why, for the history.
        reason: String,
    },
    /// The broker accepted an offer for the attempt; to be durable before Mesos hears of it.
    Launching {
        /// Whose attempt.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// The broker's pool.
        pool: String,
        /// The Mesos agent's id, for reconciliation.
        agent: String,
        /// The agent's host, for people.
        host: String,
        /// Where the further tasks of a gang are, by rank from 1.
        mates: Vec<Seat>,
    },
    /// The process runs.
    Running {
        /// Whose attempt.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// Where to look at it, e.g. the Spark driver's page.
        url: Option<String>,
    },
    /// The agent went out of the master's sight, or the pool out of ours; the task may come back.
    Unreachable {
        /// Whose attempt.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// Why, if it is not only the agent.
        reason: Option<String>,
    },
    /// The attempt ended.
    Ended {
        /// Whose attempt.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
        /// How.
        outcome: Outcome,
        /// What it used, as far as somebody measured it.
        usage: Option<Usage>,
    },
    /// A timer set by [`Effect::SetTimer`](super::Effect::SetTimer) fired.
    Timer {
        /// Whose timer.
        instance: Instance,
        /// The attempt that it was set for; a timer of an older one is void.
        attempt: Attempt,
    },
    /// Somebody wants the run to end.
    Cancel {
        /// Why, for the history.
        reason: String,
    },
    /// Somebody wants an ended run to go on: the failed parts again, or everything from a step on.
    Retry {
        /// The step to start from; none: what did not succeed.
        from: Option<NodeId>,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Well, with these outputs. An artifact is a value with the key
    /// [`$artifact`](crate::expression::ArtifactRef::KEY).
    Succeeded {
        /// Declared outputs and artifacts by name.
        #[serde(with = "crate::json")]
        outputs: BTreeMap<String, Value>,
    },
    /// Badly.
    Failed(Failure),
    /// It was killed because we asked for it.
    Killed,
}

/// Why an attempt failed, and who pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose budget.
    pub class: FailureClass,
    /// One or two sentences for people, at most [`Failure::MAX_MESSAGE_BYTES`].
    pub message: String,
    /// False: trying again cannot help (bad request, missing file).
    pub retryable: bool,
}

impl Failure {
    /// Longer messages are cut.
    pub const MAX_MESSAGE_BYTES: usize = 2048;
}

/// Whose budget a failure costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The step's own: its `retries`.
    Step,
    /// The platform's: lost agent, pre-emption, dropped launch, executor ended. Ten tries.
    Platform,
    /// It took too long. No tries.
    Timeout,
    /// It wanted more memory than it was given. Tried again with more at the platform's cost, as
    /// far as the step may have more ([`most_mem`](crate::sizing::most_mem)); then it is the step's.
    OutOfMemory,
}

impl FailureClass {
    /// How many there are.
    pub const COUNT: usize = 4;
}
