//! A coordinator is away for long, and comes back while the others work.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use meson_protocol::api::ReplicasView;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::stage::Stage;
use crate::{
    cluster::Reading,
    history::{FaultKind, What},
    load::{SWEEP, Submitter},
};

/// Sweeps at the same time.
const SWEEPS: u64 = 4;

/// Events before and after, to compare with.
const COMPARED: f64 = 10_000.0;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// How many events a phase, or an absence, may take at most to come together.
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) async fn long_absence(stage: &mut Stage) -> Result<()> {
    let leaders = stage.cluster.leaders().await;
    let nodes = stage.others(&[]);
    let follower = nodes.into_iter().min_by_key(|node| leaders.led_by(*node));
    let Some(node) = follower else { return Ok(()) };
    let work = Work::start(stage);
    let before = phase(stage, node, COMPARED).await?;

    let wanted = stage.settings.absence_events;
    let text = format!("SIGKILL for node {node}, which misses {wanted} events or more");
    stage.fault(FaultKind::Kill, &[node], text);
    stage.cluster.kill_node(node).await?;
    let without = phase(stage, node, wanted as f64).await?;

    let missed = committed(stage, node).await;
    stage.cluster.start_node(node)?;
    stage.healed(format!("node {node} is started again"));
    let begun = Instant::now();
    let start = reading(stage, node).await?;
    let kept = start.sum("meson_log_kept_entries", "");
    let limit = Duration::from_millis(stage.settings.recover_ms);
    let mut caught_up = true;
    while !has_all(stage, node, &missed).await {
        if begun.elapsed() > limit {
            let text = format!(
                "node {node} does not have what it missed within {} s",
                limit.as_secs()
            );
            stage.recorder.note(What::NotRecovered { text });
            caught_up = false;
            break;
        }
        stage.pass(LOOK).await?;
    }
    let back = begun.elapsed();
    let during = Phase::between(&start, &reading(stage, node).await?, back);
    let snapshots = snapshots(stage, node).await;
    let after = phase(stage, node, COMPARED).await?;
    work.stop().await;

    let how = match snapshots {
        0 => "from the others' log".to_owned(),
        count => format!("by {count} snapshots, and the log behind them"),
    };
    let text = format!(
        "node {node} missed {:.0} events in {:.1} s, and {} {:.2} s after its start, {how}; the others then kept {kept:.0} \
         entries of the log; their commits, ms p50 / p99: before {before}, without it {without}, while it caught up \
         {during}, afterwards {after}",
        without.events,
        without.took.as_secs_f64(),
        if caught_up {
            "had all of them"
        } else {
            "still missed some"
        },
        back.as_secs_f64(),
    );
    stage.recorder.note(What::Measured { text });
    Ok(())
}

/// What those that stayed did in a while.
struct Phase {
    events: f64,
    took: Duration,
    /// Of the time from a proposal to its commit, in milliseconds.
    commit: Option<(f64, f64)>,
}

impl Phase {
    fn between(start: &Reading, end: &Reading, took: Duration) -> Self {
        let since = end.since(start);
        let commit = |share| Some(since.quantile("meson_commit_seconds", share)? * 1000.0);
        Self {
            events: events(&since),
            took,
            commit: commit(0.5).zip(commit(0.99)),
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.events / self.took.as_secs_f64().max(f64::MIN_POSITIVE);
        match self.commit {
            Some((half, most)) => write!(f, "{half:.1} / {most:.1} at {rate:.0} events/s"),
            None => f.write_str("none"),
        }
    }
}

fn events(reading: &Reading) -> f64 {
    reading.sum("meson_transitions_total", "")
}

/// Waits until those that stay have committed so many events.
async fn phase(stage: &mut Stage, away: u64, wanted: f64) -> Result<Phase> {
    let (start, begun) = (reading(stage, away).await?, Instant::now());
    loop {
        stage.pass(LOOK).await?;
        let now = reading(stage, away).await?;
        if events(&now.since(&start)) >= wanted || begun.elapsed() > PATIENCE {
            return Ok(Phase::between(&start, &now, begun.elapsed()));
        }
    }
}

/// What those that stay count.
async fn reading(stage: &Stage, away: u64) -> Result<Reading> {
    let nodes = &stage.submitter.directory.nodes;
    let stay = nodes.iter().filter(|(node, _)| **node != away);
    Reading::take(&stage.submitter.http, stay.map(|(_, url)| url)).await
}

async fn replicas(stage: &Stage, node: u64) -> Option<ReplicasView> {
    let url = stage.submitter.directory.nodes.get(&node)?;
    let url = format!("{url}/v1/cluster/replicas");
    stage.submitter.http.get(&url).await?.json()
}

/// Up to where each shard's log is committed, as those say that stayed.
async fn committed(stage: &Stage, away: u64) -> BTreeMap<u16, u64> {
    let mut committed = BTreeMap::new();
    for node in stage.others(&[away]) {
        for shard in replicas(stage, node)
            .await
            .into_iter()
            .flat_map(|view| view.shards)
        {
            let known: &mut u64 = committed.entry(shard.shard).or_default();
            *known = shard.commit_index.max(*known);
        }
    }
    committed
}

/// Whether a node has applied the log of all shards up to there.
async fn has_all(stage: &Stage, node: u64, missed: &BTreeMap<u16, u64>) -> bool {
    let Some(view) = replicas(stage, node).await else {
        return false;
    };
    view.shards.iter().all(|shard| {
        let wanted = missed.get(&shard.shard).copied().unwrap_or_default();
        shard.applied_index >= wanted
    })
}

/// How many snapshots a node was sent since its start.
async fn snapshots(stage: &Stage, node: u64) -> u64 {
    let url = stage.submitter.directory.nodes.get(&node);
    let reading = Reading::take(&stage.submitter.http, url).await;
    reading.map_or(0, |reading| {
        reading.sum("meson_snapshots_installed_total", "") as u64
    })
}

/// Sweeps, one after the other, until it is told to stop.
struct Work {
    over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Work {
    fn start(stage: &Stage) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for task in 0..SWEEPS {
            let name = format!("{SWEEP}-{:x}r{}t{task}", stage.seed, stage.round);
            let (submitter, over) = (stage.submitter.clone(), Arc::clone(&over));
            tasks.spawn(async move { sweep(&submitter, &name, &over).await });
        }
        Self { over, tasks }
    }

    async fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn sweep(submitter: &Submitter, name: &str, over: &AtomicBool) {
    let nodes: Vec<u64> = submitter.directory.nodes.keys().copied().collect();
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let run = format!("{name}n{number}");
        match submitter.submit(&run, SWEEP, &nodes).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                eprintln!("cannot submit {run}: {error:#}");
                return;
            }
        }
        let running = || async { submitter.state(&run).await.is_none_or(|it| it == "running") };
        while !over.load(Ordering::Relaxed) && running().await {
            sleep(LOOK).await;
        }
    }
}
