//! What children of children left behind. Agents start executors and those start steps, in groups of their
//! own; they are ours if they work in our folder.

use std::{path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};

/// Times that the folder is looked through: what is found may be starting something at that moment.
const SWEEPS: usize = 20;

/// Processes that work below `folder`, with `word` in their command lines.
pub(super) fn find(folder: &Path, word: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = std::process::id();
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let works_here = pid.unsigned_abs() != own
                && std::fs::read_link(entry.path().join("cwd"))
                    .is_ok_and(|cwd| cwd.starts_with(folder));
            // A program that has ended and was not waited for has no working directory.
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (works_here && line.contains(word)).then_some(pid)
        })
        .collect()
}

/// SIGKILL for one process, if it still works in the folder.
pub(super) fn kill_one(pid: i32, folder: &Path) {
    let works_here =
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    if works_here {
        let _ = send(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// SIGKILL for all that [`find`] finds. Whether any was found.
pub(super) fn kill_now(folder: &Path, word: &str) -> bool {
    let found = find(folder, word);
    for pid in &found {
        kill_one(*pid, folder);
    }
    !found.is_empty()
}

/// Kills until nothing is left.
pub(super) async fn kill(folder: &Path, word: &str) {
    for _ in 0..SWEEPS {
        if !kill_now(folder, word) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::process::Command;

    #[tokio::test]
    async fn only_what_works_in_the_folder_is_killed() {
        let ours = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let sleep = |folder: &Path| {
            Command::new("sleep")
                .arg("60")
                .current_dir(folder)
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        };
        let (mut mine, mut stranger) = (sleep(ours.path()), sleep(other.path()));
        // The child is in its folder once it has become the program.
        let deadline = Duration::from_secs(10);
        tokio::time::timeout(deadline, async {
            while find(ours.path(), "sleep").is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        kill(ours.path(), "sleep").await;
        tokio::time::timeout(deadline, mine.wait())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stranger.try_wait().unwrap(), None, "the other one lives");
    }
}
