//! A real ZooKeeper, as Debian has it, on a free port with a folder of its own.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait_for;

/// Where Debian's package `zookeeper` puts the server.
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// A port that is free now may be taken in a moment.
const TRIES: usize = 5;
const SOON: Duration = Duration::from_secs(60);

/// Whether there is one to start. Says so where not, and fails where the test must not be skipped.
pub fn available() -> bool {
    crate::available("zookeeper", Path::new(JAR).exists())
}

/// A server, killed with this value.
pub struct ZooKeeper {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl ZooKeeper {
    /// Starts one, and waits until it takes sessions.
    pub fn start(folder: &Path) -> Self {
        let mut server = Self {
            folder: folder.join("zookeeper"),
            port: 0,
            process: None,
        };
        std::fs::create_dir_all(&server.folder).expect("a folder");
        for _ in 0..TRIES {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port");
            server.port = free.local_addr().expect("an address").port();
            drop(free);
            if server.restart() {
                return server;
            }
        }
        panic!("no ZooKeeper came up, see {:?}", server.folder.join("log"));
    }

    /// Starts it where it was. Says whether it is up.
    pub fn restart(&mut self) -> bool {
        let config = format!(
            "tickTime=200\nmaxSessionTimeout=60000\ndataDir={}\nclientPort={}\n\
             clientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            self.folder.join("data").display(),
            self.port
        );
        let file = self.folder.join("zoo.cfg");
        std::fs::write(&file, config).expect("a file");
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("a log file");
        let process = Command::new("java")
            .args(["-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", JAR])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("java runs");
        let process = self.process.insert(process);
        let port = self.port;
        wait_for("ZooKeeper's port, or its end", SOON, || {
            if process.try_wait().expect("our child").is_some() {
                return Some(false);
            }
            serves(port).then_some(true)
        })
    }

    /// kill −9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it ran");
            process.wait().expect("it ends");
        }
    }

    /// Where masters choose the one that leads.
    pub fn url(&self) -> String {
        format!("zk://127.0.0.1:{}/test/mesos", self.port)
    }
}

/// Whether it says which version it is, which it does once it takes sessions.
fn serves(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"srvr")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        io::Result::Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("Zookeeper version"))
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
    }
}
