//! Artifacts and bundles on this agent: fetched once, verified, and given to attempts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use meson_artifacts::{BlobRef, BlobStore, Cache, Digest, Error, Placement, StoreConfig, bundle};
use meson_core::expression::ArtifactRef;
use meson_core::units::Bytes;
use meson_protocol::task::StoreLocation;

use crate::coordinators::Coordinators;
use crate::failure::TaskFailure;

/// Artifacts on this agent's disk beyond this are thrown out, the least recently used first.
const CACHE_LIMIT_BYTES: u64 = 20 << 30;

/// The agent's side of stores and bundles.
pub struct Storage {
    artifacts: Cache,
    bundles: PathBuf,
    /// Stores that were opened, by their address.
    stores: Mutex<HashMap<String, (StoreLocation, BlobStore)>>,
    /// Bundles that are being fetched.
    fetching: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage")
            .field("bundles", &self.bundles)
            .finish_non_exhaustive()
    }
}

impl Storage {
    /// With its cache in this folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(cache: &Path) -> Result<Self, Error> {
        Ok(Self {
            artifacts: Cache::open(&cache.join("artifacts"), CACHE_LIMIT_BYTES)?,
            bundles: cache.join("bundles"),
            stores: Mutex::default(),
            fetching: Mutex::default(),
        })
    }

    /// The store at this address.
    fn store(&self, location: &StoreLocation) -> Result<BlobStore, TaskFailure> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, store)) = stores.get(&location.url)
            && known == location
        {
            return Ok(store.clone());
        }
        if location.url.is_empty() {
            return Err(platform(
                "the coordinator names no artifact store: configure one".to_owned(),
                false,
            ));
        }
        let config = StoreConfig {
            url: location.url.clone(),
            options: location.options.clone(),
        };
        let store = BlobStore::open(&config)
            .map_err(|error| platform(error.to_string(), error.is_retryable()))?;
        stores.insert(location.url.clone(), (location.clone(), store.clone()));
        Ok(store)
    }

    /// Puts an artifact at `path`, read-only. `now` is noted in the cache as its last use.
    ///
    /// # Errors
    /// The store does not have it, does not answer, or its copy is damaged.
    pub async fn fetch(
        &self,
        location: &StoreLocation,
        artifact: &ArtifactRef,
        path: &Path,
        now: SystemTime,
    ) -> Result<(), TaskFailure> {
        let store = self.store(location)?;
        let failed = |why: String, retryable| {
            platform(
                format!(
                    "fetching artifact {} ({}): {why}",
                    artifact.name, artifact.digest
                ),
                retryable,
            )
        };
        let blob = BlobRef::from_parts(&artifact.digest, artifact.bytes.0, artifact.directory)
            .map_err(|error| failed(error.to_string(), false))?;
        // A copy of its own: a step that runs as root could spoil a linked one for all others.
        self.artifacts
            .materialize(&store, &blob, path, Placement::Copy, now)
            .await
            .map_err(|error| failed(error.to_string(), error.is_retryable()))?;
        read_only(path);
        Ok(())
    }

    /// Stores a file or a folder, and gives the artifact that it is now. When this returns it is
    /// durable.
    ///
    /// # Errors
    /// The store does not take it, or it cannot be read.
    pub async fn upload(
        &self,
        location: &StoreLocation,
        name: &str,
        path: &Path,
    ) -> Result<ArtifactRef, TaskFailure> {
        let store = self.store(location)?;
        let directory = fs::metadata(path).is_ok_and(|meta| meta.is_dir());
        let mut tries = 0;
        let blob = loop {
            tries += 1;
            let put = if directory {
                store.put_dir(path).await
            } else {
                store.put_file(path).await
            };
            match put {
                Ok(blob) => break blob,
                Err(error @ Error::Store { .. }) if tries < 3 => {
                    tracing::warn!(name, %error, "storing an artifact failed, trying again");
                    tokio::time::sleep(std::time::Duration::from_millis(300 << tries)).await;
                }
                Err(error) => {
                    let message = format!("storing artifact {name}: {error}");
                    return Err(match &error {
                        Error::Unsafe { .. } | Error::TooLarge { .. } => {
                            TaskFailure::hopeless(message)
                        }
                        Error::Changed { .. } => TaskFailure::step(message),
                        other => platform(message, other.is_retryable()),
                    });
                }
            }
        };
        Ok(ArtifactRef {
            name: name.to_owned(),
            digest: blob.digest.to_string(),
            bytes: Bytes(blob.bytes),
            directory: blob.is_directory(),
        })
    }

    /// Unpacks a bundle as the folder `into`, which is empty.
    ///
    /// # Errors
    /// No coordinator has it, or it is not what its digest says.
    pub async fn unpack_bundle(
        &self,
        digest: &str,
        coordinators: &Coordinators,
        into: &Path,
    ) -> Result<(), TaskFailure> {
        let failed = |why: String, retryable| {
            platform(format!("the workflow's bundle {digest}: {why}"), retryable)
        };
        let wanted: Digest = digest
            .parse()
            .map_err(|error| failed(format!("{error}"), false))?;
        let file = self.bundles.join(wanted.to_hex());
        // Tasks of one workflow start together: one of them fetches.
        let turn = self.turn(wanted);
        let _turn = turn.lock().await;
        let cached = file.clone();
        let kept = blocking(move || {
            fs::read(&cached)
                .ok()
                .filter(|bytes| bundle::verify(&wanted, bytes).is_ok())
        })
        .await?;
        let bytes = match kept {
            Some(bytes) => bytes::Bytes::from(bytes),
            None => {
                let limit = usize::try_from(bundle::MAX_BUNDLE_BYTES).unwrap_or(usize::MAX);
                let bytes = coordinators.bundle(digest, limit).await?;
                bundle::verify(&wanted, &bytes).map_err(|error| failed(error.to_string(), true))?;
                let (kept, copy) = (file.clone(), bytes.clone());
                // A cache that cannot be written costs time, not the task.
                let written = blocking(move || keep(&kept, &copy)).await?;
                if let Err(error) = written {
                    tracing::warn!(file = %file.display(), %error, "cannot keep a bundle");
                }
                bytes
            }
        };
        drop(_turn);
        let into = into.to_owned();
        blocking(move || bundle::unpack(&bytes, &into))
            .await?
            .map_err(|error| failed(error.to_string(), error.is_retryable()))
    }

    fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = fetching.get(&digest).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        fetching.insert(digest, Arc::downgrade(&turn));
        turn
    }
}

fn platform(message: String, retryable: bool) -> TaskFailure {
    let mut failure = TaskFailure::platform(message);
    failure.0.retryable = retryable;
    failure
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TaskFailure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| TaskFailure::platform(format!("the executor is ending: {error}")))
}

/// Whole or not at all: several executors may share the folder.
fn keep(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let part = folder.join(format!(".{}.part", uuid::Uuid::new_v4().simple()));
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, file))
        .inspect_err(|_| {
            let _ = fs::remove_file(&part);
        })
}

/// Inputs are not to be changed; a folder's files are left as the archive had them.
fn read_only(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if path.is_file() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o444));
    }
}
