//! The memory controller of control groups: what the kernel knows and enforces, where it lets us.
//!
//! An agent that isolates memory puts the executor into a group with a limit. That limit is for
//! all steps together; so, where we may, each step gets a group of its own below it, whose limit
//! is what the step asked for. A step that wants more is then ended by the kernel, and its
//! neighbours are left alone. In the second version of control groups a group with processes
//! cannot have such children, so there, and without the right to make any, we only read.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A limit from here on is the kernel's way to say that there is none.
const NO_LIMIT: u64 = 1 << 60;
/// A group whose last process has just died may be busy for a moment.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// A group's memory controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    folder: PathBuf,
    /// The second version, where names differ.
    unified: bool,
}

impl Group {
    /// Of this process, if memory is controlled here.
    pub fn own() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let group = locate(&groups, &mounts)?;
        group.folder.join("cgroup.procs").exists().then_some(group)
    }

    fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// The value of a line `key value`.
    fn line(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        value_of(&text, key)
    }

    /// The most memory that its processes may use together, if there is a limit.
    pub fn limit(&self) -> Option<u64> {
        let limit = if self.unified {
            self.number("memory.max")
        } else {
            self.number("memory.limit_in_bytes")
        };
        limit.filter(|limit| *limit < NO_LIMIT)
    }

    /// Processes that the kernel has ended here for want of memory.
    pub fn kills(&self) -> u64 {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        self.line(file, "oom_kill").unwrap_or(0)
    }

    /// Memory in use that cannot simply be given back: no file pages.
    pub fn resident(&self) -> Option<u64> {
        let key = if self.unified { "anon" } else { "total_rss" };
        self.line("memory.stat", key)
    }

    /// A group below this one, if we may make one: its processes may use `bytes` together.
    pub fn leaf(&self, instance: &str, number: u64, bytes: u64) -> Option<Leaf> {
        if self.unified {
            return None;
        }
        let folder = self.folder.join(format!("{}{number}", prefix(instance)));
        fs::create_dir(&folder).ok()?;
        let leaf = Leaf(Self {
            folder,
            unified: false,
        });
        let limit = leaf.0.folder.join("memory.limit_in_bytes");
        if let Err(error) = fs::write(&limit, bytes.to_string()) {
            tracing::debug!(%error, path = %limit.display(), "a step gets no group of its own");
            return None;
        }
        // Swap on top would let it use more; a kernel without swap accounting has no such file.
        let _ = fs::write(
            leaf.0.folder.join("memory.memsw.limit_in_bytes"),
            bytes.to_string(),
        );
        Some(leaf)
    }
}

/// How the names of an executor's leaves begin.
fn prefix(instance: &str) -> String {
    format!("meson-{instance}-")
}

/// Removes what an executor that died has left, once all its processes are gone.
pub fn remove_leaves(instance: &str) {
    let Some(entries) = Group::own().and_then(|group| fs::read_dir(group.folder).ok()) else {
        return;
    };
    let prefix = prefix(instance);
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            // What is busy after all is left to the agent, which removes the whole tree.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A step's own group; removed when this is dropped, once its processes are gone.
#[derive(Debug)]
pub struct Leaf(Group);

impl Leaf {
    /// The group.
    pub fn group(&self) -> &Group {
        &self.0
    }

    /// What a process writes `0` to in order to join.
    pub fn door(&self) -> std::io::Result<fs::File> {
        fs::OpenOptions::new()
            .write(true)
            .open(self.0.folder.join("cgroup.procs"))
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.0.folder);
        if fs::remove_dir(&folder).is_ok() {
            return;
        }
        // Where there is no runtime any more, the agent removes the whole tree.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for _ in 0..REMOVE_TRIES {
                    tokio::time::sleep(REMOVE_PAUSE).await;
                    if fs::remove_dir(&folder).is_ok() {
                        return;
                    }
                }
                tracing::warn!(folder = %folder.display(), "a step's control group stays behind");
            });
        }
    }
}

/// The memory controller's folder, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn locate(groups: &str, mounts: &str) -> Option<Group> {
    let path_of = |wanted: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            wanted(controllers).then(|| fields.next())?
        })
    };
    let first = path_of(&|controllers| controllers.split(',').any(|name| name == "memory"));
    let (path, unified) = match first {
        Some(path) => (path, false),
        None => (path_of(&str::is_empty)?, true),
    };
    let (root, mount) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut kind = after.split(' ');
        let is = match kind.next()? {
            "cgroup2" => unified,
            "cgroup" => {
                let options = kind.nth(1)?;
                !unified && options.split(',').any(|option| option == "memory")
            }
            _ => false,
        };
        let fields: Vec<&str> = before.split(' ').collect();
        is.then_some((*fields.get(3)?, *fields.get(4)?))
    })?;
    // What is mounted may itself be a part of the whole, as it is in a container.
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Group {
        folder: Path::new(mount).join(below),
        unified,
    })
}

fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "36 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const SECOND: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_group_is_found_in_both_versions() {
        let groups = "5:devices:/\n4:memory:/mesos/7f\n0::/\n";
        let group = locate(groups, FIRST).unwrap();
        assert_eq!(group.folder, Path::new("/sys/fs/cgroup/memory/mesos/7f"));
        assert!(!group.unified);
        let group = locate("0::/mesos/7f/leaf\n", SECOND).unwrap();
        assert_eq!(group.folder, Path::new("/sys/fs/cgroup/mesos/7f/leaf"));
        assert!(group.unified);
    }

    #[test]
    fn in_a_container_the_mount_is_a_part_of_the_whole() {
        let mounts = FIRST.replace("0:32 / ", "0:32 /docker/ab ");
        let group = locate("4:memory:/docker/ab/x\n", &mounts).unwrap();
        assert_eq!(group.folder, Path::new("/sys/fs/cgroup/memory/x"));
        assert_eq!(locate("4:memory:/elsewhere\n", &mounts), None);
        assert_eq!(locate("", FIRST), None);
    }

    #[test]
    fn counters_are_read_by_name() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(value_of(text, "oom_kill"), Some(3));
        assert_eq!(value_of("max 1\n", "oom_kill"), None);
    }
}
