//! A cluster, and what can be asked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use meson_chaos::cluster::{Cluster, Http, Reading};
use meson_chaos::history::Recorder;
use meson_chaos::settings::Settings;
use meson_core::definition::Definition;
use meson_protocol::api::{ClusterView, Page, RunSummary, SubmitRun};
use tokio::time::{Instant, sleep};

use super::Plan;

/// Submissions under way at once.
const CLIENTS: usize = 64;
/// A coordinator that takes longer to accept a run hangs.
const ACCEPT: Duration = Duration::from_secs(30);
/// Runs that take longer hang.
const DEADLINE: Duration = Duration::from_secs(300);
/// Between two looks at how many runs have ended.
const LOOK: Duration = Duration::from_millis(20);
/// Leaders settle, connections are made.
const SETTLE: Duration = Duration::from_secs(3);

/// A running cluster.
pub(super) struct Rig {
    cluster: Cluster,
    http: Http,
    urls: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start(plan: &Plan, settings: &Settings, seed: u64) -> anyhow::Result<Self> {
        let folder = match &plan.data {
            Some(data) => tempfile::tempdir_in(data)?,
            None => tempfile::tempdir()?,
        };
        let recorder = Recorder::create(&folder.path().join("history"), false)?;
        let path = folder.path().join("cluster");
        let cluster = Cluster::start(&plan.bin, &path, settings, seed, None, &recorder).await?;
        let urls = cluster.directory().nodes.into_values().collect();
        sleep(SETTLE).await;
        Ok(Self {
            cluster,
            http: Http::new()?,
            urls,
            _folder: folder,
        })
    }

    pub(super) async fn stop(self) {
        self.cluster.stop().await;
    }

    /// What all nodes count, now.
    pub(super) async fn read(&self) -> anyhow::Result<Reading> {
        Reading::take(&self.http, &self.urls).await
    }

    /// How long processors have worked for all coordinators.
    pub(super) fn cpu_time(&self) -> Duration {
        let nodes = self.cluster.running();
        nodes
            .iter()
            .filter_map(|node| self.cluster.cpu_time(*node))
            .sum()
    }

    /// Submits so many runs, to all nodes in turn, and waits until the last one has ended.
    pub(super) async fn run(
        &self,
        definition: &Definition,
        runs: usize,
    ) -> anyhow::Result<Reading> {
        let before = self.read().await?;
        let request = SubmitRun {
            id: None,
            definition: definition.clone(),
            params: BTreeMap::new(),
            bundle: None,
            force: false,
        };
        let body = serde_json::to_vec(&request)?;
        let submissions = self.urls.iter().cycle().take(runs).map(|url| {
            let (url, body) = (format!("{url}/v1/runs"), body.clone());
            async move { self.http.post(&url, body, ACCEPT).await }
        });
        let mut submissions = futures::stream::iter(submissions).buffer_unordered(CLIENTS);
        while let Some(answer) = submissions.next().await {
            let answer = answer?;
            if answer.status / 100 != 2 {
                bail!("a run was not accepted: {}", answer.text());
            }
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            let since = self.read().await?.since(&before);
            let ended = since.sum("meson_runs_ended_total", "");
            // A coordinator that loses its lead while it ends a run does not count it.
            if ended >= runs as f64 || self.none_runs().await {
                return Ok(since);
            }
            if Instant::now() > deadline {
                bail!("{ended} of {runs} runs of {:?} have ended", definition.name);
            }
            sleep(LOOK).await;
        }
    }

    async fn none_runs(&self) -> bool {
        let Some(url) = self.urls.first() else {
            return false;
        };
        let url = format!("{url}/v1/runs?state=running&limit=1");
        let answer = self.http.get(&url).await;
        let page = answer.and_then(|answer| answer.json::<Page<RunSummary>>());
        page.is_some_and(|page| page.items.is_empty() && page.next.is_none())
    }

    /// The round trip between two nodes, as they measure it.
    pub(super) async fn round_trip(&self, from: usize, to: u64) -> anyhow::Result<f64> {
        let view = self.view(from).await?;
        let node = view.nodes.into_iter().find(|node| node.id == to);
        node.and_then(|node| node.rtt_ms).context("it is connected")
    }

    /// Waits until every shard with a home is led from there: a new cluster's first leaders may be
    /// anywhere, and what a step costs depends on where its run is led.
    pub(super) async fn led_from_home(&self, settings: &Settings) -> anyhow::Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !self.all_led_from_home(settings).await? {
            if Instant::now() > deadline {
                bail!("some shards are still led from elsewhere than their home");
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn all_led_from_home(&self, settings: &Settings) -> anyhow::Result<bool> {
        let region = |node: u64| {
            let index = usize::try_from(node.checked_sub(1)?).ok()?;
            settings.regions.get(index)
        };
        let mut first = 0;
        for group in &settings.groups {
            let shards = first..first + group.shards;
            first = shards.end;
            // Only nodes with a replica know who leads.
            let there = settings.regions.iter().position(|it| *it == group.home);
            let Some(there) = there else {
                continue;
            };
            let view = self.view(there).await?;
            let mut group_shards = view.shards.iter().filter(|it| shards.contains(&it.id));
            if !group_shards.all(|it| it.leader.and_then(region) == Some(&group.home)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The cluster as a node sees it.
    async fn view(&self, node: usize) -> anyhow::Result<ClusterView> {
        let url = self.urls.get(node).context("there is such a node")?;
        let answer = self.http.get(&format!("{url}/v1/cluster")).await;
        answer
            .and_then(|answer| answer.json())
            .context("the cluster can be looked at")
    }
}
