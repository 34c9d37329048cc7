//! Looks at who leads, as every node sees it.

use std::{collections::BTreeMap, time::Duration};

use meson_protocol::api::ReplicasView;
use tokio::{task::JoinSet, time::sleep};

use super::{Recorder, What};
use crate::cluster::{Directory, Http};

/// Between two looks at the same node: below an election's time, so that no leader goes unseen for long.
const LOOK: Duration = Duration::from_millis(100);

/// A node that is stopped or overloaded is asked again after this.
const PATIENCE: Duration = Duration::from_millis(1_000);

/// Looks until it is dropped.
pub(crate) fn watch(http: &Http, directory: &Directory, recorder: &Recorder) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (node, url) in &directory.nodes {
        let (http, recorder, node) = (http.clone(), recorder.clone(), *node);
        let url = format!("{url}/v1/cluster/replicas");
        tasks.spawn(async move {
            let mut seen: BTreeMap<u16, (Option<u64>, u64)> = BTreeMap::new();
            loop {
                if let Some(answer) = http.get_within(&url, PATIENCE).await
                    && let Some(view) = answer.json::<ReplicasView>()
                {
                    note(node, view, &mut seen, &recorder);
                }
                sleep(LOOK).await;
            }
        });
    }
    tasks
}

fn note(
    seen_by: u64,
    view: ReplicasView,
    seen: &mut BTreeMap<u16, (Option<u64>, u64)>,
    recorder: &Recorder,
) {
    for shard in view.shards {
        let now = (shard.leader, shard.term);
        if seen.insert(shard.shard, now) != Some(now) {
            recorder.note(What::Leader {
                seen_by,
                shard: shard.shard,
                leader: shard.leader,
                term: shard.term,
                commit: shard.commit_index,
            });
        }
    }
}
