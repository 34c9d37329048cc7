//! A coordinator in a folder: open it, break it, open it again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meson_consensus::{ClusterId, ConsensusNode, NodeId, Options};
use meson_core::definition::Definition;
use meson_core::ids::RunId;
use meson_core::units::Timestamp;
use meson_engine::clock::{Clock, TokioClock};
use meson_engine::{Engine, EngineOptions, ShardMachine};
use meson_protocol::api::{RunSummary, SubmitRun};
use meson_protocol::token::ClusterSecret;

use crate::scripted::{Cluster, Factory};

/// Long enough for a loaded machine; a passing test never waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) node: ConsensusNode,
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) async fn open(dir: &Path, cluster: &Arc<Cluster>) -> Self {
        Self::open_with(dir, cluster, 2, |_| {}).await
    }

    pub(crate) async fn open_with(
        dir: &Path,
        cluster: &Arc<Cluster>,
        shards: u16,
        change: impl FnOnce(&mut EngineOptions),
    ) -> Self {
        let options = Options::single(ClusterId::new("test"), NodeId::new(1), shards);
        let node = ConsensusNode::open(dir, options, Arc::new(ShardMachine))
            .await
            .unwrap();
        let clock = TokioClock::starting_at(Timestamp(1_795_449_600_000));
        let secret = ClusterSecret::new(*b"a secret of test").unwrap();
        let mut options = EngineOptions::new(move || clock.now(), 7, secret);
        options.brokers = Some(Arc::new(Factory(Arc::clone(cluster))));
        change(&mut options);
        let engine = Engine::start(node.clone(), options);
        Self { node, engine }
    }

    /// Ends everything, wherever it stands.
    pub(crate) async fn close(self) {
        self.engine.shutdown().await;
        self.node.shutdown().await;
    }

    pub(crate) async fn submit(&self, id: &str, definition: &Definition) -> RunId {
        self.engine
            .submit(request(id, definition))
            .await
            .unwrap()
            .id
    }

    /// Waits until the run has ended.
    pub(crate) async fn ended(&self, run: &RunId) -> RunSummary {
        let ended = async {
            let mut seen = 0;
            loop {
                let events = self
                    .engine
                    .events(run, seen, 1_000, Duration::from_secs(5))
                    .await;
                seen = events.unwrap().last().map_or(seen, |event| event.seq);
                let summary = self.engine.summary(run).await.unwrap();
                if summary.state != "running" {
                    return summary;
                }
            }
        };
        match tokio::time::timeout(DEADLINE, ended).await {
            Ok(summary) => summary,
            Err(_) => panic!(
                "{run} did not end: {:#?}",
                serde_json::to_value(self.engine.run(run).await.unwrap()).unwrap()
            ),
        }
    }
}

pub(crate) fn request(id: &str, definition: &Definition) -> SubmitRun {
    SubmitRun {
        id: Some(id.parse().unwrap()),
        definition: definition.clone(),
        params: BTreeMap::new(),
        bundle: None,
        force: false,
    }
}

/// Waits until `what` holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        tokio::time::timeout(DEADLINE, waited).await.is_ok(),
        "in vain: {what}"
    );
}
