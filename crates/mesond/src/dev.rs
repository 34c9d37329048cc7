//! `mesond dev`: one coordinator, one Mesos master in the same process, agents as child processes.
//!
//! When the coordinator is killed, the agents die with it and the executors do not: started again
//! on the same data, agents recover their checkpoints, executors come back to them, and steps go on.
//! When it is asked to end (SIGINT, SIGTERM), it takes everything down with it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures::future::join_all;
use minimesos::master::{MasterError, MasterHandle, MasterOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::config::{
    AnyPool, Brake, Config, Executor, Http, Keeping, MasterNames, Node, Pacing, Packing, Pool,
    PoolEncoding, Snapshots, Spill, Store,
};
use crate::coordinator::Coordinator;
use crate::system;

/// How to run it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Where everything is kept.
    #[arg(long, default_value = "meson-data", value_name = "DIR")]
    data: PathBuf,
    /// Where the API is served.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDR")]
    http: String,
    /// How many agents.
    #[arg(long, default_value_t = 2, value_name = "N")]
    agents: usize,
    /// What each agent has, like `cpus:4;mem:8192`; this machine's share otherwise. Ports 31000 to 32000
    /// are shared out among the agents, unless it names `ports`.
    #[arg(long, value_name = "RESOURCES")]
    resources: Option<String>,
    /// End steps that use more memory than they asked for, as a cluster with limits does: by the
    /// executor (`steps`), or by the agent, which ends the executor and all that it runs (`agents`).
    #[arg(long, value_name = "BY", num_args = 0..=1, require_equals = true, default_missing_value = "steps")]
    enforce_memory: Option<Enforce>,
}

/// Who sees to it that steps use no more memory than they asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Enforce {
    /// The executor.
    Steps,
    /// The agent.
    Agents,
}

/// The ports that a Mesos agent offers unless it is told otherwise, as first and last.
const PORTS: (usize, usize) = (31_000, 32_000);
/// Time for agents to end their executors.
const LEAVE: Duration = Duration::from_secs(8);
/// An agent that ends is started again after this.
const AGENT_AGAIN: Duration = Duration::from_millis(200);

/// Runs until told to end.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let data = prepare(&options.data)?;
    let master = start_master(&data).await?;
    let (ending, ended) = watch::channel(false);
    let agents: Vec<_> = (1..=options.agents)
        .map(|number| {
            actix_rt::spawn(keep_agent(
                agent_command(&options, &data, &master, number),
                number,
                ended.clone(),
            ))
        })
        .collect();
    let coordinator = Coordinator::start(config(&options, &data, &master)?).await?;
    let ending_signal = system::end_signal()?;
    println!("ready {}", coordinator.url());

    let failed = tokio::select! {
        reason = coordinator.failed() => Some(reason),
        () = ending_signal => None,
    };
    tracing::info!(
        "ending: steps that run are stopped, and go on as new attempts at the next start"
    );
    ending.send_replace(true);
    join_all(agents).await;
    coordinator.stop().await;
    master.stop().await;
    match failed {
        Some(reason) => anyhow::bail!("the coordinator gave up: {reason}"),
        None => Ok(()),
    }
}

fn prepare(data: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(data)
        .with_context(|| format!("cannot make the data folder {}", data.display()))?;
    for part in ["store", "mesos/master", "mesos/agents"] {
        let folder = data.join(part);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
    }
    data.canonicalize()
        .with_context(|| format!("cannot use the data folder {}", data.display()))
}

/// The master keeps its port from one start to the next: agents come back to it.
async fn start_master(data: &Path) -> anyhow::Result<MasterHandle> {
    let file = data.join("mesos/master/port");
    let mut options = MasterOptions::new(system::wall_clock());
    options.work_dir = Some(data.join("mesos/master"));
    // A laptop's agents are processes beside the master: what does not answer for 3 s is gone.
    options.agent_ping_timeout = Duration::from_secs(1);
    options.max_agent_ping_timeouts = 3;
    options.port = std::fs::read_to_string(&file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    let master = match minimesos::master::start(options.clone()).await {
        Err(MasterError::Bind { .. }) if options.port != 0 => {
            tracing::warn!(
                port = options.port,
                "the embedded master's port is taken; using another one"
            );
            options.port = 0;
            minimesos::master::start(options).await?
        }
        other => other?,
    };
    std::fs::write(&file, master.addr.port().to_string())
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(master)
}

fn agent_command(options: &Options, data: &Path, master: &MasterHandle, number: usize) -> Command {
    let mut command = Command::new(own_binary());
    command
        .arg("agent")
        .args(["--master", &master.url()])
        .arg("--work-dir")
        .arg(data.join(format!("mesos/agents/{number}")))
        .args(["--hostname", &format!("agent-{number}")])
        .args(["--attributes", "disk:ssd"])
        .args(["--resources", &resources(options, number)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    if options.enforce_memory == Some(Enforce::Agents) {
        command.arg("--limit-memory");
    }
    command
}

/// What an agent offers. All of them are on one machine, so each has ports of its own.
fn resources(options: &Options, number: usize) -> String {
    let asked = options.resources.clone();
    let asked = asked.unwrap_or_else(|| share(options.agents));
    if asked
        .split(';')
        .any(|resource| resource.trim_start().starts_with("ports"))
    {
        return asked;
    }
    let (first, last) = PORTS;
    let all = last - first + 1;
    let each = (all / options.agents.max(1)).max(1);
    let begin = first + (number.saturating_sub(1) % all) * each;
    format!("{asked};ports:[{begin}-{}]", begin + each - 1)
}

/// All cores for each agent, since laptops' steps seldom use what they ask for; memory is shared out.
fn share(agents: usize) -> String {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mib = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            text.lines()
                .next()?
                .split_whitespace()
                .nth(1)?
                .parse::<usize>()
                .ok()
        })
        .map_or(4096, |kib| kib / 1024);
    format!(
        "cpus:{};mem:{};disk:{}",
        cpus.max(2),
        (mib * 3 / 4 / agents.max(1)).max(256),
        10_240
    )
}

/// Starts the agent again whenever it ends, until we end.
async fn keep_agent(mut command: Command, number: usize, mut ended: watch::Receiver<bool>) {
    while !*ended.borrow() {
        match command.spawn() {
            Ok(mut child) => {
                tokio::select! {
                    status = child.wait() => {
                        tracing::warn!(agent = number, ?status, "agent ended; starting it again");
                    }
                    _ = ended.wait_for(|ended| *ended) => {
                        leave(&mut child, number).await;
                        return;
                    }
                }
            }
            Err(error) => tracing::error!(agent = number, %error, "cannot start an agent"),
        }
        tokio::time::sleep(AGENT_AGAIN).await;
    }
}

/// SIGUSR1: the agent ends its executors and leaves.
async fn leave(child: &mut Child, number: usize) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
        return;
    };
    let _ = kill(Pid::from_raw(pid), Signal::SIGUSR1);
    if tokio::time::timeout(LEAVE, child.wait()).await.is_err() {
        tracing::warn!(agent = number, "agent does not end; killing it");
        let _ = child.kill().await;
    }
}

fn config(options: &Options, data: &Path, master: &MasterHandle) -> anyhow::Result<Config> {
    let executor = own_binary().with_file_name("meson-executor");
    anyhow::ensure!(
        executor.is_file(),
        "the executor is not beside this program: {} is missing; build or install meson-executor",
        executor.display()
    );
    let listen = options.http.clone();
    listen.parse::<std::net::SocketAddr>().with_context(|| {
        format!(
            "--http {listen:?} is no address: write it like {}:7070",
            IpAddr::from(Ipv4Addr::LOCALHOST)
        )
    })?;
    Ok(Config {
        node: Node {
            id: 1,
            cluster: "dev".to_owned(),
            region: "local".to_owned(),
            zone: String::new(),
            data: data.join("coordinator"),
            secret: Some(data.join("secret")),
            shards: Some(4),
        },
        http: Http {
            listen,
            advertise: Vec::new(),
        },
        cluster: None,
        snapshots: Snapshots::default(),
        store: Store {
            url: format!("file://{}", data.join("store").display()),
            options: [].into(),
        },
        pools: vec![AnyPool::Mesos(Pool {
            name: "default".to_owned(),
            region: String::new(),
            masters: MasterNames(vec![master.url()]),
            encoding: PoolEncoding::default(),
            credential: None,
            tls: None,
            role: "*".to_owned(),
            user: whoami(),
            executor: Executor {
                command: executor.display().to_string(),
                uri: None,
                cpus: 0.1,
                mem: 64,
                // A laptop may itself be a container with a limit: that one is not about steps.
                memory: Some(match options.enforce_memory {
                    Some(Enforce::Steps) => Keeping::Enforce,
                    Some(Enforce::Agents) | None => Keeping::Measure,
                }),
            },
            keep_gpus: false,
            gpus: true,
            revocable: false,
            region_aware: true,
            owner_roles: BTreeMap::new(),
            constrain_offers: true,
            vacate_before_s: None,
            pacing: Pacing::default(),
            brake: Brake::default(),
            packing: Packing::Spread,
            owners: [].into(),
        })],
        spill: Spill::default(),
    })
}

fn own_binary() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("mesond"))
}

fn whoami() -> String {
    nix::unistd::User::from_uid(nix::unistd::Uid::effective())
        .ok()
        .flatten()
        .map_or_else(|| "root".to_owned(), |user| user.name)
}
