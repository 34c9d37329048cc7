//! When a shard's log is shortened.

use meson_consensus::SnapshotPolicy;
use serde::Deserialize;

/// `[snapshots]`: a shard's state is written out and the log before it forgotten, whichever limit is
/// reached first. A node that was away for longer than the log lasts is sent the state.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Snapshots {
    /// Log entries since the last snapshot.
    every_entries: u64,
    /// Megabytes (2^20 bytes) of log.
    every_mb: u64,
    /// Entries that are kept although a snapshot covers them.
    keep_entries: u64,
}

impl Default for Snapshots {
    fn default() -> Self {
        let policy = SnapshotPolicy::default();
        Self {
            every_entries: policy.every_entries,
            every_mb: policy.every_log_bytes >> 20,
            keep_entries: policy.keep_entries,
        }
    }
}

impl Snapshots {
    /// What makes no sense, as key and problem.
    pub(super) fn check(self) -> Result<(), (&'static str, String)> {
        for (key, value) in [
            ("snapshots.every_entries", self.every_entries),
            ("snapshots.every_mb", self.every_mb),
        ] {
            if !(1..=1 << 32).contains(&value) {
                return Err((key, format!("{value} is not between 1 and {}", 1_u64 << 32)));
            }
        }
        Ok(())
    }

    /// As consensus wants it.
    pub(crate) fn policy(self) -> SnapshotPolicy {
        SnapshotPolicy {
            every_entries: self.every_entries,
            every_log_bytes: self.every_mb << 20,
            keep_entries: self.keep_entries,
        }
    }
}
