use meson_mesos::types::{Data, TaskId};

use super::*;
use {FailureClass as C, StatusReason as R, StatusSource as S, TaskState as T};

fn status(state: T, source: S, reason: Option<R>) -> TaskStatus {
    TaskStatus {
        source: Some(source),
        reason,
        ..TaskStatus::new(TaskId::new("r.s.1"), state)
    }
}

fn class(status: &TaskStatus) -> C {
    match interpret(status, true, false) {
        Meaning::State(AttemptState::Failed { class, .. }) => class,
        other => panic!("{status:?} is not a failure: {other:?}"),
    }
}

/// Whatever the reason is, these states mean the same.
#[test]
fn item_11_states_that_are_no_failures_mean_the_same_whatever_the_reason() {
    let reasons = [
        None,
        Some(R::Reconciliation),
        Some(R::AgentReregistered),
        Some(R::AgentRemoved),
        Some(R::Other("REASON_NEW".to_owned())),
    ];
    let sources = [S::Master, S::Agent, S::Executor];
    let state = Meaning::State;
    for (reason, source) in reasons
        .iter()
        .flat_map(|reason| sources.iter().map(move |source| (reason, source)))
    {
        for (mesos, expected) in [
            (T::Staging, state(AttemptState::Launching)),
            (T::Starting, state(AttemptState::Launching)),
            (T::Running, state(AttemptState::Running { url: None })),
            (T::Killing, state(AttemptState::Killing)),
            (
                T::Finished,
                state(AttemptState::Finished { data: Bytes::new() }),
            ),
            (T::Unreachable, state(AttemptState::Unreachable)),
            (T::Unknown, Meaning::Unsure),
            (T::Other("TASK_NEW".to_owned()), Meaning::Unsure),
        ] {
            let status = status(mesos.clone(), source.clone(), reason.clone());
            assert_eq!(
                interpret(&status, true, false),
                expected,
                "{mesos} {reason:?}"
            );
        }
    }
}

/// The whole table of who pays, as `docs/task-state-reasons.md` and the recorded traffic have it.
#[test]
fn item_13_reason_and_source_decide_whose_retry_it_costs() {
    let table = [
        // The process ended badly, and the executor says so.
        (T::Failed, S::Executor, None, C::Step),
        (
            T::Failed,
            S::Executor,
            Some(R::TaskHealthCheckStatusUpdated),
            C::Step,
        ),
        (
            T::Failed,
            S::Executor,
            Some(R::TaskCheckStatusUpdated),
            C::Step,
        ),
        // It used more than it asked for.
        (
            T::Failed,
            S::Agent,
            Some(R::ContainerLimitationDisk),
            C::Step,
        ),
        (T::Failed, S::Agent, Some(R::ContainerLimitation), C::Step),
        (
            T::Failed,
            S::Agent,
            Some(R::ContainerLimitationMemory),
            C::OutOfMemory,
        ),
        (
            T::Killed,
            S::Agent,
            Some(R::ContainerLimitationMemory),
            C::OutOfMemory,
        ),
        // It took too long.
        (
            T::Failed,
            S::Executor,
            Some(R::MaxCompletionTimeReached),
            C::Timeout,
        ),
        (
            T::Killed,
            S::Executor,
            Some(R::MaxCompletionTimeReached),
            C::Timeout,
        ),
        // The agent could not start it, or lost its executor.
        (T::Failed, S::Agent, None, C::Platform),
        (
            T::Failed,
            S::Agent,
            Some(R::ContainerLaunchFailed),
            C::Platform,
        ),
        (
            T::Failed,
            S::Agent,
            Some(R::CommandExecutorFailed),
            C::Platform,
        ),
        (
            T::Failed,
            S::Agent,
            Some(R::ContainerUpdateFailed),
            C::Platform,
        ),
        (
            T::Failed,
            S::Agent,
            Some(R::ContainerPreempted),
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
            Some(R::ExecutorUnregistered),
            C::Platform,
        ),
        (
            T::Failed,
            S::Agent,
            Some(R::ExecutorRegistrationTimeout),
            C::Platform,
        ),
        (
            T::Failed,
            S::Agent,
            Some(R::IoSwitchboardExited),
            C::Platform,
        ),
        (
            T::Lost,
            S::Agent,
            Some(R::ExecutorReregistrationTimeout),
            C::Platform,
        ),
        (
            T::Dropped,
            S::Agent,
            Some(R::ExecutorTerminated),
            C::Platform,
        ),
        (T::Lost, S::Agent, Some(R::ExecutorTerminated), C::Platform),
        (T::Failed, S::Agent, Some(R::GcError), C::Platform),
        (T::Dropped, S::Agent, Some(R::ResourcesUnknown), C::Platform),
        (T::Failed, S::Agent, Some(R::AgentRestarted), C::Platform),
        // The agent is gone.
        (T::Lost, S::Master, Some(R::AgentRemoved), C::Platform),
        (T::Lost, S::Master, Some(R::AgentDisconnected), C::Platform),
        (T::Gone, S::Master, Some(R::AgentRemoved), C::Platform),
        (T::Gone, S::Master, Some(R::Reconciliation), C::Platform),
        (
            T::GoneByOperator,
            S::Master,
            Some(R::AgentRemovedByOperator),
            C::Platform,
        ),
        (
            T::GoneByOperator,
            S::Master,
            Some(R::Reconciliation),
            C::Platform,
        ),
        (T::Killed, S::Agent, Some(R::AgentDraining), C::Platform),
        // The launch came to nothing.
        (T::Dropped, S::Master, Some(R::InvalidOffers), C::Platform),
        (T::Lost, S::Master, Some(R::InvalidOffers), C::Platform),
        (
            T::Dropped,
            S::Master,
            Some(R::AgentDisconnected),
            C::Platform,
        ),
        (
            T::Dropped,
            S::Master,
            Some(R::MasterDisconnected),
            C::Platform,
        ),
        (T::Error, S::Agent, Some(R::TaskInvalid), C::Platform),
        (T::Error, S::Agent, Some(R::TaskUnauthorized), C::Platform),
        (T::Error, S::Agent, Some(R::InvalidFrameworkId), C::Platform),
        // Somebody else ended it.
        (T::Killed, S::Executor, None, C::Platform),
        (
            T::Killed,
            S::Agent,
            Some(R::TaskKilledDuringLaunch),
            C::Platform,
        ),
        (T::Killed, S::Master, Some(R::FrameworkRemoved), C::Platform),
        // A reason that is newer than we are.
        (
            T::Failed,
            S::Executor,
            Some(R::Other("REASON_NEW".to_owned())),
            C::Platform,
        ),
    ];
    for (state, source, reason, expected) in table {
        let mut status = status(state.clone(), source, reason.clone());
        if state == T::Error {
            status.uuid = Some(Data(Bytes::from_static(b"u")));
        }
        assert_eq!(class(&status), expected, "{state} {reason:?}");
    }
    let unhealthy = TaskStatus {
        healthy: Some(false),
        ..status(T::Killed, S::Executor, None)
    };
    assert_eq!(class(&unhealthy), C::Step, "a failed health check");
}

#[test]
fn item_10_a_duplicate_ids_error_does_not_bury_the_live_task() {
    let error = status(T::Error, S::Master, Some(R::TaskInvalid));
    assert_eq!(interpret(&error, true, false), Meaning::Void);
    let Meaning::State(AttemptState::Failed { class, .. }) = interpret(&error, false, false) else {
        panic!("of a task that nobody has heard of it is an end")
    };
    assert_eq!(class, C::Platform);
}

#[test]
fn a_kill_that_we_asked_for_is_no_failure() {
    for (source, reason) in [
        (S::Executor, None),
        (S::Agent, Some(R::TaskKilledDuringLaunch)),
        (S::Agent, Some(R::AgentDraining)),
    ] {
        let killed = status(T::Killed, source, reason);
        assert_eq!(
            interpret(&killed, true, true),
            Meaning::State(AttemptState::Killed)
        );
    }
}

#[test]
fn the_drivers_page_comes_with_running_and_foreign_data_does_no_harm() {
    let mut running = status(T::Running, S::Executor, None);
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

#[test]
fn a_status_with_megabytes_is_cut_down_to_what_people_read() {
    let mut huge = status(T::Finished, S::Executor, None);
    huge.data = Some(Data(vec![7; 5 << 20].into()));
    let Meaning::State(AttemptState::Failed {
        class,
        message,
        data,
    }) = interpret(&huge, true, false)
    else {
        panic!("its result cannot be read")
    };
    assert!(class == C::Platform && message.contains("5242880 bytes") && data.is_empty());

    let mut wordy = status(T::Failed, S::Executor, None);
    wordy.message = Some("é".repeat(5 << 20));
    let Meaning::State(AttemptState::Failed { message, .. }) = interpret(&wordy, true, false)
    else {
        panic!("it failed")
    };
    assert!(message.len() < 3_000);
}
