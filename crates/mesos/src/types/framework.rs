//! Frameworks: who asks for resources.

use super::{CapabilityType, FrameworkId, Labels};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One thing that a framework can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// What.
    #[serde(rename = "type")]
    pub kind: CapabilityType,
}

impl From<CapabilityType> for Capability {
    fn from(kind: CapabilityType) -> Self {
        Self { kind }
    }
}

/// A framework, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FrameworkInfo {
    /// The user that tasks run as, unless a command says otherwise.
    pub user: String,
    /// For people.
    pub name: String,
    /// Given again at every SUBSCRIBE but the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<FrameworkId>,
    /// Seconds that the master waits for a lost scheduler before it kills the tasks; 0 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_timeout: Option<f64>,
    /// Let tasks outlive a restart of their agent; false by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<bool>,
    /// Before MULTI_ROLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// With MULTI_ROLE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Who it authenticates as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Its own pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webui_url: Option<String>,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// Its own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// The least that it wants to be offered, per role, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_filters: Option<Json>,
}

impl FrameworkInfo {
    /// Whether the framework says that it can do this.
    pub fn can(&self, capability: &CapabilityType) -> bool {
        self.capabilities.iter().any(|c| &c.kind == capability)
    }

    /// The roles it is in: `roles` with MULTI_ROLE (none is possible), else `role`, else `*`.
    pub fn effective_roles(&self) -> Vec<String> {
        if self.can(&CapabilityType::MultiRole) {
            return self.roles.clone();
        }
        vec![self.role.clone().unwrap_or_else(|| "*".to_owned())]
    }
}
