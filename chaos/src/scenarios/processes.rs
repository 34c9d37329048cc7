//! Coordinators are killed and stopped.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use rand::RngExt;

use super::stage::Stage;
use crate::history::FaultKind;

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
