//! Where the files of an attempt are, on the agent and as the process sees them.
//!
//! ```text
//!   tasks/<task id>/
//!     work/        the bundle; the process's working directory
//!     in/          inputs, each in a folder of its own
//!     out/         artifacts that the process leaves behind
//!     spark/       what Spark spills
//!     output, progress
//!     stdout, stderr (and .1: what was rotated away)
//! ```

use std::path::{Path, PathBuf};

/// The root of an attempt's folder inside a container.
pub const CONTAINER_ROOT: &str = "/meson";

/// An attempt's folder.
#[derive(Debug, Clone)]
pub struct Layout {
    /// On the agent.
    root: PathBuf,
    /// As the process sees it; the same, except in a container.
    seen: PathBuf,
}

impl Layout {
    /// The folder `root`, seen by the process at the same path.
    pub fn on_host(root: PathBuf) -> Self {
        Self {
            seen: root.clone(),
            root,
        }
    }

    /// The same folder, mounted at [`CONTAINER_ROOT`].
    pub fn in_container(&self) -> Self {
        Self {
            root: self.root.clone(),
            seen: PathBuf::from(CONTAINER_ROOT),
        }
    }

    /// The folder on the agent.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Working directory.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Where inputs go.
    pub fn inputs(&self) -> PathBuf {
        self.root.join("in")
    }

    /// Where the process leaves its artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("out")
    }

    /// Where the process leaves this artifact.
    pub fn artifact(&self, name: &str) -> PathBuf {
        self.artifacts().join(name)
    }

    /// The file behind `MESON_OUTPUT`.
    pub fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    /// The file behind `MESON_PROGRESS`.
    pub fn progress(&self) -> PathBuf {
        self.root.join("progress")
    }

    /// What Spark keeps while it runs, and forgets to remove when it is killed.
    pub fn temporary(&self) -> PathBuf {
        self.root.join("spark")
    }

    /// How the process calls a path of the agent.
    pub fn seen(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root)
            .map_or_else(|_| path.to_owned(), |inside| self.seen.join(inside))
    }

    /// Where a path that the process told is on the agent; relative ones start from its
    /// working directory. None: the process told a path that only its container has.
    pub fn on_agent(&self, path: &Path) -> Option<PathBuf> {
        if path.is_relative() {
            return Some(self.work().join(path));
        }
        match path.strip_prefix(&self.seen) {
            Ok(inside) => Some(self.root.join(inside)),
            Err(_) if self.seen == self.root => Some(path.to_owned()),
            Err(_) => None,
        }
    }

    /// A path of the agent as far as the process may lead us there. In a container, the agent's
    /// other files are none of its business: neither by `..` nor by a link that means something
    /// else outside of it.
    pub fn within(&self, path: PathBuf) -> Option<PathBuf> {
        if self.seen == self.root {
            return Some(path);
        }
        let (root, path) = (self.root.canonicalize().ok()?, path.canonicalize().ok()?);
        path.starts_with(root).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_does_not_lead_us_to_the_agents_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let (task, secret) = (folder.path().join("t"), folder.path().join("secret"));
        let host = Layout::on_host(task.clone());
        std::fs::create_dir_all(host.work()).unwrap();
        std::fs::write(&secret, "s").unwrap();
        std::fs::write(host.work().join("model"), "m").unwrap();
        std::os::unix::fs::symlink(&secret, host.work().join("link")).unwrap();
        let inside = host.in_container();
        let reached = |layout: &Layout, path: &str| {
            let path = layout.on_agent(Path::new(path));
            path.and_then(|path| layout.within(path)).is_some()
        };
        assert!(reached(&inside, "model"));
        assert!(!reached(&inside, "link"), "in there it leads elsewhere");
        assert!(!reached(&inside, "../../secret"));
        assert!(!reached(&inside, "/meson/../secret"));
        assert!(
            reached(&host, "link"),
            "a process of the agent sees what it says"
        );
    }

    #[test]
    fn a_container_sees_the_folder_at_its_own_root() {
        let host = Layout::on_host("/s/tasks/t".into());
        let inside = host.in_container();
        assert_eq!(inside.seen(&inside.output()), Path::new("/meson/output"));
        assert_eq!(
            inside.seen(Path::new("/etc/hosts")),
            Path::new("/etc/hosts")
        );
        assert_eq!(
            inside.on_agent(Path::new("/meson/out/m")).unwrap(),
            Path::new("/s/tasks/t/out/m")
        );
        assert_eq!(
            inside.on_agent(Path::new("m.bin")).unwrap(),
            Path::new("/s/tasks/t/work/m.bin")
        );
        assert_eq!(inside.on_agent(Path::new("/tmp/m")), None);
        let up = Path::new("/meson/../../../etc/hosts");
        assert_eq!(
            inside.on_agent(up).and_then(|path| inside.within(path)),
            None
        );
        assert_eq!(
            host.on_agent(Path::new("/tmp/m")).unwrap(),
            Path::new("/tmp/m")
        );
    }
}
