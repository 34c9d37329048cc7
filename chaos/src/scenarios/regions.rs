//! A region is lost: its coordinators, its resources, or both.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::{networks::heal, stage::Stage};
use crate::{
    history::{FaultKind, What},
    load::at_home,
};

/// Between two looks at a run that has to go on.
const LOOK: Duration = Duration::from_millis(250);

/// What is lost.
struct Region {
    name: String,
    nodes: Vec<u64>,
    agents: Vec<u64>,
    /// Its Mesos master, if it has one of its own.
    pool: Option<usize>,
}

impl Region {
    /// Any region that has resources, if some have; otherwise any.
    fn choose(stage: &mut Stage) -> Self {
        let pools = stage.settings.pools();
        let own: Vec<u64> = stage
            .others(&[])
            .into_iter()
            .filter(|node| {
                pools
                    .iter()
                    .any(|pool| pool == stage.settings.region(*node))
            })
            .collect();
        let node = stage.one_of(&own).unwrap_or_else(|| stage.any_node());
        let settings = &stage.settings;
        let name = settings.region(node).to_owned();
        let here = |number: &u64| settings.region(*number) == name;
        Self {
            nodes: (1..=settings.nodes).filter(here).collect(),
            agents: (1..=settings.agents).filter(here).collect(),
            pool: pools.iter().position(|pool| *pool == name),
            name,
        }
    }
}

/// A region is lost: cut off from the others, then with all that it has, then only its resources.
pub(super) async fn regions(stage: &mut Stage) -> Result<()> {
    let region = Region::choose(stage);
    // Some runs of each kind are under way there.
    for kind in ["regional", "global"] {
        submit(stage, &region, kind, 'b').await?;
    }
    stage.a_while(1_500).await?;
    match (stage.round % 3, region.pool) {
        (1, _) => cut_off(stage, &region).await,
        (0, Some(pool)) => lose_resources(stage, &region, pool).await,
        _ => lose_everything(stage, &region).await,
    }
}

async fn cut_off(stage: &mut Stage, region: &Region) -> Result<()> {
    let (name, nodes) = (&region.name, &region.nodes);
    let text = format!("region {name} is cut off: nodes {nodes:?} hear nobody else");
    stage.fault(FaultKind::Partition, nodes, text);
    stage.cluster.network().split(&[nodes]);
    stage.probe(nodes, 'a').await;
    goes_on(stage, region).await?;
    stage.hold().await?;
    stage.probe(nodes, 'b').await;
    heal(stage)
}

async fn lose_everything(stage: &mut Stage, region: &Region) -> Result<()> {
    let (name, nodes) = (&region.name, &region.nodes);
    let text = format!("region {name} is lost: SIGKILL for nodes {nodes:?} and all its resources");
    stage.fault(FaultKind::Kill, nodes, text);
    for node in nodes {
        stage.cluster.kill_node(*node).await?;
    }
    kill_resources(stage, region).await?;
    goes_on(stage, region).await?;
    stage.hold().await?;
    start_resources(stage, region).await?;
    for node in nodes {
        stage.cluster.start_node(*node)?;
    }
    stage.healed(format!("region {name} is back"));
    Ok(())
}

async fn lose_resources(stage: &mut Stage, region: &Region, pool: usize) -> Result<()> {
    let name = &region.name;
    let text = format!(
        "the resources of region {name} are lost: SIGKILL for master {pool} and its agents"
    );
    stage.fault(FaultKind::Master, &[], text);
    kill_resources(stage, region).await?;
    goes_on(stage, region).await?;
    stage.hold().await?;
    start_resources(stage, region).await?;
    stage.healed(format!("the resources of region {name} are back"));
    Ok(())
}

/// Only where they are the region's own.
async fn kill_resources(stage: &mut Stage, region: &Region) -> Result<()> {
    let Some(pool) = region.pool else {
        return Ok(());
    };
    stage.cluster.kill_master(pool).await?;
    for agent in &region.agents {
        stage.cluster.kill_agent(*agent, true).await?;
    }
    Ok(())
}

async fn start_resources(stage: &mut Stage, region: &Region) -> Result<()> {
    let Some(pool) = region.pool else {
        return Ok(());
    };
    stage.cluster.start_master(pool)?;
    stage.cluster.wait_for_master(pool).await?;
    for agent in &region.agents {
        stage.cluster.start_agent(*agent)?;
    }
    Ok(())
}

/// Submits a run that is at home in the region, to nodes elsewhere. Its id, if it was acknowledged;
/// `moment` tells those of a round apart.
async fn submit(
    stage: &Stage,
    region: &Region,
    kind: &str,
    moment: char,
) -> Result<Option<String>> {
    let workflow = at_home(kind, &region.name);
    let workload = &stage.submitter.workload;
    if !workload.definitions().contains_key(&workflow) {
        return Ok(None);
    }
    let run = workload.run_id(
        &workflow,
        &format!("{:x}r{}{moment}", stage.seed, stage.round),
    );
    let others = stage.others(&region.nodes);
    let acknowledged = stage.submitter.submit(&run, &workflow, &others).await?;
    Ok(acknowledged.then_some(run))
}

/// While the region is lost, a run that survives that, and whose steps may go elsewhere, ends.
async fn goes_on(stage: &mut Stage, region: &Region) -> Result<()> {
    let workflow = at_home("global", &region.name);
    if !stage
        .submitter
        .workload
        .definitions()
        .contains_key(&workflow)
    {
        return Ok(());
    }
    let began = Instant::now();
    let limit = Duration::from_millis(stage.settings.recover_ms);
    let run = submit(stage, region, "global", 'w').await?;
    while let Some(run) = &run {
        if stage.submitter.state(run).await.as_deref() == Some("succeeded") {
            let after_ms = u64::try_from(began.elapsed().as_millis())?;
            stage.recorder.note(What::WentOn { after_ms });
            return Ok(());
        }
        if began.elapsed() > limit {
            break;
        }
        stage.pass(LOOK).await?;
    }
    let run = run.unwrap_or_else(|| format!("a run of {workflow}"));
    stage.recorder.note(What::StoodStill {
        text: format!(
            "{run} did not end within {} s while region {} was lost",
            limit.as_secs(),
            region.name
        ),
    });
    Ok(())
}
