//! The network between coordinators is broken.

use std::time::Duration;

use anyhow::Result;
use rand::seq::SliceRandom;

use super::stage::Stage;
use crate::{history::FaultKind, proxy::Shape};

/// A minority is cut off.
pub(super) async fn partition_halves(stage: &mut Stage) -> Result<()> {
    let mut nodes = stage.others(&[]);
    nodes.shuffle(&mut stage.random);
    nodes.truncate((nodes.len() - 1) / 2);
    cut_off(stage, &nodes).await
}

/// The leader is cut off.
pub(super) async fn isolate_leader(stage: &mut Stage) -> Result<()> {
    let leader = stage.leader().await;
    cut_off(stage, &[leader]).await
}

async fn cut_off(stage: &mut Stage, nodes: &[u64]) -> Result<()> {
    stage.fault(
        FaultKind::Partition,
        nodes,
        format!("nodes {nodes:?} hear nobody else, and nobody else hears them"),
    );
    stage.cluster.network().split(&[nodes]);
    stage.probe(nodes, 'a').await;
    stage.hold().await?;
    // Asked again: by now successors were elected.
    stage.probe(nodes, 'b').await;
    heal(stage)
}

pub(super) fn heal(stage: &mut Stage) -> Result<()> {
    stage.cluster.network().heal();
    stage.healed("the network is whole again");
    Ok(())
}

/// Half a connection.
pub(super) async fn one_way(stage: &mut Stage) -> Result<()> {
    let leader = stage.leader().await;
    let others = stage.others(&[leader]);
    let Some(one) = stage.one_of(&others) else {
        return Ok(());
    };
    let (pairs, text): (Vec<(u64, u64)>, String) = match stage.round % 3 {
        0 => (
            others.iter().map(|other| (*other, leader)).collect(),
            format!("node {leader} hears nobody, and is heard"),
        ),
        1 => (
            others.iter().map(|other| (leader, *other)).collect(),
            format!("node {leader} hears all, and nobody hears it"),
        ),
        _ => (
            vec![(leader, one)],
            format!("node {one} does not hear node {leader}, which hears it"),
        ),
    };
    stage.fault(FaultKind::Partition, &[leader], text);
    for (from, to) in pairs {
        stage.cluster.network().cut(from, to);
    }
    stage.hold().await?;
    heal(stage)
}

/// A node comes and goes.
pub(super) async fn flapping(stage: &mut Stage) -> Result<()> {
    let node = stage.any_node();
    stage.fault(
        FaultKind::Network,
        &[node],
        format!("node {node} is reachable only now and then"),
    );
    let election = stage.settings.timing.election_max_ms;
    // Longer than an election's time, so that it wants to be elected each time it is away.
    let (down, up) = (election * 3 / 2, election * 2);
    stage
        .cluster
        .network()
        .flap(node, Duration::from_millis(down), Duration::from_millis(up));
    stage.hold().await?;
    stage.hold().await?;
    heal(stage)
}

/// Everything is lossy.
pub(super) async fn lossy(stage: &mut Stage) -> Result<()> {
    let shape = Shape {
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.1,
        delay_ms: 2,
        jitter_ms: 10,
        ..Shape::default()
    };
    stage.fault(
        FaultKind::Network,
        &[],
        "everywhere 5 % of packets are lost, 5 % doubled, 10 % overtaken, all late by 2 to 12 ms",
    );
    stage.cluster.network().shape_all(shape);
    stage.hold().await?;
    stage.hold().await?;
    heal(stage)
}
