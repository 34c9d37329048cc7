//! Where a supervisor and its children run.

use actix_rt::ArbiterHandle;
use futures::future::LocalBoxFuture;

/// Work that is sent to a thread and there becomes a future that stays on it.
pub type SpawnerTask = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// Places a supervisor, and with it all its children, on a thread.
///
/// Library code never starts a thread or an arbiter by itself: a binary gives it
/// the arbiters it has, a simulator one thread for everything.
pub trait Spawner: Send + Sync {
    /// Runs `task` on the spawner's thread. Returns whether the thread still
    /// takes work; if not, `task` is dropped.
    fn spawn(&self, task: SpawnerTask) -> bool;
}

/// The current thread: the surrounding `LocalSet` or arbiter.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalSpawner;

impl Spawner for LocalSpawner {
    fn spawn(&self, task: SpawnerTask) -> bool {
        tokio::task::spawn_local(task());
        true
    }
}

/// An arbiter that somebody else started.
#[derive(Debug, Clone)]
pub struct ArbiterSpawner(pub ArbiterHandle);

impl Spawner for ArbiterSpawner {
    fn spawn(&self, task: SpawnerTask) -> bool {
        self.0.spawn_fn(move || {
            tokio::task::spawn_local(task());
        })
    }
}
