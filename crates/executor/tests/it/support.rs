//! What several tests need: attempts, coordinators, waiting.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meson_core::expression::{Piece, ResolvedText};
use meson_core::matching::Gang;
use meson_core::resources::Resources;
use meson_core::run::{LaunchKind, LaunchSpec, ResolvedArtifact};
use meson_protocol::task::{StoreLocation, TaskPayload};

use crate::http::{Handler, Request, Response, Server};

/// Everything that is waited for comes within this, or never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn text(text: &str) -> ResolvedText {
    ResolvedText(vec![Piece::Text(text.to_owned())])
}

/// An attempt of a shell text; tests change what they are about.
pub(crate) fn shell(task: &str, command: &str) -> TaskPayload {
    TaskPayload {
        spec: LaunchSpec {
            task: task.parse().unwrap(),
            kind: LaunchKind::Shell(text(command)),
            flavour: String::new(),
            env: BTreeMap::new(),
            inputs: BTreeMap::new(),
            params: BTreeMap::new(),
            items: BTreeMap::new(),
            outputs: Vec::new(),
            produces: Vec::new(),
            resources: Resources::DEFAULT,
            require: None,
            prefer: None,
            preemptible: false,
            spread: None,
            gang: Gang::default(),
            hosts: Vec::new(),
            gang_ports: Vec::new(),
            ports: Vec::new(),
            timeout: None,
            deadline: None,
            owner: String::new(),
            region: String::new(),
            pool: String::new(),
        },
        bundle: None,
        coordinators: Vec::new(),
        token: "secret".to_owned(),
        store: StoreLocation::default(),
    }
}

pub(crate) fn produces(name: &str) -> ResolvedArtifact {
    ResolvedArtifact {
        name: name.to_owned(),
        id: format!("id-of-{name}"),
    }
}

/// A store in a folder.
pub(crate) fn store(folder: &Path) -> StoreLocation {
    StoreLocation {
        url: format!("file://{}", folder.display()),
        options: BTreeMap::new(),
    }
}

/// What a coordinator got and has.
#[derive(Default)]
pub(crate) struct Books {
    /// Bytes by `task/stream`, put where their offsets say.
    pub(crate) logs: BTreeMap<String, Vec<u8>>,
    /// Positions of the pieces, in the order of their arrival.
    pub(crate) offsets: Vec<u64>,
    /// The longest piece.
    pub(crate) longest: usize,
    pub(crate) bundles: BTreeMap<String, Vec<u8>>,
    /// How often bundles were asked for.
    pub(crate) bundle_requests: usize,
    /// Answer this to everything.
    pub(crate) sick: Option<u16>,
}

/// A coordinator, as far as an executor sees one.
pub(crate) struct Coordinator {
    pub(crate) books: Arc<Mutex<Books>>,
    pub(crate) server: Server,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let books = Arc::<Mutex<Books>>::default();
        let server = Server::start(0, handler(books.clone())).await;
        Self { books, server }
    }

    pub(crate) fn log(&self, task: &str, stream: &str) -> String {
        let books = self.books.lock().unwrap();
        String::from_utf8_lossy(
            books
                .logs
                .get(&format!("{task}/{stream}"))
                .map_or(&[][..], Vec::as_slice),
        )
        .into_owned()
    }
}

fn handler(books: Arc<Mutex<Books>>) -> Handler {
    Arc::new(move |request: Request| {
        let mut books = books.lock().unwrap();
        if let Some(status) = books.sick {
            return Response::Full(status, b"not today".to_vec());
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer secret") {
            return Response::Full(401, b"whose token is this?".to_vec());
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["v1", "bundles", digest]) => {
                books.bundle_requests += 1;
                assert!(request.headers.contains_key("x-meson-task"));
                match books.bundles.get(*digest) {
                    Some(bundle) => Response::Full(200, bundle.clone()),
                    None => Response::Full(404, b"no such bundle".to_vec()),
                }
            }
            ("POST", ["v1", "tasks", task, "logs", stream]) => {
                let offset: usize = query.strip_prefix("offset=").unwrap().parse().unwrap();
                books.offsets.push(offset as u64);
                books.longest = books.longest.max(request.body.len());
                let log = books.logs.entry(format!("{task}/{stream}")).or_default();
                log.resize(log.len().max(offset + request.body.len()), b'?');
                log[offset..offset + request.body.len()].copy_from_slice(&request.body);
                Response::Full(204, Vec::new())
            }
            _ => Response::Full(404, b"no such place".to_vec()),
        }
    })
}

/// Whether a process with this pid runs (a zombie does not).
pub(crate) fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    })
}

/// The number in a file that a process has written, once it is there.
pub(crate) async fn pid_in(file: &Path) -> i32 {
    eventually(&format!("a pid in {}", file.display()), || {
        std::fs::read_to_string(file)
            .ok()?
            .strip_suffix('\n')?
            .trim()
            .parse()
            .ok()
    })
    .await
}

/// Whether a test that needs something may be left out; says so loudly.
pub(crate) fn skip(what: &str, why: &str) {
    let required = std::env::var("MESON_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == what),
        "{what} is required but {why}"
    );
    eprintln!("\n*** SKIPPED: this test needs {what}, but {why} ***\n");
}
