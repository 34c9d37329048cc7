//! `cargo xtask demo`: the recommendation pipeline on this machine, from nothing; with `--cluster`,
//! on three coordinators, one of which is killed ([`cluster`]).

mod cluster;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::setup::{self, Tools};
use crate::shell::{self, cache, cargo, program, root, say, target};

/// How to run it.
#[derive(Args)]
pub(crate) struct Options {
    /// The month to train on: the same one again finds its artifacts and skips what it may.
    #[arg(long, default_value = "2026-11")]
    cohort: String,
    /// Where the coordinator listens.
    #[arg(long, default_value = "127.0.0.1:7070")]
    http: String,
    /// Forget all earlier demos first.
    #[arg(long)]
    fresh: bool,
    /// Three coordinators and two agents; the coordinator that leads the pipeline is killed in the
    /// middle of it. Always begins from nothing.
    #[arg(long, conflicts_with_all = ["fresh", "http"])]
    cluster: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let tools = setup::tools()?;
    say("building mesond, mesonctl and the executor");
    shell::run(cargo().args([
        "build",
        "--quiet",
        "-p",
        "mesond",
        "-p",
        "mesonctl",
        "-p",
        "meson-executor",
        "-p",
        "minimesos",
    ]))?;
    if options.cluster {
        return cluster::run(&options.cohort, &tools);
    }

    let data = cache()?.join("demo");
    if options.fresh && data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    let coordinator = Coordinator::start(&data, &options.http, &tools)?;
    say(format!("a coordinator serves at {}", coordinator.url));

    say("running the recommendation pipeline");
    let file = root().join("examples/recommendations/recommendations.star");
    let mut submit = mesonctl(&coordinator.url);
    submit
        .arg("run")
        .arg(file)
        .args(["--wait", "--param"])
        .arg(format!("cohort={}", options.cohort));
    shell::run(
        submit
            .arg("--param")
            .arg(format!("ratings={}", tools.ratings.display())),
    )?;

    say("the models' errors on held-out ratings, and what was published");
    let artifact = cache()?.join("published");
    if artifact.exists() {
        std::fs::remove_dir_all(&artifact)?;
    }
    let id = format!("published-{}", options.cohort);
    shell::run(mesonctl(&coordinator.url).args(["artifacts", "show", "published_model", &id]))?;
    shell::run_quietly(
        mesonctl(&coordinator.url)
            .args(["artifacts", "fetch", "published_model", &id, "--to"])
            .arg(&artifact),
    )?;
    for file in ["manifest.json", "scores.json"] {
        let path = artifact.join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the published artifact has no {}", path.display()))?;
        println!("{file}: {}", text.trim());
    }
    Ok(())
}

fn mesonctl(url: &str) -> Command {
    let mut command = program(target("debug").join("mesonctl"));
    command.env("MESON_URL", url);
    command
}

/// A `mesond dev` that ends with us.
struct Coordinator {
    process: Child,
    url: String,
}

impl Coordinator {
    fn start(data: &Path, http: &str, tools: &Tools) -> anyhow::Result<Self> {
        let mut process = program(target("debug").join("mesond"))
            .arg("dev")
            .arg("--data")
            .arg(data)
            .args(["--http", http])
            .env("PATH", &tools.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start mesond")?;
        let stdout = process.stdout.take().context("mesond has no output")?;
        let mut coordinator = Self {
            process,
            url: String::new(),
        };
        let (sender, lines) = mpsc::sync_channel(16);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
            if let Some(url) = line.strip_prefix("ready ") {
                coordinator.url = url.trim().to_owned();
                return Ok(coordinator);
            }
        }
        bail!("mesond did not get ready; is something else listening at {http}?");
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = shell::succeeds(program("kill").arg(self.process.id().to_string()));
        let _ = self.process.wait();
    }
}
