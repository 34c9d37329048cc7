//! What a run may cost. Each limit is named in the error that enforces it.

use crate::units::{Bytes, Duration};

/// Most iterations of one for-each.
pub const ITERATIONS: u32 = 1_000_000;
/// Largest lists of one for-each together.
pub const ITEMS_BYTES: usize = 16 << 20;
/// Largest record of a part of them.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Most iterations that one transition starts.
pub const STARTS: u32 = 256;
/// Most iterations that one transition looks at to find those that are not done, after a retry.
pub const LOOKS: u32 = 2_048;
/// Most attempts that one transition kills.
pub const KILLS: usize = 256;
/// Largest single output of a step, as JSON.
pub const OUTPUT_BYTES: Bytes = Bytes(64 << 10);
/// All outputs of a step together, as JSON.
pub const OUTPUTS_BYTES: Bytes = Bytes(256 << 10);
/// What an expression may gather from the iterations of a step, as JSON.
pub const GATHERED_BYTES: usize = 4 << 20;
/// Longest reason of a cancellation, in bytes.
pub const REASON_BYTES: usize = 1_024;
/// Failures of the platform that a step instance survives.
pub const PLATFORM_RETRIES: u16 = 10;
/// Attempts of a step instance that may end for want of memory and be tried again with more.
pub const MEMORY_RETRIES: u16 = 10;
/// How long an attempt that nobody wants any more is waited for while its agent is out of sight.
pub const UNWANTED_GRACE: Duration = Duration::from_secs(300);
