//! The two places where a process is cloned: all `unsafe` of this crate is here.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, setsid};

/// Makes the command's process lead a session of its own, which dies with the thread that
/// starts it.
///
/// The kernel binds the parent-death signal to the *thread* that forks (prctl(2),
/// PR_SET_PDEATHSIG): call `spawn` on a thread that lives as long as this program.
#[allow(unsafe_code)]
pub fn own_session(command: &mut Command) {
    let parent = getpid();
    let enter = move || {
        setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() != parent {
            return Err(std::io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        Ok(())
    };
    // SAFETY: between fork and exec `enter` only makes system calls, on memory that was
    // allocated before; it takes no lock and allocates nothing.
    unsafe {
        command.pre_exec(enter);
    }
}

/// Forks this program. To be called while it has one thread.
#[allow(unsafe_code)]
pub(super) fn fork_single_threaded() -> nix::Result<Option<Pid>> {
    debug_assert_eq!(
        std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count),
        1
    );
    // SAFETY: with a single thread no lock can be held by a thread that the child lacks, so
    // the child may go on to do anything.
    Ok(match unsafe { fork() }? {
        ForkResult::Parent { child } => Some(child),
        ForkResult::Child => None,
    })
}
