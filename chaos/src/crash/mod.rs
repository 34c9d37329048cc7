//! Nothing that was acknowledged is ever lost, applied twice, or out of order: with a process that
//! is killed, over and over, on the same data directory.
//!
//! ```text
//!   harness                                     child (this program again)
//!   ───────                                     ──────────────────────────
//!   spawn ────────────────────────────────────► open the node, read each writer's last number
//!                                               propose the next numbers, many writers at once
//!   remember  ◄──── a line per command ──────── after its acknowledgement, never before
//!   SIGKILL, at a random moment ──────────────►
//!   (cut or tear the journal's unsynced tail)
//!   open the node, compare ledger and memory
//! ```
//!
//! `ledger` is the state machine, `child` the process under load, `harness` the loop above,
//! `power` the damage, `check` the comparison.

mod check;
mod child;
mod harness;
mod ledger;
mod power;

pub use child::{ChildPlan, run_child};
pub use harness::{Plan, Report, run};
pub use power::PowerLoss;

use std::path::Path;

use meson_consensus::{
    ClusterId, ConsensusNode, Limits, NodeId, OpenError, Options, SnapshotPolicy,
};

/// A node with a short log and small buffers, so that snapshots, purges and table flushes are
/// under way when it is killed. For power loss the buffers are large instead: a journal that
/// rotates cannot be measured (its new file is preallocated).
async fn open(dir: &Path, shards: u16, power_loss: bool) -> Result<ConsensusNode, OpenError> {
    let mut options = Options::single(ClusterId::new("crash"), NodeId::new(1), shards);
    options.snapshots = SnapshotPolicy {
        every_entries: 60,
        every_log_bytes: 1 << 20,
        keep_entries: 10,
    };
    options.limits = Limits {
        log_cache_bytes: 16 << 10,
        ..Limits::default()
    };
    if !power_loss {
        options.limits.write_buffer_bytes = 128 << 10;
    }
    options.track_synced = power_loss.then(|| power::tracker(dir));
    ConsensusNode::open(dir, options, std::sync::Arc::new(ledger::Ledger)).await
}
