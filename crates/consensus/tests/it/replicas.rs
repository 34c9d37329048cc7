//! Three nodes in one process, over a network that can be cut: the seam holds more than one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use meson_consensus::{
    Birth, ClusterId, ConsensusNode, Consistency, FrameSink, FrameSource, FrameStream, LogIndex,
    Member, Members, MessageKind, Network, NetworkError, NodeId, OpenError, Options, PeerRequest,
    ReadError, ShardId, SnapshotPolicy, Term, Urgency,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::support::{DEADLINE, Notes, get, options, propose};

/// Parts of snapshots take their time: longer than an answer to anything else may take.
const SLOW_PART: Duration = Duration::from_millis(400);

#[derive(Default)]
struct Lan {
    nodes: Mutex<BTreeMap<NodeId, ConsensusNode>>,
    cut_off: Mutex<BTreeSet<NodeId>>,
}

struct Port {
    lan: Arc<Lan>,
    node: NodeId,
}

impl Lan {
    fn is_cut(&self, one: NodeId, other: NodeId) -> bool {
        let cut_off = self.cut_off.lock().expect("no panic");
        cut_off.contains(&one) || cut_off.contains(&other)
    }

    /// The other node, if it can be reached.
    fn reach(&self, from: NodeId, to: NodeId) -> Result<ConsensusNode, NetworkError> {
        match self.nodes.lock().expect("no panic").get(&to) {
            Some(node) if !self.is_cut(from, to) => Ok(node.clone()),
            _ => Err(cut_off(to)),
        }
    }
}

fn cut_off(target: NodeId) -> NetworkError {
    NetworkError::Unreachable {
        target,
        reason: "cut off".to_owned(),
    }
}

/// One direction of a stream, which breaks when a frame meets a cut.
struct End<T> {
    lan: Arc<Lan>,
    from: NodeId,
    to: NodeId,
    channel: T,
}

impl FrameSink for End<mpsc::Sender<Bytes>> {
    fn send(&mut self, _: Urgency, frame: Bytes) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            if self.lan.is_cut(self.from, self.to) || self.channel.send(frame).await.is_err() {
                return Err(cut_off(self.to));
            }
            Ok(())
        })
    }

    fn finish(self: Box<Self>) {}
}

impl FrameSource for End<mpsc::Receiver<Bytes>> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, NetworkError>> {
        Box::pin(async move {
            let frame = self.channel.recv().await;
            if self.lan.is_cut(self.from, self.to) {
                return Err(cut_off(self.to));
            }
            Ok(frame)
        })
    }
}

impl Network for Port {
    fn call(
        &self,
        target: NodeId,
        request: PeerRequest,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(async move {
            if request.urgency == Urgency::Snapshot {
                tokio::time::sleep(SLOW_PART).await;
            }
            Ok(self.lan.reach(self.node, target)?.handle(request).await)
        })
    }

    fn open(
        &self,
        target: NodeId,
        shard: ShardId,
    ) -> BoxFuture<'_, Result<FrameStream, NetworkError>> {
        Box::pin(async move {
            let node = self.lan.reach(self.node, target)?;
            let end = |from, to| {
                let lan = Arc::clone(&self.lan);
                let (sender, receiver) = mpsc::channel(64);
                let sink = End {
                    lan: Arc::clone(&lan),
                    from,
                    to,
                    channel: sender,
                };
                let source = End {
                    lan,
                    from,
                    to,
                    channel: receiver,
                };
                (Box::new(sink), Box::new(source))
            };
            let (sink, heard) = end(self.node, target);
            let (answer, source) = end(target, self.node);
            tokio::spawn(async move {
                let stream = FrameStream {
                    sink: answer,
                    source: heard,
                };
                node.serve(shard, stream).await;
            });
            Ok(FrameStream { sink, source })
        })
    }
}

async fn cluster(
    dir: &Path,
    snapshots: SnapshotPolicy,
) -> (Arc<Lan>, BTreeMap<NodeId, ConsensusNode>) {
    cluster_of(3, 3, dir, snapshots).await
}

/// So many nodes, of which the first few found the cluster and the others wait to be let in.
async fn cluster_of(
    nodes: u64,
    founders: u64,
    dir: &Path,
    snapshots: SnapshotPolicy,
) -> (Arc<Lan>, BTreeMap<NodeId, ConsensusNode>) {
    let lan = Arc::new(Lan::default());
    let ids: Vec<NodeId> = (1..=nodes).map(NodeId::new).collect();
    let members: Members = (1..=founders)
        .map(NodeId::new)
        .map(|id| (id, Member::at(format!("node-{id}"))))
        .collect();
    let mut nodes = BTreeMap::new();
    for id in &ids {
        let node = member(&lan, *id, &members, dir, snapshots).await;
        nodes.insert(*id, node.expect("the node opens"));
    }
    lan.nodes.lock().expect("no panic").clone_from(&nodes);
    (lan, nodes)
}

async fn member(
    lan: &Arc<Lan>,
    id: NodeId,
    members: &Members,
    dir: &Path,
    snapshots: SnapshotPolicy,
) -> Result<ConsensusNode, OpenError> {
    let options = Options {
        node_id: id,
        cluster_id: ClusterId::new("three"),
        members: members.clone(),
        birth: if members.contains_key(&id) {
            Birth::Found
        } else {
            Birth::Join
        },
        network: Arc::new(Port {
            lan: Arc::clone(lan),
            node: id,
        }),
        timing: meson_consensus::Timing::lan(),
        snapshots,
        ..options(1)
    };
    ConsensusNode::open(dir.join(id.to_string()), options, Arc::new(Notes)).await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .expect("an entry");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}

/// Waits until a node has applied as much as another one has now.
async fn caught_up(node: &ConsensusNode, with: &ConsensusNode) {
    let applied = |node: &ConsensusNode| node.shards()[0].status().applied_index;
    let target = applied(with);
    tokio::time::timeout(DEADLINE, async {
        while applied(node) < target {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it catches up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_on_an_older_copy_of_its_data_stops_for_good_and_the_others_go_on() {
    let dir = TempDir::new().unwrap();
    let snapshots = SnapshotPolicy::default();
    let (lan, mut nodes) = cluster(dir.path(), snapshots).await;
    let (first, term) = leader(&nodes, |_| true).await;
    let shard = &first.shards()[0];
    propose(shard, term, "set key 1").await;
    let id = *nodes.keys().find(|id| **id != first.node_id()).unwrap();
    let members: Members = nodes
        .keys()
        .map(|id| (*id, Member::at(format!("node-{id}"))))
        .collect();
    let data = dir.path().join(id.to_string());
    let open = || member(&lan, id, &members, dir.path(), snapshots);
    let put = |node: &ConsensusNode| lan.nodes.lock().unwrap().insert(id, node.clone());

    caught_up(&nodes[&id], &first).await;
    nodes.remove(&id).unwrap().shutdown().await;
    lan.nodes.lock().unwrap().remove(&id);
    copy(&data, &dir.path().join("old"));
    let node = open().await.unwrap();
    put(&node);
    for n in 2..20 {
        propose(shard, term, format!("set key {n}")).await;
    }
    caught_up(&node, &first).await;
    node.shutdown().await;
    lan.nodes.lock().unwrap().remove(&id);
    drop(node);

    std::fs::remove_dir_all(&data).unwrap();
    copy(&dir.path().join("old"), &data);
    let node = open().await.unwrap();
    put(&node);
    let mut failures = node.failures();
    let failure = tokio::time::timeout(DEADLINE, failures.wait_for(Option::is_some))
        .await
        .expect("it is told")
        .unwrap()
        .clone()
        .unwrap();
    assert!(failure.cause.contains("acknowledged"), "{failure}");
    propose(shard, term, "set key 20").await;
    assert_eq!(get(shard, "key").await.as_deref(), Some("20"));

    node.shutdown().await;
    lan.nodes.lock().unwrap().remove(&id);
    drop((node, failures));
    let again = open().await.map(drop).unwrap_err();
    assert!(matches!(again, OpenError::Unfit { .. }), "{again}");
    for node in nodes.values() {
        node.shutdown().await;
    }
}

/// The node that leads, once one does, of those given.
async fn leader(
    nodes: &BTreeMap<NodeId, ConsensusNode>,
    among: impl Fn(NodeId) -> bool,
) -> (ConsensusNode, Term) {
    tokio::time::timeout(DEADLINE, async {
        loop {
            for (id, node) in nodes {
                let leadership = *node.shards()[0].leadership().borrow();
                if leadership.local && among(*id) {
                    return (node.clone(), leadership.term);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a leader is elected")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_is_replaced_and_changes_nothing_any_more() {
    let dir = TempDir::new().unwrap();
    let (lan, nodes) = cluster(dir.path(), SnapshotPolicy::default()).await;
    let (first, term) = leader(&nodes, |_| true).await;
    propose(&first.shards()[0], term, "set key 1").await;

    lan.cut_off.lock().unwrap().insert(first.node_id());
    let stuck = {
        let shard = first.shards()[0].clone();
        tokio::spawn(async move { shard.propose(term, Bytes::from("set key lost")).await })
    };
    let (second, next) = leader(&nodes, |id| id != first.node_id()).await;
    assert!(next > term);
    assert_eq!(get(&second.shards()[0], "key").await.as_deref(), Some("1"));
    propose(&second.shards()[0], next, "set key 2").await;
    assert!(matches!(
        first.shards()[0].read(Consistency::Linearizable).await,
        Err(ReadError::NoQuorum { .. } | ReadError::NotLeader { .. })
    ));

    lan.cut_off.lock().unwrap().clear();
    let outcome = tokio::time::timeout(DEADLINE, stuck)
        .await
        .expect("in time")
        .unwrap();
    assert!(outcome.is_err(), "{outcome:?}");
    tokio::time::timeout(DEADLINE, async {
        loop {
            let view = first.shards()[0].read(Consistency::Stale).await.unwrap();
            if view.get(b"key").unwrap().as_deref() == Some(b"2") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the old leader catches up");
    for node in nodes.values() {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fell_behind_the_log_gets_a_snapshot() {
    let dir = TempDir::new().unwrap();
    let snapshots = SnapshotPolicy {
        every_entries: 20,
        keep_entries: 0,
        ..SnapshotPolicy::default()
    };
    let (lan, nodes) = cluster(dir.path(), snapshots).await;
    let (first, _) = leader(&nodes, |_| true).await;
    let behind = nodes
        .keys()
        .copied()
        .find(|id| *id != first.node_id())
        .unwrap();
    lan.cut_off.lock().unwrap().insert(behind);
    let (first, term) = leader(&nodes, |id| id != behind).await;
    let shard = &first.shards()[0];
    for n in 0..100 {
        propose(shard, term, format!("set key-{n} {}", "v".repeat(40_000))).await;
    }
    tokio::time::timeout(DEADLINE, async {
        while shard.status().purged_index < Some(LogIndex::new(50)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the log is purged");
    lan.cut_off.lock().unwrap().clear();
    let late = &nodes[&behind].shards()[0];
    tokio::time::timeout(DEADLINE, async {
        loop {
            let view = late.read(Consistency::Stale).await.unwrap();
            if view.scan(b"key-", None, 1_000).unwrap().len() == 100 {
                break;
            }
            drop(view);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the node catches up");
    let status = nodes[&behind].status();
    assert!(status.io.snapshots_installed > 0);
    let received = status.traffic.received(MessageKind::Snapshot).bytes;
    let sent = first.status().traffic.sent(MessageKind::Snapshot).bytes;
    assert!(
        received > 1_000_000 && sent >= received,
        "{sent}, {received}"
    );
    assert!(first.status().traffic.sent(MessageKind::Append).bytes > 4_000_000);
    for node in nodes.values() {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_steps_down_hands_over_to_another() {
    let dir = TempDir::new().unwrap();
    let (_lan, nodes) = cluster(dir.path(), SnapshotPolicy::default()).await;
    let (first, term) = leader(&nodes, |_| true).await;
    propose(&first.shards()[0], term, "set key 1").await;
    first.shards()[0].step_down().await;
    let (second, next) = leader(&nodes, |id| id != first.node_id()).await;
    assert!(next > term);
    assert_eq!(get(&second.shards()[0], "key").await.as_deref(), Some("1"));
    for node in nodes.values() {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_to_the_voter_that_is_named() {
    let dir = TempDir::new().unwrap();
    let (_lan, nodes) = cluster(dir.path(), SnapshotPolicy::default()).await;
    let (first, _) = leader(&nodes, |_| true).await;
    for target in nodes.keys().copied() {
        let (now, _) = leader(&nodes, |_| true).await;
        now.shards()[0].transfer(target).await.unwrap_or_default();
        leader(&nodes, |id| id == target).await;
    }
    let stranger = first.shards()[0].transfer(NodeId::new(9)).await;
    assert!(stranger.is_err(), "{stranger:?}");
    for node in nodes.values() {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_there_gets_no_vote() {
    let dir = TempDir::new().unwrap();
    let (_lan, nodes) = cluster(dir.path(), SnapshotPolicy::default()).await;
    let (first, _) = leader(&nodes, |_| true).await;
    let shard = &first.shards()[0];
    let refused = shard
        .add_voter(NodeId::new(4), Member::at("nobody"))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("does not answer at \"nobody\""),
        "{refused}"
    );
    let status = shard.status();
    assert_eq!((status.voters.len(), status.replicas.len()), (3, 3));
    for node in nodes.values() {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_and_another_leaves_while_the_shard_goes_on() {
    let dir = TempDir::new().unwrap();
    let (lan, mut nodes) = cluster_of(4, 3, dir.path(), SnapshotPolicy::default()).await;
    let joining = NodeId::new(4);
    let (first, term) = leader(&nodes, |_| true).await;
    for n in 0..50 {
        propose(&first.shards()[0], term, format!("set key-{n} x")).await;
    }
    assert!(nodes[&joining].members().borrow().is_empty());
    let shard = &first.shards()[0];
    shard
        .add_voter(joining, Member::at("node-4"))
        .await
        .expect("joins");
    shard
        .add_voter(joining, Member::at("node-4"))
        .await
        .expect("joining again changes nothing");
    let members = nodes[&joining].members();
    tokio::time::timeout(
        DEADLINE,
        members.clone().wait_for(|members| members.len() == 4),
    )
    .await
    .expect("in time")
    .expect("the newcomer knows all members");

    let leaving = first.node_id();
    let (next, _) = {
        shard.step_down().await;
        leader(&nodes, |id| id != leaving).await
    };
    next.shards()[0].remove(leaving).await.expect("leaves");
    lan.cut_off.lock().unwrap().insert(leaving);
    nodes.remove(&leaving);
    let (now, term) = leader(&nodes, |_| true).await;
    propose(&now.shards()[0], term, "set after leaving").await;
    assert_eq!(get(&now.shards()[0], "key-49").await.as_deref(), Some("x"));
    let status = now.shards()[0].status();
    assert!(!status.replicas.contains(&leaving), "{status:?}");
    assert_eq!(status.voters.len(), 3);
    for node in nodes.values() {
        node.shutdown().await;
    }
}
