//! Finds who serves a call, and sees that it ends in time.
//!
//! Whatever happens to actors meanwhile, a caller gets an answer or a timeout.

use std::time::Duration;

use meson_consensus::Shard;

use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;
use crate::local;
use crate::node::Node;

/// Pause before a call is repeated.
const AGAIN: Duration = Duration::from_millis(5);

impl Node {
    /// Asks the leader of the shard that `place` hashes to.
    pub(crate) async fn call(
        &self,
        place: &[u8],
        call: ShardCall,
    ) -> Result<ShardReply, EngineError> {
        let action = call.action();
        let shard = self.shard_at(place).ok_or_else(|| EngineError::Internal {
            action,
            reason: "the node has no shards".to_owned(),
        })?;
        self.call_shard(&shard, call).await
    }

    /// Asks a shard's leader.
    pub(crate) async fn call_shard(
        &self,
        shard: &Shard,
        call: ShardCall,
    ) -> Result<ShardReply, EngineError> {
        let action = call.action();
        let waits = match &call {
            ShardCall::Events { wait, .. } | ShardCall::AwaitEnd { wait, .. } => {
                (*wait).min(self.timing().long_poll)
            }
            _ => Duration::ZERO,
        };
        let limit = self.timing().call + waits;
        let mut last = None;
        let served = async {
            loop {
                // Elections take a moment; the deadline bounds it.
                let term = shard
                    .led_here()
                    .await
                    .map_err(|error| EngineError::Unavailable {
                        action,
                        reason: error.to_string(),
                    })?;
                match local::serve(self, shard, term, call.clone()).await {
                    // Leadership moved meanwhile. Every call can be repeated: runs by their id,
                    // pieces and artifacts by their names.
                    Err(error @ EngineError::Unavailable { .. }) => last = Some(error),
                    answer => return answer,
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let answer = tokio::time::timeout(limit, served).await;
        answer.unwrap_or_else(|_| {
            let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Err(last.unwrap_or(EngineError::Timeout { action, waited_ms }))
        })
    }
}
