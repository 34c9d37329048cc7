//! What is packed, and how it is unpacked.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::FetchError;

/// The kinds of archives, by the ends of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archive {
    Tar,
    TarGz,
    /// Compressions that the `tar` program knows and we do not.
    TarOther,
    Gz,
    Zip,
}

/// What kind of archive a file is, if it is one.
pub(super) fn archive(path: &Path) -> Option<Archive> {
    let name = path.file_name()?.to_str()?;
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if ends(&[".tgz", ".tar.gz"]) {
        Some(Archive::TarGz)
    } else if ends(&[".tar"]) {
        Some(Archive::Tar)
    } else if ends(&[".tbz2", ".tar.bz2", ".txz", ".tar.xz"]) {
        Some(Archive::TarOther)
    } else if ends(&[".gz"]) {
        Some(Archive::Gz)
    } else if ends(&[".zip"]) {
        Some(Archive::Zip)
    } else {
        None
    }
}

/// Unpacks an archive beside others in `into`; its members stay within.
///
/// # Errors
/// It is damaged, leads outside, or no program for it is there.
pub(super) fn extract(path: &Path, kind: Archive, into: &Path) -> Result<(), FetchError> {
    let fail = |reason: String| FetchError::Extract {
        path: path.display().to_string(),
        reason,
    };
    let io = |error: io::Error| fail(error.to_string());
    let open = || File::open(path).map(io::BufReader::new).map_err(io);
    match kind {
        Archive::Tar => tar::Archive::new(open()?).unpack(into).map_err(io),
        Archive::TarGz => tar::Archive::new(flate2::read::GzDecoder::new(open()?))
            .unpack(into)
            .map_err(io),
        Archive::Gz => {
            let to = path.with_extension("");
            // Not through a link that an earlier archive may have left there.
            let _ = fs::remove_file(&to);
            let mut to = File::create(&to).map_err(io)?;
            io::copy(&mut flate2::read::GzDecoder::new(open()?), &mut to).map_err(io)?;
            Ok(())
        }
        Archive::TarOther => program(
            Command::new("tar")
                .args(["--no-same-owner", "-C"])
                .arg(into)
                .arg("-xf")
                .arg(path),
        )
        .map_err(fail),
        Archive::Zip => program(
            Command::new("unzip")
                .args(["-o", "-q", "-d"])
                .arg(into)
                .arg(path),
        )
        .map_err(fail),
    }
}

/// Runs a program that extracts; both refuse members that lead outside.
fn program(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run '{name}': {error}; install it on the agent"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "'{name}' ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
