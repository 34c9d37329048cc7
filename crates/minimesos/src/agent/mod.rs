//! The agent: runs executors and their tasks for a master.
//!
//! ```text
//!            master                         executors
//!      link over HTTP │▲                       │▲ executor API over HTTP
//!             session ▼│                  http ▼│
//!                  ┌───────────── runner ─────────────┐
//!                  │   state  (pure: inputs, outputs) │
//!                  └──┬──────────────┬────────────────┘
//!                  store         container ── fetcher, process
//! ```
//!
//! * [`start`] runs an agent inside this process; [`run`] is a whole agent process,
//!   signals included. Executors are processes of their own in both cases and
//!   outlive the agent, if their framework asks for checkpoints.
//! * [`command_executor`] is the executor of tasks that bring none of their own.
//! * `state` decides, `runner` carries out, and writes down what a restarted agent
//!   needs before anybody is told (`store`).
//!
//! Where a real agent is known to do otherwise, the difference is deliberate: after
//! a restart it registers as soon as its last executor is back (the real one always
//! waits out the two seconds), it leaves no process of a container behind, and its
//! fetcher refuses to write outside the sandbox.

pub mod cli;
pub mod command_executor;
mod container;
mod describe;
mod fetcher;
mod http;
mod memory;
mod options;
mod process;
mod records;
mod runner;
mod sandboxes;
mod session;
mod state;
mod store;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use actix_web::{App, HttpServer};
use meson_mesos::client::{Finder, HttpClientError, Masters, MastersError, http_client};
use meson_mesos::types::{AgentId, AgentInfo, Resource};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use uuid::Uuid;

pub use describe::{ParseError, parse_attributes, parse_resources};
pub use options::AgentOptions;
pub use state::Timeouts;
pub use store::StoreError;

use container::{Containers, Launcher};
use fetcher::Fetcher;
use http::Api;
use process::{ProcessId, find_leader, kill_container};
use records::{AgentRecord, FrameworkRecord, RunRecord, TaskRecord};
use runner::{Clock, Control, Runner, Wires};
use state::{Recovered, Settings, State};
use store::{Loaded, Store};

/// Inputs that may wait for the state machine; whoever is faster waits too.
const QUEUE: usize = 4096;
/// How long an idle connection of an executor is kept: it makes few calls.
const KEEP_ALIVE: Duration = Duration::from_secs(3600);

/// For a connection to the master to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an agent does not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work directory cannot be used.
    #[error("cannot use the work directory '{path}': {source}")]
    WorkDir {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The address cannot be served on.
    #[error(
        "cannot listen on {address}: {source}; executors of a former run expect the agent there, so free the address or choose another work directory"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Client(#[from] HttpClientError),
    /// The master's address is none.
    #[error("looking for the master: {0}")]
    Master(#[from] MastersError),
    /// The agent describes itself otherwise than before, under live executors.
    #[error(
        "incompatible agent info detected: {what} changed while executors of the former run are alive; start it as before, or remove '{path}' to give them up"
    )]
    Incompatible {
        /// What is different.
        what: &'static str,
        /// The agent's state.
        path: PathBuf,
    },
    /// The master does not want the agent.
    #[error("the master refuses this agent: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// The program's own path is unknown, so that it cannot run commands.
    #[error("cannot find the program that runs commands: {0}; set `command_executor`")]
    OwnPath(io::Error),
    /// Signals cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
}

/// Makes TLS work for clients of this process, if nobody else has. Without it an
/// HTTP client cannot be made, not even for plain HTTP.
pub(crate) fn install_crypto_provider() {
    // The error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A running agent. Dropping it stops the agent as [`AgentHandle::stop`] does,
/// without waiting.
#[derive(Debug)]
pub struct AgentHandle {
    addr: SocketAddr,
    agent_id: watch::Receiver<Option<AgentId>>,
    control: mpsc::Sender<Control>,
    ended: tokio::task::JoinHandle<Result<(), AgentError>>,
}

impl AgentHandle {
    /// Where the agent serves executors.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The agent's id, once it has ever registered.
    pub fn agent_id(&self) -> Option<AgentId> {
        self.agent_id.borrow().clone()
    }

    /// Waits until the agent has an id; `None` when it ended before.
    pub async fn registered(&self) -> Option<AgentId> {
        let mut agent_id = self.agent_id.clone();
        agent_id
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|id| id.clone())
    }

    /// Ends the agent and nothing else: executors run on, and wait for an agent
    /// that starts in the same work directory.
    ///
    /// # Errors
    /// Why the agent had ended by itself.
    pub async fn stop(self) -> Result<(), AgentError> {
        let _ = self.control.send(Control::Stop).await;
        self.wait().await
    }

    /// Leaves the cluster for good: unregisters, shuts the executors down within
    /// their grace, and forgets the agent's id.
    ///
    /// # Errors
    /// Why the agent could not do so.
    pub async fn leave(self) -> Result<(), AgentError> {
        let _ = self.control.send(Control::Leave).await;
        self.wait().await
    }

    /// Waits until the agent ends by itself.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn wait(self) -> Result<(), AgentError> {
        let Self { ended, control, .. } = self;
        let result = ended.await.unwrap_or(Ok(()));
        drop(control);
        result
    }
}

/// What was found of a former run.
struct Found {
    recovered: Vec<Recovered>,
    alive: Vec<(RunRecord, ProcessId)>,
}

/// Looks for what a former agent left, and clears away what cannot be used.
async fn find(store: &Store) -> Result<Found, StoreError> {
    let mut found = Found {
        recovered: Vec::new(),
        alive: Vec::new(),
    };
    for Loaded {
        framework,
        runs,
        tasks,
    } in store.load::<FrameworkRecord, RunRecord, TaskRecord>()?
    {
        let mut recovered = Vec::new();
        for mut run in runs {
            // The former agent may have died between the start and the note of it.
            let process = run.process.or_else(|| find_leader(&run.directory));
            run.process = process;
            match process.filter(ProcessId::is_alive) {
                Some(process) if framework.checkpoints() => {
                    found.alive.push((run.clone(), process));
                    recovered.push((run, true));
                }
                _ => {
                    kill_container(process, run.directory.clone()).await;
                    recovered.push((run, false));
                }
            }
        }
        if framework.checkpoints() {
            found.recovered.push(Recovered {
                framework,
                runs: recovered,
                tasks,
            });
        } else {
            store.remove_framework(framework.id.as_str())?;
        }
    }
    Ok(found)
}

/// How often, and after which pause, a restarted agent tries to get its port back.
const PORT_TRIES: u32 = 100;
const PORT_AGAIN: Duration = Duration::from_millis(100);

/// Listens on the wished port; if that is 0, on the one that the agent had.
async fn listen(
    options: &AgentOptions,
    store: &Store,
    needed: bool,
) -> Result<TcpListener, AgentError> {
    let bind = |port| {
        let address = SocketAddr::new(options.ip, port);
        TcpListener::bind(address).map_err(|source| AgentError::Listen { address, source })
    };
    let former = store.port()?;
    let listener = match (options.port, former) {
        (0, Some(former)) => {
            let mut bound = bind(former);
            // While the agent was away, the system may have lent its port to somebody's outgoing
            // connection. Executors know the agent by it, so that is worth waiting for.
            for _ in 0..PORT_TRIES {
                if bound.is_ok() || !needed {
                    break;
                }
                tokio::time::sleep(PORT_AGAIN).await;
                bound = bind(former);
            }
            match bound {
                // Nobody expects the agent there.
                Err(_) if !needed => bind(0)?,
                result => result?,
            }
        }
        (port, _) => bind(port)?,
    };
    let port = listener
        .local_addr()
        .map_or(options.port, |addr| addr.port());
    if needed && former.is_some_and(|former| former != port) {
        return Err(AgentError::Incompatible {
            what: "the port",
            path: options.work_dir.join("meta"),
        });
    }
    if former != Some(port) {
        store.set_port(port)?;
    }
    Ok(listener)
}

/// The agent's description, which is the former one if there is one and it fits.
fn describe(
    options: &AgentOptions,
    former: Option<AgentInfo>,
    port: u16,
    live: bool,
) -> Result<AgentInfo, AgentError> {
    // What was found out before is not found out anew: a disk that was enlarged
    // would make another agent of this one.
    let mut resources = options.resources.clone();
    let named: Vec<String> = resources
        .iter()
        .map(|resource| resource.name.clone())
        .collect();
    let detected = ["cpus", "mem", "disk", "ports"];
    let remembered = former.iter().flat_map(|info| &info.resources);
    resources.extend(
        remembered
            .filter(|resource| {
                !named.contains(&resource.name) && detected.contains(&resource.name.as_str())
            })
            .cloned(),
    );
    let mut info = AgentInfo {
        hostname: options
            .hostname
            .clone()
            .unwrap_or_else(|| options.ip.to_string()),
        port: Some(port),
        resources: describe::complete(resources, &options.work_dir),
        attributes: options.attributes.clone(),
        id: None,
        domain: options.domain.clone(),
    };
    let Some(former) = former else {
        return Ok(info);
    };
    let sorted = |resources: &[Resource]| {
        let mut texts: Vec<String> = resources
            .iter()
            .map(|resource| format!("{resource:?}"))
            .collect();
        texts.sort();
        texts
    };
    let changed = if sorted(&former.resources) != sorted(&info.resources) {
        Some("the resources")
    } else if former.attributes != info.attributes {
        Some("the attributes")
    } else if former.domain != info.domain {
        Some("the domain")
    } else {
        None
    };
    match changed {
        None => info.id = former.id,
        Some(what) if live => {
            return Err(AgentError::Incompatible {
                what,
                path: options.work_dir.join("meta"),
            });
        }
        Some(what) => {
            warn!(
                what,
                "the agent has changed and runs nothing: it registers as a new one"
            );
        }
    }
    Ok(info)
}

/// Starts an agent inside this process. It registers, and finds its executors
/// again, in the background.
///
/// Takes a tokio runtime with time and I/O; the HTTP API runs on a thread of its
/// own.
///
/// # Errors
/// When the work directory is in use or unreadable, or the address is taken.
pub async fn start(mut options: AgentOptions) -> Result<AgentHandle, AgentError> {
    install_crypto_provider();
    let masters: Masters = options.master_url.parse()?;
    let http = http_client(CONNECT_TIMEOUT, options.tls.as_ref())?;
    let finder = Finder::new(masters, options.tls.is_some(), 0);
    let work_dir = |source| AgentError::WorkDir {
        path: options.work_dir.clone(),
        source,
    };
    std::fs::create_dir_all(&options.work_dir).map_err(work_dir)?;
    options.work_dir = options.work_dir.canonicalize().map_err(work_dir)?;
    let command_executor = match &options.command_executor {
        Some(argv) => argv.clone(),
        None => {
            let own = std::env::current_exe().map_err(AgentError::OwnPath)?;
            vec![
                own.display().to_string(),
                command_executor::ARGUMENT.to_owned(),
            ]
        }
    };

    let store = Store::open(&options.work_dir)?;
    let former = store.agent::<AgentRecord>()?.map(|record| record.info);
    if former.is_none() {
        store.clear()?;
    }
    let Found { recovered, alive } = find(&store).await?;
    let live = !alive.is_empty();
    let listener = listen(&options, &store, live).await?;
    let addr = listener.local_addr().map_err(|source| AgentError::Listen {
        address: SocketAddr::new(options.ip, options.port),
        source,
    })?;
    let info = describe(&options, former, addr.port(), live)?;
    let recovered = if info.id.is_none() {
        // A new agent: what a former one had to tell concerns nobody.
        store.clear()?;
        Vec::new()
    } else {
        recovered
    };

    let (inputs, inputs_rx) = mpsc::channel(QUEUE);
    let (calls, calls_rx) = mpsc::channel(QUEUE);
    let (master, master_rx) = mpsc::channel(QUEUE);
    let (control, control_rx) = mpsc::channel(1);
    let (agent_id, agent_id_rx) = watch::channel(None);
    let told = told_ip(options.ip).to_string();
    let launcher = Launcher {
        fetcher: Fetcher::new(options.work_dir.join("cache")).map_err(HttpClientError::from)?,
        endpoint: SocketAddr::new(told_ip(options.ip), addr.port()).to_string(),
        ip: told.clone(),
        switch_user: options
            .switch_user
            .unwrap_or_else(|| nix::unistd::geteuid().is_root()),
        timeouts: options.timeouts,
        command_executor,
        limit_memory: options.limit_memory,
    };
    let mut containers = Containers::new(launcher, inputs.clone());
    for (run, process) in &alive {
        info!(executor = %run.executor_id, pid = process.pid, "executor of the former run is alive");
        containers.adopt(run, *process);
    }
    let clock = Clock::new();
    let settings = Settings {
        work_dir: options.work_dir.clone(),
        ip: told,
        timeouts: options.timeouts,
        limit_memory: options.limit_memory,
    };
    let ids = Box::new(Uuid::new_v4);
    let (state, first) = State::recover(settings, info, recovered, ids, clock.now());

    let api = Api::new(calls, inputs);
    let server = HttpServer::new(move || {
        let api = api.clone();
        App::new().configure(|config| api.configure(config))
    })
    .workers(1)
    .keep_alive(KEEP_ALIVE)
    // Events are small, and each is wanted at once.
    .tcp_nodelay(true)
    .shutdown_timeout(0)
    .disable_signals()
    .listen(listener)
    .map_err(|source| AgentError::Listen {
        address: addr,
        source,
    })?
    .run();
    let serving = server.handle();
    tokio::spawn(server);

    let session = tokio::spawn(session::run(http, finder, master));
    let runner = Runner {
        state,
        clock,
        store,
        containers,
        inputs: inputs_rx,
        calls: calls_rx,
        master: master_rx,
        control: control_rx,
        agent_id,
        work_dir: options.work_dir.clone(),
        gc_delay: options.gc_delay,
        wires: Wires::default(),
    };
    let ended = tokio::spawn(async move {
        let result = runner.run(first).await;
        session.abort();
        serving.stop(false).await;
        result
    });
    info!(%addr, work_dir = %options.work_dir.display(), "agent serves");
    Ok(AgentHandle {
        addr,
        agent_id: agent_id_rx,
        control,
        ended,
    })
}

/// The address to tell executors: they are on this machine.
fn told_ip(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// Runs an agent until it is told to end: by SIGTERM or SIGINT, upon which its
/// executors run on, or by SIGUSR1, upon which it leaves the cluster with them.
///
/// # Errors
/// Why the agent could not start, or had to end.
pub async fn run(options: AgentOptions) -> Result<(), AgentError> {
    use tokio::signal::unix::{SignalKind, signal};

    let listen = |kind| signal(kind).map_err(AgentError::Signals);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut user1 = listen(SignalKind::user_defined1())?;
    let AgentHandle {
        control, mut ended, ..
    } = start(options).await?;
    let wish = tokio::select! {
        result = &mut ended => return result.unwrap_or(Ok(())),
        _ = terminate.recv() => Control::Stop,
        _ = interrupt.recv() => Control::Stop,
        _ = user1.recv() => Control::Leave,
    };
    let _ = control.send(wish).await;
    let stop_at_once = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // Whoever asks twice does not want to wait for graces.
    tokio::select! {
        result = &mut ended => result.unwrap_or(Ok(())),
        () = stop_at_once => {
            let _ = control.send(Control::Stop).await;
            ended.await.unwrap_or(Ok(()))
        }
    }
}
