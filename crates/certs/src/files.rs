//! Names of files, and writing them so that a crash leaves either the old or the new.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::authority::NodeFiles;
use crate::errors::CertError;
use crate::name::PeerId;

/// The certificate of the authority.
pub const AUTHORITY_CERTIFICATE: &str = "ca.pem";
/// The key of the authority.
pub const AUTHORITY_KEY: &str = "ca.key";
/// The certificate of a node.
pub const NODE_CERTIFICATE: &str = "node.pem";
/// The key of a node.
pub const NODE_KEY: &str = "node.key";

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// The folder with what node `id` needs, inside the authority's.
#[must_use]
pub fn node_folder(dir: &Path, id: PeerId) -> PathBuf {
    dir.join(format!("node-{id}"))
}

pub(crate) fn read(path: &Path, remedy: &'static str) -> Result<String, CertError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CertError::Missing {
            path: path.to_owned(),
            remedy,
        },
        _ => failed("read", path)(source),
    })
}

/// Puts both files of a new authority into `dir`. The certificate is written last: where it is,
/// the authority is whole.
pub(crate) fn write_authority(dir: &Path, certificate: &str, key: &str) -> Result<(), CertError> {
    fs::create_dir_all(dir).map_err(failed("create", dir))?;
    write_new(&dir.join(AUTHORITY_KEY), key, PRIVATE)?;
    write_new(&dir.join(AUTHORITY_CERTIFICATE), certificate, PUBLIC)
}

/// Replaces the folder of a node by a new one, all files at once: a node that loads it meanwhile
/// sees either certificate with its own key, never one with the other's.
pub(crate) fn write_node(dir: &Path, node: &NodeFiles) -> Result<PathBuf, CertError> {
    let folder = node_folder(dir, node.id);
    let fresh = tempfile::Builder::new()
        .prefix(".node-")
        .tempdir_in(dir)
        .map_err(failed("create a folder in", dir))?;
    for (name, text, mode) in [
        (AUTHORITY_CERTIFICATE, &node.ca_pem, PUBLIC),
        (NODE_CERTIFICATE, &node.certificate_pem, PUBLIC),
        (NODE_KEY, &node.key_pem, PRIVATE),
    ] {
        write_new(&fresh.path().join(name), text, mode)?;
    }
    if folder.exists() {
        exchange(fresh.path(), &folder).map_err(failed("replace", &folder))?;
        // What is now at the temporary place is the old folder, and goes with it.
    } else {
        fs::rename(fresh.path(), &folder).map_err(failed("create", &folder))?;
        // Nothing is left to clean up under the temporary name.
        let _ = fresh.keep();
    }
    sync_folder(dir)?;
    Ok(folder)
}

/// Writes a file that is not there yet: whole, or not at all.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::Builder::new()
            .prefix(".writing-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    let file = write().map_err(failed("write", path))?;
    file.persist_noclobber(path)
        .map_err(|refused| match refused.error.kind() {
            io::ErrorKind::AlreadyExists => CertError::Exists {
                path: path.to_owned(),
            },
            _ => failed("write", path)(refused.error),
        })?;
    sync_folder(dir)
}

/// Swaps two folders in one step, where the system can.
#[cfg(target_os = "linux")]
fn exchange(fresh: &Path, old: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, fresh, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE) {
        // Some network file systems cannot.
        Err(Errno::EINVAL | Errno::ENOSYS) => exchange_in_steps(fresh, old),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(fresh: &Path, old: &Path) -> io::Result<()> {
    exchange_in_steps(fresh, old)
}

/// The same with a moment in between at which there is no folder, and never half of one.
fn exchange_in_steps(fresh: &Path, old: &Path) -> io::Result<()> {
    let aside = old.with_extension("old");
    fs::rename(old, &aside)?;
    fs::rename(fresh, old)?;
    fs::rename(&aside, fresh)
}

fn sync_folder(dir: &Path) -> Result<(), CertError> {
    fs::File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", dir))
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> CertError {
    let path = path.to_owned();
    move |source| CertError::Io {
        action,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_change_places_in_steps_where_they_cannot_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (fresh, old) = (dir.path().join(".node-x"), dir.path().join("node-1"));
        for (folder, text) in [(&fresh, "new"), (&old, "old")] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), text).unwrap();
        }
        exchange_in_steps(&fresh, &old).unwrap();
        assert_eq!(fs::read_to_string(old.join("file")).unwrap(), "new");
        assert_eq!(fs::read_to_string(fresh.join("file")).unwrap(), "old");
    }
}
