//! What `squeue` says of jobs.

use std::fmt;

use crate::error::SlurmError;

/// The number of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a job, as far as it matters to who waits for its end
/// (`man squeue`, "JOB STATE CODES").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for resources, or was put back to wait.
    Pending,
    /// Has resources; its script runs, or is about to.
    Running,
    /// Has ended, and is being cleaned up.
    Completing,
    /// Ended with exit code 0.
    Completed,
    /// Ended with another one.
    Failed,
    /// Ended by `scancel`, its user's or an administrator's.
    Cancelled,
    /// Ended by its time limit, or its deadline.
    Timeout,
    /// Ended because it used more memory than it asked for.
    OutOfMemory,
    /// Its node failed, or could not be booted.
    NodeFailed,
    /// Ended for the benefit of a more important job.
    Preempted,
}

impl JobState {
    /// From what `squeue` prints. A state that a newer Slurm may have is taken for a running one: it
    /// is looked at again.
    fn parse(text: &str) -> Self {
        match text {
            "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED"
            | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => Self::Pending,
            "COMPLETING" | "STAGE_OUT" => Self::Completing,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "CANCELLED" | "REVOKED" => Self::Cancelled,
            "TIMEOUT" | "DEADLINE" => Self::Timeout,
            "OUT_OF_MEMORY" => Self::OutOfMemory,
            "NODE_FAIL" | "BOOT_FAIL" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Self::NodeFailed,
            "PREEMPTED" => Self::Preempted,
            _ => Self::Running,
        }
    }

    /// Whether nothing of it runs any more.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::Running | Self::Completing)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completing => "completing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Timeout => "ended by its time limit",
            Self::OutOfMemory => "out of memory",
            Self::NodeFailed => "lost with its node",
            Self::Preempted => "preempted",
        })
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// How it is.
    pub state: JobState,
    /// The node that its script runs on, once it has one.
    pub node: Option<String>,
    /// How the script ended, as `wait(2)` has it: the exit code above eight bits, the signal below.
    pub wait_status: u32,
    /// Why it waits, or ended, in Slurm's words.
    pub reason: String,
    /// Its name.
    pub name: String,
}

impl Job {
    /// The fields that [`parse`](Self::parse) expects, for `squeue --Format`. The name comes last,
    /// since anything may be in it.
    pub(crate) const FORMAT: &'static str =
        "JobID:|,State:|,BatchHost:|,exit_code:|,Reason:|,Name:|";

    /// A line of `squeue`; none if it is empty.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, SlurmError> {
        if line.trim().is_empty() {
            return Ok(None);
        }
        let unreadable = |what: &str| SlurmError::Unreadable {
            command: "squeue",
            reason: format!("{what} in {:?}", line.chars().take(200).collect::<String>()),
        };
        let mut fields = line.splitn(6, '|').map(str::trim);
        let mut next = || fields.next().ok_or_else(|| unreadable("too few fields"));
        let (id, state, node, wait_status, reason, name) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        let id = id.parse().map_err(|_| unreadable("no job's number"))?;
        let nobody = ["", "n/a", "(null)"].contains(&node);
        Ok(Some(Self {
            id: JobId(id),
            state: JobState::parse(state),
            node: (!nobody).then(|| node.to_owned()),
            wait_status: wait_status.parse().unwrap_or(0),
            reason: reason.to_owned(),
            name: name.strip_suffix('|').unwrap_or(name).to_owned(),
        }))
    }

    /// Whether it waits for a node that cannot be had: drained, down, or reserved for others.
    pub fn waits_in_vain(&self) -> bool {
        self.state == JobState::Pending && self.reason.starts_with("ReqNodeNotAvail")
    }

    /// How the script ended, for people.
    pub fn exit(&self) -> String {
        match (self.wait_status >> 8, self.wait_status & 0x7f) {
            (code, 0) => format!("exit code {code}"),
            (_, signal) => format!("signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As printed by Slurm 22.05.
    #[test]
    fn lines_of_squeue_are_understood() {
        let lines = "\
1|CANCELLED|n1|15|None|flow-01abc.step.2-3.1|
2|FAILED|n1|768|NonZeroExitCode|a|b|
4|PENDING|n/a|0|ReqNodeNotAvail, UnavailableNodes:n2|c|

";
        let jobs: Vec<Job> = lines
            .lines()
            .filter_map(|line| Job::parse(line).unwrap())
            .collect();
        assert_eq!(jobs.len(), 3);
        assert_eq!(jobs[0].name, "flow-01abc.step.2-3.1");
        assert_eq!(
            (jobs[0].state, jobs[0].exit().as_str()),
            (JobState::Cancelled, "signal 15")
        );
        assert_eq!(
            (jobs[1].name.as_str(), jobs[1].exit().as_str()),
            ("a|b", "exit code 3")
        );
        assert_eq!(jobs[2].node, None);
        assert!(jobs[2].waits_in_vain() && !jobs[0].waits_in_vain());
    }

    #[test]
    fn what_squeue_never_prints_is_an_error() {
        for line in ["slurm_load_jobs", "x|RUNNING|n|0|None|a", "1|RUNNING"] {
            assert!(Job::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_state_of_a_newer_slurm_is_no_end() {
        assert!(!JobState::parse("EXPEDITING").has_ended());
        for ended in ["COMPLETED", "BOOT_FAIL", "DEADLINE", "PREEMPTED"] {
            assert!(JobState::parse(ended).has_ended(), "{ended}");
        }
    }
}
