//! A child process in a group of its own, with its output in a file.

use std::{fs::File, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// The kernel's unit of processor time, towards user space (time(7)), in milliseconds.
const TICK_MS: u64 = 10;

/// A child. It is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    pid: Pid,
    /// When it was started.
    pub(super) started: Instant,
}

impl Process {
    /// Starts it; what it prints goes to the end of the log.
    pub(super) fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .with_context(|| format!("open {}", log.display()))
        };
        let program = command.as_std().get_program().display().to_string();
        let child = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            // A group of its own: a Ctrl-C for us is not one for it, it is ended in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = child.id().context("it has no process id")?;
        Ok(Self {
            child,
            pid: Pid::from_raw(i32::try_from(pid)?),
            started: Instant::now(),
        })
    }

    /// Sends a signal. The process id is ours as long as nobody has waited for the child.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        if self.child.id().is_none() {
            return Ok(());
        }
        kill(self.pid, signal).with_context(|| format!("send {signal} to {}", self.pid))
    }

    /// How long processors have worked for it (proc_pid_stat(5), utime and stime).
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // Its name, in brackets, may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        Some(Duration::from_millis((ticks()? + ticks()?) * TICK_MS))
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("kill a process")
    }

    /// Whether it is gone.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_stopped_continued_and_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut process = Process::spawn(command, &folder.path().join("log")).unwrap();
        let pid = process.pid;
        process.signal(Signal::SIGSTOP).unwrap();
        process.signal(Signal::SIGCONT).unwrap();
        assert!(!process.has_ended());
        assert!(
            process
                .cpu_time()
                .is_some_and(|time| time < Duration::from_secs(5))
        );
        process.kill().await.unwrap();
        assert!(kill(pid, None).is_err(), "it is gone");
    }

    #[tokio::test]
    async fn a_process_does_not_outlive_its_handle() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let process = Process::spawn(command, &folder.path().join("log")).unwrap();
        let pid = process.pid;
        drop(process);
        let gone = async {
            // It is reaped by the runtime, some time later.
            while kill(pid, None).is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone)
            .await
            .expect("it is gone");
    }
}
