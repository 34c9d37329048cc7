//! A master, agents as processes, and a scheduler that remembers all it heard.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use meson_mesos::recordio::Decoder;
use meson_mesos::types::Data;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Nothing that the tests wait for takes so long, on any machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `look` sees something.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "not seen in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A master in this process, with an allocator that is quicker than a real one's.
pub(crate) async fn master() -> minimesos::master::MasterHandle {
    master_on(0).await
}

/// The same on a port.
pub(crate) async fn master_on(port: u16) -> minimesos::master::MasterHandle {
    let mut options = master_options();
    options.port = port;
    minimesos::master::start(options).await.unwrap()
}

/// How such a master is set up.
#[expect(
    clippy::disallowed_methods,
    reason = "somebody has to tell the master the time"
)]
pub(crate) fn master_options() -> minimesos::master::MasterOptions {
    // Without a provider of cryptography no HTTP client can be made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut options = minimesos::master::MasterOptions::new(now.unwrap());
    options.allocation_interval = Duration::from_millis(50);
    options
}

/// An agent in a process of its own.
pub(crate) struct Agent {
    pub(crate) work_dir: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
}

impl Agent {
    pub(crate) fn start(master: &str, work_dir: &Path, more: &[&str]) -> Self {
        let mut arguments: Vec<String> = ["agent", "--master", master, "--work-dir"]
            .map(str::to_owned)
            .to_vec();
        arguments.push(work_dir.display().to_string());
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        let mut agent = Self {
            work_dir: work_dir.to_owned(),
            arguments,
            process: None,
        };
        agent.restart();
        agent
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.work_dir.with_extension("log"))
            .unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_minimesos"))
            .args(&self.arguments)
            .env("RUST_LOG", "minimesos=debug")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// SIGKILL, as a crash.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.process.as_ref().unwrap().id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits until the process has ended, and says how.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let process = self.process.as_mut().unwrap();
        until("the agent's end", || process.try_wait().unwrap()).await
    }

    /// The sandbox of an executor's only run.
    pub(crate) fn sandbox(&self, executor: &str) -> PathBuf {
        fn find(folder: &Path, executor: &str) -> Option<PathBuf> {
            for entry in std::fs::read_dir(folder).ok()?.flatten() {
                let path = entry.path();
                if path.ends_with(format!("executors/{executor}")) {
                    return Some(path.join("runs/latest"));
                }
                if entry.file_type().ok()?.is_dir()
                    && let Some(found) = find(&path, executor)
                {
                    return Some(found);
                }
            }
            None
        }
        find(&self.work_dir.join("agents"), executor).unwrap()
    }

    /// Living processes that have this agent's work directory in their
    /// environment, which all of its containers' processes have.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let needle = format!("MESOS_DIRECTORY={}", self.work_dir.display());
        let mut found: Vec<u32> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
                    environ
                        .windows(needle.len())
                        .any(|window| window == needle.as_bytes())
                })
            })
            .collect();
        found.sort_unstable();
        found
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        // Its executors would wait for it to come back.
        for pid in self.processes() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.work_dir.with_extension("log"));
            eprintln!("--- the agent's log\n{}", log.unwrap_or_default());
        }
    }
}

/// A scheduler in raw JSON. It acknowledges what it hears.
pub(crate) struct Scheduler {
    http: reqwest::Client,
    url: String,
    stream_id: String,
    pub(crate) framework_id: String,
    events: Arc<Mutex<Vec<Value>>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Scheduler {
    pub(crate) async fn subscribe(master: &str) -> Self {
        Self::subscribe_as(master, json!({})).await
    }

    /// Subscribes with more fields in the FrameworkInfo than the usual ones.
    pub(crate) async fn subscribe_as(master: &str, more: Value) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{master}/api/v1/scheduler");
        let mut info = json!({
            "user": "root", "name": "test", "roles": ["*"], "failover_timeout": 60.0,
            "checkpoint": true, "capabilities": [{"type": "MULTI_ROLE"}],
        });
        for (name, value) in more.as_object().unwrap() {
            info[name] = value.clone();
        }
        let mut call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        if let Some(id) = info.get("id") {
            call["framework_id"] = id.clone();
        }
        let answer = http.post(&url).json(&call).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let stream_id = answer.headers()["Mesos-Stream-Id"]
            .to_str()
            .unwrap()
            .to_owned();
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let heard = Arc::clone(&events);
        let (client, to, stream) = (http.clone(), url.clone(), stream_id.clone());
        let reading = tokio::spawn(async move {
            let mut body = answer.bytes_stream();
            let mut decoder = Decoder::default();
            let mut framework = Value::Null;
            while let Some(Ok(bytes)) = body.next().await {
                decoder.push(&bytes);
                while let Some(record) = decoder.next_record().unwrap() {
                    let event: Value = serde_json::from_slice(&record).unwrap();
                    if event["type"] == "SUBSCRIBED" {
                        framework = event["subscribed"]["framework_id"].clone();
                    }
                    let status = &event["update"]["status"];
                    if status.get("uuid").is_some() {
                        let call = json!({
                            "type": "ACKNOWLEDGE", "framework_id": framework,
                            "acknowledge": {
                                "agent_id": status["agent_id"], "task_id": status["task_id"],
                                "uuid": status["uuid"],
                            },
                        });
                        heard.lock().unwrap().push(event.clone());
                        post(&client, &to, &stream, &call).await;
                        continue;
                    }
                    heard.lock().unwrap().push(event);
                }
            }
        });
        let mut scheduler = Self {
            http,
            url,
            stream_id,
            framework_id: String::new(),
            events,
            reading,
        };
        let subscribed = scheduler
            .event("SUBSCRIBED", |event| event["type"] == "SUBSCRIBED")
            .await;
        let id = subscribed["subscribed"]["framework_id"]["value"].as_str();
        scheduler.framework_id = id.unwrap().to_owned();
        scheduler
    }

    pub(crate) async fn call(&self, mut call: Value) {
        call["framework_id"] = json!({"value": self.framework_id});
        post(&self.http, &self.url, &self.stream_id, &call).await;
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// The first event that fits, which is waited for.
    pub(crate) async fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let look = || self.events().into_iter().find(&fits);
        let deadline = Instant::now() + DEADLINE;
        while look().is_none() {
            let events = self.events();
            assert!(
                Instant::now() < deadline,
                "not heard: {what}; heard: {events:#?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        look().unwrap()
    }

    /// The first status of a task in a state.
    pub(crate) async fn status(&self, task: &str, state: &str) -> Value {
        let event = self
            .event(&format!("{task} {state}"), |event| {
                let status = &event["update"]["status"];
                status["task_id"]["value"] == task && status["state"] == state
            })
            .await;
        event["update"]["status"].clone()
    }

    /// The states that a task was said to be in, each once.
    pub(crate) fn states(&self, task: &str) -> Vec<String> {
        let mut states: Vec<String> = self
            .events()
            .iter()
            .map(|event| &event["update"]["status"])
            .filter(|status| status["task_id"]["value"] == task)
            .map(|status| status["state"].as_str().unwrap().to_owned())
            .collect();
        states.dedup();
        states
    }

    /// Launches tasks on the next offer, all of them on one agent.
    pub(crate) async fn launch(&self, tasks: &[Value]) {
        let offer = self
            .event("an offer", |event| {
                event["type"] == "OFFERS" && !self.is_spent(event)
            })
            .await["offers"]["offers"][0]
            .clone();
        // Not an event of Mesos: the mark that this offer is used up.
        self.events
            .lock()
            .unwrap()
            .push(json!({"type": "ACCEPTED", "id": offer["id"]}));
        let tasks: Vec<Value> = tasks
            .iter()
            .map(|task| {
                let mut task = task.clone();
                task["agent_id"] = offer["agent_id"].clone();
                if task.get("resources").is_none() {
                    task["resources"] = resources(0.1, 16.0);
                }
                if task.get("executor").is_some() {
                    task["executor"]["framework_id"] = json!({"value": self.framework_id});
                }
                task
            })
            .collect();
        self.call(json!({
            "type": "ACCEPT",
            "accept": {
                "offer_ids": [offer["id"]],
                "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}],
                "filters": {"refuse_seconds": 0},
            },
        }))
        .await;
    }

    fn is_spent(&self, offers: &Value) -> bool {
        let id = &offers["offers"]["offers"][0]["id"];
        self.events().iter().any(|event| {
            (event["type"] == "ACCEPTED" && event["id"] == *id)
                || (event["type"] == "RESCIND" && event["rescind"]["offer_id"] == *id)
        })
    }

    pub(crate) async fn kill(&self, task: &str, more: Value) {
        let mut kill = json!({"task_id": {"value": task}});
        for (name, value) in more.as_object().unwrap() {
            kill[name] = value.clone();
        }
        self.call(json!({"type": "KILL", "kill": kill})).await;
    }
}

async fn post(http: &reqwest::Client, url: &str, stream_id: &str, call: &Value) {
    let answer = http
        .post(url)
        .header("Mesos-Stream-Id", stream_id)
        .json(call)
        .send()
        .await
        .unwrap();
    let status = answer.status();
    assert!(
        status.is_success(),
        "{call}: {status} {}",
        answer.text().await.unwrap()
    );
}

pub(crate) fn resources(cpus: f64, mem: f64) -> Value {
    json!([
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": mem}},
    ])
}

/// A task with a command.
pub(crate) fn command(task: &str, shell: &str) -> Value {
    json!({
        "name": task, "task_id": {"value": task},
        "command": {"shell": true, "value": shell},
    })
}

/// A task for the executor in `executor.py`.
pub(crate) fn custom(task: &str, executor: &str, mode: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/executor.py");
    json!({
        "name": task, "task_id": {"value": task},
        "data": Data::from(mode).to_base64(),
        "executor": {
            "type": "CUSTOM", "executor_id": {"value": executor}, "name": "custom",
            "command": {"shell": true, "value": format!("exec python3 {script}")},
            "resources": resources(0.1, 16.0),
        },
    })
}
