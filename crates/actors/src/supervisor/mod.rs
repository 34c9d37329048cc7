//! Supervisors: the handle that everybody holds, and what it shares with its task.
//!
//! * `mod.rs`: [`Supervisor`], [`SupervisorOptions`], the inbox.
//! * `task.rs`: the loop that starts, watches, restarts and stops children.
//! * `watcher.rs`: waits for one incarnation's end, and for the end of what belonged to it.
//! * `intensity.rs`: how many restarts are too many.

mod intensity;
mod task;
mod watcher;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use actix::{Actor, Context};
use tokio::sync::{Notify, oneshot, watch};

pub use self::intensity::Intensity;
use self::task::Task;
use crate::cell::{AnyCell, Cell};
use crate::child::ChildRef;
use crate::error::{BoxError, EndReason, Failure, StartError};
use crate::spawner::{LocalSpawner, Spawner};
use crate::spec::{ChildKey, ChildSpec};

/// Which children are restarted when one crashes (OTP's vocabulary).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// That one.
    #[default]
    OneForOne,
    /// All: they are stopped in reverse order of start, then started in order.
    OneForAll,
    /// That one and those started after it.
    RestForOne,
}

/// What happens to children, for whoever keeps counts or a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An incarnation begins.
    Started {
        /// The child.
        key: ChildKey,
        /// Counts from 1.
        incarnation: u64,
    },
    /// An incarnation crashed.
    Crashed {
        /// The child.
        key: ChildKey,
        /// The one that crashed.
        incarnation: u64,
        /// How.
        failure: Failure,
    },
    /// A child ended for good and is removed.
    Ended {
        /// The child.
        key: ChildKey,
        /// How.
        reason: EndReason,
    },
    /// Too many restarts: all children are stopped and the supervisor ends.
    Escalated {
        /// The crash that was one too many.
        reason: Arc<str>,
    },
}

/// Called in the supervisor's task for every [`Event`]; must be quick.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// How a supervisor behaves.
#[derive(Clone)]
pub struct SupervisorOptions {
    pub(crate) name: Arc<str>,
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) max_children: usize,
    pub(crate) shutdown_within: Duration,
    pub(crate) observer: Option<Observer>,
}

impl SupervisorOptions {
    /// One for one, 3 restarts in 5 s, at most 100,000 children, 30 s for a shutdown.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            max_children: 100_000,
            shutdown_within: Duration::from_secs(30),
            observer: None,
        }
    }

    /// Which children are restarted when one crashes.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How many restarts are too many.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// How many children may live at a time.
    #[must_use]
    pub fn max_children(mut self, limit: usize) -> Self {
        self.max_children = limit;
        self
    }

    /// How long a shutdown may take in all, whatever the children's own graces
    /// add up to. After that the rest is dropped, still in reverse order.
    #[must_use]
    pub fn shutdown_within(mut self, limit: Duration) -> Self {
        self.shutdown_within = limit;
        self
    }

    /// Whom to tell what happens.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }
}

impl fmt::Debug for SupervisorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorOptions")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("max_children", &self.max_children)
            .field("shutdown_within", &self.shutdown_within)
            .finish_non_exhaustive()
    }
}

/// Whether a supervisor works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SupervisorState {
    /// It does.
    Running,
    /// It was shut down; no child is left.
    Stopped,
    /// Too many restarts: no child is left, and the parent has to decide.
    Escalated(Arc<str>),
}

/// Commands that wait for the task, and the live children by key.
struct Inbox {
    starts: VecDeque<Arc<dyn AnyCell>>,
    stops: Vec<(ChildKey, oneshot::Sender<()>)>,
    closing: bool,
    /// For look-up only: no decision depends on its order.
    children: HashMap<ChildKey, Arc<dyn AnyCell>>,
}

pub(crate) struct Shared {
    options: SupervisorOptions,
    inbox: Mutex<Inbox>,
    notify: Notify,
    state: watch::Sender<SupervisorState>,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.inbox().closing = true;
        self.notify.notify_one();
    }
}

/// The incarnation that a supervisor belongs to.
pub(crate) type Owner = (Weak<dyn AnyCell>, u64);

/// Closes the supervisor when the last handle goes.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A supervisor's handle. Cheap to clone, usable from any thread; when the last
/// clone is dropped, the supervisor shuts down.
#[derive(Clone)]
pub struct Supervisor {
    handle: Arc<Handle>,
}

impl Supervisor {
    /// Starts a supervisor on the current thread's `LocalSet` or arbiter.
    ///
    /// # Panics
    /// Outside of both, as `tokio::task::spawn_local` does.
    #[must_use]
    pub fn start(options: SupervisorOptions) -> Self {
        Self::launch(&LocalSpawner, options, None)
    }

    /// Starts a supervisor, and all its children to come, where `spawner` says.
    /// If that thread takes no more work, the supervisor is `Stopped` from the start.
    #[must_use]
    pub fn start_on(spawner: &dyn Spawner, options: SupervisorOptions) -> Self {
        Self::launch(spawner, options, None)
    }

    pub(crate) fn start_owned(options: SupervisorOptions, owner: Owner) -> Self {
        Self::launch(&LocalSpawner, options, Some(owner))
    }

    fn launch(spawner: &dyn Spawner, options: SupervisorOptions, owner: Option<Owner>) -> Self {
        let shared = Arc::new(Shared {
            options,
            inbox: Mutex::new(Inbox {
                starts: VecDeque::new(),
                stops: Vec::new(),
                closing: false,
                children: HashMap::new(),
            }),
            notify: Notify::new(),
            state: watch::Sender::new(SupervisorState::Running),
        });
        // The task is made here, so that dropping it unspawned ends the supervisor.
        let seed = task::Seed::new(Arc::clone(&shared), owner);
        spawner.spawn(Box::new(move || Box::pin(Task::new(seed).run())));
        Self {
            handle: Arc::new(Handle(shared)),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }

    /// The supervisor's name, for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().options.name
    }

    /// Starts a child. It returns at once: messages that are sent before the
    /// factory is done wait in the mailbox.
    ///
    /// # Errors
    /// The key is taken, the supervisor is full, or it is ending.
    pub fn start_child<A>(&self, spec: ChildSpec<A>) -> Result<ChildRef<A>, StartError>
    where
        A: Actor<Context = Context<A>>,
    {
        let shared = self.shared();
        let supervisor = || Arc::clone(&shared.options.name);
        let mut inbox = shared.inbox();
        let key = spec.key.clone();
        if inbox.closing {
            let supervisor = supervisor();
            return Err(StartError::Closed { key, supervisor });
        }
        if inbox.children.contains_key(&key) {
            let supervisor = supervisor();
            return Err(StartError::Duplicate { key, supervisor });
        }
        let limit = shared.options.max_children;
        if inbox.children.len() >= limit {
            return Err(StartError::TooMany {
                key,
                supervisor: supervisor(),
                limit,
            });
        }
        let cell = Arc::new(Cell::new(spec));
        inbox.children.insert(key, Arc::clone(&cell) as Arc<_>);
        inbox.starts.push_back(Arc::clone(&cell) as Arc<_>);
        drop(inbox);
        shared.notify.notify_one();
        Ok(ChildRef::new(cell))
    }

    /// Starts a supervisor as a child: when it escalates, it is restarted like
    /// any child, with `init` to start its children anew. Its restart policy is
    /// permanent.
    ///
    /// # Errors
    /// As [`Self::start_child`]. An error of `init` is a crash of the sub-tree.
    pub fn start_subtree<F>(
        &self,
        options: SupervisorOptions,
        init: F,
    ) -> Result<ChildRef<Subtree>, StartError>
    where
        F: Fn(&Supervisor) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        let init = Arc::new(init);
        self.start_child(ChildSpec::new(Arc::clone(&options.name), move |scope| {
            let (options, init) = (options.clone(), Arc::clone(&init));
            async move {
                let supervisor = scope.supervisor(options);
                init(&supervisor)?;
                Ok(Subtree { supervisor })
            }
        }))
    }

    /// The live child of that key, if its actor is an `A`.
    #[must_use]
    pub fn child<A>(&self, key: &str) -> Option<ChildRef<A>>
    where
        A: Actor<Context = Context<A>>,
    {
        let cell = Arc::clone(self.shared().inbox().children.get(key)?);
        cell.into_any()
            .downcast::<Cell<A>>()
            .ok()
            .map(ChildRef::new)
    }

    /// How many children live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared().inbox().children.len()
    }

    /// Whether no child lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of the live children, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<ChildKey> {
        let mut keys: Vec<_> = self.shared().inbox().children.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Stops a child in order and removes it, whatever its restart policy;
    /// returns when it has ended. Nothing happens if there is no such child.
    pub fn stop_child(&self, key: &str) -> impl Future<Output = ()> + use<> {
        let shared = self.shared();
        let mut inbox = shared.inbox();
        let ended = inbox
            .children
            .get_key_value(key)
            .map(|(key, _)| key.clone())
            .map(|key| {
                let (done, ended) = oneshot::channel();
                inbox.stops.push((key, done));
                ended
            });
        drop(inbox);
        shared.notify.notify_one();
        async move {
            if let Some(ended) = ended {
                // Closed without a word: the supervisor ended, and the child with it.
                let _ = ended.await;
            }
        }
    }

    /// Takes no more children and begins to stop those that live.
    pub fn close(&self) {
        self.shared().close();
    }

    /// Stops all children, the latest first, each with its grace; returns when
    /// the supervisor has ended.
    pub fn shutdown(&self) -> impl Future<Output = ()> + use<> {
        self.close();
        let mut state = self.state();
        async move {
            // An error means that the task is gone, which is what we wait for.
            let _ = state.wait_for(|s| *s != SupervisorState::Running).await;
        }
    }

    /// Whether it works, from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<SupervisorState> {
        self.shared().state.subscribe()
    }

    /// Waits until the supervisor ends; `Some` if it gave up because of too many
    /// restarts. The parent of a root supervisor (`main`) waits for this.
    pub fn escalated(&self) -> impl Future<Output = Option<Arc<str>>> + use<> {
        let mut state = self.state();
        async move {
            let ended = state.wait_for(|s| *s != SupervisorState::Running).await;
            match ended.as_deref() {
                Ok(SupervisorState::Escalated(reason)) => Some(Arc::clone(reason)),
                _ => None,
            }
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("name", &self.name())
            .field("children", &self.len())
            .field("state", &*self.shared().state.borrow())
            .finish()
    }
}

/// The actor of [`Supervisor::start_subtree`].
pub struct Subtree {
    supervisor: Supervisor,
}

impl Subtree {
    /// The supervisor of this incarnation of the sub-tree.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }
}

impl Actor for Subtree {
    type Context = Context<Self>;
}

/// Asks a [`Subtree`] for its current supervisor.
impl actix::Handler<GetSupervisor> for Subtree {
    type Result = actix::MessageResult<GetSupervisor>;

    fn handle(&mut self, _: GetSupervisor, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(self.supervisor.clone())
    }
}

/// Asks a [`Subtree`] for its current supervisor.
#[derive(Debug, Clone, Copy, actix::Message)]
#[rtype(result = "Supervisor")]
pub struct GetSupervisor;
