//! A coordinator that must not start says why, in words that help, and touches nothing.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meson_tests::{binaries, text, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(60);

/// A cluster of one member, with certificates, in a folder of its own.
struct Node {
    folder: tempfile::TempDir,
    /// Kept as long as it is not started, so that nobody else gets them.
    ports: Option<(std::net::TcpListener, std::net::UdpSocket)>,
    http: u16,
    quic: u16,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("the test's own files and processes work");
        let http = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("the test's own files and processes work");
        let quic = std::net::UdpSocket::bind("127.0.0.1:0")
            .expect("the test's own files and processes work");
        let node = Self {
            http: http
                .local_addr()
                .expect("the test's own files and processes work")
                .port(),
            quic: quic
                .local_addr()
                .expect("the test's own files and processes work")
                .port(),
            ports: Some((http, quic)),
            folder,
        };
        std::fs::write(node.path("secret"), "0123456789abcdef0123")
            .expect("the test's own files and processes work");
        node.certificates("certs", "one", "1-2");
        node.configure(|text| text);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn certificates(&self, folder: &str, cluster: &str, nodes: &str) {
        let made = Command::new(binaries().join("mesonctl"))
            .args(["certs", "init"])
            .arg(self.path(folder))
            .args(["--cluster", cluster, "--nodes", nodes])
            .output()
            .expect("the test's own files and processes work");
        assert!(made.status.success(), "{}", text(&made));
    }

    /// Writes the configuration, changed.
    fn configure(&self, change: impl FnOnce(String) -> String) {
        let Self { http, quic, .. } = self;
        let store = self.path("store");
        std::fs::create_dir_all(&store).expect("the test's own files and processes work");
        let text = format!(
            r#"
[node]
id = 1
cluster = "one"
data = "data"
secret = "secret"
shards = 2
[http]
listen = "127.0.0.1:{http}"
[cluster]
certificates = "certs/node-1"
[[cluster.member]]
id = 1
addr = "127.0.0.1:{quic}"
[store]
url = "file://{}"
[[pool]]
masters = ["http://127.0.0.1:9"]
executor = {{ command = "/bin/false" }}
"#,
            store.display()
        );
        std::fs::write(self.path("node.toml"), change(text))
            .expect("the test's own files and processes work");
    }

    fn start(&mut self) -> Child {
        self.ports = None;
        Command::new(binaries().join("mesond"))
            .args(["start", "--config"])
            .arg(self.path("node.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mesond is built: cargo build --workspace --bins")
    }

    /// Runs it until it serves, then ends it in order.
    fn live_once(&mut self) {
        let mut process = self.start();
        serves(&mut process);
        kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM)
            .expect("the test's own files and processes work");
        assert!(
            process
                .wait()
                .expect("the test's own files and processes work")
                .success()
        );
    }

    /// It ends by itself, with this exit code and these words.
    fn is_refused(&mut self, code: i32, words: &[&str]) {
        let mut process = self.start();
        wait_for("it ends by itself", SOON, || {
            process
                .try_wait()
                .expect("the test's own files and processes work")
        });
        let output = process
            .wait_with_output()
            .expect("the test's own files and processes work");
        let said = text(&output);
        for word in words {
            assert!(said.contains(word), "{word:?} is not in:\n{said}");
        }
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// Waits until it says that it is ready.
fn serves(process: &mut Child) {
    let stdout = process.stdout.take().expect("piped");
    let (sender, lines) = std::sync::mpsc::sync_channel(4);
    std::thread::spawn(move || {
        let lines = std::io::BufReader::new(stdout).lines();
        for line in lines.map_while(Result::ok) {
            let _ = sender.try_send(line);
        }
    });
    let line = lines.recv_timeout(SOON).unwrap_or_default();
    assert!(line.starts_with("ready "), "it does not serve: {line:?}");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(
        copied
            .expect("the test's own files and processes work")
            .success()
    );
}

#[test]
fn a_certificate_has_to_be_this_nodes_and_this_clusters() {
    let mut node = Node::new();
    node.configure(|text| text.replace("certs/node-1", "certs/node-2"));
    node.is_refused(2, &["that of node 2", "not of node 1"]);

    node.certificates("others", "two", "1");
    node.configure(|text| text.replace("certs/node-1", "others/node-1"));
    node.is_refused(2, &["cluster \"two\"", "not of \"one\""]);

    node.configure(|text| text.replace("certs/node-1", "nowhere"));
    node.is_refused(2, &["nowhere", "mesonctl certs"]);

    // The certificate of one authority, and another that is trusted.
    node.certificates("again", "one", "1");
    std::fs::copy(node.path("again/ca.pem"), node.path("certs/node-1/ca.pem")).unwrap();
    node.configure(|text| text);
    node.is_refused(2, &["ca.pem"]);
}

#[test]
fn a_node_of_a_cluster_makes_no_secret_of_its_own() {
    let mut node = Node::new();
    std::fs::remove_file(node.path("secret")).unwrap();
    node.is_refused(2, &["/secret is missing", "openssl rand -hex 32"]);
    assert!(!node.path("secret").exists() && !node.path("data").exists());

    std::fs::write(node.path("secret"), "short").unwrap();
    node.is_refused(2, &["/secret is shorter than 16 bytes"]);
}

#[test]
fn a_store_or_a_data_folder_that_cannot_be_is_exit_code_2() {
    let mut node = Node::new();
    node.configure(|text| text.replace("file://", "floppy://"));
    node.is_refused(2, &["floppy://"]);
    // A file is in the way.
    node.configure(|text| text.replace("\"data\"", "\"secret/data\""));
    node.is_refused(2, &["secret/data"]);
}

#[test]
fn a_configuration_with_a_typo_names_it_and_exits_with_2() {
    let mut node = Node::new();
    node.configure(|text| text.replace("[cluster]\n", "[cluster]\nsertificates = \"x\"\n"));
    node.is_refused(2, &["sertificates", "node.toml"]);
    node.configure(|text| text.replace("id = 1\ncluster", "id = 7\ncluster"));
    node.is_refused(2, &["not among them", "join = true"]);
    assert!(!node.path("data").exists(), "nothing was touched");
}

#[test]
fn data_of_another_cluster_or_node_are_refused() {
    let mut node = Node::new();
    node.live_once();
    let elsewhere = node.path("kept");
    copy(&node.path("data"), &elsewhere);

    node.certificates("others", "two", "1");
    node.configure(|text| {
        text.replace("certs/node-1", "others/node-1")
            .replace("cluster = \"one\"", "cluster = \"two\"")
    });
    node.is_refused(2, &["belongs to cluster \"one\", not to \"two\""]);

    node.configure(|text| {
        text.replace("certs/node-1", "certs/node-2")
            .replace("id = 1", "id = 2")
    });
    node.is_refused(2, &["belongs to node 1, not to 2"]);

    node.configure(|text| text.replace("shards = 2", "shards = 3"));
    node.is_refused(2, &["has 2 shards, not 3"]);

    // None of that has harmed them.
    node.configure(|text| text);
    node.live_once();
}

#[test]
fn half_written_data_are_refused_and_say_what_is_missing() {
    let mut node = Node::new();
    node.live_once();
    let whole = node.path("whole");
    copy(&node.path("data"), &whole);
    let again = |node: &Node| {
        std::fs::remove_dir_all(node.path("data")).unwrap();
        copy(&whole, &node.path("data"));
    };

    std::fs::remove_file(node.path("data/shards/node/identity")).unwrap();
    node.is_refused(
        1,
        &["identity is missing", "let a new one join", "from a backup"],
    );

    again(&node);
    std::fs::write(node.path("data/shards/node/identity"), b"{\"form").unwrap();
    node.is_refused(1, &["identity cannot be read"]);

    again(&node);
    std::fs::remove_dir_all(node.path("data/shards/node/db")).unwrap();
    node.is_refused(1, &["db is missing"]);

    again(&node);
    std::fs::write(node.path("data/birth.json"), b"{").unwrap();
    node.is_refused(1, &["birth.json is damaged"]);

    again(&node);
    node.live_once();
}

#[test]
fn a_second_process_on_the_same_data_is_refused_and_disturbs_nothing() {
    let mut node = Node::new();
    let mut first = node.start();
    serves(&mut first);
    // Elsewhere, so that only the data are the same.
    let other = Node::new();
    node.configure(|text| {
        text.replace(&node.http.to_string(), &other.http.to_string())
            .replace(&node.quic.to_string(), &other.quic.to_string())
    });
    drop(other);
    node.is_refused(1, &["in use by another process"]);
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
    kill(Pid::from_raw(first.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(first.wait().unwrap().success());
}

#[test]
fn a_node_that_waits_for_others_says_so_to_whoever_asks() {
    let founders = |text: String| {
        let others = [(2, 1), (3, 2)].map(|(id, port)| {
            format!("[[cluster.member]]\nid = {id}\naddr = \"127.0.0.1:{port}\"\n")
        });
        text.replace("[store]", &format!("{}[store]", others.concat()))
    };
    let joins = |text: String| {
        let other = "join = true\n[[cluster.member]]\nid = 2\naddr = \"127.0.0.1:1\"\n";
        let (before, rest) = text.split_once("[[cluster.member]]").expect("a member");
        let (_, after) = rest.split_once("[store]").expect("a store");
        let listen = rest.lines().find_map(|line| line.strip_prefix("addr = "));
        let listen = listen.expect("an address");
        format!("{before}listen = {listen}\n{other}[store]{after}")
    };
    let cases: [(&dyn Fn(String) -> String, &str); 2] = [
        (
            &founders,
            "waits for other coordinators before a new cluster begins (nodes 2, 3 do not",
        ),
        (
            &joins,
            "mesonctl cluster join 1 --addr HOST:PORT (node 2 does not answer)",
        ),
    ];
    for (configure, expected) in cases {
        let mut node = Node::new();
        node.configure(configure);
        let mut process = node.start();
        let url = format!("http://127.0.0.1:{}", node.http);
        wait_for(expected, SOON, || {
            assert!(process.try_wait().expect("a process").is_none(), "it waits");
            let asked = Command::new(binaries().join("mesonctl"))
                .args(["--url", &url, "cluster", "status"])
                .output()
                .expect("mesonctl runs");
            assert!(!asked.status.success(), "{}", text(&asked));
            text(&asked).contains(expected).then_some(())
        });
        kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM).expect("it is there");
        process.wait().expect("it ends");
    }
}

#[test]
fn a_pool_of_slurm_without_slurms_commands_is_refused_by_name() {
    let mut node = Node::new();
    node.configure(|text| {
        format!(
            "{text}\n[[pool]]\nkind = \"slurm\"\nname = \"hpc\"\npartition = \"main\"\nspool = \"spool\"\ncommands = \"nowhere\"\nexecutor = {{ command = \"/usr/bin/meson-executor\" }}\n"
        )
    });
    node.is_refused(2, &["pool \"hpc\"", "nowhere/sbatch", "slurm-client"]);
}
