//! Tests of the whole, with real processes.

mod bad_input;
mod crash;
mod examples;
mod runs;
