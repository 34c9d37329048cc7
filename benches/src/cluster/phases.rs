//! What a cluster does while it is measured.

use std::time::Duration;

use anyhow::Context;
use meson_chaos::cluster::Reading;
use meson_core::definition::Definition;
use tokio::time::{Instant, sleep};

use super::rig::Rig;

/// How long nothing is done, to see what that costs.
const IDLE: Duration = Duration::from_secs(5);

/// What all coordinators together do per second while nobody asks anything of them.
#[derive(Clone, Copy)]
pub(super) struct Idle {
    /// Bytes of UDP.
    pub(super) bytes: f64,
    /// Of it, heartbeats and their answers, as they are encoded.
    pub(super) heartbeats: f64,
    /// Seconds of a processor.
    pub(super) cpu: f64,
}

pub(super) async fn idle(rig: &Rig) -> anyhow::Result<Idle> {
    let (before, cpu, start) = (rig.read().await?, rig.cpu_time(), Instant::now());
    sleep(IDLE).await;
    let since = rig.read().await?.since(&before);
    let (cpu, took) = (rig.cpu_time() - cpu, start.elapsed().as_secs_f64());
    Ok(Idle {
        bytes: since.sum("meson_peer_bytes_total", SENT) / took,
        heartbeats: raft(&since, "heartbeat") / took,
        cpu: cpu.as_secs_f64() / took,
    })
}

const SENT: &str = "direction=\"sent\"";

fn raft(reading: &Reading, kind: &str) -> f64 {
    let kind = format!("kind=\"{kind}\",{SENT}");
    reading.sum("meson_raft_bytes_total", &kind)
}

/// What steps cost.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// Per second, submissions included.
    pub(super) per_second: f64,
    /// Engine overhead, in milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) mean: f64,
    /// From a proposal to its commit, in milliseconds.
    pub(super) commit_p50: f64,
    /// Log entries that followers got, as they are encoded, in bytes per step.
    pub(super) entries: f64,
    /// All bytes of UDP per step, less what goes over the network anyway.
    pub(super) bytes: f64,
}

/// Runs of this workflow, which has so many steps, all at once.
pub(super) async fn steps(
    rig: &Rig,
    idle: Idle,
    definition: &Definition,
    runs: u32,
    steps: u32,
) -> anyhow::Result<Steps> {
    let start = Instant::now();
    let since = rig.run(definition, runs as usize).await?;
    let took = start.elapsed().as_secs_f64();
    let steps = f64::from(runs) * f64::from(steps);
    let ms = |name: &str, share| {
        let value = since.quantile(name, share).context("it is counted")?;
        anyhow::Ok(value * 1000.0)
    };
    let sent = since.sum("meson_peer_bytes_total", SENT) - idle.bytes * took;
    Ok(Steps {
        per_second: steps / took,
        p50: ms("meson_step_overhead_seconds", 0.5)?,
        p99: ms("meson_step_overhead_seconds", 0.99)?,
        mean: since
            .mean("meson_step_overhead_seconds")
            .unwrap_or_default()
            * 1000.0,
        commit_p50: ms("meson_commit_seconds", 0.5)?,
        entries: raft(&since, "append") / steps,
        bytes: sent.max(0.0) / steps,
    })
}
