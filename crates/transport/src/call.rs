//! The calling side of calls and streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use meson_certs::PeerId;
use tokio::time::{Instant, timeout_at};

use crate::errors::CallError;
use crate::frames::{FrameReceiver, FrameSender};
use crate::mesh::Shared;
use crate::peer::Peer;
use crate::service::{Service, Urgency};
use crate::wire::{self, Head, Lane};

/// Bodies up to this length go out in one piece with the head.
const COPIED_BYTES: usize = 4096;

pub(crate) async fn call(
    shared: &Arc<Shared>,
    to: PeerId,
    urgency: Urgency,
    service: Service,
    body: Bytes,
    deadline: Duration,
) -> Result<Bytes, CallError> {
    let (peer, ends) = prepare(shared, to, body.len(), shared.limits.call_bytes, deadline)?;
    let (mut sender, mut receiver) = reach(shared, &peer, urgency, ends, deadline).await?;
    let exchange = async {
        let head = head(wire::CALL, service, urgency, ends)?;
        send_first(&mut sender, &head, body).await?;
        sender.finish();
        // An answer is one byte longer than its content.
        receiver.set_limit(shared.limits.call_bytes + 1);
        receiver.next().await
    };
    let exchanged = timeout_at(ends, exchange).await;
    let mut answer = match exchanged {
        Ok(Ok(Some(answer))) if !answer.is_empty() => answer,
        Ok(Ok(_)) => {
            return Err(CallError::Interrupted {
                peer: to,
                reason: "it ended without an answer".to_owned(),
            });
        }
        // Whichever clock was first.
        Ok(Err(error)) if !receiver.is_late() => return Err(error),
        Ok(Err(_)) | Err(_) => {
            return Err(CallError::Timeout {
                peer: to,
                after: deadline,
            });
        }
    };
    match answer.get_u8() {
        wire::ANSWERED => Ok(answer),
        wire::REFUSED => Err(CallError::Refused {
            peer: to,
            reason: String::from_utf8_lossy(&answer).into_owned(),
        }),
        other => Err(CallError::Interrupted {
            peer: to,
            reason: format!("an answer of kind {other} is unknown"),
        }),
    }
}

pub(crate) async fn open(
    shared: &Arc<Shared>,
    to: PeerId,
    urgency: Urgency,
    service: Service,
    opening: Bytes,
    deadline: Duration,
) -> Result<(FrameSender, FrameReceiver), CallError> {
    let limit = shared.limits.frame_bytes;
    let (peer, ends) = prepare(shared, to, opening.len(), limit, deadline)?;
    let (mut sender, receiver) = reach(shared, &peer, urgency, ends, deadline).await?;
    let head = head(wire::STREAM, service, urgency, ends)?;
    match timeout_at(ends, send_first(&mut sender, &head, opening)).await {
        Ok(sent) => sent.map(|()| (sender, receiver)),
        Err(_) => Err(CallError::Timeout {
            peer: to,
            after: deadline,
        }),
    }
}

/// What needs no connection.
fn prepare(
    shared: &Shared,
    to: PeerId,
    bytes: usize,
    limit: usize,
    deadline: Duration,
) -> Result<(Arc<Peer>, Instant), CallError> {
    let peer = shared.peer(to).ok_or_else(|| shared.nobody(to))?;
    if bytes > limit {
        return Err(CallError::TooLarge {
            peer: to,
            bytes,
            limit,
        });
    }
    let now = Instant::now();
    let ends = now.checked_add(deadline).unwrap_or(now + FAR);
    Ok((peer, ends))
}

const FAR: Duration = Duration::from_secs(365 * 86_400);

/// A stream of a connection to the peer. Until there is one, nothing has been sent.
async fn reach(
    shared: &Arc<Shared>,
    peer: &Peer,
    urgency: Urgency,
    ends: Instant,
    deadline: Duration,
) -> Result<(FrameSender, FrameReceiver), CallError> {
    let lane = match urgency {
        Urgency::Bulk => Lane::Bulk,
        _ => Lane::Main,
    };
    let mut connected = false;
    let reaching = async {
        loop {
            let Some(link) = peer.link(lane).await else {
                return Err(shared.nobody(peer.id));
            };
            connected = true;
            // The connection may have ended since; the next one is as good.
            if let Ok((send, receive)) = link.connection.open_bi().await {
                let address = link.connection.remote_address();
                let limit = shared.limits.frame_bytes;
                let complaints = shared.complaints.clone();
                let mut sender = FrameSender::new(peer.id, send, limit);
                sender.set_urgency(urgency);
                let receiver = FrameReceiver::new(peer.id, address, receive, limit, complaints);
                return Ok((sender, receiver));
            }
            connected = false;
        }
    };
    match timeout_at(ends, reaching).await {
        Ok(result) => result,
        Err(_) => Err(CallError::Unreachable {
            peer: peer.id,
            reason: match (connected, peer.last_error()) {
                (true, _) => format!("all its streams were in use for {deadline:?}"),
                (false, Some(error)) => error,
                (false, None) => format!("there was no connection within {deadline:?}"),
            },
        }),
    }
}

fn head(kind: u8, service: Service, urgency: Urgency, ends: Instant) -> Result<Bytes, CallError> {
    let left = ends.saturating_duration_since(Instant::now());
    let head = Head {
        kind,
        service,
        urgency,
        time_left_us: u64::try_from(left.as_micros()).unwrap_or(u64::MAX),
    };
    Ok(wire::encode(&head).unwrap_or_default())
}

/// The head and the first frame behind it.
async fn send_first(sender: &mut FrameSender, head: &Bytes, frame: Bytes) -> Result<(), CallError> {
    if frame.len() <= COPIED_BYTES {
        let both = wire::frames(&[head, &frame]);
        return sender.send_framed(both, Bytes::new()).await;
    }
    let first = [&wire::frames(&[head])[..], &wire::length(&frame)].concat();
    sender.send_framed(first.into(), frame).await
}
