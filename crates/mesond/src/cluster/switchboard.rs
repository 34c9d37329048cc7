//! Who answers what comes in from other coordinators.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use meson_certs::PeerId;
use meson_consensus::{ConsensusNode, LogIndex, NodeId, PeerRequest, ShardId, Urgency};
use meson_engine::Engine;
use meson_transport::{FrameReceiver, FrameSender, Handler, Refusal, Service};

use super::birth::Age;
use super::link::{BIRTH, ENGINE, RAFT, stream};

/// Connects callers from other coordinators with what they call, once that is there.
pub(super) struct Switchboard {
    has_data: bool,
    parts: Mutex<Option<(ConsensusNode, Engine)>>,
}

impl Switchboard {
    /// `has_data`: the node has taken part before.
    pub(super) fn new(has_data: bool) -> Self {
        Self {
            has_data,
            parts: Mutex::default(),
        }
    }

    pub(super) fn connect(&self, consensus: &ConsensusNode, engine: &Engine) {
        *self.lock() = Some((consensus.clone(), engine.clone()));
    }

    /// Lets go of everything, so that it can end.
    pub(super) fn disconnect(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<(ConsensusNode, Engine)>> {
        // A panic while the lock was held leaves a whole value behind.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self) -> Result<(ConsensusNode, Engine), Refusal> {
        self.lock().clone().ok_or_else(|| Refusal {
            reason: "this coordinator is starting or ending".to_owned(),
        })
    }

    fn age(&self) -> Age {
        match &*self.lock() {
            Some((consensus, _)) => {
                // Entry 0 is the founders' own; whatever follows it was written by a leader.
                let led = |last: Option<LogIndex>| last.is_some_and(|last| last.get() > 0);
                let shards = consensus.status().shards;
                if shards.iter().any(|shard| led(shard.last_index)) {
                    Age::Grown
                } else {
                    Age::Young
                }
            }
            None if self.has_data => Age::Unknown,
            None => Age::Young,
        }
    }
}

impl Handler for Switchboard {
    fn call(
        &self,
        from: PeerId,
        service: Service,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async move {
            match service {
                RAFT => {
                    let (consensus, _) = self.parts()?;
                    let shard = shard_of(&body)?;
                    let request = PeerRequest {
                        shard,
                        urgency: Urgency::Vote,
                        body: body.slice(2..),
                    };
                    Ok(consensus.handle(request).await)
                }
                ENGINE => {
                    let (_, engine) = self.parts()?;
                    Ok(engine.answer(NodeId::new(from.get()), body).await)
                }
                BIRTH => Ok(self.age().encode()),
                Service(other) => Err(unknown(other)),
            }
        })
    }

    fn stream(
        &self,
        from: PeerId,
        service: Service,
        opening: Bytes,
        requests: FrameReceiver,
        answers: FrameSender,
    ) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Ok((consensus, engine)) = self.parts() else {
                return;
            };
            let from = NodeId::new(from.get());
            let stream = stream(from, answers, requests);
            match service {
                RAFT => match shard_of(&opening) {
                    Ok(shard) => consensus.serve(shard, stream).await,
                    Err(refusal) => tracing::warn!(%from, refusal.reason, "a stream is refused"),
                },
                ENGINE => engine.converse(from, opening, stream).await,
                Service(other) => {
                    tracing::warn!(%from, service = other, "a stream for nobody is refused");
                }
            }
        })
    }
}

fn shard_of(body: &[u8]) -> Result<ShardId, Refusal> {
    match body {
        [high, low, ..] => Ok(ShardId::new(u16::from_be_bytes([*high, *low]))),
        _ => Err(Refusal {
            reason: "the message names no shard".to_owned(),
        }),
    }
}

fn unknown(service: u8) -> Refusal {
    Refusal {
        reason: format!("there is no service {service}: is this the same release?"),
    }
}
