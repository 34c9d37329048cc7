//! Resources and the values they are made of.

use super::{Labels, ReservationType, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A number. Mesos keeps three decimals (`src/common/values.cpp`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scalar {
    /// The number.
    pub value: f64,
}

/// Integers from `begin` to `end`, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    /// First.
    pub begin: u64,
    /// Last.
    pub end: u64,
}

/// Several ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// The ranges; not necessarily in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub range: Vec<Range>,
}

/// Several texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// The texts; not necessarily in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub item: Vec<String>,
}

/// A text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub value: String,
}

/// One layer of a reservation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Static or dynamic.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ReservationType>,
    /// For this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Reserved by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The framework's own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// To which of a framework's roles resources are allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AllocationInfo {
    /// The role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// An amount of something that an agent has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// `cpus`, `mem` and `disk` (megabytes), `gpus`, `ports`, or the operator's own.
    pub name: String,
    /// Which of the next three is set.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// The amount, of a scalar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Scalar>,
    /// The amount, of ranges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// The amount, of a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// Reserved for this role, `*` when unreserved; before RESERVATION_REFINEMENT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Which role of the framework it is offered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
    /// Layers of reservations, outermost first; with RESERVATION_REFINEMENT.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// A dynamic reservation; before RESERVATION_REFINEMENT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    /// Persistent volumes and disk sources, as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Json>,
    /// Present when the resource may be taken back at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocable: Option<Json>,
    /// Present when several tasks may share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Json>,
    /// The resource provider, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<Json>,
}

impl Resource {
    /// An unreserved scalar.
    pub fn scalar(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            kind: ValueType::Scalar,
            scalar: Some(Scalar { value }),
            ..Self::default()
        }
    }

    /// Unreserved ranges, both ends included.
    pub fn ranges(name: impl Into<String>, ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let range = ranges
            .into_iter()
            .map(|(begin, end)| Range { begin, end })
            .collect();
        Self {
            name: name.into(),
            kind: ValueType::Ranges,
            ranges: Some(Ranges { range }),
            ..Self::default()
        }
    }

    /// An unreserved set.
    pub fn set<T: Into<String>>(
        name: impl Into<String>,
        items: impl IntoIterator<Item = T>,
    ) -> Self {
        let item = items.into_iter().map(Into::into).collect();
        Self {
            name: name.into(),
            kind: ValueType::Set,
            set: Some(Set { item }),
            ..Self::default()
        }
    }

    /// The same, allocated to a role.
    pub fn allocated_to(mut self, role: &str) -> Self {
        self.allocation_info = Some(AllocationInfo {
            role: Some(role.to_owned()),
        });
        self
    }
}
