//! The part of a child that outlives its incarnations: mailbox, phase, links.
//!
//! A [`Cell`] is shared by the child's senders, by the task of the current
//! incarnation and by the supervisor. Its lock is held for a few instructions at
//! a time and never while foreign code (a message's `drop` included) runs.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use actix::{Actor, Addr, Context, WeakAddr};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{EndReason, Failure, SendError};
use crate::incarnation::Incarnation;
use crate::message::{Envelope, Permit};
use crate::spec::{ChildKey, ChildSpec, Factory, Policy};
use crate::supervisor::Supervisor;

/// Where a child is in its life, as [`ChildRef::watch`](crate::ChildRef::watch) publishes it.
pub enum Phase<A: Actor> {
    /// Its factory runs. Messages are taken and wait.
    Starting {
        /// Counts from 1.
        incarnation: u64,
    },
    /// It runs.
    Running {
        /// Counts from 1.
        incarnation: u64,
        /// This incarnation's own address: unbounded and unsupervised, dead with it.
        addr: Addr<A>,
    },
    /// The incarnation has ended and the supervisor decides what follows.
    Down,
    /// It ended for good.
    Gone(EndReason),
}

impl<A: Actor> fmt::Debug for Phase<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { incarnation } => write!(f, "Starting({incarnation})"),
            Self::Running { incarnation, .. } => write!(f, "Running({incarnation})"),
            Self::Down => f.write_str("Down"),
            Self::Gone(reason) => write!(f, "Gone({reason})"),
        }
    }
}

/// The phase as the cell keeps it: a weak address costs 8 bytes, a strong one two allocations.
enum Stage<A: Actor> {
    Starting,
    Running(WeakAddr<A>),
    Down,
    Gone(EndReason),
}

struct State<A: Actor<Context = Context<A>>> {
    queue: VecDeque<Box<dyn Envelope<A>>>,
    stage: Stage<A>,
    /// The current incarnation, or the one that ended last. Counts from 1.
    incarnation: u64,
    /// Messages taken so far: what frozen detection compares.
    taken: u64,
    /// Wakes the incarnation's task.
    waker: Option<Waker>,
    /// Supervisors that belong to the current incarnation, in order of creation.
    links: Vec<Supervisor>,
    escalation: Option<Arc<str>>,
    /// Made for the first subscriber: most children never have one.
    phases: Option<watch::Sender<Phase<A>>>,
    /// Dropped when the child is gone, so that a lingering `ChildRef` holds no captures.
    factory: Option<Arc<Factory<A>>>,
}

/// Bits of [`Cell::control`], which the incarnation reads at each poll without the lock.
pub(crate) const STOP: u8 = 1;
pub(crate) const ESCALATED: u8 = 2;

pub(crate) struct Cell<A: Actor<Context = Context<A>>> {
    key: ChildKey,
    policy: Policy,
    control: AtomicU8,
    in_flight: Arc<AtomicUsize>,
    state: Mutex<State<A>>,
}

/// What became of a message whose reply channel closed.
pub(crate) enum Fate {
    Known(SendError),
    /// The incarnation is down and the supervisor has not decided.
    Undecided,
}

impl<A: Actor<Context = Context<A>>> Cell<A> {
    pub(crate) fn new(spec: ChildSpec<A>) -> Self {
        Self {
            key: spec.key,
            policy: spec.policy,
            control: AtomicU8::new(0),
            in_flight: Arc::new(AtomicUsize::new(0)),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                stage: Stage::Starting,
                incarnation: 1,
                taken: 0,
                waker: None,
                links: Vec::new(),
                escalation: None,
                phases: None,
                factory: Some(spec.factory),
            }),
        }
    }

    pub(crate) fn key(&self) -> &ChildKey {
        &self.key
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        // The lock guards no foreign code, so a poisoned state is a consistent one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a place in the mailbox.
    pub(crate) fn permit(&self) -> Result<Permit, SendError> {
        Permit::take(&self.in_flight, self.policy.capacity).ok_or_else(|| SendError::Busy {
            key: self.key.clone(),
            capacity: self.policy.capacity,
        })
    }

    /// Queues a message; returns the incarnation that will get it.
    pub(crate) fn push(&self, envelope: Box<dyn Envelope<A>>) -> Result<u64, SendError> {
        let mut state = self.lock();
        let error = match &state.stage {
            Stage::Starting | Stage::Running(_) => {
                let wake = state.queue.is_empty();
                state.queue.push_back(envelope);
                let incarnation = state.incarnation;
                let waker = if wake { state.waker.clone() } else { None };
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
                return Ok(incarnation);
            }
            Stage::Down => SendError::Restarting {
                key: self.key.clone(),
            },
            Stage::Gone(reason) => SendError::Gone {
                key: self.key.clone(),
                reason: reason.clone(),
            },
        };
        drop(state); // before the rejected message
        Err(error)
    }

    /// The next message for the running incarnation.
    pub(crate) fn pop(&self) -> Option<Box<dyn Envelope<A>>> {
        let mut state = self.lock();
        let envelope = state.queue.pop_front();
        if envelope.is_some() {
            state.taken += 1;
        }
        // A burst must not leave its room behind in each of 10,000s of children.
        if state.queue.is_empty() && state.queue.capacity() > 256 {
            state.queue = VecDeque::new();
        }
        envelope
    }

    /// What to tell the sender of a message that incarnation `incarnation` had.
    pub(crate) fn fate(&self, incarnation: u64) -> Fate {
        let state = self.lock();
        let key = self.key.clone();
        Fate::Known(match &state.stage {
            Stage::Gone(reason) => SendError::Gone {
                key,
                reason: reason.clone(),
            },
            _ if state.incarnation != incarnation => SendError::Restarting { key },
            Stage::Down => return Fate::Undecided,
            Stage::Starting | Stage::Running(_) => SendError::NoReply { key },
        })
    }

    pub(crate) fn addr(&self) -> Option<Addr<A>> {
        match &self.lock().stage {
            Stage::Running(addr) => addr.upgrade(),
            _ => None,
        }
    }

    pub(crate) fn phase(&self) -> Phase<A> {
        Self::phase_of(&self.lock())
    }

    fn phase_of(state: &State<A>) -> Phase<A> {
        let incarnation = state.incarnation;
        match &state.stage {
            Stage::Starting => Phase::Starting { incarnation },
            Stage::Running(addr) => addr
                .upgrade()
                .map_or(Phase::Down, |addr| Phase::Running { incarnation, addr }),
            Stage::Down => Phase::Down,
            Stage::Gone(reason) => Phase::Gone(reason.clone()),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase<A>> {
        let mut state = self.lock();
        if let Some(phases) = &state.phases {
            return phases.subscribe();
        }
        let (phases, receiver) = watch::channel(Self::phase_of(&state));
        state.phases = Some(phases);
        receiver
    }

    fn enter(state: &mut State<A>, stage: Stage<A>) {
        state.stage = stage;
        if let Some(phases) = &state.phases {
            if phases.receiver_count() == 0 {
                state.phases = None;
            } else {
                phases.send_replace(Self::phase_of(state));
            }
        }
    }

    // What the incarnation's task calls.

    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.lock().waker = Some(waker.clone());
    }

    pub(crate) fn control(&self) -> u8 {
        self.control.load(Ordering::Acquire)
    }

    pub(crate) fn factory(&self) -> Option<Arc<Factory<A>>> {
        self.lock().factory.clone()
    }

    pub(crate) fn running(&self, incarnation: u64, addr: &Addr<A>) {
        let mut state = self.lock();
        if state.incarnation == incarnation {
            Self::enter(&mut state, Stage::Running(addr.downgrade()));
        }
    }

    pub(crate) fn down(&self, incarnation: u64) {
        let mut state = self.lock();
        if state.incarnation == incarnation && !matches!(state.stage, Stage::Gone(_)) {
            state.waker = None;
            Self::enter(&mut state, Stage::Down);
        }
    }

    pub(crate) fn escalation(&self) -> Arc<str> {
        let reason = self.lock().escalation.clone();
        reason.unwrap_or_else(|| "no reason given".into())
    }
}

/// What the supervisor does with a child, whatever its actor's type.
pub(crate) trait AnyCell: Any + Send + Sync {
    fn child_key(&self) -> &ChildKey;
    fn policy(&self) -> &Policy;
    /// Starts an incarnation on the current thread. What still waits for an
    /// earlier one is answered with `Restarting`.
    fn spawn(self: Arc<Self>, incarnation: u64) -> JoinHandle<Result<(), Failure>>;
    /// Asks the incarnation to stop: first what belongs to it, then itself.
    fn request_stop(&self);
    /// Messages that wait, messages taken so far.
    fn progress(&self) -> (usize, u64);
    /// Ends the child for good; what still waits is answered with `Gone`.
    fn end(&self, reason: EndReason);
    /// Makes `supervisor` part of the incarnation; false if that one is over.
    fn link(&self, incarnation: u64, supervisor: Supervisor) -> bool;
    fn take_links(&self) -> Vec<Supervisor>;
    /// A linked supervisor gave up: the incarnation crashes.
    fn escalate(&self, incarnation: u64, reason: Arc<str>);
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<A: Actor<Context = Context<A>>> Cell<A> {
    fn wake(&self) {
        let waker = self.lock().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<A: Actor<Context = Context<A>>> AnyCell for Cell<A> {
    fn child_key(&self) -> &ChildKey {
        &self.key
    }

    fn policy(&self) -> &Policy {
        &self.policy
    }

    fn spawn(self: Arc<Self>, incarnation: u64) -> JoinHandle<Result<(), Failure>> {
        let lost = {
            let mut state = self.lock();
            let lost = if incarnation > state.incarnation {
                std::mem::take(&mut state.queue)
            } else {
                VecDeque::new()
            };
            state.incarnation = incarnation;
            state.escalation = None;
            self.control.store(0, Ordering::Release);
            Self::enter(&mut state, Stage::Starting);
            lost
        };
        drop(lost);
        tokio::task::spawn_local(Incarnation::new(self, incarnation))
    }

    fn request_stop(&self) {
        self.control.fetch_or(STOP, Ordering::AcqRel);
        self.wake();
    }

    fn progress(&self) -> (usize, u64) {
        let state = self.lock();
        (state.queue.len(), state.taken)
    }

    fn end(&self, reason: EndReason) {
        let lost = {
            let mut state = self.lock();
            if !matches!(state.stage, Stage::Gone(_)) {
                Self::enter(&mut state, Stage::Gone(reason));
            }
            (
                std::mem::take(&mut state.queue),
                state.factory.take(),
                std::mem::take(&mut state.links),
                state.waker.take(),
            )
        };
        drop(lost);
    }

    fn link(&self, incarnation: u64, supervisor: Supervisor) -> bool {
        let mut state = self.lock();
        let current = state.incarnation == incarnation
            && matches!(state.stage, Stage::Starting | Stage::Running(_));
        if current {
            state.links.push(supervisor);
        }
        current
    }

    fn take_links(&self) -> Vec<Supervisor> {
        std::mem::take(&mut self.lock().links)
    }

    fn escalate(&self, incarnation: u64, reason: Arc<str>) {
        {
            let mut state = self.lock();
            if state.incarnation != incarnation {
                return;
            }
            state.escalation = Some(reason);
        }
        self.control.fetch_or(ESCALATED, Ordering::AcqRel);
        self.wake();
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
