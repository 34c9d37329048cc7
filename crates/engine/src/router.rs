//! Finds who serves a call, here or on another coordinator, and sees that it ends in time.
//!
//! Whatever happens to actors and leaders meanwhile, a caller gets an answer or a timeout. Every
//! call can be repeated: runs by their id, pieces and artifacts by their names.

use std::time::Duration;

use meson_consensus::{NodeId, Shard};
use tokio::time::Instant;

use crate::calls::{ShardCall, ShardReply};
use crate::error::{EngineError, ErrorKind};
use crate::layout::Place;
use crate::local;
use crate::node::Node;
use crate::peers;
use crate::peers::wire::{PeerAnswer, PeerCall};

/// Pause before a call is repeated.
const AGAIN: Duration = Duration::from_millis(5);
/// Pause before another coordinator is asked again that says that it does not lead, or says nothing.
const ASK_AGAIN: Duration = Duration::from_millis(20);

impl Node {
    /// Asks the leader of the shard that `place` hashes to.
    pub(crate) async fn call(
        &self,
        place: &Place,
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
        let waits = call.waits().min(self.timing().long_poll);
        self.call_shard_within(shard, call, self.timing().call + waits)
            .await
    }

    /// The same within a time of the caller's choice.
    pub(crate) async fn call_shard_within(
        &self,
        shard: &Shard,
        call: ShardCall,
        limit: Duration,
    ) -> Result<ShardReply, EngineError> {
        let action = call.action();
        let until = Instant::now() + limit;
        let mut last = None;
        let served = self.serve_somewhere(shard, call, until, &mut last);
        let answer = tokio::time::timeout_at(until, served).await;
        answer.unwrap_or_else(|_| {
            let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            Err(last.unwrap_or(EngineError::Timeout { action, waited_ms }))
        })
    }

    /// Goes after the shard's leader until one answers; `last` is why the one before did not.
    async fn serve_somewhere(
        &self,
        shard: &Shard,
        call: ShardCall,
        until: Instant,
        last: &mut Option<EngineError>,
    ) -> Result<ShardReply, EngineError> {
        let action = call.action();
        let own = self.consensus().node_id();
        let mut leadership = shard.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if now.local {
                match local::serve(self, shard, now.term, call.clone()).await {
                    Err(error) if error.kind() == ErrorKind::Unavailable => *last = Some(error),
                    answer => return answer,
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            let leader = now.leader.or_else(|| self.leader_hint(shard.id()));
            let Some(leader) = leader.filter(|leader| *leader != own) else {
                // Elections take a moment; the deadline bounds it.
                last.get_or_insert_with(|| EngineError::Unavailable {
                    action,
                    reason: format!("nobody is known to lead shard {}", shard.id()),
                });
                tokio::select! {
                    changed = leadership.changed() => if changed.is_err() {
                        return Err(EngineError::Unavailable {
                            action,
                            reason: "this coordinator is shutting down".to_owned(),
                        });
                    },
                    () = self.hints_changed() => {}
                }
                continue;
            };
            // From here on nobody can say that nothing was done.
            *last = None;
            let asked = self.ask(leader, shard, call.clone(), until);
            let answer = tokio::select! {
                answer = asked => answer,
                // Another one leads: what the old one answers, if it does, counts no more.
                _ = leadership.wait_for(|next| next.local || next.leader.is_some_and(|it| it != leader)) => continue,
            };
            match answer {
                Err(error) if error.kind() == ErrorKind::Unavailable => *last = Some(error),
                answer => return answer,
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Asks one coordinator, once.
    async fn ask(
        &self,
        leader: NodeId,
        shard: &Shard,
        call: ShardCall,
        until: Instant,
    ) -> Result<ShardReply, EngineError> {
        let (action, bulk) = (call.action(), call.is_bulk());
        let unavailable = |reason: String| EngineError::Unavailable { action, reason };
        let question = PeerCall::Shard {
            shard: shard.id().get(),
            call,
        };
        let left = until.saturating_duration_since(Instant::now());
        match peers::ask(self.peers(), leader, &question, action, bulk, left).await? {
            PeerAnswer::Shard(reply) => Ok(*reply),
            PeerAnswer::NotLeader { .. } => Err(unavailable(format!(
                "coordinator {leader} does not lead shard {} any more, or not yet",
                shard.id()
            ))),
            PeerAnswer::Failed { kind, detail } => Err(EngineError::Elsewhere { kind, detail }),
            PeerAnswer::State(_) | PeerAnswer::Done => Err(EngineError::Internal {
                action,
                reason: format!("coordinator {leader} answered another question"),
            }),
        }
    }
}
