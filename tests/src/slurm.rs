//! A real Slurm on this machine for one test: munge, a controller, and a few nodes, in a folder of
//! its own, on ports of its own, with a key of its own.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{available, pause, text, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// Where Debian has daemons, which are not on everybody's path.
const DAEMONS: &str = "/usr/sbin";
/// Below the range of outgoing connections, so that a daemon that is started again finds its port.
const PORTS: std::ops::Range<u16> = 12_000..31_000;

/// A node: its name, processors, and memory in mebibytes.
pub type NodeSize = (&'static str, u32, u32);

/// The cluster.
pub struct Slurm {
    folder: tempfile::TempDir,
    munge: Option<Child>,
    controller: Option<Child>,
    nodes: Vec<Child>,
}

impl Slurm {
    /// Starts one, and waits until its nodes are there; none if this machine has no Slurm.
    pub fn start(nodes: &[NodeSize]) -> Option<Self> {
        let there = ["slurmctld", "slurmd", "munged"]
            .iter()
            .all(|daemon| Path::new(DAEMONS).join(daemon).exists());
        if !available("slurm", there) {
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("slurm")
            .tempdir()
            .expect("a folder");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
            .expect("our own folder");
        let mut slurm = Self {
            folder,
            munge: None,
            controller: None,
            nodes: Vec::new(),
        };
        slurm.configure(nodes);
        slurm.start_munge();
        slurm.start_controller();
        for (name, _, _) in nodes {
            let node = slurm.daemon("slurmd", &["-D", "-N", name], name);
            slurm.nodes.push(node);
        }
        slurm.wait_for_nodes(nodes.len());
        Some(slurm)
    }

    /// The configuration that its commands are to be told of.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    /// A folder that coordinators and nodes share.
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    fn configure(&self, nodes: &[NodeSize]) {
        let root = self.folder.path();
        for folder in ["munge", "state", "shared"] {
            std::fs::create_dir_all(root.join(folder)).expect("our own folder");
        }
        let host =
            std::fs::read_to_string("/proc/sys/kernel/hostname").expect("this machine has a name");
        let host = host.trim();
        let ports = ports(nodes.len() + 1);
        let mut text = format!(
            "\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
# No control groups: a container on a laptop has none to give.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=1
GresTypes=gpu
ReturnToService=2
KillWait=5
MessageTimeout=10
",
            ports[0],
            user = user(),
            root = root.display(),
        );
        let mut names = Vec::new();
        for ((name, cpus, mem), port) in nodes.iter().zip(&ports[1..]) {
            std::fs::create_dir_all(root.join(format!("spool-{name}"))).expect("our own folder");
            // The first node has what is special.
            let special = if names.is_empty() {
                " Feature=ssd,rack=a Gres=gpu:2"
            } else {
                ""
            };
            names.push(*name);
            let _ = writeln!(
                text,
                "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={mem}{special}"
            );
        }
        let _ = writeln!(
            text,
            "PartitionName=main Nodes={} Default=YES MaxTime=INFINITE State=UP",
            names.join(",")
        );
        std::fs::write(self.config(), text).expect("our own folder");
        // Devices that every machine has stand in for GPUs.
        let gres = format!("NodeName={} Name=gpu File=/dev/null,/dev/zero\n", names[0]);
        std::fs::write(root.join("gres.conf"), gres).expect("our own folder");
    }

    fn start_munge(&mut self) {
        let folder = self.folder.path().join("munge");
        let key = folder.join("key");
        let random: Vec<u8> = (0..64)
            .flat_map(|_| *uuid::Uuid::new_v4().as_bytes())
            .collect();
        std::fs::write(&key, random).expect("our own folder");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))
            .expect("our own file");
        let option = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
        let options = [
            "--foreground".to_owned(),
            // The folder above ours is everybody's.
            "--force".to_owned(),
            option("key-file", "key"),
            option("socket", "socket"),
            option("pid-file", "pid"),
            option("log-file", "log"),
            option("seed-file", "seed"),
        ];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        self.munge = Some(self.daemon("munged", &options, "munged"));
        wait_for("munge is there", SOON, || {
            folder.join("socket").exists().then_some(())
        });
    }

    fn start_controller(&mut self) {
        self.controller = Some(self.daemon("slurmctld", &["-D"], "slurmctld"));
        wait_for("Slurm's controller answers", SOON, || {
            self.command("scontrol", &["ping"])
                .status
                .success()
                .then_some(())
        });
    }

    fn wait_for_nodes(&self, count: usize) {
        wait_for(&format!("{count} nodes are idle"), SOON, || {
            let output = self.command("sinfo", &["--noheader", "--Node", "--format=%N %T"]);
            let idle = String::from_utf8_lossy(&output.stdout);
            let idle = idle.lines().filter(|line| line.ends_with(" idle")).count();
            (idle == count).then_some(())
        });
    }

    /// A daemon that ends with the thread that starts it, whatever becomes of that.
    fn daemon(&self, program: &str, arguments: &[&str], log: &str) -> Child {
        let log = self.folder.path().join(format!("{log}.out"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(Path::new(DAEMONS).join(program))
            .args(arguments)
            .env("SLURM_CONF", self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .expect("it is installed")
    }

    /// One of its commands.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program)
            .args(arguments)
            .env("SLURM_CONF", self.config())
            .stdin(Stdio::null())
            .output()
            .expect("it is installed")
    }

    /// A command that has to succeed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            text(&output)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Jobs that have not ended: number and name.
    pub fn live_jobs(&self) -> Vec<(String, String)> {
        let text = self.run("squeue", &["--noheader", "--format=%i %j"]);
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, name)| (id.to_owned(), name.to_owned()))
            .collect()
    }

    /// kill −9 of the controller, once it has saved the jobs that there are: it does so every few
    /// seconds, and what it has not saved is lost.
    pub fn kill_controller(&mut self) {
        let jobs = self.live_jobs();
        // A change that can be found in what it saves: all before it is saved as well. Otherwise it
        // might come back believing that a job still waits, and start it a second time.
        for (id, _) in &jobs {
            let job = format!("JobId={id}");
            self.run("scontrol", &["update", &job, "Comment=as-it-is-now"]);
        }
        let state = self.folder.path().join("state/job_state");
        wait_for("the controller has saved its jobs", SOON, || {
            let saved = std::fs::read(&state).unwrap_or_default();
            let saved = String::from_utf8_lossy(&saved);
            (saved.matches("as-it-is-now").count() >= jobs.len()).then_some(())
        });
        if let Some(mut controller) = self.controller.take() {
            controller.kill().expect("it ran");
            controller.wait().expect("it ends");
        }
    }

    /// Starts the controller again, on what it has saved.
    pub fn restart_controller(&mut self) {
        self.start_controller();
        // A job that it starts before a node has answered may come twice to that node, which is
        // taken out of service then.
        wait_for("the nodes have answered", SOON, || {
            let output = self.command("sinfo", &["--noheader", "--Node", "--format=%T"]);
            let states = String::from_utf8_lossy(&output.stdout);
            states
                .lines()
                .all(|state| ["idle", "mixed", "allocated"].contains(&state))
                .then_some(())
        });
    }

    fn logs(&self) -> String {
        let mut all = String::new();
        let entries = std::fs::read_dir(self.folder.path()).into_iter().flatten();
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            if path
                .extension()
                .is_some_and(|end| end == "log" || end == "out")
            {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let _ = writeln!(all, "--- {}\n{text}", path.display());
            }
        }
        all
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        // Jobs are no children of ours: Slurm has to end them while it is there.
        if self.controller.is_some() {
            let _ = self.command("scancel", &["--user", &user()]);
            for _ in 0..200 {
                let left = self.command("squeue", &["--noheader"]);
                if !left.status.success() || left.stdout.is_empty() {
                    break;
                }
                pause();
            }
        }
        for daemon in self
            .nodes
            .iter_mut()
            .chain(&mut self.controller)
            .chain(&mut self.munge)
        {
            let _ = kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM);
            let ended = (0..200).any(|_| {
                pause();
                matches!(daemon.try_wait(), Ok(Some(_)))
            });
            if !ended {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
    }
}

/// Whose cluster it is: ours.
fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective());
    user.ok()
        .flatten()
        .map_or_else(|| "root".to_owned(), |user| user.name)
}

/// Free ports. Tests that run side by side begin their search at different places.
fn ports(count: usize) -> Vec<u16> {
    let span = u32::from(PORTS.end - PORTS.start);
    let first = uuid::Uuid::new_v4().as_u128() as u32 % span;
    let candidates = (0..span).map(|step| {
        let offset = u16::try_from((first + step) % span).unwrap_or(0);
        PORTS.start + offset
    });
    let free = candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let found: Vec<u16> = free.take(count).collect();
    assert_eq!(found.len(), count, "there are no free ports");
    found
}
