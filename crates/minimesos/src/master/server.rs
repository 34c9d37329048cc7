//! The shell around the pure master: keeps the streams, the clock and the registry file,
//! and carries out what the master decides.
//!
//! One lock guards the master and its streams; it is held for one input at a time and
//! never across an `await`. Records go to bounded channels, one per stream; a reader that
//! falls so far behind that its channel is full loses its stream.

use super::auth::Credentials;
use super::election::{Election, Leadership, contend};
use super::front::Gate;
use super::http;
use super::input::{Input, Moment, Output, Reply, StreamId};
use super::registry::{RegistryError, RegistryFile};
use super::state::{Config, Master};
use super::tls::{ServerTls, TlsError};
use crate::link::ToAgent;
use actix_web::dev::ServerHandle;
use bytes::Bytes;
use meson_mesos::encoding::{EncodeError, Encoding};
use meson_mesos::recordio;
use meson_mesos::scheduler::Event;
use meson_mesos::types::{Address, Capability, CapabilityType, DomainInfo, MasterInfo};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
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
    /// How it is decided which of several masters leads.
    pub election: Election,
    /// Whom frameworks have to prove to be.
    pub credentials: Option<Credentials>,
    /// Serve over TLS.
    pub tls: Option<ServerTls>,
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
            election: Election::default(),
            credentials: None,
            tls: None,
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
    /// Certificates and keys cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A running master.
#[derive(Debug)]
pub struct MasterHandle {
    /// Where it serves.
    pub addr: SocketAddr,
    scheme: &'static str,
    leadership: watch::Receiver<Leadership>,
    server: ServerHandle,
    running: tokio::task::JoinHandle<io::Result<()>>,
    timer: tokio::task::JoinHandle<()>,
    contender: Option<tokio::task::JoinHandle<()>>,
}

impl MasterHandle {
    /// The address as schedulers and agents want it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Who leads, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Waits until this master has led and leads no more, and says why. Then it is of no use.
    pub async fn lost(&self) -> String {
        let mut leadership = self.leadership.clone();
        let lost = leadership.wait_for(|now| matches!(now, Leadership::Lost(_)));
        if let Ok(lost) = lost.await
            && let Leadership::Lost(why) = &*lost
        {
            return why.clone();
        }
        // Nobody can tell any more.
        std::future::pending().await
    }

    /// Stops serving at once, as a killed master does: streams just break, and other masters
    /// learn of it when ZooKeeper has not heard of this one for a while.
    pub async fn stop(self) {
        self.timer.abort();
        if let Some(contender) = &self.contender {
            contender.abort();
        }
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
    let tls = options.tls.as_ref().map(ServerTls::load).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
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
    let master = Master::new(config.clone(), known, clock.now());
    let info = master.info().clone();
    tracing::info!(%addr, id = %info.id, "mesos master starts");
    let core = Core {
        master,
        config,
        clock,
        streams: HashMap::new(),
        registry,
    };
    let (sender, leadership) = watch::channel(options.election.begin());
    let shared = Shared {
        core: Arc::new(Mutex::new(core)),
        gate: Arc::new(Gate {
            leadership: leadership.clone(),
            credentials: options.credentials,
        }),
    };
    let server = http::serve(listener, shared.clone(), tls).map_err(bind)?;
    let handle = server.handle();
    let running = actix_rt::spawn(server);
    let timer = actix_rt::spawn(run_timer(shared.clone()));
    let contender = match options.election {
        Election::ZooKeeper {
            url,
            session_timeout,
        } => Some(actix_rt::spawn(contend(
            url,
            session_timeout,
            info,
            shared,
            sender,
        ))),
        Election::Alone | Election::Elsewhere(_) => None,
    };
    Ok(MasterHandle {
        addr,
        scheme,
        leadership,
        server: handle,
        running,
        timer,
        contender,
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
        let leads = *shared.gate.leadership.borrow() == Leadership::Leading;
        let due = {
            let mut core = shared.lock();
            // Who follows has nobody to say anything to, and no right to touch the registry.
            if leads {
                core.handle(Input::Tick);
            }
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
pub(super) struct Shared {
    core: Arc<Mutex<Core>>,
    gate: Arc<Gate>,
}

impl Shared {
    /// What every request has to pass.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// For one input or question. Never held across an `await`.
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic in the pure master leaves its state as good as any other input does.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) master: Master,
    config: Config,
    clock: Clock,
    streams: HashMap<StreamId, Stream>,
    registry: Option<RegistryFile>,
}

/// An open stream.
#[derive(Debug)]
struct Stream {
    records: mpsc::Sender<Bytes>,
    speech: Speech,
}

/// What is spoken on a stream.
#[derive(Clone, Copy, Debug)]
pub(super) enum Speech {
    /// The scheduler API.
    Scheduler(Encoding),
    /// The agents' link.
    Agent,
}

impl Speech {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Scheduler(encoding) => encoding.media_type(),
            Self::Agent => Encoding::Json.media_type(),
        }
    }
}

impl Core {
    /// Opens a stream, before the input that uses it goes in.
    pub(super) fn open(&mut self, speech: Speech) -> (StreamId, mpsc::Receiver<Bytes>) {
        let stream = StreamId(uuid::Uuid::new_v4().to_string());
        let (records, receiver) = mpsc::channel(STREAM_CAPACITY);
        self.streams
            .insert(stream.clone(), Stream { records, speech });
        (stream, receiver)
    }

    /// This master leads from now on: it knows what the registry says, which another one may
    /// have written meanwhile, and nothing else.
    pub(super) fn take_over(&mut self) {
        let known = match self.registry.as_ref().map(RegistryFile::load).transpose() {
            Ok(known) => known.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "mesos master takes over without a registry");
                Default::default()
            }
        };
        self.master = Master::new(self.config.clone(), known, self.clock.now());
    }

    /// This master leads no more: nobody hears it any longer.
    pub(super) fn abdicate(&mut self) {
        self.streams.clear();
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
                        if !self.send_event(&stream, &event) {
                            inputs.push(Input::SchedulerGone { stream });
                        }
                    }
                    Output::ToAgent { stream, message } => {
                        if !self.send_message(&stream, &message) {
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

    fn send_event(&mut self, stream: &StreamId, event: &Event) -> bool {
        let encoding = match self.streams.get(stream).map(|stream| stream.speech) {
            Some(Speech::Scheduler(encoding)) => encoding,
            _ => return false,
        };
        let record = encoding.encode(event).map(|bytes| recordio::encode(&bytes));
        self.send(stream, record)
    }

    fn send_message(&mut self, stream: &StreamId, message: &ToAgent) -> bool {
        self.send(stream, recordio::encode_json(message).map_err(Into::into))
    }

    /// Queues a record. Says whether the stream is fit for more.
    fn send(&mut self, stream: &StreamId, record: Result<Bytes, EncodeError>) -> bool {
        let Some(Stream { records, .. }) = self.streams.get(stream) else {
            return false;
        };
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, %stream, "a record that cannot be written is dropped");
                return true;
            }
        };
        if records.try_send(record).is_ok() {
            return true;
        }
        tracing::warn!(%stream, capacity = STREAM_CAPACITY, "reader is too slow or gone, stream cut");
        self.streams.remove(stream);
        false
    }
}
