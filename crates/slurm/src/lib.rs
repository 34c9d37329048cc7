//! Slurm by way of its own commands; knows nothing of Meson.
//!
//! * [`client`]: [`Slurm`] runs `sbatch`, `scancel`, `squeue` and `scontrol`, with a deadline and
//!   a bound on what they print.
//! * [`submission`]: a job to submit, as `sbatch` wants it.
//! * [`job`]: what `squeue` says of jobs, and the table of their states.
//! * [`node`]: what `scontrol show node` says of nodes: what is free there, and why nothing is.
//! * [`partition`]: likewise of a partition.
//! * [`error`]: what goes wrong, told apart by what can be done about it.
//!
//! The commands and not the REST daemon, because every Slurm has them and their formats have
//! stayed the same since 20.11; what `--json` prints changes with each release.

pub mod client;
pub mod error;
pub mod job;
pub mod node;
pub mod partition;
mod record;
pub mod submission;

pub use client::{Commands, Slurm};
pub use error::SlurmError;
pub use job::{Job, JobId, JobState};
pub use node::Node;
pub use partition::Partition;
pub use submission::Submission;
