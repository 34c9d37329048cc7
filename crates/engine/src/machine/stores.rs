//! What a shard keeps beside runs: artifacts, bundles, the pool's FrameworkID.

use bytes::Bytes;
use meson_consensus::{NodeId, Transaction};
use sha2::{Digest, Sha256};

use super::command::{ArtifactEntry, BundleMeta, Response, decode, encode};
use super::keys;
use crate::error::EngineError;

/// More pieces than the largest bundle has.
const MAX_PIECES: u32 = 4_096;

/// The newest of an id wins; what is older than that changes nothing.
pub(super) fn put_artifact(
    tx: &mut Transaction<'_>,
    entry: &ArtifactEntry,
) -> Result<Response, EngineError> {
    let key = keys::artifact(&entry.name, &entry.id);
    if let Some(stored) = tx.get(&key) {
        let stored: ArtifactEntry = decode(&stored)?;
        // Task ids decide between two of the same millisecond, so that every order of arrival
        // ends in the same state.
        if (stored.created_at, &stored.task) >= (entry.created_at, &entry.task) {
            return Ok(Response::Done);
        }
    }
    tx.put(key, encode(entry)?);
    Ok(Response::Done)
}

pub(super) fn put_bundle_piece(
    tx: &mut Transaction<'_>,
    digest: &str,
    (bytes, pieces): (u64, u32),
    index: u32,
    piece: Bytes,
) -> Result<Response, EngineError> {
    if pieces == 0 || pieces > MAX_PIECES || index >= pieces {
        return Ok(Response::Refused {
            reason: format!("piece {index} of {pieces} of a bundle"),
        });
    }
    let meta_key = keys::bundle_meta(digest);
    let fresh = || BundleMeta {
        bytes,
        pieces,
        missing: (0..pieces).collect(),
    };
    let mut meta = match tx.get(&meta_key) {
        None => fresh(),
        Some(stored) => {
            let stored: BundleMeta = decode(&stored)?;
            if stored.missing.is_empty() {
                return Ok(Response::Done);
            }
            if (stored.bytes, stored.pieces) == (bytes, pieces) {
                stored
            } else {
                // An upload that was cut in other pieces, and given up: begin anew.
                drop_pieces(tx, digest);
                fresh()
            }
        }
    };
    tx.put(keys::bundle_piece(digest, index), piece);
    meta.missing.retain(|missing| *missing != index);
    if !meta.missing.is_empty() {
        let missing = u32::try_from(meta.missing.len()).unwrap_or(u32::MAX);
        tx.put(meta_key, encode(&meta)?);
        return Ok(Response::MorePieces { missing });
    }
    let mut hash = Sha256::new();
    let mut length = 0u64;
    for (_, piece) in tx.scan(&keys::bundle_pieces(digest)) {
        hash.update(&piece);
        length += piece.len() as u64;
    }
    let found = format!("sha256:{}", hex::encode(hash.finalize()));
    if found != digest || length != bytes {
        drop_pieces(tx, digest);
        tx.delete(meta_key);
        return Ok(Response::DigestMismatch { found });
    }
    tx.put(meta_key, encode(&meta)?);
    Ok(Response::Done)
}

fn drop_pieces(tx: &mut Transaction<'_>, digest: &str) {
    let keys: Vec<Bytes> = tx
        .scan(&keys::bundle_pieces(digest))
        .map(|(key, _)| key)
        .collect();
    for key in keys {
        tx.delete(key);
    }
}

/// The first data to bear a node's number keeps it: whoever comes without them has forgotten what
/// the node promised, and is another node.
pub(super) fn register_node(tx: &mut Transaction<'_>, node: NodeId, incarnation: &str) -> Response {
    let key = keys::node(node);
    match tx.get(&key) {
        Some(known) if known == incarnation.as_bytes() => Response::Done,
        Some(_) => Response::NodeTaken,
        None => {
            tx.put(key, incarnation.as_bytes().to_vec());
            Response::Done
        }
    }
}

/// An id that is stored stays, unless the caller says otherwise: losing it orphans tasks.
pub(super) fn set_framework_id(
    tx: &mut Transaction<'_>,
    pool: &str,
    id: &str,
    replace: bool,
) -> Response {
    let key = keys::framework(pool);
    match tx.get(&key) {
        Some(stored) if !replace => {
            Response::FrameworkId(String::from_utf8_lossy(&stored).into_owned())
        }
        _ => {
            tx.put(key, id.as_bytes().to_vec());
            Response::FrameworkId(id.to_owned())
        }
    }
}
