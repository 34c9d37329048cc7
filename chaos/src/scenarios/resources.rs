//! What coordinators rely on is broken: Mesos, its agents and executors, the disk.

use std::time::Duration;

use anyhow::{Context, Result};
use rand::{RngExt, seq::IndexedRandom};

use super::stage::Stage;
use crate::history::FaultKind;

/// The node that has the small disk.
pub(super) const SMALL_DISK: u64 = 1;

/// An agent is killed, every other time with all that runs on it.
pub(super) async fn agent_kill(stage: &mut Stage) -> Result<()> {
    let agent = stage.random.random_range(1..=stage.settings.agents);
    let everything = stage.round.is_multiple_of(2);
    let what = if everything {
        "and all that runs on it"
    } else {
        "whose executors run on"
    };
    stage.fault(
        FaultKind::Agent,
        &[],
        format!("SIGKILL for agent {agent}, {what}"),
    );
    stage.cluster.kill_agent(agent, everything).await?;
    stage.a_while(stage.settings.fault_ms * 2).await?;
    stage.cluster.start_agent(agent)?;
    stage.healed(format!("agent {agent} is started again"));
    Ok(())
}

/// Executors are killed, one after the other.
pub(super) async fn executor_kill(stage: &mut Stage) -> Result<()> {
    for _ in 0..3 {
        let executors = stage.cluster.executors();
        if let Some(pid) = executors.choose(&mut stage.random) {
            stage.fault(
                FaultKind::Executor,
                &[],
                format!("SIGKILL for executor {pid}"),
            );
            stage.cluster.kill_executor(*pid);
        }
        stage.a_while(1_000).await?;
    }
    stage.healed("executors are left alone");
    Ok(())
}

/// The Mesos master is killed.
pub(super) async fn master_restart(stage: &mut Stage) -> Result<()> {
    let pools = stage.settings.pools().len();
    let pool = stage.random.random_range(0..pools);
    stage.fault(FaultKind::Master, &[], "SIGKILL for the Mesos master");
    stage.cluster.kill_master(pool).await?;
    stage.a_while(stage.settings.fault_ms).await?;
    stage.cluster.start_master(pool)?;
    stage.healed("the Mesos master is started again");
    Ok(())
}

/// A node's disk is full.
pub(super) async fn disk_full(stage: &mut Stage) -> Result<()> {
    stage.fault(
        FaultKind::Disk,
        &[SMALL_DISK],
        format!("no byte is free on the disk of node {SMALL_DISK}"),
    );
    let disk = stage.cluster.disk().context("no small disk is mounted")?;
    disk.fill()?;
    stage.hold().await?;
    let disk = stage.cluster.disk().context("no small disk is mounted")?;
    disk.free()?;
    stage.healed(format!("the disk of node {SMALL_DISK} has space again"));
    // A node that gave up is started again by then.
    stage.pass(Duration::from_millis(1_500)).await
}
