//! The supervisor's loop: starts, watches, restarts and stops children.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::intensity::Restarts;
use super::watcher::{Exit, Watcher};
use super::{Event, Owner, Shared, Strategy, SupervisorState};
use crate::cell::AnyCell;
use crate::error::{EndReason, Failure};
use crate::spec::{ChildKey, Restart};

/// Children started in one go before the others on the thread may run.
const START_BATCH: usize = 256;
/// The shortest pause between two looks for frozen actors.
const MIN_TICK: Duration = Duration::from_millis(10);

/// What the task is made of before it runs. Whether it runs, is dropped unspawned
/// or dies with its runtime: when it goes, the supervisor has ended.
pub(crate) struct Seed {
    shared: Arc<Shared>,
    owner: Option<Owner>,
    end: SupervisorState,
}

impl Seed {
    pub(crate) fn new(shared: Arc<Shared>, owner: Option<Owner>) -> Self {
        Self {
            shared,
            owner,
            end: SupervisorState::Stopped,
        }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let (children, stops) = {
            let mut inbox = self.shared.inbox();
            inbox.closing = true;
            inbox.starts.clear();
            (
                std::mem::take(&mut inbox.children),
                std::mem::take(&mut inbox.stops),
            )
        };
        for cell in children.values() {
            cell.end(EndReason::Shutdown);
        }
        drop(stops);
        self.shared.state.send_replace(self.end.clone());
        if let (Some((owner, incarnation)), SupervisorState::Escalated(reason)) =
            (&self.owner, &self.end)
            && let Some(owner) = owner.upgrade()
        {
            owner.escalate(*incarnation, Arc::clone(reason));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Alive,
    /// Asked to stop, to be removed; dropped at that time.
    Stopping(Instant),
    /// Dropped because it was frozen.
    Frozen,
    /// Stopped for a restart of several.
    Down,
}

struct Record {
    cell: Arc<dyn AnyCell>,
    incarnation: u64,
    status: Status,
    abort: AbortHandle,
    /// Messages taken when we last looked, and since when that has not changed
    /// although messages wait.
    taken: u64,
    stuck_since: Option<Instant>,
    waiters: Vec<oneshot::Sender<()>>,
}

pub(crate) struct Task {
    /// In order of start.
    children: BTreeMap<u64, Record>,
    ids: HashMap<ChildKey, u64>,
    next_id: u64,
    exits: FuturesUnordered<Watcher>,
    /// Exits that came while several children were being stopped, to be judged after.
    deferred: VecDeque<Exit>,
    restarts: Restarts,
    /// When to drop those that do not stop by themselves.
    deadlines: BTreeSet<(Instant, u64)>,
    /// How often to look for frozen children, and when next; `None` if none can freeze.
    tick: Option<Duration>,
    next_tick: Option<Instant>,
    seed: Seed,
}

impl Drop for Task {
    fn drop(&mut self) {
        // Only with children left if the runtime goes down under us.
        for record in self.children.values() {
            record.abort.abort();
        }
    }
}

impl Task {
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            children: BTreeMap::new(),
            ids: HashMap::new(),
            next_id: 0,
            exits: FuturesUnordered::new(),
            deferred: VecDeque::new(),
            restarts: Restarts::default(),
            deadlines: BTreeSet::new(),
            tick: None,
            next_tick: None,
            seed,
        }
    }

    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.seed.shared);
        loop {
            while let Some(exit) = self.deferred.pop_front() {
                if let Some(reason) = self.on_exit(exit).await {
                    self.escalate(reason).await;
                    return;
                }
            }
            let timer = self.next_timer();
            tokio::select! {
                biased; // the order of events must not depend on a dice
                Some(exit) = self.exits.next() => self.deferred.push_back(exit),
                () = shared.notify.notified() => {
                    if self.serve_inbox().await {
                        self.shut_down().await;
                        return;
                    }
                }
                () = sleep_until(timer) => self.on_timer(),
            }
        }
    }

    fn notify(&self, event: &Event) {
        if let Some(observer) = &self.seed.shared.options.observer {
            observer(event);
        }
    }

    /// Carries the commands out; true if the supervisor is to shut down.
    async fn serve_inbox(&mut self) -> bool {
        loop {
            let (starts, stops, closing) = {
                let mut inbox = self.seed.shared.inbox();
                let batch = inbox.starts.len().min(START_BATCH);
                let starts: Vec<_> = inbox.starts.drain(..batch).collect();
                // A stop may be for a child that has not been started yet.
                let stops = if inbox.starts.is_empty() {
                    std::mem::take(&mut inbox.stops)
                } else {
                    Vec::new()
                };
                (starts, stops, inbox.closing)
            };
            if closing {
                return true;
            }
            let idle = starts.is_empty() && stops.is_empty();
            for cell in starts {
                self.admit(cell);
            }
            for (key, done) in stops {
                self.begin_stop(&key, done);
            }
            if idle {
                return false;
            }
            tokio::task::yield_now().await;
        }
    }

    fn admit(&mut self, cell: Arc<dyn AnyCell>) {
        if let Some(after) = cell.policy().frozen_after {
            let tick = (after / 2).max(MIN_TICK);
            if self.tick.is_none_or(|shortest| tick < shortest) {
                self.tick = Some(tick);
                self.next_tick = Some(Instant::now() + tick);
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        self.ids.insert(cell.child_key().clone(), id);
        let abort = self.spawn(id, 1, &cell);
        let record = Record {
            cell,
            incarnation: 1,
            status: Status::Alive,
            abort,
            taken: 0,
            stuck_since: None,
            waiters: Vec::new(),
        };
        self.children.insert(id, record);
    }

    fn spawn(&mut self, child: u64, incarnation: u64, cell: &Arc<dyn AnyCell>) -> AbortHandle {
        let handle = Arc::clone(cell).spawn(incarnation);
        let abort = handle.abort_handle();
        self.exits.push(Watcher {
            child,
            incarnation,
            cell: Arc::clone(cell),
            handle,
            closing: None,
        });
        self.notify(&Event::Started {
            key: cell.child_key().clone(),
            incarnation,
        });
        abort
    }

    fn restart(&mut self, id: u64) {
        let Some(record) = self.children.get(&id) else {
            return;
        };
        let (cell, incarnation) = (Arc::clone(&record.cell), record.incarnation + 1);
        let abort = self.spawn(id, incarnation, &cell);
        if let Some(record) = self.children.get_mut(&id) {
            record.incarnation = incarnation;
            record.status = Status::Alive;
            record.abort = abort;
            record.stuck_since = None;
        }
    }

    fn begin_stop(&mut self, key: &ChildKey, done: oneshot::Sender<()>) {
        // An unknown key has ended meanwhile: dropping `done` says so.
        let Some(id) = self.ids.get(key) else { return };
        let Some(record) = self.children.get_mut(id) else {
            return;
        };
        record.waiters.push(done);
        if !matches!(record.status, Status::Stopping(_)) {
            let until = Instant::now() + record.cell.policy().grace;
            record.status = Status::Stopping(until);
            record.cell.request_stop();
            self.deadlines.insert((until, *id));
        }
    }

    /// Removes a child for good.
    fn remove(&mut self, id: u64, reason: EndReason) {
        let Some(record) = self.children.remove(&id) else {
            return;
        };
        if let Status::Stopping(until) = record.status {
            self.deadlines.remove(&(until, id));
        }
        let key = record.cell.child_key().clone();
        self.ids.remove(&key);
        self.seed.shared.inbox().children.remove(&key);
        record.cell.end(reason.clone());
        for done in record.waiters {
            let _ = done.send(()); // whoever waited may have gone
        }
        self.notify(&Event::Ended { key, reason });
        if self.children.is_empty() {
            self.tick = None;
            self.next_tick = None;
            self.ids.shrink_to_fit();
        }
    }

    /// Decides what follows an exit. `Some`: it was one too many.
    async fn on_exit(&mut self, exit: Exit) -> Option<Arc<str>> {
        let record = self.children.get(&exit.child)?;
        if record.incarnation != exit.incarnation {
            return None;
        }
        let outcome = match record.status {
            Status::Stopping(_) => {
                self.remove(exit.child, EndReason::Shutdown);
                return None;
            }
            Status::Down => return None,
            Status::Frozen => Err(Failure::Frozen),
            Status::Alive => exit.outcome,
        };
        let key = record.cell.child_key().clone();
        let policy = record.cell.policy().restart;
        if let Err(failure) = &outcome {
            tracing::warn!(
                supervisor = %self.seed.shared.options.name, actor = %key,
                incarnation = exit.incarnation, %failure, "actor crashed",
            );
            self.notify(&Event::Crashed {
                key: key.clone(),
                incarnation: exit.incarnation,
                failure: failure.clone(),
            });
        }
        let failure = match (policy, outcome) {
            (Restart::Transient | Restart::Temporary, Ok(())) => {
                self.remove(exit.child, EndReason::Normal);
                return None;
            }
            (Restart::Temporary, Err(failure)) => {
                self.remove(exit.child, EndReason::Crashed(failure));
                return None;
            }
            (Restart::Permanent, Ok(())) => Failure::Stopped,
            (Restart::Permanent | Restart::Transient, Err(failure)) => failure,
        };
        let limit = self.seed.shared.options.intensity;
        if self.restarts.exceed(limit, Instant::now()) {
            self.remove(exit.child, EndReason::Crashed(failure.clone()));
            let reason = format!(
                "more than {} restarts in {:?}; the last was {key}: {failure}",
                limit.restarts, limit.window
            );
            return Some(reason.into());
        }
        let strategy = self.seed.shared.options.strategy;
        self.restart_after(exit.child, strategy).await;
        None
    }

    /// Restarts the crashed child and those that the strategy ties to it.
    async fn restart_after(&mut self, crashed: u64, strategy: Strategy) {
        let tied: Vec<u64> = match strategy {
            Strategy::OneForOne => Vec::new(),
            Strategy::OneForAll => self.children.keys().copied().collect(),
            Strategy::RestForOne => self.children.range(crashed..).map(|(id, _)| *id).collect(),
        };
        if tied.is_empty() {
            self.restart(crashed);
            return;
        }
        if let Some(record) = self.children.get_mut(&crashed) {
            record.status = Status::Down;
        }
        self.stop_several(&tied, None).await;
        for id in tied {
            let Some(record) = self.children.get(&id) else {
                continue;
            };
            // OTP's rule: a temporary child is never started again, not even
            // when it ended because of a sibling.
            if id != crashed && record.cell.policy().restart == Restart::Temporary {
                self.remove(id, EndReason::Shutdown);
            } else {
                self.restart(id);
            }
        }
    }

    /// Stops children one after the other, the latest first. Those that were to
    /// be removed anyway are; the others are left `Down`.
    async fn stop_several(&mut self, ids: &[u64], limit: Option<Instant>) {
        let mut wanted: HashSet<u64> = ids.iter().copied().collect();
        for id in ids.iter().rev() {
            let Some(record) = self.children.get_mut(id) else {
                continue;
            };
            let until = match record.status {
                Status::Down => continue,
                Status::Stopping(until) => until,
                Status::Frozen => Instant::now(), // dropped already
                Status::Alive => {
                    record.cell.request_stop();
                    Instant::now() + record.cell.policy().grace
                }
            };
            let until = limit.map_or(until, |limit| until.min(limit));
            self.await_down(*id, until, &mut wanted).await;
        }
    }

    async fn await_down(&mut self, id: u64, until: Instant, wanted: &mut HashSet<u64>) {
        let mut dropped = false;
        while wanted.contains(&id) {
            // An exit that waits to be judged settles it as well.
            if let Some(at) = self
                .deferred
                .iter()
                .position(|exit| wanted.contains(&exit.child))
            {
                if let Some(exit) = self.deferred.remove(at) {
                    self.settle(&exit, wanted);
                }
                continue;
            }
            tokio::select! {
                biased;
                Some(exit) = self.exits.next() => self.deferred.push_back(exit),
                () = tokio::time::sleep_until(until), if !dropped => {
                    dropped = true;
                    if let Some(record) = self.children.get(&id) {
                        tracing::warn!(
                            supervisor = %self.seed.shared.options.name,
                            actor = %record.cell.child_key(),
                            "actor did not stop within its grace and is dropped",
                        );
                        record.abort.abort();
                    }
                }
            }
        }
    }

    fn settle(&mut self, exit: &Exit, wanted: &mut HashSet<u64>) {
        let Some(record) = self.children.get_mut(&exit.child) else {
            return;
        };
        if record.incarnation != exit.incarnation {
            return;
        }
        wanted.remove(&exit.child);
        if matches!(record.status, Status::Stopping(_)) {
            self.remove(exit.child, EndReason::Shutdown);
        } else {
            record.status = Status::Down;
        }
    }

    async fn stop_all(&mut self) {
        self.seed.shared.inbox().closing = true;
        let ids: Vec<u64> = self.children.keys().copied().collect();
        let limit = Instant::now() + self.seed.shared.options.shutdown_within;
        // One at a time, so that each sees those it was started after alive.
        for id in ids.iter().rev() {
            self.stop_several(&[*id], Some(limit)).await;
            self.remove(*id, EndReason::Shutdown);
        }
    }

    async fn shut_down(&mut self) {
        tracing::debug!(supervisor = %self.seed.shared.options.name, "supervisor shuts down");
        self.stop_all().await;
    }

    async fn escalate(&mut self, reason: Arc<str>) {
        tracing::error!(
            supervisor = %self.seed.shared.options.name, %reason, "supervisor gives up",
        );
        self.stop_all().await;
        self.notify(&Event::Escalated {
            reason: Arc::clone(&reason),
        });
        self.seed.end = SupervisorState::Escalated(reason);
    }

    fn next_timer(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        match (deadline, self.next_tick) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(record) = self.children.get(&id) {
                tracing::warn!(
                    supervisor = %self.seed.shared.options.name,
                    actor = %record.cell.child_key(),
                    "actor did not stop within its grace and is dropped",
                );
                record.abort.abort();
            }
        }
        if self.next_tick.is_some_and(|at| at <= now) {
            self.next_tick = self.tick.map(|tick| now + tick);
            self.find_frozen(now);
        }
    }

    /// Drops the actors that take no message although some wait.
    fn find_frozen(&mut self, now: Instant) {
        for record in self.children.values_mut() {
            let Some(after) = record.cell.policy().frozen_after else {
                continue;
            };
            if record.status != Status::Alive {
                continue;
            }
            let (waiting, taken) = record.cell.progress();
            if waiting == 0 || taken != record.taken {
                record.taken = taken;
                record.stuck_since = (waiting > 0).then_some(now);
                continue;
            }
            match record.stuck_since {
                None => record.stuck_since = Some(now),
                Some(since) if now.duration_since(since) >= after => {
                    record.status = Status::Frozen;
                    record.abort.abort();
                }
                Some(_) => {}
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
