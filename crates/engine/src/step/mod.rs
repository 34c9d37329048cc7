//! The actor of one live attempt.
//!
//! ```text
//!   WorkflowActor ── starts ──► StepActor ◄── signals ── BrokerActor
//!        ▲                         │  │
//!        └──── reports (commit) ───┘  └── requests, confirmations, acknowledgements ──► broker
//! ```
//!
//! * [`state`]: what it decides, as plain values; [`phase`]: where it may be.
//! * [`words`]: what goes in and what comes out of that.
//! * [`actor`]: mailbox, timers, broker.
//! * [`route`]: where it may go, and when it leaves a pool for the next one.
//! * [`result`]: what a terminal update says about the outcome.
//! * [`mod@child_run`]: the other kind of attempt, a run of another workflow.

mod actor;
mod child_run;
#[cfg(test)]
mod gang_tests;
mod phase;
mod result;
mod route;
mod state;
#[cfg(test)]
mod state_tests;
mod words;

#[cfg(test)]
pub(crate) use self::actor::PanicStep;
pub(crate) use self::actor::{AttemptNow, KillStep, StepActor, StepSeed, child};
pub(crate) use self::child_run::{ChildRunActor, child_run};
pub(crate) use self::route::{Route, Sight, Way};
