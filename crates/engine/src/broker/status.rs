//! What a task status means for an attempt, and whose retry it costs
//! (docs/task-state-reasons.md; where the recorded traffic disagrees, that).

use bytes::Bytes;
use meson_core::run::{Failure, FailureClass};
use meson_mesos::types::{StatusReason, StatusSource, TaskState, TaskStatus};
use meson_protocol::task::Started;

use super::messages::AttemptState;

/// What the broker makes of a status.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// News for the step actor.
    State(AttemptState),
    /// Says nothing for sure: to be asked again.
    Unsure,
    /// Not about the attempt that lives under this id.
    Void,
}

/// The most data of a status that is read: the outputs of a step, with room to spare.
const MAX_DATA_BYTES: usize = 1 << 20;

/// Interprets `status`. `seen` tells whether the attempt was heard of before from its executor or
/// agent, `killing` whether we asked for its end.
pub(super) fn interpret(status: &TaskStatus, seen: bool, killing: bool) -> Meaning {
    let data = status
        .data
        .as_ref()
        .map(|data| data.0.clone())
        .unwrap_or_default();
    if data.len() > MAX_DATA_BYTES && status.state.is_terminal() {
        let message = format!(
            "the update that it ended came with {} bytes of data, at most {MAX_DATA_BYTES} are read",
            data.len()
        );
        return Meaning::State(AttemptState::Failed {
            class: FailureClass::Platform,
            message,
            data: Bytes::new(),
        });
    }
    let state = match &status.state {
        TaskState::Staging | TaskState::Starting => AttemptState::Launching,
        TaskState::Running => AttemptState::Running {
            url: started(&data).url,
        },
        TaskState::Killing => AttemptState::Killing,
        TaskState::Finished => AttemptState::Finished { data },
        TaskState::Killed if killing => AttemptState::Killed,
        TaskState::Killed => failed(status, killed_class(status), data),
        TaskState::Failed => failed(status, failed_class(status), data),
        // A duplicate task id is answered under the id of the task that is alive, without a uuid:
        // whoever takes it at its word buries a live task.
        TaskState::Error if seen && status.uuid.is_none() => return Meaning::Void,
        TaskState::Error
        | TaskState::Dropped
        | TaskState::Gone
        | TaskState::GoneByOperator
        | TaskState::Lost => failed(status, FailureClass::Platform, data),
        TaskState::Unreachable => AttemptState::Unreachable,
        // A master with an in-memory registry says UNKNOWN of live tasks after its restart.
        _ => return Meaning::Unsure,
    };
    Meaning::State(state)
}

fn started(data: &Bytes) -> Started {
    // Other executors may put what they like in here; ours is known by its version byte.
    Started::decode(data).unwrap_or_default()
}

/// The executor's own failures are the step's; what the agent or the master did is the platform's.
fn failed_class(status: &TaskStatus) -> FailureClass {
    let by_executor = status.source == Some(StatusSource::Executor);
    match &status.reason {
        Some(StatusReason::MaxCompletionTimeReached) => FailureClass::Timeout,
        Some(StatusReason::ContainerLimitationMemory) => FailureClass::OutOfMemory,
        Some(StatusReason::ContainerLimitation | StatusReason::ContainerLimitationDisk) => {
            FailureClass::Step
        }
        Some(StatusReason::TaskCheckStatusUpdated | StatusReason::TaskHealthCheckStatusUpdated)
            if by_executor =>
        {
            FailureClass::Step
        }
        Some(_) => FailureClass::Platform,
        None if by_executor => FailureClass::Step,
        None => FailureClass::Platform,
    }
}

/// Killed, and not by us: a failed health check is the step's, a limit of its container too, all
/// else the platform's.
fn killed_class(status: &TaskStatus) -> FailureClass {
    match &status.reason {
        _ if status.healthy == Some(false) => FailureClass::Step,
        Some(_) => failed_class(status),
        None => FailureClass::Platform,
    }
}

fn failed(status: &TaskStatus, class: FailureClass, data: Bytes) -> AttemptState {
    let mut message = format!("{}", status.state);
    if let Some(reason) = &status.reason {
        message.push_str(&format!(" ({reason})"));
    }
    if let Some(text) = status.message.as_deref().filter(|text| !text.is_empty()) {
        let most = text.floor_char_boundary(Failure::MAX_MESSAGE_BYTES);
        message.push_str(": ");
        message.push_str(&text[..most]);
    }
    AttemptState::Failed {
        class,
        message,
        data,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
