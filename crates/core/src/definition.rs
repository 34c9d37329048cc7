//! A workflow as data: what the DSL lowers to, what is replicated and what a run follows.
//!
//! The flow is a tree of [`Node`]s in one flat list. Leaves are steps; inner nodes say
//! how their children follow each other. A step stands in the tree once, so every
//! instance of it is named by the node and by the iterations around it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::expression::{Expression, Template};
use crate::ids::NodeId;
use crate::matching::{Gang, Spread};
use crate::resources::Resources;
use crate::sizing::Auto;
use crate::units::Duration;

/// Version of this format; a coordinator refuses a definition that is newer than its own.
pub const FORMAT: u16 = 1;

/// A named, immutable graph of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// [`FORMAT`] at the time of writing.
    pub format: u16,
    /// The workflow's name.
    pub name: String,
    /// What it is for: the file's doc string.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// What a caller may or must give.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Param>,
    /// Who pays for it, for fair shares; empty: the default owner.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Home region; empty: the coordinator's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// How far its runs are replicated.
    #[serde(default)]
    pub replication: Replication,
    /// All nodes; a child stands after its parent.
    pub nodes: Vec<Node>,
    /// The root of the flow.
    pub root: NodeId,
}

/// How far a run's history is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replication {
    /// Survives the loss of a node.
    #[default]
    Regional,
    /// Survives the loss of a region.
    Global,
}

/// A parameter of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its name; a step sees it as `MESON_PARAM_<NAME>` and as `params.<name>`.
    pub name: String,
    /// What it may hold.
    #[serde(rename = "type")]
    pub kind: ParamType,
    /// Taken when the caller gives none; without it the parameter is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(with = "crate::json")]
    pub default: Option<Value>,
    /// What it means.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamType {
    /// Text.
    String,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// `true` or `false`.
    Bool,
    /// A list of anything.
    List,
    /// Any JSON.
    Any,
}

/// A node of the flow and its place in the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The node that it is a child of; none for the root.
    pub parent: Option<NodeId>,
    /// What it does.
    pub kind: NodeKind,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A leaf: something to run.
    Step(Box<Step>),
    /// One child after the other. An empty one is done at once.
    Sequence(Vec<NodeId>),
    /// All children at once.
    Parallel {
        /// The branches.
        branches: Vec<NodeId>,
        /// When it is done.
        join: Join,
    },
    /// The body once per item of the grid that the lists of `over` span.
    ForEach {
        /// Loop variables and their lists, outermost (slowest) first.
        over: Vec<(String, Items)>,
        /// What is done for each.
        body: NodeId,
        /// At most so many iterations at once; none: as many as there are.
        max_parallel: Option<u32>,
        /// Share of iterations, 0 to 1, that may fail without failing the loop.
        tolerate: f64,
    },
    /// One of two ways.
    When {
        /// Decides, once, when the node is entered.
        cond: Expression,
        /// Taken if it is true.
        then: NodeId,
        /// Taken if it is false.
        otherwise: Option<NodeId>,
    },
    /// The body again and again until the condition holds after a round.
    Repeat {
        /// What is repeated.
        body: NodeId,
        /// Evaluated after each round.
        until: Expression,
        /// The loop fails when this many rounds did not make the condition true.
        max_rounds: u32,
    },
}

/// When a parallel node is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// When every branch is.
    #[default]
    All,
    /// When the first branch succeeds; the others are then killed.
    Any,
}

/// The values of a loop variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Items {
    /// Known when the workflow was written.
    Literal(#[serde(with = "crate::json")] Vec<Value>),
    /// An expression that gives a list when the loop is entered.
    Computed(Expression),
}

/// A unit of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique within the workflow.
    pub name: String,
    /// What people read; empty: the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// How it runs.
    pub kind: StepKind,
    /// The DSL function that made it (`python`, `r`, …), for display; empty: the kind's own name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flavour: String,
    /// Extra environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Template>,
    /// Made available as files, `MESON_INPUT_<NAME>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Template>,
    /// Names that it must write to `MESON_OUTPUT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Artifacts that it leaves behind under ids of their own: when all of them exist
    /// already, the step is memoized.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub produces: Vec<Produces>,
    /// What it needs.
    #[serde(default)]
    pub resources: Resources,
    /// It may ask for something else, by what it turns out to need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
    /// Must hold for the agent (CEL over `attributes`, `region`, `zone`, `hostname`).
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub require: Option<Expression>,
    /// Should hold for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer: Option<Expression>,
    /// May be ended for others' sake, at the platform's cost; may therefore use what a resource
    /// manager lends until it wants it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preemptible: bool,
    /// What its iterations should not share, as far as there is a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// How many equal tasks an attempt has, all placed together or none.
    #[serde(default, skip_serializing_if = "Gang::is_single")]
    pub gang: Gang,
    /// How often its own failures are tried again.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// An attempt that runs longer is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// What becomes of an attempt whose agent is out of sight.
    #[serde(default, skip_serializing_if = "Unreachable::is_default")]
    pub unreachable: Unreachable,
    /// Wanted done this long after the run's start: orders the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<Duration>,
    /// Other regions than the workflow's, in order of preference: the first whose pool can be
    /// reached; empty: the workflow's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// Another pool than the default one; empty: the default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pool: String,
    /// Another owner than the workflow's; empty: the workflow's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
}

impl Step {
    /// A step of this name and kind, with the defaults of everything else.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: StepKind) -> Self {
        Self {
            name: name.into(),
            title: String::new(),
            kind,
            flavour: String::new(),
            env: BTreeMap::new(),
            inputs: BTreeMap::new(),
            outputs: Vec::new(),
            produces: Vec::new(),
            resources: Resources::DEFAULT,
            auto: None,
            require: None,
            prefer: None,
            preemptible: false,
            spread: None,
            gang: Gang::default(),
            retries: DEFAULT_RETRIES,
            timeout: None,
            unreachable: Unreachable::default(),
            sla: None,
            regions: Vec::new(),
            pool: String::new(),
            owner: String::new(),
        }
    }
}

/// Retries of a step's own failures when it does not say.
pub const DEFAULT_RETRIES: u32 = 2;

fn default_retries() -> u32 {
    DEFAULT_RETRIES
}

/// What becomes of an attempt whose agent is out of the resource manager's sight. It may still run
/// there, and may come back.
///
/// Whatever is chosen, an attempt that was replaced is killed when it is seen again, and what it
/// says then changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreachable {
    /// Wait until it is back, however long that takes: for steps that must never run twice at the
    /// same time. Only the step's own timeout, or the end of its run, ends the waiting.
    Wait,
    /// After so long another attempt takes over, at the platform's cost.
    ReplaceAfter(Duration),
}

impl Unreachable {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Unreachable {
    /// Five minutes: longer than a reboot, shorter than anybody's patience.
    fn default() -> Self {
        Self::ReplaceAfter(Duration::from_secs(300))
    }
}

impl std::str::FromStr for Unreachable {
    type Err = crate::units::UnitError;

    /// `wait`, or the time after which the attempt is replaced.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "wait" {
            return Ok(Self::Wait);
        }
        text.parse().map(Self::ReplaceAfter)
    }
}

/// An artifact that a step leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Produces {
    /// The output's name: `step.name` refers to it, and the process writes it to the
    /// path in `MESON_ARTIFACT_<NAME>`.
    pub name: String,
    /// Its id, the same for everything that may stand in for it.
    pub id: Template,
}

/// How a step runs. Few, since Starlark functions make the others out of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Done as soon as it is ready; asks nobody for resources.
    Noop,
    /// A process.
    Command(Command),
    /// A container.
    Docker {
        /// Image name.
        image: Template,
        /// Arguments.
        args: Vec<Template>,
        /// Instead of the image's own.
        entrypoint: Option<Vec<Template>>,
        /// `host:container[:ro]`.
        mounts: Vec<Template>,
    },
    /// spark-submit.
    Spark {
        /// The application: a file of the bundle (`.py`, `.jar`, `.R`).
        app: Template,
        /// Its arguments.
        args: Vec<Template>,
        /// For a jar.
        main_class: Option<String>,
        /// Wanted Spark version, as a prefix: `3.5` takes `3.5.8`.
        version: Option<String>,
        /// `--master`; none: `local[cpus]`.
        master: Option<Template>,
        /// `--conf`.
        conf: BTreeMap<String, Template>,
    },
    /// A run of another workflow, compiled into this one.
    Workflow {
        /// That workflow.
        definition: Box<Definition>,
        /// Its parameters.
        params: BTreeMap<String, Template>,
    },
}

/// A process's command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Given to `sh -c`; artifacts in it are replaced by their quoted local paths.
    Shell(Template),
    /// Program and arguments, no shell in between.
    Argv(Vec<Template>),
}

impl Definition {
    /// The node with this id. Ids come from this definition, so there is one.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The step at this node, if it is a leaf.
    pub fn step(&self, id: NodeId) -> Option<&Step> {
        match &self.nodes.get(id.0 as usize)?.kind {
            NodeKind::Step(step) => Some(step),
            _ => None,
        }
    }

    /// The node of the step with this name.
    pub fn step_named(&self, name: &str) -> Option<(NodeId, &Step)> {
        (0u32..)
            .zip(&self.nodes)
            .find_map(|(id, node)| match &node.kind {
                NodeKind::Step(step) if step.name == name => Some((NodeId(id), &**step)),
                _ => None,
            })
    }

    /// All steps in the order of the file's flow.
    pub fn steps(&self) -> impl Iterator<Item = (NodeId, &Step)> {
        (0u32..)
            .zip(&self.nodes)
            .filter_map(|(id, node)| match &node.kind {
                NodeKind::Step(step) => Some((NodeId(id), &**step)),
                _ => None,
            })
    }
}

impl StepKind {
    /// The kind's own name, as the DSL writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Command(_) => "command",
            Self::Docker { .. } => "docker",
            Self::Spark { .. } => "spark",
            Self::Workflow { .. } => "workflow",
        }
    }
}
