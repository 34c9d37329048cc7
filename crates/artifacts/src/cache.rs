//! Blobs on an agent's disk, shared by the tasks that run there.
//!
//! ```text
//!  cache/sha256/ab/cdef…          the blob, verified, read-only (a directory: its tar)
//!  cache/sha256/ab/.cdef….part    one that is being fetched
//! ```
//!
//! Several processes may use one cache. An entry appears by rename, so it is
//! whole; it may vanish when another process makes room, and is then fetched
//! again. Within a process, tasks that want the same blob share one download.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use crate::archive;
use crate::blob::{BlobKind, BlobRef, BlobStore};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, blocking};
use crate::fetch::{self, Unfinished};

/// A download that has not grown for so long is nobody's any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How a file gets from the cache to its place. Directories are always unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// A copy of its own, verified once more.
    #[default]
    Copy,
    /// A read-only hard link to the cache's copy: no time, no space, but a task
    /// that makes it writable and changes it spoils it for the others. A copy if
    /// the place is on another file system.
    Link,
}

/// A cache of blobs, limited in bytes, the least recently used go first.
pub struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
    /// Downloads under way, by digest.
    fetching: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    /// Opens the cache in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(folder: &Path, limit_bytes: u64) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io("making the folder", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            limit_bytes,
            fetching: Mutex::new(HashMap::new()),
        })
    }

    fn entry(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.folder.join("sha256").join(&hex[..2]).join(&hex[2..])
    }

    /// Puts a blob at `path` (as [`BlobStore::fetch_to`] does), from the cache if
    /// it is there. `now` is remembered as the time of its last use.
    ///
    /// # Errors
    /// As [`BlobStore::fetch_to`].
    pub async fn materialize(
        &self,
        store: &BlobStore,
        blob: &BlobRef,
        path: &Path,
        placement: Placement,
        now: SystemTime,
    ) -> Result<(), Error> {
        let entry = self.entry(&blob.digest);
        // An entry can vanish (another process made room) or prove damaged; then
        // it is fetched again, and what happens after that is not bad luck.
        for _ in 0..2 {
            self.ensure(store, blob, &entry, now).await?;
            let (from, to) = (entry.clone(), path.to_owned());
            let blob = *blob;
            let placed = blocking("placing a blob", move || {
                place(&blob, &from, &to, placement)
            })
            .await;
            match placed {
                Err(Error::Io { path, source, .. })
                    if path == entry && source.kind() == io::ErrorKind::NotFound => {}
                Err(error @ Error::Mismatch { .. }) => {
                    tracing::warn!(%error, "a damaged cache entry is dropped");
                    let entry = entry.clone();
                    blocking("dropping a cache entry", move || remove(&entry)).await?;
                }
                other => return other,
            }
        }
        store.fetch_to(blob, path).await
    }

    /// Makes sure that the entry is there, once per process at a time.
    async fn ensure(
        &self,
        store: &BlobStore,
        blob: &BlobRef,
        entry: &Path,
        now: SystemTime,
    ) -> Result<(), Error> {
        let turn = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.retain(|_, turn| turn.strong_count() > 0);
            let running = fetching.get(&blob.digest).and_then(Weak::upgrade);
            running.unwrap_or_else(|| {
                let turn = Arc::new(tokio::sync::Mutex::new(()));
                fetching.insert(blob.digest, Arc::downgrade(&turn));
                turn
            })
        };
        let _turn = turn.lock().await;
        let (path, bytes) = (entry.to_owned(), blob.bytes);
        if blocking("looking into the cache", move || {
            Ok(touch(&path, bytes, now))
        })
        .await?
        {
            return Ok(());
        }
        let path = entry.to_owned();
        let part = blocking("preparing a download", move || Unfinished::beside(&path)).await?;
        let object = BlobStore::object(&blob.digest);
        fetch::download(&store.backend, &object, blob.digest, part.path()).await?;
        let (path, folder, limit) = (entry.to_owned(), self.folder.clone(), self.limit_bytes);
        blocking("filling the cache", move || {
            let read_only = fs::Permissions::from_mode(0o444);
            fs::set_permissions(part.path(), read_only)
                .map_err(Error::io("setting the mode of", part.path()))?;
            part.finish(&path)?;
            touch(&path, bytes, now);
            make_room(&folder, limit, &path, now)
        })
        .await
    }

    /// The bytes that the cache holds.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(entries(&self.folder)?.iter().map(|entry| entry.bytes).sum())
    }
}

/// Marks the entry as used now; false if it is not there, or not of that size.
fn touch(entry: &Path, bytes: u64, now: SystemTime) -> bool {
    let Ok(file) = File::open(entry) else {
        return false;
    };
    if !file.metadata().is_ok_and(|meta| meta.len() == bytes) {
        return false;
    }
    // Not being able to is no reason not to use it: it only goes earlier.
    if let Err(error) = file.set_modified(now) {
        tracing::debug!(entry = %entry.display(), %error, "a cache entry cannot be marked as used");
    }
    true
}

fn place(blob: &BlobRef, entry: &Path, to: &Path, placement: Placement) -> Result<(), Error> {
    let part = Unfinished::beside(to)?;
    let verify = |actual| {
        if actual == blob.digest {
            return Ok(());
        }
        Err(Error::Mismatch {
            expected: blob.digest,
            actual,
            place: entry.display().to_string(),
        })
    };
    match (blob.kind, placement) {
        (BlobKind::File, Placement::Link) => match fs::hard_link(entry, part.path()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                return place(blob, entry, to, Placement::Copy);
            }
            Err(error) => return Err(Error::io("linking", entry)(error)),
        },
        (BlobKind::File, Placement::Copy) => {
            let file = File::open(entry).map_err(Error::io("opening", entry))?;
            verify(fetch::copy_hashed(file, part.path())?)?;
        }
        (BlobKind::Directory, _) => {
            let file = File::open(entry).map_err(Error::io("opening", entry))?;
            fs::create_dir(part.path()).map_err(Error::io("making the folder", part.path()))?;
            let mut reader = Tee {
                from: file,
                hasher: Hasher::new(()),
            };
            // What the archive says is only believed once its digest is right;
            // until then it stays in the unfinished folder, which unpacking cannot leave.
            let unpacked = archive::unpack(&mut reader, part.path(), None);
            io::copy(&mut reader, &mut io::sink()).map_err(Error::io("reading", entry))?;
            verify(reader.hasher.finish().0)?;
            unpacked?;
        }
    }
    part.finish(to)
}

/// Hashes what is read through it.
struct Tee {
    from: File,
    hasher: Hasher<()>,
}

impl io::Read for Tee {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buf)?;
        self.hasher.update(&buf[..read]);
        Ok(read)
    }
}

fn remove(entry: &Path) -> Result<(), Error> {
    match fs::remove_file(entry) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing", entry)(error))
        }
        _ => Ok(()),
    }
}

struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
    /// Being fetched, or left behind by a process that died fetching.
    unfinished: bool,
}

fn entries(folder: &Path) -> Result<Vec<Entry>, Error> {
    let mut found = Vec::new();
    let root = folder.join("sha256");
    if !root.exists() {
        return Ok(found);
    }
    for relative in archive::walk(&root)? {
        let path = root.join(relative);
        // Whatever vanishes meanwhile is gone, which is what we are after.
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if let (true, Ok(used)) = (meta.is_file(), meta.modified()) {
            let name = path.file_name().unwrap_or_default();
            found.push(Entry {
                unfinished: name.as_encoded_bytes().starts_with(b"."),
                bytes: meta.len(),
                used,
                path,
            });
        }
    }
    Ok(found)
}

/// Removes the least recently used entries, but not `keep`, until the rest fits;
/// and what unfinished downloads left behind.
fn make_room(folder: &Path, limit: u64, keep: &Path, now: SystemTime) -> Result<(), Error> {
    let mut all = entries(folder)?;
    let mut total: u64 = all.iter().map(|entry| entry.bytes).sum();
    all.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
    for entry in all {
        let surplus = if entry.unfinished {
            now.duration_since(entry.used)
                .is_ok_and(|age| age > ABANDONED_AFTER)
        } else {
            total > limit && entry.path != keep
        };
        if surplus {
            remove(&entry.path)?;
            total -= entry.bytes;
        }
    }
    Ok(())
}
