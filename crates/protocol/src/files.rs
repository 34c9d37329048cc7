//! Files that a step may have written, or put something else in the place of.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens what should be a file, for reading. A pipe in its place would hold up whoever opens it, and
/// everything else that waits for him; a device may have no end.
///
/// # Errors
/// The file system's, or that it is no file ([`ErrorKind::InvalidData`]).
pub fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let flags = OFlag::O_NONBLOCK.bits();
    let file = options.read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let error = open_file(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", path.display());
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(open_file(&file).is_ok());
    }
}
