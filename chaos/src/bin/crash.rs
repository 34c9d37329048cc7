//! `crash --rounds N --seed S`: kill a node N times, and check what it promised. See `README.md`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use meson_chaos::crash::{ChildPlan, Plan, PowerLoss, run, run_child};

#[derive(Parser)]
#[command(
    about = "Kills a consensus node over and over, and checks that nothing it acknowledged is lost, doubled or reordered"
)]
struct Args {
    #[command(subcommand)]
    command: Option<Role>,
    /// How many times to kill.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// For the moments of the kills and the sizes of commands.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Shards of the node.
    #[arg(long, default_value_t = 3)]
    shards: u16,
    /// Writers per shard, each of which waits for an acknowledgement before its next command.
    #[arg(long, default_value_t = 4)]
    writers: u16,
    /// Damage the journal's unsynced tail after each kill, as a power loss may.
    #[arg(long)]
    power_loss: Option<Damage>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Damage {
    /// The tail ends early.
    Cut,
    /// Some of its pages are zero.
    Torn,
}

#[derive(Subcommand)]
enum Role {
    /// The process that is killed. Started by the harness.
    #[command(hide = true)]
    Child {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        shards: u16,
        #[arg(long)]
        writers: u16,
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        power_loss: bool,
    },
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Role::Child {
        dir,
        shards,
        writers,
        seed,
        power_loss,
    }) = args.command
    {
        return run_child(ChildPlan {
            dir,
            shards,
            writers,
            seed,
            power_loss,
        })
        .await;
    }
    let plan = Plan {
        program: std::env::current_exe().context("find this program")?,
        rounds: args.rounds,
        seed: args.seed,
        shards: args.shards,
        writers: args.writers,
        power_loss: args.power_loss.map(|damage| match damage {
            Damage::Cut => PowerLoss::Cut,
            Damage::Torn => PowerLoss::Torn,
        }),
        verbose: true,
    };
    let report = run(&plan).await?;
    println!(
        "{} kills ({} while opening), {} commands acknowledged and found, {} more committed before their \
         acknowledgement was told; journal damaged {} times, {} bytes lost; slowest reopening and comparison {:?}",
        report.rounds,
        report.killed_while_opening,
        report.acknowledged,
        report.committed_silently,
        report.struck,
        report.bytes_lost,
        report.slowest_reopening,
    );
    Ok(())
}
