//! What a node says about itself.

use serde::{Deserialize, Serialize};

use crate::{
    errors::Failure,
    ids::{LogIndex, NodeId, ShardId, Term},
    traffic::TrafficStats,
};

/// A node and its replicas.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Why it serves no more, if so.
    pub failure: Option<Failure>,
    /// Its shards, in order.
    pub shards: Vec<ShardStatus>,
    /// What it wrote since it was opened.
    pub io: IoStats,
    /// What it said to the others, and they to it, since it was opened.
    pub traffic: TrafficStats,
}

/// A shard, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The shard.
    pub id: ShardId,
    /// Who leads it, if known.
    pub leader: Option<NodeId>,
    /// The highest term seen.
    pub term: Term,
    /// Nodes with a replica, voters and learners.
    pub replicas: Vec<NodeId>,
    /// Of them, those that vote.
    pub voters: Vec<NodeId>,
    /// The last entry known to be committed.
    pub commit_index: Option<LogIndex>,
    /// The last entry that the state contains.
    pub applied_index: Option<LogIndex>,
    /// The last entry in the log.
    pub last_index: Option<LogIndex>,
    /// The last entry that the newest snapshot contains.
    pub snapshot_index: Option<LogIndex>,
    /// The last entry that was dropped from the log.
    pub purged_index: Option<LogIndex>,
    /// The size of the log's entries, in bytes.
    pub log_bytes: u64,
}

/// Counts since a node was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoStats {
    /// fsyncs of the journal.
    pub fsyncs: u64,
    /// Batches that the log writer wrote; each holds what all shards had to write.
    pub log_batches: u64,
    /// Log entries appended.
    pub entries: u64,
    /// Commands applied; a log entry holds many when many are proposed at once.
    pub commands: u64,
    /// Snapshots made of this node's own state.
    pub snapshots_built: u64,
    /// Snapshots of others that took its place.
    pub snapshots_installed: u64,
}
