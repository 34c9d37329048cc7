//! Every attempt that has a folder: what its executor said, what Slurm says of its job, and what
//! follows. Decides only: things that were seen come in, [`Act`]s come out.
//!
//! Two things are seen, at different times and neither of them first: the list of jobs, and the
//! folders. What is concluded from the absence of something (a job, a word of the executor) is
//! concluded only from a look that began after it had to be there.
//!
//! * [`task`]: one attempt. * Here: all of them, and what is asked about them.

mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use meson_core::units::Timestamp;
use meson_mesos::scheduler::{Event, Update};
use meson_mesos::types::{
    Data, StatusReason, StatusSource, TaskId, TaskInfo, TaskState, TaskStatus,
};
use meson_protocol::folder::Claim;
use meson_slurm::node::Amounts;
use meson_slurm::{Job, JobId, JobState, SlurmError};

use self::task::{AGAIN, Submission, Task};
use super::offers::plus;
use super::spool::Seen;

/// Under this number stands what is said in an executor's place, after all that it may have said.
pub(super) const OUR_WORD: u64 = 1 << 40;

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// Submit the job of this attempt, whose folder is to be made if `info` is there.
    Submit {
        task: String,
        info: Option<Box<TaskInfo>>,
    },
    /// Ask the script of this job to end.
    Terminate(JobId),
    /// Have Slurm end this job.
    Cancel(JobId),
    /// Claim the attempt for nobody.
    Void(String),
    /// Likewise one that has no folder, so that whoever is about to make one comes too late.
    Bury(String),
    /// Say this in the executor's place.
    Say(String, Box<TaskStatus>),
    /// The update of this number is acknowledged.
    Forget(String, u64),
    /// So is the last one: no job may begin the attempt any more.
    Close(String),
    /// Nobody works in the folder any more.
    Remove(String),
    /// Tell the broker.
    Tell(Box<Event>),
}

/// All attempts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    tasks: BTreeMap<String, Task>,
    executor_mib: u64,
    /// When the last list of jobs was asked for that came.
    listed_at: Option<Timestamp>,
    /// When the last look at the folders began that came to an end.
    looked_at: Option<Timestamp>,
}

impl Ledger {
    pub(super) fn new(executor_mib: u64) -> Self {
        Self {
            executor_mib,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What was read of folders already, so that it need not be read again.
    pub(super) fn known(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let numbers = |task: &Task| task.said.keys().copied().collect();
        self.tasks
            .iter()
            .map(|(name, task)| (name.clone(), numbers(task)))
            .collect()
    }

    /// What our jobs will hold on nodes that do not show it yet.
    pub(super) fn waiting(&self) -> BTreeMap<String, Amounts> {
        let mut waiting = BTreeMap::new();
        for task in self.tasks.values() {
            let pending = match &task.job {
                Some(job) => job.state == JobState::Pending,
                None => matches!(
                    task.submission,
                    Submission::UnderWay { .. } | Submission::Unsure { .. }
                ),
            };
            if pending && !task.closed {
                let held: &mut Amounts = waiting.entry(task.node.clone()).or_default();
                *held = plus(*held, task.holds);
            }
        }
        waiting
    }

    /// The broker launches an attempt.
    pub(super) fn launch(&mut self, info: TaskInfo, acts: &mut Vec<Act>) {
        let name = info.task_id.value.clone();
        if self.tasks.contains_key(&name) {
            tracing::warn!(task = name, "launched a second time, ignored");
            return;
        }
        let mut task = Task::of(&info, self.executor_mib);
        task.submission = Submission::UnderWay { tries: 1 };
        task.wanted = true;
        self.tasks.insert(name.clone(), task);
        acts.push(Act::Submit {
            task: name,
            info: Some(Box::new(info)),
        });
    }

    /// How the submission went.
    pub(super) fn submitted(
        &mut self,
        name: &str,
        result: Result<JobId, SlurmError>,
        now: Timestamp,
    ) {
        let Some(task) = self.tasks.get_mut(name) else {
            return;
        };
        let tries = match task.submission {
            Submission::UnderWay { tries } => tries,
            _ => 1,
        };
        task.submission = match result {
            Ok(id) => {
                task.job.get_or_insert_with(|| Job {
                    id,
                    state: JobState::Pending,
                    node: None,
                    wait_status: 0,
                    reason: String::new(),
                    name: name.to_owned(),
                });
                Submission::Done(now)
            }
            Err(error) if error.is_unsure() => Submission::Unsure { tries, at: now },
            Err(error) => Submission::Refused(error.to_string()),
        };
    }

    /// The folder of an attempt could not be written: nothing of it was submitted.
    pub(super) fn not_written(&mut self, name: &str, why: &str, acts: &mut Vec<Act>) {
        if let Some(task) = self.tasks.remove(name) {
            let mut status = task.status(name, TaskState::Dropped);
            status.source = Some(StatusSource::Master);
            status.message = Some(format!("writing the attempt's folder: {why}"));
            acts.push(tell(status));
        }
    }

    /// Jobs of ours and of others that Slurm knows; asked for at `asked`.
    pub(super) fn jobs(&mut self, jobs: Vec<Job>, asked: Timestamp, acts: &mut Vec<Act>) {
        let mut by_name: BTreeMap<String, Vec<Job>> = BTreeMap::new();
        for job in jobs {
            if self.tasks.contains_key(&job.name) {
                by_name.entry(job.name.clone()).or_default().push(job);
            }
        }
        self.listed_at = Some(asked);
        for (name, task) in &mut self.tasks {
            let jobs = by_name.remove(name).unwrap_or_default();
            let own = pick(&jobs, task.claim.as_ref());
            // A job that was submitted meanwhile is in no list that was asked for before.
            let submitted_since = match &task.submission {
                Submission::UnderWay { .. } => true,
                Submission::Done(at) | Submission::Unsure { at, .. } => *at >= asked,
                _ => false,
            };
            // A submission that was heard of twice: one of them is enough.
            for other in &jobs {
                if own.is_some_and(|own| own.id != other.id) && other.state == JobState::Pending {
                    acts.push(Act::Cancel(other.id));
                }
            }
            if own.is_some() || !submitted_since {
                task.job = own.cloned();
            }
            let in_vain = task.job.as_ref().is_some_and(Job::waits_in_vain);
            task.in_vain = in_vain.then(|| task.in_vain.unwrap_or(asked));
            let live = task.job.as_ref().is_some_and(|job| !job.state.has_ended());
            if live || submitted_since {
                task.jobless = None;
            } else {
                task.jobless.get_or_insert(asked);
            }
        }
    }

    /// What the folders hold. The look at them began at `began`, when these were `known`.
    pub(super) fn looked(
        &mut self,
        seen: BTreeMap<String, Seen>,
        known: &BTreeMap<String, BTreeSet<u64>>,
        began: Timestamp,
        acts: &mut Vec<Act>,
    ) {
        self.looked_at = Some(began);
        let executor_mib = self.executor_mib;
        for (name, seen) in seen {
            if known.contains_key(&name) && !self.tasks.contains_key(&name) {
                // Removed while somebody looked.
                continue;
            }
            let task = self.tasks.entry(name.clone()).or_insert_with(|| {
                let closed = Task {
                    closed: true,
                    ..Task::default()
                };
                let known = seen.task.as_ref();
                known.map_or(closed, |info| Task::of(info, executor_mib))
            });
            task.see(&name, seen, acts);
        }
    }

    /// Whose an attempt is now, after it was claimed for nobody.
    pub(super) fn claimed(&mut self, name: &str, claim: Claim) {
        if let Some(task) = self.tasks.get_mut(name) {
            task.writing = false;
            task.claim = Some(claim);
        }
    }

    /// An attempt that had no folder is claimed for nobody: it was never launched, and never will be.
    pub(super) fn buried(&mut self, name: &str, acts: &mut Vec<Act>) {
        let task = self.tasks.entry(name.to_owned()).or_insert_with(|| Task {
            claim: Some(Claim::Void),
            closed: true,
            ..Task::default()
        });
        if task.closed {
            acts.push(dropped(name));
        }
    }

    /// What was said in an executor's place is in the folder.
    pub(super) fn spoken(&mut self, name: &str, status: TaskStatus) {
        if let Some(task) = self.tasks.get_mut(name) {
            task.writing = false;
            task.said.insert(OUR_WORD, status);
        }
    }

    /// The folder took nothing.
    pub(super) fn failed(&mut self, name: &str, now: Timestamp) {
        if let Some(task) = self.tasks.get_mut(name) {
            task.writing = false;
            task.not_before = now.after(AGAIN);
        }
    }

    /// The folder is gone.
    pub(super) fn removed(&mut self, name: &str) {
        self.tasks.remove(name);
    }

    /// The broker wants an attempt to end. `false`: it is not known here.
    pub(super) fn kill(&mut self, name: &str, now: Timestamp) -> bool {
        match self.tasks.get_mut(name) {
            Some(task) => {
                task.killed.get_or_insert(now);
                true
            }
            None => false,
        }
    }

    /// What an update said is durable.
    pub(super) fn acknowledge(&mut self, name: &str, uuid: &Data, acts: &mut Vec<Act>) {
        let Some(task) = self.tasks.get_mut(name) else {
            return;
        };
        let number = task
            .said
            .iter()
            .find(|(_, status)| status.uuid.as_ref() == Some(uuid))
            .map(|(number, _)| *number);
        let Some(status) = number.and_then(|number| task.said.remove(&number)) else {
            return;
        };
        task.told = None;
        if status.state.is_terminal() {
            task.closed = true;
            acts.push(Act::Close(name.to_owned()));
        }
        acts.extend(number.map(|number| Act::Forget(name.to_owned(), number)));
    }

    /// Answers the question what is with these attempts, or with all of them.
    pub(super) fn reconcile(&mut self, names: &[String], acts: &mut Vec<Act>) {
        let all: Vec<String> = self.tasks.keys().cloned().collect();
        for name in if names.is_empty() { &all } else { names } {
            let Some(task) = self.tasks.get_mut(name) else {
                acts.push(Act::Bury(name.clone()));
                continue;
            };
            if task.closed {
                if !names.is_empty() {
                    acts.push(dropped(name));
                }
                continue;
            }
            task.wanted |= !names.is_empty();
            if task.said.is_empty() {
                let mut status = task.status(name, task.state());
                status.reason = Some(StatusReason::Reconciliation);
                status.source = Some(StatusSource::Master);
                acts.push(tell(status));
            } else {
                // What was said is the answer, and is told once more.
                task.told = None;
            }
        }
    }

    /// What follows from all that is known.
    pub(super) fn decide(&mut self, now: Timestamp, acts: &mut Vec<Act>) {
        let (listed, looked) = (self.listed_at, self.looked_at);
        for (name, task) in &mut self.tasks {
            task.decide(name, listed, looked, now, acts);
        }
    }
}

/// Of several jobs of one name, the one that is meant: the claimant, or one that may become it.
fn pick<'a>(jobs: &'a [Job], claim: Option<&Claim>) -> Option<&'a Job> {
    if let Some(Claim::Job { job, .. }) = claim {
        return jobs.iter().find(|other| other.id.to_string() == *job);
    }
    let live = jobs.iter().filter(|job| !job.state.has_ended());
    live.min_by_key(|job| job.id)
        .or_else(|| jobs.iter().max_by_key(|job| job.id))
}

/// The answer about an attempt of which there is nothing, or nothing any more.
fn dropped(name: &str) -> Act {
    tell(TaskStatus {
        reason: Some(StatusReason::Reconciliation),
        source: Some(StatusSource::Master),
        message: Some("there is nothing of the attempt in Slurm's pool".to_owned()),
        ..TaskStatus::new(TaskId::new(name), TaskState::Dropped)
    })
}

fn tell(status: TaskStatus) -> Act {
    Act::Tell(Box::new(Event::Update(Update { status })))
}
