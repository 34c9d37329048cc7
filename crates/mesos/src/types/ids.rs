//! Identifiers. In Mesos's JSON each is an object: `{"value": "…"}`.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            /// The text of the id; whoever issued it decides what it looks like.
            pub value: String,
        }

        impl $name {
            /// An id with this text.
            pub fn new(value: impl Into<String>) -> Self {
                Self { value: value.into() }
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.value
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.value)
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                Self::new(value)
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                Self { value }
            }
        }
    )+};
}

id! {
    /// Issued by the master at the first SUBSCRIBE; a framework keeps it for ever.
    FrameworkId,
    /// Issued by the master when an agent registers; the agent keeps it across restarts.
    AgentId,
    /// Issued by the master; valid until the offer is used, declined or rescinded.
    OfferId,
    /// Chosen by the framework, unique among its live tasks.
    TaskId,
    /// Chosen by the framework, unique on one agent.
    ExecutorId,
    /// Chosen by the framework for an offer operation that it wants to hear about.
    OperationId,
}

/// Issued by the agent for each run of an executor; that of a task of a group lies in its
/// executor's.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId {
    /// The text of the id.
    pub value: String,
    /// The container that this one is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<ContainerId>>,
}

impl ContainerId {
    /// The id of a container that is in no other.
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            parent: None,
        }
    }

    /// The text of the id, without its parents.
    pub fn as_str(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

impl From<&str> for ContainerId {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

/// Most bytes that an id chosen by a framework may have
/// (`src/common/validation.cpp` in the Mesos repository).
pub const MAX_ID_BYTES: usize = 255;

/// Checks a task or executor id as the master does before a launch.
///
/// # Errors
/// The rule that the id breaks, in Mesos's own words.
pub fn validate_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".into());
    }
    if id.len() > MAX_ID_BYTES {
        return Err(format!(
            "ID must not be greater than {MAX_ID_BYTES} characters"
        ));
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    if id.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(format!("'{id}' contains invalid characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_an_object_with_a_value() {
        let id: TaskId = serde_json::from_str(r#"{"value":"t-1"}"#).unwrap();
        assert_eq!(id, TaskId::new("t-1"));
        assert_eq!(serde_json::to_string(&id).unwrap(), r#"{"value":"t-1"}"#);
    }

    #[test]
    fn ids_that_would_leave_their_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", &"x".repeat(256)] {
            assert!(validate_id(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "run.step.1.2", "...", &"x".repeat(255), "ü"] {
            assert!(validate_id(good).is_ok(), "{good:?}");
        }
    }
}
