//! The pure core of Meson: what a workflow is and how a run of it moves.
//!
//! Nothing here knows a clock, a socket, a thread or a random number: time is an
//! argument, and every decision is a function of plain values. The engine's actors
//! carry out what is decided here, the replicas of a shard apply it.
//!
//! * [`definition`]: a workflow as data, the tree of nodes that the DSL lowers to;
//!   [`validate`] finds what is wrong with one.
//! * [`expression`]: CEL expressions and `${{ … }}` templates, with their limits.
//! * [`params`]: what a caller gives to a workflow.
//! * [`run`]: the state machine of a run, `decide` and `apply`.
//! * [`resources`], [`matching`]: what steps ask for, what is offered, who gets what
//!   and, for everybody else, why not. [`sizing`]: what they used, and should have asked for.
//! * [`ids`], [`units`]: the types that keep ids, times and sizes apart. [`json`]: values in messages.

pub mod definition;
pub mod expression;
pub mod ids;
pub mod json;
pub mod matching;
pub mod params;
pub mod resources;
pub mod run;
pub mod sizing;
pub mod units;
pub mod validate;
