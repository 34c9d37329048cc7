//! Tests of the whole, with real processes.

mod bad_input;
mod bad_start;
mod crash;
mod examples;
mod explain;
mod framework;
mod gangs;
mod masters;
mod ports;
mod runs;
mod sizing;
mod slurm;
