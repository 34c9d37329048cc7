//! Three nodes in one process, over a network that can be cut: the seam holds more than one node.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use meson_consensus::{
    ClusterId, ConsensusNode, Consistency, LogIndex, Network, NetworkError, NodeId, Options,
    PeerRequest, ReadError, SnapshotPolicy, Term,
};
use tempfile::TempDir;

use crate::support::{DEADLINE, Notes, get, options, propose};

#[derive(Default)]
struct Lan {
    nodes: OnceLock<BTreeMap<NodeId, ConsensusNode>>,
    cut_off: Mutex<BTreeSet<NodeId>>,
}

struct Port {
    lan: Arc<Lan>,
    node: NodeId,
}

impl Network for Port {
    fn call(
        &self,
        target: NodeId,
        _: &str,
        request: PeerRequest,
    ) -> BoxFuture<'_, Result<Bytes, NetworkError>> {
        Box::pin(async move {
            let cut = {
                let cut_off = self.lan.cut_off.lock().expect("no panic");
                cut_off.contains(&target) || cut_off.contains(&self.node)
            };
            match self.lan.nodes.get().and_then(|nodes| nodes.get(&target)) {
                Some(node) if !cut => Ok(node.handle(request).await),
                _ => Err(NetworkError::Unreachable {
                    target,
                    reason: "cut off".to_owned(),
                }),
            }
        })
    }
}

async fn cluster(
    dir: &Path,
    snapshots: SnapshotPolicy,
) -> (Arc<Lan>, BTreeMap<NodeId, ConsensusNode>) {
    let lan = Arc::new(Lan::default());
    let ids: Vec<NodeId> = (1..=3).map(NodeId::new).collect();
    let mut nodes = BTreeMap::new();
    for id in &ids {
        let options = Options {
            node_id: *id,
            cluster_id: ClusterId::new("three"),
            members: ids.iter().map(|id| (*id, format!("node-{id}"))).collect(),
            network: Arc::new(Port {
                lan: Arc::clone(&lan),
                node: *id,
            }),
            timing: meson_consensus::Timing::lan(),
            snapshots,
            ..options(1)
        };
        let node = ConsensusNode::open(dir.join(id.to_string()), options, Arc::new(Notes))
            .await
            .expect("the node opens");
        nodes.insert(*id, node);
    }
    assert!(lan.nodes.set(nodes.clone()).is_ok());
    (lan, nodes)
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
