//! Connections that others dialled: who is let in, and what their streams carry.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use meson_certs::PeerId;
use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::frames::{FrameReceiver, FrameSender};
use crate::mesh::Shared;
use crate::tls;
use crate::wire::{self, Head, Lane, MAX_HEAD_BYTES, close, reset};

/// Lets connections in until the endpoint is closed.
pub(crate) async fn accept(shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes));
    while let Some(incoming) = shared.endpoint.accept().await {
        // Whoever only pretends to be at an address gets no more than half of the places.
        let busy = handshakes.available_permits() <= shared.limits.handshakes / 2;
        if busy && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let task = shared.clone();
        shared.spawn(async move {
            let address = incoming.remote_address();
            let admitted = timeout(task.timing.connect, admit(&task, incoming, address)).await;
            drop(permit);
            match admitted {
                Ok(Some(guest)) => serve(task, guest).await,
                Ok(None) => {}
                Err(_) => tracing::debug!(%address, "a connection was not set up in time"),
            }
        });
    }
}

struct Guest {
    connection: Connection,
    peer: PeerId,
    lane: Lane,
}

/// Checks who it is; everything that is wrong is told to the other side and to the log.
async fn admit(shared: &Arc<Shared>, incoming: Incoming, address: SocketAddr) -> Option<Guest> {
    let refused = |reason: &str| shared.complaints.connection(address, reason);
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            match &error {
                ConnectionError::TransportError(_) => {
                    refused(&format!("its certificate is not accepted ({error})"));
                }
                ConnectionError::ConnectionClosed(closed) if wire::is_tls(closed.error_code) => {
                    refused(&format!("it does not accept our certificate ({error})"));
                }
                // Gone again; nothing was wrong with it.
                _ => tracing::debug!(%address, %error, "a connection was given up"),
            }
            return None;
        }
    };
    let turn_away = |code: VarInt, reason: String| {
        connection.close(code, reason.as_bytes());
        refused(&reason);
    };
    let (peer, cluster) = match tls::peer_of(&connection) {
        Ok(name) => name,
        Err(reason) => {
            turn_away(close::NOT_A_MEMBER, reason);
            return None;
        }
    };
    if cluster != shared.introduction.cluster || shared.peer(peer).is_none() {
        turn_away(
            close::NOT_A_MEMBER,
            format!(
                "node {peer} of {cluster:?} is no other member of this cluster, or was removed from it"
            ),
        );
        return None;
    }
    let greeted = match shared
        .introduction
        .answer(&connection, peer, &shared.complaints)
        .await
    {
        Ok(greeted) => greeted,
        Err(reason) => {
            // A peer that gives up a connection that it no longer needs has done nothing wrong.
            if matches!(
                connection.close_reason(),
                Some(ConnectionError::LocallyClosed)
            ) {
                refused(&reason);
            } else {
                tracing::debug!(%peer, reason, "a connection was given up");
            }
            return None;
        }
    };
    if let Err(reason) = shared.register(peer, greeted.incarnation, &connection) {
        turn_away(close::NOT_A_MEMBER, reason);
        return None;
    }
    Some(Guest {
        connection,
        peer,
        lane: greeted.lane,
    })
}

/// Serves the streams of one connection.
async fn serve(shared: Arc<Shared>, guest: Guest) {
    let Guest {
        connection,
        peer,
        lane,
    } = guest;
    let streams = match lane {
        Lane::Main => shared.limits.streams,
        Lane::Bulk => shared.limits.bulk_streams,
    };
    // One more for the greeting, whose end the peer may not have acknowledged yet.
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams.saturating_add(1)));
    // The peer's streams may end before the work that they started does.
    let places = Arc::new(Semaphore::new(streams as usize));
    let bytes = Arc::new(Semaphore::new(shared.limits.calls_in_flight_bytes));
    tracing::debug!(%peer, ?lane, address = %connection.remote_address(), "let a peer in");
    while let Ok(place) = places.clone().acquire_owned().await {
        let (send, receive) = match connection.accept_bi().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%peer, ?lane, %error, "a peer's connection ended");
                break;
            }
        };
        let stream = Stream {
            shared: shared.clone(),
            peer,
            address: connection.remote_address(),
            bytes: bytes.clone(),
        };
        let kill = shared.kill.clone();
        shared.spawn(async move {
            tokio::select! {
                () = kill.cancelled() => {}
                () = stream.run(send, receive) => {}
            }
            drop(place);
        });
    }
    shared.unregister(peer, &connection);
}

/// One stream of a peer.
struct Stream {
    shared: Arc<Shared>,
    peer: PeerId,
    address: SocketAddr,
    /// Room for the bodies of calls.
    bytes: Arc<Semaphore>,
}

impl Stream {
    async fn run(self, send: SendStream, receive: RecvStream) {
        let limits = &self.shared.limits;
        let mut answers = FrameSender::new(self.peer, send, limits.frame_bytes);
        let mut requests = FrameReceiver::new(
            self.peer,
            self.address,
            receive,
            MAX_HEAD_BYTES,
            self.shared.complaints.clone(),
        );
        let head = timeout(self.shared.timing.connect, requests.next()).await;
        let Ok(Ok(Some(head))) = head else {
            // Nothing came, the connection is lost, or a length that is no head's, which has been
            // complained of.
            answers.reset(reset::GARBAGE);
            return;
        };
        let head: Head = match wire::decode(&head) {
            Ok(head) => head,
            Err(error) => return self.garbage(&error, &mut answers, &mut requests),
        };
        answers.set_urgency(head.urgency);
        match head.kind {
            wire::CALL => {
                requests.set_limit(limits.call_bytes);
                self.call(&head, answers, requests).await;
            }
            wire::STREAM => {
                requests.set_limit(limits.frame_bytes);
                let opening = timeout(self.shared.timing.connect, requests.next()).await;
                let Ok(Ok(Some(opening))) = opening else {
                    answers.reset(reset::GARBAGE);
                    return;
                };
                self.shared
                    .handler
                    .stream(self.peer, head.service, opening, requests, answers)
                    .await;
            }
            other => {
                let reason = format!("a stream of kind {other} is unknown");
                self.garbage(&reason, &mut answers, &mut requests);
            }
        }
    }

    fn garbage(&self, reason: &str, answers: &mut FrameSender, requests: &mut FrameReceiver) {
        self.shared
            .complaints
            .stream(self.address, self.peer, reason);
        answers.reset(reset::GARBAGE);
        requests.stop(reset::GARBAGE);
    }

    /// Reads the body, asks the handler, sends the answer: all in the time that the caller has.
    async fn call(&self, head: &Head, mut answers: FrameSender, mut requests: FrameReceiver) {
        // A caller cannot hold a place forever.
        let left = Duration::from_micros(head.time_left_us).min(MAX_CALL);
        let deadline = Instant::now() + left;
        let abandoned = answers.abandoned();
        let work = async {
            // Room first, then the body.
            let length = requests.announced().await.ok()??;
            let room = self.bytes.acquire_many(u32::try_from(length).ok()?).await;
            let body = requests.next().await.ok()??;
            let answer = self
                .shared
                .handler
                .call(self.peer, head.service, body)
                .await;
            drop(room);
            Some(answer)
        };
        let worked = tokio::select! {
            worked = timeout_at(deadline, work) => worked,
            () = abandoned => return,
        };
        let (kind, content) = match worked {
            Ok(Some(Ok(answer))) => (wire::ANSWERED, answer),
            Ok(Some(Err(refusal))) => (wire::REFUSED, Bytes::from(refusal.reason)),
            Ok(None) => return answers.reset(reset::GARBAGE),
            Err(_) => return answers.reset(reset::DEADLINE),
        };
        if content.len() > self.shared.limits.call_bytes {
            tracing::warn!(
                peer = %self.peer, service = head.service.0, bytes = content.len(),
                limit = self.shared.limits.call_bytes, "an answer is over the limit"
            );
            return answers.reset(reset::ANSWER_TOO_LARGE);
        }
        let first = answer_head(kind, content.len());
        if let Ok(Ok(())) = timeout_at(deadline, answers.send_framed(first, content)).await {
            answers.finish();
        }
    }
}

/// Nobody waits longer for an answer.
const MAX_CALL: Duration = Duration::from_secs(3600);

/// The length and the first byte of an answer, in front of its content.
fn answer_head(kind: u8, content: usize) -> Bytes {
    let length = u32::try_from(content + 1).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::from([&length[..], &[kind]].concat())
}
