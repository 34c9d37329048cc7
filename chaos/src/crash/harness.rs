//! The loop: start, kill, damage, compare.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::Instant,
};

use super::{
    PowerLoss,
    check::{Acknowledged, Depth, reopen_and_compare},
    child::Line,
    power,
};

/// How often everything is compared, in rounds.
const FULL_COMPARISON: u32 = 10;

/// How long a directory is used, in rounds; then a new one, so that first starts are killed too.
const ROUNDS_PER_DIRECTORY: u32 = 25;

/// A child that is not ready by then hangs.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program to start as the child: this one, with its `child` subcommand.
    pub program: PathBuf,
    /// How many times to kill.
    pub rounds: u32,
    /// For the moments, the sizes and the damage. (The interleaving is the machine's own.)
    pub seed: u64,
    /// Shards of the node.
    pub shards: u16,
    /// Writers per shard.
    pub writers: u16,
    /// Whether the journal's unsynced tail is damaged after each kill, and how.
    pub power_loss: Option<PowerLoss>,
    /// Print a line per full comparison.
    pub verbose: bool,
}

/// What was done. A violated promise is an error instead.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills.
    pub rounds: u32,
    /// Of them, those before the child was ready: while it opened, recovered, elected.
    pub killed_while_opening: u32,
    /// Commands that were acknowledged, all of which were found.
    pub acknowledged: u64,
    /// Commands that were committed, but killed before their acknowledgement was told.
    pub committed_silently: u64,
    /// Rounds in which the journal was damaged.
    pub struck: u32,
    /// Bytes that the damage took.
    pub bytes_lost: u64,
    /// The longest time that a comparison took, reopening included.
    pub slowest_reopening: Duration,
}

/// A data directory and what is known of it.
struct Subject {
    dir: TempDir,
    acknowledged: Acknowledged,
    rounds: u32,
    commands: u64,
}

impl Subject {
    fn new() -> Result<Self> {
        let dir = TempDir::with_prefix("meson-crash-").context("make a data directory")?;
        Ok(Self {
            dir,
            acknowledged: Acknowledged::new(),
            rounds: 0,
            commands: 0,
        })
    }
}

/// Kills, and compares, `rounds` times.
///
/// # Errors
/// At the first broken promise; the error says which round of which seed, and the data directory
/// is kept.
pub async fn run(plan: &Plan) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut report = Report::default();
    let mut subject = Subject::new()?;
    while report.rounds < plan.rounds {
        if subject.rounds == ROUNDS_PER_DIRECTORY {
            report.committed_silently += subject.silent();
            subject = Subject::new()?;
        }
        let last = report.rounds + 1 == plan.rounds || subject.rounds + 1 == ROUNDS_PER_DIRECTORY;
        if let Err(error) = round(plan, &mut subject, &mut report, last, &mut random).await {
            let kept = subject.dir.keep();
            return Err(error.context(format!(
                "round {} of seed {}; the data directory is kept: {}",
                report.rounds + 1,
                plan.seed,
                kept.display()
            )));
        }
    }
    report.committed_silently += subject.silent();
    Ok(report)
}

impl Subject {
    fn silent(&self) -> u64 {
        let told: usize = self
            .acknowledged
            .values()
            .map(std::collections::BTreeMap::len)
            .sum();
        self.commands.saturating_sub(told as u64)
    }
}

async fn round(
    plan: &Plan,
    subject: &mut Subject,
    report: &mut Report,
    last: bool,
    random: &mut StdRng,
) -> Result<()> {
    let heard = kill_one(plan, subject.dir.path(), random).await?;
    report.rounds += 1;
    subject.rounds += 1;
    if !heard.ready {
        report.killed_while_opening += 1;
    }
    let mut latest = Acknowledged::new();
    for (at, number, position) in heard.acknowledged {
        latest.entry(at).or_default().insert(number, position);
        let twice = subject
            .acknowledged
            .entry(at)
            .or_default()
            .insert(number, position);
        if twice.is_some() {
            bail!(
                "shard and writer {at:?}: command {number} was acknowledged in two lives of the process"
            );
        }
        report.acknowledged += 1;
    }
    if let Some(how) = plan.power_loss
        && let Some(lost) = power::strike(subject.dir.path(), how, random)?
    {
        report.struck += 1;
        report.bytes_lost += lost;
    }
    let depth = if last || subject.rounds.is_multiple_of(FULL_COMPARISON) {
        Depth::Everything
    } else {
        Depth::Latest
    };
    let begin = Instant::now();
    let found = reopen_and_compare(
        subject.dir.path(),
        plan.shards,
        plan.writers,
        plan.power_loss.is_some(),
        &subject.acknowledged,
        &latest,
        depth,
    )
    .await?;
    report.slowest_reopening = report.slowest_reopening.max(begin.elapsed());
    subject.commands = found.commands;
    if plan.verbose && depth == Depth::Everything {
        println!(
            "round {}: {} acknowledged commands, all there",
            report.rounds, report.acknowledged
        );
    }
    Ok(())
}

/// What a child said before it was killed.
#[derive(Default)]
struct Heard {
    ready: bool,
    /// Shard and writer, number, position.
    acknowledged: Vec<((u16, u16), u64, u64)>,
}

async fn kill_one(plan: &Plan, dir: &Path, random: &mut StdRng) -> Result<Heard> {
    let mut child = spawn(plan, dir, random.random())?;
    let stdout = child.stdout.take().context("the child has no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut heard = Heard::default();
    // One in four is killed at any moment since its start, the others under load.
    let early = random.random_ratio(1, 4);
    let after = Duration::from_micros(if early {
        random.random_range(0..100_000)
    } else {
        random.random_range(5_000..60_000)
    });
    let mut deadline = Instant::now() + if early { after } else { READY_TIMEOUT };
    loop {
        match tokio::time::timeout_at(deadline, lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                hear(&mut heard, &line)?;
                if heard.ready && !early && heard.acknowledged.is_empty() && line == "ready" {
                    deadline = Instant::now() + after;
                }
            }
            Ok(Ok(None)) => return Err(ended(child).await),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) if !heard.ready && !early => {
                bail!("the child was not ready after {READY_TIMEOUT:?}")
            }
            Err(_) => break,
        }
    }
    child.start_kill().context("kill the child")?;
    // What it said before it died is in the pipe; a line cut off by the kill cannot be, see there.
    while let Some(line) = lines.next_line().await? {
        hear(&mut heard, &line)?;
    }
    child.wait().await?;
    Ok(heard)
}

fn spawn(plan: &Plan, dir: &Path, seed: u64) -> Result<Child> {
    let mut command = Command::new(&plan.program);
    command
        .arg("child")
        .arg("--dir")
        .arg(dir)
        .args(["--shards", &plan.shards.to_string()])
        .args(["--writers", &plan.writers.to_string()])
        .args(["--seed", &seed.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if plan.power_loss.is_some() {
        command.arg("--power-loss");
    }
    command
        .spawn()
        .with_context(|| format!("start {}", plan.program.display()))
}

fn hear(heard: &mut Heard, line: &str) -> Result<()> {
    match Line::parse(line)? {
        Line::Ready => heard.ready = true,
        Line::Acknowledged {
            shard,
            writer,
            number,
            position,
        } => {
            heard.acknowledged.push(((shard, writer), number, position));
        }
    }
    Ok(())
}

/// A child that ends by itself has failed.
async fn ended(mut child: Child) -> anyhow::Error {
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut text).await;
    }
    let status = child.wait().await;
    anyhow::anyhow!("the child ended by itself ({status:?}): {text}")
}
