//! `cargo xtask chaos`: breaks things on purpose, and checks the promises.

use clap::Args;

use crate::shell::{self, cargo};

/// What to break.
#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the chaos program; `--help` says what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut chaos = cargo();
    chaos.args([
        "run",
        "--quiet",
        "--package",
        "meson-chaos",
        "--bin",
        "chaos",
        "--",
    ]);
    shell::run(chaos.args(&options.arguments))
}
