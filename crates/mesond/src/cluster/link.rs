//! The ways out: consensus' network and the engine's other coordinators, over one mesh.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use meson_certs::PeerId;
use meson_consensus::{
    FrameSink, FrameSource, FrameStream, Network, NetworkError, NodeId, PeerRequest, ShardId,
    Urgency,
};
use meson_engine::{Coordinators, PeerLink, PeerTraffic};
use meson_transport as transport;
use meson_transport::{CallError, FrameReceiver, FrameSender, Mesh, Service};

/// Raft's messages; the shard's number comes first.
pub(super) const RAFT: Service = Service(1);
/// The engine's.
pub(super) const ENGINE: Service = Service(2);
/// Questions about the beginning of a cluster.
pub(super) const BIRTH: Service = Service(3);

/// The longest that consensus lets a call take: it sets shorter limits of its own.
const RAFT_LIMIT: Duration = Duration::from_secs(30);

/// The same, for parts of snapshots: the last one is answered when the state is on the other's disk.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(600);

/// The mesh, as consensus and engine see it.
pub(crate) struct Link {
    mesh: Mesh,
}

impl Link {
    pub(super) fn new(mesh: Mesh) -> Self {
        Self { mesh }
    }

    pub(super) async fn ask(
        &self,
        to: NodeId,
        service: Service,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, NetworkError> {
        self.mesh
            .call(peer(to), transport::Urgency::Call, service, body, limit)
            .await
            .map_err(|error| network_error(to, error))
    }
}

fn peer(node: NodeId) -> PeerId {
    PeerId::new(node.get())
}

pub(super) fn network_error(target: NodeId, error: CallError) -> NetworkError {
    let reason = error.to_string();
    match error {
        CallError::Interrupted { .. } | CallError::Timeout { .. } => {
            NetworkError::Interrupted { target, reason }
        }
        _ => NetworkError::Unreachable { target, reason },
    }
}

fn urgency(urgency: Urgency) -> transport::Urgency {
    match urgency {
        Urgency::Vote => transport::Urgency::Vote,
        Urgency::Append => transport::Urgency::Append,
        Urgency::Snapshot => transport::Urgency::Bulk,
    }
}

impl Network for Link {
    fn call(
        &self,
        target: NodeId,
        request: PeerRequest,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(async move {
            let mut body = BytesMut::with_capacity(2 + request.body.len());
            body.put_u16(request.shard.get());
            body.put_slice(&request.body);
            let limit = match request.urgency {
                Urgency::Snapshot => SNAPSHOT_LIMIT,
                Urgency::Vote | Urgency::Append => RAFT_LIMIT,
            };
            self.mesh
                .call(
                    peer(target),
                    urgency(request.urgency),
                    RAFT,
                    body.freeze(),
                    limit,
                )
                .await
                .map_err(|error| network_error(target, error))
        })
    }

    fn open(
        &self,
        target: NodeId,
        shard: ShardId,
    ) -> BoxFuture<'_, Result<FrameStream, NetworkError>> {
        Box::pin(async move {
            let opening = Bytes::copy_from_slice(&shard.get().to_be_bytes());
            let opened = self
                .mesh
                .open(
                    peer(target),
                    transport::Urgency::Append,
                    RAFT,
                    opening,
                    RAFT_LIMIT,
                )
                .await;
            let (sender, receiver) = opened.map_err(|error| network_error(target, error))?;
            Ok(stream(target, sender, receiver))
        })
    }
}

impl Coordinators for Link {
    fn call(
        &self,
        to: NodeId,
        body: Bytes,
        bulk: bool,
        limit: Duration,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(async move {
            let urgency = if bulk {
                transport::Urgency::Bulk
            } else {
                transport::Urgency::Call
            };
            self.mesh
                .call(peer(to), urgency, ENGINE, body, limit)
                .await
                .map_err(|error| network_error(to, error))
        })
    }

    fn open(
        &self,
        to: NodeId,
        opening: Bytes,
        limit: Duration,
    ) -> BoxFuture<'_, Result<FrameStream, NetworkError>> {
        Box::pin(async move {
            let opened = self
                .mesh
                .open(peer(to), transport::Urgency::Call, ENGINE, opening, limit)
                .await;
            let (sender, receiver) = opened.map_err(|error| network_error(to, error))?;
            Ok(stream(to, sender, receiver))
        })
    }

    fn links(&self) -> Vec<PeerLink> {
        let peers = self.mesh.peers();
        peers
            .into_iter()
            .map(|peer| PeerLink {
                node: NodeId::new(peer.id.get()),
                round_trip: peer.rtt,
                problem: (peer.connected_for.is_none())
                    .then_some(peer.last_error)
                    .flatten(),
            })
            .collect()
    }

    fn traffic(&self) -> Vec<PeerTraffic> {
        let peers = self.mesh.peers();
        peers
            .iter()
            .map(|peer| PeerTraffic {
                node: NodeId::new(peer.id.get()),
                sent_bytes: peer.sent_bytes,
                received_bytes: peer.received_bytes,
            })
            .collect()
    }
}

/// Both ends of a stream of the mesh.
pub(super) fn stream(peer: NodeId, sender: FrameSender, receiver: FrameReceiver) -> FrameStream {
    FrameStream {
        sink: Box::new(Sink { peer, sender }),
        source: Box::new(Source { peer, receiver }),
    }
}

struct Sink {
    peer: NodeId,
    sender: FrameSender,
}

impl FrameSink for Sink {
    fn send(&mut self, urgent: Urgency, frame: Bytes) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            self.sender
                .send(urgency(urgent), frame)
                .await
                .map_err(|error| network_error(self.peer, error))
        })
    }

    fn finish(self: Box<Self>) {
        self.sender.finish();
    }
}

struct Source {
    peer: NodeId,
    receiver: FrameReceiver,
}

impl FrameSource for Source {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, NetworkError>> {
        Box::pin(async move {
            self.receiver
                .next()
                .await
                .map_err(|error| network_error(self.peer, error))
        })
    }
}
