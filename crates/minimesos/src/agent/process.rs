//! Processes of containers: started in a session of their own, recognised
//! again after a restart of the agent, watched by pidfd, and killed to the last
//! one.
//!
//! A container's processes are those of the session that its first process
//! leads, their descendants, and whatever carries the container's own
//! `MESOS_DIRECTORY` in its environment: a daemon that has fled into another
//! session is found by that.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::{Gid, Pid, Uid};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// How long the processes of a killed container may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A process, told apart from a later one that got the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// The pid, which is also the id of the session that the process leads.
    pub(crate) pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub(crate) start_ticks: u64,
}

/// What `/proc/PID/stat` says of one process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pid: i32,
    dead: bool,
    parent: i32,
    group: i32,
    session: i32,
    start_ticks: u64,
}

fn parse_stat(pid: i32, text: &str) -> Option<Stat> {
    // The name of the program stands in parentheses and may itself hold blanks
    // and parentheses: everything of interest comes after the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        pid,
        dead: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All the processes of this machine that can be seen.
pub(super) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect()
}

fn carries(pid: i32, marker: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    environ
        .split(|&byte| byte == 0)
        .any(|variable| variable == marker.as_bytes())
}

/// The environment variable that every process of a container inherits.
fn marker(directory: &Path) -> String {
    format!("MESOS_DIRECTORY={}", directory.display())
}

impl ProcessId {
    /// The process that has this pid now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// Whether the process still runs. A zombie does not.
    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| !stat.dead && stat.start_ticks == self.start_ticks)
    }

    /// Waits until the process has ended, whoever its parent is.
    pub(crate) async fn ended(&self) {
        if let Some(fd) = self.pidfd()
            && let Ok(fd) = watched(fd)
            // Readable once the process has ended (pidfd_open(2)).
            && fd.readable().await.is_ok()
        {
            return;
        }
        // A kernel before 5.3, or no descriptor left: look now and then.
        while self.is_alive() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn pidfd(&self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()?;
        // Only now the descriptor holds on to a process: is it ours?
        self.is_alive().then_some(fd)
    }
}

#[expect(
    unsafe_code,
    reason = "tokio wants a promise about the descriptor's owner, which OwnedFd keeps"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is valid and owned, and nobody replaces or closes it
    // while the AsyncFd holds it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// The first process of the container whose sandbox is `directory`, looked up by
/// its environment: for a container whose pid was never written down.
pub(crate) fn find_leader(directory: &Path) -> Option<ProcessId> {
    let marker = marker(directory);
    all()
        .into_iter()
        .filter(|stat| !stat.dead && stat.session == stat.pid && carries(stat.pid, &marker))
        .min_by_key(|stat| (stat.start_ticks, stat.pid))
        .map(|stat| ProcessId {
            pid: stat.pid,
            start_ticks: stat.start_ticks,
        })
}

/// The living processes of a container.
fn members(leader: Option<ProcessId>, directory: &Path) -> BTreeSet<i32> {
    let marker = marker(directory);
    let everybody = all();
    let since = leader.map_or(0, |leader| leader.start_ticks);
    // Once the whole session is gone its number may lead a stranger's session.
    let session = leader.filter(|leader| {
        !everybody
            .iter()
            .any(|stat| stat.pid == leader.pid && stat.start_ticks != leader.start_ticks)
    });
    // What started before the container is none of its processes, which also
    // spares reading most of the machine's environments.
    let young: Vec<Stat> = everybody
        .into_iter()
        .filter(|stat| !stat.dead && stat.start_ticks >= since)
        .collect();
    let found = young
        .iter()
        .filter(|stat| {
            session.is_some_and(|leader| stat.belongs_to(leader)) || carries(stat.pid, &marker)
        })
        .map(|stat| stat.pid)
        .collect();
    with_descendants(found, &young)
}

impl Stat {
    fn belongs_to(&self, leader: ProcessId) -> bool {
        self.session == leader.pid || self.group == leader.pid
    }
}

/// The processes of the session that `leader` leads, and their descendants: the cheap part
/// of [`members`], for looking often.
pub(super) fn family(leader: ProcessId, everybody: &[Stat]) -> BTreeSet<i32> {
    let led = everybody
        .iter()
        .any(|stat| stat.pid == leader.pid && stat.start_ticks == leader.start_ticks);
    if !led {
        return BTreeSet::new();
    }
    let found = everybody
        .iter()
        .filter(|stat| !stat.dead && stat.belongs_to(leader))
        .map(|stat| stat.pid)
        .collect();
    with_descendants(found, everybody)
}

fn with_descendants(mut found: BTreeSet<i32>, among: &[Stat]) -> BTreeSet<i32> {
    loop {
        let children: Vec<i32> = among
            .iter()
            .filter(|stat| found.contains(&stat.parent) && !found.contains(&stat.pid))
            .map(|stat| stat.pid)
            .collect();
        if children.is_empty() {
            return found;
        }
        found.extend(children);
    }
}

/// Kills all the processes of a container and waits until they are gone.
///
/// Returns the pids that would not go (in uninterruptible sleep, as a rule).
pub(crate) async fn kill_container(leader: Option<ProcessId>, directory: PathBuf) -> Vec<i32> {
    let deadline = Instant::now() + KILL_DEADLINE;
    let mut pause = Duration::from_millis(1);
    loop {
        let looked_at = directory.clone();
        let members = tokio::task::spawn_blocking(move || {
            let members = members(leader, &looked_at);
            for &pid in &members {
                // Gone already is as good as killed.
                let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            members
        })
        .await
        .unwrap_or_default();
        if members.is_empty() {
            return Vec::new();
        }
        if Instant::now() >= deadline {
            return members.into_iter().collect();
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The numbers behind the name of a user to run as.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// User id.
    pub(crate) uid: Uid,
    /// Primary group.
    pub(crate) gid: Gid,
    /// All the groups of the user.
    pub(crate) groups: Vec<Gid>,
}

impl Account {
    /// Looks a user up by name; `None` if the machine has no such user.
    pub(crate) fn named(name: &str) -> io::Result<Option<Self>> {
        let Some(user) = nix::unistd::User::from_name(name)? else {
            return Ok(None);
        };
        let c_name = CString::new(name)?;
        Ok(Some(Self {
            uid: user.uid,
            gid: user.gid,
            groups: nix::unistd::getgrouplist(&c_name, user.gid)?,
        }))
    }

    /// Whether the agent itself runs as this user.
    pub(crate) fn is_own(&self) -> bool {
        nix::unistd::geteuid() == self.uid
    }
}

/// How to start the first process of a container.
#[derive(Debug)]
pub(crate) struct Start {
    /// The program, looked up in `PATH` if it has no slash.
    pub(crate) program: String,
    /// All of argv, the name of the program first; empty for the program alone.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) environment: Vec<(String, String)>,
    /// The sandbox: working directory, and where `stdout` and `stderr` go.
    pub(crate) directory: PathBuf,
    /// Whom to run as; `None` stays the agent's own user.
    pub(crate) account: Option<Account>,
}

impl Start {
    /// Starts the process as the leader of a new session and process group.
    pub(crate) fn spawn(self) -> io::Result<Child> {
        let append = |name: &str| {
            File::options()
                .append(true)
                .create(true)
                .open(self.directory.join(name))
        };
        let mut command = Command::new(&self.program);
        let mut argv = self.argv.iter();
        if let Some(arg0) = argv.next() {
            command.arg0(arg0);
        }
        command
            .args(argv)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(append("stdout")?)
            .stderr(append("stderr")?);
        in_new_session(&mut command, self.account);
        command.spawn()
    }
}

/// Makes the command's process lead a session of its own, as `account`.
#[expect(
    unsafe_code,
    reason = "between fork and exec: only setsid, setgroups, setgid and setuid, which are \
              async-signal-safe, on memory that was allocated before"
)]
pub(crate) fn in_new_session(command: &mut Command, account: Option<Account>) {
    let enter = move || {
        nix::unistd::setsid()?;
        if let Some(account) = &account {
            nix::unistd::setgroups(&account.groups)?;
            nix::unistd::setgid(account.gid)?;
            nix::unistd::setuid(account.uid)?;
        }
        Ok(())
    };
    // SAFETY: `enter` allocates nothing, takes no lock and makes system calls only.
    unsafe {
        command.pre_exec(enter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, directory: &Path) -> (Child, ProcessId) {
        let child = Start {
            program: "sh".to_owned(),
            argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            environment: vec![
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                (
                    "MESOS_DIRECTORY".to_owned(),
                    directory.display().to_string(),
                ),
            ],
            directory: directory.to_owned(),
            account: None,
        }
        .spawn()
        .unwrap();
        let id = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        (child, id)
    }

    async fn until_written(file: &Path) {
        for _ in 0..500 {
            if fs::metadata(file).is_ok_and(|meta| meta.len() > 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} stayed empty", file.display());
    }

    #[test]
    fn the_name_of_a_program_may_hold_parentheses() {
        let text = "7 (a) b (c)) S 3 7 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0";
        let stat = parse_stat(7, text).unwrap();
        assert_eq!((stat.parent, stat.group, stat.session), (3, 7, 5));
        assert_eq!(stat.start_ticks, 4242);
        assert!(!stat.dead);
    }

    #[tokio::test]
    async fn a_container_leads_its_own_session_and_its_end_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, id) = start("exit 3", directory.path());
        tokio::time::timeout(Duration::from_secs(10), id.ended())
            .await
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert!(!id.is_alive());
    }

    #[tokio::test]
    async fn a_daemon_that_fled_into_another_session_dies_with_its_container() {
        let directory = tempfile::tempdir().unwrap();
        let script = "setsid sh -c 'echo $$ > daemon; exec sleep 600' & \
                      sleep 600 & echo ready > ready; wait";
        let (mut child, id) = start(script, directory.path());
        until_written(&directory.path().join("daemon")).await;
        until_written(&directory.path().join("ready")).await;
        assert_eq!(find_leader(directory.path()), Some(id));
        let daemon = fs::read_to_string(directory.path().join("daemon")).unwrap();
        let daemon = ProcessId::of(daemon.trim().parse().unwrap()).unwrap();
        assert!(daemon.is_alive());

        let left = kill_container(Some(id), directory.path().to_owned()).await;
        assert_eq!(left, Vec::<i32>::new());
        assert!(!daemon.is_alive());
        assert!(members(Some(id), directory.path()).is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_taken_for_ours() {
        let own = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.is_alive());
        let earlier = ProcessId {
            start_ticks: own.start_ticks - 1,
            ..own
        };
        assert!(!earlier.is_alive());
    }
}
