//! Finds who serves a call, and sees that it ends in time.
//!
//! Whatever happens to actors meanwhile, a caller gets an answer or a timeout.

use std::time::Duration;

use meson_consensus::Shard;

use crate::calls::{ShardCall, ShardReply};
use crate::error::EngineError;
use crate::local;
use crate::node::Node;

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
            ShardCall::Events { wait, .. } | ShardCall::AwaitEnd { wait, .. } => (*wait).min(self.timing().long_poll),
            _ => Duration::ZERO,
        };
        let limit = self.timing().call + waits;
        let served = async {
            // Elections take a moment; the deadline bounds it.
            let term = shard.led_here().await.map_err(|error| EngineError::Unavailable {
                action,
                reason: error.to_string(),
            })?;
            local::serve(self, shard, term, call).await
        };
        tokio::time::timeout(limit, served).await.unwrap_or_else(|_| {
            let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Err(EngineError::Timeout { action, waited_ms })
        })
    }
}
