//! A pool of real processes: one Mesos master or two, agents, and a coordinator that uses them, each of
//! which can be killed, frozen and started again by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::bail;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::zookeeper::ZooKeeper;
use crate::{binaries, processes, text, wait_for};

/// Long enough for a loaded machine.
const READY: Duration = Duration::from_secs(60);

/// What each agent says that it has.
pub const AGENT_CPUS: u32 = 13;

/// How a master is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Masters {
    /// There is one, and everybody knows where.
    One,
    /// There are two, and ZooKeeper says which of them leads.
    Elected,
}

/// Masters, agents and a coordinator, in a folder of their own.
pub struct Pool {
    folder: tempfile::TempDir,
    zookeeper: Option<ZooKeeper>,
    masters: Vec<u16>,
    http: u16,
    running: BTreeMap<String, Child>,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Pool {
    /// Starts a master, so many agents and a coordinator, and waits until they know each other.
    /// `settings` goes into the coordinator's `[[pool]]`.
    pub fn start(agents: usize, settings: &str) -> Self {
        Self::start_with(Masters::One, agents, settings)
    }

    /// The same, with masters of this kind.
    pub fn start_with(masters: Masters, agents: usize, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let elected = masters == Masters::Elected;
        let mut pool = Self {
            zookeeper: elected.then(|| ZooKeeper::start(folder.path())),
            folder,
            masters: (0..=usize::from(elected)).map(|_| free_port()).collect(),
            http: free_port(),
            running: BTreeMap::new(),
        };
        let config = format!(
            r#"
            [node]
            id = 1
            cluster = "pool"
            data = "coordinator"
            [http]
            listen = "127.0.0.1:{}"
            [store]
            url = "file://{}/store"
            [[pool]]
            masters = {:?}
            executor = {{ command = {:?}, memory = "measure" }}
            {settings}
            "#,
            pool.http,
            pool.path().display(),
            pool.leading_master(),
            binaries().join("meson-executor"),
        );
        std::fs::create_dir_all(pool.path().join("store")).expect("a folder");
        std::fs::write(pool.path().join("node.toml"), config).expect("a file");
        for master in 0..pool.masters.len() {
            pool.start_master_at(master);
        }
        for agent in 1..=agents {
            pool.start_agent(agent);
        }
        pool.start_coordinator();
        wait_for(&format!("a session\n{}", pool.logs()), READY, || {
            (pool.view()?["connected"] == true).then_some(())
        });
        pool
    }

    /// Where everything is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn spawn(&mut self, name: &str, program: &str, arguments: &[String]) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join(format!("{name}.log")))
            .expect("a log file");
        let child = Command::new(binaries().join(program))
            .args(arguments)
            .current_dir(self.path())
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("it is built: cargo build --workspace --bins");
        self.running.insert(name.to_owned(), child);
    }

    /// What everybody is told of where the master is.
    fn leading_master(&self) -> String {
        match &self.zookeeper {
            Some(zookeeper) => zookeeper.url(),
            None => format!("http://127.0.0.1:{}", self.masters[0]),
        }
    }

    /// What a master is called: the only one `master`, others `master-1`, `master-2`.
    fn master_name(&self, master: usize) -> String {
        match self.masters.len() {
            1 => "master".to_owned(),
            _ => format!("master-{}", master + 1),
        }
    }

    /// Starts the only master, with its registry if it has one already.
    pub fn start_master(&mut self) {
        self.start_master_at(0);
    }

    fn start_master_at(&mut self, master: usize) {
        let name = self.master_name(master);
        let mut arguments = vec![
            "master".to_owned(),
            format!("--port={}", self.masters[master]),
            format!("--work_dir={}/{name}", self.path().display()),
            "--agent_ping_timeout=1secs".to_owned(),
            "--max_agent_ping_timeouts=3".to_owned(),
            "--agent_reregister_timeout=60secs".to_owned(),
            "--allocation_interval=200ms".to_owned(),
        ];
        if let Some(zookeeper) = &self.zookeeper {
            arguments.push(format!("--zk={}", zookeeper.url()));
            arguments.push("--zk_session_timeout=6secs".to_owned());
        }
        self.spawn(&name, "minimesos", &arguments);
    }

    /// The name of the master that leads, if one does: the others say who that is.
    pub fn leader(&self) -> Option<String> {
        let led = self.masters.iter().position(|port| {
            let state = http(*port, "GET", "/state", "");
            let state = state.and_then(|state| serde_json::from_str::<Value>(&state).ok());
            state.is_some_and(|state| state["slaves"].is_array())
        })?;
        Some(self.master_name(led))
    }

    /// Starts an agent, with what it remembers.
    pub fn start_agent(&mut self, agent: usize) {
        let arguments = [
            "agent".to_owned(),
            format!("--master={}", self.leading_master()),
            format!("--work_dir={}", self.agent(agent).display()),
            format!("--hostname=agent-{agent}"),
            format!("--resources=cpus:{AGENT_CPUS};mem:100000;disk:100000"),
            // A loaded machine is no dead executor.
            "--executor_reregistration_timeout=90".to_owned(),
        ];
        self.spawn(&format!("agent-{agent}"), "minimesos", &arguments);
    }

    fn agent(&self, agent: usize) -> PathBuf {
        self.path().join(format!("agents/{agent}"))
    }

    /// Starts the coordinator on the data that there is.
    pub fn start_coordinator(&mut self) {
        let config = self.path().join("node.toml").display().to_string();
        let arguments = ["start".to_owned(), "--config".to_owned(), config];
        self.spawn("coordinator", "mesond", &arguments);
    }

    /// kill −9 of one of `master`, `master-N`, `coordinator`, `agent-N`, and nothing else.
    pub fn kill(&mut self, name: &str) {
        let mut process = self.running.remove(name).expect("it runs");
        process.kill().expect("it ran");
        process.wait().expect("it ends");
    }

    /// Freezes an agent, or lets it go on; its executors run all the while.
    pub fn freeze(&self, agent: usize, on: bool) {
        let process = self
            .running
            .get(&format!("agent-{agent}"))
            .expect("it runs");
        let signal = if on { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(process.id().cast_signed()), signal).expect("it runs");
    }

    /// kill −9 of an agent and of all that runs there, as when a machine burns.
    pub fn burn(&mut self, agent: usize) {
        self.kill(&format!("agent-{agent}"));
        let folder = self.agent(agent).display().to_string();
        for (pid, _) in processes()
            .into_iter()
            .filter(|(_, line)| line.contains(&folder))
        {
            // It may end by itself meanwhile.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Processes of executors and steps on all agents.
    pub fn left(&self, part: &str) -> Vec<Pid> {
        let folder = self.path().join("agents").display().to_string();
        let all = processes().into_iter();
        all.filter(|(_, line)| line.contains(part) && line.contains(&folder))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// The command line, about this coordinator.
    pub fn mesonctl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(binaries().join("mesonctl"))
            .args(arguments)
            .env("MESON_URL", format!("http://127.0.0.1:{}", self.http))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!(
                "mesonctl {arguments:?}: {}\n{}",
                output.status,
                text(&output)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command's JSON, if it succeeds.
    pub fn json(&self, arguments: &[&str]) -> Option<Value> {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.mesonctl(&all).ok()?).ok()
    }

    /// What the API answers to a GET.
    pub fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&http(self.http, "GET", path, "")?).ok()
    }

    /// The id by which the master knows an agent.
    pub fn agent_id(&self, agent: usize) -> String {
        let name = format!("agent-{agent}");
        let state = http(self.masters[0], "GET", "/state", "").expect("the master answers");
        let state: Value = serde_json::from_str(&state).expect("JSON");
        let agents = state["slaves"].as_array().expect("agents");
        let ours = agents.iter().find(|one| one["hostname"] == name);
        let id = ours.and_then(|one| one["id"].as_str());
        id.unwrap_or_else(|| panic!("{name} is not in {agents:#?}"))
            .to_owned()
    }

    /// An operator says that an agent will never be back.
    pub fn mark_gone(&self, id: &str) {
        let call = serde_json::json!({
            "type": "MARK_AGENT_GONE",
            "mark_agent_gone": { "agent_id": { "value": id } },
        });
        let answer = http(self.masters[0], "POST", "/api/v1", &call.to_string());
        assert!(answer.is_some(), "the master does not answer");
    }

    /// What the broker says, if it can be asked.
    pub fn view(&self) -> Option<Value> {
        self.json(&["pool"])?.get(0).cloned()
    }

    /// What everybody logged last.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for name in self
            .running
            .keys()
            .map(String::as_str)
            .chain(["coordinator"])
        {
            let log = std::fs::read_to_string(self.path().join(format!("{name}.log")));
            let lines: Vec<_> = log.as_deref().unwrap_or_default().lines().collect();
            let from = lines.len().saturating_sub(25);
            all.push_str(&format!("--- {name}\n{}\n", lines[from..].join("\n")));
        }
        all
    }
}

/// The body of an answer that says that all is well.
fn http(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(READY)).ok()?;
    // The older version of the protocol: the answer ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    status.starts_with('2').then(|| body.to_owned())
}

impl Drop for Pool {
    fn drop(&mut self) {
        for process in self.running.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
        for pid in self.left("") {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}
