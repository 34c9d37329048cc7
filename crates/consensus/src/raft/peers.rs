//! openraft's calls to other replicas, carried by our [`Network`] as opaque bytes, and answered
//! on the other side by [`serve`] and, where entries are streamed, by [`serve_stream`].

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    alias::{SnapshotOf, VoteOf},
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::task::JoinSet;

use super::{
    ShardRaft, SnapshotMeta, Types, Vote, codec,
    reversion::{self, Acknowledged, Lost},
};
use crate::{
    ids::{NodeId, ShardId},
    members::Member,
    network::{FrameSink, FrameSource, FrameStream, Network, NetworkError, PeerRequest, Urgency},
    store::SnapshotFile,
    traffic::{MessageKind, Traffic},
};

/// How long a replica is told that it has lost something.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// How much of a snapshot travels in one call, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    TransferLeader(TransferLeaderRequest<Types>),
    Snapshot(Chunk),
    Lost(Lost),
}

/// A part of a snapshot. Chunks are sent in order, each after the one before it is answered.
#[derive(Serialize, Deserialize)]
struct Chunk {
    vote: Vote,
    meta: SnapshotMeta,
    offset: u64,
    data: Bytes,
    last: bool,
}

/// The answer to a chunk: to the last one Raft's, to the others only that it was taken.
#[derive(Serialize, Deserialize)]
enum ChunkAnswer {
    Taken,
    Installed(SnapshotResponse<Types>),
}

/// An answer, or why there is none.
type Answer<T> = Result<T, String>;

/// Makes clients for the replicas of one shard.
pub(crate) struct Peers {
    shard: ShardId,
    network: Arc<dyn Network>,
    traffic: Arc<Traffic>,
    acknowledged: Arc<Acknowledged>,
}

impl Peers {
    pub(crate) fn new(shard: ShardId, network: Arc<dyn Network>, traffic: Arc<Traffic>) -> Self {
        Self {
            shard,
            network,
            traffic,
            acknowledged: Arc::default(),
        }
    }

    /// What the replicas have acknowledged, once the group has started.
    pub(super) fn acknowledged(&self) -> Arc<Acknowledged> {
        Arc::clone(&self.acknowledged)
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &Member) -> Peer {
        Peer {
            shard: self.shard,
            target: NodeId::new(target),
            network: Arc::clone(&self.network),
            traffic: Arc::clone(&self.traffic),
            acknowledged: Arc::clone(&self.acknowledged),
        }
    }
}

fn kind(append: &AppendEntriesRequest<Types>) -> MessageKind {
    if append.entries.is_empty() {
        MessageKind::Heartbeat
    } else {
        MessageKind::Append
    }
}

/// A client for one replica of a shard on another node.
#[derive(Clone)]
pub(crate) struct Peer {
    shard: ShardId,
    target: NodeId,
    network: Arc<dyn Network>,
    traffic: Arc<Traffic>,
    acknowledged: Arc<Acknowledged>,
}

impl Request {
    fn urgency(&self) -> Urgency {
        match self {
            Self::Append(_) => Urgency::Append,
            Self::Vote(_) | Self::PreVote(_) | Self::TransferLeader(_) | Self::Lost(_) => {
                Urgency::Vote
            }
            Self::Snapshot(_) => Urgency::Snapshot,
        }
    }

    fn kind(&self) -> MessageKind {
        match self {
            Self::Append(append) => kind(append),
            Self::Vote(_) | Self::PreVote(_) | Self::TransferLeader(_) | Self::Lost(_) => {
                MessageKind::Vote
            }
            Self::Snapshot(_) => MessageKind::Snapshot,
        }
    }

    /// Answers to appends have a kind of their own; the others' are as rare as their requests.
    fn answer_kind(&self) -> MessageKind {
        match self {
            Self::Append(_) => MessageKind::Answer,
            other => other.kind(),
        }
    }
}

impl Peer {
    async fn call<T: DeserializeOwned>(
        &self,
        request: &Request,
        option: &RPCOption,
    ) -> Result<T, RPCError<Types>> {
        let body = codec::encode(request).map_err(|error| self.unreachable(&error))?;
        self.traffic.sent(request.kind(), body.len());
        let answered = request.answer_kind();
        let request = PeerRequest {
            shard: self.shard,
            urgency: request.urgency(),
            body: Bytes::from(body),
        };
        let call = self.network.call(self.target, request);
        let answer = match tokio::time::timeout(option.hard_ttl(), call).await {
            Ok(answer) => answer.map_err(failed)?,
            Err(elapsed) => return Err(self.unreachable(&elapsed)),
        };
        self.traffic.received(answered, answer.len());
        codec::decode::<Answer<T>>(&answer)
            .map_err(|error| self.unreachable(&error))?
            .map_err(|reason| self.unreachable(&std::io::Error::other(reason)))
    }

    /// Tells a replica that has lost what it acknowledged to stop. openraft must not hear of its
    /// answer, which no rule of Raft allows for.
    async fn refuse(&self, lost: Lost) -> RPCError<Types> {
        let (shard, acknowledged) = (self.shard, lost.acknowledged.index);
        tracing::error!(node = %self.target, %shard, acknowledged, "the node has lost log entries that it had acknowledged; it is told to stop, and gets no more until it is removed and another joins");
        let (request, option) = (Request::Lost(lost), RPCOption::new(TOLD_WITHIN));
        if let Err(error) = self.call::<()>(&request, &option).await {
            tracing::debug!(node = %self.target, %shard, %error, "the node could not be told");
        }
        self.unreachable(&std::io::Error::other(
            "it has lost log entries that it had acknowledged",
        ))
    }

    /// Whatever went wrong is worth a pause before the next try.
    fn unreachable<E: std::error::Error + 'static>(&self, error: &E) -> RPCError<Types> {
        RPCError::Unreachable(Unreachable::new(error))
    }
}

/// What openraft is told of a failure: whether to pause before the next try.
fn failed(error: NetworkError) -> RPCError<Types> {
    match error {
        error @ NetworkError::Unreachable { .. } => RPCError::Unreachable(Unreachable::new(&error)),
        error @ NetworkError::Interrupted { .. } => {
            RPCError::Network(openraft::errors::NetworkError::new(&error))
        }
    }
}

/// Says what openraft has to say, until it has no more or the other side hears no more. A
/// heartbeat is an append without entries, and must not wait behind those with many.
async fn say(
    mut requests: impl Stream<Item = AppendEntriesRequest<Types>> + Unpin,
    mut sink: Box<dyn FrameSink>,
    traffic: Arc<Traffic>,
) {
    while let Some(request) = requests.next().await {
        let kind = kind(&request);
        let urgency = match kind {
            MessageKind::Heartbeat => Urgency::Vote,
            _ => Urgency::Append,
        };
        let frame = match codec::encode(&request) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, "log entries do not encode");
                return;
            }
        };
        traffic.sent(kind, frame.len());
        // The reading end learns why, and openraft from it.
        if sink.send(urgency, frame.into()).await.is_err() {
            return;
        }
    }
    sink.finish();
}

/// The other replica's answers, for as long as somebody speaks to it.
fn answers(
    source: Box<dyn FrameSource>,
    speaker: JoinSet<()>,
    peer: Peer,
) -> impl Stream<Item = Result<StreamAppendResult<Types>, RPCError<Types>>> + Send {
    futures::stream::unfold(Some((source, speaker, peer)), |open| async move {
        let (mut source, speaker, peer) = open?;
        let answer = match source.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return None,
            Err(error) => return Some((Err(failed(error)), None)),
        };
        peer.traffic.received(MessageKind::Answer, answer.len());
        match codec::decode::<Answer<StreamAppendResult<Types>>>(&answer) {
            Ok(Ok(Ok(flushed))) => Some((Ok(Ok(flushed)), Some((source, speaker, peer)))),
            // A refusal ends the stream, on both sides.
            Ok(Ok(refused)) => {
                let acknowledged = peer.acknowledged.by(peer.target.get());
                match reversion::lost(&refused, acknowledged) {
                    Some(lost) => Some((Err(peer.refuse(lost).await), None)),
                    None => Some((Ok(refused), None)),
                }
            }
            Ok(Err(reason)) => Some((Err(not_understood(reason)), None)),
            Err(error) => Some((Err(not_understood(error)), None)),
        }
    })
}

fn not_understood(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&std::io::Error::other(reason)))
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotFile;

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            let open = self.network.open(self.target, self.shard);
            let FrameStream { sink, source } =
                match tokio::time::timeout(option.hard_ttl(), open).await {
                    Ok(opened) => opened.map_err(failed)?,
                    Err(elapsed) => return Err(self.unreachable(&elapsed)),
                };
            // Ends with the stream of answers, which owns it.
            let mut speaker = JoinSet::new();
            speaker.spawn(say(input, sink, Arc::clone(&self.traffic)));
            Ok(answers(source, speaker, self.clone()).boxed())
        })
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.call(&Request::Append(rpc), &option).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.call(&Request::Vote(rpc), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.call(&Request::PreVote(rpc), &option).await
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.call(&Request::TransferLeader(req), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let unreachable =
            |error: &std::io::Error| StreamingError::Unreachable(Unreachable::new(error));
        tracing::debug!(shard = %self.shard, to = %self.target, index = ?snapshot.meta.last_log_id.map(|id| id.index), bytes = snapshot.snapshot.len(), "sending a snapshot: the log no longer has what the node misses");
        let send = async {
            let mut offset = 0;
            loop {
                let file = snapshot.snapshot.clone();
                let data =
                    tokio::task::spawn_blocking(move || file.read_chunk(offset, CHUNK_BYTES))
                        .await
                        .map_err(|error| unreachable(&std::io::Error::other(error)))?
                        .map_err(|error| unreachable(&error))?;
                let next = offset + data.len() as u64;
                let last = next >= snapshot.snapshot.len();
                let chunk = Chunk {
                    vote,
                    meta: snapshot.meta.clone(),
                    offset,
                    data: data.into(),
                    last,
                };
                let answer = self.call(&Request::Snapshot(chunk), &option).await;
                match answer
                    .map_err(|error| unreachable(&std::io::Error::other(error.to_string())))?
                {
                    ChunkAnswer::Installed(response) => return Ok(response),
                    ChunkAnswer::Taken if last => {
                        return Err(unreachable(&std::io::Error::other(
                            "the last chunk was not answered as such",
                        )));
                    }
                    ChunkAnswer::Taken => offset = next,
                }
            }
        };
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent,
        }
    }
}

/// Answers a request of another replica of the shard. `unfit` is called if this one has lost entries
/// that it had acknowledged, with the index of the last.
pub(crate) async fn serve(
    raft: &ShardRaft,
    inbox: &crate::store::SnapshotInbox,
    body: &[u8],
    traffic: &Traffic,
    unfit: impl FnOnce(u64),
) -> Bytes {
    let mut answered = MessageKind::Answer;
    let answer = match codec::decode::<Request>(body) {
        Ok(request) => {
            traffic.received(request.kind(), body.len());
            answered = request.answer_kind();
            answer(raft, inbox, request, unfit).await
        }
        Err(error) => codec::encode(&Answer::<()>::Err(format!(
            "the request was not understood: {error}"
        ))),
    };
    match answer {
        Ok(bytes) => {
            traffic.sent(answered, bytes.len());
            Bytes::from(bytes)
        }
        Err(error) => {
            tracing::error!(%error, "an answer to another node does not encode");
            Bytes::new()
        }
    }
}

/// Answers a stream of appends of another replica of the shard, until either side ends it.
pub(crate) async fn serve_stream(raft: &ShardRaft, stream: FrameStream, traffic: &Arc<Traffic>) {
    let FrameStream { mut sink, source } = stream;
    let counted = Arc::clone(traffic);
    let requests = futures::stream::unfold((source, counted), |(mut source, counted)| async move {
        let frame = source.next().await.ok().flatten()?;
        match codec::decode::<AppendEntriesRequest<Types>>(&frame) {
            Ok(request) => {
                counted.received(kind(&request), frame.len());
                Some((request, (source, counted)))
            }
            Err(error) => {
                tracing::warn!(%error, "a stream of log entries ends: a frame was not understood");
                None
            }
        }
    });
    let mut results = Box::pin(raft.stream_append(requests));
    while let Some(result) = results.next().await {
        let answer: Answer<StreamAppendResult<Types>> = result.map_err(|error| error.to_string());
        let frame = match codec::encode(&answer) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, "an answer to another node does not encode");
                return;
            }
        };
        traffic.sent(MessageKind::Answer, frame.len());
        if sink.send(Urgency::Vote, frame.into()).await.is_err() {
            return;
        }
    }
    sink.finish();
}

async fn answer(
    raft: &ShardRaft,
    inbox: &crate::store::SnapshotInbox,
    request: Request,
    unfit: impl FnOnce(u64),
) -> Result<Vec<u8>, codec::CodecError> {
    match request {
        Request::Append(rpc) => codec::encode(
            &raft
                .append_entries(rpc)
                .await
                .map_err(|error| error.to_string()),
        ),
        Request::Vote(rpc) => {
            codec::encode(&raft.vote(rpc).await.map_err(|error| error.to_string()))
        }
        Request::PreVote(rpc) => {
            codec::encode(&raft.pre_vote(rpc).await.map_err(|error| error.to_string()))
        }
        Request::TransferLeader(rpc) => codec::encode(
            &raft
                .handle_transfer_leader(rpc)
                .await
                .map_err(|error| error.to_string()),
        ),
        Request::Snapshot(chunk) => codec::encode(&take_chunk(raft, inbox, chunk).await),
        Request::Lost(lost) => {
            if reversion::confirms(raft, &lost) {
                unfit(lost.acknowledged.index);
            }
            codec::encode(&Answer::Ok(()))
        }
    }
}

async fn take_chunk(
    raft: &ShardRaft,
    inbox: &crate::store::SnapshotInbox,
    chunk: Chunk,
) -> Answer<ChunkAnswer> {
    let Chunk {
        vote,
        meta,
        offset,
        data,
        last,
    } = chunk;
    let taken = inbox
        .take(offset, data, last)
        .await
        .map_err(|error| error.to_string())?;
    let Some(file) = taken else {
        return Ok(ChunkAnswer::Taken);
    };
    let snapshot = SnapshotOf::<Types, SnapshotFile> {
        meta,
        snapshot: file,
    };
    raft.install_full_snapshot(vote, snapshot)
        .await
        .map(ChunkAnswer::Installed)
        .map_err(|error| error.to_string())
}
