//! What is proposed to a shard, what it answers, and what it stores, as bytes.
//!
//! Everything is rmp-serde with field names behind one version byte, so that a later release may
//! add fields. Whatever a command needs is in it, timestamps too: applying it asks no clock.

use std::collections::BTreeMap;

use bytes::Bytes;
use meson_consensus::{NodeId, ProposeError, Shard, Term};
use meson_core::expression::ArtifactRef;
use meson_core::ids::{RunId, TaskId};
use meson_core::run::RunHeader;
use meson_core::units::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::EngineError;

/// Version of commands and stored values.
pub(crate) const VERSION: u8 = 1;

/// An artifact as the registry keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactEntry {
    /// Its name, as the step calls it.
    pub name: String,
    /// Its id.
    pub id: String,
    /// The blob.
    pub blob: ArtifactRef,
    /// The run that made it.
    pub run: RunId,
    /// The step that made it.
    pub step: String,
    /// The attempt that made it.
    pub task: TaskId,
    /// All outputs of that step: who finds the artifact takes them instead of running it.
    #[serde(with = "meson_core::json")]
    pub outputs: BTreeMap<String, Value>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a shard knows of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleMeta {
    /// Its length.
    pub bytes: u64,
    /// How many pieces it comes in.
    pub pieces: u32,
    /// Those that are not here yet, in order. None are: the bundle is whole and verified.
    pub missing: Vec<u32>,
}

/// What is proposed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a run, or finds it created.
    CreateRun {
        /// What it is.
        header: Box<RunHeader>,
        /// Its definition (JSON), which the shard keeps once under its digest.
        definition: Bytes,
    },
    /// Appends to a run's history.
    RunEvents {
        /// The run.
        run: RunId,
        /// The number of the first; anything but the next number changes nothing.
        first_seq: u64,
        /// When they were decided.
        at: Timestamp,
        /// Each one encoded by itself, as it is stored.
        events: Vec<Bytes>,
    },
    /// Registers an artifact; the newest of an id wins.
    PutArtifact(Box<ArtifactEntry>),
    /// Stores a piece of a bundle; the last one makes it readable, if the digest is right.
    PutBundlePiece {
        /// The bundle's digest.
        digest: String,
        /// Its length in bytes.
        bytes: u64,
        /// How many pieces there are.
        pieces: u32,
        /// Which one this is, from 0.
        index: u32,
        /// The piece.
        piece: Bytes,
    },
    /// Remembers under which id a pool knows us.
    SetFrameworkId {
        /// The pool.
        pool: String,
        /// The id.
        id: String,
        /// Whether it may take the place of another.
        replace: bool,
    },
    /// Remembers which data a node has, so that no other may take its number.
    RegisterNode {
        /// The node's number.
        node: NodeId,
        /// Drawn when its data directory was made.
        incarnation: String,
    },
}

/// What a shard answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Done.
    Done,
    /// The run was there already, and is the same.
    Exists,
    /// The run was there already, and is another.
    Conflict,
    /// There is no such run.
    NoSuchRun,
    /// The events do not follow the last one; nothing was applied.
    OutOfSequence {
        /// The number that would have followed.
        expected: u64,
    },
    /// The pool's id.
    FrameworkId(String),
    /// The node's number belongs to other data.
    NodeTaken,
    /// The bundle is not complete yet.
    MorePieces {
        /// How many are missing.
        missing: u32,
    },
    /// The pieces do not make up what the digest says; all are dropped.
    DigestMismatch {
        /// The digest of what came.
        found: String,
    },
    /// The command makes no sense.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Response {
    /// The error of an answer that the caller has no use for.
    pub(crate) fn unexpected(self, action: &'static str) -> EngineError {
        EngineError::Internal {
            action,
            reason: match self {
                Self::Refused { reason } => reason,
                other => format!("the shard answered {other:?}"),
            },
        }
    }
}

/// A value behind a version byte.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    value
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|error| EngineError::Internal {
            action: "encode a value for the store",
            reason: error.to_string(),
        })?;
    Ok(bytes)
}

/// What [`encode`] wrote.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EngineError> {
    let failed = |reason: String| EngineError::Internal {
        action: "read a stored value",
        reason,
    };
    match bytes {
        [VERSION, body @ ..] => rmp_serde::from_slice(body).map_err(|e| failed(e.to_string())),
        [other, ..] => Err(failed(format!(
            "it has format {other}, this release reads {VERSION}: start the release that wrote it"
        ))),
        [] => Err(failed("it is empty".to_owned())),
    }
}

/// Commits a command and reads the answer.
pub(crate) async fn propose(
    shard: &Shard,
    fence: Term,
    command: &Command,
) -> Result<Response, EngineError> {
    let bytes = Bytes::from(encode(command)?);
    let committed = shard.propose(fence, bytes).await.map_err(refused)?;
    decode(&committed.response)
}

/// A failed proposal, in the engine's words.
pub(crate) fn refused(error: ProposeError) -> EngineError {
    let action = "commit the change";
    match error {
        ProposeError::TooLarge { limit, got } => EngineError::TooLarge {
            what: "a change of a run",
            bytes: got,
            limit,
            remedy: "store bulk as an artifact, and hand its name on",
        },
        ProposeError::Rejected { reason } => EngineError::Internal { action, reason },
        ProposeError::NotLeader { .. }
        | ProposeError::Fenced { .. }
        | ProposeError::Interrupted { .. }
        | ProposeError::Closed
        | ProposeError::Fatal { .. } => EngineError::Unavailable {
            action,
            reason: error.to_string(),
        },
    }
}
