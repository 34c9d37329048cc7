//! What the end of a job means for its attempt: Slurm's word beside the executor's.
//!
//! The executor knows how the step's process ended, and Slurm knows why: a process that got SIGTERM
//! because its node was wanted for something more important looks to the executor like one that
//! failed. So the end of a job that Slurm brought about goes before a failure that the executor
//! reports; a success stands.

use meson_mesos::types::{Data, StatusReason, StatusSource, TaskState, TaskStatus};
use meson_protocol::task::TaskResult;
use meson_slurm::{Job, JobState};

/// What Slurm did to a job, in Mesos's words, which say whose retry it costs.
struct Done {
    state: TaskState,
    reason: Option<StatusReason>,
    message: String,
}

/// The end that Slurm brought about, if it did.
fn by_slurm(job: &Job) -> Option<Done> {
    let (state, reason) = match job.state {
        // The step's own timeout is the executor's business; this is the pool's or the partition's.
        JobState::Timeout => (
            TaskState::Failed,
            Some(StatusReason::MaxCompletionTimeReached),
        ),
        JobState::OutOfMemory => (
            TaskState::Failed,
            Some(StatusReason::ContainerLimitationMemory),
        ),
        JobState::NodeFailed => (TaskState::Gone, Some(StatusReason::AgentRemoved)),
        JobState::Preempted => (TaskState::Failed, Some(StatusReason::ContainerPreempted)),
        // By somebody else: what we cancel ourselves is looked at before this.
        JobState::Cancelled => (TaskState::Killed, None),
        _ => return None,
    };
    Some(Done {
        state,
        reason,
        message: format!("Slurm job {} was {}", job.id, words(job)),
    })
}

fn words(job: &Job) -> String {
    match job.reason.as_str() {
        "" | "None" => job.state.to_string(),
        reason => format!("{} ({reason})", job.state),
    }
}

/// The executor's terminal `status`, in the light of how its job ended.
pub(super) fn combined(mut status: TaskStatus, job: Option<&Job>, killed: bool) -> TaskStatus {
    if status.state == TaskState::Finished {
        return status;
    }
    if killed {
        status.state = TaskState::Killed;
        return status;
    }
    let Some(done) = job.and_then(by_slurm) else {
        return status;
    };
    status.message = Some(match status.message {
        Some(own) if !own.is_empty() => format!("{}; {own}", done.message),
        _ => done.message,
    });
    status.state = done.state;
    status.reason = done.reason;
    status.source = Some(StatusSource::Agent);
    status.data = status.data.as_ref().and_then(without_failure);
    status
}

/// The result without the executor's opinion of whose fault it was; what was used still counts.
fn without_failure(data: &Data) -> Option<Data> {
    let result = TaskResult::decode(data).ok()?;
    let rest = TaskResult {
        failure: None,
        ..result
    };
    rest.encode().ok().map(Data::from)
}

/// The last word about an attempt whose executor said none, to be told in its place. `ran`: an
/// executor had begun.
pub(super) fn last_word(
    mut status: TaskStatus,
    job: Option<&Job>,
    killed: bool,
    ran: bool,
) -> TaskStatus {
    status.source = Some(StatusSource::Agent);
    if killed {
        status.state = TaskState::Killed;
        status.message = Some("ended as asked".to_owned());
        return status;
    }
    let done = job.and_then(by_slurm).unwrap_or_else(|| match job {
        Some(job) if ran => Done {
            state: TaskState::Failed,
            reason: Some(StatusReason::ExecutorTerminated),
            message: format!(
                "the executor ended without a word: Slurm job {} {}, {}",
                job.id,
                words(job),
                job.exit()
            ),
        },
        Some(job) => Done {
            state: TaskState::Dropped,
            reason: Some(StatusReason::ContainerLaunchFailed),
            message: format!(
                "Slurm job {} did not get as far as the executor: {}, {}; is the executor there, and the shared folder?",
                job.id,
                words(job),
                job.exit()
            ),
        },
        None => Done {
            state: TaskState::Lost,
            reason: Some(StatusReason::ExecutorTerminated),
            message: "Slurm knows no job of the attempt any more".to_owned(),
        },
    });
    status.state = done.state;
    status.reason = done.reason;
    status.message = Some(done.message);
    status
}

#[cfg(test)]
mod tests {
    use meson_core::run::{Failure, FailureClass};
    use meson_mesos::types::TaskId;
    use meson_protocol::task::Usage;
    use meson_slurm::JobId;

    use super::*;

    fn job(state: JobState) -> Job {
        Job {
            id: JobId(7),
            state,
            node: Some("n1".to_owned()),
            wait_status: 9,
            reason: "None".to_owned(),
            name: "r-1.a.1".to_owned(),
        }
    }

    fn status(state: TaskState) -> TaskStatus {
        let result = TaskResult {
            failure: Some(Failure {
                class: FailureClass::Step,
                message: "killed by SIGTERM".to_owned(),
                retryable: true,
            }),
            usage: Usage {
                peak_rss_bytes: 5,
                ..Usage::default()
            },
            ..TaskResult::default()
        };
        TaskStatus {
            data: Some(result.encode().unwrap().into()),
            source: Some(StatusSource::Executor),
            message: Some("killed by SIGTERM".to_owned()),
            ..TaskStatus::new(TaskId::new("r-1.a.1"), state)
        }
    }

    #[test]
    fn what_slurm_did_goes_before_what_the_executor_saw() {
        use {JobState as J, StatusReason as R, TaskState as T};
        for (job_state, state, reason) in [
            (J::Timeout, T::Failed, Some(R::MaxCompletionTimeReached)),
            (
                J::OutOfMemory,
                T::Failed,
                Some(R::ContainerLimitationMemory),
            ),
            (J::NodeFailed, T::Gone, Some(R::AgentRemoved)),
            (J::Preempted, T::Failed, Some(R::ContainerPreempted)),
            (J::Cancelled, T::Killed, None),
        ] {
            for own in [T::Failed, T::Killed] {
                let told = combined(status(own), Some(&job(job_state)), false);
                assert_eq!(
                    (told.state, &told.reason),
                    (state.clone(), &reason),
                    "{job_state}"
                );
                assert!(told.message.unwrap().contains("SIGTERM"));
                let rest = TaskResult::decode(&told.data.unwrap()).unwrap();
                assert_eq!((rest.failure, rest.usage.peak_rss_bytes), (None, 5));
            }
        }
    }

    #[test]
    fn a_failure_of_the_steps_own_stays_one() {
        for job in [
            None,
            Some(job(JobState::Failed)),
            Some(job(JobState::Completed)),
        ] {
            let told = combined(status(TaskState::Failed), job.as_ref(), false);
            assert_eq!(told, status(TaskState::Failed));
        }
    }

    #[test]
    fn a_success_stands_whatever_became_of_the_job() {
        let finished = status(TaskState::Finished);
        assert_eq!(
            combined(finished.clone(), Some(&job(JobState::Cancelled)), true),
            finished
        );
    }

    #[test]
    fn what_we_asked_for_is_no_failure() {
        let told = combined(
            status(TaskState::Failed),
            Some(&job(JobState::Cancelled)),
            true,
        );
        assert_eq!(told.state, TaskState::Killed);
        let told = last_word(status(TaskState::Staging), None, true, false);
        assert_eq!(told.state, TaskState::Killed);
    }

    #[test]
    fn an_executor_without_a_last_word_costs_the_platform() {
        let of = |job: Option<&Job>, ran| {
            let told = last_word(status(TaskState::Staging), job, false, ran);
            (told.state, told.message.unwrap())
        };
        let (state, message) = of(Some(&job(JobState::Failed)), true);
        assert_eq!(state, TaskState::Failed);
        assert!(
            message.contains("job 7") && message.contains("signal 9"),
            "{message}"
        );
        assert_eq!(
            of(Some(&job(JobState::Failed)), false).0,
            TaskState::Dropped
        );
        assert_eq!(
            of(Some(&job(JobState::NodeFailed)), true).0,
            TaskState::Gone
        );
        assert_eq!(of(None, true).0, TaskState::Lost);
    }
}
