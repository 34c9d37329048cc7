//! `minimesos master`, `minimesos agent`: the two halves as programs.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use minimesos::agent::cli::AgentArgs;
use minimesos::agent::{self, command_executor};
use minimesos::master;
use minimesos::master::cli::MasterArgs;
use tokio::signal::unix::{SignalKind, signal};
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
    let handle = master::start(args.into_options(wall_clock())).await?;
    println!("ready {}", handle.url());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let lost = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        why = handle.lost() => Some(why),
    };
    handle.stop().await;
    match lost {
        Some(why) => anyhow::bail!("this master leads no more and ends: {why}"),
        None => Ok(()),
    }
}

/// The real ones' flags have underscores (`--work_dir`); both spellings are understood.
fn with_dashes(argument: OsString) -> OsString {
    let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else {
        return argument;
    };
    let (flag, value) = text.split_at(text.find('=').unwrap_or(text.len()));
    format!("{}{value}", flag.replace('_', "-")).into()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minimesos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let role = Program::parse_from(std::env::args_os().map(with_dashes)).role;
    if matches!(role, Role::CommandExecutor) {
        // Its output is the task's: it logs nothing and ends quickly.
        return Ok(command_executor::run()?);
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
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
