//! `cargo xtask bench`: the figures of the design, measured on this machine, in one table.
//!
//! * [`matching`]: offers against requests. * [`offers`]: broker and master under mixed load, in
//!   simulated time.
//! * [`engine`]: no-op steps through the real engine on a real log, with its fsync, in this process:
//!   overhead per step, steps per second, one wide run.
//! * [`cluster`]: the same on real coordinators: one, three and five of them; and three regions.

mod cluster;
mod engine;
mod figures;
mod matching;
mod offers;
mod workflows;

use std::path::{Path, PathBuf};

use clap::Parser;

/// Measures Meson.
#[derive(Parser)]
struct Options {
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_parser = ["matching", "offers", "engine", "cluster", "regions"])]
    only: Vec<String>,
    /// Where logs are written: the disk decides what an fsync costs.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How often clusters are started and measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Sizes of the clusters that are compared.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3, 5])]
    nodes: Vec<u64>,
    /// How much each cluster has to do: less than 1 for a build without optimisations.
    #[arg(long, default_value_t = 1.0)]
    work: f64,
    /// Where mesond, mesonctl, minimesos and meson-executor are [default: beside this program].
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let wanted =
        |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let mut table = figures::Table::new();
    let beside = std::env::current_exe()?;
    let beside = beside.parent().map(Path::to_owned).unwrap_or_default();
    let plan = cluster::Plan {
        bin: options.bin.clone().unwrap_or(beside),
        data: options.data.clone(),
        rounds: options.rounds,
        nodes: options.nodes.clone(),
        work: options.work,
    };
    if wanted("matching") {
        matching::measure(&mut table);
    }
    if wanted("offers") {
        offers::measure(&mut table);
    }
    if wanted("engine") {
        engine::measure(&mut table, options.data.as_deref())?;
    }
    if wanted("cluster") {
        cluster::measure_growth(&mut table, &plan)?;
    }
    if wanted("regions") {
        cluster::measure_regions(&mut table, &plan)?;
    }
    println!("{table}");
    Ok(())
}
