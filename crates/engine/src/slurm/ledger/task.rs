//! One attempt: what is known of it, and what follows.

use std::collections::BTreeMap;

use meson_core::units::{Duration, Timestamp};
use meson_mesos::scheduler::{Event, Message};
use meson_mesos::types::{
    AgentId, ExecutorId, StatusReason, TaskId, TaskInfo, TaskState, TaskStatus,
};
use meson_protocol::folder::Claim;
use meson_slurm::node::Amounts;
use meson_slurm::{Job, JobId, JobState};

use super::super::offers::amounts;
use super::super::spool::{Seen, Word};
use super::super::verdict;
use super::{Act, OUR_WORD, tell};

/// An update that is not acknowledged is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// From the end of a job to the conclusion that its executor has nothing more to say: a file
/// system between machines may show its last word late.
const LAST_WORD: Duration = Duration::from_secs(5);
/// From an executor's word that it failed to passing it on without knowing how its job ended.
const JOB_END: Duration = Duration::from_secs(15);
/// A job that was asked to end and does not is ended by Slurm after this.
const HARD_AFTER: Duration = Duration::from_secs(30);
/// A job that waits for a node that cannot be had is taken back after this: when a controller was
/// started again, no node has answered it yet.
const IN_VAIN: Duration = Duration::from_secs(20);
/// An attempt that was never launched keeps its claim for so long: longer than a coordinator that
/// was deposed takes to notice.
const BURIED: Duration = Duration::from_secs(600);
/// Between two tries to submit a job, or to end one.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// Submissions of one attempt, of which none was heard to succeed.
pub(super) const SUBMISSIONS: u32 = 10;

/// What is known of an attempt.
#[derive(Debug, Default)]
pub(super) struct Task {
    /// The node that the broker chose.
    pub(super) node: String,
    pub(super) executor: ExecutorId,
    pub(super) holds: Amounts,
    pub(super) claim: Option<Claim>,
    /// Not acknowledged.
    pub(super) said: BTreeMap<u64, TaskStatus>,
    /// The newest message that may get lost.
    pub(super) progress: Vec<u8>,
    /// The broker launched it in this session, or asked about it by name: somebody waits for it.
    pub(super) wanted: bool,
    /// The end is acknowledged.
    pub(super) closed: bool,
    /// As the last list of jobs has it, or as was heard at its submission.
    pub(super) job: Option<Job>,
    /// Since when there is no job that could still say something.
    pub(super) jobless: Option<Timestamp>,
    pub(super) submission: Submission,
    /// The first update not acknowledged was told in this session.
    pub(super) told: Option<Timestamp>,
    /// Since when its job waits for a node that cannot be had.
    pub(super) in_vain: Option<Timestamp>,
    /// Since when a failure waits for its job's end.
    pub(super) failed: Option<Timestamp>,
    pub(super) killed: Option<Timestamp>,
    /// When its job was last asked to end.
    pub(super) ended_at: Option<Timestamp>,
    /// A claim for nobody, a last word or a removal is on its way to the folder.
    pub(super) writing: bool,
    /// The folder took nothing the last time: not to be tried again before this.
    pub(super) not_before: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Submission {
    /// By somebody else, or a while ago.
    #[default]
    Unknown,
    /// Under way.
    UnderWay { tries: u32 },
    /// Over at this time, after so many tries, without anybody knowing whether it worked.
    Unsure { tries: u32, at: Timestamp },
    /// Slurm has it since then.
    Done(Timestamp),
    /// Slurm does not want it.
    Refused(String),
}

impl Task {
    pub(super) fn of(info: &TaskInfo, executor_mib: u64) -> Self {
        Self {
            node: info.agent_id.value.clone(),
            executor: info
                .executor
                .as_ref()
                .map(|executor| executor.executor_id.clone())
                .unwrap_or_default(),
            holds: amounts(info, executor_mib),
            ..Self::default()
        }
    }

    /// A status of this attempt, without a uuid.
    pub(super) fn status(&self, name: &str, state: TaskState) -> TaskStatus {
        TaskStatus {
            agent_id: Some(AgentId::new(&self.node)),
            executor_id: Some(self.executor.clone()),
            ..TaskStatus::new(TaskId::new(name), state)
        }
    }

    pub(super) fn see(&mut self, name: &str, seen: Seen, acts: &mut Vec<Act>) {
        if seen.claim.is_some() {
            self.claim = seen.claim;
        }
        for (number, word) in seen.said {
            match word {
                Word::Status(status) => {
                    let mut status = *status;
                    status.agent_id = Some(AgentId::new(&self.node));
                    status.executor_id = Some(self.executor.clone());
                    self.said.insert(number, status);
                }
                Word::Garbage => {
                    tracing::warn!(
                        task = name,
                        number,
                        "an update cannot be read and is dropped"
                    );
                    acts.push(Act::Forget(name.to_owned(), number));
                }
            }
        }
        if let Some(progress) = seen.progress.filter(|new| *new != self.progress) {
            let message = Message {
                agent_id: AgentId::new(&self.node),
                executor_id: self.executor.clone(),
                data: progress.clone().into(),
            };
            self.progress = progress;
            acts.push(Act::Tell(Box::new(Event::Message(message))));
        }
    }

    /// As it is, as far as no update tells.
    pub(super) fn state(&self) -> TaskState {
        match (&self.claim, &self.job) {
            (Some(Claim::Job { .. }), _) if self.killed.is_some() => TaskState::Killing,
            (Some(Claim::Job { .. }), _) => TaskState::Running,
            (_, Some(job)) if job.state == JobState::Running => TaskState::Starting,
            _ => TaskState::Staging,
        }
    }

    pub(super) fn decide(
        &mut self,
        name: &str,
        listed: Option<Timestamp>,
        looked: Option<Timestamp>,
        now: Timestamp,
        acts: &mut Vec<Act>,
    ) {
        let live = self.job.as_ref().filter(|job| !job.state.has_ended());
        let live = live.map(|job| job.id);
        let gone = self.jobless.is_some_and(|since| {
            now.since(since) >= LAST_WORD && looked.is_some_and(|looked| looked > since)
        });
        if let (Some(Claim::Void), Some(job), true) = (&self.claim, live, self.due(now)) {
            self.ended_at = Some(now);
            acts.push(Act::Cancel(job));
        }
        let writable = !self.writing && self.not_before <= now;
        if self.closed {
            // An executor that still sends its logs works in the folder. Where none ever was, it is
            // there for somebody who may come late.
            let buried = self.claim == Some(Claim::Void) && self.job.is_none();
            let stays = if buried { BURIED } else { Duration(0) };
            let over = self.jobless.is_some_and(|since| now.since(since) >= stays);
            if over && writable {
                self.writing = true;
                acts.push(Act::Remove(name.to_owned()));
            }
            return;
        }
        self.tell(name, now, acts);
        let over = self.said.values().any(|status| status.state.is_terminal());
        if over || !writable {
            return;
        }
        match &self.claim {
            Some(Claim::Void) => {
                let killed = self.killed.is_some();
                let mut word = self.status(name, TaskState::Staging);
                word = verdict::last_word(word, self.job.as_ref(), killed, false);
                if let (Submission::Refused(why), false) = (&self.submission, killed) {
                    word.state = TaskState::Dropped;
                    word.message = Some(why.clone());
                } else if let (Some(job), false) = (&self.job, killed)
                    && job.waits_in_vain()
                {
                    word.state = TaskState::Dropped;
                    word.reason = Some(StatusReason::AgentDraining);
                    word.message = Some(format!(
                        "its node cannot be had any more: Slurm job {} waits for {}",
                        job.id, job.reason
                    ));
                }
                self.writing = true;
                acts.push(Act::Say(name.to_owned(), Box::new(word)));
            }
            Some(Claim::Job { job, .. }) if gone => {
                let killed = self.killed.is_some();
                let mut word = self.status(name, TaskState::Staging);
                word = verdict::last_word(word, self.job.as_ref(), killed, true);
                tracing::warn!(task = name, job, "an executor ended without a word");
                self.writing = true;
                acts.push(Act::Say(name.to_owned(), Box::new(word)));
            }
            Some(Claim::Job { job, .. }) => {
                let job = job.parse().map(JobId).ok().or(live);
                if let (Some(since), true, Some(job)) = (self.killed, self.due(now), job) {
                    self.ended_at = Some(now);
                    let hard = now.since(since) >= HARD_AFTER;
                    acts.push(if hard {
                        Act::Cancel(job)
                    } else {
                        Act::Terminate(job)
                    });
                }
            }
            None => self.unclaimed(name, gone, listed, now, acts),
        }
    }

    /// Nobody has begun it: it may be submitted again, or taken back.
    fn unclaimed(
        &mut self,
        name: &str,
        gone: bool,
        listed: Option<Timestamp>,
        now: Timestamp,
        acts: &mut Vec<Act>,
    ) {
        let in_vain = self
            .in_vain
            .is_some_and(|since| now.since(since) >= IN_VAIN);
        let refused = matches!(self.submission, Submission::Refused(_));
        let under_way = matches!(self.submission, Submission::UnderWay { .. });
        if under_way || !(self.killed.is_some() || in_vain || refused || gone) {
            // A claim decides in the end, so one job too many does no harm.
            if let (Submission::Unsure { tries, at }, None) = (&self.submission, &self.job)
                && now.since(*at) >= AGAIN
                && listed.is_some_and(|listed| listed > *at)
                && *tries < SUBMISSIONS
            {
                self.submission = Submission::UnderWay { tries: tries + 1 };
                acts.push(Act::Submit {
                    task: name.to_owned(),
                    info: None,
                });
            }
            return;
        }
        // What was written by somebody who is gone may be given up by now: the broker asks for it by
        // name, or has it killed.
        if gone && self.job.is_none() && !self.wanted && self.killed.is_none() {
            return;
        }
        let lost = gone && self.job.is_none() && self.killed.is_none() && !refused;
        let tries = match self.submission {
            Submission::Unsure { tries, .. } => tries,
            // Somebody died between writing the folder and submitting the job.
            Submission::Unknown => 0,
            // A controller that lost its state.
            _ => 1,
        };
        if lost && tries < SUBMISSIONS {
            self.jobless = None;
            self.submission = Submission::UnderWay { tries: tries + 1 };
            acts.push(Act::Submit {
                task: name.to_owned(),
                info: None,
            });
            return;
        }
        self.writing = true;
        acts.push(Act::Void(name.to_owned()));
    }

    fn due(&self, now: Timestamp) -> bool {
        self.ended_at.is_none_or(|at| now.since(at) >= AGAIN)
    }

    /// Tells the first of what was said, again if it was not acknowledged for a while.
    fn tell(&mut self, name: &str, now: Timestamp, acts: &mut Vec<Act>) {
        let Some((&number, status)) = self.said.first_key_value() else {
            return;
        };
        if self.told.is_some_and(|told| now.since(told) < TELL_AGAIN) {
            return;
        }
        let killed = self.killed.is_some();
        let bad = status.state.is_terminal() && status.state != TaskState::Finished;
        let status = if bad && number != OUR_WORD {
            let ended = self.jobless.is_some();
            let since = *self.failed.get_or_insert(now);
            if !ended && !killed && now.since(since) < JOB_END {
                return;
            }
            verdict::combined(status.clone(), self.job.as_ref(), killed)
        } else {
            status.clone()
        };
        tracing::debug!(task = name, state = %status.state, number, "told");
        self.told = Some(now);
        acts.push(tell(status));
    }
}
