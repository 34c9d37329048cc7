//! No-op steps through the real engine, on a real log with its fsyncs, in this process: what the
//! engine itself costs, without resource managers and processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::join_all;
use meson_chaos::cluster::Reading;
use meson_consensus::{ClusterId, ConsensusNode, NodeId, Options};
use meson_core::definition::Definition;
use meson_core::ids::RunId;
use meson_core::units::Timestamp;
use meson_engine::clock::{Clock, TokioClock};
use meson_engine::{Engine, EngineOptions, ShardMachine};
use meson_protocol::api::SubmitRun;
use meson_protocol::token::ClusterSecret;
use tokio::time::Instant;

use crate::figures::Table;
use crate::workflows::{chain, wide as loop_of};

/// Shards of the node: enough to spread runs, few enough that each commits in large groups.
const SHARDS: u16 = 4;
/// Submissions under way at once.
const CLIENTS: usize = 64;
/// How often a run is asked whether it has ended.
const POLL: Duration = Duration::from_millis(2);
/// A run that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) fn measure(table: &mut Table, data: Option<&Path>) -> anyhow::Result<()> {
    actix_rt::System::new().block_on(async {
        // The wide run comes first: peak memory only ever grows.
        wide(table, data).await?;
        overhead(table, data).await?;
        throughput(table, data).await
    })
}

/// A coordinator of its own for each figure, so that none inherits another's state.
struct Bench {
    engine: Engine,
    node: ConsensusNode,
    arbiter: actix_rt::Arbiter,
    _dir: tempfile::TempDir,
}

impl Bench {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark is a binary: it starts its arbiters"
    )]
    async fn open(data: Option<&Path>) -> anyhow::Result<Self> {
        let dir = match data {
            Some(data) => tempfile::tempdir_in(data)?,
            None => tempfile::tempdir()?,
        };
        let options = Options::single(ClusterId::new("bench"), NodeId::new(1), SHARDS);
        let node = ConsensusNode::open(dir.path(), options, Arc::new(ShardMachine)).await?;
        let clock = TokioClock::starting_at(Timestamp(1_795_449_600_000));
        let secret =
            ClusterSecret::new(*b"secret of a benchmark").context("the secret is long enough")?;
        let arbiter = actix_rt::Arbiter::new();
        let options =
            EngineOptions::new(move || clock.now(), 7, secret).on_arbiters([arbiter.handle()]);
        let engine = Engine::start(node.clone(), options);
        for shard in node.shards() {
            shard.led_here().await?;
        }
        Ok(Self {
            engine,
            node,
            arbiter,
            _dir: dir,
        })
    }

    async fn close(self) {
        self.engine.shutdown().await;
        self.node.shutdown().await;
        self.arbiter.stop();
    }

    async fn submit(&self, id: String, definition: &Definition) -> anyhow::Result<RunId> {
        let request = SubmitRun {
            id: Some(id.parse()?),
            definition: definition.clone(),
            params: BTreeMap::new(),
            bundle: None,
            force: false,
        };
        Ok(self.engine.submit(request).await?.id)
    }

    async fn ended(&self, run: &RunId) -> anyhow::Result<()> {
        let ended = async {
            loop {
                match self.engine.summary(run).await?.state.as_str() {
                    "running" => tokio::time::sleep(POLL).await,
                    "succeeded" => return Ok(()),
                    other => bail!("run {run} {other}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, ended)
            .await
            .with_context(|| format!("run {run} hangs"))?
    }
}

/// One run, one step after the other: nothing to wait for but the engine and the disk.
async fn overhead(table: &mut Table, data: Option<&Path>) -> anyhow::Result<()> {
    const STEPS: u32 = 1_000;
    let bench = Bench::open(data).await?;
    let run = bench.submit("chain-1".to_owned(), &chain(STEPS)).await?;
    bench.ended(&run).await?;
    let reading = Reading::of(&bench.engine.metrics_text());
    for (share, name, goal) in [(0.5, "p50", "0.6 ms"), (0.99, "p99", "3 ms")] {
        let overhead = reading
            .quantile("meson_step_overhead_seconds", share)
            .context("the overhead is counted")?;
        let figure = format!("engine overhead per step, in one process, {name}");
        table.add(figure, format!("{:.2} ms", overhead * 1000.0), goal);
    }
    bench.close().await;
    Ok(())
}

/// Many runs at once: they share fsyncs.
async fn throughput(table: &mut Table, data: Option<&Path>) -> anyhow::Result<()> {
    const RUNS: usize = 1_000;
    const STEPS: u32 = 20;
    let bench = Bench::open(data).await?;
    let definition = chain(STEPS);
    let start = Instant::now();
    let mut runs = Vec::with_capacity(RUNS);
    for first in (0..RUNS).step_by(CLIENTS) {
        let ids = (first..RUNS.min(first + CLIENTS)).map(|n| format!("chain-{n}"));
        let submitted = ids.map(|id| bench.submit(id, &definition));
        for run in join_all(submitted).await {
            runs.push(run?);
        }
    }
    for run in &runs {
        bench.ended(run).await?;
    }
    let steps = RUNS as f64 * f64::from(STEPS);
    let rate = steps / start.elapsed().as_secs_f64();
    let figure =
        format!("durable no-op steps per second, {RUNS} runs of {STEPS}, submissions included");
    table.add(figure, format!("{rate:.0}"), "20,000");
    let io = bench.node.status().io;
    let figure = "commands per fsync while that ran";
    table.add(
        figure,
        format!("{:.0}", io.commands as f64 / io.fsyncs.max(1) as f64),
        "",
    );
    bench.close().await;
    Ok(())
}

/// A for-each over no-ops: the cost per iteration must not grow with the width.
async fn wide(table: &mut Table, data: Option<&Path>) -> anyhow::Result<()> {
    for width in [100, 3_000, 30_000] {
        let bench = Bench::open(data).await?;
        let start = Instant::now();
        let run = bench.submit("wide-1".to_owned(), &loop_of(width)).await?;
        bench.ended(&run).await?;
        let took = start.elapsed();
        let per = took.as_secs_f64() * 1e6 / f64::from(width);
        let figure = format!("{width} iterations in one run");
        let goal = if width == 30_000 {
            "< 3 s, cost flat"
        } else {
            ""
        };
        table.add(
            figure,
            format!("{:.3} s, {per:.0} µs each", took.as_secs_f64()),
            goal,
        );
        bench.close().await;
    }
    table.add(
        "peak memory of this process by then",
        peak_memory()?,
        "< 100 MB",
    );
    Ok(())
}

/// The largest resident set so far (proc_pid_status(5), VmHWM).
fn peak_memory() -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("VmHWM is there")?
        .parse()?;
    Ok(format!("{} MB", kib / 1024))
}
