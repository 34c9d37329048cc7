//! What keeps a step within the memory that it asked for, and tells whether it died of that.
//!
//! | where | who ends the step | how we know |
//! |---|---|---|
//! | the agent's container has a limit, and we may make groups | the kernel, in the step's own group | that group's counter |
//! | it has a limit, and we may not | we do, after two looks at its processes | we did it |
//! | it has none | nobody | — |
//!
//! `MESON_EXECUTOR_MEMORY` says otherwise: `enforce` takes the place of the container's limit,
//! `watch` does the same and makes no groups, `measure` leaves everything to the agent. In each case the kernel may have ended processes of
//! the whole container: its counter tells.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cgroup::{Group, Leaf};
use super::table::Stat;
use crate::failure::Exit;

/// Looks above the limit before a step is ended: a short peak is let pass.
const LOOKS: u32 = 2;

/// Whether steps are kept within what they asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keeping {
    /// If the agent's container has a limit.
    #[default]
    AsTheContainer,
    /// In any case.
    Enforced,
    /// In any case, by our own looks only.
    Watched,
    /// Never.
    Measured,
}

impl std::str::FromStr for Keeping {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "enforce" => Ok(Self::Enforced),
            "watch" => Ok(Self::Watched),
            "measure" => Ok(Self::Measured),
            _ => Err(()),
        }
    }
}

/// How memory is kept here: found once, when the executor starts.
#[derive(Debug, Clone)]
pub struct Memory {
    group: Option<Group>,
    enforced: bool,
    /// Whether steps may get groups of their own.
    groups: bool,
    /// Begins the names of their groups.
    instance: String,
    /// Ends them.
    count: Arc<AtomicU64>,
}

impl Memory {
    /// Looks around, for this incarnation of an executor.
    pub fn find(keeping: Keeping, instance: &str) -> Self {
        let group = Group::own();
        let limited = group.as_ref().and_then(Group::limit).is_some();
        let enforced = match keeping {
            Keeping::AsTheContainer => limited,
            Keeping::Enforced | Keeping::Watched => true,
            Keeping::Measured => false,
        };
        tracing::debug!(?group, enforced, "how memory is kept");
        Self {
            group,
            enforced,
            groups: keeping != Keeping::Watched,
            instance: instance.to_owned(),
            count: Arc::default(),
        }
    }

    /// For a step that asked for so many bytes.
    pub fn fence(&self, bytes: u64) -> Fence {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let leaf = self
            .group
            .as_ref()
            .filter(|_| self.enforced && self.groups)
            .and_then(|group| group.leaf(&self.instance, number, bytes));
        Fence {
            bytes,
            watched: self.enforced && leaf.is_none(),
            above: 0,
            kills_before: self.group.as_ref().map_or(0, Group::kills),
            container: self.group.clone(),
            leaf,
        }
    }
}

/// Around one step.
#[derive(Debug)]
pub struct Fence {
    bytes: u64,
    watched: bool,
    /// Looks in a row that saw too much.
    above: u32,
    container: Option<Group>,
    kills_before: u64,
    leaf: Option<Leaf>,
}

impl Fence {
    /// The step's own group.
    pub fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref()
    }

    /// Whether it is we who end the step when it uses too much.
    pub fn is_watched(&self) -> bool {
        self.watched
    }

    /// Takes a look: true when the step is to be looked at closely.
    pub fn is_suspicious(&mut self, resident: u64) -> bool {
        self.above = if resident > self.bytes {
            self.above.saturating_add(1)
        } else {
            0
        };
        self.above >= LOOKS
    }

    /// Whether these processes use too much together, each page counted once.
    pub fn is_above(&self, members: &[Stat]) -> Option<u64> {
        let page = super::table::page_bytes();
        let used = members
            .iter()
            .map(|stat| proportional(stat.pid).unwrap_or(stat.rss_pages * page))
            .sum();
        (used > self.bytes).then_some(used)
    }

    /// Whether a bad end was for want of memory, in words.
    pub fn explains(&self, exit: Exit) -> Option<String> {
        let asked = self.bytes >> 20;
        if self
            .leaf
            .as_ref()
            .is_some_and(|leaf| leaf.group().kills() > 0)
        {
            return Some(format!(
                "out of memory: the kernel ended it when it wanted more than the {asked}m that it had asked for"
            ));
        }
        // Others live in the same container: only who died as the kernel kills is concerned.
        let killed = matches!(exit, Exit::Signal(9) | Exit::Code(137));
        let kills = self.container.as_ref().map_or(0, Group::kills);
        (killed && kills > self.kills_before).then(|| {
            format!(
                "out of memory: the kernel ended it because the container was full; it had asked for {asked}m"
            )
        })
    }
}

/// Memory of a process in bytes, pages that it shares counted in part (proc_pid_smaps(5)).
fn proportional(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    kib(&text, "Pss:")
}

/// Largest resident memory that a process ever had, in bytes (proc_pid_status(5)).
pub fn high_water(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kib(&text, "VmHWM:")
}

fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(bytes: u64) -> Fence {
        Fence {
            bytes,
            watched: true,
            above: 0,
            container: None,
            kills_before: 0,
            leaf: None,
        }
    }

    #[test]
    fn a_short_peak_is_let_pass() {
        let mut fence = fence(100);
        assert!(!fence.is_suspicious(150));
        assert!(!fence.is_suspicious(90));
        assert!(!fence.is_suspicious(150));
        assert!(fence.is_suspicious(150));
    }

    #[test]
    fn our_own_memory_can_be_read_in_both_ways() {
        let own = nix::unistd::getpid().as_raw();
        assert!(high_water(own).unwrap() > 1 << 20);
        assert!(proportional(own).unwrap() > 1 << 18);
        assert_eq!(kib("VmHWM:\t    1234 kB\n", "VmHWM:"), Some(1234 << 10));
        assert_eq!(kib("VmHWM:\t?\n", "VmHWM:"), None);
    }

    #[test]
    fn only_a_kill_is_blamed_on_a_full_container() {
        let fence = fence(1 << 20);
        assert_eq!(
            fence.explains(Exit::Signal(9)),
            None,
            "nobody counted a kill"
        );
    }
}
