//! The folder that coordinators and nodes share: one folder per attempt, and whose turn it is to look
//! after them.
//!
//! ```text
//!   <spool>/<framework>/session        the newest session; an older one finds that it is over
//!   <spool>/<framework>/tasks/<task>   a TaskFolder
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use meson_core::ids::TaskId;
use meson_mesos::types::{FrameworkId, TaskInfo, TaskStatus};
use meson_protocol::folder::{Claim, TaskFolder};

/// So much of what was said in one folder is read at one look: the rest follows. A step may write
/// there as much as it likes.
const SAYINGS: usize = 64;

/// Whom jobs run as, where that is somebody else than we.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's group.
    pub gid: u32,
}

/// What a look at an attempt's folder found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// What runs; none once the attempt is over, or when it was known before.
    pub(super) task: Option<TaskInfo>,
    pub(super) claim: Option<Claim>,
    /// What was not known before.
    pub(super) said: Vec<(u64, Word)>,
    pub(super) progress: Option<Vec<u8>>,
}

/// What an executor said.
#[derive(Debug, PartialEq)]
pub(super) enum Word {
    Status(Box<TaskStatus>),
    /// A step can write there as well.
    Garbage,
}

/// The shared folder, for one framework.
#[derive(Debug)]
pub(super) struct Spool {
    root: PathBuf,
    owner: Option<Owner>,
}

impl Spool {
    /// Opens it, and makes what is missing. Others may pass through, and read nothing.
    pub(super) fn open(
        spool: &Path,
        framework: &FrameworkId,
        owner: Option<Owner>,
    ) -> io::Result<Self> {
        let root = spool.join(framework.as_str());
        fs::create_dir_all(root.join("tasks"))?;
        for folder in [&root, &root.join("tasks")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
        }
        Ok(Self { root, owner })
    }

    /// From now on `session` is the newest.
    pub(super) fn begin(&self, session: &str) -> io::Result<()> {
        let beside = self.root.join(format!(".session-{session}"));
        fs::write(&beside, session)?;
        fs::rename(beside, self.root.join("session"))
    }

    /// Whether `session` still is.
    pub(super) fn is_current(&self, session: &str) -> io::Result<bool> {
        Ok(fs::read_to_string(self.root.join("session"))? == session)
    }

    /// The folder of an attempt.
    pub(super) fn folder(&self, task: &str) -> TaskFolder {
        TaskFolder::new(self.root.join("tasks").join(task))
    }

    /// Makes the folder of an attempt, and says what to run.
    pub(super) fn create(&self, info: &TaskInfo) -> io::Result<()> {
        let folder = self.folder(&info.task_id.value);
        folder.create()?;
        folder.put_task(&serde_json::to_vec(info)?)?;
        if let Some(owner) = &self.owner {
            for path in [folder.path().join("task"), folder.path().to_owned()] {
                chown(path, Some(owner.uid), Some(owner.gid))?;
            }
        }
        Ok(())
    }

    /// Looks at all folders. Of attempts in `known`, only what is new is read.
    pub(super) fn look(
        &self,
        known: &BTreeMap<String, BTreeSet<u64>>,
    ) -> io::Result<BTreeMap<String, Seen>> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(self.root.join("tasks"))? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if name.parse::<TaskId>().is_err() {
                continue;
            }
            match self.look_at(&name, known.get(&name)) {
                Ok(seen) => {
                    all.insert(name, seen);
                }
                // Removed in the meantime.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(task = name, %error, "an attempt's folder cannot be read");
                }
            }
        }
        Ok(all)
    }

    fn look_at(&self, name: &str, known: Option<&BTreeSet<u64>>) -> io::Result<Seen> {
        let folder = self.folder(name);
        let mut said = Vec::new();
        let new = folder.said()?.into_iter();
        let new = new.filter(|number| known.is_none_or(|known| !known.contains(number)));
        for number in new.take(SAYINGS) {
            // Too long to be read is as good as garbage.
            let text = match folder.saying(number) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::InvalidData => Some(Vec::new()),
                Err(error) => return Err(error),
            };
            let Some(text) = text else { continue };
            let word = match serde_json::from_slice::<TaskStatus>(&text) {
                Ok(status) if status.task_id.value == name && status.uuid.is_some() => {
                    Word::Status(Box::new(status))
                }
                _ => Word::Garbage,
            };
            said.push((number, word));
        }
        let task = match known {
            Some(_) => None,
            None => folder
                .task()?
                .map(|text| serde_json::from_slice(&text))
                .transpose()?,
        };
        Ok(Seen {
            task,
            claim: folder.claimed()?,
            said,
            // May be lost; what a step has put there instead hides nothing else.
            progress: folder.progress().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use meson_mesos::types::TaskState;

    use super::*;

    fn spool() -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), &FrameworkId::new("slurm-1"), None).unwrap();
        (folder, spool)
    }

    fn info(task: &str) -> TaskInfo {
        TaskInfo {
            task_id: meson_mesos::types::TaskId::new(task),
            ..TaskInfo::default()
        }
    }

    #[test]
    fn the_newest_session_is_the_current_one() {
        let (folder, spool) = spool();
        spool.begin("one").unwrap();
        assert!(spool.is_current("one").unwrap());
        let other = Spool::open(folder.path(), &FrameworkId::new("slurm-1"), None).unwrap();
        other.begin("two").unwrap();
        assert!(!spool.is_current("one").unwrap());
    }

    #[test]
    fn a_look_finds_what_is_new() {
        let (_folder, spool) = spool();
        spool.create(&info("r-1.a.1")).unwrap();
        let folder = spool.folder("r-1.a.1");
        let status = TaskStatus {
            uuid: Some("u".into()),
            ..TaskStatus::new(
                meson_mesos::types::TaskId::new("r-1.a.1"),
                TaskState::Running,
            )
        };
        folder
            .say(1, &serde_json::to_vec(&status).unwrap())
            .unwrap();
        for (number, garbage) in [(2, "no JSON"), (3, r#"{"task_id":{"value":"other.a.1"}}"#)] {
            folder.say(number, garbage.as_bytes()).unwrap();
        }
        let seen = &spool.look(&BTreeMap::new()).unwrap()["r-1.a.1"];
        assert_eq!(seen.task, Some(info("r-1.a.1")));
        assert_eq!(
            seen.said,
            [
                (1, Word::Status(Box::new(status))),
                (2, Word::Garbage),
                (3, Word::Garbage)
            ]
        );
        let known = [("r-1.a.1".to_owned(), [1, 2, 3].into())].into();
        let seen = &spool.look(&known).unwrap()["r-1.a.1"];
        assert_eq!((seen.said.len(), &seen.task), (0, &None));
    }

    #[test]
    fn what_a_step_puts_in_its_folder_holds_nobody_up() {
        let (_folder, spool) = spool();
        for task in ["r-1.a.1", "r-1.b.1"] {
            spool.create(&info(task)).unwrap();
        }
        let folder = spool.folder("r-1.a.1");
        let mode = nix::sys::stat::Mode::S_IRWXU;
        for name in ["say-1", "progress"] {
            nix::unistd::mkfifo(&folder.path().join(name), mode).unwrap();
        }
        for number in 2..200 {
            folder.say(number, b"no JSON").unwrap();
        }
        let seen = spool.look(&BTreeMap::new()).unwrap();
        assert_eq!(seen["r-1.b.1"].task, Some(info("r-1.b.1")));
        let seen = &seen["r-1.a.1"];
        assert_eq!(seen.said[0], (1, Word::Garbage));
        assert_eq!((seen.said.len(), &seen.progress), (SAYINGS, &None));
        let known = (1..=64).collect();
        let later = spool.look(&[("r-1.a.1".to_owned(), known)].into()).unwrap();
        assert_eq!(later["r-1.a.1"].said[0], (65, Word::Garbage));
    }

    #[test]
    fn what_is_no_attempt_is_left_alone() {
        let (_folder, spool) = spool();
        fs::create_dir(spool.root.join("tasks/lost+found")).unwrap();
        fs::write(spool.root.join("tasks/notes"), "").unwrap();
        assert_eq!(spool.look(&BTreeMap::new()).unwrap(), BTreeMap::new());
    }
}
