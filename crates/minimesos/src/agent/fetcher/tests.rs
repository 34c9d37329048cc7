//! What is fetched, from where, and what is refused.

use std::process::Command;

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
