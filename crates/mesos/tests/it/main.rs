//! The types against recordings of a real master and agent, and the clients against
//! servers that misbehave as the real ones do.

mod clients;
mod transcripts;
