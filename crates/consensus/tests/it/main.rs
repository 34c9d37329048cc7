//! A node from the outside: what is proposed, what is read, what a reopening finds.

mod commit;
mod open;
mod replicas;
mod support;
