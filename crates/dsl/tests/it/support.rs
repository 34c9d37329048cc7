//! One way to compile a text, and to say where a finding should be.

#![expect(
    clippy::unwrap_used,
    reason = "a test that panics here says which line"
)]

use std::path::Path;

use meson_core::definition::Step;
use meson_dsl::{Compiled, Definition, Diagnostic, Diagnostics, Memory, Options, compile};

/// Files that the texts of tests name.
pub(crate) const SCRIPTS: [&str; 16] = [
    "a.py",
    "b.py",
    "c.py",
    "d.py",
    "train.py",
    "check.py",
    "prep.py",
    "publish.py",
    "validate.py",
    "a.R",
    "a.scala",
    "app.jar",
    "q.sql",
    "wrangle.py",
    "select.py",
    "common.py",
];

pub(crate) fn files(text: &str) -> Memory {
    let files = SCRIPTS
        .iter()
        .fold(Memory::new(), |files, name| files.with(*name, "#"));
    files.with("main.star", text)
}

pub(crate) fn try_with(files: &Memory) -> Result<Compiled, Diagnostics> {
    compile(Path::new("main.star"), files, &Options::default())
}

pub(crate) fn try_compile(text: &str) -> Result<Compiled, Diagnostics> {
    try_with(&files(text))
}

pub(crate) fn ok(text: &str) -> Compiled {
    try_compile(text).unwrap_or_else(|error| panic!("{}\n{text}", error.render(false, 120)))
}

pub(crate) fn definition(text: &str) -> Definition {
    ok(text).definition
}

/// The one step that `text` makes, in a workflow of its own.
pub(crate) fn step(call: &str) -> Step {
    let text = format!("a = noop()\nx = {call}\nworkflow(name = \"w\", flow = a >> x)\n");
    definition(&text).step_named("x").unwrap().1.clone()
}

pub(crate) fn errors(text: &str) -> Vec<Diagnostic> {
    match try_compile(text) {
        Ok(_) => panic!("compiles:\n{text}"),
        Err(diagnostics) => diagnostics.list,
    }
}

/// The single finding in `text`, in which `«…»` marks what must be underlined, exactly.
pub(crate) fn error_at(marked: &str) -> Diagnostic {
    let (text, offset, length) = unmark(marked);
    let all = errors(&text);
    assert_eq!(all.len(), 1, "{all:#?}");
    let found = all[0].clone();
    check_place(&found, &text, offset, length);
    found
}

pub(crate) fn unmark(marked: &str) -> (String, usize, usize) {
    let begin = marked.find('«').unwrap();
    let end = marked.find('»').unwrap() - '«'.len_utf8();
    (marked.replace(['«', '»'], ""), begin, end - begin)
}

pub(crate) fn check_place(found: &Diagnostic, text: &str, offset: usize, length: usize) {
    let got = text.get(found.offset..found.offset + found.length);
    let rendered = found.render(false, 120);
    assert_eq!(
        (found.offset, found.length),
        (offset, length),
        "underlines {got:?}\n{rendered}"
    );
    let line = text[..offset].matches('\n').count() + 1;
    let column = text[..offset]
        .chars()
        .rev()
        .take_while(|c| *c != '\n')
        .count()
        + 1;
    assert_eq!((found.line, found.column), (line, column), "{rendered}");
    let shown = found.source_line();
    assert!(
        text.lines().nth(line - 1) == Some(shown) && rendered.contains(shown.trim()),
        "{rendered}"
    );
}

/// Checks code, message and remedy of a finding.
#[track_caller]
pub(crate) fn says(found: &Diagnostic, code: &str, message: &str, help: &str) {
    assert_eq!(found.code, code, "{}", found.render(false, 120));
    assert!(
        found.message.contains(message),
        "{:?} is not in {:?}",
        message,
        found.message
    );
    let given = found.help.clone().unwrap_or_default();
    assert!(
        given.contains(help) && (help.is_empty() || !given.is_empty()),
        "{help:?} is not in {given:?}"
    );
}

/// A workflow of one step, with `call` as it.
pub(crate) fn one(call: &str) -> String {
    format!("x = {call}\nworkflow(name = \"w\", flow = start >> x >> end)\n")
}
