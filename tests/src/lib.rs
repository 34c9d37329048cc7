//! Real processes for tests of the whole: a coordinator with its agents, the command line, and
//! ways to break things. Everything waits for a state, with a deadline; nothing sleeps a fixed time.

pub mod pool;
pub mod slurm;
pub mod zookeeper;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The folder of the binaries that were built beside this test.
pub fn binaries() -> PathBuf {
    let mut path = std::env::current_exe().unwrap_or_default();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path
}

/// The project's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Whether the tool may be used; a test that needs it and must not skip it fails.
pub fn available(tool: &str, there: bool) -> bool {
    if there {
        return true;
    }
    let required = std::env::var("MESON_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == tool),
        "{tool} is required, and is not there"
    );
    eprintln!("SKIPPED: {tool} is not there; cargo xtask test installs it");
    false
}

/// Waits until `look` finds something.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let looks = limit.as_millis() / LOOK.as_millis();
    for _ in 0..=looks {
        if let Some(found) = look() {
            return found;
        }
        pause();
    }
    panic!("after {limit:?} still not: {what}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "between two looks at what other processes do"
)]
pub(crate) fn pause() {
    std::thread::sleep(LOOK);
}

/// A coordinator in a folder of its own: `mesond dev`, or `mesond start` with a configuration.
pub struct Dev {
    process: Option<Child>,
    folder: tempfile::TempDir,
    url: String,
    how: How,
}

enum How {
    /// `mesond dev` with these options.
    Dev(Vec<String>),
    /// `mesond start` with these pools.
    Start(String),
}

impl Dev {
    /// Starts one and waits until it serves.
    pub fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::started(How::Dev(options))
    }

    /// Starts one in front of these pools, given as a piece of its configuration.
    pub fn with_pools(pools: &str) -> Self {
        Self::started(How::Start(pools.to_owned()))
    }

    fn started(how: How) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut dev = Self {
            process: None,
            folder,
            url: String::new(),
            how,
        };
        dev.spawn();
        dev
    }

    fn command(&self, address: &str) -> Command {
        let mut command = Command::new(binaries().join("mesond"));
        match &self.how {
            How::Dev(options) => {
                command
                    .args(["dev", "--http", address, "--data"])
                    .arg(self.data())
                    .args(options);
            }
            How::Start(pools) => {
                let data = self.data().display().to_string();
                std::fs::create_dir_all(self.data().join("store")).expect("our own folder");
                let config = self.folder.path().join("node.toml");
                let text = format!(
                    r#"
[node]
id = 1
cluster = "test"
data = "{data}"
shards = 2
[http]
listen = "{address}"
[store]
url = "file://{data}/store"
{pools}
"#
                );
                std::fs::write(&config, text).expect("our own folder");
                command.args(["start", "--config"]).arg(config);
            }
        }
        command
    }

    /// Starts it again on the same data, and the same address.
    pub fn restart(&mut self) {
        self.spawn();
    }

    fn spawn(&mut self) {
        let address = self
            .url
            .strip_prefix("http://")
            .unwrap_or("127.0.0.1:0")
            .to_owned();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("mesond.log"))
            .expect("a log file");
        let mut process = self
            .command(&address)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("mesond is built: cargo build --workspace --bins");
        let stdout = process.stdout.take().expect("piped");
        let (sender, lines) = std::sync::mpsc::sync_channel(4);
        std::thread::spawn(move || {
            use std::io::BufRead;
            for line in std::io::BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
            {
                let _ = sender.try_send(line);
            }
        });
        self.process = Some(process);
        let line = lines.recv_timeout(Duration::from_secs(60));
        let Some(url) = line
            .as_deref()
            .ok()
            .and_then(|line| line.strip_prefix("ready "))
        else {
            panic!("mesond did not get ready ({line:?}):\n{}", self.log());
        };
        self.url = url.to_owned();
    }

    /// Where everything is kept.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("mesond.log")).unwrap_or_default()
    }

    /// The API's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// kill −9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it ran");
            process.wait().expect("it ends");
        }
    }

    /// The command line, about this coordinator.
    pub fn mesonctl(&self, arguments: &[&str]) -> Output {
        Command::new(binaries().join("mesonctl"))
            .args(arguments)
            .env("MESON_URL", &self.url)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .output()
            .expect("mesonctl is built: cargo build --workspace --bins")
    }

    /// A command that has to succeed; its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.try_json(arguments)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()))
    }

    /// A command's JSON, if it succeeds.
    pub fn try_json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let output = self.mesonctl(&all);
        if !output.status.success() {
            bail!(
                "mesonctl {arguments:?}: {}\n{}",
                output.status,
                text(&output)
            );
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("mesonctl {arguments:?}: {}", text(&output)))
    }

    /// Submits a workflow; its run's id.
    pub fn submit(&self, file: &Path, params: &[&str]) -> String {
        let file = file.display().to_string();
        let mut arguments = vec!["run", &file];
        for param in params {
            arguments.extend(["--param", param]);
        }
        let output = self.mesonctl(&arguments);
        assert!(output.status.success(), "{}\n{}", text(&output), self.log());
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Writes a workflow and its scripts into a folder of their own.
    pub fn workflow(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (file, text) in files {
            std::fs::write(folder.join(file), text).expect("a file");
        }
        folder.join(files.first().expect("a workflow").0)
    }

    /// A run as it is now.
    pub fn run(&self, id: &str) -> Value {
        self.json(&["status", id])
    }

    /// Waits for a run to end; its last state.
    pub fn ended(&self, id: &str, limit: Duration) -> Value {
        wait_for(&format!("run {id} ends:\n{}", self.log()), limit, || {
            let run = self.try_json(&["status", id]).ok()?;
            (run["state"] != "running").then_some(run)
        })
    }

    /// Waits for a step to be in a state.
    pub fn step_is(&self, id: &str, step: &str, state: &str, limit: Duration) -> Value {
        wait_for(&format!("step {step} of {id} is {state}"), limit, || {
            let run = self.try_json(&["status", id]).ok()?;
            let step = find_step(&run, step)?.clone();
            (step["state"] == state).then_some(step)
        })
    }

    /// Processes whose command line has this in it, and that belong to this coordinator's data.
    pub fn processes(&self, part: &str) -> Vec<Pid> {
        let data = self.data().display().to_string();
        processes()
            .into_iter()
            .filter(|(_, line)| line.contains(part) && line.contains(&data))
            .map(|(pid, _)| pid)
            .collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM);
            let ended = (0..300).any(|_| {
                pause();
                matches!(process.try_wait(), Ok(Some(_)))
            });
            if !ended {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
        if std::thread::panicking() {
            eprintln!("--- mesond's log\n{}", self.log());
        }
    }
}

/// All processes, with command line and working directory.
pub fn processes() -> Vec<(Pid, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            Some((Pid::from_raw(pid), format!("{line} {}", cwd.display())))
        })
        .collect()
}

/// kill −9.
pub fn kill_hard(pid: Pid) {
    kill(pid, Signal::SIGKILL).expect("it ran");
}

/// A step of a run as the API shows it.
pub fn find_step<'a>(run: &'a Value, name: &str) -> Option<&'a Value> {
    run["steps"]
        .as_array()?
        .iter()
        .find(|step| step["name"] == name)
}

/// What a command printed.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
