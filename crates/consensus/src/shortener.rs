//! Keeps a shard's log short, beyond what openraft does by itself.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::info;

use crate::{
    ids::{LogIndex, NodeId, ShardId},
    options::SnapshotPolicy,
    raft::{self, ShardRaft},
    status::ShardStatus,
    store::LogInfo,
};

/// How often the size of the logs is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// A log that is so many times as long as it should be is held by something.
const HELD: u64 = 4;

/// Looks after one shard's log.
pub(crate) struct Shortener {
    pub(crate) shard: ShardId,
    pub(crate) node: NodeId,
    pub(crate) raft: ShardRaft,
    pub(crate) log: LogInfo,
    pub(crate) policy: SnapshotPolicy,
}

impl Shortener {
    /// Runs until the node closes.
    pub(crate) async fn run(self, mut closing: watch::Receiver<bool>) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => break,
                _ = looks.tick() => {}
            }
            // openraft itself counts entries only.
            let long = self.log.bytes() > self.policy.every_log_bytes;
            if long && self.raft.trigger().snapshot().await.is_err() {
                break;
            }
            let mut status = raft::status(&self.raft, self.shard);
            status.log_bytes = self.log.bytes();
            if is_held(&status, &self.policy, self.node) {
                info!(shard = %self.shard, bytes = status.log_bytes, "the log grows because a replica is away: handing over");
                raft::step_down(&self.raft, self.node.get(), self.log.last()).await;
            }
        }
    }
}

/// Whether this node leads, and keeps a log that a snapshot has long made superfluous. openraft does
/// not drop what it means to send, and for a replica that is away it means to send all that it
/// misses. Followers send nothing: their logs are short, and ours will be once we are one of them.
fn is_held(status: &ShardStatus, policy: &SnapshotPolicy, node: NodeId) -> bool {
    let index = |index: Option<LogIndex>| index.map_or(0, LogIndex::get);
    let purged = index(status.purged_index);
    let kept = index(status.last_index).saturating_sub(purged);
    let long = kept > HELD * policy.every_entries + policy.keep_entries
        || status.log_bytes > HELD * policy.every_log_bytes;
    let superfluous = index(status.snapshot_index) > purged + policy.keep_entries;
    status.leader == Some(node) && status.voters.len() > 1 && long && superfluous
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;

    const POLICY: SnapshotPolicy = SnapshotPolicy {
        every_entries: 100,
        every_log_bytes: 1_000,
        keep_entries: 10,
    };

    fn status(last: u64, snapshot: u64, purged: u64, log_bytes: u64) -> ShardStatus {
        ShardStatus {
            id: ShardId::new(0),
            leader: Some(NodeId::new(1)),
            term: Term::new(1),
            replicas: vec![NodeId::new(1), NodeId::new(2)],
            voters: vec![NodeId::new(1), NodeId::new(2)],
            commit_index: None,
            applied_index: None,
            last_index: Some(LogIndex::new(last)),
            snapshot_index: Some(LogIndex::new(snapshot)),
            purged_index: Some(LogIndex::new(purged)),
            log_bytes,
        }
    }

    #[test]
    fn a_log_is_held_when_it_is_far_too_long_although_there_is_a_snapshot() {
        let held = |status| is_held(&status, &POLICY, NodeId::new(1));
        assert!(held(status(1_000, 900, 500, 10)), "too many entries");
        assert!(held(status(600, 590, 500, 4_001)), "too many bytes");
        assert!(!held(status(900, 800, 500, 10)), "it is not that long yet");
        assert!(
            !held(status(1_000, 505, 500, 10)),
            "the snapshot comes first"
        );
    }

    #[test]
    fn only_a_leader_with_others_hands_over() {
        let long = status(1_000, 900, 500, 10);
        assert!(!is_held(&long, &POLICY, NodeId::new(2)));
        let alone = ShardStatus {
            voters: vec![NodeId::new(1)],
            ..long
        };
        assert!(!is_held(&alone, &POLICY, NodeId::new(1)));
    }
}
