//! The commands of the README: set-up and then the thing itself, saying what is done.
//!
//! * [`setup`]: Debian packages, the Python environment, a Docker engine.
//! * [`demo`], [`mod@test`], [`verify`], [`mod@bench`], [`chaos`]: one command each.
//! * [`shell`]: runs a program and says so.

mod bench;
mod chaos;
mod demo;
mod setup;
mod shell;
mod test;
mod verify;

use clap::{Parser, Subcommand};

/// Meson's own commands: cargo xtask COMMAND
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing: Debian packages, Spark, an image. The next two do that by themselves.
    Setup,
    /// Install what is missing, then run the recommendation pipeline on this machine.
    Demo(demo::Options),
    /// Install what is missing, then run every check and every test.
    Test(test::Options),
    /// Check formatting, lints, dependencies and documentation; change nothing.
    Verify,
    /// Format, and fix the lints that can be fixed by machine.
    Fix,
    /// Measure speed, and print a table.
    Bench(bench::Options),
    /// Break things on purpose, and check the promises.
    Chaos(chaos::Options),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Setup => setup::setup(),
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Verify => verify::verify(),
        Command::Fix => verify::fix(),
        Command::Bench(options) => bench::run(&options),
        Command::Chaos(options) => chaos::run(&options),
    }
}
