//! Runs a scenario: a cluster, a load, faults round after round, and the verdict.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    Scenario,
    absence::long_absence,
    networks::{flapping, isolate_leader, lossy, one_way, partition_halves},
    processes::{clock_jump, kill_all, leader_kill, pause, random_kill},
    regions::regions,
    resources::{SMALL_DISK, agent_kill, disk_full, executor_kill, master_restart},
    stage::Stage,
};
use crate::{
    check::{Violation, check},
    cluster::{Cluster, Http},
    history::{self, End, History, Recorder, What},
    load::{Load, LoadPlan, Submitter, Workload},
    settings::Settings,
};

/// After the last run has ended, tasks that were killed get this long to be gone.
const SETTLE: Duration = Duration::from_secs(15);

/// Between two looks at whether all is over.
const LOOK: Duration = Duration::from_millis(250);

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which scenario.
    pub scenario: Scenario,
    /// How many faults, one after the other.
    pub rounds: u32,
    /// For every random choice. (How processes interleave is the machine's own.)
    pub seed: u64,
    /// Where the programs are.
    pub bin: PathBuf,
    /// An empty folder for data and logs.
    pub folder: PathBuf,
    /// The cluster.
    pub settings: Settings,
    /// Say on the terminal what is done.
    pub loud: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario.
    pub scenario: Scenario,
    /// Faults that were completed.
    pub rounds: u32,
    /// What happened.
    pub history: History,
    /// What should not have.
    pub violations: Vec<Violation>,
}

/// Runs a scenario.
///
/// # Errors
/// The cluster does not start, or does not answer at the end: that no promise was broken is not known then.
pub async fn run(plan: &Plan) -> Result<Outcome> {
    let settings = plan.scenario.settings(plan.settings.clone());
    std::fs::create_dir_all(&plan.folder)
        .with_context(|| format!("make {}", plan.folder.display()))?;
    let recorder = Recorder::create(&plan.folder.join("history.jsonl"), plan.loud)?;
    let pools = settings.pools();
    let regions = pools.iter().filter(|region| !region.is_empty());
    let workload = Workload::compile()?
        .of_regions(&regions.cloned().collect::<Vec<_>>())?
        .choose(&settings.load.workflows)?;
    let disk = (plan.scenario == Scenario::DiskFull).then_some(SMALL_DISK);
    let cluster = Cluster::start(
        &plan.bin,
        &plan.folder,
        &settings,
        plan.seed,
        disk,
        &recorder,
    )
    .await?;
    let http = Http::new()?;
    let directory = cluster.directory();
    let workload = workload.placed(&http, &directory).await?;
    let watching = history::watch(&http, &directory, &recorder);
    let submitter = Submitter {
        http: http.clone(),
        directory: directory.clone(),
        workload: workload.clone(),
        recorder: recorder.clone(),
    };
    let load = Load::start(
        &submitter,
        LoadPlan {
            runs_per_second: settings.load.runs_per_second,
            most_open: settings.load.most_open,
            seed: plan.seed ^ ((plan.scenario as u64) << 32),
        },
    );
    let mut stage = Stage {
        cluster,
        random: StdRng::seed_from_u64(plan.seed),
        recorder: recorder.clone(),
        submitter,
        settings,
        seed: plan.seed,
        round: 0,
    };

    let mut rounds = 0;
    for round in 1..=plan.rounds {
        stage.round = round;
        let steady = stage.settings.steady_ms;
        stage.pass(Duration::from_millis(steady / 2)).await?;
        stage.a_while(steady).await?;
        one_round(plan.scenario, &mut stage).await?;
        rounds = round;
        if !recovered(&mut stage).await? {
            break;
        }
    }
    let end = end(&mut stage, load, &http, &workload).await?;
    drop(watching);
    let history = History {
        scenario: plan.scenario.name().to_owned(),
        seed: plan.seed,
        nodes: stage.cluster.members(),
        shards: stage.settings.all_shards(),
        entries: recorder.entries(),
        workflows: workload.definitions().clone(),
        end,
    };
    stage.cluster.stop().await;
    save(&plan.folder, &history)?;
    Ok(Outcome {
        scenario: plan.scenario,
        rounds,
        violations: check(&history),
        history,
    })
}

async fn one_round(scenario: Scenario, stage: &mut Stage) -> Result<()> {
    match scenario {
        Scenario::LeaderKill => leader_kill(stage).await,
        Scenario::RandomKill => random_kill(stage).await,
        Scenario::KillAll => kill_all(stage).await,
        Scenario::Pause => pause(stage).await,
        Scenario::ClockJump => clock_jump(stage).await,
        Scenario::PartitionHalves => partition_halves(stage).await,
        Scenario::OneWay => one_way(stage).await,
        Scenario::IsolateLeader => isolate_leader(stage).await,
        Scenario::Flapping => flapping(stage).await,
        Scenario::Lossy => lossy(stage).await,
        Scenario::AgentKill => agent_kill(stage).await,
        Scenario::ExecutorKill => executor_kill(stage).await,
        Scenario::MasterRestart => master_restart(stage).await,
        Scenario::DiskFull => disk_full(stage).await,
        Scenario::LongAbsence | Scenario::PurgedAbsence => long_absence(stage).await,
        Scenario::Regions => regions(stage).await,
        Scenario::Partitions | Scenario::Mixed => {
            let mut possible = scenario.parts().unwrap_or_default();
            possible.retain(|one| one.impossible(&stage.settings).is_none());
            let chosen = possible[stage.random.random_range(0..possible.len())];
            Box::pin(one_round(chosen, stage)).await
        }
    }
}

/// Waits until every node is healthy and a new run goes through. Whether that came true.
async fn recovered(stage: &mut Stage) -> Result<bool> {
    let began = Instant::now();
    let limit = Duration::from_millis(stage.settings.recover_ms);
    for node in stage.others(&[]) {
        if let Err(error) = stage.cluster.wait_healthy(node, limit).await {
            // Its log follows in the error; in a history one line is enough.
            let text = format!("{error:#}");
            let text = text.lines().next().unwrap_or_default().to_owned();
            stage.recorder.note(What::NotRecovered { text });
            return Ok(false);
        }
    }
    let run = format!("pair-{:x}r{}", stage.seed, stage.round);
    let nodes = stage.others(&[]);
    let submitted = stage.submitter.submit(&run, "pair", &nodes).await?;
    while submitted && began.elapsed() < limit {
        if stage.submitter.state(&run).await.as_deref() == Some("succeeded") {
            let after_ms = u64::try_from(began.elapsed().as_millis())?;
            stage.recorder.note(What::Recovered { after_ms });
            return Ok(true);
        }
        stage.pass(LOOK).await?;
    }
    let text = format!(
        "the new run {run} did not go through within {} s",
        limit.as_secs()
    );
    stage.recorder.note(What::NotRecovered { text });
    Ok(false)
}

/// Waits until all is over, then asks for everything.
async fn end(stage: &mut Stage, load: Load, http: &Http, workload: &Workload) -> Result<End> {
    let deadline = Instant::now() + Duration::from_millis(stage.settings.end_ms);
    let directory = stage.cluster.directory();
    let submitter = load.submitter().clone();
    load.stop().await;
    // Not only what this harness knows of: runs of unknown fate, and runs within runs.
    while submitter.still_running().await != Some(0) && Instant::now() < deadline {
        stage.pass(LOOK).await?;
    }
    stage.recorder.note(What::Over);
    let deadline = Instant::now() + SETTLE;
    loop {
        let mut end = history::fetch(http, &directory, workload.definitions()).await?;
        end.processes = stage.cluster.step_processes();
        let quiet = end.tasks.is_empty() && end.processes.is_empty();
        if quiet || Instant::now() > deadline {
            return Ok(end);
        }
        stage.pass(LOOK).await?;
    }
}

fn save(folder: &Path, history: &History) -> Result<()> {
    let path = folder.join("history.json");
    let file =
        std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    serde_json::to_writer(std::io::BufWriter::new(file), history)
        .with_context(|| format!("write {}", path.display()))
}
