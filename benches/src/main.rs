//! `cargo xtask bench`: the figures of the design, measured on this machine, in one table.
//!
//! * [`matching`]: offers against requests. * [`engine`]: no-op steps through the real engine on a real
//!   log, with its fsync: overhead per step, steps per second, one wide run.

mod engine;
mod figures;
mod matching;

use clap::Parser;

/// Measures Meson.
#[derive(Parser)]
struct Options {
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_parser = ["matching", "engine"])]
    only: Vec<String>,
    /// Where the log is written: the disk decides what an fsync costs.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let wanted =
        |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let mut table = figures::Table::new();
    if wanted("matching") {
        matching::measure(&mut table);
    }
    if wanted("engine") {
        engine::measure(&mut table, options.data.as_deref())?;
    }
    println!("{table}");
    Ok(())
}
