//! What actors have to do after a transition is committed.
//!
//! Effects are derived from committed events, and again from the records alone when a run's
//! actor starts anew: every one of them is therefore idempotent, told apart by the attempt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Place;
use crate::definition::Definition;
use crate::expression::{Expression, ResolvedText};
use crate::ids::{Attempt, Instance, TaskId};
use crate::matching::{Gang, Spread};
use crate::resources::Resources;
use crate::units::{Duration, Timestamp};

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Feed [`Input::Continue`](super::Input::Continue) soon: a wide loop has more to start.
    Continue,
    /// Ask the registry for these artifact ids; answer with
    /// [`Input::ArtifactsLookedUp`](super::Input::ArtifactsLookedUp).
    LookUpArtifacts {
        /// Who asks.
        instance: Instance,
        /// Name and id of each.
        artifacts: Vec<ResolvedArtifact>,
    },
    /// Start the attempt, or find it if it was started before.
    StartAttempt {
        /// Whose.
        instance: Instance,
        /// Which one; its number is part of the task id.
        attempt: Attempt,
        /// Where it was when this actor last heard: with an agent it is to be adopted there, not
        /// launched again; without one it waits in that pool.
        place: Option<Box<Place>>,
    },
    /// Finish a no-op attempt: feed [`Input::Ended`](super::Input::Ended) at once.
    CompleteNoop {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
    },
    /// Kill the attempt; it is no longer wanted.
    KillAttempt {
        /// Whose.
        instance: Instance,
        /// Which one.
        attempt: Attempt,
    },
    /// Feed [`Input::Timer`](super::Input::Timer) at that time.
    SetTimer {
        /// Whose.
        instance: Instance,
        /// For which attempt.
        attempt: Attempt,
        /// When.
        at: Timestamp,
    },
    /// The run ended: its actor can go.
    RunEnded,
}

/// An artifact id with its expressions evaluated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResolvedArtifact {
    /// The output's name.
    pub name: String,
    /// The artifact's id.
    pub id: String,
}

/// An attempt with everything evaluated: what the executor is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// The attempt.
    pub task: TaskId,
    /// What to run.
    pub kind: LaunchKind,
    /// The DSL function that made the step, for display.
    pub flavour: String,
    /// Extra environment.
    pub env: BTreeMap<String, ResolvedText>,
    /// `MESON_INPUT_<NAME>`: artifacts as their local path, other values as a JSON file.
    #[serde(with = "crate::json")]
    pub inputs: BTreeMap<String, Value>,
    /// `MESON_PARAM_<NAME>`.
    #[serde(with = "crate::json")]
    pub params: BTreeMap<String, Value>,
    /// `MESON_ITEM_<NAME>`.
    #[serde(with = "crate::json")]
    pub items: BTreeMap<String, Value>,
    /// Outputs that the process must write.
    pub outputs: Vec<String>,
    /// Artifacts that the process must leave behind.
    pub produces: Vec<ResolvedArtifact>,
    /// What it needs.
    pub resources: Resources,
    /// Must hold for the agent.
    pub require: Option<Expression>,
    /// Should hold for the agent.
    pub prefer: Option<Expression>,
    /// May be ended for others' sake.
    pub preemptible: bool,
    /// What its iterations should not share.
    pub spread: Option<Spread>,
    /// How many tasks at once, and how they stand together.
    pub gang: Gang,
    /// Where the tasks of a gang run, by rank: added once it has a place.
    pub hosts: Vec<String>,
    /// Of each task of a gang the first port, by rank: added likewise. Empty, if they ask for none.
    pub gang_ports: Vec<u16>,
    /// The task's own ports: added likewise.
    pub ports: Vec<u16>,
    /// An attempt that runs longer is killed.
    pub timeout: Option<Duration>,
    /// Wanted done by then.
    pub deadline: Option<Timestamp>,
    /// Who pays.
    pub owner: String,
    /// Where it goes first of all; empty: wherever its run is at home.
    pub region: String,
    /// Which pool; empty: the default.
    pub pool: String,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchKind {
    /// `sh -c`; artifact paths are put in quoted.
    Shell(ResolvedText),
    /// Program and arguments.
    Argv(Vec<ResolvedText>),
    /// A container.
    Docker {
        /// Image name.
        image: String,
        /// Arguments.
        args: Vec<ResolvedText>,
        /// Instead of the image's own.
        entrypoint: Option<Vec<ResolvedText>>,
        /// `host:container[:ro]`.
        mounts: Vec<ResolvedText>,
    },
    /// spark-submit.
    Spark {
        /// The application.
        app: ResolvedText,
        /// Its arguments.
        args: Vec<ResolvedText>,
        /// For a jar.
        main_class: Option<String>,
        /// Wanted Spark version, as a prefix.
        version: Option<String>,
        /// `--master`.
        master: Option<String>,
        /// `--conf`.
        conf: BTreeMap<String, ResolvedText>,
    },
    /// A run of another workflow; no resources are asked for.
    Workflow {
        /// That workflow.
        definition: Box<Definition>,
        /// Its parameters.
        #[serde(with = "crate::json")]
        params: BTreeMap<String, Value>,
    },
}
