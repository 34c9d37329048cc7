//! The loop: hears the agent, asks the machine, starts and stops workers, says what is to be said.
//!
//! Updates go to the agent one after the other, since their order counts. What the agent did
//! not take before it went away is in the next SUBSCRIBE, because the machine keeps it until
//! it is acknowledged.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use meson_mesos::client::Backoff;
use meson_mesos::client::executor::{ExecutorClient, ExecutorError, ExecutorEvents};
use meson_mesos::executor::{Call, Event, Message, Subscribed, Update};
use meson_mesos::types::{CapabilityType, Data, TaskId};
use meson_protocol::task::ExecutorMessage;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

use crate::machine::{Action, Ending, Input, Machine, Stamp};
use crate::task::{self, Context, News, Reporter, Stop};

/// Pause between two heartbeats while there are tasks.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// Tasks named in one heartbeat: longest ids together stay below the limit of a message.
const HEARTBEAT_TASKS: usize = 50;
/// Messages on their way at once; more are dropped, since newer ones follow.
const MESSAGES_IN_FLIGHT: usize = 16;
/// News of workers on their way at once.
const NEWS_IN_FLIGHT: usize = 256;
/// At a shutdown, SIGKILL comes after this share of the time that we have, in percent: the rest
/// is for the dying, for updates and for logs.
const TERM_SHARE_PERCENT: u32 = 60;
/// At a shutdown, we are gone so long before the agent would kill us.
const MARGIN: Duration = Duration::from_millis(300);

/// Why the executor ends.
#[derive(Debug)]
pub enum End {
    /// Nothing to do for long enough.
    Idle,
    /// The agent or the system told us to.
    Asked,
    /// The agent is gone for good.
    AgentLost(ExecutorError),
}

/// What the loop keeps for a task besides the machine.
#[derive(Debug)]
struct Worker {
    stop: watch::Sender<Option<Duration>>,
    /// Of its progress messages.
    sequence: u64,
}

/// The connection, as far as it is there.
enum Link {
    Up(ExecutorEvents),
    /// Subscribing; with the uuids of the updates that the subscription tells.
    Down(
        BoxFuture<'static, Result<(Subscribed, ExecutorEvents), ExecutorError>>,
        HashSet<Data>,
    ),
}

/// A running executor.
pub struct Executor {
    client: ExecutorClient,
    context: Arc<Context>,
    machine: Machine,
    workers: BTreeMap<String, Worker>,
    tasks: JoinSet<()>,
    news: mpsc::Sender<(String, News)>,
    /// Updates that the agent has not taken yet, oldest first.
    outbox: VecDeque<Update>,
    /// The first of the outbox on its way.
    sending: Option<BoxFuture<'static, Result<(), ExecutorError>>>,
    messages: Arc<Semaphore>,
    heartbeats: u64,
    /// Since when there is nothing to do.
    idle_since: Instant,
    /// Set by a shutdown: when we are to be gone.
    deadline: Option<Instant>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

/// Runs an executor until it ends. Nothing of its tasks is left then.
///
/// # Errors
/// No HTTP client can be made, the agent never takes us, or the system gives no signals.
pub async fn run(context: Arc<Context>) -> anyhow::Result<End> {
    let seed = u64::from_le_bytes(
        uuid::Uuid::new_v4().as_bytes()[..8]
            .try_into()
            .unwrap_or_default(),
    );
    let client = ExecutorClient::new(context.settings.mesos.clone(), seed)?;
    let (subscribed, events) = client.subscribe().await?;
    let (news, heard) = mpsc::channel(NEWS_IN_FLIGHT);
    let mut executor = Executor {
        client,
        context,
        machine: Machine::default(),
        workers: BTreeMap::new(),
        tasks: JoinSet::new(),
        news,
        outbox: VecDeque::new(),
        sending: None,
        messages: Arc::new(Semaphore::new(MESSAGES_IN_FLIGHT)),
        heartbeats: 0,
        idle_since: Instant::now(),
        deadline: None,
    };
    executor.subscribed(&subscribed);
    let end = executor.serve(events, heard).await?;
    executor.wind_up().await;
    Ok(end)
}

impl Executor {
    async fn serve(
        &mut self,
        events: ExecutorEvents,
        mut heard: mpsc::Receiver<(String, News)>,
    ) -> anyhow::Result<End> {
        let mut link = Link::Up(events);
        let mut lost = None;
        let mut heartbeat = interval(HEARTBEAT_EVERY);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let sampling = task::host::sample_for_ever(self.context.clone());
        tokio::pin!(sampling);
        loop {
            if let Some(end) = self.end(&mut lost) {
                return Ok(end);
            }
            self.send_next(&link);
            let busy = !self.workers.is_empty();
            let unjoined = !self.tasks.is_empty();
            let look_at = self.look_again_at();
            tokio::select! {
                event = next_event(&mut link) => match event {
                    Heard::Event(event) => self.hear(*event),
                    Heard::Subscribed(subscribed, events, told) => {
                        self.subscribed(&subscribed);
                        self.outbox = self.untold(&told);
                        link = Link::Up(events);
                    }
                    Heard::Lost(why) => {
                        tracing::warn!(%why, "the connection to the agent is lost");
                        self.sending = None;
                        link = self.resubscribe();
                    }
                    Heard::GivenUp(error) => {
                        tracing::error!(%error, "going without the agent");
                        lost = Some(error);
                        self.shut_down();
                        // Nobody is there to hear the rest.
                        link = Link::Down(std::future::pending().boxed(), HashSet::new());
                    }
                },
                sent = poll_sending(&mut self.sending) => self.sent(sent),
                Some((task, news)) = heard.recv() => self.learn(&task, news),
                Some(done) = self.tasks.join_next(), if unjoined => self.joined(done),
                _ = heartbeat.tick(), if busy => self.heartbeat(),
                () = &mut sampling, if busy => {}
                // `end` decides; it may still wait for logs, so it is asked again soon.
                () = sleep_until(look_at), if !busy => {}
                () = until(self.deadline) => {}
                _ = terminate.recv() => self.shut_down(),
                _ = interrupt.recv() => self.shut_down(),
            }
        }
    }

    /// Whether it is time to go.
    fn end(&self, lost: &mut Option<ExecutorError>) -> Option<End> {
        let quiet = self.workers.is_empty() && self.tasks.is_empty();
        let said = self.outbox.is_empty() && self.sending.is_none();
        if let Some(deadline) = self.deadline {
            let late = Instant::now() + MARGIN >= deadline;
            // The agent keeps what it took; acknowledgements need not be waited for.
            if (quiet && (said || lost.is_some())) || late {
                return Some(lost.take().map_or(End::Asked, End::AgentLost));
            }
            return None;
        }
        let rested = self.idle_since.elapsed() >= self.context.settings.idle;
        (quiet && said && rested && self.context.flushes.is_empty()).then_some(End::Idle)
    }

    /// When an executor without tasks may have become ready to end.
    fn look_again_at(&self) -> Instant {
        let rested = self.idle_since + self.context.settings.idle;
        rested.max(Instant::now() + Duration::from_millis(50))
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Subscribed(subscribed) => self.subscribed(&subscribed),
            Event::Launch(launch) => self.decide(Input::Launch(Box::new(launch.task))),
            Event::LaunchGroup(group) => {
                for task in group.task_group.tasks {
                    self.decide(Input::Launch(Box::new(task)));
                }
            }
            Event::Kill(kill) => self.decide(Input::Kill(kill)),
            Event::Acknowledged(ack) => self.decide(Input::Acknowledged {
                task: ack.task_id,
                uuid: ack.uuid,
            }),
            Event::Shutdown => {
                tracing::info!("the agent shuts us down");
                self.shut_down();
            }
            Event::Heartbeat => {}
            other => tracing::debug!(event = other.type_name(), "nothing to do about this event"),
        }
    }

    fn subscribed(&mut self, subscribed: &Subscribed) {
        let host = &subscribed.agent_info.hostname;
        if !host.is_empty() {
            let _ = self.context.host.set(host.clone());
        }
        let knows = subscribed
            .framework_info
            .can(&CapabilityType::TaskKillingState);
        tracing::info!(agent = %self.context.settings.mesos.agent_endpoint, "subscribed");
        self.decide(Input::KillingState(knows));
    }

    fn decide(&mut self, input: Input) {
        for action in self.machine.decide(input, &mut stamp) {
            match action {
                Action::Run { task, payload } => {
                    let (stop, stopped) = Stop::new();
                    self.workers
                        .insert(task.value.clone(), Worker { stop, sequence: 0 });
                    let reporter = Reporter::new(task.value, self.news.clone());
                    self.tasks
                        .spawn(task::run(self.context.clone(), payload, stopped, reporter));
                }
                Action::Stop { task, grace } => {
                    if let Some(worker) = self.workers.get(&task.value) {
                        worker.stop.send_replace(Some(grace));
                    }
                }
                Action::Send(update) => {
                    let status = &update.status;
                    let message = status.message.as_deref().unwrap_or_default();
                    tracing::info!(task = %status.task_id, state = %status.state, message, "update");
                    self.outbox.push_back(*update);
                }
            }
        }
    }

    /// What a worker says.
    fn learn(&mut self, task: &str, news: News) {
        let id = TaskId::new(task);
        match news {
            News::Started(started) => self.decide(Input::Started { task: id, started }),
            News::Progress(progress) => {
                let (Some(worker), Ok(task)) = (self.workers.get_mut(task), task.parse()) else {
                    return;
                };
                worker.sequence += 1;
                let sequence = worker.sequence;
                let crate::progress::Progress {
                    percent,
                    message,
                    url,
                } = progress;
                self.message(&ExecutorMessage::Progress {
                    task,
                    sequence,
                    percent,
                    message,
                    url,
                });
            }
            News::Usage(usage) => {
                let (Some(worker), Ok(task)) = (self.workers.get_mut(task), task.parse()) else {
                    return;
                };
                worker.sequence += 1;
                let sequence = worker.sequence;
                self.message(&ExecutorMessage::Usage {
                    task,
                    sequence,
                    usage,
                });
            }
            News::Ended(ending) => {
                self.workers.remove(task);
                if self.workers.is_empty() {
                    self.idle_since = Instant::now();
                    let nursery = self.context.nursery.clone();
                    tokio::task::spawn_blocking(move || nursery.kill_strays());
                }
                self.decide(Input::Ended { task: id, ending });
            }
        }
    }

    /// A worker is wholly gone. One that panicked said nothing, so we say it for it.
    fn joined(&mut self, done: Result<(), tokio::task::JoinError>) {
        if let Err(error) = done {
            tracing::error!(%error, "a worker failed");
            // Which one is not told: it is the one that holds no voice any more.
            let silent: Vec<String> = self
                .workers
                .iter()
                .filter(|(_, worker)| worker.stop.receiver_count() == 0)
                .map(|(task, _)| task.clone())
                .collect();
            for task in silent {
                let failure = crate::failure::TaskFailure::platform(
                    "the executor's worker for this task failed",
                );
                let result = meson_protocol::task::TaskResult {
                    failure: Some(failure.into()),
                    ..Default::default()
                };
                self.learn(&task, News::Ended(Ending::Done(Box::new(result))));
            }
        }
    }

    fn heartbeat(&mut self) {
        let tasks: Vec<_> = self
            .workers
            .keys()
            .filter_map(|task| task.parse().ok())
            .collect();
        for tasks in tasks.chunks(HEARTBEAT_TASKS) {
            self.heartbeats += 1;
            self.message(&ExecutorMessage::Heartbeat {
                tasks: tasks.to_vec(),
                sequence: self.heartbeats,
            });
        }
    }

    /// Says something that may get lost.
    fn message(&self, message: &ExecutorMessage) {
        let Ok(permit) = self.messages.clone().try_acquire_owned() else {
            return;
        };
        match message.encode() {
            Ok(bytes) => {
                let client = self.client.clone();
                tokio::spawn(async move {
                    if let Err(error) = client
                        .call(Call::Message(Message { data: bytes.into() }))
                        .await
                    {
                        tracing::debug!(%error, "a message got lost");
                    }
                    drop(permit);
                });
            }
            Err(error) => tracing::warn!(%error, "a message is not sent"),
        }
    }

    /// Puts the first update of the outbox on its way, if the agent is there.
    fn send_next(&mut self, link: &Link) {
        if self.sending.is_some() || matches!(link, Link::Down(..)) {
            return;
        }
        let Some(update) = self.outbox.front().cloned() else {
            return;
        };
        let client = self.client.clone();
        let sending = async move {
            let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1), 0);
            loop {
                match client.call(Call::Update(update.clone())).await {
                    Err(ExecutorError::Unavailable { reason, .. }) => {
                        tracing::debug!(reason, "an update was not taken, trying again");
                        sleep(backoff.next_delay()).await;
                    }
                    other => return other,
                }
            }
        };
        self.sending = Some(sending.boxed());
    }

    fn sent(&mut self, sent: Result<(), ExecutorError>) {
        self.sending = None;
        self.outbox.pop_front();
        if let Err(error) = sent {
            // It stays unacknowledged, so the next subscription tells it once more.
            tracing::error!(%error, "the agent refuses an update");
        }
    }

    fn resubscribe(&self) -> Link {
        let known = self.machine.subscription();
        let told = known
            .unacknowledged_updates
            .iter()
            .filter_map(|update| update.status.uuid.clone())
            .collect();
        let client = self.client.clone();
        let again = async move {
            client
                .resubscribe(known.unacknowledged_tasks, known.unacknowledged_updates)
                .await
        };
        Link::Down(again.boxed(), told)
    }

    /// Updates that came about while we were subscribing.
    fn untold(&self, told: &HashSet<Data>) -> VecDeque<Update> {
        let mut updates = self.machine.subscription().unacknowledged_updates;
        updates.retain(|update| {
            update
                .status
                .uuid
                .as_ref()
                .is_none_or(|uuid| !told.contains(uuid))
        });
        updates.into()
    }

    fn shut_down(&mut self) {
        if self.deadline.is_some() {
            return;
        }
        let time = self.context.settings.mesos.shutdown_grace_period;
        self.deadline = Some(Instant::now() + time);
        self.decide(Input::Shutdown {
            grace: time * TERM_SHARE_PERCENT / 100,
        });
    }

    /// The last moments: logs that are still on their way, and whatever processes there are.
    async fn wind_up(&mut self) {
        let patience = self
            .deadline
            .map_or(crate::logs::ship::FLUSH_DEADLINE, |deadline| {
                deadline.saturating_duration_since(Instant::now() + MARGIN)
            });
        self.context.flushes.close();
        if timeout_at(Instant::now() + patience, self.context.flushes.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "ending before all logs are with a coordinator; they stay in the sandbox"
            );
        }
        // Workers that did not end in time: dropping one kills its processes.
        self.tasks.shutdown().await;
        let nursery = self.context.nursery.clone();
        let _ = tokio::task::spawn_blocking(move || nursery.kill_strays()).await;
    }
}

/// What comes from the agent's direction.
enum Heard {
    Event(Box<Event>),
    Subscribed(Box<Subscribed>, ExecutorEvents, HashSet<Data>),
    Lost(String),
    GivenUp(ExecutorError),
}

async fn next_event(link: &mut Link) -> Heard {
    match link {
        Link::Up(events) => match events.next().await {
            Some(Ok(event)) => Heard::Event(Box::new(event)),
            Some(Err(error)) => Heard::Lost(error.to_string()),
            None => Heard::Lost("the stream has ended".to_owned()),
        },
        Link::Down(subscribing, told) => match subscribing.await {
            Ok((subscribed, events)) => {
                Heard::Subscribed(Box::new(subscribed), events, std::mem::take(told))
            }
            Err(error) => Heard::GivenUp(error),
        },
    }
}

async fn poll_sending(
    sending: &mut Option<BoxFuture<'static, Result<(), ExecutorError>>>,
) -> Result<(), ExecutorError> {
    match sending {
        Some(sending) => sending.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline - MARGIN).await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "Mesos wants the wall clock in updates; nothing is decided by it"
)]
pub(crate) fn stamp() -> Stamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Stamp {
        uuid: *uuid::Uuid::new_v4().as_bytes(),
        seconds: since.as_secs_f64(),
    }
}
