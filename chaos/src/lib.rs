//! Fault injection: breaking Meson on purpose, and checking what it promised.
//!
//! So far it holds `crash`: a real process that commits under load is killed at random moments,
//! its journal optionally damaged as a power loss would, and what is found afterwards compared
//! with what it had acknowledged. See `README.md`.

pub mod crash;
