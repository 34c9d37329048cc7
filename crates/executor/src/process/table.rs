//! The kernel's table of processes, as `/proc` shows it.

use std::collections::BTreeSet;
use std::fs;

/// What `/proc/PID/stat` says of a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub pid: i32,
    /// It has ended and waits for its parent to notice.
    pub dead: bool,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Processor time of it and of the children that it waited for, in clock ticks.
    pub cpu_ticks: u64,
    /// Start time in clock ticks since boot: tells it from a later process with this pid.
    pub start_ticks: u64,
    /// Resident memory in pages.
    pub rss_pages: u64,
}

/// Clock ticks per second of the fields above (always 100 towards user space on Linux).
pub const TICKS_PER_SECOND: u64 = 100;
/// Bytes of a page.
pub fn page_bytes() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

impl Stat {
    /// Reads the text of `/proc/PID/stat`.
    pub fn parse(pid: i32, text: &str) -> Option<Self> {
        // The program's name stands in parentheses and may hold blanks and parentheses.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            pid,
            dead: matches!(*fields.first()?, "Z" | "X" | "x"),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
            start_ticks: number(19)?,
            rss_pages: number(21)?,
        })
    }

    /// Of the process with this pid, if there is one.
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// All processes.
pub fn snapshot() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .collect()
}

/// Our own children, living and dead, without a look at everybody.
pub fn own_children() -> Vec<i32> {
    let from_lists = || -> Option<Vec<i32>> {
        let mut children = Vec::new();
        for thread in fs::read_dir("/proc/self/task").ok()? {
            // A thread that ended meanwhile has passed its children on to another one.
            let Ok(list) = fs::read_to_string(thread.ok()?.path().join("children")) else {
                continue;
            };
            children.extend(
                list.split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
        // A kernel without CONFIG_PROC_CHILDREN has no such file.
        fs::exists("/proc/thread-self/children")
            .ok()?
            .then_some(children)
    };
    from_lists().unwrap_or_else(|| {
        let own = nix::unistd::getpid().as_raw();
        snapshot()
            .into_iter()
            .filter(|stat| stat.parent == own)
            .map(|stat| stat.pid)
            .collect()
    })
}

/// Those of `everybody` that are `roots` or descend from them.
pub fn with_descendants(roots: impl IntoIterator<Item = i32>, everybody: &[Stat]) -> Vec<Stat> {
    let mut found: BTreeSet<i32> = roots.into_iter().collect();
    loop {
        let children: Vec<i32> = everybody
            .iter()
            .filter(|stat| found.contains(&stat.parent) && !found.contains(&stat.pid))
            .map(|stat| stat.pid)
            .collect();
        if children.is_empty() {
            return everybody
                .iter()
                .filter(|stat| found.contains(&stat.pid))
                .copied()
                .collect();
        }
        found.extend(children);
    }
}

/// Whether the process was started with this line (`NAME=value`) in its environment.
pub fn carries(pid: i32, line: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
        environ
            .split(|&byte| byte == 0)
            .any(|variable| variable == line.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_may_hold_parentheses() {
        let text = "7 (a) b (c)) S 3 7 5 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 4242 9000 17 0";
        let stat = Stat::parse(7, text).unwrap();
        assert_eq!((stat.parent, stat.group, stat.session), (3, 7, 5));
        assert_eq!(
            (stat.cpu_ticks, stat.start_ticks, stat.rss_pages),
            (10, 4242, 17)
        );
        assert!(!stat.dead);
    }

    #[test]
    fn descendants_are_found_through_any_number_of_generations() {
        let stat = |pid, parent| Stat {
            pid,
            dead: false,
            parent,
            group: 0,
            session: 0,
            cpu_ticks: 0,
            start_ticks: 0,
            rss_pages: 0,
        };
        let everybody = [stat(9, 5), stat(5, 2), stat(2, 1), stat(3, 1), stat(1, 0)];
        let pids: Vec<i32> = with_descendants([2], &everybody)
            .iter()
            .map(|s| s.pid)
            .collect();
        assert_eq!(pids, [9, 5, 2]);
    }

    #[test]
    fn a_child_is_among_our_own() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env("MARK", "x y")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(own_children().contains(&pid));
        let everybody = snapshot();
        let own = nix::unistd::getpid().as_raw();
        assert!(
            with_descendants([own], &everybody)
                .iter()
                .any(|stat| stat.pid == pid)
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!own_children().contains(&pid));
    }
}
