//! Reading a recording.

use meson_mesos::client::parse_duration;
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mesos/tests/transcripts")
}

/// The names of all recordings that there are.
pub(super) fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".jsonl").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The lines of a recording.
pub(super) fn lines(name: &str) -> Vec<Json> {
    let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The number of a line.
pub(super) fn number(line: &Json) -> u64 {
    line["n"].as_u64().unwrap()
}

/// When a line was recorded, from the beginning.
pub(super) fn at(line: &Json) -> f64 {
    line["rel"].as_f64().unwrap_or(0.0)
}

/// The value of a flag of a process that a note says was started.
pub(super) fn flag<'a>(note: &'a Json, name: &str) -> Option<&'a str> {
    note["argv"]
        .as_array()?
        .iter()
        .filter_map(Json::as_str)
        .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
}

pub(super) fn duration_flag(note: &Json, name: &str) -> Option<Duration> {
    flag(note, name).map(|text| parse_duration(text).unwrap())
}

/// What a note says happened to a process: its name and the signal.
pub(super) fn signal(line: &Json) -> Option<(&str, &str)> {
    if line["kind"] != "note" {
        return None;
    }
    let (name, signal) = line["text"].as_str()?.split_once(" gets ")?;
    (!name.contains(' ') && signal.starts_with("SIG")).then_some((name, signal))
}

/// The name of an agent that a note says was started.
pub(super) fn agent_started(line: &Json) -> Option<&str> {
    (line["kind"] == "note" && line["text"] == "agent started")
        .then(|| line["name"].as_str())
        .flatten()
}

pub(super) fn master_started(line: &Json) -> bool {
    line["kind"] == "note" && line["text"] == "master started"
}

/// The response to the request at `index`.
pub(super) fn answer(lines: &[Json], index: usize) -> Option<&Json> {
    let conn = &lines[index]["conn"];
    // Requests that were sent before any answer are answered in order.
    let unanswered = lines[..index]
        .iter()
        .filter(|line| line["conn"] == *conn)
        .fold(0_usize, |waiting, line| match line["kind"].as_str() {
            Some("request") => waiting + 1,
            Some("response" | "error") => waiting.saturating_sub(1),
            _ => waiting,
        });
    lines[index + 1..]
        .iter()
        .take_while(|line| line["kind"] != "error" || line["conn"] != *conn)
        .filter(|line| line["kind"] == "response" && line["conn"] == *conn)
        .nth(unanswered)
}

/// Whether a request goes to the master.
pub(super) fn to_master(line: &Json) -> bool {
    line["to"].as_str().is_none_or(|to| to.ends_with(":5050"))
}
