//! The blob store.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::backend::Backend;
use crate::config::StoreConfig;
use crate::digest::{Digest, ParseDigestError};
use crate::error::{Error, blocking};
use crate::fetch::{self, Unfinished};
use crate::upload::{self, Source};

const FOLDER: &str = "blobs/sha256";
/// What [`BlobStore::stream`] reads at a time.
const STREAM_PIECE_BYTES: u64 = 1 << 20;

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobKind {
    /// The bytes of one file.
    File,
    /// A directory, as a deterministic tar.
    Directory,
}

/// A blob that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// Its name.
    pub digest: Digest,
    /// Its size in the store (for a directory: of the tar).
    pub bytes: u64,
    /// What it holds.
    pub kind: BlobKind,
}

impl BlobRef {
    /// From the parts that other crates keep.
    ///
    /// # Errors
    /// `digest` is not of the form `sha256:…`.
    pub fn from_parts(digest: &str, bytes: u64, directory: bool) -> Result<Self, ParseDigestError> {
        Ok(Self {
            digest: digest.parse()?,
            bytes,
            kind: if directory {
                BlobKind::Directory
            } else {
                BlobKind::File
            },
        })
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == BlobKind::Directory
    }
}

/// A blob, as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its name.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// When it was last put, by the store's clock.
    pub modified: SystemTime,
}

/// Content-addressed blobs in an object store. Cheap to clone.
#[derive(Clone)]
pub struct BlobStore {
    pub(crate) backend: Arc<Backend>,
}

impl BlobStore {
    /// Opens a store. A folder is made if it is missing; nothing is asked of S3
    /// yet (see [`Self::check`]).
    ///
    /// # Errors
    /// [`Error::Config`], or [`Error::Io`] if the folder cannot be made.
    pub fn open(config: &StoreConfig) -> Result<Self, Error> {
        Ok(Self {
            backend: Arc::new(Backend::open(config)?),
        })
    }

    /// Writes, reads and deletes a small object: whether the store can be used.
    ///
    /// # Errors
    /// What the store said.
    pub async fn check(&self) -> Result<(), Error> {
        let object = format!("probe/{}", uuid::Uuid::new_v4().simple());
        let probe = Bytes::from_static(b"meson");
        self.backend.put(&object, probe.clone()).await?;
        let found = self.backend.get(&object).await?;
        self.backend.delete(&object).await?;
        self.verify(&object, Digest::of(&probe), &found)
    }

    pub(crate) fn object(digest: &Digest) -> String {
        let hex = digest.to_hex();
        format!("{FOLDER}/{}/{}", &hex[..2], &hex[2..])
    }

    fn verify(&self, object: &str, expected: Digest, bytes: &[u8]) -> Result<(), Error> {
        let actual = Digest::of(bytes);
        if actual == expected {
            return Ok(());
        }
        Err(Error::Mismatch {
            expected,
            actual,
            place: self.backend.place(object),
        })
    }

    /// Stores bytes. When this returns, they are durable.
    ///
    /// # Errors
    /// What the store said.
    pub async fn put_bytes(&self, bytes: Bytes) -> Result<BlobRef, Error> {
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        self.backend.put(&Self::object(&digest), bytes).await?;
        Ok(BlobRef {
            digest,
            bytes: size,
            kind: BlobKind::File,
        })
    }

    /// Stores a file of any size, in pieces.
    ///
    /// # Errors
    /// [`Error::Changed`] if somebody writes to it meanwhile; else what the file
    /// system or the store said. After an error nothing is stored.
    pub async fn put_file(&self, path: &Path) -> Result<BlobRef, Error> {
        self.put(Source::File(path.to_owned()), BlobKind::File)
            .await
    }

    /// Stores a directory as a deterministic tar: two directories with the same
    /// content have the same digest, wherever and whenever they are packed.
    ///
    /// # Errors
    /// [`Error::Unsafe`] for links that lead out and for sockets, pipes and
    /// devices; else as [`Self::put_file`].
    pub async fn put_dir(&self, path: &Path) -> Result<BlobRef, Error> {
        self.put(Source::Directory(path.to_owned()), BlobKind::Directory)
            .await
    }

    async fn put(&self, source: Source, kind: BlobKind) -> Result<BlobRef, Error> {
        let (digest, bytes) = source.digest().await?;
        let object = Self::object(&digest);
        upload::upload(&self.backend, &object, source, digest, bytes).await?;
        Ok(BlobRef {
            digest,
            bytes,
            kind,
        })
    }

    /// Reads a small blob into memory.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond `limit` bytes (nothing is read then),
    /// [`Error::Mismatch`], [`Error::NotFound`], or what the store said.
    pub async fn get_bytes(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let object = Self::object(digest);
        let size = self.backend.size(&object).await?.unwrap_or(0);
        if size > limit {
            return Err(Error::TooLarge {
                what: self.backend.place(&object),
                bytes: size,
                limit,
                name: "the caller's limit for blobs in memory",
            });
        }
        let bytes = self.backend.get(&object).await?;
        self.verify(&object, *digest, &bytes)?;
        Ok(bytes)
    }

    /// Fetches a blob to `path`: a file (replacing one that is there), or a
    /// directory (which must not exist, or be empty). It appears there whole and
    /// verified, or not at all.
    ///
    /// # Errors
    /// [`Error::Mismatch`], [`Error::NotFound`], [`Error::Unsafe`] for an archive
    /// that reaches outside; else what the file system or the store said.
    pub async fn fetch_to(&self, blob: &BlobRef, path: &Path) -> Result<(), Error> {
        let object = Self::object(&blob.digest);
        let part = {
            let path = path.to_owned();
            blocking("preparing a download", move || Unfinished::beside(&path)).await?
        };
        fetch::download(&self.backend, &object, blob.digest, part.path()).await?;
        let (path, kind) = (path.to_owned(), blob.kind);
        blocking("placing a blob", move || match kind {
            BlobKind::File => part.finish(&path),
            BlobKind::Directory => fetch::unpack_to(part.path(), &path),
        })
        .await
    }

    /// The blob's bytes as they are stored, piece by piece and *not* verified: for whoever passes
    /// them on to somebody that does, with [`place`](crate::place).
    #[must_use]
    pub fn stream(&self, digest: &Digest) -> BoxStream<'static, Result<Bytes, Error>> {
        let (backend, object) = (self.backend.clone(), Self::object(digest));
        let start = (backend, object, 0, None::<u64>);
        futures::stream::try_unfold(start, |(backend, object, from, size)| async move {
            let size = match size {
                Some(size) => size,
                None => match backend.size(&object).await? {
                    Some(size) => size,
                    None => return backend.get(&object).await.map(|_| None),
                },
            };
            if from >= size {
                return Ok(None);
            }
            let to = size.min(from + STREAM_PIECE_BYTES);
            let bytes = backend.get_range(&object, from..to).await?;
            Ok(Some((bytes, (backend, object, to, Some(size)))))
        })
        .boxed()
    }

    /// The blob's size, if there is one of that name. Its content is not read.
    ///
    /// # Errors
    /// What the store said.
    pub async fn exists(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.backend.size(&Self::object(digest)).await
    }

    /// Deletes a blob; it is fine if there is none.
    ///
    /// # Errors
    /// What the store said.
    pub async fn delete(&self, digest: &Digest) -> Result<(), Error> {
        self.backend.delete(&Self::object(digest)).await
    }

    /// The blobs whose 64 digits start with `prefix`, in no order.
    #[must_use]
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo, Error>> {
        let folder = match prefix.get(..2) {
            Some(first) => format!("{FOLDER}/{first}"),
            None => FOLDER.to_owned(),
        };
        let prefix = prefix.to_owned();
        self.backend
            .list(&folder, None)
            .try_filter_map(move |object| {
                let digits = object
                    .path
                    .strip_prefix(FOLDER)
                    .unwrap_or("")
                    .replace('/', "");
                // What is not ours, an unfinished upload for one, is not a blob.
                let blob = Digest::from_hex(&digits)
                    .filter(|_| digits.starts_with(&prefix))
                    .map(|digest| BlobInfo {
                        digest,
                        bytes: object.bytes,
                        modified: object.modified,
                    });
                std::future::ready(Ok(blob))
            })
            .boxed()
    }
}
