//! How an agent is set up.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use meson_mesos::client::Tls;
use meson_mesos::types::{Attribute, DomainInfo, Resource};

use super::state::Timeouts;

/// A week (`--gc_delay` of Mesos).
const GC_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);

/// How an agent is set up. Start from [`AgentOptions::new`].
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The master's address, such as `http://127.0.0.1:5050`; several, with commas between
    /// them; or `zk://host1:2181,host2:2181/mesos`.
    pub master_url: String,
    /// Whom to trust when the master serves over TLS.
    pub tls: Option<Tls>,
    /// The address to serve on, and to tell executors.
    pub ip: IpAddr,
    /// The port to serve on. 0 takes a free one at the first start, and the same
    /// one at every later start: executors come back to it.
    pub port: u16,
    /// Sandboxes, the fetcher's cache and the agent's own state; one agent each.
    pub work_dir: PathBuf,
    /// How schedulers name the host; `ip` unless given.
    pub hostname: Option<String>,
    /// What to offer; see [`parse_resources`](super::parse_resources). What is not
    /// named of cpus, mem, disk and ports is found out.
    pub resources: Vec<Resource>,
    /// What to say about the agent; see [`parse_attributes`](super::parse_attributes).
    pub attributes: Vec<Attribute>,
    /// Region and zone.
    pub domain: Option<DomainInfo>,
    /// Run executors as the user of their framework or command. Takes an agent
    /// that runs as root, which is also what decides unless this is set.
    pub switch_user: Option<bool>,
    /// Program and first arguments that run a task's command: a binary that calls
    /// [`command_executor::run`](super::command_executor::run). Unless given, the
    /// current program with the argument `command-executor`.
    pub command_executor: Option<Vec<String>>,
    /// Kill a container that uses more memory than its executor and tasks asked for, as the
    /// real agent's `cgroups/mem` does. It is measured ten times a second.
    pub limit_memory: bool,
    /// How long the sandbox of an executor is kept after its last use.
    pub gc_delay: Duration,
    /// Timeouts of executors.
    pub timeouts: Timeouts,
}

impl AgentOptions {
    /// An agent on a free port of the loopback interface.
    pub fn new(master_url: impl Into<String>, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            master_url: master_url.into(),
            tls: None,
            ip: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            work_dir: work_dir.into(),
            hostname: None,
            resources: Vec::new(),
            attributes: Vec::new(),
            domain: None,
            switch_user: None,
            command_executor: None,
            limit_memory: false,
            gc_delay: GC_DELAY,
            timeouts: Timeouts::default(),
        }
    }
}
