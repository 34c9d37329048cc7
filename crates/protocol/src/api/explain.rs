//! Why steps do not run: the bodies of `explain`.

use serde::{Deserialize, Serialize};

/// `GET /v1/runs/{id}/steps/{step}/explain`: why is this step not running?
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The step.
    pub step: String,
    /// The iteration that this is about, for a step in a loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<String>,
    /// Its state.
    pub state: String,
    /// One sentence that says it all.
    pub summary: String,
    /// How the step's iterations stand, for a step in a loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<IterationCounts>,
    /// What stands in the way, most important first, each with its count of agents.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// The smallest changes that would make it run.
    #[serde(default)]
    pub would_fit: Vec<String>,
    /// What its broker knows, while it waits for a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingView>,
}

/// `GET /v1/runs/{id}/explain`: what do the steps of the run wait for?
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunExplanation {
    /// The run.
    pub run: String,
    /// Its state.
    pub state: String,
    /// Steps that are not done, in the order of the flow, one for each step: of a step in a
    /// loop, the iteration that says most.
    pub steps: Vec<Explanation>,
    /// Further steps that are not done and are not told here.
    pub more: usize,
}

/// How many iterations of a step are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IterationCounts {
    /// That were begun.
    pub begun: u32,
    /// Without a place to run yet.
    pub waiting: u32,
    /// Launching, running or out of sight.
    pub running: u32,
    /// Over, well or badly.
    pub ended: u32,
}

/// A reason why a step does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A name that does not change: `cpus`, `mem`, `disk`, `gpus`, `ports` (too little is
    /// free), `cpus_total` and so on (no agent is that large), `where`, `gpus_kept`, `set_aside`,
    /// `not_offered`, `quota`, `no_offers`, `disconnected`; empty: something else.
    #[serde(default)]
    pub code: String,
    /// In words: `mem: wants 64g, at most 8g free`.
    pub text: String,
    /// On how many agents it fails first.
    pub agents: u32,
}

impl Reason {
    /// A reason that is not about single agents.
    #[must_use]
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
            agents: 0,
        }
    }
}

/// What a broker knows of a request that waits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WaitingView {
    /// The pool in whose queue it is.
    #[serde(default)]
    pub pool: String,
    /// How many requests are more urgent, of all owners.
    pub position: usize,
    /// How many requests wait in all.
    pub queue_length: usize,
    /// Since when it waits, RFC 3339.
    pub since: String,
    /// Until when its `sla` wants it done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Who pays, and what it has already.
    pub owner: OwnerView,
    /// What is offered.
    pub offers: OffersView,
    /// Changes to what is asked for that would make it fit, the smallest first.
    pub changes: Vec<ChangeView>,
    /// The first thing that stands in the way on each agent; a few of them.
    pub agents: Vec<AgentVerdict>,
    /// The agent on which there will be room first, and who holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextRoom>,
    /// For tasks that must be placed together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gang: Option<GangView>,
}

/// An owner's part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnerView {
    /// Its name; empty: the default owner.
    pub name: String,
    /// Processor time that its tasks hold in this pool.
    pub cpus: f64,
    /// Memory in bytes that they hold.
    pub mem: u64,
    /// GPUs that they hold.
    pub gpus: u32,
    /// Ports that they hold.
    pub ports: u32,
    /// The largest share of a resource that it holds, 0 to 1.
    pub share: f64,
    /// The same, of the other owners that wait.
    pub others: Vec<OwnerShare>,
    /// Its weight: twice as much may hold twice as much.
    pub weight: u32,
    /// How many of its requests are before this one.
    pub position: usize,
}

/// An owner's share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnerShare {
    /// Its name.
    pub name: String,
    /// The largest share of a resource that it holds, 0 to 1.
    pub share: f64,
    /// How many of its requests wait.
    pub waiting: usize,
}

/// What a pool offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffersView {
    /// Agents that were heard of.
    pub agents_known: usize,
    /// Of which something was offered when places were last sought.
    pub agents_offered: usize,
    /// When that was, RFC 3339; none: never since it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
}

/// A change to what is asked for. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    /// In words: `fits now on 3 agents if mem ≤ 6g`.
    pub text: String,
    /// It would then fit on so many agents.
    pub agents: u32,
    /// At most so much processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// At most so many bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem: Option<u64>,
    /// At most so many bytes of scratch space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// At most so many GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// At most so many ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<u32>,
    /// At most so many tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u32>,
    /// Without the step's `where`.
    #[serde(default)]
    pub without_where: bool,
    /// Not now, but once the agents are empty.
    #[serde(default)]
    pub once_drained: bool,
}

/// What stands in the way on one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentVerdict {
    /// The agent's id.
    pub agent: String,
    /// Its host's name.
    pub host: String,
    /// As in [`Reason::code`].
    pub code: String,
}

/// Where there will be room first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NextRoom {
    /// The agent's host.
    pub host: String,
    /// In words: `waits for 2 of 8 cpus`.
    pub text: String,
    /// About when, RFC 3339; none: that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Whose tasks have to end first.
    pub holders: Vec<HolderView>,
}

/// A task that holds what another one waits for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HolderView {
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// The iteration, for a step in a loop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iteration: Option<String>,
    /// Who pays for it.
    pub owner: String,
    /// Processor time that it holds.
    pub cpus: f64,
    /// Memory in bytes that it holds.
    pub mem: u64,
    /// Since when, RFC 3339.
    pub since: String,
    /// Until about when, RFC 3339; none: that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What that is guessed from: `earlier` (how long the step took before), `timeout` or `sla`
    /// (at the latest); empty: nothing.
    #[serde(default)]
    pub guessed_from: String,
}

/// Tasks that must be placed together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GangView {
    /// How many.
    pub tasks: u32,
    /// How many of them have room now.
    pub have_room: u32,
    /// No two on one agent.
    pub apart: bool,
    /// All in one zone.
    pub one_zone: bool,
}
