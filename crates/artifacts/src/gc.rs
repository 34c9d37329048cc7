//! Retention: blobs that nobody refers to any more go, after a while.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;

use crate::blob::BlobStore;
use crate::digest::Digest;
use crate::error::Error;

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcReport {
    /// Blobs that are referred to.
    pub referenced: u64,
    /// Blobs that are not, but are too young to go.
    pub young: u64,
    /// Blobs that were deleted.
    pub deleted: u64,
    /// Their sizes together.
    pub deleted_bytes: u64,
    /// Blobs that were to go and could not be deleted; the next collection tries again.
    pub failed: u64,
}

/// How to collect.
#[derive(Debug, Clone, Copy)]
pub struct Gc {
    /// Blobs younger than this stay, referred to or not. Must be longer than any
    /// put takes to be announced: a put renews a blob's age.
    pub min_age: Duration,
    /// Only count.
    pub dry_run: bool,
}

impl Gc {
    /// Deletes every blob that is not in `referenced` and older than `min_age` at
    /// `now`. `referenced` must be no older than `min_age`.
    ///
    /// # Errors
    /// The listing failed. A blob that cannot be deleted is only counted.
    pub async fn collect(
        &self,
        store: &BlobStore,
        referenced: &HashSet<Digest>,
        now: SystemTime,
    ) -> Result<GcReport, Error> {
        let mut report = GcReport::default();
        let mut blobs = store.list("");
        while let Some(blob) = blobs.try_next().await? {
            if referenced.contains(&blob.digest) {
                report.referenced += 1;
                continue;
            }
            // A blob from the future (clocks differ) is young.
            let age = now.duration_since(blob.modified).unwrap_or_default();
            if age <= self.min_age {
                report.young += 1;
                continue;
            }
            if !self.dry_run
                && let Err(error) = store.delete(&blob.digest).await
            {
                tracing::warn!(digest = %blob.digest, %error, "a blob could not be collected");
                report.failed += 1;
                continue;
            }
            report.deleted += 1;
            report.deleted_bytes += blob.bytes;
        }
        tracing::info!(
            referenced = report.referenced,
            young = report.young,
            deleted = report.deleted,
            deleted_bytes = report.deleted_bytes,
            failed = report.failed,
            dry_run = self.dry_run,
            "blobs collected"
        );
        Ok(report)
    }
}
