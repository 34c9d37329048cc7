//! The engine with a scripted broker: pipelines to their end, restarts at any moment, steering.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod flows;
mod pipeline;
mod regions;
mod restart;
mod scripted;
mod sessions;
mod steering;
mod world;
