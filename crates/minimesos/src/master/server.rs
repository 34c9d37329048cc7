//! The shell around the pure master: keeps the streams, the clock and the registry file,
//! and carries out what the master decides.
//!
//! One lock guards the master and its streams; it is held for one input at a time and
//! never across an `await`. Records go to bounded channels, one per stream; a reader that
//! falls so far behind that its channel is full loses its stream.

use super::http;
use super::input::{Input, Moment, Output, Reply, StreamId};
use super::registry::{RegistryError, RegistryFile};
use super::state::{Config, Master};
use actix_web::dev::ServerHandle;
use bytes::Bytes;
use meson_mesos::recordio;
use meson_mesos::types::{Address, Capability, CapabilityType, DomainInfo, MasterInfo};
use serde::Serialize;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Records that may wait for a slow reader of a stream.
const STREAM_CAPACITY: usize = 1 << 16;
/// The timer looks at least so often for what is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The version of Mesos whose behaviour is imitated.
const MESOS_VERSION: &str = "1.12.0";

/// How to run a master; fields are named like the real one's flags.
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// Address to serve on.
    pub ip: IpAddr,
    /// Port to serve on; 0 for any free one.
    pub port: u16,
    /// Where the registry is kept; without one, it is kept in memory only.
    pub work_dir: Option<PathBuf>,
    /// How schedulers and agents name the host; the address when absent.
    pub hostname: Option<String>,
    /// Where the master is.
    pub domain: Option<DomainInfo>,
    /// The time since 1970 now. From here on the runtime's clock counts.
    pub wall_clock: Duration,
    /// Between two offers of everything that is free.
    pub allocation_interval: Duration,
    /// Between two pings to an agent.
    pub agent_ping_timeout: Duration,
    /// So many pings without an answer make an agent unreachable.
    pub max_agent_ping_timeouts: u32,
    /// After a restart, so long may agents take to come back.
    pub agent_reregister_timeout: Duration,
    /// Offers are taken back after this.
    pub offer_timeout: Option<Duration>,
}

impl MasterOptions {
    /// On loopback, any free port, nothing kept, and the real one's defaults.
    pub fn new(wall_clock: Duration) -> Self {
        let defaults = Config::new(MasterInfo::default());
        Self {
            ip: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            work_dir: None,
            hostname: None,
            domain: None,
            wall_clock,
            allocation_interval: defaults.allocation_interval,
            agent_ping_timeout: defaults.agent_ping_timeout,
            max_agent_ping_timeouts: defaults.max_agent_ping_timeouts,
            agent_reregister_timeout: defaults.agent_reregister_timeout,
            offer_timeout: defaults.offer_timeout,
        }
    }
}

/// A master could not start.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// The address is not to be had.
    #[error("serving the Mesos master on {addr}: {source}; choose another --ip or --port")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The registry cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A running master.
#[derive(Debug)]
pub struct MasterHandle {
    /// Where it serves.
    pub addr: SocketAddr,
    server: ServerHandle,
    running: tokio::task::JoinHandle<io::Result<()>>,
    timer: tokio::task::JoinHandle<()>,
}

impl MasterHandle {
    /// The address as schedulers and agents want it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops serving at once, as a killed master does: streams just break.
    pub async fn stop(self) {
        self.timer.abort();
        self.server.stop(false).await;
        if let Err(error) = self.running.await {
            tracing::warn!(%error, "mesos master ended badly");
        }
    }

    /// Waits until the server ends by itself, which it does only when it fails.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn join(self) -> io::Result<()> {
        let ended = self.running.await;
        self.timer.abort();
        ended.map_err(io::Error::other)?
    }
}

/// Starts a master. Must be called inside an actix system; returns when it serves.
///
/// # Errors
/// When the address is taken, or the registry cannot be read.
pub async fn start(options: MasterOptions) -> Result<MasterHandle, MasterError> {
    let wanted = SocketAddr::new(options.ip, options.port);
    let bind = |source| MasterError::Bind {
        addr: wanted,
        source,
    };
    let listener = TcpListener::bind(wanted).map_err(bind)?;
    let addr = listener.local_addr().map_err(bind)?;
    let registry = options.work_dir.as_deref().map(RegistryFile::in_work_dir);
    let known = registry
        .as_ref()
        .map(RegistryFile::load)
        .transpose()?
        .unwrap_or_default();
    let clock = Clock {
        wall: options.wall_clock,
        start: Instant::now(),
    };
    let config = Config {
        allocation_interval: options.allocation_interval,
        agent_ping_timeout: options.agent_ping_timeout,
        max_agent_ping_timeouts: options.max_agent_ping_timeouts,
        agent_reregister_timeout: options.agent_reregister_timeout,
        offer_timeout: options.offer_timeout,
        ..Config::new(master_info(&options, addr))
    };
    let master = Master::new(config, known, clock.now());
    tracing::info!(%addr, id = %master.info().id, "mesos master starts");
    let core = Core {
        master,
        clock,
        streams: HashMap::new(),
        registry,
    };
    let shared = Shared(Arc::new(Mutex::new(core)));
    let server = http::serve(listener, shared.clone()).map_err(bind)?;
    let handle = server.handle();
    let running = actix_rt::spawn(server);
    let timer = actix_rt::spawn(run_timer(shared));
    Ok(MasterHandle {
        addr,
        server: handle,
        running,
        timer,
    })
}

fn master_info(options: &MasterOptions, addr: SocketAddr) -> MasterInfo {
    let hostname = options
        .hostname
        .clone()
        .unwrap_or_else(|| addr.ip().to_string());
    let capability = |name: &str| Capability {
        kind: CapabilityType::Other(name.to_owned()),
    };
    MasterInfo {
        id: uuid::Uuid::new_v4().to_string(),
        // In network byte order, read as a little-endian number.
        ip: match addr.ip() {
            IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
            IpAddr::V6(_) => 0,
        },
        port: Some(addr.port()),
        pid: Some(format!("master@{addr}")),
        hostname: Some(hostname.clone()),
        version: Some(MESOS_VERSION.to_owned()),
        address: Some(Address {
            hostname: Some(hostname),
            ip: Some(addr.ip().to_string()),
            port: addr.port(),
        }),
        domain: options.domain.clone(),
        capabilities: vec![capability("AGENT_UPDATE")],
    }
}

async fn run_timer(shared: Shared) {
    loop {
        let due = {
            let mut core = shared.lock();
            core.handle(Input::Tick);
            core.clock.instant(core.master.next_tick())
        };
        // Inputs may have made something due earlier than what was known here.
        sleep_until(due.min(Instant::now() + LONGEST_SLEEP)).await;
    }
}

/// The wall clock at the start, and the runtime's clock since.
#[derive(Clone, Copy, Debug)]
struct Clock {
    wall: Duration,
    start: Instant,
}

impl Clock {
    fn now(&self) -> Moment {
        Moment(self.wall + self.start.elapsed())
    }

    fn instant(&self, moment: Moment) -> Instant {
        let ahead = moment.0.saturating_sub(self.wall);
        self.start
            .checked_add(ahead)
            .unwrap_or_else(|| self.start + Duration::from_secs(1 << 30))
    }
}

/// The master with its streams, for all threads of the server.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Core>>);

impl Shared {
    /// For one input or question. Never held across an `await`.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic in the pure master leaves its state as good as any other input does.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) master: Master,
    clock: Clock,
    streams: HashMap<StreamId, mpsc::Sender<Bytes>>,
    registry: Option<RegistryFile>,
}

impl Core {
    /// Opens a stream, before the input that uses it goes in.
    pub(super) fn open(&mut self) -> (StreamId, mpsc::Receiver<Bytes>) {
        let stream = StreamId(uuid::Uuid::new_v4().to_string());
        let (sender, receiver) = mpsc::channel(STREAM_CAPACITY);
        self.streams.insert(stream.clone(), sender);
        (stream, receiver)
    }

    /// A reader is gone. Says whether the stream was open still.
    pub(super) fn forget(&mut self, stream: &StreamId) -> bool {
        self.streams.remove(stream).is_some()
    }

    /// Gives an input to the master and carries out what it says.
    pub(super) fn handle(&mut self, input: Input) -> Option<Reply> {
        let mut reply = None;
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.master.handle(input, self.clock.now()) {
                match output {
                    Output::Reply(answer) => reply = reply.or(Some(answer)),
                    Output::SaveRegistry => self.save_registry(),
                    Output::ToScheduler { stream, event } => {
                        if !self.send(&stream, &event) {
                            inputs.push(Input::SchedulerGone { stream });
                        }
                    }
                    Output::ToAgent { stream, message } => {
                        if !self.send(&stream, &message) {
                            inputs.push(Input::AgentGone { stream });
                        }
                    }
                    Output::CloseScheduler { stream } | Output::CloseAgent { stream } => {
                        self.streams.remove(&stream);
                    }
                }
            }
        }
        reply
    }

    fn save_registry(&self) {
        let Some(file) = &self.registry else { return };
        if let Err(error) = file.save(&self.master.registry()) {
            tracing::error!(%error, "mesos master goes on without a saved registry");
        }
    }

    /// Queues a record. Says whether the stream is fit for more.
    fn send<T: Serialize>(&mut self, stream: &StreamId, value: &T) -> bool {
        let Some(sender) = self.streams.get(stream) else {
            return false;
        };
        let record = match recordio::encode_json(value) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, %stream, "a record has no JSON form, dropped");
                return true;
            }
        };
        if sender.try_send(record).is_ok() {
            return true;
        }
        tracing::warn!(%stream, capacity = STREAM_CAPACITY, "reader is too slow or gone, stream cut");
        self.streams.remove(stream);
        false
    }
}
