//! Coordinators are killed and stopped.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use rand::RngExt;

use super::stage::Stage;
use crate::history::FaultKind;

/// How far a clock is set forward or back, in seconds: from what nobody notices to most of a day. Not
/// further back than certificates are older than the cluster.
const JUMPS: [i64; 6] = [-3_000, -600, -20, 20, 7_200, 72_000];

/// One in so many restarts is killed again while it opens its data.
const AGAIN: u32 = 3;

/// The leader is killed.
pub(super) async fn leader_kill(stage: &mut Stage) -> Result<()> {
    let node = stage.leader().await;
    kill(stage, node).await
}

/// Any node is killed.
pub(super) async fn random_kill(stage: &mut Stage) -> Result<()> {
    let node = stage.any_node();
    kill(stage, node).await?;
    if stage.random.random_ratio(1, AGAIN) {
        stage.a_while(1_000).await?;
        kill(stage, node).await?;
    }
    Ok(())
}

async fn kill(stage: &mut Stage, node: u64) -> Result<()> {
    let leads = stage.cluster.leaders().await.led_by(node);
    stage.fault(
        FaultKind::Kill,
        &[node],
        format!("SIGKILL for node {node}, which leads {leads} shards"),
    );
    stage.cluster.kill_node(node).await?;
    stage.hold().await?;
    stage.cluster.start_node(node)?;
    stage.healed(format!("node {node} is started again"));
    Ok(())
}

/// All are killed.
pub(super) async fn kill_all(stage: &mut Stage) -> Result<()> {
    let nodes = stage.cluster.running();
    stage.fault(FaultKind::Kill, &nodes, "SIGKILL for all nodes");
    for node in &nodes {
        stage.cluster.kill_node(*node).await?;
    }
    stage.a_while(1_000).await?;
    for node in &nodes {
        stage.cluster.start_node(*node)?;
    }
    stage.healed("all nodes are started again");
    Ok(())
}

/// The leader sleeps.
pub(super) async fn pause(stage: &mut Stage) -> Result<()> {
    let node = stage.leader().await;
    stage.fault(
        FaultKind::Pause,
        &[node],
        format!("SIGSTOP for node {node}"),
    );
    stage.cluster.signal_node(node, Signal::SIGSTOP)?;
    stage.hold().await?;
    stage.cluster.signal_node(node, Signal::SIGCONT)?;
    stage.healed(format!("SIGCONT for node {node}"));
    // Now it acts on what it believed before: time for that, before all is looked at.
    stage.pass(Duration::from_millis(500)).await
}

/// The leader's clock, or another one's, is set, and set right again.
pub(super) async fn clock_jump(stage: &mut Stage) -> Result<()> {
    let node = if stage.random.random_ratio(2, 3) {
        stage.leader().await
    } else {
        stage.any_node()
    };
    let seconds = JUMPS[stage.random.random_range(0..JUMPS.len())];
    stage.fault(
        FaultKind::Clock,
        &[node],
        format!("the clock of node {node} is set by {seconds:+} s"),
    );
    stage.cluster.set_clock(node, seconds)?;
    stage.hold().await?;
    stage.cluster.set_clock(node, 0)?;
    stage.healed(format!("the clock of node {node} is right again"));
    Ok(())
}
