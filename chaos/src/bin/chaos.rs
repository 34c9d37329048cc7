//! `chaos --scenario NAME --rounds N --seed S`: break a cluster N times, and check what it promised. See
//! `README.md`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use meson_chaos::{
    report::{table, timeline},
    scenarios::{Outcome, Plan, Scenario, run},
    settings::Settings,
};
use tokio::signal::unix::{SignalKind, signal};

/// Starts a cluster of real processes, breaks it on purpose under load, and checks the promises.
#[derive(Parser)]
#[command(bin_name = "cargo xtask chaos", max_term_width = 100)]
struct Args {
    /// What to break: a name of --list, several with commas in between, or `all`.
    #[arg(long, value_delimiter = ',', default_value = "leader-kill")]
    scenario: Vec<String>,
    /// How many faults, one after the other.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// For every random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the names of all scenarios.
    #[arg(long)]
    list: bool,
    /// Keep data and logs also if all went well.
    #[arg(long)]
    keep: bool,
    /// Where the table and the timelines are written.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Where mesond, mesonctl, minimesos and meson-executor are [default: beside this program].
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Nodes, regions, timing, distances and load, in TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for scenario in Scenario::ALL {
            println!("{}", scenario.name());
        }
        return ExitCode::SUCCESS;
    }
    let outcome = tokio::select! {
        outcome = run_all(&args) => outcome,
        // What was started ends with the cluster's handle, which is dropped here.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        () = terminated() => Err(anyhow::anyhow!("terminated")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Resolves when somebody else wants this process to end.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// Whether all promises were kept.
async fn run_all(args: &Args) -> Result<bool> {
    let scenarios = scenarios(&args.scenario)?;
    let settings = match &args.config {
        Some(path) => Settings::read(path)?,
        None => Settings::default(),
    };
    let bin = match &args.bin {
        Some(bin) => bin.clone(),
        None => std::env::current_exe()?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
    };
    let data = tempfile::Builder::new()
        .prefix("meson-chaos-")
        .tempdir()
        .context("make a folder for data and logs")?;
    let mut outcomes = Vec::new();
    let mut failure = None;
    for scenario in scenarios {
        if let Some(reason) = scenario.impossible(&settings) {
            println!("SKIPPED {}: {reason}", scenario.name());
            continue;
        }
        println!(
            "{} (seed {}): {}",
            scenario.name(),
            args.seed,
            scenario.proves()
        );
        let plan = Plan {
            scenario,
            rounds: args.rounds,
            seed: args.seed,
            bin: bin.clone(),
            folder: data.path().join(scenario.name()),
            settings: settings.clone(),
            loud: true,
        };
        match run(&plan).await {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => {
                failure =
                    Some(error.context(format!("{} did not come to its end", scenario.name())));
                break;
            }
        }
    }
    let text = table(&outcomes);
    if !outcomes.is_empty() {
        println!("\n{text}");
    }
    let kept = outcomes.iter().all(|outcome| outcome.violations.is_empty());
    if let Some(folder) = &args.report {
        write_report(folder, &text, &outcomes)?;
    }
    if args.keep || !kept || failure.is_some() {
        println!("data and logs: {}", data.keep().display());
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(kept),
    }
}

fn scenarios(names: &[String]) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for name in names {
        match Scenario::named(name) {
            Some(scenario) => scenarios.push(scenario),
            None if name == "all" => scenarios.extend(Scenario::ALL),
            None => bail!("there is no scenario {name:?}; --list shows all"),
        }
    }
    Ok(scenarios)
}

fn write_report(folder: &Path, text: &str, outcomes: &[Outcome]) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let write = |name: String, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("report: {}", path.display());
        anyhow::Ok(())
    };
    write("chaos.txt".to_owned(), text)?;
    for outcome in outcomes {
        let name = format!("{}-{}.html", outcome.scenario.name(), outcome.history.seed);
        write(name, &timeline(outcome))?;
    }
    Ok(())
}
