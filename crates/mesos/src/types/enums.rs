//! Enumerations. A value that we do not know is kept as `Other`, so that a newer
//! master can say it and we can pass it on.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

macro_rules! text_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$vmeta])* $variant,)+
            /// A value that this library does not know, as it was written.
            Other(String),
        }

        impl $name {
            /// The name as it is written in protobuf and JSON.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Cow::<'de, str>::deserialize(deserializer)?.as_ref().into())
            }
        }
    };
}

text_enum! {
    /// Where a task is in its life (`TaskState` in `mesos.proto`).
    #[derive(Default)]
    TaskState {
        /// Known to the master or agent; the executor has not said anything yet.
        #[default]
        Staging = "TASK_STAGING",
        /// The executor has it.
        Starting = "TASK_STARTING",
        /// Runs.
        Running = "TASK_RUNNING",
        /// Is being killed; only sent to frameworks with TASK_KILLING_STATE.
        Killing = "TASK_KILLING",
        /// Ended well. Terminal.
        Finished = "TASK_FINISHED",
        /// Ended badly. Terminal.
        Failed = "TASK_FAILED",
        /// Killed. Terminal.
        Killed = "TASK_KILLED",
        /// Its description is wrong. Terminal.
        Error = "TASK_ERROR",
        /// For frameworks that are not PARTITION_AWARE: everything from DROPPED to GONE.
        /// May come back to life.
        Lost = "TASK_LOST",
        /// Was not launched because of a passing error. Terminal.
        Dropped = "TASK_DROPPED",
        /// Its agent cannot be reached; it may run.
        Unreachable = "TASK_UNREACHABLE",
        /// Its agent says that it is no more. Terminal.
        Gone = "TASK_GONE",
        /// An operator says that its agent is no more; it may run.
        GoneByOperator = "TASK_GONE_BY_OPERATOR",
        /// The master does not know it.
        Unknown = "TASK_UNKNOWN",
    }
}

impl TaskState {
    /// No other state follows, and the task holds no resources any more.
    ///
    /// LOST counts, because a framework that is not PARTITION_AWARE is told nothing better;
    /// such a task can still come back (`docs/high-availability-framework-guide.md`).
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::Finished
                | Self::Failed
                | Self::Killed
                | Self::Error
                | Self::Lost
                | Self::Dropped
                | Self::Gone
        )
    }
}

text_enum! {
    /// Who made a status update.
    StatusSource {
        /// The master; such an update has no uuid.
        Master = "SOURCE_MASTER",
        /// The agent.
        Agent = "SOURCE_AGENT",
        /// The executor.
        Executor = "SOURCE_EXECUTOR",
    }
}

text_enum! {
    /// Why a task is in its state (`docs/task-state-reasons.md`).
    StatusReason {
        /// The executor could not be started (deprecated by Mesos, still in use).
        CommandExecutorFailed = "REASON_COMMAND_EXECUTOR_FAILED",
        /// The container could not be launched, or a URI not fetched.
        ContainerLaunchFailed = "REASON_CONTAINER_LAUNCH_FAILED",
        /// A limit of the container was exceeded.
        ContainerLimitation = "REASON_CONTAINER_LIMITATION",
        /// Disk.
        ContainerLimitationDisk = "REASON_CONTAINER_LIMITATION_DISK",
        /// Memory: the kernel's OOM killer.
        ContainerLimitationMemory = "REASON_CONTAINER_LIMITATION_MEMORY",
        /// The container was pre-empted.
        ContainerPreempted = "REASON_CONTAINER_PREEMPTED",
        /// The container could not be updated.
        ContainerUpdateFailed = "REASON_CONTAINER_UPDATE_FAILED",
        /// `max_completion_time` passed.
        MaxCompletionTimeReached = "REASON_MAX_COMPLETION_TIME_REACHED",
        /// The executor did not register in time.
        ExecutorRegistrationTimeout = "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
        /// The executor did not come back in time after its agent's restart.
        ExecutorReregistrationTimeout = "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
        /// The executor ended.
        ExecutorTerminated = "REASON_EXECUTOR_TERMINATED",
        /// The executor was unregistered.
        ExecutorUnregistered = "REASON_EXECUTOR_UNREGISTERED",
        /// The framework was removed.
        FrameworkRemoved = "REASON_FRAMEWORK_REMOVED",
        /// Resources were not there.
        GcError = "REASON_GC_ERROR",
        /// The framework id in a message was wrong.
        InvalidFrameworkId = "REASON_INVALID_FRAMEWORKID",
        /// The offer was not valid any more.
        InvalidOffers = "REASON_INVALID_OFFERS",
        /// The master disconnected.
        MasterDisconnected = "REASON_MASTER_DISCONNECTED",
        /// An answer to RECONCILE.
        Reconciliation = "REASON_RECONCILIATION",
        /// Resources are unknown to the agent.
        ResourcesUnknown = "REASON_RESOURCES_UNKNOWN",
        /// The agent's connection broke.
        AgentDisconnected = "REASON_AGENT_DISCONNECTED",
        /// The agent is being drained.
        AgentDraining = "REASON_AGENT_DRAINING",
        /// The agent was removed.
        AgentRemoved = "REASON_AGENT_REMOVED",
        /// The agent was removed by an operator.
        AgentRemovedByOperator = "REASON_AGENT_REMOVED_BY_OPERATOR",
        /// The agent came back.
        AgentReregistered = "REASON_AGENT_REREGISTERED",
        /// The agent restarted.
        AgentRestarted = "REASON_AGENT_RESTARTED",
        /// The agent is not known.
        AgentUnknown = "REASON_AGENT_UNKNOWN",
        /// A health check or check has news.
        TaskCheckStatusUpdated = "REASON_TASK_CHECK_STATUS_UPDATED",
        /// A health check has news.
        TaskHealthCheckStatusUpdated = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
        /// The task group may not run.
        TaskGroupInvalid = "REASON_TASK_GROUP_INVALID",
        /// The task group is not authorised.
        TaskGroupUnauthorized = "REASON_TASK_GROUP_UNAUTHORIZED",
        /// The task's description is wrong.
        TaskInvalid = "REASON_TASK_INVALID",
        /// Killed before the executor registered.
        TaskKilledDuringLaunch = "REASON_TASK_KILLED_DURING_LAUNCH",
        /// The task is not authorised.
        TaskUnauthorized = "REASON_TASK_UNAUTHORIZED",
        /// The task is unknown.
        TaskUnknown = "REASON_TASK_UNKNOWN",
        /// The executor's I/O switchboard exited.
        IoSwitchboardExited = "REASON_IO_SWITCHBOARD_EXITED",
    }
}

text_enum! {
    /// What a framework can do (`FrameworkInfo.Capability.Type`).
    CapabilityType {
        /// Accepts revocable resources.
        RevocableResources = "REVOCABLE_RESOURCES",
        /// Understands TASK_KILLING.
        TaskKillingState = "TASK_KILLING_STATE",
        /// Takes agents with GPUs.
        GpuResources = "GPU_RESOURCES",
        /// Understands shared resources.
        SharedResources = "SHARED_RESOURCES",
        /// Understands the states of partitioned tasks.
        PartitionAware = "PARTITION_AWARE",
        /// Uses `roles`, not `role`.
        MultiRole = "MULTI_ROLE",
        /// Uses `reservations`, not `role` and `reservation`, in resources.
        ReservationRefinement = "RESERVATION_REFINEMENT",
        /// Takes agents of other regions than the master's.
        RegionAware = "REGION_AWARE",
    }
}

text_enum! {
    /// Which arm of a value is set.
    #[derive(Default)]
    ValueType {
        /// A number.
        #[default]
        Scalar = "SCALAR",
        /// Ranges of integers, both ends included.
        Ranges = "RANGES",
        /// A set of texts.
        Set = "SET",
        /// A text.
        Text = "TEXT",
    }
}

text_enum! {
    /// How an executor came to be.
    ExecutorType {
        /// Not said.
        Unknown = "UNKNOWN",
        /// Mesos's own, for task groups.
        Default = "DEFAULT",
        /// The framework's own.
        Custom = "CUSTOM",
    }
}

text_enum! {
    /// How resources are reserved.
    ReservationType {
        /// By the agent's operator, in `--resources`.
        Static = "STATIC",
        /// By a framework or operator, at run time.
        Dynamic = "DYNAMIC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_value_survives_a_round_trip() {
        let state: TaskState = serde_json::from_str(r#""TASK_FROZEN""#).unwrap();
        assert_eq!(state, TaskState::Other("TASK_FROZEN".into()));
        assert_eq!(serde_json::to_string(&state).unwrap(), r#""TASK_FROZEN""#);
    }

    #[test]
    fn unreachable_and_unknown_tasks_may_still_run() {
        for alive in [
            TaskState::Unreachable,
            TaskState::Unknown,
            TaskState::GoneByOperator,
            TaskState::Killing,
        ] {
            assert!(!alive.is_terminal(), "{alive}");
        }
        for dead in [
            TaskState::Dropped,
            TaskState::Gone,
            TaskState::Error,
            TaskState::Finished,
        ] {
            assert!(dead.is_terminal(), "{dead}");
        }
    }
}
