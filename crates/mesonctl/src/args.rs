//! The command line as people type it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

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
    /// Give up on a request after so many seconds, however many coordinators are tried.
    #[arg(
        long,
        global = true,
        default_value_t = 30,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
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
    /// Say why a step is not running; without a step, of all that are not done.
    Explain {
        /// The run.
        run: String,
        /// The step.
        step: Option<String>,
        /// The iteration, like 3 or 2-17.
        #[arg(long, requires = "step")]
        iteration: Option<String>,
    },
    /// Show what the steps of a workflow asked for and used in recent runs, and what they should ask for.
    Profile {
        /// The workflow's name.
        workflow: String,
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
    /// Look at the pools of resources.
    Pool {
        #[command(subcommand)]
        command: Option<PoolCommand>,
    },
    /// Look at the cluster.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Make and look at the certificates by which coordinators know each other.
    Certs {
        #[command(subcommand)]
        command: CertsCommand,
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
pub(crate) enum PoolCommand {
    /// Show all pools: who waits, what runs, and whether launching has stopped.
    List,
    /// Let launching go on that has stopped by itself because too much was lost at once.
    Release {
        /// The pool's name.
        pool: String,
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
    /// Let a node that runs with `join = true` into the cluster. It gets a copy of everything first:
    /// five minutes are allowed for that even if --timeout says less.
    Join {
        /// The node's number: one that was never used.
        node: u64,
        /// Where other nodes reach it: host:port, as its configuration says.
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

#[derive(Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a cluster's authority, if there is none, and certificates for nodes that have none.
    Init {
        /// Where the authority is kept.
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// The cluster's name: a-z, 0-9 and `-`.
        #[arg(long, value_name = "NAME")]
        cluster: String,
        /// The numbers of the nodes, like 1,2,3 or 1-3.
        #[arg(long, value_name = "NUMBERS", value_parser = Nodes::from_str)]
        nodes: Nodes,
        /// How long the certificates last.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Make a new certificate for one node, in place of the one that it has.
    Issue {
        /// Where the authority is kept.
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// The number of the node.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        node: u64,
        /// How long the certificate lasts.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Show whose certificates there are, and when they end.
    Show {
        /// The authority's folder, or a node's.
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

/// Numbers of nodes, each once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nodes(pub(crate) Vec<u64>);

impl FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            part.trim().parse::<u64>().map_err(|_| {
                format!("{part:?} is no number; write numbers of nodes like 1,2,3 or 1-3")
            })
        };
        let mut numbers = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(format!(
                    "{part:?} runs backwards; write the smaller number first"
                ));
            }
            if first == 0 {
                return Err("0 is no number of a node: count from 1".to_owned());
            }
            if last - first >= MAX_NODES {
                return Err(format!("{part:?} is more than {MAX_NODES} nodes"));
            }
            numbers.extend(first..=last);
        }
        Ok(Self(numbers.into_iter().collect()))
    }
}

/// More nodes than this at a time are a slip of the hand.
const MAX_NODES: u64 = 1000;

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

    #[test]
    fn nodes_are_lists_and_ranges_each_number_once() {
        let nodes = |text: &str| text.parse::<Nodes>();
        assert_eq!(nodes("1,2,3"), Ok(Nodes(vec![1, 2, 3])));
        assert_eq!(nodes("1-3,2, 7"), Ok(Nodes(vec![1, 2, 3, 7])));
        for wrong in [
            "",
            "one",
            "1,",
            "3-1",
            "1-",
            "-1",
            "1-99999999999",
            "0",
            "0-2",
        ] {
            assert!(nodes(wrong).is_err(), "{wrong}");
        }
    }
}
