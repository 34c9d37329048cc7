//! The types of Mesos's v1 protobuf files as serde structs, speaking the JSON that a
//! real master and agent speak: `bytes` are base64, enumerations are texts, times are
//! `{"nanoseconds": n}`, absent fields are not printed, unknown fields are ignored, and
//! unknown values of enumerations are kept.
//!
//! One file a subject: [`ids`], [`data`], [`enums`], [`resource`], [`command`],
//! [`task`], [`framework`], [`agent`], [`offer`]. Everything is re-exported here.

pub mod agent;
pub mod command;
pub mod data;
pub mod enums;
pub mod framework;
pub mod ids;
pub mod offer;
pub mod resource;
pub mod task;

pub use agent::*;
pub use command::*;
pub use data::*;
pub use enums::*;
pub use framework::*;
pub use ids::*;
pub use offer::*;
pub use resource::*;
pub use task::*;

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A key with, perhaps, a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The key; may occur twice.
    pub key: String,
    /// The value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Keys and values that Mesos only passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let labels = labels
            .into_iter()
            .map(|(k, v)| Label {
                key: k.into(),
                value: Some(v.into()),
            })
            .collect();
        Self { labels }
    }
}

/// A moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimeInfo {
    /// Since 1970.
    pub nanoseconds: i64,
}

/// A length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DurationInfo {
    /// Its length.
    pub nanoseconds: i64,
}

impl DurationInfo {
    /// As a duration; a negative one is none.
    pub fn to_duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.nanoseconds).unwrap_or(0))
    }
}

impl From<Duration> for DurationInfo {
    fn from(duration: Duration) -> Self {
        Self {
            nanoseconds: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}
