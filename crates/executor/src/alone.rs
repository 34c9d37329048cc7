//! One attempt without an agent: the executor of a job in somebody else's queue.
//!
//! The attempt is in a [`TaskFolder`]. The executor claims it, runs it as it would for an agent, and
//! says into the folder what it would tell an agent, update by update. They stay there until
//! the coordinator has made them durable, whoever that is by then, so nobody needs to be there when
//! the attempt ends. SIGTERM is the word to kill it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use meson_mesos::client::Backoff;
use meson_mesos::executor::{Kill, Update};
use meson_mesos::types::{TaskId, TaskInfo, TaskState};
use meson_protocol::folder::{Claim, TaskFolder};
use meson_protocol::task::ExecutorMessage;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::executor::stamp;
use crate::machine::{Action, Input, Machine};
use crate::task::{self, Context, News, Reporter, Stop};

/// A file system that does not take an update is asked again for so long.
const SAY_FOR: Duration = Duration::from_secs(15 * 60);
/// Between two looks whether the folder is still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// News of the worker on their way at once.
const NEWS_IN_FLIGHT: usize = 64;

/// An attempt that is ours.
#[derive(Debug)]
pub struct Attempt {
    folder: TaskFolder,
    info: TaskInfo,
    terminate: Signal,
}

impl Attempt {
    /// Claims the attempt in this folder; none if it is somebody else's, or nobody's. Makes
    /// nothing but the claim.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn take(folder: TaskFolder, claim: &Claim) -> anyhow::Result<Option<Self>> {
        // Before the claim: whoever sees it may send the signal.
        let terminate = signal(SignalKind::terminate())?;
        let Some(task) = folder.task().context("reading what to run")? else {
            tracing::warn!("the attempt is not wanted any more: its folder is gone");
            return Ok(None);
        };
        let info = serde_json::from_slice(&task).context("reading what to run")?;
        let owner = folder.claim(claim).context("claiming the attempt")?;
        if owner != *claim {
            tracing::warn!(?owner, "the attempt is not ours");
            return Ok(None);
        }
        Ok(Some(Self {
            folder,
            info,
            terminate,
        }))
    }

    /// Runs it to its end; whether it succeeded. The folder says more.
    ///
    /// # Errors
    /// What was to be said could not be written for too long, or the worker failed.
    pub async fn run(self, context: Arc<Context>) -> anyhow::Result<bool> {
        let (news, heard) = mpsc::channel(NEWS_IN_FLIGHT);
        let alone = Alone {
            context,
            folder: self.folder,
            task: self.info.task_id.clone(),
            machine: Machine::default(),
            said: 0,
            sequence: 0,
            stop: None,
            tasks: JoinSet::new(),
            news,
            last: TaskState::Staging,
            unwanted: false,
        };
        alone.serve(self.info, heard, self.terminate).await
    }
}

struct Alone {
    context: Arc<Context>,
    folder: TaskFolder,
    task: TaskId,
    machine: Machine,
    /// Updates said so far.
    said: u64,
    /// Progress messages so far.
    sequence: u64,
    stop: Option<watch::Sender<Option<Duration>>>,
    tasks: JoinSet<()>,
    news: mpsc::Sender<(String, News)>,
    /// The state that was said last.
    last: TaskState,
    /// Its folder was removed.
    unwanted: bool,
}

impl Alone {
    async fn serve(
        mut self,
        info: TaskInfo,
        mut heard: mpsc::Receiver<(String, News)>,
        mut terminate: Signal,
    ) -> anyhow::Result<bool> {
        self.decide(Input::KillingState(true)).await?;
        self.decide(Input::Launch(Box::new(info))).await?;
        let sampling = task::host::sample_for_ever(self.context.clone());
        tokio::pin!(sampling);
        let mut looks = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        while !self.last.is_terminal() {
            tokio::select! {
                Some((_, news)) = heard.recv() => self.learn(news).await?,
                _ = terminate.recv() => {
                    tracing::info!("asked to end");
                    let task_id = self.task.clone();
                    self.decide(Input::Kill(Kill { task_id, kill_policy: None })).await?;
                }
                // A coordinator that takes the node for dead removes it, and tries again elsewhere.
                _ = looks.tick(), if self.stop.is_some() && !self.unwanted => {
                    if self.is_removed().await {
                        self.unwanted = true;
                        tracing::warn!("the attempt is not wanted any more: its folder was removed");
                        let task_id = self.task.clone();
                        self.decide(Input::Kill(Kill { task_id, kill_policy: None })).await?;
                    }
                }
                Some(Err(error)) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // The job ends without a last word, and its queue tells.
                    return Err(anyhow::Error::new(error).context("the worker failed"));
                }
                () = &mut sampling => {}
            }
        }
        self.wind_up().await;
        Ok(self.last == TaskState::Finished)
    }

    async fn decide(&mut self, input: Input) -> anyhow::Result<()> {
        for action in self.machine.decide(input, &mut stamp) {
            match action {
                Action::Run { task, payload } => {
                    let (stop, stopped) = Stop::new();
                    self.stop = Some(stop);
                    let reporter = Reporter::new(task.value, self.news.clone());
                    let context = self.context.clone();
                    self.tasks
                        .spawn(task::run(context, payload, stopped, reporter));
                }
                Action::Stop { grace, .. } => {
                    if let Some(stop) = &self.stop {
                        stop.send_replace(Some(grace));
                    }
                }
                Action::Send(update) => self.say(*update).await?,
            }
        }
        Ok(())
    }

    async fn learn(&mut self, news: News) -> anyhow::Result<()> {
        let task = self.task.clone();
        match news {
            News::Started(started) => self.decide(Input::Started { task, started }).await,
            News::Ended(ending) => self.decide(Input::Ended { task, ending }).await,
            // The file holds one message, and progress says more; the end tells what was used.
            News::Usage(_) => Ok(()),
            News::Progress(progress) => {
                self.sequence += 1;
                let Ok(task) = task.value.parse() else {
                    return Ok(());
                };
                let message = ExecutorMessage::Progress {
                    task,
                    sequence: self.sequence,
                    percent: progress.percent,
                    message: progress.message,
                    url: progress.url,
                };
                let written = message.encode().map(|bytes| {
                    let folder = self.folder.clone();
                    tokio::task::spawn_blocking(move || folder.put_progress(&bytes))
                });
                match written {
                    Ok(written) => match written.await {
                        Ok(Ok(())) => {}
                        other => tracing::debug!(?other, "a progress message got lost"),
                    },
                    Err(error) => tracing::warn!(%error, "a progress message is not written"),
                }
                Ok(())
            }
        }
    }

    /// Writes an update down, for as long as there is hope.
    async fn say(&mut self, update: Update) -> anyhow::Result<()> {
        self.said += 1;
        let (number, state) = (self.said, update.status.state.clone());
        let message = update.status.message.as_deref().unwrap_or_default();
        tracing::info!(%state, message, "update");
        let text = serde_json::to_vec(&update.status)?;
        let give_up_at = Instant::now() + SAY_FOR;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5), 0);
        loop {
            let (folder, text) = (self.folder.clone(), text.clone());
            let error = match tokio::task::spawn_blocking(move || folder.say(number, &text)).await?
            {
                Ok(()) => break,
                Err(error) => error,
            };
            if self.is_removed().await {
                tracing::warn!(%state, "nobody wants to hear it: the attempt's folder was removed");
                break;
            }
            if Instant::now() >= give_up_at {
                return Err(anyhow::Error::new(error).context("writing an update down"));
            }
            tracing::warn!(%error, "an update cannot be written down, trying again");
            sleep(backoff.next_delay()).await;
        }
        self.last = state;
        Ok(())
    }

    async fn is_removed(&self) -> bool {
        let folder = self.folder.clone();
        let looked = tokio::task::spawn_blocking(move || folder.is_removed()).await;
        looked.unwrap_or(false)
    }

    /// Logs that are still on their way, then whatever processes there are.
    async fn wind_up(&mut self) {
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let logs = async {
            ended.await;
            self.context.flushes.close();
            self.context.flushes.wait().await;
        };
        if timeout(crate::logs::ship::FLUSH_DEADLINE, logs)
            .await
            .is_err()
        {
            tracing::warn!("ending before all logs are with a coordinator");
        }
        let nursery = self.context.nursery.clone();
        let _ = tokio::task::spawn_blocking(move || nursery.kill_strays()).await;
    }
}
