//! An attempt in a folder that its coordinator and its executor share: how they speak where no agent
//! stands between them.
//!
//! ```text
//!   task      what to run; written by the coordinator, once; gone when the attempt is over
//!   claim     whose the attempt is; written once, by whoever comes first
//!   say-1 …   what the executor says, in order; each stays until it is forgotten
//!   progress  the newest of what may be lost
//!   work/     the executor's own
//! ```
//!
//! `claim` is what makes an attempt run at most once, however often its job is submitted: the job
//! that claims it runs it, any other ends at once. A coordinator that gives up on a job claims the
//! attempt for nobody ([`Claim::Void`]); whatever comes later finds it taken.
//!
//! Files appear whole (written beside, then renamed or linked) and are on disk before they appear.
//! Nothing here knows what is in `task`, `say` and `progress`: that is between the two.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::open_file;

/// Longest file that is read, in bytes: a task with its description in base64, twice over.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Before the number in the name of what an executor says.
const SAY: &str = "say-";

/// Whose an attempt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// A job runs it, or did.
    Job {
        /// The job's number, as its queue has it.
        job: String,
        /// The machine.
        host: String,
        /// Tells two starts of the same job apart.
        incarnation: String,
    },
    /// Nobody ever runs it.
    Void,
}

/// The folder of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFolder(PathBuf);

impl TaskFolder {
    /// At this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the executor works.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Makes it, for its owner's eyes only; what is in there already stays.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))
    }

    /// Says what to run.
    ///
    /// # Errors
    /// The file system's.
    pub fn put_task(&self, task: &[u8]) -> io::Result<()> {
        self.put("task", task)
    }

    /// What to run; none if nobody said so, or the folder is gone.
    ///
    /// # Errors
    /// The file system's.
    pub fn task(&self) -> io::Result<Option<Vec<u8>>> {
        self.get("task")
    }

    /// The attempt is over and its end is durable elsewhere: no job may begin it any more. The rest of
    /// the folder may go whenever nobody works in it.
    ///
    /// # Errors
    /// The file system's.
    pub fn close(&self) -> io::Result<()> {
        gone(fs::remove_file(self.0.join("task")))
    }

    /// Claims the attempt, and tells whose it is now: the claimant's if it was the first.
    ///
    /// # Errors
    /// The file system's, or what stands there is no claim.
    pub fn claim(&self, by: &Claim) -> io::Result<Claim> {
        let text = serde_json::to_vec(by)?;
        let beside = self.beside("claim", &text)?;
        let linked = fs::hard_link(&beside, self.0.join("claim"));
        fs::remove_file(&beside)?;
        match linked {
            Ok(()) => self.sync()?,
            // Over NFS an answer may be lost and the link be there: what stands there decides.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        self.claimed()?
            .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the claim is gone again"))
    }

    /// Whose it is, if anybody's.
    ///
    /// # Errors
    /// The file system's, or what stands there is no claim.
    pub fn claimed(&self) -> io::Result<Option<Claim>> {
        let text = self.get("claim")?;
        Ok(text.map(|text| serde_json::from_slice(&text)).transpose()?)
    }

    /// Says something, to be heard after everything that was said under lower numbers.
    ///
    /// # Errors
    /// The file system's.
    pub fn say(&self, number: u64, what: &[u8]) -> io::Result<()> {
        self.put(&format!("{SAY}{number}"), what)
    }

    /// The numbers of what was said and not forgotten, in order.
    ///
    /// # Errors
    /// The file system's.
    pub fn said(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(SAY));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// What was said under this number; none if it is forgotten.
    ///
    /// # Errors
    /// The file system's.
    pub fn saying(&self, number: u64) -> io::Result<Option<Vec<u8>>> {
        self.get(&format!("{SAY}{number}"))
    }

    /// It was heard, and need not be told again.
    ///
    /// # Errors
    /// The file system's.
    pub fn forget(&self, number: u64) -> io::Result<()> {
        gone(fs::remove_file(self.0.join(format!("{SAY}{number}"))))
    }

    /// Says what may be lost, in the place of what was said so before.
    ///
    /// # Errors
    /// The file system's.
    pub fn put_progress(&self, what: &[u8]) -> io::Result<()> {
        let beside = self.0.join(".progress");
        fs::write(&beside, what)?;
        fs::rename(&beside, self.0.join("progress"))
    }

    /// The newest of what may be lost.
    ///
    /// # Errors
    /// The file system's.
    pub fn progress(&self) -> io::Result<Option<Vec<u8>>> {
        self.get("progress")
    }

    /// Removes it with everything in it.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self) -> io::Result<()> {
        gone(fs::remove_dir_all(&self.0))
    }

    /// Whether it was removed: nobody wants to know of the attempt any more. Where the folder around
    /// it is missing too, the file system is away, which says nothing.
    pub fn is_removed(&self) -> bool {
        let missing = matches!(self.0.try_exists(), Ok(false));
        missing && self.0.parent().is_some_and(Path::is_dir)
    }

    fn put(&self, name: &str, what: &[u8]) -> io::Result<()> {
        let beside = self.beside(name, what)?;
        fs::rename(beside, self.0.join(name))?;
        self.sync()
    }

    /// A whole file on disk, under a name that nobody looks at and nobody else writes.
    fn beside(&self, name: &str, what: &[u8]) -> io::Result<PathBuf> {
        let path = self.0.join(format!(".{name}-{}", std::process::id()));
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(what)?;
        file.sync_all()?;
        Ok(path)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match open_file(&self.0.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("{name} is longer than {MAX_FILE_BYTES} bytes"),
            ));
        }
        Ok(Some(bytes))
    }
}

/// What is not there need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u32) -> Claim {
        Claim::Job {
            job: number.to_string(),
            host: "n1".to_owned(),
            incarnation: format!("i{number}"),
        }
    }

    fn folder() -> (tempfile::TempDir, TaskFolder) {
        let root = tempfile::tempdir().unwrap();
        let folder = TaskFolder::new(root.path().join("tasks/r-1.a.1"));
        folder.create().unwrap();
        (root, folder)
    }

    #[test]
    fn the_first_claim_counts_however_many_come() {
        let (_root, folder) = folder();
        assert_eq!(folder.claimed().unwrap(), None);
        assert_eq!(folder.claim(&job(1)).unwrap(), job(1));
        for other in [job(2), Claim::Void] {
            assert_eq!(folder.claim(&other).unwrap(), job(1));
        }
    }

    #[test]
    fn a_void_attempt_is_nobodys() {
        let (_root, folder) = folder();
        assert_eq!(folder.claim(&Claim::Void).unwrap(), Claim::Void);
        assert_eq!(folder.claim(&job(1)).unwrap(), Claim::Void);
    }

    #[test]
    fn what_is_said_is_heard_in_order_until_it_is_forgotten() {
        let (_root, folder) = folder();
        for number in [2, 10, 1] {
            folder.say(number, format!("{number}").as_bytes()).unwrap();
        }
        folder.put_progress(b"half").unwrap();
        assert_eq!(folder.said().unwrap(), [1, 2, 10]);
        assert_eq!(folder.saying(10).unwrap().unwrap(), b"10");
        folder.forget(1).unwrap();
        folder.forget(1).unwrap();
        assert_eq!(folder.said().unwrap(), [2, 10]);
        assert_eq!(folder.progress().unwrap().unwrap(), b"half");
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert_eq!(folder.task().unwrap(), None);
    }

    #[test]
    fn absurd_lengths_and_garbage_are_errors() {
        let (_root, folder) = folder();
        let file = File::create(folder.path().join("say-1")).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(folder.saying(1).is_err());
        fs::write(folder.path().join("say-x"), "").unwrap();
        assert_eq!(folder.said().unwrap(), [1]);
        fs::write(folder.path().join("claim"), "mine").unwrap();
        assert!(folder.claimed().is_err() && folder.claim(&job(1)).is_err());
    }
}
