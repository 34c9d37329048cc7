//! The engine with a scripted broker: pipelines to their end, restarts at any moment, steering.

mod flows;
mod pipeline;
mod restart;
mod scripted;
mod steering;
mod world;
