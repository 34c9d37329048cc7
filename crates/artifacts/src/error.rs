//! What can go wrong, said so that somebody can act on it.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// An operation on blobs, bundles or logs that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error("opening the artifact store {url:?}: {problem}")]
    Config {
        /// The URL, as configured.
        url: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The object store refused or failed.
    #[error("{action} {object} in {store}: {source}")]
    Store {
        /// What was being done.
        action: &'static str,
        /// The object's path in the store.
        object: String,
        /// The store's URL.
        store: String,
        /// What the store said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such blob.
    #[error(
        "reading {object} from {store}: it is not there; it was deleted or was written to another store (check the store's url in the configuration)"
    )]
    NotFound {
        /// The object's path in the store.
        object: String,
        /// The store's URL.
        store: String,
    },
    /// The bytes are not those that were asked for.
    #[error(
        "digest mismatch: expected {expected}, got {actual} at {place}; the copy is damaged: delete it and run the step that made it again (any new upload of the same content mends it)"
    )]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What was found.
        actual: Digest,
        /// Where it was found.
        place: String,
    },
    /// A named limit is exceeded.
    #[error("{what} is {bytes} bytes, more than the limit of {limit} ({name})")]
    TooLarge {
        /// What is too large.
        what: String,
        /// How large it is, or by when we stopped counting.
        bytes: u64,
        /// The limit.
        limit: u64,
        /// The limit's name.
        name: &'static str,
    },
    /// Something that must not be in an archive.
    #[error("entry {entry:?} cannot be {action}: {problem}")]
    Unsafe {
        /// `packed` or `unpacked`.
        action: &'static str,
        /// The entry's path inside the archive.
        entry: String,
        /// Why not.
        problem: String,
    },
    /// A file changed while it was being stored.
    #[error(
        "storing {path}: it changed while it was read; store it when whoever writes it is done",
        path = path.display()
    )]
    Changed {
        /// The file or directory.
        path: PathBuf,
    },
    /// The local file system failed.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name that cannot be part of a path in the store.
    #[error("the {what} {name:?} cannot be stored: {problem}")]
    Name {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A blocking task was cancelled because the runtime goes down.
    #[error("{action}: cancelled, the process is shutting down")]
    Cancelled {
        /// What was being done.
        action: &'static str,
    },
}

impl Error {
    /// Whether the same call can succeed later, with nothing else changed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Store { .. } | Self::Io { .. } | Self::Changed { .. } | Self::Cancelled { .. }
        )
    }

    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Runs blocking work on tokio's threads for it.
pub(crate) async fn blocking<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Cancelled { action }),
    }
}
