//! A cluster of real processes: coordinators, a Mesos master, its agents, the network between them.
//!
//! `layout` says which file is where and writes configurations, `ports` finds free ones, `process` is one
//! child, `reading` what they count, `left` finds what children of children left behind, `http` speaks to the
//! API, `disk` gives a node a disk that can be full, `clocks` a clock that can be set. What is started here is
//! ended here, whatever happens; nothing else is touched.

mod clocks;
mod disk;
mod http;
mod layout;
mod left;
mod ports;
mod process;
mod reading;
mod view;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use self::{
    layout::{Addresses, Layout},
    process::Process,
};
use crate::{
    history::{Member, Recorder, What},
    proxy::{Network, Shape},
    settings::Settings,
};

pub use self::{
    clocks::library as clock_library,
    disk::SmallDisk,
    http::{Answer, Http},
    layout::Directory,
    reading::Reading,
    view::Leaders,
};

/// Between two looks at a state that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// A process that is not ready by then hangs.
const READY: Duration = Duration::from_secs(60);

/// How long a process may take to end in order, before it is killed.
const LEAVE: Duration = Duration::from_secs(5);

/// How long a coordinator may take to hand over and end.
const STOP: Duration = Duration::from_secs(30);

/// A process that ends by itself is started again, but not sooner than this after its last start.
const START_AGAIN: Duration = Duration::from_secs(1);

/// A running cluster.
pub struct Cluster {
    layout: Layout,
    settings: Settings,
    recorder: Recorder,
    http: Http,
    network: Network,
    nodes: BTreeMap<u64, Process>,
    agents: BTreeMap<u64, Process>,
    /// By their places among the pools.
    masters: BTreeMap<usize, Process>,
    disk: Option<SmallDisk>,
}

impl Cluster {
    /// Starts everything below `folder` and waits until every coordinator is healthy.
    ///
    /// # Errors
    /// A program is missing, or does not get ready; the error has the end of its log.
    pub async fn start(
        bin: &Path,
        folder: &Path,
        settings: &Settings,
        seed: u64,
        small_disk: Option<u64>,
        recorder: &Recorder,
    ) -> Result<Self> {
        let addresses = Addresses::choose(settings, seed)?;
        let layout = Layout::new(bin, folder, addresses, settings)?;
        let network = Network::open(&layout.mesh(), seed).await?;
        for from in 1..=settings.nodes {
            for to in from + 1..=settings.nodes {
                let pair = [settings.region(from), settings.region(to)];
                let distance = settings.distances.iter().find(|distance| {
                    let [one, other] = &distance.between;
                    [one.as_str(), other] == pair || [other.as_str(), one] == pair
                });
                if let Some(distance) = distance {
                    let shape = Shape::slow(distance.one_way_ms, distance.jitter_ms);
                    network.distance(from, to, shape);
                }
            }
        }
        let mut cluster = Self {
            layout,
            settings: settings.clone(),
            recorder: recorder.clone(),
            http: Http::new()?,
            network,
            nodes: BTreeMap::new(),
            agents: BTreeMap::new(),
            masters: BTreeMap::new(),
            disk: None,
        };
        if let Some(node) = small_disk {
            cluster.disk = Some(SmallDisk::mount(&cluster.layout.data(node))?);
        }
        cluster.certificates().await?;
        for node in 1..=settings.nodes {
            cluster.layout.write_config(node, &cluster.network)?;
        }
        for pool in 0..settings.pools().len() {
            cluster.start_master(pool)?;
            cluster.wait_for_master(pool).await?;
        }
        for agent in 1..=settings.agents {
            cluster.start_agent(agent)?;
        }
        for node in 1..=settings.nodes {
            cluster.start_node(node)?;
        }
        for node in 1..=settings.nodes {
            cluster.wait_healthy(node, READY).await?;
        }
        Ok(cluster)
    }

    async fn certificates(&self) -> Result<()> {
        if self.settings.nodes < 2 {
            return Ok(());
        }
        let output = Command::new(self.layout.program("mesonctl")?)
            .args(["certs", "init"])
            .arg(self.layout.certificates())
            .args(["--cluster", layout::CLUSTER, "--nodes"])
            .arg(format!("1-{}", self.settings.nodes))
            .output()
            .await
            .context("run mesonctl certs init")?;
        if !output.status.success() {
            bail!(
                "mesonctl certs init: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// Where everything is, for those who only look.
    #[must_use]
    pub fn directory(&self) -> Directory {
        self.layout.directory()
    }

    /// The coordinators.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        (1..=self.settings.nodes)
            .map(|id| Member {
                id,
                region: self.settings.region(id).to_owned(),
            })
            .collect()
    }

    /// The network between the coordinators.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The disk that one node was given, if it was.
    pub fn disk(&mut self) -> Option<&mut SmallDisk> {
        self.disk.as_mut()
    }

    /// Starts a coordinator.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_node(&mut self, node: u64) -> Result<()> {
        let mut command = Command::new(self.layout.program("mesond")?);
        command
            .args(["start", "--config"])
            .arg(self.layout.config(node))
            .env("MESON_LOG", &self.settings.log)
            .env("NO_COLOR", "1");
        if self.settings.own_clocks {
            let clock = self.layout.clock(node);
            if !clock.exists() {
                clocks::set(&clock, 0)?;
            }
            clocks::follow(&mut command, &clock)?;
        }
        let process = Process::spawn(command, &self.layout.log(&format!("node-{node}")))?;
        self.nodes.insert(node, process);
        self.recorder.note(What::Up { node });
        Ok(())
    }

    /// Sets a coordinator's clock to so many seconds from the machine's.
    ///
    /// # Errors
    /// Its clock is the machine's own ([`Settings::own_clocks`]), or the file cannot be written.
    pub fn set_clock(&self, node: u64, seconds: i64) -> Result<()> {
        anyhow::ensure!(
            self.settings.own_clocks,
            "the nodes have no clocks of their own"
        );
        clocks::set(&self.layout.clock(node), seconds)
    }

    /// SIGKILL for a coordinator. It stays down until it is started.
    ///
    /// # Errors
    /// It was not running.
    pub async fn kill_node(&mut self, node: u64) -> Result<()> {
        let process = self.nodes.remove(&node);
        // Written down before: from here on nothing may be expected of it.
        self.recorder.note(What::Down {
            node,
            by_itself: false,
        });
        match process {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM for a coordinator, and waits until it has ended, as a service manager does. It stays down
    /// until it is started.
    ///
    /// # Errors
    /// It was not running, or does not end in time.
    pub async fn stop_node(&mut self, node: u64) -> Result<()> {
        let process = self.nodes.remove(&node);
        let mut process = process.with_context(|| format!("node {node} does not run"))?;
        self.recorder.note(What::Down {
            node,
            by_itself: false,
        });
        process.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + STOP;
        while !process.has_ended() {
            if Instant::now() > deadline {
                bail!("node {node} does not end within {} s", STOP.as_secs());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// SIGSTOP or SIGCONT for a coordinator.
    ///
    /// # Errors
    /// It is not running.
    pub fn signal_node(&self, node: u64, signal: Signal) -> Result<()> {
        let process = self.nodes.get(&node);
        process
            .with_context(|| format!("node {node} does not run"))?
            .signal(signal)
    }

    /// SIGKILL for an agent; with `everything` also for all that runs on it, as if its machine was lost.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn kill_agent(&mut self, agent: u64, everything: bool) -> Result<()> {
        if let Some(process) = self.agents.remove(&agent) {
            process.kill().await?;
        }
        if everything {
            left::kill(&self.layout.agent(agent), "").await;
        }
        Ok(())
    }

    /// Starts an agent.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_agent(&mut self, agent: u64) -> Result<()> {
        let region = self.settings.region(agent);
        let mut command = Command::new(self.layout.program("minimesos")?);
        command
            .args(["agent", "--master"])
            .arg(self.layout.master_url(self.settings.pool_of(agent)))
            .arg("--work-dir")
            .arg(self.layout.agent(agent))
            .args(["--hostname", &format!("agent-{agent}")])
            .args(["--domain", &format!("{region}/a")])
            .args(["--resources", "cpus:16;mem:8192;disk:10240"])
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1");
        let log = self.layout.log(&format!("agent-{agent}"));
        self.agents.insert(agent, Process::spawn(command, &log)?);
        Ok(())
    }

    /// Executors that run now.
    #[must_use]
    pub fn executors(&self) -> Vec<i32> {
        left::find(&self.layout.agents(), "meson-executor")
    }

    /// What runs on the agents beside executors: the steps' own processes.
    #[must_use]
    pub fn step_processes(&self) -> Vec<String> {
        left::find(&self.layout.agents(), "")
            .into_iter()
            .filter_map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| !line.is_empty() && !line.contains("meson-executor"))
            .collect()
    }

    /// SIGKILL for an executor, and for nothing else.
    pub fn kill_executor(&self, pid: i32) {
        left::kill_one(pid, &self.layout.agents());
    }

    /// Starts a Mesos master, by its place among the pools.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start_master(&mut self, pool: usize) -> Result<()> {
        let mut command = Command::new(self.layout.program("minimesos")?);
        command
            .args(["master", "--port"])
            .arg(self.layout.master_port(pool).to_string())
            .arg("--work_dir")
            .arg(self.layout.master(pool))
            .args(["--agent_ping_timeout=1secs", "--max_agent_ping_timeouts=3"])
            .args(["--allocation_interval=200ms"])
            .args(["--agent_reregister_timeout=10secs"])
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1");
        let process = Process::spawn(command, &self.layout.log(&format!("master-{pool}")))?;
        self.masters.insert(pool, process);
        Ok(())
    }

    /// SIGKILL for a Mesos master.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub async fn kill_master(&mut self, pool: usize) -> Result<()> {
        match self.masters.remove(&pool) {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Waits until a Mesos master serves.
    ///
    /// # Errors
    /// It does not in time; the error has the end of its log.
    pub async fn wait_for_master(&self, pool: usize) -> Result<()> {
        let url = format!("{}/health", self.layout.master_url(pool));
        let deadline = Instant::now() + READY;
        while self.http.get(&url).await.is_none_or(|it| it.status != 200) {
            if Instant::now() > deadline {
                bail!(
                    "the Mesos master does not get ready:\n{}",
                    self.layout.end_of_log(&format!("master-{pool}"))
                );
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Starts again what ended although it should run, as a service manager does.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn tend(&mut self) -> Result<()> {
        let ended: Vec<u64> = self
            .nodes
            .iter_mut()
            .filter(|(_, process)| process.started.elapsed() > START_AGAIN)
            .filter_map(|(node, process)| process.has_ended().then_some(*node))
            .collect();
        for node in ended {
            self.recorder.note(What::Down {
                node,
                by_itself: true,
            });
            self.start_node(node)?;
        }
        Ok(())
    }

    /// Waits until a coordinator says that it is healthy.
    ///
    /// # Errors
    /// It does not in time; the error has its problems and the end of its log.
    pub async fn wait_healthy(&mut self, node: u64, limit: Duration) -> Result<()> {
        let url = format!("{}/health", self.layout.url(node));
        let deadline = Instant::now() + limit;
        let mut last = "no answer".to_owned();
        loop {
            if let Some(answer) = self.http.get(&url).await {
                if answer.status == 200 {
                    return Ok(());
                }
                last = answer.text();
            }
            if Instant::now() > deadline {
                bail!(
                    "node {node} is not healthy after {} s ({last}):\n{}",
                    limit.as_secs(),
                    self.layout.end_of_log(&format!("node-{node}"))
                );
            }
            self.tend()?;
            sleep(LOOK).await;
        }
    }

    /// Who leads what, as most nodes see it now.
    pub async fn leaders(&self) -> Leaders {
        Leaders::ask(&self.http, &self.layout.directory()).await
    }

    /// How long processors have worked for a coordinator since its start; none: it does not run.
    #[must_use]
    pub fn cpu_time(&self, node: u64) -> Option<Duration> {
        self.nodes.get(&node)?.cpu_time()
    }

    /// Nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Ends all in order: coordinators, agents with their executors, the master; then what is left.
    pub async fn stop(mut self) {
        self.network.heal();
        let nodes = std::mem::take(&mut self.nodes);
        end_all(nodes.into_values(), Signal::SIGTERM).await;
        let agents = std::mem::take(&mut self.agents);
        end_all(agents.into_values(), Signal::SIGUSR1).await;
        let masters = std::mem::take(&mut self.masters);
        end_all(masters.into_values(), Signal::SIGTERM).await;
        left::kill(self.layout.folder(), "").await;
    }

    /// What a coordinator has logged, in all of its lives.
    #[must_use]
    pub fn log(&self, node: u64) -> PathBuf {
        self.layout.log(&format!("node-{node}"))
    }

    /// Where logs and data are.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.layout.folder().to_owned()
    }
}

/// All get the signal at once; those that do not end are killed.
async fn end_all(processes: impl Iterator<Item = Process>, signal: Signal) {
    let mut processes: Vec<Process> = processes.collect();
    for process in &processes {
        // A stopped process would never hear the other one.
        let _ = process.signal(Signal::SIGCONT);
        let _ = process.signal(signal);
    }
    let deadline = Instant::now() + LEAVE;
    while processes.iter_mut().any(|process| !process.has_ended()) && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    // Those that are left are killed when they are dropped.
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Each process is killed as its handle is dropped; what they started has to be found.
        self.nodes.clear();
        self.agents.clear();
        self.masters.clear();
        left::kill_now(self.layout.folder(), "");
    }
}
