//! The state machine of a run.
//!
//! ```text
//!   input ──► decide(definition, records, input, now) ──► events ──► commit ──► apply(records, event)
//!                                                                      │
//!                                                                      └──► effects: what actors have to do
//! ```
//!
//! The state of a run is a set of [records](record): one of the run, one of each entered
//! node instance. A transition reads and writes a number of them that depends on how deep
//! the flow is, never on how wide. [`decide`] emits events and applies each to an overlay as it
//! goes, so that a step's completion and all that it activates are one batch.

pub mod effect;
pub mod input;

pub use effect::{Effect, LaunchKind, LaunchSpec, ResolvedArtifact};
pub use input::{Failure, FailureClass, Input, Outcome};
