//! Directories as tar files: the same bytes on every machine, and nothing that
//! could reach outside when they are unpacked.
//!
//! * Packing sorts by path, zeroes times and owners, keeps the permission bits
//!   (`rwx`, not set-uid and the like) and stores symbolic links as such.
//! * A symbolic link must stay inside: relative, and `..` only at its front. With
//!   that, and with no entry ever written *through* a link, where a link leads
//!   can be judged from its text alone.
//! * Hard links become files of their own. Sockets, pipes and devices are refused.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use tar::{Builder, EntryType, Header};

use crate::error::Error;

/// Permission bits that travel.
const MODE_BITS: u32 = 0o777;

/// Everything below `root`, as relative paths in the order of packing.
pub(crate) fn walk(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let entries = fs::read_dir(&path).map_err(Error::io("listing", &path))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("listing", &path))?;
            let kind = entry
                .file_type()
                .map_err(Error::io("looking at", &entry.path()))?;
            let relative = folder.join(entry.file_name());
            if kind.is_dir() {
                folders.push(relative.clone());
            }
            found.push(relative);
        }
    }
    sort(&mut found);
    Ok(found)
}

/// By bytes, so that a folder comes before what is in it, in any locale.
pub(crate) fn sort(paths: &mut Vec<PathBuf>) {
    paths.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    paths.dedup();
}

/// Writes the entries (relative to `root`, sorted) as a tar.
pub(crate) fn pack<W: Write>(root: &Path, entries: &[PathBuf], to: W) -> Result<W, Error> {
    let mut tar = Builder::new(to);
    for entry in entries {
        append(&mut tar, root, entry)?;
    }
    tar.into_inner().map_err(Error::io("packing", root))
}

fn append<W: Write>(tar: &mut Builder<W>, root: &Path, entry: &Path) -> Result<(), Error> {
    let path = root.join(entry);
    let refuse = |problem: String| Error::Unsafe {
        action: "packed",
        entry: entry.display().to_string(),
        problem,
    };
    let meta = fs::symlink_metadata(&path).map_err(Error::io("looking at", &path))?;
    let mut header = Header::new_gnu();
    header.set_mode(meta.permissions().mode() & MODE_BITS);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    let failed = Error::io("packing", &path);
    if meta.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return tar
            .append_data(&mut header, entry, io::empty())
            .map_err(failed);
    }
    if meta.is_symlink() {
        let target = fs::read_link(&path).map_err(Error::io("reading the link", &path))?;
        check_link(entry, &target).map_err(refuse)?;
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(MODE_BITS); // a link's own mode means nothing and differs by system
        return tar.append_link(&mut header, entry, &target).map_err(failed);
    }
    if !meta.is_file() {
        return Err(refuse(
            "it is neither file, folder nor symbolic link".into(),
        ));
    }
    header.set_entry_type(EntryType::Regular);
    header.set_size(meta.len());
    let file = File::open(&path).map_err(Error::io("opening", &path))?;
    // The size in the header is a promise: a file that grows is cut there, one
    // that shrinks would shift all that follows.
    let mut exact = Exact {
        left: meta.len(),
        inner: file,
    };
    tar.append_data(&mut header, entry, &mut exact)
        .map_err(failed)?;
    if exact.left > 0 {
        return Err(Error::Changed { path });
    }
    Ok(())
}

/// Reads `left` bytes at most, and remembers how many did not come.
struct Exact<R> {
    left: u64,
    inner: R,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buf[..room])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Unpacks a tar below `root`, which must exist and should be empty. At most
/// `limit` bytes of content.
pub(crate) fn unpack(
    from: impl Read,
    root: &Path,
    limit: Option<(u64, &'static str)>,
) -> Result<(), Error> {
    let mut archive = tar::Archive::new(BufReader::new(from));
    let broken = |source| Error::Io {
        action: "reading an archive to unpack to",
        path: root.to_owned(),
        source,
    };
    let mut total = 0;
    // Set last: a folder that cannot be written to must be filled first.
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = PathBuf::from(OsStr::from_bytes(&entry.path_bytes()));
        let refuse = |problem: String| Error::Unsafe {
            action: "unpacked",
            entry: name.display().to_string(),
            problem,
        };
        let relative = inside(&name).map_err(|problem| refuse(problem.into()))?;
        let path = root.join(&relative);
        total += entry.size();
        if let Some((limit, limit_name)) = limit
            && total > limit
        {
            return Err(Error::TooLarge {
                what: "the unpacked content".into(),
                bytes: total,
                limit,
                name: limit_name,
            });
        }
        let mode = entry.header().mode().map_err(broken)? & MODE_BITS;
        let parent = if entry.header().entry_type() == EntryType::Directory {
            Some(relative.as_path())
        } else {
            relative.parent()
        };
        make_folders(root, parent.unwrap_or(Path::new(""))).map_err(refuse)?;
        match entry.header().entry_type() {
            EntryType::Directory => folders.push((path, mode)),
            EntryType::Regular => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(mode)
                    .open(&path)
                    .map_err(Error::io("creating", &path))?;
                io::copy(&mut entry, &mut file).map_err(Error::io("writing", &path))?;
                // Again, because the process's umask has taken some away.
                set_mode(&path, mode)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = PathBuf::from(OsStr::from_bytes(&target));
                check_link(&relative, &target).map_err(refuse)?;
                symlink(&target, &path).map_err(Error::io("linking", &path))?;
            }
            other => return Err(refuse(format!("entries of type {other:?} are not allowed"))),
        }
    }
    for (path, mode) in folders.iter().rev() {
        set_mode(path, *mode)?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(Error::io("setting the mode of", path))
}

/// The path without `.`, if it stays inside.
pub(crate) fn inside(path: &Path) -> Result<PathBuf, &'static str> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("its path has .. in it"),
            Component::RootDir | Component::Prefix(_) => return Err("its path is absolute"),
        }
    }
    if clean.as_os_str().is_empty() {
        return Err("its path is empty");
    }
    Ok(clean)
}

/// Makes the folders of `relative`, none of which may be reached through a link.
fn make_folders(root: &Path, relative: &Path) -> Result<(), String> {
    let mut path = root.to_owned();
    for component in relative.components() {
        path.push(component);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(format!("{} is in its way and no folder", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path).map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Whether a link at `entry` (relative to the root) stays inside.
fn check_link(entry: &Path, target: &Path) -> Result<(), String> {
    let shown = target.display();
    if target.as_os_str().is_empty() {
        return Err("the link is empty".into());
    }
    let mut depth = entry.components().count() - 1;
    let mut below = false;
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => below = true,
            // After a name, `..` leads to where that name leads, which its text does not tell.
            Component::ParentDir if below => {
                return Err(format!(
                    "the link {shown} has .. after a name; link directly"
                ));
            }
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => {
                    return Err(format!("the link {shown} leads out of the directory"));
                }
            },
            Component::RootDir | Component::Prefix(_) => {
                return Err(format!("the link {shown} is absolute; make it relative"));
            }
        }
    }
    Ok(())
}
