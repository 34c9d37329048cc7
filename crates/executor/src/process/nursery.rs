//! All child processes of the executor: which task each belongs to, and who is left when a
//! task's first process has ended.
//!
//! The executor is a child subreaper: when a process dies, its living children become the
//! executor's own children, however they detached themselves. So the survivors of a task are
//! exactly the trees under those of our children that we did not start ourselves. Whose they
//! are is told by their session, by `MESON_TASK` in their environment, or by having been
//! seen before as a descendant of the task.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::cgroup::Group;
use super::fence::high_water;
use super::table::{self, Stat};
use super::usage::Meter;

#[derive(Debug)]
struct Family {
    /// `MESON_TASK=<task id>`.
    marker: String,
    /// Pid and start time of descendants seen so far.
    known: BTreeSet<(i32, u64)>,
    meter: Meter,
    /// Its own control group, which knows its memory better than its processes do.
    group: Option<Group>,
}

impl Family {
    /// What a sample does not see: peaks between two looks, and pages that processes share.
    fn look_closer(&mut self, members: &[Stat]) {
        if let Some(resident) = self.group.as_ref().and_then(Group::resident) {
            self.meter.resident(resident);
        }
        let peaks = members
            .iter()
            .filter(|stat| !stat.dead)
            .filter_map(|stat| high_water(stat.pid));
        if let Some(peak) = peaks.max() {
            self.meter.peak(peak);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By the pid of the process that we started.
    families: BTreeMap<i32, Family>,
    /// Children that are no task's: short helpers.
    helpers: BTreeSet<i32>,
}

/// The executor's children. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Nursery(Arc<Mutex<State>>);

impl Nursery {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task's first process. The lock is held meanwhile, so that the new child is
    /// not taken for a stranger.
    pub fn spawn(
        &self,
        command: &mut Command,
        task: &str,
        group: Option<Group>,
    ) -> io::Result<Child> {
        let mut state = self.state();
        let child = command.spawn()?;
        let pid = pid_of(&child);
        let family = Family {
            marker: format!("MESON_TASK={task}"),
            known: BTreeSet::new(),
            meter: Meter::default(),
            group,
        };
        state.families.insert(pid, family);
        Ok(child)
    }

    /// Starts a helper that belongs to no task.
    pub fn spawn_helper(&self, command: &mut Command) -> io::Result<Child> {
        let mut state = self.state();
        let child = command.spawn()?;
        state.helpers.insert(pid_of(&child));
        Ok(child)
    }

    /// A helper was waited for.
    pub fn forget_helper(&self, pid: i32) {
        self.state().helpers.remove(&pid);
    }

    /// Living processes of the task whose first process is `leader`, that one included.
    pub fn members(&self, leader: i32) -> Vec<Stat> {
        let everybody = table::snapshot();
        let mut state = self.state();
        let mut roots: BTreeSet<i32> = state.strays(&everybody, Some(leader)).into_iter().collect();
        roots.insert(leader);
        let members = table::with_descendants(roots, &everybody);
        if let Some(family) = state.families.get_mut(&leader) {
            family
                .known
                .extend(members.iter().map(|stat| (stat.pid, stat.start_ticks)));
        }
        members.into_iter().filter(|stat| !stat.dead).collect()
    }

    /// Whether anybody may be left of a task whose first process has ended: a look at our own
    /// children only, which is exact, since orphans become ours.
    pub fn may_have_strays(&self) -> bool {
        let state = self.state();
        table::own_children()
            .iter()
            .any(|pid| !state.families.contains_key(pid) && !state.helpers.contains(pid))
    }

    /// The task is over: `leader` was waited for.
    pub fn forget(&self, leader: i32) {
        self.state().families.remove(&leader);
    }

    /// Takes a look at everybody for the sake of resource usage and of later attribution, and
    /// takes notice of dead orphans.
    pub fn sample(&self) {
        let everybody = table::snapshot();
        let mut state = self.state();
        let leaders: Vec<i32> = state.families.keys().copied().collect();
        for leader in leaders {
            let mut roots: BTreeSet<i32> =
                state.strays(&everybody, Some(leader)).into_iter().collect();
            roots.insert(leader);
            let members = table::with_descendants(roots, &everybody);
            if let Some(family) = state.families.get_mut(&leader) {
                family
                    .known
                    .extend(members.iter().map(|stat| (stat.pid, stat.start_ticks)));
                family.meter.sample(&members);
                family.look_closer(&members);
            }
        }
        state.reap(&everybody);
    }

    /// What the task used so far; `last` is a fresh look at its first process, perhaps dead.
    pub fn meter(&self, leader: i32, last: Option<Stat>) -> Meter {
        let mut state = self.state();
        let Some(family) = state.families.get_mut(&leader) else {
            return Meter::default();
        };
        if let Some(last) = last {
            family.meter.sample_one(&last);
            family.look_closer(&[last]);
        }
        family.meter
    }

    /// Kills everything that no live task explains: to be called when no task runs.
    pub fn kill_strays(&self) {
        let everybody = table::snapshot();
        let mut state = self.state();
        if state.families.is_empty() {
            let strays = state.strays(&everybody, None);
            for stat in table::with_descendants(strays, &everybody) {
                let _ = kill(Pid::from_raw(stat.pid), Signal::SIGKILL);
            }
        }
        state.reap(&everybody);
    }
}

impl State {
    /// Children of ours that we did not start: those of the task of `leader`, or all.
    fn strays(&self, everybody: &[Stat], leader: Option<i32>) -> Vec<i32> {
        let own = nix::unistd::getpid().as_raw();
        everybody
            .iter()
            .filter(|stat| stat.parent == own && !self.families.contains_key(&stat.pid))
            .filter(|stat| !self.helpers.contains(&stat.pid))
            .filter(|stat| leader.is_none_or(|leader| self.owner(stat) == Some(leader)))
            .map(|stat| stat.pid)
            .collect()
    }

    fn owner(&self, stat: &Stat) -> Option<i32> {
        if self.families.contains_key(&stat.session) {
            return Some(stat.session);
        }
        let key = (stat.pid, stat.start_ticks);
        let known = self
            .families
            .iter()
            .find(|(_, family)| family.known.contains(&key));
        let carrying = || {
            self.families
                .iter()
                .find(|(_, family)| !stat.dead && table::carries(stat.pid, &family.marker))
        };
        known
            .or_else(carrying)
            .map(|(leader, _)| *leader)
            .or_else(|| {
                // Neither seen before nor marked: with one task there is only one answer.
                self.families
                    .keys()
                    .next()
                    .copied()
                    .filter(|_| self.families.len() == 1)
            })
    }

    /// Takes notice of orphans that have ended.
    fn reap(&mut self, everybody: &[Stat]) {
        for pid in self.strays(everybody, None) {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// The pid of a child that was not waited for.
pub fn pid_of(child: &Child) -> i32 {
    // Linux's pids are positive and far below the limit (PID_MAX_LIMIT, 2^22).
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

/// How the child with this pid has ended, if it has; it stays a zombie, whose `/proc/PID/stat`
/// can still be read.
pub fn ended(pid: i32) -> Option<WaitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(Pid::from_raw(pid)), flags) {
        Ok(WaitStatus::StillAlive) => None,
        Ok(status) => Some(status),
        Err(nix::errno::Errno::EINTR) => None,
        // Somebody else took notice of it: gone is gone.
        Err(_) => Some(WaitStatus::Exited(Pid::from_raw(pid), 1)),
    }
}
