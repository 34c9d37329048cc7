//! Offers, and what is done with them.

use super::{
    AgentId, AllocationInfo, Attribute, DomainInfo, DurationInfo, ExecutorId, ExecutorInfo,
    FrameworkId, OfferId, OperationId, Resource, TaskInfo, TimeInfo, Url,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// When a machine will be down (`docs/maintenance.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailability {
    /// From.
    pub start: TimeInfo,
    /// For how long; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationInfo>,
}

/// Resources of one agent that one framework may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The offer.
    pub id: OfferId,
    /// To whom.
    pub framework_id: FrameworkId,
    /// Of whom.
    pub agent_id: AgentId,
    /// The agent's host.
    pub hostname: String,
    /// The agent's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// Where the agent is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainInfo>,
    /// What is offered; a name may occur twice (reserved and unreserved).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// What the agent's operator says about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// The framework's executors that are alive there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executor_ids: Vec<ExecutorId>,
    /// When the machine will be down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailability: Option<Unavailability>,
    /// For which of the framework's roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
}

/// Resources that the master would like to have back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InverseOffer {
    /// The inverse offer.
    pub id: OfferId,
    /// The agent's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// From whom.
    pub framework_id: FrameworkId,
    /// On which agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// When the machine will be down.
    pub unavailability: Unavailability,
    /// Which resources; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

/// For how long refused resources are not offered again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filters {
    /// Seconds; 5 when absent, at least 1 in effect unless 0, at most a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse_seconds: Option<f64>,
}

impl Filters {
    /// Refuse for this many seconds.
    pub fn refuse(seconds: f64) -> Self {
        Self {
            refuse_seconds: Some(seconds),
        }
    }
}

/// The body of a LAUNCH operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_infos: Vec<TaskInfo>,
}

/// Tasks that are launched together, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskGroupInfo {
    /// The tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskInfo>,
}

/// The body of a LAUNCH_GROUP operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaunchGroup {
    /// The executor of all of them.
    pub executor: ExecutorInfo,
    /// The tasks.
    pub task_group: TaskGroupInfo,
}

/// Something to do with offered resources. Those that we do not model are kept as they came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// `LAUNCH`, `LAUNCH_GROUP`, `RESERVE`, …
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Given when the framework wants to hear about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<OperationId>,
    /// Of a LAUNCH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
    /// Of a LAUNCH_GROUP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_group: Option<LaunchGroup>,
    /// The bodies of all other operations.
    #[serde(flatten)]
    pub other: Map<String, Json>,
}

impl Operation {
    /// Launch these tasks.
    pub fn launch(task_infos: Vec<TaskInfo>) -> Self {
        Self {
            kind: "LAUNCH".to_owned(),
            launch: Some(Launch { task_infos }),
            ..Self::default()
        }
    }
}
