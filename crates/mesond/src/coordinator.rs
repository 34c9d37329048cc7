//! Wires a coordinator together: consensus, engine, stores, API.

use std::future::Future;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use meson_api::{Api, ApiOptions, Starting};
use meson_artifacts::{BlobStore, LogStore, StoreConfig};
use meson_consensus::{ClusterId, ConsensusNode, NodeId, Options};
use meson_engine::Engine;
use meson_engine::machine::ShardMachine;
use meson_engine::options::EngineOptions;
use meson_protocol::task::StoreLocation;
use meson_protocol::token::ClusterSecret;

use crate::cluster::{Place, impostor};
use crate::config::{Config, ConfigError};
use crate::pools;
use crate::system;

/// Leadership is handed over within this time before a coordinator ends.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// A running coordinator.
pub(crate) struct Coordinator {
    consensus: ConsensusNode,
    engine: Engine,
    api: Api,
    place: Option<Place>,
}

/// `mesond start`: runs until told to end.
pub(crate) async fn run(path: PathBuf, node: Option<u64>) -> anyhow::Result<()> {
    let coordinator = Coordinator::start(Config::read(&path, node)?).await?;
    let ending = system::end_signal()?;
    println!("ready {}", coordinator.url());
    let failed = tokio::select! {
        reason = coordinator.failed() => Some(reason),
        () = ending => None,
    };
    coordinator.stop().await;
    match failed {
        Some(reason) => anyhow::bail!(
            "the coordinator gave up: {reason}; its service manager should start it again"
        ),
        None => Ok(()),
    }
}

impl Coordinator {
    /// Opens the data, takes up what was going on, and serves.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let data = &config.node.data;
        let named = config.node.secret.clone();
        let file = named.unwrap_or_else(|| data.join("secret"));
        if config.cluster.is_some() && !file.exists() {
            return Err(anyhow::Error::new(no_secret(file)));
        }
        std::fs::create_dir_all(data)
            .with_context(|| format!("cannot make the data folder {}", data.display()))?;
        let secret = secret(&file)?;
        let location = StoreLocation {
            url: config.store.url.clone(),
            options: config.store.options.clone(),
        };
        let blobs = BlobStore::open(&StoreConfig {
            url: location.url.clone(),
            options: location.options.clone(),
        })?;
        blobs
            .check()
            .await
            .context("the object store cannot be used")?;

        let listen: std::net::SocketAddr = config
            .http
            .listen
            .parse()
            .context("http.listen is no address")?;
        let listener = Api::bind(listen)?;
        let starting = Starting::serve(&listener, "it opens its data")?;
        let own_url = format!("http://{}", listener.local_addr()?);
        let advertise = if config.http.advertise.is_empty() {
            vec![own_url.clone()]
        } else {
            config.http.advertise.clone()
        };

        let mut options = EngineOptions::new(system::steady_clock(), system::seed(), secret)
            .on_arbiters(system::arbiters());
        options.coordinators = advertise;
        options.store = location;
        options.region.clone_from(&config.node.region);
        options.timing.spill = config.spill.after();
        options.http_addr = own_url;
        options.brokers = Some(Arc::new(pools::brokers(&config).await?));

        let layout = config.layout().map_err(anyhow::Error::msg)?;
        options.layout = Some(layout.clone());
        let place = match &config.cluster {
            Some(cluster) => Some(Place::take(&config, cluster)?),
            None => None,
        };
        let machine = Arc::new(ShardMachine);
        let mut raft = match (&place, &config.cluster) {
            (Some(place), Some(cluster)) => {
                options.peers = place.link();
                place.open(&config, cluster, &layout, &starting).await?
            }
            _ => Options::single(
                ClusterId::new(&config.node.cluster),
                NodeId::new(config.node.id),
                layout.shards(),
            ),
        };
        raft.snapshots = config.snapshots.policy();
        let consensus = ConsensusNode::open(data.join("shards"), raft, machine)
            .await
            .with_context(|| format!("cannot open {}", data.display()))?;
        if let Some(place) = &place {
            place.check(&consensus, data)?;
        }
        let engine = Engine::start(consensus.clone(), options);
        if let Some(place) = &place {
            place.serve(&consensus, &engine, data);
        }
        let logs = LogStore::new(&blobs);
        starting.stop().await;
        let api = Api::start(
            listener,
            ApiOptions {
                engine: engine.clone(),
                blobs,
                logs,
            },
        )?;
        Ok(Self {
            consensus,
            engine,
            api,
            place,
        })
    }

    /// Where the API is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.api.addr())
    }

    /// Resolves when the node cannot go on, with the reason.
    pub(crate) fn failed(&self) -> impl Future<Output = String> + use<> {
        let mut storage = self.consensus.failures();
        let mut engine = self.engine.failures();
        let impostor = self.place.is_some().then(|| impostor(self.engine.clone()));
        async move {
            let impostor = async {
                match impostor {
                    Some(impostor) => impostor.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                reason = impostor => reason,
                failure = storage.wait_for(Option::is_some) => match failure.as_deref() {
                    Ok(Some(failure)) => failure.to_string(),
                    _ => "its storage is gone".to_owned(),
                },
                failure = engine.wait_for(Option::is_some) => match failure.as_deref() {
                    Ok(Some(failure)) => failure.to_string(),
                    _ => "its engine is gone".to_owned(),
                },
            }
        }
    }

    /// Ends it in order: no new requests, actors, then the log.
    pub(crate) async fn stop(self) {
        if self.place.is_some() {
            self.engine.leave(LEAVE_WITHIN).await;
        }
        self.api.stop().await;
        self.engine.shutdown().await;
        if let Some(place) = &self.place {
            place.leave().await;
        }
        self.consensus.shutdown().await;
    }
}

/// A node of a cluster is given the secret: one that it made itself would be another one than the
/// others', and they would refuse each other's tasks.
fn no_secret(path: PathBuf) -> ConfigError {
    ConfigError::Secret {
        path,
        problem: "is missing: all nodes of a cluster have the same one; copy it from another node \
                  or, for a new cluster, make one with `openssl rand -hex 32` and copy it to all; \
                  `secret` in [node] says where it is"
            .to_owned(),
    }
}

/// Reads the cluster's secret, or makes one that only we can read.
fn secret(path: &Path) -> anyhow::Result<ClusterSecret> {
    if !path.exists() {
        let fresh: [u8; 32] = rand::random();
        let text: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .with_context(|| format!("cannot write the cluster's secret to {}", path.display()))?;
    }
    let wrong = |problem: String| ConfigError::Secret {
        path: path.to_owned(),
        problem,
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let secret = ClusterSecret::new(bytes.trim_ascii());
    Ok(secret.ok_or_else(|| {
        let least = ClusterSecret::MIN_BYTES;
        wrong(format!("is shorter than {least} bytes"))
    })?)
}
