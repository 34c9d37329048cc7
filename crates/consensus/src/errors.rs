//! What can go wrong, and what to do about it.

use std::{io, path::PathBuf};

use crate::ids::{ClusterId, NodeId, Term};

/// What to do with a node whose data cannot be trusted.
pub(crate) const REPLACE: &str =
    "remove the node from its cluster, and let a new one join under a number that was never used";

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option is out of its range.
    #[error("cannot open a node with these options: {reason}")]
    Options {
        /// The option, its value and its range.
        reason: String,
    },
    /// Another process holds the directory.
    #[error(
        "data directory {dir} is in use by another process; stop it first, or choose another directory"
    )]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory belongs to another cluster.
    #[error(
        "data directory {dir} belongs to cluster \"{found}\", not to \"{expected}\"; choose the right directory, or an empty one"
    )]
    OtherCluster {
        /// The data directory.
        dir: PathBuf,
        /// The cluster that was asked for.
        expected: ClusterId,
        /// The cluster that wrote the directory.
        found: ClusterId,
    },
    /// The directory belongs to another node.
    #[error(
        "data directory {dir} belongs to node {found}, not to {expected}; a node keeps its own directory"
    )]
    OtherNode {
        /// The data directory.
        dir: PathBuf,
        /// The node that was asked for.
        expected: NodeId,
        /// The node that wrote the directory.
        found: NodeId,
    },
    /// The directory was made for another number of shards.
    #[error(
        "data directory {dir} has {found} shards, not {expected}; the number of shards is fixed when a cluster is created"
    )]
    OtherShards {
        /// The data directory.
        dir: PathBuf,
        /// The number that was asked for.
        expected: u16,
        /// The number that the directory has.
        found: u16,
    },
    /// The directory was written by a newer release.
    #[error(
        "data directory {dir} has format {found}; this release reads up to {supported}; use the release that wrote it, or a newer one"
    )]
    NewerFormat {
        /// The data directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this release reads.
        supported: u32,
    },
    /// The node has lost what it had acknowledged, and was told so by a leader.
    #[error("data directory {dir} is not fit for use: {reason}; {}", REPLACE)]
    Unfit {
        /// The data directory.
        dir: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// The directory holds something, but not what a node leaves there.
    #[error(
        "data directory {dir} is not a whole data directory: {reason}; in a cluster, remove the node and let a new one join under another number; restore a node that is alone from a backup"
    )]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// What is missing or unreadable.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("cannot {action} in data directory {dir}")]
    Io {
        /// What was being done.
        action: String,
        /// The data directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A Raft group did not start.
    #[error("cannot start consensus in data directory {dir}: {reason}")]
    Start {
        /// The data directory.
        dir: PathBuf,
        /// The cause.
        reason: String,
    },
}

/// Why a proposal was not, or may not have been, committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead the shard. Nothing was written.
    #[error("this node does not lead the shard; ask {}", display_leader(.leader))]
    NotLeader {
        /// Who leads it, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The fence is not the current term: the proposer was deposed. Nothing was changed.
    #[error(
        "the proposer's term is over, the shard is in term {current}; start again from the state"
    )]
    Fenced {
        /// The term that the shard is in.
        current: Term,
    },
    /// The command exceeds `Limits::command_bytes`. Nothing was written.
    #[error(
        "the command has {got} bytes, the limit is {limit}; split it, or store its bulk as an artifact"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The command's size in bytes.
        got: usize,
    },
    /// The state machine broke a rule of the store; the command changed nothing, on any replica.
    #[error("the command was refused by the store: {reason}")]
    Rejected {
        /// The rule that it broke.
        reason: String,
    },
    /// Leadership was lost while the command was under way: it may or may not be committed.
    /// Read the state under the next leader before proposing it again.
    #[error("leadership was lost while the command was under way; whether it was committed must be read from {}", display_leader(.leader))]
    Interrupted {
        /// Who leads now, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The node is shutting down. A command that was under way may or may not be committed.
    #[error("the node is shut down")]
    Closed,
    /// The node failed and serves no longer; see [`crate::ConsensusNode::failures`]. A command
    /// that was under way may or may not be committed.
    #[error("the node has failed: {reason}")]
    Fatal {
        /// The failure.
        reason: String,
    },
}

/// Why a read could not be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead the shard, so it cannot promise a linearizable read.
    #[error("this node does not lead the shard; ask {}, or read stale", display_leader(.leader))]
    NotLeader {
        /// Who leads it, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The leader could not confirm its leadership with a majority.
    #[error("the leader cannot reach a majority of the shard: {reason}")]
    NoQuorum {
        /// Who answered.
        reason: String,
    },
    /// The store could not be read.
    #[error("cannot read the shard's state: {reason}")]
    Store {
        /// The cause.
        reason: String,
    },
    /// The node is shut down, or has failed.
    #[error("the node is shut down")]
    Closed,
}

/// A failure after which a node serves no more: after a failed fsync nobody knows what is on
/// disk, and trying again would only pretend to know (see "fsyncgate", PostgreSQL 2018).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node stopped serving: {action} failed: {cause}; {remedy}")]
pub struct Failure {
    /// What was being done.
    pub action: String,
    /// Why it failed.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

fn display_leader(leader: &Option<NodeId>) -> String {
    leader.map_or_else(
        || "again when one is elected".to_owned(),
        |node| format!("node {node}"),
    )
}
