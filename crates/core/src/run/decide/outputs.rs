//! Whether what a step left is what it promised, and small enough.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::definition::Step;
use crate::run::input::{Failure, FailureClass};
use crate::run::limits;
use crate::run::scope::outputs_of;

/// Trying again would give the same: none of these is retryable.
pub(super) fn check(step: &Step, outputs: &BTreeMap<String, Value>) -> Result<(), Failure> {
    let failure = |message: String| Failure {
        class: FailureClass::Step,
        message,
        retryable: false,
    };
    if let Some(missing) = outputs_of(step).find(|name| !outputs.contains_key(*name)) {
        let message = if step.outputs.iter().any(|name| name == missing) {
            format!(
                "it ended well but did not write its output {missing:?}: append `{missing}=<json>` to $MESON_OUTPUT"
            )
        } else {
            let variable = missing.to_uppercase();
            format!(
                "it ended well but left no artifact {missing:?}: write it to the path in $MESON_ARTIFACT_{variable}"
            )
        };
        return Err(failure(message));
    }
    let mut all = 0u64;
    for (name, value) in outputs {
        let bytes = serde_json::to_vec(value).map_or(u64::MAX, |json| json.len() as u64);
        if bytes > limits::OUTPUT_BYTES.0 {
            return Err(failure(format!(
                "its output {name:?} has {bytes} bytes, at most {} are allowed: write large data to a file, {{\"$file\": path}}",
                limits::OUTPUT_BYTES
            )));
        }
        all = all.saturating_add(bytes).saturating_add(name.len() as u64);
    }
    if all > limits::OUTPUTS_BYTES.0 {
        return Err(failure(format!(
            "its outputs have {all} bytes together, at most {} are allowed: write large data to files",
            limits::OUTPUTS_BYTES
        )));
    }
    Ok(())
}
