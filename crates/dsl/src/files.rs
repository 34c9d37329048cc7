//! Where source files come from: a folder, or memory.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// A source file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Relative to the root of its [`Files`].
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A tree of files. All paths are relative to its root and have no `..` in them.
pub trait Files: Sync {
    /// Size in bytes, without reading the file.
    fn size(&self, path: &Path) -> io::Result<u64>;
    /// The file's content; fails beyond `limit` bytes, and where it is no UTF-8.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Source>;
    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool;
}

/// A folder on disk. Links that lead out of it are refused.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The tree below `root`.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root: PathBuf = root.into();
        Ok(Self {
            root: root.canonicalize()?,
        })
    }

    /// The folder of the workflow file `file`, and the file's name in it.
    pub fn of(file: &Path) -> io::Result<(Self, PathBuf)> {
        let name = file
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
        let parent = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        Ok((Self::new(parent)?, PathBuf::from(name)))
    }

    /// The folder itself, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn locate(&self, path: &Path) -> io::Result<PathBuf> {
        let full = self.root.join(path).canonicalize()?;
        if full.starts_with(&self.root) {
            Ok(full)
        } else {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it is a link that leads out of the workflow's folder",
            ))
        }
    }
}

impl Files for Folder {
    fn size(&self, path: &Path) -> io::Result<u64> {
        let meta = self.locate(path)?.metadata()?;
        if meta.is_file() {
            Ok(meta.len())
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"))
        }
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Source> {
        let mut bytes = Vec::new();
        // The size may have changed since it was asked for, so the read is bounded too.
        std::fs::File::open(self.locate(path)?)?
            .take(limit + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is too large",
            ));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))?;
        Ok(Source {
            path: path.to_owned(),
            text,
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.locate(path).is_ok_and(|full| full.is_file())
    }
}

/// Files in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    files: BTreeMap<PathBuf, String>,
}

impl Memory {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more.
    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    fn get(&self, path: &Path) -> io::Result<&String> {
        self.files
            .get(path)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such file"))
    }
}

impl Files for Memory {
    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(self.get(path)?.len() as u64)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Source> {
        let text = self.get(path)?;
        if text.len() as u64 > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it is too large",
            ));
        }
        Ok(Source {
            path: path.to_owned(),
            text: text.clone(),
        })
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }
}

/// Why a path of a workflow file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathProblem {
    Empty,
    Absolute,
    Escapes,
}

impl PathProblem {
    pub(crate) fn say(self) -> (&'static str, &'static str) {
        match self {
            Self::Empty => ("the path is empty", "name a file, relative to this one"),
            Self::Absolute => (
                "the path is absolute, but only files of the workflow's folder travel to the agents",
                "copy the file beside the workflow and write its path relative to this file",
            ),
            Self::Escapes => (
                "the path leads out of the workflow's folder",
                "move the file into the folder of the workflow file: only that folder is a workflow's bundle",
            ),
        }
    }
}

/// `path` seen from `folder`, without `.` and `..`; always with `/` between its parts.
pub(crate) fn resolve(folder: &Path, path: &str) -> Result<PathBuf, PathProblem> {
    if path.trim().is_empty() {
        return Err(PathProblem::Empty);
    }
    let mut parts: Vec<&std::ffi::OsStr> = folder.iter().collect();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => {
                parts.pop().ok_or(PathProblem::Escapes)?;
            }
            Component::RootDir | Component::Prefix(_) => return Err(PathProblem::Absolute),
        }
    }
    if parts.is_empty() {
        Err(PathProblem::Empty)
    } else {
        Ok(parts.iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_root() {
        let at = |folder: &str, path: &str| resolve(Path::new(folder), path);
        assert_eq!(at("", "a/./b.py"), Ok(PathBuf::from("a/b.py")));
        assert_eq!(at("lib", "../b.py"), Ok(PathBuf::from("b.py")));
        assert_eq!(at("lib", "../../b.py"), Err(PathProblem::Escapes));
        assert_eq!(at("", "/etc/passwd"), Err(PathProblem::Absolute));
        assert_eq!(at("", " "), Err(PathProblem::Empty));
    }

    #[test]
    fn a_link_out_of_the_folder_is_no_file_of_it() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let inside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("link"))
            .unwrap();
        let folder = Folder::new(inside.path()).unwrap();
        assert!(!folder.exists(Path::new("link")));
        assert!(folder.read(Path::new("link"), 10).is_err());
    }
}
