//! The broker: one actor per pool, which speaks to the pool's resource manager for everybody.
//!
//! ```text
//!  step actors ── messages ──► actor ──► state (pure) ──► calls ──► manager ──► Mesos
//!                                ▲          │
//!                                └─ signals ┘◄── events ── manager ◄── Mesos
//! ```
//!
//! * [`messages`]: what step actors say and hear.
//! * [`state`]: decides; knows no socket and no clock. Its parts: [`queue`] who waits,
//!   [`agents`] what is offered and held, [`ports`] which ports a task gets, [`launch`] an ACCEPT's body, [`status`] what a task
//!   status means for an attempt and whose retry it costs, [`reconcile`] what must be asked again,
//!   [`appetite`] when offers are wanted, [`constraints`] which are of use, [`pace`] how fast tasks
//!   are started, [`patience`] how long an offer is held for a commit, [`brake`] when none are, [`maintenance`] which agents are about to go,
//!   [`recent`] what was acknowledged.
//! * [`settings`]: how a pool is used; [`stats`] and [`metrics`]: what is counted and measured.
//! * [`manager`]: the trait behind which a resource manager stands; `mesos`: Mesos behind it
//!   (Slurm has a [module](crate::slurm) of its own).
//! * [`mod@start`]: how a broker begins. * [`actor`]: mailbox, timers; [`session`]: the conversation with the resource manager.
//!
//! All of it is soft state: only the FrameworkID is replicated. After a broker is lost, the next
//! one subscribes with the same id and the step actors ask again. CHECKLIST.md, beside this file,
//! says which test stands for which item of what a good framework does.

pub mod actor;
mod agents;
mod appetite;
mod brake;
mod constraints;
mod launch;
mod maintenance;
pub mod manager;
mod mesos;
pub mod messages;
pub(crate) mod metrics;
mod pace;
mod patience;
mod ports;
mod queue;
mod recent;
mod reconcile;
mod session;
mod settings;
mod start;
pub mod state;
mod stats;
mod status;

pub use self::actor::BrokerActor;
pub use self::launch::ExecutorTemplate;
pub use self::mesos::{MesosBrokers, MesosPool};
pub use self::queue::OwnerTerms;
pub use self::settings::{BrakePolicy, Pacing, Settings};
pub use self::start::start;
pub use self::stats::{Declined, Measured, Stats};
