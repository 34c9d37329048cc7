//! Bundles: the files that a workflow's steps need, as one small blob.
//!
//! A bundle is made where the workflow is submitted, travels through the
//! coordinators (a majority of which hold it before the run is acknowledged),
//! and is unpacked as a step's working directory.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::read::GzDecoder;
use flate2::{Compression, GzBuilder};

use crate::archive;
use crate::digest::Digest;
use crate::error::Error;
use crate::fetch::Unfinished;

/// The largest bundle, packed, in bytes.
pub const MAX_BUNDLE_BYTES: u64 = 16 << 20;
/// The most that a bundle may unpack to, in bytes.
pub const MAX_UNPACKED_BYTES: u64 = 256 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Whether a bundle is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Packing {
    /// As it is.
    Plain,
    /// With gzip.
    #[default]
    Gzip,
}

/// Packs `files` (relative to `root`; a folder with all that is in it). The same
/// files give the same bytes, whatever their order, times and owners.
///
/// # Errors
/// [`Error::TooLarge`] beyond [`MAX_BUNDLE_BYTES`], [`Error::Unsafe`] for paths
/// and links that lead out of `root`, [`Error::Io`] for files that are missing.
pub fn pack(root: &Path, files: &[PathBuf], packing: Packing) -> Result<(Digest, Bytes), Error> {
    let mut entries = Vec::new();
    for file in files {
        let relative = archive::inside(file).map_err(|problem| Error::Unsafe {
            action: "packed",
            entry: file.display().to_string(),
            problem: format!("{problem}; name files relative to {}", root.display()),
        })?;
        let path = root.join(&relative);
        let meta = fs::symlink_metadata(&path).map_err(Error::io("looking at", &path))?;
        if meta.is_dir() {
            entries.extend(
                archive::walk(&path)?
                    .iter()
                    .map(|below| relative.join(below)),
            );
        }
        entries.push(relative);
    }
    archive::sort(&mut entries);
    let limited = Limited {
        bytes: Vec::new(),
        exceeded: false,
    };
    let packed = match packing {
        Packing::Plain => archive::pack(root, &entries, limited),
        Packing::Gzip => {
            // No name, no time: they would differ.
            let gzip = GzBuilder::new()
                .mtime(0)
                .write(limited, Compression::default());
            archive::pack(root, &entries, gzip)
                .and_then(|gzip| gzip.finish().map_err(Error::io("compressing", root)))
        }
    };
    let too_large = || Error::TooLarge {
        what: format!("the bundle of {}", root.display()),
        bytes: MAX_BUNDLE_BYTES + 1,
        limit: MAX_BUNDLE_BYTES,
        name: "MAX_BUNDLE_BYTES, packed; keep data out of bundles: read it in a step, or pass it as an artifact",
    };
    match packed {
        Ok(limited) => Ok((Digest::of(&limited.bytes), limited.bytes.into())),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::FileTooLarge => {
            Err(too_large())
        }
        Err(error) => Err(error),
    }
}

/// Stops at the limit instead of packing gigabytes first.
struct Limited {
    bytes: Vec<u8>,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.exceeded || (self.bytes.len() + buf.len()) as u64 > MAX_BUNDLE_BYTES {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Unpacks a bundle, compressed or not, as the folder `into`, which must not
/// exist or be empty. It appears there whole or not at all. Whoever received the
/// bytes has compared their digest (see [`verify`]).
///
/// # Errors
/// [`Error::Unsafe`] for entries that reach outside, [`Error::TooLarge`] beyond
/// [`MAX_BUNDLE_BYTES`] or [`MAX_UNPACKED_BYTES`], else [`Error::Io`].
pub fn unpack(bytes: &[u8], into: &Path) -> Result<(), Error> {
    check_size(bytes.len() as u64)?;
    let folder = Unfinished::beside(into)?;
    fs::create_dir(folder.path()).map_err(Error::io("making the folder", folder.path()))?;
    let reader: Box<dyn Read> = if bytes.starts_with(&GZIP_MAGIC) {
        Box::new(GzDecoder::new(bytes))
    } else {
        Box::new(bytes)
    };
    let limit = (MAX_UNPACKED_BYTES, "MAX_UNPACKED_BYTES");
    archive::unpack(reader, folder.path(), Some(limit))?;
    folder.finish(into)
}

/// Whether these bytes are the bundle of that digest.
///
/// # Errors
/// [`Error::Mismatch`], or [`Error::TooLarge`] beyond [`MAX_BUNDLE_BYTES`].
pub fn verify(expected: &Digest, bytes: &[u8]) -> Result<(), Error> {
    check_size(bytes.len() as u64)?;
    let actual = Digest::of(bytes);
    if actual != *expected {
        return Err(Error::Mismatch {
            expected: *expected,
            actual,
            place: "a received bundle".into(),
        });
    }
    Ok(())
}

fn check_size(bytes: u64) -> Result<(), Error> {
    if bytes > MAX_BUNDLE_BYTES {
        return Err(Error::TooLarge {
            what: "the bundle".into(),
            bytes,
            limit: MAX_BUNDLE_BYTES,
            name: "MAX_BUNDLE_BYTES",
        });
    }
    Ok(())
}
