//! The guard: the process that the agent starts and waits for.
//!
//! It forks the executor proper and then only waits. Being a child subreaper
//! (PR_SET_CHILD_SUBREAPER), it inherits whatever the executor leaves behind when the executor
//! dies, kill -9 included, and kills it to the last process; so nothing that a step starts
//! outlives it. If the guard dies first, the executor gets SIGTERM and does the same itself.
//! If both are killed at once, the steps' own processes still get their parent-death signal;
//! what those had started is left to the agent, which kills the container's processes.

use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

use super::cgroup::remove_leaves;
use super::isolate::fork_single_threaded;
use super::table;

/// The argument by which the guard starts this program again to remove containers.
pub const REAP_ARGUMENT: &str = "--reap-containers-of";

/// Becomes the guard of a child process that goes on from here. In the guard this does not
/// return; in the child it does. To be called while there is one thread.
///
/// # Errors
/// The system refuses to fork or to make us a subreaper.
pub fn enter(instance: &str) -> nix::Result<()> {
    prctl::set_child_subreaper(true)?;
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let guard = nix::unistd::getpid();
    match fork_single_threaded()? {
        Some(executor) => watch(executor, &signals, instance),
        None => {
            signals.thread_unblock()?;
            // Not inherited through fork: the executor is one of its own right.
            prctl::set_child_subreaper(true)?;
            prctl::set_pdeathsig(Signal::SIGTERM)?;
            if getppid() != guard {
                return Err(Errno::ESRCH);
            }
            Ok(())
        }
    }
}

/// Waits for the executor, then for the end of everything that it left.
fn watch(executor: Pid, signals: &SigSet, instance: &str) -> ! {
    let status = loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = reap(executor) {
                    break status;
                }
            }
            // The executor ends its tasks in good order, and then itself.
            Ok(_) => {
                let _ = kill(executor, Signal::SIGTERM);
            }
            Err(_) => {}
        }
    };
    kill_all();
    remove_leaves(instance);
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 1,
    };
    if code != 0 {
        remove_containers(instance);
    }
    std::process::exit(code)
}

/// Takes notice of all dead children; gives the executor's end if it is among them.
fn reap(executor: Pid) -> Option<WaitStatus> {
    let mut end = None;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match status.pid() {
            Some(pid) if pid == executor => end = Some(status),
            Some(_) => {}
            None => break,
        }
    }
    end
}

/// Kills all descendants. New ones cannot outrun this: a killed process starts nothing, and
/// its children become ours and are found in the next round.
fn kill_all() {
    loop {
        let children = table::own_children();
        if !children.is_empty() {
            for stat in table::with_descendants(children, &table::snapshot()) {
                let _ = kill(Pid::from_raw(stat.pid), Signal::SIGKILL);
            }
        }
        // Blocks for one of them, then takes all that are there.
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {
                while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(s) if s != WaitStatus::StillAlive)
                {
                }
            }
            Err(_) => return,
        }
    }
}

/// Containers are the engine's children, not ours: this program knows how to remove them.
fn remove_containers(instance: &str) {
    let child = Command::new("/proc/self/exe")
        .arg(REAP_ARGUMENT)
        .arg(instance)
        .stdin(Stdio::null())
        .spawn();
    if let Err(error) = child.and_then(|mut child| child.wait()) {
        eprintln!("meson-executor: cannot start the removal of containers: {error}");
    }
}
