//! Everything that knows openraft: its types filled in with ours, its configuration, its errors
//! translated. Nothing of it shows outside the crate.

mod codec;
mod peers;
mod reversion;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    ChangeMembers, Raft, ReadPolicy,
    errors::{
        ChangeMembershipError, ClientWriteError, Fatal, ForwardReason, InitializeError,
        LinearizableReadError, RaftError,
    },
    impls::leader_id_std,
    raft::VoteRequest,
    type_config::async_runtime::watch::WatchReceiver as _,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    codec::{decode, encode},
    peers::{Peers, serve, serve_stream},
};
use crate::{
    ids::{LogIndex, NodeId, ShardId, Term},
    members::{self, Birth, Member, Members, MembershipError},
    options::Options,
    status::ShardStatus,
    store::{LogStore, StateStore},
    traffic::Traffic,
};

/// How long a part of a snapshot may take to be answered: the last one, until the other node has
/// made the state its own, which is a matter of the disk. Whoever is cut off is noticed sooner, by
/// the transport.
const SNAPSHOT_PART: Duration = Duration::from_secs(600);

openraft::declare_raft_types!(
    /// openraft's types, filled in. The standard leader id: one leader per term at most.
    pub(crate) Types:
        D = Commands,
        R = Written,
        NodeId = u64,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(crate) type ServerMetrics = openraft::metrics::RaftServerMetrics<Types>;
pub(crate) type ServerMetricsWatch = openraft::alias::WatchReceiverOf<Types, ServerMetrics>;
pub(crate) type ShardRaft = Raft<Types, StateStore>;

/// One command and the term that its proposer believed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) fence: u64,
    pub(crate) body: Bytes,
}

/// The payload of a log entry: commands that were proposed at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commands(pub(crate) Vec<Command>);

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands", self.0.len())
    }
}

/// What became of a command. (openraft asks for serde, but it never leaves the node.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Applied(Bytes),
    Fenced,
    Rejected(String),
}

/// What became of an entry's commands, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) term: u64,
    pub(crate) index: u64,
    pub(crate) outcomes: Vec<Outcome>,
}

/// Why an entry was not, or may not have been, written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The leader has not heard of a majority lately. It may again in a moment; the entry was not
    /// taken.
    NoQuorum,
    LeadershipLost {
        leader: Option<u64>,
    },
    Stopped,
    Failed {
        reason: String,
    },
}

/// Appends an entry, and waits until it is committed and applied.
pub(crate) async fn write(raft: &ShardRaft, commands: Commands) -> Result<Written, WriteError> {
    match raft.client_write(commands).await {
        Ok(response) => Ok(response.data),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))
            if to.reason == ForwardReason::LeaseExpired =>
        {
            Err(WriteError::NoQuorum)
        }
        Err(RaftError::APIError(
            ClientWriteError::ForwardToLeader(to) | ClientWriteError::LogEntryDiscarded(to),
        )) => Err(WriteError::LeadershipLost {
            leader: to.leader_id,
        }),
        Err(RaftError::Fatal(Fatal::Stopped)) => Err(WriteError::Stopped),
        Err(error) => Err(WriteError::Failed {
            reason: error.to_string(),
        }),
    }
}

/// Why a read may not go ahead.
#[derive(Debug)]
pub(crate) enum ReadBarrierError {
    NotLeader { leader: Option<u64> },
    NoQuorum { reason: String },
    Stopped,
}

/// Waits until the local state contains everything that was acknowledged before the call.
pub(crate) async fn read_barrier(raft: &ShardRaft) -> Result<(), ReadBarrierError> {
    let linearizer = raft
        .get_read_linearizer(ReadPolicy::ReadIndex)
        .await
        .map_err(|error| match error {
            RaftError::APIError(LinearizableReadError::ForwardToLeader(to)) => {
                ReadBarrierError::NotLeader {
                    leader: to.leader_id,
                }
            }
            RaftError::APIError(LinearizableReadError::QuorumNotEnough(error)) => {
                ReadBarrierError::NoQuorum {
                    reason: error.to_string(),
                }
            }
            RaftError::Fatal(_) => ReadBarrierError::Stopped,
        })?;
    linearizer
        .await_ready(raft)
        .await
        .map_err(|_| ReadBarrierError::Stopped)?;
    Ok(())
}

pub(crate) fn term_of(server: &ServerMetrics) -> u64 {
    server.vote.leader_id().term
}

pub(crate) fn is_leader(server: &ServerMetrics) -> bool {
    server.state.is_leader()
}

/// Starts a shard's Raft group, and gives birth to it if it has no history yet.
pub(crate) async fn start(
    shard: ShardId,
    options: &Options,
    traffic: &Arc<Traffic>,
    log: LogStore,
    state: StateStore,
) -> Result<ShardRaft, String> {
    let node = options.node_id.get();
    let config = config(options, shard)?;
    let peers = Peers::new(shard, Arc::clone(&options.network), Arc::clone(traffic));
    let acknowledged = peers.acknowledged();
    let raft = Raft::new(node, config, peers, log, state)
        .await
        .map_err(|error| error.to_string())?;
    acknowledged.watch(&raft);
    if raft
        .is_initialized()
        .await
        .map_err(|error| error.to_string())?
    {
        let mut voters = raft.voter_ids();
        if voters.next() == Some(node) && voters.next().is_none() {
            // Nobody else can lead: do not wait for an election timeout.
            raft.trigger()
                .elect(false)
                .await
                .map_err(|error| error.to_string())?;
        }
    } else if options.birth == Birth::Found && options.votes(shard, options.node_id) {
        let members: BTreeMap<u64, Member> = options
            .members
            .iter()
            .filter(|(node, _)| options.votes(shard, **node))
            .map(|(node, member)| (node.get(), member.clone()))
            .collect();
        match raft.initialize(members).await {
            // Another founder was faster, and has told this one already.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(raft)
}

fn config(options: &Options, shard: ShardId) -> Result<Arc<openraft::Config>, String> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let timing = options.timing;
    // openraft first waits for the leader's lease to run out, which lasts as long as its longest
    // election timeout, and then for a timeout. Half of ours for each makes the whole ours.
    let heartbeat = millis(timing.heartbeat);
    let longest = (millis(timing.election_max) / 2).max(heartbeat + 2);
    let shortest = millis(timing.election_min).saturating_sub(longest);
    let shortest = shortest
        .max(longest / 2)
        .max(heartbeat + 1)
        .min(longest - 1);
    let config = openraft::Config {
        cluster_name: format!("{}/{shard}", options.cluster_id),
        heartbeat_interval: heartbeat,
        election_timeout_min: shortest,
        election_timeout_max: longest,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(options.snapshots.every_entries),
        max_in_snapshot_log_to_keep: options.snapshots.keep_entries,
        install_snapshot_timeout: millis(SNAPSHOT_PART),
        enable_pre_vote: Some(true),
        // A leader that no majority answers falls silent, so that followers which still hear it
        // elect another (Ongaro's dissertation, 6.2). The interval is openraft's least.
        quorum_loss_probe_interval: Some(2 * longest),
        // A restarted leader stands for election like anybody else. Restoring its old term would
        // let two incarnations of a node share a term, and a term is our fence.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    config
        .validate()
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

/// Gives up leadership: to the voter with the most log, or to nobody in particular.
pub(crate) async fn step_down(raft: &ShardRaft, node: u64, last_log_id: Option<LogId>) {
    let metrics = raft.metrics().borrow_watched().clone();
    let best = metrics
        .replication
        .iter()
        .flatten()
        .filter(|(peer, _)| {
            metrics
                .membership_config
                .voter_ids()
                .any(|voter| voter == **peer)
                && **peer != node
        })
        .max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index))
        .map(|(peer, _)| *peer);
    // Errors mean that the group has stopped, and then it leads nothing either.
    if let Some(peer) = best {
        let _ = raft.trigger().transfer_leader(peer).await;
        return;
    }
    // The only voter. Raft has no word for it, but a vote for another candidate in a later term
    // deposes it like any candidate's would. No node bears this id (a replica without a vote never
    // stands for election), so nobody uses that vote; this node then wins a term later still.
    let nobody = !node;
    let vote = Vote::new(metrics.current_term + 1, nobody);
    let mut request = VoteRequest::new(vote, last_log_id);
    request.leadership_transfer = true;
    match raft.vote(request).await {
        Ok(response) if !response.vote_granted => {
            tracing::warn!(node, "could not step down: the log grew meanwhile");
        }
        Ok(_) => {
            let _ = raft.trigger().elect(false).await;
        }
        Err(_) => {}
    }
}

/// What openraft knows of the shard. `log_bytes` is for the caller to fill in.
pub(crate) fn status(raft: &ShardRaft, shard: ShardId) -> ShardStatus {
    let metrics = raft.metrics().borrow_watched().clone();
    let index = |id: Option<LogId>| id.map(|id| LogIndex::new(id.index));
    let membership = metrics.membership_config.membership();
    ShardStatus {
        id: shard,
        leader: metrics.current_leader.map(NodeId::new),
        term: Term::new(metrics.current_term),
        replicas: membership
            .nodes()
            .map(|(node, _)| NodeId::new(*node))
            .collect(),
        voters: membership.voter_ids().map(NodeId::new).collect(),
        commit_index: index(metrics.local_committed),
        applied_index: index(metrics.last_applied),
        last_index: metrics.last_log_index.map(LogIndex::new),
        snapshot_index: index(metrics.snapshot),
        purged_index: index(metrics.purged),
        log_bytes: 0,
    }
}

/// The shard's members, as this replica knows them.
pub(crate) fn members(raft: &ShardRaft) -> Members {
    members::of(&raft.server_metrics().borrow_watched())
}

/// Hands leadership to a voter.
pub(crate) async fn transfer(raft: &ShardRaft, to: NodeId) -> Result<(), MembershipError> {
    raft.trigger()
        .transfer_leader(to.get())
        .await
        .map_err(|_| MembershipError::Closed)
}

/// Adds a replica that does not vote, and waits until it has most of the log.
pub(crate) async fn add_learner(
    raft: &ShardRaft,
    node: NodeId,
    member: Member,
) -> Result<(), MembershipError> {
    let added = raft.add_learner(node.get(), member, true).await;
    added.map(drop).map_err(explain_membership)
}

/// Waits until a replica has acknowledged something to this leader; whether it has in time.
pub(crate) async fn answers(
    raft: &ShardRaft,
    node: NodeId,
    within: Duration,
) -> Result<bool, MembershipError> {
    let mut metrics = raft.data_metrics();
    let answered = async {
        loop {
            match &metrics.borrow_watched().replication {
                Some(replication) if replication.get(&node.get()).is_some_and(Option::is_some) => {
                    return Ok(true);
                }
                Some(_) => {}
                None => return Err(MembershipError::NotLeader { leader: None }),
            }
            if metrics.changed().await.is_err() {
                return Err(MembershipError::Closed);
            }
        }
    };
    tokio::time::timeout(within, answered)
        .await
        .unwrap_or(Ok(false))
}

/// Changes who votes, or who belongs to the shard at all.
pub(crate) async fn change(raft: &ShardRaft, change: Change) -> Result<(), MembershipError> {
    let (change, retain) = match change {
        Change::Promote(node) => (ChangeMembers::AddVoterIds([node.get()].into()), true),
        Change::Demote(node) => (ChangeMembers::RemoveVoters([node.get()].into()), true),
        Change::Forget(node) => (ChangeMembers::RemoveNodes([node.get()].into()), true),
    };
    let changed = raft.change_membership(change, retain).await;
    changed.map(drop).map_err(explain_membership)
}

/// One step of a change of membership.
pub(crate) enum Change {
    /// A learner votes from now on.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A learner belongs to the shard no more.
    Forget(NodeId),
}

fn explain_membership(error: RaftError<Types, ClientWriteError<Types>>) -> MembershipError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => MembershipError::NotLeader {
            leader: to.leader_id.map(NodeId::new),
        },
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_),
        )) => MembershipError::UnderWay,
        RaftError::Fatal(_) => MembershipError::Closed,
        error @ RaftError::APIError(_) => MembershipError::Refused {
            reason: error.to_string(),
        },
    }
}
