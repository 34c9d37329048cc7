//! A Meson coordinator.
//!
//! * [`config`]: the configuration file. * [`cluster`]: other coordinators.
//! * [`coordinator`]: wires a node together; [`pools`]: the brokers of its pools.
//! * [`dev`]: a coordinator with an embedded Mesos, for laptops; [`agent`]: its agents, as child
//!   processes of the same binary.
//! * [`exit`]: the exit code of what went wrong.
//! * [`system`]: the clock, the threads and the seed that everything else is given.

mod agent;
mod cluster;
mod config;
mod coordinator;
mod dev;
mod exit;
mod pools;
mod system;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Runs machine-learning pipelines: a coordinator of a Meson cluster.
#[derive(Parser)]
#[command(name = "mesond", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One coordinator with an embedded Mesos: everything that a laptop needs.
    Dev(dev::Options),
    /// A coordinator of a cluster.
    Start {
        /// Its configuration.
        #[arg(long)]
        config: PathBuf,
        /// Which of the cluster's members this is, if the file is the same for all of them.
        #[arg(long, value_name = "NUMBER")]
        node: Option<u64>,
    },
    /// An agent of `mesond dev`.
    #[command(hide = true)]
    Agent(agent::Options),
    /// What an agent runs plain commands with.
    #[command(hide = true)]
    #[command(name = "command-executor")]
    Plain,
}

/// What is logged unless `MESON_LOG` says otherwise. Raft warns of every heartbeat that a dead node does
/// not answer, hundreds in a second; the mesh says once that the node is gone.
const LOG: &str = "warn,openraft=error,mesond=info,meson_engine=info,meson_transport=info";

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let filter = EnvFilter::try_from_env("MESON_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    // One implementation of TLS for everything; said once, before anybody needs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = match command {
        Command::Dev(options) => system::run(dev::run(options)),
        Command::Start { config, node } => system::run(coordinator::run(config, node)),
        Command::Agent(options) => system::run(agent::run(options)),
        Command::Plain => agent::command_executor(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesond: {error:#}");
            ExitCode::from(exit::code(&error))
        }
    }
}
