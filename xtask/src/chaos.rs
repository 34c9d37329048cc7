//! `cargo xtask chaos`: breaks things on purpose, and checks the promises.

use clap::Args;

use crate::shell::{self, cargo, program, target};

/// What to break.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Build with optimisations: closer to what is installed, and minutes longer to build.
    #[arg(long)]
    release: bool,
    /// Passed on to the chaos program, which is built first; `-- --help` says what there is.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// What a cluster is made of, and what breaks it.
const PACKAGES: [&str; 5] = [
    "mesond",
    "mesonctl",
    "minimesos",
    "meson-executor",
    "meson-chaos",
];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    // Also behind other arguments, where it is taken for one to pass on.
    let (release, arguments): (Vec<_>, Vec<_>) = options
        .arguments
        .iter()
        .partition(|argument| *argument == "--release");
    let release = options.release || !release.is_empty();
    let mut build = cargo();
    build.args(["build", "--quiet", "--bins"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    if release {
        build.arg("--release");
    }
    let chaos = target(if release { "release" } else { "debug" }).join("chaos");
    let mut chaos = program(chaos);
    chaos.args(&arguments);
    // A list of names is for other programs: nothing else may stand on the output.
    if arguments.iter().any(|argument| *argument == "--list") {
        shell::run_quietly(&mut build)?;
        print!("{}", shell::prints(&mut chaos));
        return Ok(());
    }
    shell::run(&mut build)?;
    shell::run(&mut chaos)
}
