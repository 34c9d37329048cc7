//! The fetcher: brings the URIs of a command into the sandbox before the
//! executor starts.
//!
//! It follows what the real fetcher was seen to do: the file is named after the
//! last part of the URI (query included) or after `output_file`; archives are
//! extracted beside themselves unless the URI says otherwise; of two URIs with
//! one name the later wins. It differs on purpose in two ways: a path that leads
//! out of the sandbox is refused, and local files are never cached (a copy of a
//! copy saves nothing and goes stale).
//!
//! * [`mod@archive`]: what is packed, and how it is unpacked.

mod archive;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use self::archive::{archive, extract};

/// A server that sends nothing for so long has stalled
/// (`--fetcher_stall_timeout` of Mesos).
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What the cache may hold, in bytes (`--fetcher_cache_size` of Mesos).
const CACHE_LIMIT: u64 = 2 << 30;

/// One URI to fetch, as `CommandInfo.uris` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// `file://…`, an absolute path, `http://…` or `https://…`.
    pub(crate) uri: String,
    /// Make the file executable; it is then not extracted.
    pub(crate) executable: bool,
    /// Extract it if its name is an archive's.
    pub(crate) extract: bool,
    /// Keep a copy, and use the copy the next time.
    pub(crate) cache: bool,
    /// Where in the sandbox to put it, instead of the URI's own name.
    pub(crate) output_file: Option<String>,
}

/// Why a URI could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(
        "cannot fetch '{uri}': it names no file; end it with a file's name or give an output_file"
    )]
    NoName { uri: String },
    #[error(
        "cannot fetch '{uri}': output_file '{path}' leads out of the sandbox; use a relative path without '..'"
    )]
    OutsideSandbox { uri: String, path: String },
    #[error(
        "cannot fetch '{uri}': only file://, http:// and https:// URIs and absolute paths are known"
    )]
    UnknownScheme { uri: String },
    #[error("cannot fetch '{uri}': it is a directory; pack it as an archive")]
    Directory { uri: String },
    #[error("cannot fetch '{uri}': the server answered {status}")]
    Status { uri: String, status: u16 },
    #[error("cannot fetch '{uri}': {}", chain(.source))]
    Http { uri: String, source: reqwest::Error },
    #[error("cannot fetch '{uri}': {source}")]
    Io { uri: String, source: io::Error },
    #[error("cannot extract '{path}': {reason}")]
    Extract { path: String, reason: String },
}

/// An error of the HTTP client hides what really happened in its sources.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Where a URI's bytes come from.
#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    Local(&'a Path),
    Http(&'a str),
}

fn source(uri: &str) -> Result<Source<'_>, FetchError> {
    let local = uri
        .strip_prefix("file://localhost/")
        .map(|_| &uri["file://localhost".len()..])
        .or_else(|| uri.strip_prefix("file://"));
    match local {
        Some(path) if path.starts_with('/') => Ok(Source::Local(Path::new(path))),
        None if uri.starts_with('/') => Ok(Source::Local(Path::new(uri))),
        None if uri.starts_with("http://") || uri.starts_with("https://") => Ok(Source::Http(uri)),
        _ => Err(FetchError::UnknownScheme {
            uri: uri.to_owned(),
        }),
    }
}

/// Where in the sandbox the item's file goes: a relative path that stays inside.
fn target(item: &Item) -> Result<PathBuf, FetchError> {
    let no_name = || FetchError::NoName {
        uri: item.uri.clone(),
    };
    let Some(output) = &item.output_file else {
        let rest = item
            .uri
            .split_once("://")
            .map_or(item.uri.as_str(), |(_, rest)| rest);
        let (_, name) = rest.rsplit_once('/').ok_or_else(no_name)?;
        if name.is_empty() || name == "." || name == ".." {
            return Err(no_name());
        }
        return Ok(PathBuf::from(name));
    };
    let path = Path::new(output);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(FetchError::OutsideSandbox {
            uri: item.uri.clone(),
            path: output.clone(),
        });
    }
    if path.file_name().is_none() || output.ends_with('/') {
        return Err(no_name());
    }
    Ok(path.to_owned())
}

/// Fetches URIs, and keeps what may be cached. One per agent.
#[derive(Debug)]
pub(crate) struct Fetcher {
    cache: PathBuf,
    http: reqwest::Client,
    /// One lock per cached URI, so that of several containers one downloads.
    locks: std::sync::Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fetcher {
    /// A fetcher that keeps its cache in the directory `cache`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub(crate) fn new(cache: PathBuf) -> reqwest::Result<Self> {
        Ok(Self {
            cache,
            http: reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(STALL_TIMEOUT)
                .build()?,
            locks: std::sync::Mutex::default(),
        })
    }

    /// Fetches the items into the sandbox, one after the other. What happens is
    /// told in `log`, which is the sandbox's `stderr`.
    pub(crate) async fn fetch_all(
        &self,
        items: &[Item],
        sandbox: &Path,
        log: &mut File,
    ) -> Result<(), FetchError> {
        for item in items {
            // The log is for whoever looks into the sandbox; a full disk shows
            // itself below.
            let _ = writeln!(log, "Fetching '{}'", item.uri);
            if let Err(error) = self.fetch(item, sandbox).await {
                let _ = writeln!(log, "Failed to fetch: {error}");
                return Err(error);
            }
        }
        Ok(())
    }

    async fn fetch(&self, item: &Item, sandbox: &Path) -> Result<(), FetchError> {
        let io = |source| FetchError::Io {
            uri: item.uri.clone(),
            source,
        };
        let relative = target(item)?;
        let path = sandbox.join(&relative);
        self.place(item, sandbox, &path).await?;
        if item.executable {
            let mode = fs::metadata(&path).map_err(io)?.permissions().mode();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o111)).map_err(io)?;
        } else if let Some(kind) = archive(&path).filter(|_| item.extract) {
            let sandbox = sandbox.to_owned();
            tokio::task::spawn_blocking(move || extract(&path, kind, &sandbox))
                .await
                .map_err(|error| io(io::Error::other(error)))??;
        }
        Ok(())
    }

    /// Puts the item's bytes at `path`.
    async fn place(&self, item: &Item, sandbox: &Path, path: &Path) -> Result<(), FetchError> {
        let io = |source| FetchError::Io {
            uri: item.uri.clone(),
            source,
        };
        make_way(sandbox, path)
            .map_err(io)?
            .then_some(())
            .ok_or_else(|| FetchError::OutsideSandbox {
                uri: item.uri.clone(),
                path: path.display().to_string(),
            })?;
        match source(&item.uri)? {
            Source::Local(from) => {
                if fs::metadata(from).map_err(io)?.is_dir() {
                    return Err(FetchError::Directory {
                        uri: item.uri.clone(),
                    });
                }
                copy(from, path).await.map_err(io)
            }
            Source::Http(url) if item.cache => {
                let key = hex::encode(Sha256::digest(url.as_bytes()));
                let lock = self.lock_of(&key);
                let _held = lock.lock().await;
                let kept = self.cache.join(&key);
                if !kept.is_file() {
                    fs::create_dir_all(&self.cache).map_err(io)?;
                    let partial = self.cache.join(format!("{key}.partial"));
                    self.download(url, &partial).await?;
                    fs::rename(&partial, &kept).map_err(io)?;
                    shrink(&self.cache, CACHE_LIMIT, &kept);
                }
                copy(&kept, path).await.map_err(io)
            }
            Source::Http(url) => self.download(url, path).await,
        }
    }

    fn lock_of(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self
            .locks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(locks.entry(key.to_owned()).or_default())
    }

    async fn download(&self, url: &str, path: &Path) -> Result<(), FetchError> {
        let http = |source: reqwest::Error| FetchError::Http {
            uri: url.to_owned(),
            source: source.without_url(),
        };
        let io = |source| FetchError::Io {
            uri: url.to_owned(),
            source,
        };
        let answer = self.http.get(url).send().await.map_err(http)?;
        if !answer.status().is_success() {
            return Err(FetchError::Status {
                uri: url.to_owned(),
                status: answer.status().as_u16(),
            });
        }
        let mut file = tokio::fs::File::create(path).await.map_err(io)?;
        let mut body = answer.bytes_stream();
        while let Some(bytes) = body.next().await {
            file.write_all(&bytes.map_err(http)?).await.map_err(io)?;
        }
        file.flush().await.map_err(io)
    }
}

/// Makes the folders above `path` and removes what is at `path` itself.
///
/// An archive that was extracted before may have left a symbolic link there:
/// `false` if following it would leave the sandbox.
fn make_way(sandbox: &Path, path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(sandbox);
    let root = sandbox.canonicalize()?;
    // The nearest folder that exists decides: what is made below it is real.
    let existing = parent
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(sandbox);
    if !existing.canonicalize()?.starts_with(&root) {
        return Ok(false);
    }
    fs::create_dir_all(parent)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

async fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    tokio::task::spawn_blocking(move || {
        fs::copy(&from, &to)?;
        Ok(())
    })
    .await
    .map_err(io::Error::other)?
}

/// Removes the oldest files until the cache is within its limit.
fn shrink(cache: &Path, limit: u64, keep: &Path) {
    let Ok(entries) = fs::read_dir(cache) else {
        return;
    };
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.modified().ok()?, meta.len(), entry.path()))
        })
        .filter(|(_, _, path)| path.extension().is_none())
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in files {
        if total <= limit {
            return;
        }
        if path != keep && fs::remove_file(&path).is_ok() {
            total -= size;
        }
    }
}
