//! What a power loss does to a journal, and a kill does not: bytes that were written but not
//! synced may be missing.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rand::{RngExt, rngs::StdRng};

/// How the unsynced tail of the journal is damaged after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLoss {
    /// It ends early, at any byte: the file system kept a prefix.
    Cut,
    /// Some of its pages are zero: they reached the disk in any order.
    Torn,
}

/// A page of the page cache: the unit in which writes reach the disk.
const PAGE: u64 = 4_096;

/// Where a node notes how much of its journal is on disk.
pub(crate) fn tracker(dir: &Path) -> PathBuf {
    dir.join("synced")
}

/// Damages what lies behind the last sync. Returns how many bytes were lost, or `None` where the
/// unsynced part is not known: a journal is preallocated as long as the process that created it
/// runs, or a newer one was just begun, or nothing was synced yet.
pub(crate) fn strike(dir: &Path, how: PowerLoss, random: &mut StdRng) -> Result<Option<u64>> {
    let Ok(note) = std::fs::read(tracker(dir)) else {
        return Ok(None);
    };
    let Some((number, from)) = note.split_first_chunk() else {
        return Ok(None);
    };
    let (number, from) = (
        u64::from_be_bytes(*number),
        u64::from_be_bytes(from.try_into()?),
    );
    let database = dir.join("node/db");
    let newest = std::fs::read_dir(&database)?
        .filter_map(|entry| {
            entry
                .ok()?
                .path()
                .file_name()?
                .to_str()?
                .strip_suffix(".jnl")?
                .parse::<u64>()
                .ok()
        })
        .max();
    if newest != Some(number) {
        return Ok(None);
    }
    let path = database.join(format!("{number}.jnl"));
    let file = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .context("open the journal")?;
    let length = file.metadata()?.len();
    if length <= from {
        return Ok(None);
    }
    match how {
        PowerLoss::Cut => {
            let keep = random.random_range(from..=length);
            file.set_len(keep)?;
            Ok(Some(length - keep))
        }
        PowerLoss::Torn => {
            let mut lost = 0;
            // The page that the synced part ends in was written again after the sync; its synced
            // bytes are safe either way (they are the same in both versions).
            let mut start = from;
            while start < length {
                let end = ((start / PAGE + 1) * PAGE).min(length);
                if random.random_ratio(1, 3) {
                    let zeros = vec![0; usize::try_from(end - start)?];
                    file.write_all_at(&zeros, start)?;
                    lost += end - start;
                }
                start = end;
            }
            Ok(Some(lost))
        }
    }
}
