//! The mesh itself: members, connections in both directions, calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use meson_certs::{Identity, PeerId};
use quinn::{ClientConfig, Connection, Endpoint, TokioRuntime};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustls::time_provider::TimeProvider;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::complaints::Complaints;
use crate::dial;
use crate::errors::{CallError, MeshError};
use crate::frames::{FrameReceiver, FrameSender};
use crate::greeting::Introduction;
use crate::options::{Members, MeshLimits, MeshOptions, MeshTiming};
use crate::peer::Peer;
use crate::serve;
use crate::service::{Handler, Service, Urgency};
use crate::status::{MeshCounters, PeerStatus};
use crate::tls::{self, Settings};
use crate::wire::{Lane, close};

/// Connections that one peer may have to us: two, and those of an earlier life or attempt.
const MAX_CONNECTIONS_PER_PEER: usize = 16;
/// How long handlers of streams may take to notice a shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// The connections between this node and all others. Cheap to clone; all clones are one mesh.
///
/// It lives until [`shutdown`](Self::shutdown), whoever holds it.
#[derive(Clone)]
pub struct Mesh {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) local: SocketAddr,
    pub(crate) introduction: Introduction,
    pub(crate) limits: MeshLimits,
    pub(crate) timing: MeshTiming,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) complaints: Arc<Complaints>,
    tasks: TaskTracker,
    /// Where tasks run: members may be set from any thread.
    runtime: Handle,
    /// Ends handlers that do not end by themselves.
    pub(crate) kill: CancellationToken,
    /// What the next connection is dialled with.
    pub(crate) client: RwLock<ClientConfig>,
    routes: BTreeMap<PeerId, String>,
    wall_clock: Arc<dyn TimeProvider>,
    stop: CancellationToken,
    state: Mutex<State>,
}

/// One lock for members and for the connections that they have to us, so that nobody who left
/// slips in.
struct State {
    peers: BTreeMap<PeerId, Arc<Peer>>,
    incoming: BTreeMap<PeerId, Vec<Guest>>,
    lives: BTreeMap<PeerId, Lives>,
    random: StdRng,
}

/// The processes that have come to us under one number, the newest and the one before it. A process
/// that ended does not come back: if the one before does, both run.
#[derive(Default)]
struct Lives {
    now: Option<(u64, SocketAddr)>,
    before: Option<u64>,
}

impl Lives {
    /// Where the other process is, if two run under this number.
    fn see(&mut self, incarnation: u64, at: SocketAddr) -> Option<SocketAddr> {
        let last = self.now.replace((incarnation, at));
        let (last, other) = last.filter(|(last, _)| *last != incarnation)?;
        let twins = self.before.replace(last) == Some(incarnation);
        twins.then_some(other)
    }
}

/// A connection that a member has to us.
struct Guest {
    connection: Connection,
    incarnation: u64,
}

impl Mesh {
    /// Starts to listen and to dial. Called inside a tokio runtime, which then runs the mesh.
    ///
    /// # Errors
    /// If an option is out of range, or the certificate or the socket cannot be used.
    pub fn start(options: MeshOptions) -> Result<Self, MeshError> {
        options.check()?;
        let runtime = Handle::try_current().map_err(|error| MeshError::Options {
            reason: format!("there is no tokio runtime to run it: {error}"),
        })?;
        let mut random = StdRng::seed_from_u64(options.seed);
        let Settings { client, server } = tls::settings(
            &options.identity,
            &options.wall_clock,
            &options.limits,
            &options.timing,
        )?;
        let failed = |source| MeshError::Listen {
            address: format!("{:?}", options.listen.local_addr().ok()),
            source,
        };
        let local = options.listen.local_addr().map_err(failed)?;
        let endpoint = Endpoint::new_with_abstract_socket(
            tls::endpoint(&options.identity, random.random()),
            Some(server),
            options.listen.clone(),
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let shared = Arc::new(Shared {
            endpoint,
            local,
            introduction: Introduction {
                node: options.identity.id(),
                cluster: options.identity.cluster().to_owned(),
                incarnation: random.random(),
                versions: options.versions,
            },
            limits: options.limits,
            timing: options.timing,
            handler: options.handler,
            complaints: Arc::default(),
            tasks: TaskTracker::new(),
            runtime,
            kill: CancellationToken::new(),
            client: RwLock::new(client),
            routes: options.routes,
            wall_clock: options.wall_clock,
            stop: CancellationToken::new(),
            state: Mutex::new(State {
                peers: BTreeMap::new(),
                incoming: BTreeMap::new(),
                lives: BTreeMap::new(),
                random,
            }),
        });
        shared.spawn(serve::accept(shared.clone()));
        let mesh = Self { shared };
        mesh.set_members(options.members);
        tracing::info!(
            node = %mesh.shared.introduction.node, cluster = mesh.shared.introduction.cluster,
            address = %local, "the mesh listens"
        );
        Ok(mesh)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.shared.introduction.node
    }

    /// Sets who may connect and is dialled. Connections of those who left are closed, in both
    /// directions; those who moved are dialled at their new address.
    pub fn set_members(&self, members: Members) {
        let shared = &self.shared;
        let mut state = shared.state();
        if shared.stop.is_cancelled() {
            return;
        }
        state.peers.retain(|id, peer| {
            let stays = members.contains_key(id);
            if !stays {
                peer.close(close::NOT_A_MEMBER, "this node is no longer a member");
                peer.gone.cancel();
            }
            stays
        });
        for (id, guests) in &state.incoming {
            if !members.contains_key(id) {
                for guest in guests {
                    guest
                        .connection
                        .close(close::NOT_A_MEMBER, b"this node is no longer a member");
                }
            }
        }
        state.incoming.retain(|id, _| members.contains_key(id));
        state.lives.retain(|id, _| members.contains_key(id));
        for (id, address) in members {
            if id == shared.introduction.node {
                continue;
            }
            if let Some(peer) = state.peers.get(&id) {
                peer.moves_to(&address);
                continue;
            }
            let peer = Arc::new(Peer::new(id, address, shared.stop.child_token()));
            state.peers.insert(id, peer.clone());
            for lane in [Lane::Main, Lane::Bulk] {
                let seed = state.random.random();
                let dialling = dial::keep_up(shared.clone(), peer.clone(), lane, seed);
                shared.spawn(dialling);
            }
        }
    }

    /// Asks `to` and waits for its answer, at most for `deadline`, which includes waiting for a
    /// connection. Dropping the future ends the callee's work on it.
    ///
    /// # Errors
    /// See [`CallError`], which tells whether the callee may have acted.
    pub async fn call(
        &self,
        to: PeerId,
        urgency: Urgency,
        service: Service,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        crate::call::call(&self.shared, to, urgency, service, body, deadline).await
    }

    /// Opens a stream of frames in both directions. `deadline` is for opening it; it then lives
    /// until both sides have finished, or either gives it up.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn open(
        &self,
        to: PeerId,
        urgency: Urgency,
        service: Service,
        opening: Bytes,
        deadline: Duration,
    ) -> Result<(FrameSender, FrameReceiver), CallError> {
        crate::call::open(&self.shared, to, urgency, service, opening, deadline).await
    }

    /// All other members, in the order of their numbers.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let state = self.shared.state();
        let status = |(id, peer): (&PeerId, &Arc<Peer>)| {
            let guests: Vec<_> = state
                .incoming
                .get(id)
                .into_iter()
                .flatten()
                .map(|guest| guest.connection.clone())
                .collect();
            peer.status(&guests)
        };
        state.peers.iter().map(status).collect()
    }

    /// What was turned away.
    #[must_use]
    pub fn counters(&self) -> MeshCounters {
        MeshCounters {
            refused_connections: self.shared.complaints.refused(),
            bad_streams: self.shared.complaints.bad_streams(),
            twins: self.shared.complaints.seen_twins(),
        }
    }

    /// Uses another certificate from now on: connections that are there stay, new ones, in both
    /// directions, show it.
    ///
    /// # Errors
    /// If it is of another node or cluster, or TLS does not take it; the old one then stays.
    pub fn replace_identity(&self, identity: Identity) -> Result<(), MeshError> {
        let shared = &self.shared;
        let introduction = &shared.introduction;
        if identity.id() != introduction.node || identity.cluster() != introduction.cluster {
            return Err(MeshError::OtherIdentity {
                expected: introduction.node,
                expected_cluster: introduction.cluster.clone(),
                found: identity.id(),
                found_cluster: identity.cluster().to_owned(),
            });
        }
        let Settings { client, server } = tls::settings(
            &identity,
            &shared.wall_clock,
            &shared.limits,
            &shared.timing,
        )?;
        *shared
            .client
            .write()
            .unwrap_or_else(PoisonError::into_inner) = client;
        shared.endpoint.set_server_config(Some(server));
        tracing::info!(node = %introduction.node, "the certificate was replaced");
        Ok(())
    }

    /// Closes all connections, tells the peers, and waits until nothing of the mesh runs any
    /// more. Calls then fail.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        {
            // Under the lock, so that nobody is added afterwards.
            let mut state = shared.state();
            shared.stop.cancel();
            state.peers.clear();
            state.incoming.clear();
        }
        shared
            .endpoint
            .close(close::SHUTDOWN, b"the node is shutting down");
        shared.tasks.close();
        if timeout(GRACE, shared.tasks.wait()).await.is_err() {
            tracing::warn!("handlers did not end at shutdown; dropping them");
            shared.kill.cancel();
            shared.tasks.wait().await;
        }
        // Until the goodbyes are sent.
        let _ = timeout(GRACE, shared.endpoint.wait_idle()).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member with this number, if it is another one than this node.
    pub(crate) fn peer(&self, id: PeerId) -> Option<Arc<Peer>> {
        self.state().peers.get(&id).cloned()
    }

    /// Runs a task that [`Mesh::shutdown`] waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Why there is nobody with this number.
    pub(crate) fn nobody(&self, id: PeerId) -> CallError {
        if self.stop.is_cancelled() {
            CallError::Unreachable {
                peer: id,
                reason: "this node is shutting down".to_owned(),
            }
        } else {
            CallError::UnknownPeer { peer: id }
        }
    }

    /// Where a peer is dialled.
    pub(crate) fn place_of(&self, peer: &Peer) -> String {
        match self.routes.get(&peer.id) {
            Some(route) => route.clone(),
            None => peer
                .address
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Takes note of a connection that a member has to us; refuses it if the member left
    /// meanwhile.
    pub(crate) fn register(
        &self,
        id: PeerId,
        incarnation: u64,
        connection: &Connection,
    ) -> Result<(), String> {
        let mut state = self.state();
        let Some(peer) = state.peers.get(&id).cloned() else {
            return Err(format!("node {id} is no longer a member"));
        };
        let here = connection.remote_address();
        let lives = state.lives.entry(id).or_default();
        if let Some(there) = lives.see(incarnation, here) {
            self.complaints.twins(id, here, there);
        }
        let guests = state.incoming.entry(id).or_default();
        if guests.iter().any(|guest| guest.incarnation != incarnation) {
            tracing::info!(peer = %id, "the peer has restarted");
        }
        guests.retain(|guest| {
            let same_life = guest.incarnation == incarnation;
            if !same_life {
                guest
                    .connection
                    .close(close::RESTARTED, b"you have restarted");
            }
            same_life
        });
        if guests.len() >= MAX_CONNECTIONS_PER_PEER {
            let oldest = guests.remove(0);
            oldest
                .connection
                .close(close::TOO_MANY, b"too many connections of one node");
        }
        guests.push(Guest {
            connection: connection.clone(),
            incarnation,
        });
        drop(state);
        peer.heard(incarnation);
        Ok(())
    }

    /// The connection has ended.
    pub(crate) fn unregister(&self, id: PeerId, connection: &Connection) {
        let mut state = self.state();
        if let Some(guests) = state.incoming.get_mut(&id) {
            guests.retain(|guest| guest.connection.stable_id() != connection.stable_id());
        }
        if let Some(peer) = state.peers.get(&id) {
            peer.count(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_comes_back_after_its_successor_is_its_twin() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut lives = Lives::default();
        assert_eq!(lives.see(1, at(1)), None);
        assert_eq!(lives.see(1, at(2)), None, "another connection");
        assert_eq!(lives.see(2, at(3)), None, "it restarted");
        assert_eq!(lives.see(3, at(4)), None, "and again");
        assert_eq!(lives.see(2, at(5)), Some(at(4)), "it never ended");
        assert_eq!(lives.see(3, at(6)), Some(at(5)));
        assert_eq!(lives.see(4, at(7)), None);
    }
}
