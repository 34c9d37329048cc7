//! `cargo xtask verify` looks, `cargo xtask fix` mends.

use crate::setup::cargo_tool;
use crate::shell::{cargo, run, say};

/// Formatting, lints, dependencies, documentation.
pub(crate) fn verify() -> anyhow::Result<()> {
    say("formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    say("lints");
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    say("dependencies");
    cargo_tool("deny")?;
    // Advisories live in a git repository outside the package registries: they are looked at where
    // that can be reached, with `cargo deny check advisories`.
    run(cargo().args([
        "deny",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))?;
    say("documentation");
    let mut doc = cargo();
    doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--quiet",
        "--document-private-items",
    ]);
    // Private items are documented too: the next developer reads them, and links may lead there.
    run(doc.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private_intra_doc_links",
    ))
}

/// What a machine can mend.
pub(crate) fn fix() -> anyhow::Result<()> {
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
        "--quiet",
    ]))?;
    run(cargo().args(["fmt", "--all"]))
}
