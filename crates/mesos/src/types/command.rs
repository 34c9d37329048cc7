//! What is to be run, and by which executor.

use super::{Data, DurationInfo, ExecutorId, ExecutorType, FrameworkId, Labels, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A file that the agent fetches into the sandbox before it starts anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uri {
    /// `http`, `https`, `file` or a path; where from.
    pub value: String,
    /// Set the executable bit (and do not extract).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// Extract an archive; true unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<bool>,
    /// Keep it in the agent's fetcher cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// The name in the sandbox; the last part of `value` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_file: Option<String>,
}

/// One environment variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentVariable {
    /// Its name.
    pub name: String,
    /// `VALUE` or `SECRET`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its value, when it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A secret, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Json>,
}

/// Environment variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<EnvironmentVariable>,
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| EnvironmentVariable {
                name: name.into(),
                value: Some(value.into()),
                ..Default::default()
            })
            .collect();
        Self { variables }
    }
}

/// A command line with what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandInfo {
    /// Files to fetch first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<Uri>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Run `value` by `/bin/sh -c`; true unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<bool>,
    /// Shell text, or the path of the executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `argv`, its first item included; only without a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// The user to run it as; the framework's unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl CommandInfo {
    /// Shell text.
    pub fn shell(text: impl Into<String>) -> Self {
        Self {
            shell: Some(true),
            value: Some(text.into()),
            ..Self::default()
        }
    }

    /// Whether `value` is shell text.
    pub fn is_shell(&self) -> bool {
        self.shell.unwrap_or(true)
    }
}

/// A process that runs tasks on an agent and reports on them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecutorInfo {
    /// CUSTOM for a framework's own.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ExecutorType>,
    /// Its id; the same id needs an identical ExecutorInfo (`src/master/validation.cpp`).
    pub executor_id: ExecutorId,
    /// The framework; filled in by the master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<FrameworkId>,
    /// How to start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandInfo>,
    /// Container settings, as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Json>,
    /// What it uses beside its tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people (deprecated by Mesos).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The framework's own bytes for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// How others find it, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Json>,
    /// How long it may take to end after a SHUTDOWN event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_grace_period: Option<DurationInfo>,
    /// The framework's own labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}
