//! Blobs on their way out of the store: hashed while they are read, and renamed
//! into place only if they are what was asked for.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use object_store::{GetResultPayload, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use crate::archive;
use crate::backend::Backend;
use crate::blob::BlobRef;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, blocking};

/// How much is asked for at a time, so that a request of any size of blob ends
/// within the client's time limit.
const WINDOW_BYTES: u64 = 16 << 20;

/// A file or folder that is removed unless it is renamed into its place.
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Beside `target`, hence on the same file system.
    pub(crate) fn beside(target: &Path) -> Result<Self, Error> {
        let name = target.file_name().ok_or_else(|| Error::Io {
            action: "writing",
            path: target.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"),
        })?;
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(Error::io("making the folder", folder))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", uuid::Uuid::new_v4().simple()));
        Ok(Self(folder.join(hidden)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Renames it into its place. Files replace files, folders empty folders.
    pub(crate) fn finish(self, target: &Path) -> Result<(), Error> {
        fs::rename(&self.0, target).map_err(Error::io("renaming into place", target))?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Best effort: what is left behind is hidden and marked as a part.
        let _ = match fs::symlink_metadata(&self.0) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&self.0),
            Ok(_) => fs::remove_file(&self.0),
            Err(_) => Ok(()),
        };
    }
}

/// Copies and hashes, then makes the copy durable.
pub(crate) fn copy_hashed(mut from: impl Read, to: &Path) -> Result<Digest, Error> {
    let file = File::create_new(to).map_err(Error::io("creating", to))?;
    let mut hasher = Hasher::new(file);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = from
            .read(&mut buffer)
            .map_err(Error::io("reading for", to))?;
        if read == 0 {
            break;
        }
        hasher
            .write_all(&buffer[..read])
            .map_err(Error::io("writing", to))?;
    }
    let (digest, _, file) = hasher.finish();
    file.sync_all().map_err(Error::io("syncing", to))?;
    Ok(digest)
}

/// Downloads an object to a new file; an error if it is not what it should be.
pub(crate) async fn download(
    backend: &Backend,
    object: &str,
    expected: Digest,
    to: &Path,
) -> Result<(), Error> {
    let path = backend.path(object);
    let failed = || backend.failed("reading", object);
    let meta = backend.store.head(&path).await.map_err(failed())?;
    let window = object_store::GetOptions::new().with_range(Some(0..WINDOW_BYTES.min(meta.size)));
    let options = if meta.size == 0 {
        object_store::GetOptions::new()
    } else {
        window
    };
    let first = backend
        .store
        .get_opts(&path, options)
        .await
        .map_err(failed())?;
    let actual = match first.payload {
        // A folder gives the file itself: no need for windows.
        GetResultPayload::File(file, _) => {
            let to = to.to_owned();
            blocking("copying a blob", move || copy_hashed(file, &to)).await?
        }
        GetResultPayload::Stream(mut stream) => {
            let created = tokio::fs::File::create_new(to).await;
            let mut file = created.map_err(Error::io("creating", to))?;
            let mut hasher = Hasher::new(());
            let mut done = 0;
            loop {
                while let Some(piece) = futures::TryStreamExt::try_next(&mut stream)
                    .await
                    .map_err(failed())?
                {
                    hasher.update(&piece);
                    done += piece.len() as u64;
                    file.write_all(&piece)
                        .await
                        .map_err(Error::io("writing", to))?;
                }
                if done >= meta.size {
                    break;
                }
                let range = done..(done + WINDOW_BYTES).min(meta.size);
                let options = object_store::GetOptions::new().with_range(Some(range));
                let next = backend
                    .store
                    .get_opts(&path, options)
                    .await
                    .map_err(failed())?;
                stream = next.into_stream();
            }
            file.flush().await.map_err(Error::io("writing", to))?;
            file.sync_all().await.map_err(Error::io("syncing", to))?;
            hasher.finish().0
        }
    };
    if actual != expected {
        return Err(Error::Mismatch {
            expected,
            actual,
            place: backend.place(object),
        });
    }
    Ok(())
}

/// Puts what was downloaded by other means (see [`BlobStore::stream`](crate::BlobStore::stream)) in
/// its place, if it is the blob that it should be: a file is renamed, a directory unpacked.
///
/// # Errors
/// [`Error::Mismatch`], [`Error::Unsafe`], or what the file system said.
pub fn place(blob: &BlobRef, downloaded: &Path, target: &Path) -> Result<(), Error> {
    let file = File::open(downloaded).map_err(Error::io("opening", downloaded))?;
    let mut hasher = Hasher::new(io::sink());
    io::copy(&mut BufReader::new(file), &mut hasher).map_err(Error::io("reading", downloaded))?;
    let (actual, _, _) = hasher.finish();
    if actual != blob.digest {
        return Err(Error::Mismatch {
            expected: blob.digest,
            actual,
            place: downloaded.display().to_string(),
        });
    }
    if blob.is_directory() {
        return unpack_to(downloaded, target);
    }
    fs::rename(downloaded, target).map_err(Error::io("renaming into place", target))
}

/// Unpacks a tar into a new folder `target`.
pub(crate) fn unpack_to(tar: &Path, target: &Path) -> Result<(), Error> {
    let file = File::open(tar).map_err(Error::io("opening", tar))?;
    let folder = Unfinished::beside(target)?;
    fs::create_dir(folder.path()).map_err(Error::io("making the folder", folder.path()))?;
    archive::unpack(BufReader::new(file), folder.path(), None)?;
    folder.finish(target)
}
