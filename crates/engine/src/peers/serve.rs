//! Answers what other coordinators ask.

use bytes::Bytes;
use meson_consensus::{FrameStream, NodeId, ShardId};

use super::session;
use super::wire::{self, Opening, PeerAnswer, PeerCall};
use crate::calls::ShardCall;
use crate::error::EngineError;
use crate::facade::Engine;
use crate::local;

impl Engine {
    /// Answers a call of another coordinator; whatever it holds, it disturbs nothing else.
    pub async fn answer(&self, from: NodeId, body: Bytes) -> Bytes {
        let answer = match wire::decode::<PeerCall>("a call", &body) {
            Ok(call) => self.carry_out(call).await,
            Err(error) => {
                tracing::warn!(%from, %error, "a call of another coordinator was not understood");
                error.into()
            }
        };
        wire::encode("an answer", &answer)
            .or_else(|error| wire::encode("an answer", &PeerAnswer::from(error)))
            // An error is short, and has an encoding. No answer reads as broken.
            .unwrap_or_default()
    }

    /// Serves a stream that another coordinator opened, until either side ends it.
    pub async fn converse(&self, from: NodeId, opening: Bytes, stream: FrameStream) {
        match wire::decode::<Opening>("the opening of a stream", &opening) {
            Ok(Opening::Broker { pool }) => session::run(&self.node, from, pool, stream).await,
            Err(error) => {
                tracing::warn!(%from, %error, "a stream of another coordinator was not understood");
            }
        }
    }

    async fn carry_out(&self, call: PeerCall) -> PeerAnswer {
        match call {
            PeerCall::Shard { shard, call } => self.lead(ShardId::new(shard), call).await,
            PeerCall::Register { node, incarnation } => {
                match self.register_as(node, incarnation).await {
                    Ok(()) => PeerAnswer::Done,
                    Err(error) => error.into(),
                }
            }
            PeerCall::State => PeerAnswer::State(self.node.state()),
            PeerCall::Drain { on } => {
                self.node.drain(on);
                PeerAnswer::Done
            }
        }
    }

    /// Serves a call to a shard, if it is led here.
    async fn lead(&self, shard: ShardId, call: ShardCall) -> PeerAnswer {
        let action = call.action();
        let Some(shard) = self.node.consensus().shard(shard) else {
            return EngineError::Internal {
                action,
                reason: format!("there is no shard {shard}: is this the same cluster?"),
            }
            .into();
        };
        let now = *shard.leadership().borrow();
        if !now.local {
            return PeerAnswer::NotLeader { leader: now.leader };
        }
        match local::serve(&self.node, &shard, now.term, call).await {
            Ok(reply) => PeerAnswer::Shard(Box::new(reply)),
            Err(error) => error.into(),
        }
    }
}
