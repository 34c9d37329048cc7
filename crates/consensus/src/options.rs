//! What a node is told when it opens its data directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{
    ids::{ClusterId, NodeId, ShardId},
    members::{Birth, Member, Members},
    network::{Alone, Network},
};

/// How a node opens. `Options::single` gives the defaults for a cluster of one.
#[derive(Clone)]
pub struct Options {
    /// The cluster that the data directory belongs to.
    pub cluster_id: ClusterId,
    /// This node.
    pub node_id: NodeId,
    /// How many shards the cluster has, 1 to 1024. Fixed at the first start of the data directory.
    pub shards: u16,
    /// The first voters of every shard, used once, when a shard is born. Every node of a new
    /// cluster must be given the same ones.
    pub members: Members,
    /// The first voters of single shards, where they are not all members. A node that is not among
    /// them has an empty replica, which nobody speaks to.
    pub voters: BTreeMap<ShardId, BTreeSet<NodeId>>,
    /// What a shard without a history does.
    pub birth: Birth,
    /// A text that no other data directory has, kept by this one if it is made now. It tells a
    /// node from another that bears its number, or from itself before it lost its data.
    pub incarnation: String,
    /// When the log is shortened.
    pub snapshots: SnapshotPolicy,
    /// What is refused, and how much is held in memory.
    pub limits: Limits,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// How other nodes are reached.
    pub network: Arc<dyn Network>,
    /// Write into this file, after each sync and before anybody is told of it, how much of the
    /// journal is on disk, for tests of power loss: the number in the journal's file name and its
    /// length before the sync, two big-endian `u64`. (A journal file that was created by the running
    /// process is preallocated; only after a reopening its length says something.)
    pub track_synced: Option<PathBuf>,
}

impl Options {
    /// A node that is a cluster of its own, with default limits.
    #[must_use]
    pub fn single(cluster_id: ClusterId, node_id: NodeId, shards: u16) -> Self {
        Self {
            cluster_id,
            node_id,
            shards,
            members: Members::from([(node_id, Member::default())]),
            voters: BTreeMap::new(),
            birth: Birth::Found,
            incarnation: String::new(),
            snapshots: SnapshotPolicy::default(),
            limits: Limits::default(),
            timing: Timing::alone(),
            network: Arc::new(Alone),
            track_synced: None,
        }
    }
}

impl Options {
    /// Whether a node is one of a shard's first voters.
    pub(crate) fn votes(&self, shard: ShardId, node: NodeId) -> bool {
        let voters = self.voters.get(&shard);
        voters.is_none_or(|voters| voters.contains(&node))
    }
}

/// When a shard writes a snapshot and forgets the log before it. Whichever limit is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Log entries since the last snapshot.
    pub every_entries: u64,
    /// Bytes of log on disk.
    pub every_log_bytes: u64,
    /// Entries that are kept although a snapshot covers them, so that a node that is a little
    /// behind is brought up to date from the log.
    pub keep_entries: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            every_entries: 50_000,
            every_log_bytes: 64 << 20,
            keep_entries: 1_000,
        }
    }
}

/// Bounds in bytes and counts; an error that enforces one names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest command that may be proposed, in bytes.
    pub command_bytes: usize,
    /// The most bytes of commands that share one log entry (one command may exceed it alone).
    pub entry_bytes: usize,
    /// The most commands that share one log entry.
    pub entry_commands: usize,
    /// Proposals that may wait per shard; further proposers wait for a place.
    pub queue: usize,
    /// Recent log kept in memory per shard, in bytes, so that applying and replicating it needs
    /// no read from disk.
    pub log_cache_bytes: usize,
    /// Memory for cached blocks of the database, in bytes.
    pub block_cache_bytes: u64,
    /// Memory for each of the database's write buffers before it is written out, in bytes.
    pub write_buffer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_bytes: 4 << 20,
            entry_bytes: 1 << 20,
            entry_commands: 1_024,
            queue: 4_096,
            log_cache_bytes: 4 << 20,
            block_cache_bytes: 16 << 20,
            write_buffer_bytes: 16 << 20,
        }
    }
}

/// Raft's clocks: [`Timing::lan`] for several nodes, [`Timing::alone`] for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader tells its followers that it lives. The clock behind it ticks about five
    /// times as often, for every shard.
    pub heartbeat: Duration,
    /// The shortest time without a leader before a follower stands for election.
    pub election_min: Duration,
    /// The longest such time; each node draws one between the two.
    pub election_max: Duration,
}

impl Timing {
    /// Several nodes on one network: an election within 150 to 300 ms. Across regions all of the
    /// times grow with the round trip.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(300),
        }
    }

    /// A node that is a cluster of its own. Nobody waits for its heartbeats, and it stands for
    /// election at once when it starts, so its clocks may be slow and cost nothing.
    #[must_use]
    pub const fn alone() -> Self {
        Self {
            heartbeat: Duration::from_millis(2_000),
            election_min: Duration::from_millis(4_000),
            election_max: Duration::from_millis(8_000),
        }
    }
}
