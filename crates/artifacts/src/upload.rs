//! Files and directories on their way into the store, in pieces.
//!
//! Content is read twice: once for its digest, which is its name, and once to be
//! sent. What is sent is hashed again, and nothing appears in the store if the
//! two differ. So nothing is ever spooled to disk, whatever its size.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use object_store::{ObjectStoreExt, WriteMultipart};
use tokio::sync::mpsc;

use crate::archive;
use crate::backend::Backend;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, blocking};

/// The least that S3 takes as a part.
const PART_BYTES: u64 = 5 << 20;
/// S3 takes 10,000 parts; some room is left.
const MAX_PARTS: u64 = 9_000;
/// Parts under way at a time: with those that wait, about 25 MiB.
const PARALLEL_PARTS: usize = 2;

/// What is to be stored.
#[derive(Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Directory(PathBuf),
}

impl Source {
    fn write_to<W: Write>(&self, to: &mut W) -> Result<(), Error> {
        match self {
            Self::File(path) => {
                let mut file = File::open(path).map_err(Error::io("opening", path))?;
                io::copy(&mut file, to).map_err(Error::io("reading", path))?;
            }
            Self::Directory(path) => {
                archive::pack(path, &archive::walk(path)?, to)?;
            }
        }
        Ok(())
    }

    fn path(&self) -> &PathBuf {
        match self {
            Self::File(path) | Self::Directory(path) => path,
        }
    }

    /// What it will be called, and its size in the store.
    pub(crate) async fn digest(&self) -> Result<(Digest, u64), Error> {
        let source = self.clone();
        blocking("hashing a file", move || {
            let mut hasher = io::BufWriter::with_capacity(256 << 10, Hasher::new(io::sink()));
            source.write_to(&mut hasher)?;
            let hasher = hasher.into_inner().map_err(|error| Error::Io {
                action: "hashing",
                path: source.path().clone(),
                source: error.into_error(),
            })?;
            let (digest, bytes, _) = hasher.finish();
            Ok((digest, bytes))
        })
        .await
    }
}

/// Cuts what is written into parts for the async side.
struct Parts {
    to: mpsc::Sender<Bytes>,
    part: BytesMut,
    size: usize,
}

impl Write for Parts {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = buf.len().min(self.size - self.part.len());
        self.part.extend_from_slice(&buf[..taken]);
        if self.part.len() == self.size {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // a part goes when it is full
    }
}

impl Parts {
    fn send(&mut self) -> io::Result<()> {
        let part = self.part.split().freeze();
        self.to
            .blocking_send(part)
            .map_err(|_| io::Error::other("the upload was given up"))
    }
}

/// Sends a source's content to `object`, provided that it has that digest.
pub(crate) async fn upload(
    backend: &Arc<Backend>,
    object: &str,
    source: Source,
    digest: Digest,
    bytes: u64,
) -> Result<(), Error> {
    let size = PART_BYTES.max(bytes / MAX_PARTS + 1);
    let (to, mut parts) = mpsc::channel(2);
    let reader = source.clone();
    let reading = tokio::spawn(blocking("reading a file", move || {
        let mut hasher = Hasher::new(Parts {
            to,
            part: BytesMut::new(),
            size: usize::try_from(size).unwrap_or(usize::MAX),
        });
        reader.write_to(&mut hasher)?;
        let (digest, _, mut parts) = hasher.finish();
        parts.send().map_err(Error::io("reading", reader.path()))?;
        Ok(digest)
    }));
    let unchanged = async move {
        match reading.await {
            Ok(Ok(found)) if found == digest => Ok(()),
            Ok(Ok(_)) => Err(Error::Changed {
                path: source.path().clone(),
            }),
            Ok(Err(error)) => Err(error),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Cancelled {
                action: "reading a file",
            }),
        }
    };
    // One part, full or not, is one request.
    let first = parts.recv().await.unwrap_or_default();
    let second = if first.len() as u64 == size {
        parts.recv().await.filter(|part| !part.is_empty())
    } else {
        None
    };
    let Some(second) = second else {
        unchanged.await?;
        return backend.put(object, first).await;
    };

    let started = backend.store.put_multipart(&backend.path(object)).await;
    let upload = started.map_err(backend.failed("writing", object))?;
    let mut upload =
        WriteMultipart::new_with_chunk_size(upload, usize::try_from(size).unwrap_or(usize::MAX));
    let sent = async {
        upload.put(first);
        upload.put(second);
        while let Some(part) = parts.recv().await {
            upload.wait_for_capacity(PARALLEL_PARTS).await?;
            upload.put(part);
        }
        Ok(())
    };
    let outcome = match sent.await.map_err(backend.failed("writing", object)) {
        Ok(()) => unchanged.await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => {
            upload
                .finish()
                .await
                .map_err(backend.failed("writing", object))?;
            Ok(())
        }
        Err(error) => {
            // The first error says more than one about cleaning up after it.
            if let Err(error) = upload.abort().await {
                tracing::warn!(%object, %error, "an unfinished upload could not be removed");
            }
            Err(error)
        }
    }
}
