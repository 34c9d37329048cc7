//! The types against recordings of a real master and agent, and the clients against
//! servers that misbehave as the real ones do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod clients;
mod transcripts;
