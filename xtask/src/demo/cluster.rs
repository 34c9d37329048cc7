//! `cargo xtask demo --cluster`: three coordinators, two agents, and the one that leads the pipeline
//! is killed in the middle of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::setup::Tools;
use crate::shell::{self, cache, program, root, say, target};

/// Everything that is waited for comes within this time.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pipeline itself may take longer: it trains models.
const PIPELINE: Duration = Duration::from_secs(600);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// The step in whose middle the coordinator is killed.
const VICTIM_STEP: &str = "train_all";

/// The processes of the demonstration; they end with it.
struct Cluster {
    folder: PathBuf,
    path: std::ffi::OsString,
    processes: Vec<(String, Child)>,
}

/// Runs the pipeline of this month, and kills its coordinator.
pub(super) fn run(cohort: &str, tools: &Tools) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(tools)?;
    say("three coordinators, one Mesos master, two agents");
    cluster.show(&["cluster", "status"])?;

    let pipeline = root().join("examples/recommendations/recommendations.star");
    let ratings = format!("ratings={}", tools.ratings.display());
    let submitted = cluster.mesonctl(&[
        "run",
        &pipeline.display().to_string(),
        "--param",
        &format!("cohort={cohort}"),
        "--param",
        &ratings,
    ])?;
    let run = submitted
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    say(format!(
        "run {run}: waiting until Spark trains the global model"
    ));
    wait(PIPELINE, "the training", || {
        let detail = cluster.status(&run)?;
        let state = detail["state"].as_str().unwrap_or_default();
        anyhow::ensure!(
            state == "running",
            "the run is {state} before anything was killed"
        );
        Ok((state_of(&detail, VICTIM_STEP) == Some("running")).then_some(()))
    })?;

    let before = cluster.status(&run)?;
    let (shard, leader) = (before["shard"].clone(), before["coordinator"].clone());
    let name = format!("coordinator-{leader}");
    say(format!(
        "coordinator {leader} leads shard {shard} with this run: kill -9, now"
    ));
    let killed = cluster.kill(&name)?;
    let next = wait(PATIENCE, "another coordinator", || {
        // Those that are left answer; while they elect, they may not.
        let Ok(detail) = cluster.status(&run) else {
            return Ok(None);
        };
        Ok((detail["coordinator"] != leader).then(|| detail["coordinator"].clone()))
    })?;
    println!(
        "   coordinator {next} leads it {} ms after the kill, and answers; Spark trains on",
        killed.elapsed().as_millis()
    );

    let mut last = String::new();
    let ended = wait(PIPELINE, "the end of the pipeline", || {
        let detail = cluster.status(&run)?;
        let running = names(&detail, "running");
        if running != last && !running.is_empty() {
            println!("   running: {running}");
        }
        last = running;
        Ok((detail["state"] != "running").then_some(detail))
    })?;
    cluster.show(&["status", &run])?;
    anyhow::ensure!(
        ended["state"] == "succeeded",
        "the run {}: {}",
        ended["state"],
        ended["error"]
    );
    let step = step(&ended, VICTIM_STEP).context("the step is gone")?;
    println!(
        "   {VICTIM_STEP}: {} attempt(s), {} of the platform's retries used: its task was adopted, not run again",
        step["attempts"], step["retries_used"]["platform"]
    );
    say(format!("starting {name} again: it catches up"));
    cluster.coordinator(leader.as_u64().context("a coordinator has a number")?)?;
    cluster.await_up()?;
    cluster.show(&["cluster", "status"])
}

impl Cluster {
    fn start(tools: &Tools) -> anyhow::Result<Self> {
        let folder = cache()?.join("demo-cluster");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(folder.join("store"))?;
        let mut cluster = Self {
            path: tools.path.clone(),
            processes: Vec::new(),
            folder,
        };
        cluster.configure()?;
        let address = ["--port", "5050"];
        cluster.spawn("master", "minimesos", |command| {
            command
                .arg("master")
                .args(address)
                .args(["--work_dir", "master"]);
        })?;
        // On one machine, no two may offer the same ports.
        for (agent, ports) in [("agent-1", "[31000-31499]"), ("agent-2", "[31500-31999]")] {
            let resources = format!("cpus:4;mem:4096;disk:10000;ports:{ports}");
            cluster.spawn(agent, "minimesos", |command| {
                command
                    .args(["agent", "--master", "http://127.0.0.1:5050", "--work-dir"])
                    .arg(agent)
                    .args(["--resources", &resources]);
            })?;
        }
        for node in 1..=3 {
            cluster.coordinator(node)?;
        }
        cluster.await_up()?;
        Ok(cluster)
    }

    /// The configuration of three nodes that ships with Meson, with this machine's paths.
    fn configure(&self) -> anyhow::Result<()> {
        let shipped = root().join("cluster-config/three-nodes.toml");
        let text = std::fs::read_to_string(&shipped)
            .with_context(|| format!("cannot read {}", shipped.display()))?;
        let store = format!("file://{}", self.folder.join("store").display());
        let text = text
            .replace("file:///var/lib/meson/store", &store)
            .replace("/usr/local/bin/meson-executor", &binary("meson-executor")?);
        std::fs::write(self.folder.join("cluster.toml"), text)?;
        shell::run_quietly(
            program(target("debug").join("mesonctl"))
                .current_dir(&self.folder)
                .args([
                    "certs",
                    "init",
                    "certs",
                    "--cluster",
                    "example",
                    "--nodes",
                    "1-3",
                ]),
        )?;
        let mut random = [0; 32];
        std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut random)?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(self.folder.join("secret"), secret)?;
        Ok(())
    }

    fn coordinator(&mut self, node: u64) -> anyhow::Result<()> {
        self.spawn(&format!("coordinator-{node}"), "mesond", |command| {
            command
                .args(["start", "--config", "cluster.toml", "--node"])
                .arg(node.to_string());
        })
    }

    fn spawn(
        &mut self,
        name: &str,
        program: &str,
        arguments: impl FnOnce(&mut Command),
    ) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("{name}.log")))?;
        let mut command = Command::new(binary(program)?);
        arguments(&mut command);
        let child = command
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        self.processes.push((name.to_owned(), child));
        Ok(())
    }

    /// kill −9; when that was.
    fn kill(&mut self, name: &str) -> anyhow::Result<Instant> {
        let at = self.processes.iter().position(|(known, _)| known == name);
        let (_, mut child) = self
            .processes
            .remove(at.with_context(|| format!("{name} does not run"))?);
        child.kill()?;
        let now = moment();
        child.wait()?;
        Ok(now)
    }

    /// Waits until every coordinator is up and every shard is led.
    fn await_up(&self) -> anyhow::Result<()> {
        wait(PATIENCE, "all coordinators to be up", || {
            let Ok(view) = self.mesonctl(&["cluster", "status", "--json"]) else {
                return Ok(None);
            };
            let view: Value = serde_json::from_str(&view)?;
            let all = |list: &Value, good: &dyn Fn(&Value) -> bool| {
                list.as_array().is_some_and(|items| items.iter().all(good))
            };
            let up = all(&view["nodes"], &|node| node["state"] == "up")
                && all(&view["shards"], &|shard| !shard["leader"].is_null());
            Ok(up.then_some(()))
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(target("debug").join("mesonctl"));
        let urls = "http://127.0.0.1:7071,http://127.0.0.1:7072,http://127.0.0.1:7073";
        command.args(arguments).env("MESON_URL", urls);
        command
    }

    fn mesonctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!(
                "mesonctl {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn show(&self, arguments: &[&str]) -> anyhow::Result<()> {
        shell::run(&mut self.command(arguments))
    }

    fn status(&self, run: &str) -> anyhow::Result<Value> {
        let text = self.mesonctl(&["status", run, "--json"])?;
        serde_json::from_str(&text).context("mesonctl printed something else than JSON")
    }
}

impl Drop for Cluster {
    /// Agents first, so that they see their executors ended; SIGUSR1 tells them to.
    fn drop(&mut self) {
        let signal = |name: &str| {
            if name.starts_with("agent") {
                "-USR1"
            } else {
                "-TERM"
            }
        };
        for (name, child) in self.processes.iter_mut().rev() {
            let pid = child.id().to_string();
            let _ = shell::succeeds(program("kill").args([signal(name), &pid]));
        }
        for (_, child) in &mut self.processes {
            let until = moment() + Duration::from_secs(15);
            while moment() < until && matches!(child.try_wait(), Ok(None)) {
                pause();
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn binary(name: &str) -> anyhow::Result<String> {
    let path: PathBuf = target("debug").join(name);
    let path = Path::new(&path)
        .canonicalize()
        .with_context(|| format!("{} is not built", path.display()))?;
    Ok(path.display().to_string())
}

fn step<'a>(detail: &'a Value, name: &str) -> Option<&'a Value> {
    detail["steps"]
        .as_array()?
        .iter()
        .find(|step| step["name"] == name)
}

fn state_of<'a>(detail: &'a Value, name: &str) -> Option<&'a str> {
    step(detail, name)?["state"].as_str()
}

/// The steps in this state, for a line of text.
fn names(detail: &Value, state: &str) -> String {
    let steps = detail["steps"].as_array().into_iter().flatten();
    let named = steps.filter(|step| step["state"] == state);
    let named: Vec<&str> = named.filter_map(|step| step["name"].as_str()).collect();
    named.join(", ")
}

/// Looks until there is something to see.
fn wait<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let until = moment() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if moment() > until {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program for people, by the machine's clock"
)]
fn moment() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at other processes"
)]
fn pause() {
    std::thread::sleep(LOOK);
}
