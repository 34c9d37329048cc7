//! Supervision for actix: let it crash.
//!
//! actix catches a panic in a handler, but restarts nothing: its own
//! `Supervisor` reacts to `ctx.stop()` alone, and then goes on with the *same*
//! state. This crate brings Erlang/OTP's rules to actix actors: a crashed actor
//! is replaced by one with **fresh** state, and whoever crashes too often hands
//! the decision to its parent.
//!
//! # How a message and a crash travel
//!
//! ```text
//!  ChildRef::send ──► mailbox (ours, bounded; outlives incarnations) ──► pump ──► Handler<M>
//!                                                                        │ one tokio task per
//!  Supervisor task ◄── JoinHandle of that task: normal, panic, abort ◄───┘ incarnation
//!        │
//!        ├─ restart: the factory builds the next incarnation
//!        ├─ end: the child is removed, its senders learn `Gone`
//!        └─ too many restarts: stop all, escalate ──► the owning actor dies,
//!                                                     *its* supervisor decides
//! ```
//!
//! * [`ChildSpec`]: key, [`Restart`] policy, factory, mailbox capacity, grace,
//!   `frozen_after`. The factory is async and may fail (it usually loads the
//!   state from the store); a failure or a panic in it is a crash like any other.
//! * [`Supervisor`]: one task for all its children, with a [`Strategy`], a
//!   restart [`Intensity`] and an orderly [`Supervisor::shutdown`] in reverse
//!   order of start.
//! * [`ChildRef`]: what senders hold. It stays valid over restarts. A full
//!   mailbox answers [`SendError::Busy`]; what died with an incarnation answers
//!   [`SendError::Restarting`]; a child that ended for good, [`SendError::Gone`].
//! * [`Scope`]: handed to the factory. [`Scope::supervisor`] makes a supervisor
//!   that belongs to this incarnation: when the incarnation ends, that subtree is
//!   stopped *before* the next one starts, and when that supervisor escalates,
//!   the incarnation crashes. So trees of any depth follow one rule.
//!
//! Everything runs with `spawn_local` on the thread of the supervisor, with
//! tokio's clock only; a [`Spawner`] places a supervisor on another thread.
//!
//! # What is deliberately not here
//!
//! * Messages that bypass [`ChildRef`] (actix's own `Addr`) are not bounded and
//!   are not seen by frozen detection. They still work, for an actor's talk to
//!   itself (`ctx.notify`, timers).
//! * Nobody can preempt a handler that blocks its thread: frozen detection finds
//!   actors that wait for ever, not ones that spin.
//! * There is no pause before a restart: a factory that needs one can sleep.
//!
//! # Example
//!
//! ```
//! use actix::prelude::*;
//! use meson_actors::{ChildSpec, Restart, Supervisor, SupervisorOptions};
//!
//! struct Counter(u64);
//! impl Actor for Counter {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "u64")]
//! struct Add(u64);
//! impl Handler<Add> for Counter {
//!     type Result = u64;
//!     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
//!         self.0 = self.0.checked_add(n).unwrap(); // an overflow crashes the actor
//!         self.0
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # tokio::task::LocalSet::new().block_on(&runtime, async {
//! let supervisor = Supervisor::start(SupervisorOptions::new("counters"));
//! let counter = supervisor.start_child(
//!     ChildSpec::new("hits", |_scope| async { Ok(Counter(0)) }).restart(Restart::Permanent),
//! )?;
//! assert_eq!(counter.send(Add(2)).await?, 2);
//!
//! let crashed = counter.send(Add(u64::MAX)).await.unwrap_err();
//! assert!(crashed.is_retryable());
//! assert_eq!(counter.send(Add(1)).await?, 1, "a new incarnation, fresh state");
//!
//! supervisor.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cell;
mod child;
mod error;
mod incarnation;
mod message;
mod spawner;
mod spec;
mod supervisor;

pub use cell::Phase;
pub use child::ChildRef;
pub use error::{BoxError, EndReason, Failure, SendError, StartError, crash};
pub use incarnation::Scope;
pub use spawner::{ArbiterSpawner, LocalSpawner, Spawner, SpawnerTask};
pub use spec::{ChildKey, ChildSpec, Restart};
pub use supervisor::{
    Event, GetSupervisor, Intensity, Observer, Strategy, Subtree, Supervisor, SupervisorOptions,
    SupervisorState,
};
