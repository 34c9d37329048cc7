//! Artifacts, bundles and logs in an object store: a folder, or S3.
//!
//! ```text
//!  file, directory, bytes ──► put_* ──► sha256 ──► blobs/sha256/ab/cdef…   written, then announced
//!  a task's inputs        ◄── fetch_to / Cache ◄── hashed while it is read, then renamed into place
//!  a bundle's files       ──► bundle::pack ──► at most 16 MiB, the same bytes on every machine
//!  a step's stdout        ──► LogStore::append(offset) ──► logs/{run}/{step}/…/{offset:020}
//! ```
//!
//! * [`BlobStore`]: content-addressed blobs. A [`BlobRef`] is what the rest of
//!   Meson passes around. A directory travels as a deterministic tar.
//! * [`Cache`]: blobs on an agent's disk, shared by its tasks.
//! * [`bundle`]: the scripts of a workflow as one small blob.
//! * [`LogStore`]: log segments, idempotent by offset.
//! * [`gc`]: what nobody refers to any more goes, after a while.
//!
//! **Written before announced:** when a put returns, the bytes are durable (on a
//! folder: temporary file, fsync, rename, fsync of the folder). **Verified on
//! read:** whatever is handed out has the hash it was asked for by, or there is
//! an [`Error::Mismatch`]. **A put always writes**, even if the blob exists: that
//! mends a damaged blob, and renews its age, so that garbage collection cannot
//! take it between the put and its announcement.
//!
//! `object_store`, which does the work, does not show: no type of it is public.

mod archive;
mod backend;
mod blob;
pub mod bundle;
mod cache;
mod config;
mod digest;
mod error;
mod fetch;
pub mod gc;
mod logs;
mod upload;

pub use blob::{BlobInfo, BlobKind, BlobRef, BlobStore};
pub use cache::{Cache, Placement};
pub use config::StoreConfig;
pub use digest::{Digest, ParseDigestError};
pub use error::Error;
pub use fetch::place;
pub use logs::{LogChunk, LogInfo, LogKey, LogStore, MAX_SEGMENT_BYTES};
