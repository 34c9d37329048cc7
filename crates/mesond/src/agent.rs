//! An agent of `mesond dev`: a child process of the same binary, so that it can be killed and comes
//! back as an agent of a cluster would.

use std::path::PathBuf;

use clap::Args;
use minimesos::agent::{AgentOptions, parse_attributes, parse_resources};

/// How the agent is started; only `mesond dev` does.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The master.
    #[arg(long)]
    master: String,
    /// Its folder.
    #[arg(long)]
    work_dir: PathBuf,
    /// As the master's `--resources`.
    #[arg(long, default_value = "")]
    resources: String,
    /// As the master's `--attributes`.
    #[arg(long, default_value = "")]
    attributes: String,
    /// Its name for people.
    #[arg(long)]
    hostname: String,
    /// Whether it limits the memory of containers.
    #[arg(long)]
    limit_memory: bool,
}

/// Runs until told to end.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    // The parent may already be gone by the time this is asked for: then the parent is init.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    let mut agent = AgentOptions::new(options.master, options.work_dir);
    agent.resources = parse_resources(&options.resources)?;
    agent.attributes = parse_attributes(&options.attributes)?;
    agent.hostname = Some(options.hostname);
    agent.limit_memory = options.limit_memory;
    minimesos::agent::run(agent).await?;
    Ok(())
}

/// What an agent runs plain commands with.
pub(crate) fn command_executor() -> anyhow::Result<()> {
    Ok(minimesos::agent::command_executor::run()?)
}
