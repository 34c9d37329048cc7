//! For tests of power loss: tells another process how much of the journal is on disk, in a way that
//! outlives a kill (see [`crate::Options::track_synced`]).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// How far the journal reaches: the number of its newest file, and the length of that in bytes.
pub(super) type Reach = (u64, u64);

pub(super) struct SyncTracker {
    database: PathBuf,
    file: File,
}

impl SyncTracker {
    /// To be called after the database was opened, which syncs what it finds.
    pub(super) fn open(database: &Path, file: &Path) -> io::Result<Self> {
        let tracker = Self {
            database: database.to_owned(),
            file: File::create(file)?,
        };
        if let Some(reached) = tracker.look() {
            tracker.note(reached);
        }
        Ok(tracker)
    }

    /// How far the journal reaches now.
    pub(super) fn look(&self) -> Option<Reach> {
        let number = |path: &Path| -> Option<u64> {
            (path.extension()? == "jnl")
                .then(|| path.file_stem()?.to_str()?.parse().ok())
                .flatten()
        };
        let newest = fs::read_dir(&self.database)
            .ok()?
            .filter_map(|entry| number(&entry.ok()?.path()))
            .max()?;
        let bytes = fs::metadata(self.database.join(format!("{newest}.jnl")))
            .ok()?
            .len();
        Some((newest, bytes))
    }

    /// Notes that all that was looked at is on disk now.
    pub(super) fn note(&self, (number, bytes): Reach) {
        let note = [number.to_be_bytes(), bytes.to_be_bytes()].concat();
        if let Err(error) = self.file.write_all_at(&note, 0) {
            tracing::warn!(%error, "cannot note what is synced");
        }
    }
}
