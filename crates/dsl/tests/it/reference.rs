//! Every example of the language reference compiles, and its tables are complete.

use meson_dsl::Memory;

use crate::support::{SCRIPTS, try_with};

const REFERENCE: &str = include_str!("../../REFERENCE.md");

/// The ```python blocks with the line that each begins in.
fn blocks() -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (n, line) in REFERENCE.lines().enumerate() {
        match (&mut open, line) {
            (None, "```python") => open = Some((n + 1, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, text)), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// Files that the examples name, with what those hold that are shown in the reference.
fn files() -> Memory {
    let mut files = SCRIPTS
        .iter()
        .fold(Memory::new(), |files, name| files.with(*name, "#"));
    for (_, text) in blocks() {
        if let Some(name) = text
            .strip_prefix("# file: ")
            .and_then(|rest| rest.lines().next())
        {
            files = files.with(name, text.as_str());
        }
    }
    files
}

#[test]
fn every_block_compiles() {
    let blocks = blocks();
    assert!(blocks.len() > 10, "{}", blocks.len());
    for (line, text) in blocks {
        if text.starts_with("# file: ") {
            continue;
        }
        // A block without a workflow gets one, of all the steps that it binds.
        let whole = if text.contains("workflow(\n") || text.contains("workflow(name") {
            text.clone()
        } else {
            format!("{text}\nworkflow(name = \"block\", flow = noop(name = \"only\"))\n")
        };
        if let Err(error) = try_with(&files().with("main.star", whole.as_str())) {
            panic!("REFERENCE.md:{line}\n{}", error.render(false, 120));
        }
    }
}

#[test]
fn every_function_and_every_warning_is_described() {
    for function in [
        "command",
        "noop",
        "docker",
        "spark",
        "run_workflow",
        "python",
        "r",
        "scala",
        "hive",
        "param",
        "artifact",
        "auto",
        "gang",
        "workflow",
        "file",
        "fail_at",
        "for_each",
        "when",
        "repeat",
        "parallel",
        "sequence",
    ] {
        assert!(REFERENCE.contains(&format!("`{function}(")), "{function}");
    }
    for argument in [
        "name",
        "title",
        "env",
        "inputs",
        "outputs",
        "produces",
        "resources",
        "where",
        "prefer",
        "preemptible",
        "spread",
        "gang",
        "retries",
        "timeout",
        "unreachable",
        "sla",
        "region",
        "pool",
        "owner",
        "files",
        "flavour",
    ] {
        assert!(
            REFERENCE.contains(&format!("| `{argument}` |")),
            "{argument}"
        );
    }
    for code in [
        "unused-step",
        "unused-param",
        "resources-unstated",
        "publish-unvalidated",
    ] {
        assert!(REFERENCE.contains(&format!("`{code}`")), "{code}");
    }
}
