//! One worker per attempt, from its folder to its result.
//!
//! [`prepare`] makes the folder and fetches what the attempt needs, [`host`] runs it as a
//! process (containers are [`crate::docker`]'s), [`collect`] reads and uploads what it left.
//! The worker tells the executor when the process runs, how far it is, and how it ended; when
//! it says that it ended, nothing of it is left running.

pub mod collect;
#[cfg(test)]
pub(crate) mod fixture;
pub mod host;
pub mod prepare;
mod retention;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use meson_core::run::LaunchKind;
use meson_core::units::Duration as CoreDuration;
use meson_protocol::task::{Started, TaskPayload, TaskResult, Usage};
use reqwest::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::coordinators::Coordinators;
use crate::docker;
use crate::failure::{Exit, PERHAPS, TaskFailure, of_exit};
use crate::layout::Layout;
use crate::logs::capture::{Log, Stream};
use crate::logs::ship::{Shipped, ship};
use crate::machine::Ending;
use crate::process::fence::Memory;
use crate::process::nursery::Nursery;
use crate::progress::{LOOK_EVERY, Progress, Tail};
use crate::settings::Settings;
use crate::storage::Storage;

pub use retention::Retention;

/// The terminal update waits so long for the last lines of the log, which are a millisecond
/// away when all is well; after that they follow on their own.
const FLUSH_WITH_UPDATE: Duration = Duration::from_millis(250);

/// Pause between two words about what an attempt uses.
const USAGE_EVERY: Duration = Duration::from_secs(5);

/// What all workers share.
#[derive(Debug)]
pub struct Context {
    /// How to behave.
    pub settings: Settings,
    /// All child processes.
    pub nursery: Nursery,
    /// How steps are kept within the memory that they asked for.
    pub memory: Memory,
    /// For coordinators and Spark's pages.
    pub http: Client,
    /// For artifacts and bundles.
    pub storage: Storage,
    /// Log streams that are still being posted.
    pub flushes: TaskTracker,
    /// Folders of ended tasks.
    pub retention: Retention,
    /// The name of this machine as the agent tells it, for addresses that people open.
    pub host: OnceLock<String>,
}

impl Context {
    /// The name of this machine.
    pub fn host(&self) -> &str {
        self.host.get().map_or("localhost", String::as_str)
    }
}

/// What a worker has to say.
#[derive(Debug)]
pub enum News {
    /// The process runs.
    Started(Started),
    /// How far it is. May get lost.
    Progress(Progress),
    /// What it used so far. May get lost.
    Usage(Usage),
    /// All over.
    Ended(Ending),
}

/// A worker's voice.
#[derive(Debug, Clone)]
pub struct Reporter {
    task: String,
    sender: mpsc::Sender<(String, News)>,
    /// Where the newest progress came from: a step's own words silence Spark's.
    own_words: Arc<Mutex<Option<Progress>>>,
    url: Arc<Mutex<Option<String>>>,
}

impl Reporter {
    /// For the task of this id.
    pub fn new(task: String, sender: mpsc::Sender<(String, News)>) -> Self {
        Self {
            task,
            sender,
            own_words: Arc::default(),
            url: Arc::default(),
        }
    }

    async fn say(&self, news: News) {
        if self.sender.send((self.task.clone(), news)).await.is_err() {
            tracing::debug!(
                task = self.task,
                "the executor is gone, nobody hears how the task ended"
            );
        }
    }

    /// The process runs.
    pub async fn started(&self, started: Started) {
        self.say(News::Started(started)).await;
    }

    fn progress(&self, progress: Progress) {
        // A full channel costs a progress message, which the next one replaces anyway.
        let _ = self
            .sender
            .try_send((self.task.clone(), News::Progress(progress)));
    }

    /// What it used so far.
    pub fn usage(&self, usage: Usage) {
        let _ = self
            .sender
            .try_send((self.task.clone(), News::Usage(usage)));
    }

    /// From the step itself.
    fn own_progress(&self, mut progress: Progress) {
        progress.url = self
            .url
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        *self
            .own_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
        self.progress(progress);
    }

    /// From Spark's driver: its address always, its numbers unless the step has its own.
    pub fn spark_progress(&self, mut progress: Progress) {
        let mut url = self.url.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *url != progress.url;
        url.clone_from(&progress.url);
        drop(url);
        if let Some(own) = self
            .own_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
        {
            if !news {
                return;
            }
            progress = Progress {
                url: progress.url,
                ..own
            };
        }
        self.progress(progress);
    }
}

/// The executor's word that the task is to end.
#[derive(Debug)]
pub struct Stop(watch::Receiver<Option<Duration>>);

impl Stop {
    /// A stop that the sender gives by setting a grace period; again, to shorten it.
    pub fn new() -> (watch::Sender<Option<Duration>>, Self) {
        let (sender, receiver) = watch::channel(None);
        (sender, Self(receiver))
    }

    /// Waits for the next word and gives its grace, from SIGTERM to SIGKILL.
    pub async fn asked(&mut self) -> Duration {
        loop {
            if self.0.changed().await.is_err() {
                // Nobody is left who could ask.
                return std::future::pending().await;
            }
            if let Some(grace) = *self.0.borrow_and_update() {
                return grace;
            }
        }
    }
}

/// How running an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// By itself.
    Exited(Exit),
    /// Because we were asked to end it.
    Stopped,
    /// Because it took too long.
    TimedOut,
    /// Because it used more memory than it may.
    TooLarge,
}

/// An attempt that was run, or not even begun because it was stopped before.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub verdict: Verdict,
    /// What it used.
    pub usage: Usage,
    /// Why that was for want of memory, if it was.
    pub starved: Option<String>,
}

impl Ran {
    /// Stopped before anything ran.
    pub fn stopped_early() -> Self {
        Self {
            verdict: Verdict::Stopped,
            usage: Usage::default(),
            starved: None,
        }
    }
}

/// Completes after the limit, or never without one.
pub async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// When a runner says what its attempt used so far.
pub fn usage_ticks() -> tokio::time::Interval {
    let mut ticks =
        tokio::time::interval_at(tokio::time::Instant::now() + USAGE_EVERY, USAGE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Captured streams and their way to the coordinators.
struct Logs {
    stdout: Log,
    stderr: Log,
    shipping: Vec<JoinHandle<()>>,
}

impl Logs {
    fn open(
        context: &Context,
        layout: &Layout,
        coordinators: &Coordinators,
        task: &str,
    ) -> std::io::Result<Self> {
        let mut shipping = Vec::new();
        let mut open = |stream: Stream| {
            let log = Log::create(
                layout.root().join(stream.name()),
                context.settings.log_file_bytes,
            )?;
            let (posted, coordinators, task) = (log.clone(), coordinators.clone(), task.to_owned());
            if !coordinators.is_known() {
                return Ok(log);
            }
            shipping.push(context.flushes.spawn(async move {
                if let Shipped::Part(why) = ship(posted, stream, coordinators).await {
                    tracing::warn!(
                        task,
                        stream = stream.name(),
                        why,
                        "a log is not wholly with a coordinator"
                    );
                }
            }));
            Ok::<_, std::io::Error>(log)
        };
        Ok(Self {
            stdout: open(Stream::Stdout)?,
            stderr: open(Stream::Stderr)?,
            shipping,
        })
    }

    /// Ends the streams and gives their last lines a moment to go first.
    async fn close(self) {
        self.stdout.close();
        self.stderr.close();
        let all = futures::future::join_all(self.shipping);
        let _ = timeout(FLUSH_WITH_UPDATE, all).await;
    }
}

/// Runs an attempt to its end and says so.
pub async fn run(
    context: Arc<Context>,
    payload: Box<TaskPayload>,
    mut stop: Stop,
    reporter: Reporter,
) {
    let task = reporter.task.clone();
    let layout = Layout::on_host(context.settings.sandbox.join("tasks").join(&task));
    let coordinators = Coordinators::new(
        context.http.clone(),
        &payload.coordinators,
        task.clone(),
        payload.token.clone(),
    );
    let opened = prepare::folders(&layout)
        .and_then(|()| Logs::open(&context, &layout, &coordinators, &task))
        .map_err(|error| {
            TaskFailure::platform(format!(
                "making the task's folder {}: {error}",
                layout.root().display()
            ))
        });
    let ending = match opened {
        Err(failure) => failed(failure, Usage::default()),
        Ok(logs) => {
            let attempt = Attempt {
                context: &context,
                payload: &payload,
                layout: &layout,
                logs: &logs,
                reporter: &reporter,
            };
            let ending = attempt.go(&coordinators, &mut stop).await;
            if let Ending::Done(result) = &ending
                && let Some(failure) = &result.failure
            {
                // People look for it in the log.
                logs.stderr
                    .note(failure.message.lines().next().unwrap_or_default());
            }
            logs.close().await;
            ending
        }
    };
    let succeeded = matches!(&ending, Ending::Done(result) if result.failure.is_none());
    reporter.say(News::Ended(ending)).await;
    context.retention.ended(layout, succeeded).await;
}

fn failed(failure: TaskFailure, usage: Usage) -> Ending {
    Ending::Done(Box::new(TaskResult {
        failure: Some(failure.into()),
        usage,
        ..TaskResult::default()
    }))
}

fn killed(usage: Usage) -> Ending {
    Ending::Killed(Box::new(TaskResult {
        usage,
        ..TaskResult::default()
    }))
}

/// An attempt with everything that it needs.
struct Attempt<'a> {
    context: &'a Arc<Context>,
    payload: &'a TaskPayload,
    layout: &'a Layout,
    logs: &'a Logs,
    reporter: &'a Reporter,
}

impl Attempt<'_> {
    async fn go(&self, coordinators: &Coordinators, stop: &mut Stop) -> Ending {
        let prepared = tokio::select! {
            prepared = prepare::everything(self.context, self.payload, self.layout, coordinators) => prepared,
            _ = stop.asked() => return killed(Usage::default()),
        };
        let local = match prepared {
            Ok(local) => local,
            Err(failure) => return failed(failure, Usage::default()),
        };
        let progress = self.follow_progress();
        let ran = self.run(&local, stop).await;
        progress.finish();
        let ran = match ran {
            Ok(ran) => ran,
            Err(failure) => return failed(failure, Usage::default()),
        };
        let usage = ran.usage;
        match ran.verdict {
            Verdict::Stopped => killed(usage),
            Verdict::TooLarge => {
                let why = ran.starved.unwrap_or_else(|| "out of memory".to_owned());
                failed(TaskFailure::memory(why), usage)
            }
            Verdict::TimedOut => {
                let limit = self.payload.spec.timeout.unwrap_or_default();
                failed(
                    TaskFailure::timeout(format!(
                        "the step ran longer than its timeout of {limit}"
                    )),
                    usage,
                )
            }
            Verdict::Exited(exit) => {
                if let Some(failure) = of_exit(exit, &self.logs.stderr.tail()) {
                    return match ran.starved {
                        Some(why) => {
                            // Why it was killed is known.
                            let said = failure.0.message.replacen(PERHAPS, "", 1);
                            failed(TaskFailure::memory(format!("{why}; {said}")), usage)
                        }
                        None => failed(failure, usage),
                    };
                }
                let collected = tokio::select! {
                    collected = self.collect() => collected,
                    _ = stop.asked() => return killed(usage),
                };
                match collected {
                    Ok(outputs) => Ending::Done(Box::new(TaskResult {
                        outputs,
                        failure: None,
                        usage,
                    })),
                    Err(failure) => failed(failure, usage),
                }
            }
        }
    }

    async fn run(&self, local: &crate::text::Local, stop: &mut Stop) -> Result<Ran, TaskFailure> {
        let spec = &self.payload.spec;
        let limit = spec.timeout.map(CoreDuration::to_std);
        let logs = (self.logs.stdout.clone(), self.logs.stderr.clone());
        if let LaunchKind::Docker { .. } = spec.kind {
            let env = crate::environment::of_step(spec, local, &self.layout.in_container())?;
            let container =
                docker::Container::of_step(spec, env, local, self.layout, &self.context.settings)?;
            prepare::open_to_all(self.layout).map_err(|error| {
                TaskFailure::platform(format!(
                    "opening the task's folder to its container: {error}"
                ))
            })?;
            return docker::run(container, logs, limit, stop, self.reporter).await;
        }
        host::run(
            self.context,
            spec,
            local,
            self.layout,
            logs,
            limit,
            stop,
            self.reporter,
        )
        .await
    }

    async fn collect(
        &self,
    ) -> Result<std::collections::BTreeMap<String, serde_json::Value>, TaskFailure> {
        let seen = match self.payload.spec.kind {
            LaunchKind::Docker { .. } => self.layout.in_container(),
            _ => self.layout.clone(),
        };
        collect::outputs(
            &self.context.storage,
            self.payload,
            &seen,
            &self.logs.stderr,
        )
        .await
    }

    fn follow_progress(&self) -> Following {
        let mut tail = Tail::new(self.layout.progress());
        let reporter = self.reporter.clone();
        let following = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Some(progress) = tail.newest() {
                    reporter.own_progress(progress);
                }
            }
        });
        Following(following)
    }
}

/// Follows the step's progress until dropped. A last line that nobody saw does not matter: the
/// terminal update says more.
struct Following(JoinHandle<()>);

impl Following {
    fn finish(self) {}
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}
