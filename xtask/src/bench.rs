//! `cargo xtask bench`: the figures of the design, measured here.

use clap::Args;

use crate::shell::{self, cargo, program, target};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the benchmark program, which is built first; `-- --help` says what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// What is measured, and what measures it.
const PACKAGES: [&str; 5] = [
    "mesond",
    "mesonctl",
    "minimesos",
    "meson-executor",
    "meson-benches",
];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--bins"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    shell::run(&mut build)?;
    let mut bench = program(target("release").join("bench"));
    shell::run(bench.args(&options.arguments))
}
