//! Where processes are cloned and waited for: all `unsafe` of this crate is here.

use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
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
///
/// With a `door`, the process list of a control group, it joins that group first.
#[allow(unsafe_code)]
pub fn own_session(command: &mut Command, door: Option<File>) {
    let parent = getpid();
    let enter = move || {
        if let Some(mut door) = door.as_ref() {
            door.write_all(b"0")?;
        }
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

/// Takes notice of a dead child, and gives the largest resident memory, in bytes, that it or one
/// of those that it waited for ever had.
#[allow(unsafe_code)]
pub(super) fn wait_for_dead(pid: i32) -> Option<u64> {
    let mut status = 0;
    let mut usage = MaybeUninit::<nix::libc::rusage>::zeroed();
    // SAFETY: both pointers are to live memory of the right types; the kernel fills them in.
    let waited =
        unsafe { nix::libc::wait4(pid, &raw mut status, nix::libc::WNOHANG, usage.as_mut_ptr()) };
    if waited != pid {
        tracing::warn!(pid, "cannot take notice of a process's end");
        return None;
    }
    // SAFETY: all zeros are a value of this type, and the kernel has put a better one there.
    let usage = unsafe { usage.assume_init() };
    Some(u64::try_from(usage.ru_maxrss).ok()? << 10)
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
