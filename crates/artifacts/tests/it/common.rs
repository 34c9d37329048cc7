//! A store in a folder of its own, and files to put in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use meson_artifacts::{BlobStore, Digest, StoreConfig};
use tempfile::TempDir;

/// A store, and the folder that it and other things of the test live in.
pub(crate) struct Place {
    pub(crate) store: BlobStore,
    pub(crate) folder: TempDir,
}

pub(crate) fn place() -> Place {
    let folder = TempDir::new().unwrap();
    let url = format!("file://{}/store", folder.path().display());
    let store = BlobStore::open(&StoreConfig::new(url)).unwrap();
    Place { store, folder }
}

impl Place {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a blob lies in the folder that the store is.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        self.path("store/blobs/sha256")
            .join(&hex[..2])
            .join(&hex[2..])
    }
}

/// Bytes that do not compress and differ by `seed`.
pub(crate) fn noise(bytes: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        // xorshift64: Marsaglia, "Xorshift RNGs", 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise.into()
}

/// Everything below a folder: path to content, mode and link.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mode = meta.permissions().mode() & 0o777;
            let line = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                folders.push(path.clone());
                format!("{mode:o}/")
            } else {
                format!("{mode:o} {}", Digest::of(&fs::read(&path).unwrap()))
            };
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), line);
        }
    }
    found
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder with a bit of everything that may be in one.
pub(crate) fn model_folder(root: &Path) {
    write(&root.join("model.bin"), noise(300_000, 1), 0o644);
    write(&root.join("bin/run.sh"), "#!/bin/sh\necho hello\n", 0o755);
    write(&root.join("secret"), "s", 0o600);
    write(&root.join("empty"), "", 0o644);
    write(
        &root.join(format!("deep/{}/x", "long-name-".repeat(15))),
        "deep",
        0o644,
    );
    write(&root.join("ünïcödé file"), "text", 0o644);
    fs::create_dir(root.join("nothing")).unwrap();
    symlink("../model.bin", root.join("bin/model")).unwrap();
    symlink("bin/run.sh", root.join("run")).unwrap();
    symlink("no/such/file", root.join("dangling")).unwrap();
}
