//! Clusters of real coordinators on this machine, measured over their HTTP API and by what they count.
//!
//! * [`rig`]: a cluster and what can be asked of it. * [`phases`]: what it does while it is measured.
//! * [`growth`]: one, three and five nodes in turn. * [`regions`]: three regions, far apart.
//!
//! On one machine all nodes share its processors, and the load comes from there, too: more nodes bring no
//! more speed here, they only show what they cost.

mod growth;
mod phases;
mod regions;
mod rig;

use std::path::PathBuf;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::Table;

/// What to run, and how.
pub(crate) struct Plan {
    /// Where the programs are.
    pub(crate) bin: PathBuf,
    /// Where data go; none: where temporary files go.
    pub(crate) data: Option<PathBuf>,
    /// How often each cluster is started and measured.
    pub(crate) rounds: u32,
    /// How many nodes.
    pub(crate) nodes: Vec<u64>,
    /// How much is done: 1 is what suits a release build.
    pub(crate) work: f64,
}

/// Measures, unless somebody has enough of it: what was started ends with its handle, which is
/// dropped then.
fn block_on(measured: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            measured = measured => measured,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}

impl Plan {
    fn amount(&self, of: u32) -> u32 {
        ((f64::from(of) * self.work) as u32).max(1)
    }
}

pub(crate) fn measure_growth(table: &mut Table, plan: &Plan) -> anyhow::Result<()> {
    block_on(growth::measure(table, plan))
}

pub(crate) fn measure_regions(table: &mut Table, plan: &Plan) -> anyhow::Result<()> {
    block_on(regions::measure(table, plan))
}

/// The middle one.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
