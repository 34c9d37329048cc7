//! Clocks of their own for coordinators: libfaketime between a process and the machine's clock.
//!
//! Only wall time is moved. The monotonic clock cannot jump, and waits are measured by it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

/// Where Debian's package `faketime` has it, on machines of several kinds.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// Seconds after which a process has noticed that its clock was set.
const NOTICED_AFTER: &str = "1";

/// The library, if it is installed.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let mut known = LIBRARIES.iter().map(PathBuf::from);
    known.find(|path| path.is_file())
}

/// Lets a program read its time by way of the file.
pub(super) fn follow(command: &mut Command, file: &Path) -> Result<()> {
    let library = library().context("libfaketime is missing: apt-get install faketime")?;
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", file)
        .env("FAKETIME_CACHE_DURATION", NOTICED_AFTER)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("NO_FAKE_STAT", "1");
    Ok(())
}

/// Sets a clock to so many seconds from the machine's.
pub(super) fn set(file: &Path, seconds: i64) -> Result<()> {
    // Renamed into place: a process must not read half of it.
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n"))
        .and_then(|()| std::fs::rename(&new, file))
        .with_context(|| format!("set the clock in {}", file.display()))
}
