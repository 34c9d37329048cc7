//! A replica that has lost log entries which it had acknowledged.
//!
//! Raft counts an acknowledgement for ever: a majority that has an entry keeps it. A replica whose
//! data directory was replaced by an older copy, or lost part of its files, breaks that silently, and
//! its votes are forgotten with its log (Ongaro's dissertation, 3.8 and 11.7.3). Its leader can tell: it
//! remembers up to where the replica's log matched its own. Such a replica is no longer replicated to, and
//! is told to stop for good.

use std::sync::OnceLock;

use openraft::{
    raft::{StreamAppendError, StreamAppendResult},
    type_config::async_runtime::watch::WatchReceiver as _,
};
use serde::{Deserialize, Serialize};

use super::{LogId, ShardRaft, Types};

type Metrics = openraft::alias::WatchReceiverOf<Types, openraft::metrics::RaftDataMetrics<Types>>;

/// Up to where the replicas of a shard that this node leads have the leader's log.
#[derive(Default)]
pub(super) struct Acknowledged(OnceLock<Metrics>);

impl Acknowledged {
    /// From here on there is something to ask.
    pub(super) fn watch(&self, raft: &ShardRaft) {
        let _ = self.0.set(raft.data_metrics());
    }

    /// None: nothing, or this node does not lead.
    pub(super) fn by(&self, node: u64) -> Option<LogId> {
        let metrics = self.0.get()?.borrow_watched();
        metrics.replication.as_ref()?.get(&node).copied().flatten()
    }
}

/// The leader of a shard says: you had the log up to there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Lost {
    pub(super) acknowledged: LogId,
}

/// Whether an answer says that what was acknowledged is not there any more.
pub(super) fn lost(
    answer: &StreamAppendResult<Types>,
    acknowledged: Option<LogId>,
) -> Option<Lost> {
    match (answer, acknowledged) {
        (Err(StreamAppendError::Conflict(at)), Some(acknowledged))
            if at.index <= acknowledged.index =>
        {
            Some(Lost { acknowledged })
        }
        _ => None,
    }
}

/// Whether it is so, as the replica itself sees it: what was said may be late.
pub(super) fn confirms(raft: &ShardRaft, lost: &Lost) -> bool {
    let last = raft.data_metrics().borrow_watched().last_log;
    last.is_none_or(|last| last.index < lost.acknowledged.index)
}

#[cfg(test)]
mod tests {
    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::*;

    fn at(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(2), index)
    }

    #[test]
    fn a_conflict_at_or_before_what_was_acknowledged_is_a_loss_and_nothing_else_is() {
        let conflict = |index| Err(StreamAppendError::Conflict(at(index)));
        assert!(lost(&conflict(7), Some(at(7))).is_some());
        assert!(lost(&conflict(3), Some(at(7))).is_some());
        // The search for where the logs part begins beyond it.
        assert!(lost(&conflict(8), Some(at(7))).is_none());
        assert!(lost(&conflict(3), None).is_none());
        assert!(lost(&Ok(Some(at(9))), Some(at(7))).is_none());
    }
}
