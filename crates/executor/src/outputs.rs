//! What a process wrote to `MESON_OUTPUT`: lines `name=<json>`, the last one of a name counts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meson_protocol::task::{MAX_OUTPUT_BYTES, MAX_OUTPUTS_BYTES};
use serde_json::Value;

use crate::failure::TaskFailure;

/// Longest file that is read at all, in bytes. Lines that a later one of the same name
/// replaces do not count against the limits of outputs, so this is generous.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// So many lines are named that were ignored: a step that takes the file for its log has more.
const MOST_WARNINGS: usize = 20;

/// The outputs of an attempt before files in them are uploaded.
#[derive(Debug, Default, PartialEq)]
pub struct Outputs {
    /// Declared outputs by name.
    pub values: BTreeMap<String, Value>,
    /// Lines that were ignored, and why: for the step's log.
    pub warnings: Vec<String>,
}

/// Lines that were ignored.
#[derive(Debug, Default)]
struct Ignored {
    named: Vec<String>,
    others: usize,
}

impl Ignored {
    fn add(&mut self, why: impl FnOnce() -> String) {
        if self.named.len() < MOST_WARNINGS {
            self.named.push(why());
        } else {
            self.others += 1;
        }
    }

    fn into_warnings(self) -> Vec<String> {
        let mut warnings = self.named;
        if self.others > 0 {
            let others = self.others;
            warnings.push(format!("{others} more lines of MESON_OUTPUT ignored"));
        }
        warnings
    }
}

/// The key of a value that stands for a file: `{"$file": "path"}`.
pub const FILE_KEY: &str = "$file";

/// Reads the file's content. `declared` names must all be there; `produced` ones come from
/// files of their own, so a line for one of them is of no use.
///
/// # Errors
/// An output above its limit, or a declared one that is missing or not JSON.
pub fn parse(
    content: &[u8],
    declared: &[String],
    produced: &[String],
) -> Result<Outputs, TaskFailure> {
    let mut lines: BTreeMap<&str, &str> = BTreeMap::new();
    let mut outputs = Outputs::default();
    let mut ignored = Ignored::default();
    let text = String::from_utf8_lossy(content);
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) => {
                let name = name.trim();
                if declared.iter().any(|d| d == name) {
                    lines.insert(name, value);
                } else if produced.iter().any(|p| p == name) {
                    ignored.add(|| format!(
                        "line {number} of MESON_OUTPUT ignored: {name} is an artifact; write it to the path in MESON_ARTIFACT_{}",
                        crate::environment::variable(name)
                    ));
                } else {
                    ignored.add(|| format!(
                        "line {number} of MESON_OUTPUT ignored: the step declares no output {:?}",
                        shortened(name)
                    ));
                }
            }
            None => ignored.add(|| {
                format!(
                    "line {number} of MESON_OUTPUT ignored: {:?} is not name=<json>",
                    shortened(line)
                )
            }),
        }
    }
    outputs.warnings = ignored.into_warnings();
    let mut total = 0;
    let mut bad = BTreeMap::new();
    for (name, text) in lines {
        if text.len() > MAX_OUTPUT_BYTES {
            return Err(TaskFailure::hopeless(format!(
                "output {name} has {} bytes, the limit is {MAX_OUTPUT_BYTES}: write it to a file and give \
                 {{\"{FILE_KEY}\": \"path\"}} instead",
                text.len()
            )));
        }
        total += text.len();
        match serde_json::from_str(text) {
            Ok(value) => {
                outputs.values.insert(name.to_owned(), value);
            }
            Err(error) => {
                let why = format!(
                    "output {name} ignored: {:?} is not JSON ({error})",
                    shortened(text)
                );
                bad.insert(name.to_owned(), why.clone());
                outputs.warnings.push(why);
            }
        }
    }
    if total > MAX_OUTPUTS_BYTES {
        return Err(TaskFailure::hopeless(format!(
            "the outputs together have {total} bytes, the limit is {MAX_OUTPUTS_BYTES}: write the large ones to files \
             and give {{\"{FILE_KEY}\": \"path\"}} instead"
        )));
    }
    let missing: Vec<&str> = declared
        .iter()
        .filter(|name| !outputs.values.contains_key(*name))
        .map(String::as_str)
        .collect();
    if let Some(first) = missing.first() {
        let hint = match bad.get(*first) {
            Some(why) => why.clone(),
            None => format!("append a line {first}=<json> to the file $MESON_OUTPUT"),
        };
        let names = missing.join(", ");
        return Err(TaskFailure::step(format!(
            "the step succeeded without its declared output {names}: {hint}"
        )));
    }
    Ok(outputs)
}

/// The path of a value that stands for a file.
pub fn as_file(value: &Value) -> Option<PathBuf> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    fields.get(FILE_KEY)?.as_str().map(PathBuf::from)
}

fn shortened(text: &str) -> String {
    let mut text = text.to_owned();
    crate::failure::truncate(&mut text, 80);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn the_last_line_of_a_name_counts() {
        let outputs = parse(
            b"rmse=1.5\nwinner=\"a\"\nrmse=0.9\n",
            &names(&["rmse", "winner"]),
            &[],
        )
        .unwrap();
        assert_eq!(
            outputs.values,
            [("rmse".into(), json!(0.9)), ("winner".into(), json!("a"))].into()
        );
        assert!(outputs.warnings.is_empty());
    }

    #[test]
    fn what_is_not_declared_or_not_a_line_is_ignored_with_a_warning() {
        let outputs = parse(
            b"extra=1\nnoise\n\nmodel=2\nok=true",
            &names(&["ok"]),
            &names(&["model"]),
        )
        .unwrap();
        assert_eq!(outputs.values.len(), 1);
        assert_eq!(outputs.warnings.len(), 3);
        assert!(outputs.warnings[2].contains("MESON_ARTIFACT_MODEL"));
    }

    #[test]
    fn a_step_that_takes_the_file_for_its_log_is_not_answered_line_by_line() {
        let log = "epoch 7, loss 0.1\n".repeat(100_000) + "ok=true\n";
        let outputs = parse(log.as_bytes(), &names(&["ok"]), &[]).unwrap();
        assert_eq!(outputs.values["ok"], json!(true));
        assert_eq!(outputs.warnings.len(), MOST_WARNINGS + 1);
        assert!(outputs.warnings[MOST_WARNINGS].contains("99980 more lines"));
    }

    #[test]
    fn a_missing_output_is_named_with_what_to_write() {
        let error = parse(b"", &names(&["users"]), &[]).unwrap_err().0;
        assert!(error.message.contains("users=<json>"), "{}", error.message);
        let error = parse(b"users=oops", &names(&["users"]), &[]).unwrap_err().0;
        assert!(error.message.contains("not JSON"), "{}", error.message);
    }

    #[test]
    fn limits_are_named_failures_that_no_retry_helps() {
        let line = format!("big=\"{}\"", "x".repeat(MAX_OUTPUT_BYTES));
        let error = parse(line.as_bytes(), &names(&["big"]), &[]).unwrap_err().0;
        assert!(
            error.message.contains("65536") && !error.retryable,
            "{}",
            error.message
        );
        let many: Vec<String> = (0..5).map(|i| format!("o{i}")).collect();
        let content: String = many
            .iter()
            .map(|n| format!("{n}=\"{}\"\n", "x".repeat(60_000)))
            .collect();
        let error = parse(content.as_bytes(), &many, &[]).unwrap_err().0;
        assert!(error.message.contains("262144"), "{}", error.message);
        // What is replaced later does not count.
        let replaced = format!("{line}\nbig=1");
        assert!(parse(replaced.as_bytes(), &names(&["big"]), &[]).is_ok());
    }

    #[test]
    fn a_file_is_told_from_other_objects() {
        assert_eq!(as_file(&json!({"$file": "a/b"})), Some("a/b".into()));
        assert_eq!(as_file(&json!({"$file": "a", "x": 1})), None);
        assert_eq!(as_file(&json!("a")), None);
    }
}
