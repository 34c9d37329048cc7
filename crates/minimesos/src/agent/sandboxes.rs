//! Old sandboxes are removed: those of executors that ended long ago.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often to look.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3600);

/// Folders in a folder, and nothing that a link leads to.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The folders in the folder `name` of each of these folders.
fn below(folders_above: Vec<PathBuf>, name: &str) -> Vec<PathBuf> {
    folders_above
        .iter()
        .flat_map(|folder| folders(&folder.join(name)))
        .collect()
}

/// When anything was last written at the top of a sandbox.
fn last_use(sandbox: &Path) -> Option<SystemTime> {
    let own = fs::metadata(sandbox).ok()?.modified().ok()?;
    let inside = fs::read_dir(sandbox)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.metadata().ok()?.modified().ok());
    Some(inside.fold(own, SystemTime::max))
}

/// Removes the sandboxes under `work_dir` that nobody lives in and that were last
/// written to before `before`. Returns how many.
pub(crate) fn sweep(work_dir: &Path, live: &BTreeSet<PathBuf>, before: SystemTime) -> usize {
    let agents = folders(&work_dir.join("agents"));
    let frameworks = below(agents, "frameworks");
    let executors = below(frameworks.clone(), "executors");
    let mut removed = 0;
    for executor in &executors {
        let runs = executor.join("runs");
        for sandbox in folders(&runs) {
            let old = last_use(&sandbox).is_some_and(|used| used < before);
            if old && !live.contains(&sandbox) && fs::remove_dir_all(&sandbox).is_ok() {
                removed += 1;
            }
        }
        if folders(&runs).is_empty() {
            // Only the link `latest` is left. A folder that is not empty, because
            // something starts there right now, stays.
            let _ = fs::remove_file(runs.join("latest"));
            let _ = fs::remove_dir(&runs);
            let _ = fs::remove_dir(executor);
        }
    }
    for framework in frameworks {
        let _ = fs::remove_dir(framework.join("executors"));
        let _ = fs::remove_dir(framework);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(work_dir: &Path, executor: &str, container: &str) -> PathBuf {
        let runs = work_dir
            .join("agents/S0/frameworks/F/executors")
            .join(executor)
            .join("runs");
        let path = runs.join(container);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("stdout"), "x").unwrap();
        let latest = runs.join("latest");
        let _ = fs::remove_file(&latest);
        std::os::unix::fs::symlink(container, latest).unwrap();
        path
    }

    fn age(path: &Path, age: Duration) -> SystemTime {
        let modified = fs::metadata(path).unwrap().modified().unwrap() - age;
        for path in [path.join("stdout"), path.to_owned()] {
            fs::File::open(path)
                .unwrap()
                .set_modified(modified)
                .unwrap();
        }
        modified
    }

    #[test]
    fn only_old_sandboxes_that_nobody_lives_in_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let old = sandbox(dir.path(), "a", "1");
        let young = sandbox(dir.path(), "a", "2");
        let inhabited = sandbox(dir.path(), "b", "3");
        let lonely = sandbox(dir.path(), "c", "4");
        let week = Duration::from_secs(7 * 24 * 3600);
        for path in [&old, &inhabited, &lonely] {
            age(path, week + Duration::from_secs(60));
        }
        let before = fs::metadata(&young).unwrap().modified().unwrap() - week;
        let live = BTreeSet::from([inhabited.clone()]);
        assert_eq!(sweep(dir.path(), &live, before), 2);
        assert!(!old.exists() && !lonely.exists());
        assert!(young.exists() && inhabited.exists());
        // Of an executor without runs nothing is left at all.
        assert!(
            !dir.path()
                .join("agents/S0/frameworks/F/executors/c")
                .exists()
        );
        assert!(
            dir.path()
                .join("agents/S0/frameworks/F/executors/a")
                .exists()
        );
    }

    #[test]
    fn a_sandbox_that_is_still_written_to_is_young() {
        let dir = tempfile::tempdir().unwrap();
        let path = sandbox(dir.path(), "a", "1");
        let now = fs::metadata(&path).unwrap().modified().unwrap();
        age(&path, Duration::from_secs(100));
        fs::write(path.join("stdout"), "more").unwrap();
        let before = now - Duration::from_secs(50);
        assert_eq!(sweep(dir.path(), &BTreeSet::new(), before), 0);
    }
}
