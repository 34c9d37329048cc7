//! Blobs, bundles, logs and caches, on a folder; with `MESON_TEST_S3` also on S3.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod archives;
mod blobs;
mod bundles;
mod cache;
mod common;
mod gc;
mod logs;
mod s3;
