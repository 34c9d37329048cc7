//! What a caller may set, and the limits that keep a hostile or mistaken file harmless.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use meson_core::units::Bytes;
use serde_json::Value;

/// Settings of one compilation.
#[derive(Clone, Default)]
pub struct Options {
    /// Values that the caller wants to start a run with; checked against the declared
    /// parameters. None: not checked, as for `mesonctl check`.
    pub params: Option<BTreeMap<String, Value>>,
    /// See [`Limits`].
    pub limits: Limits,
    /// What earlier runs of the workflow used, for the warnings.
    pub history: History,
    /// Asked now and then while the file is evaluated; when it says true, evaluation ends
    /// with an error. Callers put their clock here.
    pub cancelled: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("params", &self.params)
            .field("limits", &self.limits)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

/// How much a workflow file may ask of the machine that compiles it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest `.star` file, in bytes; a larger one is refused before it is read.
    pub file_bytes: u64,
    /// Most `.star` files of one compilation.
    pub files: usize,
    /// Deepest chain of `load` and `run_workflow`.
    pub load_depth: usize,
    /// Most function calls and loop iterations of one file.
    pub ticks: u64,
    /// Largest Starlark heap of one file, in bytes.
    pub heap_bytes: usize,
    /// Deepest chain of function calls.
    pub call_depth: usize,
    /// Most steps of one compilation.
    pub steps: usize,
    /// Most elements of a `range` or of a list that `*` or `+` makes.
    pub elements: usize,
    /// Longest text that `*` or `+` makes, in bytes.
    pub text_bytes: usize,
    /// Deepest nesting of brackets and operators in one expression, and of blocks.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 1 << 20,
            files: 64,
            load_depth: 8,
            ticks: 200_000,
            heap_bytes: 128 << 20,
            call_depth: 64,
            steps: 10_000,
            elements: 200_000,
            text_bytes: 1 << 20,
            nesting: 400,
        }
    }
}

/// What earlier runs of a workflow used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Largest resident set that a step's attempts had, by step name.
    pub peak_mem: BTreeMap<String, Bytes>,
}
