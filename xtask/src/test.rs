//! `cargo xtask test`: every check and every test, with the real Spark, R and Docker.

use clap::Args;

use crate::setup;
use crate::shell::{self, cargo, has, say};
use crate::verify;

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out formatting, lints, dependencies and documentation.
    #[arg(long)]
    no_verify: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let tools = setup::tools()?;
    if !options.no_verify {
        verify::verify()?;
    }
    say("building");
    // The system tests start the binaries of other packages, which cargo does not build for them.
    shell::run(cargo().args(["build", "--workspace", "--bins"]))?;
    say("tests");
    let mut test = cargo();
    if has("cargo-nextest") {
        test.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        test.args(["test", "--workspace", "--no-fail-fast"]);
    }
    test.args(&options.filter)
        .env("PATH", &tools.path)
        .env("MESON_TEST_RATINGS", &tools.ratings);
    // Here everything that a test can ask for is installed: a test that skips has failed.
    shell::run(test.env("MESON_TEST_REQUIRE", "docker,spark,r,slurm,zookeeper"))?;
    if has("cargo-nextest") && options.filter.is_none() {
        say("examples in the documentation");
        shell::run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    Ok(())
}
