//! Processes of steps: started in a session of their own, waited for, and killed to the last
//! descendant.
//!
//! * [`guard`]: the process above the executor, which cleans up after it.
//! * [`nursery`]: all children and whose they are; [`table`] is `/proc` itself.
//! * [`usage`]: memory and processor time. * [`fence`]: a step's memory is kept within what it
//!   asked for; [`cgroup`]: by the kernel, where it lets us.
//! * [`isolate`]: what happens between fork and exec.

pub mod cgroup;
pub mod fence;
pub mod guard;
pub mod isolate;
pub mod nursery;
pub mod table;
pub mod usage;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::Exit;
use crate::task::Stop;
use cgroup::Leaf;
use fence::Fence;
use meson_protocol::task::Usage;
use nursery::{Nursery, ended, pid_of};
use table::Stat;
use usage::Meter;

/// How long processes may take to die of SIGKILL before we go on without them.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// Program and arguments; the program is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
}

/// A task's first process, and by it all its others. Everything that it started is
/// killed when this is dropped without [`Running::finish`].
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: i32,
    nursery: Nursery,
    /// Children ended: time to look who.
    deaths: SignalStream,
    fence: Fence,
    done: bool,
}

impl Running {
    /// Starts the program as the leader of a new session. To be called on the main thread
    /// (see [`isolate::own_session`]).
    pub fn spawn(
        program: &Program,
        task: &str,
        nursery: &Nursery,
        fence: Fence,
    ) -> io::Result<(Self, ChildStdout, ChildStderr)> {
        let deaths = signal(SignalKind::child())?;
        let (name, arguments) = program
            .argv
            .split_first()
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(find(name, program).unwrap_or_else(|| OsString::from(name)));
        command
            .args(arguments)
            .env_clear()
            .envs(&program.env)
            .current_dir(&program.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let door = fence.leaf().map(Leaf::door).transpose()?;
        isolate::own_session(&mut command, door);
        let group = fence.leaf().map(|leaf| leaf.group().clone());
        let mut child = nursery.spawn(&mut command, task, group)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pid = pid_of(&child);
        let running = Self {
            child,
            pid,
            nursery: nursery.clone(),
            deaths,
            fence,
            done: false,
        };
        match (stdout, stderr) {
            (Some(stdout), Some(stderr)) => Ok((running, stdout, stderr)),
            _ => Err(io::Error::other("the pipes of a new process are missing")),
        }
    }

    /// Waits until the first process has ended. Descendants may live on.
    pub async fn ended(&mut self) -> Exit {
        loop {
            match ended(self.pid) {
                Some(WaitStatus::Exited(_, code)) => return Exit::Code(code),
                Some(WaitStatus::Signaled(_, signal, _)) => return Exit::Signal(signal as i32),
                // Stopped or traced: not the end.
                Some(_) | None => {}
            }
            // Signals coalesce and may be missed between the look and this line only if they
            // came before `deaths` existed; the pause is a net below it.
            let _ = timeout(Duration::from_secs(1), self.deaths.recv()).await;
        }
    }

    /// Ends all processes: SIGTERM, and SIGKILL after the grace. A further
    /// word to stop can only make it faster.
    pub async fn terminate(&mut self, grace: Duration, stop: &mut Stop) {
        let mut deadline = Instant::now() + grace;
        let group = Pid::from_raw(self.pid);
        let _ = killpg(group, Signal::SIGTERM);
        for stat in self
            .members()
            .await
            .iter()
            .filter(|stat| stat.group != self.pid)
        {
            let _ = kill(Pid::from_raw(stat.pid), Signal::SIGTERM);
        }
        let mut pause = Duration::from_millis(5);
        while !self.members().await.is_empty() && Instant::now() < deadline {
            tokio::select! {
                () = sleep(pause.min(deadline - Instant::now())) => {}
                _ = self.deaths.recv() => {}
                grace = stop.asked() => deadline = deadline.min(Instant::now() + grace),
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        self.kill_all().await;
    }

    /// Kills what is left of the task, and gives what it used. The first process must have
    /// ended or been terminated.
    pub async fn finish(mut self) -> Finished {
        let left_behind = if self.nursery.may_have_strays() {
            self.kill_all().await
        } else {
            0
        };
        // A zombie still tells the processor time of itself and of its children.
        let last = Stat::of(self.pid).map(|stat| Stat {
            rss_pages: 0,
            ..stat
        });
        let mut meter = self.nursery.meter(self.pid, last);
        if let Some(peak) = self.bury() {
            meter.peak(peak);
        }
        Finished { meter, left_behind }
    }

    /// Looks at the memory of the first process: cheap, for processes that are over before
    /// the next sample.
    pub fn peek(&self) {
        self.nursery.meter(self.pid, Stat::of(self.pid));
    }

    /// What it used so far.
    pub fn used(&self, wall: Duration) -> Usage {
        self.nursery.meter(self.pid, None).usage(wall)
    }

    /// Whether somebody has to look at its memory now and then.
    pub fn is_watched(&self) -> bool {
        self.fence.is_watched()
    }

    /// How much it uses, if that is more than it may, by looks of which this is one.
    pub async fn is_above(&mut self) -> Option<u64> {
        let resident = self.nursery.meter(self.pid, None).resident_bytes();
        if !self.fence.is_suspicious(resident) {
            return None;
        }
        let members = self.members().await;
        self.fence.is_above(&members)
    }

    /// Whether its bad end was for want of memory, in words.
    pub fn wanted_memory(&self, exit: Exit) -> Option<String> {
        self.fence.explains(exit)
    }

    /// SIGKILL until nobody is left. Gives how many there were at first.
    async fn kill_all(&mut self) -> usize {
        let deadline = Instant::now() + KILL_DEADLINE;
        let mut first = None;
        loop {
            let members = self.members().await;
            first.get_or_insert(members.len());
            if members.is_empty() {
                return first.unwrap_or(0);
            }
            for stat in &members {
                let _ = kill(Pid::from_raw(stat.pid), Signal::SIGKILL);
            }
            if Instant::now() > deadline {
                let pids: Vec<i32> = members.iter().map(|stat| stat.pid).collect();
                tracing::error!(
                    ?pids,
                    "processes do not die of SIGKILL; going on without them"
                );
                return first.unwrap_or(0);
            }
            let _ = timeout(Duration::from_millis(10), self.deaths.recv()).await;
        }
    }

    async fn members(&self) -> Vec<Stat> {
        let (nursery, pid) = (self.nursery.clone(), self.pid);
        tokio::task::spawn_blocking(move || nursery.members(pid))
            .await
            .unwrap_or_default()
    }

    /// Takes notice of the end. Gives the largest resident memory of the first process and of
    /// those that it waited for, where that says anything.
    fn bury(&mut self) -> Option<u64> {
        self.done = true;
        let peak = isolate::wait_for_dead(self.pid);
        self.nursery.forget(self.pid);
        // A process begins as a copy of ours, and its peak with it.
        let own = fence::high_water(nix::unistd::getpid().as_raw()).unwrap_or(0);
        peak.filter(|peak| *peak > own)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            // The worker was dropped: the quick way, since nothing can be awaited here.
            for stat in self.nursery.members(self.pid) {
                let _ = kill(Pid::from_raw(stat.pid), Signal::SIGKILL);
            }
            let _ = self.child.wait();
            self.nursery.forget(self.pid);
        }
    }
}

/// What is known when all processes of a task are gone.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// What they used.
    pub meter: Meter,
    /// How many had outlived the first process.
    pub left_behind: usize,
}

/// The program's path, by the `PATH` that it will have itself.
fn find(name: &str, program: &Program) -> Option<OsString> {
    if name.contains('/') {
        return None;
    }
    crate::process::which(name, program.env.get("PATH")?).map(PathBuf::into_os_string)
}

/// The first executable file `name` in the folders of `path`.
pub fn which(name: &str, path: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|file| {
            std::fs::metadata(file)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}
