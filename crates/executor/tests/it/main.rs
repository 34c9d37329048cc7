//! The real executor's binary, driven by an agent that the test plays, running real processes.

mod agent;
mod docker;
mod files;
mod http;
mod killing;
mod life;
mod logs;
mod recovery;
mod spark;
mod support;
