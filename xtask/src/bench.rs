//! `cargo xtask bench`: the figures of the design, measured here.

use clap::Args;

use crate::shell::{self, cargo};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the benchmark program; `--help` says what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut bench = cargo();
    bench.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "meson-benches",
        "--bin",
        "bench",
        "--",
    ]);
    shell::run(bench.args(&options.arguments))
}
