//! This node's own copies of the shards, for those who compare replicas.

use meson_consensus::{Consistency, Shard, View};
use meson_protocol::api::{ReplicaState, ReplicasView};
use sha2::{Digest, Sha256};

use super::Engine;
use crate::error::EngineError;

impl Engine {
    /// What this node itself holds and believes, without asking anybody; with a hash of every
    /// shard's records if `digest`. That reads all of them: nothing for a busy cluster.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn replicas(&self, digest: bool) -> Result<ReplicasView, EngineError> {
        let consensus = self.node.consensus();
        let mut shards = Vec::new();
        for shard in consensus.shards() {
            shards.push(replica(shard, digest).await?);
        }
        Ok(ReplicasView {
            node: consensus.node_id().get(),
            shards,
        })
    }
}

async fn replica(shard: &Shard, digest: bool) -> Result<ReplicaState, EngineError> {
    let status = shard.status();
    let failed = |error: &dyn std::fmt::Display| EngineError::Internal {
        action: "read a replica",
        reason: error.to_string(),
    };
    let view = shard
        .read(Consistency::Stale)
        .await
        .map_err(|error| failed(&error))?;
    let applied = view.applied().map_or(0, |index| index.get());
    let digest = if digest {
        let hashed = tokio::task::spawn_blocking(move || hash(&view)).await;
        let hashed = hashed.map_err(|error| failed(&error))?;
        Some(hashed.map_err(|error| failed(&error))?)
    } else {
        None
    };
    Ok(ReplicaState {
        shard: status.id.get(),
        leader: status.leader.map(|node| node.get()),
        term: status.term.get(),
        commit_index: status.commit_index.map_or(0, |index| index.get()),
        applied_index: applied,
        digest,
    })
}

/// Keys and values with their lengths, so that no two states are the same text.
fn hash(view: &View) -> Result<String, meson_consensus::ReadError> {
    let mut hasher = Sha256::new();
    for record in view.iter(b"", None) {
        let (key, value) = record?;
        for part in [key, value] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .fold(String::from("sha256:"), |text, byte| {
            text + &format!("{byte:02x}")
        }))
}
