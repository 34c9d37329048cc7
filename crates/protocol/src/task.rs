//! The contract between a coordinator and the executor of its attempts.
//!
//! Towards the executor: a [`TaskPayload`] in `TaskInfo.data`. Back: a [`Started`] in the data
//! of TASK_RUNNING, a [`TaskResult`] in that of the terminal update (both are only valid in the
//! update that carries them: reconciliation answers have no data), and [`ExecutorMessage`]s,
//! which may be lost.

use std::collections::BTreeMap;

use meson_core::ids::TaskId;
use meson_core::run::{Failure, LaunchSpec};
pub use meson_core::sizing::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::{self, WireError};

/// Longest encoded [`TaskPayload`] or [`TaskResult`], in bytes.
pub const MAX_TASK_BYTES: usize = 1 << 20;
/// Longest encoded [`ExecutorMessage`], in bytes.
pub const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// Longest single output of a step, as JSON text, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// Longest sum of a step's outputs, as JSON text, in bytes.
pub const MAX_OUTPUTS_BYTES: usize = 256 << 10;

/// Everything that the executor needs for one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPayload {
    /// What to run.
    pub spec: LaunchSpec,
    /// Digest of the bundle that becomes the process's working directory; none: an empty one.
    pub bundle: Option<String>,
    /// Base addresses of coordinators (`http://host:port`), tried in turn, for bundle and logs.
    pub coordinators: Vec<String>,
    /// `Authorization: Bearer` of every request for this attempt.
    pub token: String,
    /// Where artifacts are.
    pub store: StoreLocation,
}

impl TaskPayload {
    /// The encoded description of an attempt, as the task of this rank is to get it: with its own
    /// ports, and of a gang, with the hosts and the first ports of all tasks.
    ///
    /// # Errors
    /// `bytes` are no description, or become longer than [`MAX_TASK_BYTES`].
    pub fn of_member(
        bytes: &[u8],
        rank: u32,
        hosts: &[String],
        gang_ports: &[u16],
        ports: &[u16],
    ) -> Result<Vec<u8>, WireError> {
        let mut payload = Self::decode(bytes)?;
        payload.spec.task.rank = rank;
        payload.spec.hosts = hosts.to_vec();
        payload.spec.gang_ports = gang_ports.to_vec();
        payload.spec.ports = ports.to_vec();
        payload.encode()
    }
}

/// An object store's address, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreLocation {
    /// `file:///folder` or `s3://bucket/prefix`.
    pub url: String,
    /// Endpoint, region, credentials, by the store's own names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Data of TASK_RUNNING.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Started {
    /// A page to look at, like the Spark driver's.
    pub url: Option<String>,
}

/// Data of a terminal update.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskResult {
    /// Outputs and artifacts by name; artifacts as `{"$artifact": …}`.
    #[serde(with = "meson_core::json")]
    pub outputs: BTreeMap<String, Value>,
    /// Set when the attempt did not succeed.
    pub failure: Option<Failure>,
    /// What it used.
    pub usage: Usage,
}

/// What the executor says in between: unreliable, numbered, the newest wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ExecutorMessage {
    /// A line of `MESON_PROGRESS`, or Spark's own progress.
    Progress {
        /// The attempt.
        task: TaskId,
        /// Grows by each message of this attempt.
        sequence: u64,
        /// 0 to 100.
        percent: u8,
        /// What it is doing.
        message: String,
        /// A page to look at, once known.
        url: Option<String>,
    },
    /// What an attempt uses, now and then.
    Usage {
        /// The attempt.
        task: TaskId,
        /// Counts with those of [`Progress`](Self::Progress).
        sequence: u64,
        /// What it used so far.
        usage: Usage,
    },
    /// The executor lives, and so do these attempts.
    Heartbeat {
        /// All attempts that it runs.
        tasks: Vec<TaskId>,
        /// Grows by each heartbeat of this executor.
        sequence: u64,
    },
}

macro_rules! framed {
    ($($message:ty, $what:literal, $limit:ident;)*) => {$(
        impl $message {
            /// As bytes, with a version in front.
            pub fn encode(&self) -> Result<Vec<u8>, WireError> {
                wire::encode($what, $limit, self)
            }

            /// From bytes, after a look at length and version.
            pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
                wire::decode($what, $limit, bytes)
            }
        }
    )*};
}

framed! {
    TaskPayload, "a task's description", MAX_TASK_BYTES;
    Started, "a task's start", MAX_TASK_BYTES;
    TaskResult, "a task's result", MAX_TASK_BYTES;
    ExecutorMessage, "an executor's message", MAX_MESSAGE_BYTES;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_as_written() {
        let message = ExecutorMessage::Progress {
            task: "recs-1.train.2-3.1".parse().unwrap(),
            sequence: 7,
            percent: 40,
            message: "training".to_owned(),
            url: None,
        };
        assert_eq!(
            ExecutorMessage::decode(&message.encode().unwrap()).unwrap(),
            message
        );
        let result = TaskResult {
            outputs: [("rmse".to_owned(), serde_json::json!(0.91))].into(),
            ..TaskResult::default()
        };
        assert_eq!(
            TaskResult::decode(&result.encode().unwrap()).unwrap(),
            result
        );
    }

    #[test]
    fn foreign_versions_lengths_and_garbage_are_told_apart() {
        let error = |bytes: &[u8]| Started::decode(bytes).unwrap_err().to_string();
        assert!(error(&[9, 0x80]).contains("version 9"));
        assert!(error(&[]).contains("empty"));
        assert!(error(&[1, 0xc1]).contains("cannot decode"));
        assert!(error(&vec![1; MAX_TASK_BYTES + 1]).contains("limit"));
    }
}
