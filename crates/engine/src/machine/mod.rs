//! The replicated state machine of a shard: what is proposed, stored and read back.
//!
//! ```text
//!   Command ──► propose ──► log ──► apply, on every replica ──► keys and values
//!                                      │                             │
//!                                      └── Response ──► proposer     └── read: pages of views
//! ```
//!
//! * [`keys`]: every key, and which shard a thing belongs to.
//! * [`command`]: commands, answers, values, as bytes.
//! * [`runs`]: creating runs and appending to their history.
//! * [`profiles`]: what steps used. * [`stores`]: artifacts, bundles, FrameworkIDs, nodes.
//! * [`read`]: the same from a view of the state.
//! * [`definitions`]: definitions by digest.
//!
//! Applying a command is deterministic and cannot fail: what makes no sense is answered with
//! [`Response::Refused`] and leaves nothing behind.

mod command;
mod definitions;
pub mod keys;
mod profiles;
mod read;
mod runs;
mod stores;
#[cfg(test)]
mod tests;

use meson_consensus::{ShardId, StateMachine, Transaction};

pub use self::command::{ArtifactEntry, BundleMeta, Command, Response};
pub(crate) use self::command::{decode, encode, propose};
pub(crate) use self::definitions::to_bytes;
pub use self::definitions::{Definitions, digest_of};
pub(crate) use self::read::{HistoryEntry, Reader};
use crate::error::EngineError;

/// The state machine of every shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShardMachine;

impl StateMachine for ShardMachine {
    fn apply(&self, shard: ShardId, command: &[u8], tx: &mut Transaction<'_>) -> Vec<u8> {
        let response = decode(command).and_then(|command| apply(command, tx));
        let response = response.unwrap_or_else(|error| {
            tracing::error!(%shard, %error, "a command was refused");
            Response::Refused {
                reason: error.to_string(),
            }
        });
        // A response is a few strings: it has an encoding. An empty answer reads as broken.
        encode(&response).unwrap_or_default()
    }
}

/// Whatever reads before it writes can refuse before it has written.
fn apply(command: Command, tx: &mut Transaction<'_>) -> Result<Response, EngineError> {
    match command {
        Command::CreateRun { header, definition } => runs::create(tx, *header, definition),
        Command::RunEvents {
            run,
            first_seq,
            at,
            events,
        } => runs::append(tx, &run, first_seq, at, &events),
        Command::PutArtifact(entry) => stores::put_artifact(tx, &entry),
        Command::PutBundlePiece {
            digest,
            bytes,
            pieces,
            index,
            piece,
        } => stores::put_bundle_piece(tx, &digest, (bytes, pieces), index, piece),
        Command::SetFrameworkId { pool, id, replace } => {
            Ok(stores::set_framework_id(tx, &pool, &id, replace))
        }
        Command::RegisterNode { node, incarnation } => {
            Ok(stores::register_node(tx, node, &incarnation))
        }
    }
}
