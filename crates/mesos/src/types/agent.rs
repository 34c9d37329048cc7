//! Agents and masters: who they are and where.

use super::{AgentId, Capability, Ranges, Resource, Scalar, Set, Text, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Something an operator says about an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its name; may occur twice.
    pub name: String,
    /// Which of the next four is set.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// A number: `spark:3.5` is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Scalar>,
    /// Ranges: `[1-3,5-7]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// A set; the agent's command line cannot make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// A text: everything else, `3.5.1` too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
}

impl Attribute {
    /// A text.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: ValueType::Text,
            text: Some(Text {
                value: value.into(),
            }),
            ..Self::default()
        }
    }

    /// A number.
    pub fn scalar(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            kind: ValueType::Scalar,
            scalar: Some(Scalar { value }),
            ..Self::default()
        }
    }
}

/// A region or zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// What fails together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultDomain {
    /// Far apart.
    pub region: Named,
    /// Near each other.
    pub zone: Named,
}

/// Where something is (`docs/fault-domains.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainInfo {
    /// Its region and zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_domain: Option<FaultDomain>,
}

impl DomainInfo {
    /// A region and a zone in it.
    pub fn new(region: impl Into<String>, zone: impl Into<String>) -> Self {
        let fault_domain = FaultDomain {
            region: Named {
                name: region.into(),
            },
            zone: Named { name: zone.into() },
        };
        Self {
            fault_domain: Some(fault_domain),
        }
    }
}

/// An agent, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// How schedulers name its host.
    pub hostname: String,
    /// Its HTTP port; 5051 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// All that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// What its operator says about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Its id, once it has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AgentId>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainInfo>,
}

/// Host and port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Host address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// TCP port.
    pub port: u16,
}

/// A URL in parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Url {
    /// `http` or `https`.
    pub scheme: String,
    /// Host and port.
    pub address: Address,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The query, as it came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<Json>,
    /// The fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fragment: Option<String>,
}

/// The leading master.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MasterInfo {
    /// New at every start; the first part of all ids that it issues.
    pub id: String,
    /// IPv4 address, in network byte order read as a little-endian number (deprecated).
    #[serde(default)]
    pub ip: u32,
    /// TCP port (deprecated).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `master@ip:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// Host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainInfo>,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
}
