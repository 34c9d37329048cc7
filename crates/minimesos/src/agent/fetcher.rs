//! The fetcher: brings the URIs of a command into the sandbox before the
//! executor starts.
//!
//! It follows what the real fetcher was seen to do: the file is named after the
//! last part of the URI (query included) or after `output_file`; archives are
//! extracted beside themselves unless the URI says otherwise; of two URIs with
//! one name the later wins. It differs on purpose in two ways: a path that leads
//! out of the sandbox is refused, and local files are never cached (a copy of a
//! copy saves nothing and goes stale).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

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

/// The kinds of archives, by the ends of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Archive {
    Tar,
    TarGz,
    /// Compressions that the `tar` program knows and we do not.
    TarOther,
    Gz,
    Zip,
}

fn archive(path: &Path) -> Option<Archive> {
    let name = path.file_name()?.to_str()?;
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if ends(&[".tgz", ".tar.gz"]) {
        Some(Archive::TarGz)
    } else if ends(&[".tar"]) {
        Some(Archive::Tar)
    } else if ends(&[".tbz2", ".tar.bz2", ".txz", ".tar.xz"]) {
        Some(Archive::TarOther)
    } else if ends(&[".gz"]) {
        Some(Archive::Gz)
    } else if ends(&[".zip"]) {
        Some(Archive::Zip)
    } else {
        None
    }
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

fn extract(path: &Path, kind: Archive, into: &Path) -> Result<(), FetchError> {
    let fail = |reason: String| FetchError::Extract {
        path: path.display().to_string(),
        reason,
    };
    let io = |error: io::Error| fail(error.to_string());
    let open = || File::open(path).map(io::BufReader::new).map_err(io);
    match kind {
        Archive::Tar => tar::Archive::new(open()?).unpack(into).map_err(io),
        Archive::TarGz => tar::Archive::new(flate2::read::GzDecoder::new(open()?))
            .unpack(into)
            .map_err(io),
        Archive::Gz => {
            let to = path.with_extension("");
            // Not through a link that an earlier archive may have left there.
            let _ = fs::remove_file(&to);
            let mut to = File::create(&to).map_err(io)?;
            io::copy(&mut flate2::read::GzDecoder::new(open()?), &mut to).map_err(io)?;
            Ok(())
        }
        Archive::TarOther => program(
            Command::new("tar")
                .args(["--no-same-owner", "-C"])
                .arg(into)
                .arg("-xf")
                .arg(path),
        )
        .map_err(fail),
        Archive::Zip => program(
            Command::new("unzip")
                .args(["-o", "-q", "-d"])
                .arg(into)
                .arg(path),
        )
        .map_err(fail),
    }
}

/// Runs a program that extracts; both refuse members that lead outside.
fn program(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run '{name}': {error}; install it on the agent"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "'{name}' ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn item(uri: &str) -> Item {
        Item {
            uri: uri.to_owned(),
            executable: false,
            extract: true,
            cache: false,
            output_file: None,
        }
    }

    fn named(uri: &str, output: &str) -> Item {
        Item {
            output_file: Some(output.to_owned()),
            ..item(uri)
        }
    }

    struct Bench {
        root: tempfile::TempDir,
        fetcher: Fetcher,
    }

    impl Bench {
        fn new() -> Self {
            crate::agent::install_crypto_provider();
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("sandbox")).unwrap();
            Self {
                fetcher: Fetcher::new(root.path().join("cache")).unwrap(),
                root,
            }
        }

        fn file(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.root.path().join(name);
            fs::write(&path, bytes).unwrap();
            path.display().to_string()
        }

        fn sandbox(&self, name: &str) -> PathBuf {
            self.root.path().join("sandbox").join(name)
        }

        async fn fetch(&self, items: &[Item]) -> Result<String, FetchError> {
            let path = self.sandbox("stderr");
            let mut log = File::create(&path).unwrap();
            self.fetcher
                .fetch_all(items, &self.root.path().join("sandbox"), &mut log)
                .await?;
            Ok(fs::read_to_string(path).unwrap())
        }

        /// Packs `pkg/inner.txt` with the program `tar` or `zip`.
        fn pack(&self, name: &str) -> String {
            let pkg = self.root.path().join("pkg");
            fs::create_dir_all(&pkg).unwrap();
            fs::write(pkg.join("inner.txt"), "inner").unwrap();
            let mut command = if name.ends_with(".zip") {
                let mut zip = Command::new("zip");
                zip.args(["-q", "-r", name, "pkg"]);
                zip
            } else {
                let mut tar = Command::new("tar");
                tar.args(["-caf", name, "pkg"]);
                tar
            };
            assert!(
                command
                    .current_dir(self.root.path())
                    .status()
                    .unwrap()
                    .success()
            );
            self.root.path().join(name).display().to_string()
        }
    }

    #[test]
    fn a_file_is_named_after_the_last_part_query_included() {
        let name = |uri| target(&item(uri)).unwrap();
        assert_eq!(
            name("http://h:1/plain.txt?token=1"),
            Path::new("plain.txt?token=1")
        );
        assert_eq!(name("file:///a/b.sh"), Path::new("b.sh"));
        assert_eq!(name("/a/b.sh"), Path::new("b.sh"));
        for nameless in ["http://host", "http://host/", "file:///a/..", "/"] {
            assert!(
                matches!(target(&item(nameless)), Err(FetchError::NoName { .. })),
                "{nameless}"
            );
        }
    }

    #[test]
    fn an_output_file_stays_inside_the_sandbox() {
        assert_eq!(
            target(&named("/a", "dir/b.txt")).unwrap(),
            Path::new("dir/b.txt")
        );
        for bad in ["../escape", "a/../../escape", "/etc/escape"] {
            let refused = target(&named("/a", bad));
            assert!(
                matches!(refused, Err(FetchError::OutsideSandbox { .. })),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn local_files_are_copied_and_made_executable_when_asked() {
        let bench = Bench::new();
        let plain = bench.file("plain.txt", b"plain text\n");
        let script = Item {
            executable: true,
            ..item(&bench.file("run.sh", b"#!/bin/sh\n"))
        };
        let log = bench
            .fetch(&[item(&format!("file://{plain}")), script])
            .await
            .unwrap();
        assert!(log.contains("plain.txt"), "{log}");
        assert_eq!(
            fs::read(bench.sandbox("plain.txt")).unwrap(),
            b"plain text\n"
        );
        let mode = |name: &str| {
            fs::metadata(bench.sandbox(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("run.sh") & 0o111, 0o111);
        assert_eq!(mode("plain.txt") & 0o111, 0);
    }

    #[tokio::test]
    async fn archives_of_every_kind_are_extracted_and_stay() {
        for name in [
            "a.tar",
            "a.tgz",
            "a.tar.gz",
            "a.tar.bz2",
            "a.tar.xz",
            "a.zip",
        ] {
            let bench = Bench::new();
            let packed = bench.pack(name);
            bench.fetch(&[item(&packed)]).await.unwrap();
            let inner = fs::read_to_string(bench.sandbox("pkg/inner.txt"));
            assert_eq!(inner.unwrap(), "inner", "{name}");
            assert!(bench.sandbox(name).exists(), "{name}");
        }
    }

    #[tokio::test]
    async fn an_archive_is_left_alone_when_the_uri_says_so() {
        let bench = Bench::new();
        let packed = bench.pack("a.tgz");
        let whole = Item {
            extract: false,
            ..item(&packed)
        };
        bench.fetch(&[whole]).await.unwrap();
        assert!(!bench.sandbox("pkg").exists());
        bench.fetch(&[named(&packed, "sub/x.tgz")]).await.unwrap();
        assert!(bench.sandbox("sub/x.tgz").exists());
        assert!(bench.sandbox("pkg/inner.txt").exists());
    }

    #[tokio::test]
    async fn an_output_file_with_folders_gets_them_made() {
        let bench = Bench::new();
        let plain = bench.file("plain.txt", b"x");
        bench
            .fetch(&[named(&plain, "dir/renamed.txt")])
            .await
            .unwrap();
        assert!(bench.sandbox("dir/renamed.txt").exists());
    }

    #[tokio::test]
    async fn a_path_out_of_the_sandbox_is_refused_and_nothing_is_written() {
        let bench = Bench::new();
        let plain = bench.file("plain.txt", b"x");
        let error = bench.fetch(&[named(&plain, "../escape")]).await;
        assert!(matches!(error, Err(FetchError::OutsideSandbox { .. })));
        assert!(!bench.root.path().join("escape").exists());
    }

    #[tokio::test]
    async fn a_link_out_of_the_sandbox_is_not_followed() {
        let bench = Bench::new();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), bench.sandbox("link")).unwrap();
        let plain = bench.file("plain.txt", b"x");
        for output in ["link/escape", "link/deeper/escape"] {
            let error = bench.fetch(&[named(&plain, output)]).await;
            assert!(
                matches!(error, Err(FetchError::OutsideSandbox { .. })),
                "{output}"
            );
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_fetched_says_why() {
        let bench = Bench::new();
        let directory = bench.root.path().display().to_string();
        for (uri, cause) in [
            ("gopher://x/y", "only file://"),
            ("relative/path", "only file://"),
            ("file:///no/such/file", "No such file"),
            ("http://127.0.0.1:1/x", "refused"),
            (directory.as_str(), "is a directory"),
        ] {
            let error = bench.fetch(&[item(uri)]).await.unwrap_err().to_string();
            assert!(error.contains(cause), "{uri}: {error}");
            let log = fs::read_to_string(bench.sandbox("stderr")).unwrap();
            assert!(log.contains(cause), "{uri}: {log}");
        }
    }

    /// A server of files that counts what is asked of it.
    async fn server() -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
        use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

        let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::clone(&asked);
        let answer = move |request: HttpRequest| {
            let line = format!("{} {}", request.method(), request.uri());
            log.lock().unwrap().push(line);
            let answer = match request.path() {
                "/plain.txt" => HttpResponse::Ok().body("plain text\n"),
                "/data.bin" => HttpResponse::Ok().body(vec![7; 3 << 20]),
                "/redir" => HttpResponse::Found()
                    .insert_header(("Location", "/plain.txt"))
                    .finish(),
                _ => HttpResponse::NotFound().body("File not found"),
            };
            std::future::ready(answer)
        };
        let server =
            HttpServer::new(move || App::new().default_service(web::route().to(answer.clone())))
                .workers(1)
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run();
        tokio::spawn(server);
        (url, asked)
    }

    #[tokio::test]
    async fn files_come_over_http_and_redirects_are_followed() {
        let bench = Bench::new();
        let (url, asked) = server().await;
        bench
            .fetch(&[
                item(&format!("{url}/plain.txt?token=1")),
                item(&format!("{url}/data.bin")),
                item(&format!("{url}/redir")),
            ])
            .await
            .unwrap();
        let read = |name: &str| fs::read(bench.sandbox(name)).unwrap();
        assert_eq!(read("plain.txt?token=1"), b"plain text\n");
        assert_eq!(read("data.bin"), vec![7; 3 << 20]);
        assert_eq!(read("redir"), b"plain text\n");
        assert_eq!(asked.lock().unwrap().len(), 4);

        let error = bench.fetch(&[item(&format!("{url}/nope"))]).await;
        assert!(
            matches!(error, Err(FetchError::Status { status: 404, .. })),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_cached_file_is_downloaded_once() {
        let bench = Bench::new();
        let (url, asked) = server().await;
        let cached = Item {
            cache: true,
            ..item(&format!("{url}/data.bin"))
        };
        let again = Item {
            output_file: Some("again.bin".to_owned()),
            ..cached.clone()
        };
        let (first, second) = ([cached], [again]);
        let (one, two) = tokio::join!(bench.fetch(&first), bench.fetch(&second));
        one.unwrap();
        two.unwrap();
        assert_eq!(fs::read(bench.sandbox("data.bin")).unwrap().len(), 3 << 20);
        assert_eq!(fs::read(bench.sandbox("again.bin")).unwrap().len(), 3 << 20);
        assert_eq!(*asked.lock().unwrap(), ["GET /data.bin"]);
    }

    #[tokio::test]
    async fn of_two_files_with_one_name_the_later_wins() {
        let bench = Bench::new();
        let (url, _) = server().await;
        let local = bench.file("plain.txt", b"local");
        bench
            .fetch(&[item(&format!("{url}/plain.txt")), item(&local)])
            .await
            .unwrap();
        assert_eq!(fs::read(bench.sandbox("plain.txt")).unwrap(), b"local");
    }

    #[test]
    fn the_oldest_files_leave_a_cache_that_is_too_big() {
        let cache = tempfile::tempdir().unwrap();
        for (name, age) in [("old", 300), ("middle", 200), ("new", 0)] {
            let path = cache.path().join(name);
            fs::write(&path, [0; 100]).unwrap();
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(modified - Duration::from_secs(age))
                .unwrap();
        }
        shrink(cache.path(), 200, &cache.path().join("new"));
        let left = |name: &str| cache.path().join(name).exists();
        assert!(!left("old") && left("middle") && left("new"));
    }
}
