//! `minimesos master`, `minimesos agent`: the two halves as programs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Parser, Subcommand};
use minimesos::agent::cli::AgentArgs;
use minimesos::agent::{self, command_executor};
use minimesos::master::{self, MasterOptions};
use tracing_subscriber::EnvFilter;

/// A small Mesos: one master and its agents.
#[derive(Debug, Parser)]
#[command(version)]
struct Program {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Runs a master: offers the resources of its agents to schedulers
    Master(MasterArgs),
    /// Runs an agent: starts executors on this machine
    Agent(AgentArgs),
    /// Runs one task's command for the agent that starts this
    #[command(name = command_executor::ARGUMENT, hide = true)]
    CommandExecutor,
}

#[derive(Debug, clap::Args)]
struct MasterArgs {
    /// The address to serve on
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// The port to serve on; 0 takes a free one
    #[arg(long, default_value_t = 5050)]
    port: u16,
    /// The folder of the registry; without it, the registry is kept in memory
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Seconds between two pings to an agent
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0)]
    agent_ping_timeout: f64,
    /// So many pings without an answer make an agent unreachable
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_agent_ping_timeouts: u32,
    /// Seconds between two rounds of offers
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    allocation_interval: f64,
}

fn seconds(name: &str, seconds: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(seconds).with_context(|| format!("--{name} {seconds}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a binary is where the machine's clock enters"
)]
fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

async fn run_master(args: MasterArgs) -> anyhow::Result<()> {
    let mut options = MasterOptions::new(wall_clock());
    options.ip = args.ip;
    options.port = args.port;
    options.work_dir = args.work_dir;
    options.agent_ping_timeout = seconds("agent-ping-timeout", args.agent_ping_timeout)?;
    options.max_agent_ping_timeouts = args.max_agent_ping_timeouts;
    options.allocation_interval = seconds("allocation-interval", args.allocation_interval)?;
    let handle = master::start(options).await?;
    println!("ready {}", handle.url());
    tokio::signal::ctrl_c().await?;
    handle.stop().await;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let role = Program::parse().role;
    if matches!(role, Role::CommandExecutor) {
        // Its output is the task's: it logs nothing and ends quickly.
        return Ok(command_executor::run()?);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    actix_rt::System::new().block_on(async {
        match role {
            Role::Master(args) => run_master(args).await,
            Role::Agent(args) => Ok(agent::run(args.into_options()?).await?),
            Role::CommandExecutor => Ok(()),
        }
    })
}
