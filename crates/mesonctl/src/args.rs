//! The command line as people type it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

/// Runs machine-learning pipelines on a Meson cluster.
#[derive(Parser)]
#[command(name = "mesonctl", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Coordinators, tried in turn.
    #[arg(
        long,
        global = true,
        env = "MESON_URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7070",
        value_name = "URL,URL…"
    )]
    pub(crate) url: Vec<String>,
    /// Give up on a request after so many seconds.
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) timeout: u64,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Compile a workflow, look for mistakes and draw its graph; nothing is run.
    Check {
        /// The workflow.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        params: Params,
    },
    /// Submit a workflow; prints the run's id first.
    Run {
        /// The workflow.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        params: Params,
        /// Wait until the run has ended; exit with 1 if it did not succeed.
        #[arg(long)]
        wait: bool,
        /// Run steps even if their artifacts exist.
        #[arg(long)]
        force: bool,
    },
    /// List runs, newest first.
    Runs {
        /// Only those of this workflow.
        #[arg(long)]
        workflow: Option<String>,
        /// Only those in this state.
        #[arg(long, value_parser = ["running", "succeeded", "failed", "cancelled"])]
        state: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show how far a run is.
    Status {
        /// The run.
        run: String,
        /// Follow it until it ends.
        #[arg(long)]
        watch: bool,
    },
    /// Print what steps wrote.
    Logs {
        /// The run.
        run: String,
        /// Only this step; all of them otherwise.
        step: Option<String>,
        /// Only this iteration, like 3 or 2-17.
        #[arg(long)]
        iteration: Option<String>,
        /// Only this attempt; the last one otherwise.
        #[arg(long)]
        attempt: Option<u32>,
        /// Only this stream.
        #[arg(long, value_parser = ["stdout", "stderr"])]
        stream: Option<String>,
        /// Go on as more is written, until the run ends.
        #[arg(short, long)]
        follow: bool,
    },
    /// Say why a step is not running.
    Explain {
        /// The run.
        run: String,
        /// The step.
        step: String,
        /// The iteration, like 3 or 2-17.
        #[arg(long)]
        iteration: Option<String>,
    },
    /// End a run; what runs is killed.
    Cancel {
        /// The run.
        run: String,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a run that has ended go on: what did not succeed, or everything from a step on.
    Retry {
        /// The run.
        run: String,
        /// The step to start from.
        #[arg(long, value_name = "STEP")]
        from: Option<String>,
    },
    /// Show what happened in a run, event by event.
    History {
        /// The run.
        run: String,
    },
    /// List, show and fetch artifacts.
    Artifacts {
        #[command(subcommand)]
        command: Option<ArtifactCommand>,
    },
    /// Look at the cluster.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

#[derive(Args)]
pub(crate) struct Params {
    /// A value for one of the workflow's parameters.
    #[arg(long = "param", short = 'p', value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) params: Vec<(String, String)>,
}

#[derive(Subcommand)]
pub(crate) enum ArtifactCommand {
    /// List artifacts, with the run and step that made each.
    List {
        /// Only those of this name.
        name: Option<String>,
    },
    /// Show one.
    Show {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Copy one here.
    Fetch {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// Where to; its name in the current folder otherwise.
        #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        to: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show coordinators and shards.
    Status,
    /// Hand a shard's leadership to a node.
    Transfer {
        /// The shard's number.
        shard: u16,
        /// The node's number.
        node: u64,
    },
    /// Let a node lead nothing any more, before it is stopped; its restart ends that.
    Drain {
        /// The node's number.
        node: u64,
        /// End it: the node takes part again.
        #[arg(long)]
        off: bool,
    },
    /// Let a node that runs with `join = true` into the cluster.
    Join {
        /// The node's number: one that was never used.
        node: u64,
        /// Where other nodes reach it: host:port of its [cluster] section.
        #[arg(long, value_name = "HOST:PORT")]
        addr: String,
        /// Its HTTP API.
        #[arg(long, value_name = "URL", default_value = "")]
        http: String,
        /// Its region.
        #[arg(long, default_value = "")]
        region: String,
        /// Its zone.
        #[arg(long, default_value = "")]
        zone: String,
    },
    /// Take a node out of the cluster, for good.
    Remove {
        /// The node's number.
        node: u64,
    },
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as name=value".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_parameter_needs_a_name_and_keeps_every_sign_of_its_value() {
        assert_eq!(parameter("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parameter("a="), Ok(("a".to_owned(), String::new())));
        assert!(parameter("=b").is_err() && parameter("a").is_err());
    }
}
