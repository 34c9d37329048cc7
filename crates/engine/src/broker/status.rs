//! What a task status means for an attempt, and whose retry it costs
//! (docs/task-state-reasons.md; where the recorded traffic disagrees, that).

use bytes::Bytes;
use meson_core::run::FailureClass;
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

/// Interprets `status`. `seen` tells whether the attempt was heard of before from its executor or
/// agent, `killing` whether we asked for its end.
pub(super) fn interpret(status: &TaskStatus, seen: bool, killing: bool) -> Meaning {
    let data = status
        .data
        .as_ref()
        .map(|data| data.0.clone())
        .unwrap_or_default();
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
    match &status.reason {
        Some(StatusReason::MaxCompletionTimeReached) => FailureClass::Timeout,
        Some(StatusReason::ContainerLimitationMemory) => FailureClass::OutOfMemory,
        Some(StatusReason::ContainerLimitation | StatusReason::ContainerLimitationDisk) => {
            FailureClass::Step
        }
        Some(_) => FailureClass::Platform,
        None if status.source == Some(StatusSource::Executor) => FailureClass::Step,
        None => FailureClass::Platform,
    }
}

/// Killed, and not by us: a failed health check is the step's, all else the platform's.
fn killed_class(status: &TaskStatus) -> FailureClass {
    if status.healthy == Some(false) {
        FailureClass::Step
    } else {
        FailureClass::Platform
    }
}

fn failed(status: &TaskStatus, class: FailureClass, data: Bytes) -> AttemptState {
    let mut message = format!("{}", status.state);
    if let Some(reason) = &status.reason {
        message.push_str(&format!(" ({reason})"));
    }
    if let Some(text) = status.message.as_deref().filter(|text| !text.is_empty()) {
        message.push_str(&format!(": {text}"));
    }
    AttemptState::Failed {
        class,
        message,
        data,
    }
}

#[cfg(test)]
mod tests {
    use meson_mesos::types::{Data, TaskId};

    use super::*;

    fn status(state: TaskState, source: StatusSource, reason: Option<StatusReason>) -> TaskStatus {
        TaskStatus {
            source: Some(source),
            reason,
            ..TaskStatus::new(TaskId::new("r.s.1"), state)
        }
    }

    fn class(status: &TaskStatus) -> FailureClass {
        match interpret(status, true, false) {
            Meaning::State(AttemptState::Failed { class, .. }) => class,
            other => panic!("not a failure: {other:?}"),
        }
    }

    #[test]
    fn each_way_to_fail_costs_its_own_budget() {
        use {FailureClass as C, StatusReason as R, StatusSource as S, TaskState as T};
        for (state, source, reason, expected) in [
            (T::Failed, S::Executor, None, C::Step),
            (
                T::Failed,
                S::Agent,
                Some(R::ContainerLaunchFailed),
                C::Platform,
            ),
            (
                T::Failed,
                S::Agent,
                Some(R::ExecutorTerminated),
                C::Platform,
            ),
            (
                T::Failed,
                S::Agent,
                Some(R::ExecutorRegistrationTimeout),
                C::Platform,
            ),
            (
                T::Lost,
                S::Agent,
                Some(R::ExecutorReregistrationTimeout),
                C::Platform,
            ),
            (
                T::Failed,
                S::Agent,
                Some(R::ContainerLimitationMemory),
                C::OutOfMemory,
            ),
            (
                T::Failed,
                S::Executor,
                Some(R::MaxCompletionTimeReached),
                C::Timeout,
            ),
            (T::Dropped, S::Master, Some(R::InvalidOffers), C::Platform),
            (T::Gone, S::Master, Some(R::AgentRemoved), C::Platform),
            (
                T::GoneByOperator,
                S::Master,
                Some(R::AgentRemovedByOperator),
                C::Platform,
            ),
            (T::Killed, S::Agent, Some(R::AgentDraining), C::Platform),
        ] {
            assert_eq!(
                class(&status(state.clone(), source, reason.clone())),
                expected,
                "{state} {reason:?}"
            );
        }
        let unhealthy = TaskStatus {
            healthy: Some(false),
            ..status(T::Killed, S::Executor, None)
        };
        assert_eq!(class(&unhealthy), C::Step);
    }

    #[test]
    fn a_duplicate_ids_error_does_not_bury_the_live_task() {
        let error = status(
            TaskState::Error,
            StatusSource::Master,
            Some(StatusReason::TaskInvalid),
        );
        assert_eq!(interpret(&error, true, false), Meaning::Void);
        assert_eq!(class_of_unseen(&error), FailureClass::Platform);
    }

    fn class_of_unseen(status: &TaskStatus) -> FailureClass {
        match interpret(status, false, false) {
            Meaning::State(AttemptState::Failed { class, .. }) => class,
            other => panic!("not a failure: {other:?}"),
        }
    }

    #[test]
    fn a_kill_that_we_asked_for_is_no_failure() {
        let killed = status(TaskState::Killed, StatusSource::Executor, None);
        assert_eq!(
            interpret(&killed, true, true),
            Meaning::State(AttemptState::Killed)
        );
    }

    #[test]
    fn unknown_is_not_an_end() {
        let unknown = status(
            TaskState::Unknown,
            StatusSource::Master,
            Some(StatusReason::Reconciliation),
        );
        assert_eq!(interpret(&unknown, true, false), Meaning::Unsure);
    }

    #[test]
    fn the_drivers_page_comes_with_running_and_foreign_data_does_no_harm() {
        let mut running = status(TaskState::Running, StatusSource::Executor, None);
        let page = Started {
            url: Some("http://a:4040".to_owned()),
        };
        running.data = Some(Data(page.encode().unwrap().into()));
        assert_eq!(
            interpret(&running, false, false),
            Meaning::State(AttemptState::Running { url: page.url })
        );
        running.data = Some(Data(Bytes::from_static(b"{}")));
        assert_eq!(
            interpret(&running, false, false),
            Meaning::State(AttemptState::Running { url: None })
        );
    }
}
