//! A small disk for one node, which can be full.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Enough for the log of some minutes; filled within a second.
const SIZE: &str = "384m";

/// A file system of its own at a folder. It is gone when this is dropped.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Whether we may mount one here.
    #[must_use]
    pub fn possible() -> bool {
        nix::unistd::Uid::effective().is_root() && {
            let folder = tempfile::tempdir();
            folder.is_ok_and(|folder| Self::mount(&folder.path().join("try")).is_ok())
        }
    }

    pub(super) fn mount(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={SIZE}"), "meson-chaos"])
            .arg(folder)
            .output()
            .context("run mount")?;
        if !output.status.success() {
            bail!(
                "cannot mount a small disk at {}: {}",
                folder.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn fill(&mut self) -> Result<()> {
        let mut file = std::fs::File::create(self.filler()).context("fill the disk")?;
        for block in [1 << 20, 4096, 1] {
            let zeros = vec![0; block];
            while file.write_all(&zeros).is_ok() {}
        }
        Ok(())
    }

    /// Frees what [`Self::fill`] took.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn free(&mut self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("free the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still have files open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!(
                "the small disk is still there: umount {}",
                self.folder.display()
            );
        }
    }
}
