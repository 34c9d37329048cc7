//! A session: what the ledger and the offers decide is carried out here, and what comes of it goes
//! back to them. It lives in its stream of events: dropped with it, it leaves nothing under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use meson_core::units::Timestamp;
use meson_mesos::scheduler::{Call, Event};
use meson_mesos::types::{FrameworkId, TaskInfo, TaskStatus};
use meson_protocol::folder::Claim;
use meson_slurm::{Job, JobId, Node, Slurm, SlurmError, Submission};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::SlurmPool;
use super::ledger::{Act, Ledger, OUR_WORD};
use super::offers::{Offers, Terms, amounts};
use super::spool::{Seen, Spool};
use crate::broker::manager::SessionEnd;
use crate::clock::SharedClock;

/// Between two looks at the folders while there are attempts: that is how late the end of a step
/// is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks otherwise, whose only use is to notice a newer session.
const LOOK_IDLE: Duration = Duration::from_secs(2);
/// When something has happened, Slurm is asked after this part of its interval.
const SOONER: u32 = 4;
/// Submissions under way at once: each is a process, and a call to the controller.
const SUBMISSIONS_AT_ONCE: usize = 8;

/// What people are told about a pool, shared with whoever asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Remarks(Arc<Mutex<Vec<String>>>);

impl Remarks {
    pub(super) fn set(&self, remarks: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = remarks;
    }

    pub(super) fn get(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What a session works with.
pub(super) struct Means {
    pub(super) pool: Arc<SlurmPool>,
    pub(super) slurm: Slurm,
    pub(super) spool: Arc<Spool>,
    pub(super) clock: SharedClock,
    pub(super) remarks: Remarks,
    pub(super) random: StdRng,
    /// The session's name.
    pub(super) session: String,
}

/// A session under way.
pub(super) struct Driver {
    means: Means,
    ledger: Ledger,
    offers: Offers,
    calls: mpsc::Receiver<Call>,
    work: JoinSet<Done>,
    /// Submissions that wait for their turn.
    queue: VecDeque<(String, Option<Box<TaskInfo>>)>,
    submitting: usize,
    ready: VecDeque<Event>,
    end: Option<SessionEnd>,
    polling: bool,
    polled_at: Instant,
    next_poll: Instant,
    looking: bool,
    next_look: Instant,
}

/// What came of something.
enum Done {
    Polled {
        asked: Timestamp,
        jobs: Option<Result<Vec<Job>, SlurmError>>,
        nodes: Option<Result<Vec<Node>, SlurmError>>,
    },
    Looked {
        began: Timestamp,
        known: BTreeMap<String, BTreeSet<u64>>,
        seen: std::io::Result<(bool, BTreeMap<String, Seen>)>,
    },
    Submitted(String, Submitted),
    Claimed(String, std::io::Result<Claim>),
    Buried(String, std::io::Result<Claim>),
    Spoken(String, std::io::Result<Box<TaskStatus>>),
    Removed(String, std::io::Result<()>),
    /// Nothing follows, or it is seen by other means.
    Told,
}

enum Submitted {
    /// A newer session is there.
    Fenced,
    NotWritten(String),
    Heard(Result<JobId, SlurmError>),
}

impl Driver {
    /// A session that begins with what there is: the folders, and the jobs that were asked for after
    /// looking at them, at `asked`.
    pub(super) fn new(
        means: Means,
        framework: &FrameworkId,
        seen: BTreeMap<String, Seen>,
        jobs: Vec<Job>,
        asked: Timestamp,
        calls: mpsc::Receiver<Call>,
    ) -> Self {
        let pool = &means.pool;
        let offers = Offers::new(Terms {
            framework: framework.clone(),
            session: means.session.clone(),
            partition: pool.partition.clone(),
            region: pool.region.clone(),
            executor_mib: pool.executor_mib,
        });
        let now = Instant::now();
        let mut driver = Self {
            ledger: Ledger::new(pool.executor_mib),
            offers,
            calls,
            work: JoinSet::new(),
            queue: VecDeque::new(),
            submitting: 0,
            ready: VecDeque::new(),
            end: None,
            polling: false,
            polled_at: now,
            next_poll: now,
            looking: false,
            next_look: now,
            means,
        };
        let mut acts = Vec::new();
        driver
            .ledger
            .looked(seen, &BTreeMap::new(), asked, &mut acts);
        driver.ledger.jobs(jobs, asked, &mut acts);
        driver.ledger.decide(asked, &mut acts);
        driver.carry_out(acts);
        driver
    }

    /// What happens, until the session ends.
    pub(super) fn into_events(self) -> BoxStream<'static, Result<Event, SessionEnd>> {
        futures::stream::unfold(Some(self), |driver| async move {
            let mut driver = driver?;
            let next = driver.next().await;
            let driver = next.is_ok().then_some(driver);
            Some((next, driver))
        })
        .boxed()
    }

    async fn next(&mut self) -> Result<Event, SessionEnd> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if let Some(end) = self.end.take() {
                self.means.remarks.set(vec![format!("Slurm: {end}")]);
                return Err(end);
            }
            self.begin_what_is_due();
            let wake = self.wake_at();
            let mut acts = Vec::new();
            tokio::select! {
                call = self.calls.recv() => match call {
                    Some(call) => self.call(call, &mut acts),
                    None => self.end = Some(SessionEnd::Lost("nobody makes calls any more".to_owned())),
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done, &mut acts),
                    Err(error) => self.end = Some(SessionEnd::Lost(error.to_string())),
                },
                () = sleep_until(wake) => continue,
            }
            let now = self.means.clock.now();
            self.ledger.decide(now, &mut acts);
            self.carry_out(acts);
            let offers = self.offers.make(&self.ledger.waiting(), now);
            self.ready.extend(offers);
        }
    }

    fn wake_at(&self) -> Instant {
        let far = Instant::now() + LOOK_IDLE;
        let poll = if self.polling || !self.wants_poll() {
            far
        } else {
            self.next_poll
        };
        let look = if self.looking { far } else { self.next_look };
        poll.min(look)
    }

    fn wants_poll(&self) -> bool {
        !self.ledger.is_empty() || self.offers.wants_nodes()
    }

    /// Something has happened that Slurm will know more about.
    fn poll_sooner(&mut self) {
        let sooner = self.polled_at + self.means.pool.poll / SOONER;
        self.next_poll = self.next_poll.min(sooner.max(Instant::now()));
    }

    fn begin_what_is_due(&mut self) {
        let now = Instant::now();
        if !self.polling && self.wants_poll() && self.next_poll <= now {
            self.polling = true;
            self.polled_at = now;
            self.next_poll = now + self.means.pool.poll;
            let (slurm, user) = (self.means.slurm.clone(), self.means.pool.user.clone());
            let (jobs, nodes) = (!self.ledger.is_empty(), self.offers.wants_nodes());
            let asked = self.means.clock.now();
            self.work.spawn(async move {
                // In this order: a job that starts in between is counted twice, and not forgotten.
                let jobs = if jobs {
                    Some(slurm.jobs(&user).await)
                } else {
                    None
                };
                let nodes = if nodes {
                    Some(slurm.nodes().await)
                } else {
                    None
                };
                Done::Polled { asked, jobs, nodes }
            });
        }
        if !self.looking && self.next_look <= now {
            self.looking = true;
            let busy = !self.ledger.is_empty();
            self.next_look = now + if busy { LOOK_EVERY } else { LOOK_IDLE };
            let (began, known) = (self.means.clock.now(), self.ledger.known());
            let (spool, session) = (Arc::clone(&self.means.spool), self.means.session.clone());
            self.work.spawn_blocking(move || {
                let current = spool.is_current(&session);
                let seen = current.and_then(|current| Ok((current, spool.look(&known)?)));
                Done::Looked { began, known, seen }
            });
        }
        while self.submitting < SUBMISSIONS_AT_ONCE
            && let Some((task, info)) = self.queue.pop_front()
        {
            self.submitting += 1;
            let (slurm, pool) = (self.means.slurm.clone(), Arc::clone(&self.means.pool));
            let (spool, session) = (Arc::clone(&self.means.spool), self.means.session.clone());
            self.work.spawn(async move {
                let done = submit(&slurm, &pool, spool, session, &task, info).await;
                Done::Submitted(task, done)
            });
        }
    }

    fn call(&mut self, call: Call, acts: &mut Vec<Act>) {
        let now = self.means.clock.now();
        match call {
            Call::Accept(accept) => {
                let launches = accept
                    .operations
                    .into_iter()
                    .filter_map(|operation| operation.launch);
                let tasks: Vec<TaskInfo> = launches.flat_map(|launch| launch.task_infos).collect();
                let filters = accept.filters.as_ref();
                self.offers
                    .answered(&accept.offer_ids, &tasks, filters, now);
                for info in tasks {
                    self.ledger.launch(info, acts);
                }
            }
            Call::Decline(decline) => {
                let filters = decline.filters.as_ref();
                self.offers.answered(&decline.offer_ids, &[], filters, now);
            }
            Call::Revive(_) => {
                self.offers.revive();
                self.poll_sooner();
            }
            Call::Suppress(_) => self.offers.suppress(),
            Call::Kill(kill) => {
                let name = kill.task_id.value;
                if !self.ledger.kill(&name, now) {
                    self.ledger.reconcile(&[name], acts);
                }
            }
            Call::Acknowledge(ack) => {
                self.ledger.acknowledge(&ack.task_id.value, &ack.uuid, acts);
                self.poll_sooner();
            }
            Call::Reconcile(reconcile) => {
                let names: Vec<String> = reconcile
                    .tasks
                    .into_iter()
                    .map(|task| task.task_id.value)
                    .collect();
                self.ledger.reconcile(&names, acts);
            }
            other => {
                tracing::debug!(call = other.type_name(), "Slurm has nothing of the kind");
            }
        }
    }

    fn done(&mut self, done: Done, acts: &mut Vec<Act>) {
        let now = self.means.clock.now();
        match done {
            Done::Polled { asked, jobs, nodes } => self.polled(asked, jobs, nodes, acts),
            Done::Looked { began, known, seen } => {
                self.looking = false;
                match seen {
                    Ok((true, seen)) => {
                        let before = self.ledger.is_empty();
                        self.ledger.looked(seen, &known, began, acts);
                        if before && !self.ledger.is_empty() {
                            self.poll_sooner();
                        }
                    }
                    Ok((false, _)) => self.end = Some(SessionEnd::Fenced),
                    Err(error) => {
                        let reason = format!("the shared folder cannot be read: {error}");
                        self.end = Some(SessionEnd::Lost(reason));
                    }
                }
            }
            Done::Submitted(task, submitted) => {
                self.submitting -= 1;
                match submitted {
                    Submitted::Fenced => self.end = Some(SessionEnd::Fenced),
                    Submitted::NotWritten(why) => self.ledger.not_written(&task, &why, acts),
                    Submitted::Heard(result) => {
                        match &result {
                            Ok(job) => tracing::info!(task, %job, "submitted"),
                            Err(error) => tracing::warn!(task, %error, "not submitted"),
                        }
                        self.ledger.submitted(&task, result, now);
                        self.poll_sooner();
                    }
                }
            }
            Done::Claimed(task, Ok(claim)) => self.ledger.claimed(&task, claim),
            Done::Buried(task, Ok(Claim::Void)) => self.ledger.buried(&task, acts),
            // Somebody was quicker: the next look finds it.
            Done::Buried(_, Ok(Claim::Job { .. })) => {}
            Done::Spoken(task, Ok(status)) => self.ledger.spoken(&task, *status),
            Done::Removed(task, Ok(())) => self.ledger.removed(&task),
            Done::Claimed(task, Err(error))
            | Done::Buried(task, Err(error))
            | Done::Spoken(task, Err(error))
            | Done::Removed(task, Err(error)) => {
                tracing::warn!(task, %error, "an attempt's folder cannot be written");
                self.ledger.failed(&task, now);
            }
            Done::Told => {}
        }
    }

    fn polled(
        &mut self,
        asked: Timestamp,
        jobs: Option<Result<Vec<Job>, SlurmError>>,
        nodes: Option<Result<Vec<Node>, SlurmError>>,
        acts: &mut Vec<Act>,
    ) {
        self.polling = false;
        let mut lost = |error: SlurmError| {
            self.end = Some(SessionEnd::Lost(error.to_string()));
        };
        match jobs {
            Some(Ok(jobs)) => self.ledger.jobs(jobs, asked, acts),
            // A controller that is away makes no offers and takes no jobs: as good as no session.
            Some(Err(error)) => return lost(error),
            None => {}
        }
        match nodes {
            Some(Ok(nodes)) => {
                self.ready.extend(self.offers.observe(nodes));
                self.means.remarks.set(self.offers.remarks());
            }
            Some(Err(error)) => lost(error),
            None => {}
        }
    }

    fn carry_out(&mut self, acts: Vec<Act>) {
        let (mut terminate, mut cancel) = (Vec::new(), Vec::new());
        for act in acts {
            let spool = Arc::clone(&self.means.spool);
            match act {
                Act::Tell(event) => self.ready.push_back(*event),
                Act::Submit { task, info } => self.queue.push_back((task, info)),
                Act::Terminate(job) => terminate.push(job),
                Act::Cancel(job) => cancel.push(job),
                Act::Void(task) => {
                    self.work.spawn_blocking(move || {
                        let claim = spool.folder(&task).claim(&Claim::Void);
                        Done::Claimed(task, claim)
                    });
                }
                Act::Bury(task) => {
                    self.work.spawn_blocking(move || {
                        let folder = spool.folder(&task);
                        let claim = folder.create().and_then(|()| folder.claim(&Claim::Void));
                        Done::Buried(task, claim)
                    });
                }
                Act::Say(task, status) => {
                    let status = self.stamped(*status);
                    self.work.spawn_blocking(move || {
                        let said = serde_json::to_vec(&status)
                            .map_err(std::io::Error::from)
                            .and_then(|text| spool.folder(&task).say(OUR_WORD, &text));
                        Done::Spoken(task, said.map(|()| Box::new(status)))
                    });
                }
                Act::Forget(task, number) => self.aside(move || spool.folder(&task).forget(number)),
                Act::Close(task) => self.aside(move || spool.folder(&task).close()),
                Act::Remove(task) => {
                    self.work.spawn_blocking(move || {
                        let removed = spool.folder(&task).remove();
                        Done::Removed(task, removed)
                    });
                }
            }
        }
        for (jobs, gently) in [(terminate, true), (cancel, false)] {
            if jobs.is_empty() {
                continue;
            }
            tracing::info!(?jobs, gently, "ending jobs");
            let slurm = self.means.slurm.clone();
            self.work.spawn(async move {
                let ended = if gently {
                    slurm.terminate(&jobs).await
                } else {
                    slurm.cancel(&jobs).await
                };
                if let Err(error) = ended {
                    tracing::warn!(%error, "cannot end jobs; trying again");
                }
                Done::Told
            });
            self.poll_sooner();
        }
    }

    /// Does something whose failure is seen by other means: what is not removed is found again.
    fn aside(&mut self, what: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
        self.work.spawn_blocking(move || {
            if let Err(error) = what() {
                tracing::warn!(%error, "an attempt's folder cannot be tidied up");
            }
            Done::Told
        });
    }

    /// As an agent does it with what it says in an executor's place.
    fn stamped(&mut self, mut status: TaskStatus) -> TaskStatus {
        let uuid: [u8; 16] = self.means.random.random();
        status.uuid = Some(uuid[..].into());
        status.timestamp = Some(self.means.clock.now().0 as f64 / 1000.0);
        status
    }
}

async fn submit(
    slurm: &Slurm,
    pool: &SlurmPool,
    spool: Arc<Spool>,
    session: String,
    task: &str,
    info: Option<Box<TaskInfo>>,
) -> Submitted {
    let folder = spool.folder(task);
    let path = folder.path().to_owned();
    let prepared = tokio::task::spawn_blocking(move || {
        if !spool.is_current(&session)? {
            return Ok(None);
        }
        match info {
            Some(info) => spool.create(&info).map(|()| Some(info)),
            // Once more: what to run stands in the folder since the first time.
            None => match folder.task()? {
                Some(text) => Ok(Some(serde_json::from_slice(&text)?)),
                None => Err(std::io::Error::other("it says no more what to run")),
            },
        }
    });
    let info: Box<TaskInfo> = match prepared.await {
        Ok(Ok(Some(info))) => info,
        Ok(Ok(None)) => return Submitted::Fenced,
        Ok(Err(error)) => return Submitted::NotWritten(error.to_string()),
        Err(error) => return Submitted::NotWritten(error.to_string()),
    };
    let amounts = amounts(&info, pool.executor_mib);
    let mut command = vec![
        pool.executor.clone(),
        "--task-folder".to_owned(),
        path.display().to_string(),
    ];
    if let Some(scratch) = &pool.scratch {
        command.extend(["--scratch".to_owned(), scratch.display().to_string()]);
    }
    let job = Submission {
        name: task.to_owned(),
        comment: format!("meson {} {}", pool.name, info.name),
        command,
        output: path.join("executor.log"),
        folder: path,
        partition: pool.partition.clone(),
        node: Some(info.agent_id.value.clone()),
        cpus: amounts.cpus,
        mem_mib: amounts.mem_mib,
        gpus: amounts.gpus,
        account: pool.account.clone(),
        qos: pool.qos.clone(),
        reservation: pool.reservation.clone(),
        time_limit_minutes: pool.time_limit_minutes,
        user: pool.owner.as_ref().map(|owner| owner.name.clone()),
    };
    Submitted::Heard(slurm.submit(&job).await)
}
