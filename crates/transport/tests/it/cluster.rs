//! Nodes for the tests: real sockets on the loopback interface, real certificates.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use meson_certs::{AUTHORITY_CERTIFICATE, Authority, Identity, PeerId};
use meson_transport::{
    CallError, FrameReceiver, FrameSender, Handler, Members, Mesh, MeshOptions, Refusal, Service,
    Urgency, bind,
};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tempfile::TempDir;
use tokio::sync::Notify;

/// Far more than anything takes; what waits so long is stuck.
pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// The day on which the tests happen, for certificates.
const TODAY: Duration = Duration::from_secs(20_000 * 86_400);

/// Answers with what it got.
pub(crate) const ECHO: Service = Service(1);
/// Says no.
pub(crate) const REFUSE: Service = Service(2);
/// Never answers.
pub(crate) const HANG: Service = Service(3);
/// Says who is asking.
pub(crate) const WHO: Service = Service(4);
/// Panics.
pub(crate) const PANIC: Service = Service(5);

/// A wall clock that the test sets.
#[derive(Debug)]
pub(crate) struct WallClock(AtomicU64);

impl WallClock {
    /// It shows so much later than the certificates were made.
    pub(crate) fn showing(later: Duration) -> Arc<Self> {
        let clock = Self(AtomicU64::new(0));
        clock.set(later);
        Arc::new(clock)
    }

    pub(crate) fn set(&self, later: Duration) {
        self.0.store((TODAY + later).as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A handler that does what the service's number says.
#[derive(Default)]
pub(crate) struct Obedient {
    /// Told when a call that never ends has begun.
    pub(crate) began: Notify,
    /// Told when it was dropped.
    pub(crate) dropped: Notify,
    /// Lets a stream of the service `HANG` begin to read.
    pub(crate) read_on: Notify,
}

struct TellDrop<'a>(&'a Notify);

impl Drop for TellDrop<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Handler for Obedient {
    fn call(
        &self,
        from: PeerId,
        service: Service,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, Refusal>> {
        Box::pin(async move {
            match service {
                ECHO => Ok(body),
                WHO => Ok(Bytes::from(from.to_string())),
                HANG => {
                    let _tell = TellDrop(&self.dropped);
                    self.began.notify_one();
                    std::future::pending().await
                }
                PANIC => panic!("a handler that panics, on purpose"),
                _ => Err(Refusal::new("not today")),
            }
        })
    }

    fn stream(
        &self,
        _from: PeerId,
        service: Service,
        opening: Bytes,
        mut requests: FrameReceiver,
        mut answers: FrameSender,
    ) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if service == HANG {
                self.read_on.notified().await;
            }
            if answers.send(Urgency::Append, opening).await.is_err() {
                return;
            }
            loop {
                let frame = match requests.next().await {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return answers.finish(),
                    Err(_) => return,
                };
                // Of bulk, only the length goes back.
                let answer = if frame.len() > 1000 {
                    Bytes::from(frame.len().to_string())
                } else {
                    frame
                };
                if answers.send(Urgency::Append, answer).await.is_err() {
                    return;
                }
            }
        })
    }
}

/// An authority.
pub(crate) struct Office {
    dir: TempDir,
    authority: Authority,
}

impl Office {
    pub(crate) fn new(cluster: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), cluster, UNIX_EPOCH + TODAY).unwrap();
        Self { dir, authority }
    }

    pub(crate) fn identity(&self, id: u64) -> Identity {
        self.identity_for(id, 30 * DAY)
    }

    pub(crate) fn identity_for(&self, id: u64, validity: Duration) -> Identity {
        Identity::load(&self.folder(id, validity), UNIX_EPOCH + TODAY).unwrap()
    }

    fn folder(&self, id: u64, validity: Duration) -> PathBuf {
        let now = UNIX_EPOCH + TODAY;
        let files = self.authority.issue(PeerId::new(id), validity, now);
        files.unwrap().write(self.dir.path()).unwrap()
    }

    /// One that this authority signed, and that trusts `other`'s too.
    pub(crate) fn identity_trusting(&self, id: u64, other: &Office) -> Identity {
        let folder = self.folder(id, 30 * DAY);
        let both = [self, other].map(|office| {
            std::fs::read_to_string(office.dir.path().join(AUTHORITY_CERTIFICATE)).unwrap()
        });
        std::fs::write(folder.join(AUTHORITY_CERTIFICATE), both.concat()).unwrap();
        Identity::load(&folder, UNIX_EPOCH + TODAY).unwrap()
    }
}

/// Why a node has no connection to its one peer; empty while there is no reason yet.
pub(crate) fn last_error(node: &Node) -> String {
    node.mesh.peers()[0].last_error.clone().unwrap_or_default()
}

/// A running node.
pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) handler: Arc<Obedient>,
}

impl Node {
    pub(crate) fn address(&self) -> SocketAddr {
        self.mesh.local_addr()
    }
}

/// A node at a port of its own, without members yet.
pub(crate) fn node(identity: Identity) -> Node {
    node_with(identity, any_port(), |_| {})
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn node_with(
    identity: Identity,
    listen: SocketAddr,
    adjust: impl FnOnce(&mut MeshOptions),
) -> Node {
    let handler = Arc::new(Obedient::default());
    let mut options = options(identity, listen, handler.clone());
    adjust(&mut options);
    let mesh = Mesh::start(options).unwrap();
    Node { mesh, handler }
}

pub(crate) fn options(
    identity: Identity,
    listen: SocketAddr,
    handler: Arc<dyn Handler>,
) -> MeshOptions {
    // Another one for every life of a node, as the options ask for.
    static SEEDS: AtomicU64 = AtomicU64::new(1);
    let seed = SEEDS.fetch_add(1, Ordering::Relaxed);
    let socket = bind(listen).unwrap();
    let mut options = MeshOptions::new(identity, socket, Members::new(), seed, handler);
    options.wall_clock = WallClock::showing(Duration::ZERO);
    options
}

/// Makes nodes members of each other.
pub(crate) fn introduce(nodes: &[&Node]) {
    let members: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node.mesh.id(), node.address().to_string()))
        .collect();
    for node in nodes {
        node.mesh.set_members(members.clone());
    }
}

pub(crate) fn member(id: u64, address: SocketAddr) -> Members {
    Members::from([(PeerId::new(id), address.to_string())])
}

/// Two nodes that know each other.
pub(crate) fn pair() -> (Office, Node, Node) {
    let office = Office::new("test");
    let (one, two) = (node(office.identity(1)), node(office.identity(2)));
    introduce(&[&one, &two]);
    (office, one, two)
}

pub(crate) async fn ask(from: &Node, to: u64, service: Service) -> Result<Bytes, CallError> {
    let body = Bytes::from_static(b"hello");
    from.mesh
        .call(PeerId::new(to), Urgency::Call, service, body, LONG)
        .await
}

/// Waits for a state.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(LONG, waiting).await.is_err() {
        panic!("in vain: {what}");
    }
}
