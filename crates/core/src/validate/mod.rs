//! Finds what is wrong with a definition, before anything runs.
//!
//! ```text
//!   tree: is it one? ─► nodes: names, numbers, sizes ─► expressions: do they parse ─► references: does each exist, and before
//! ```
//!
//! A definition comes from our own DSL, but also from any client of the HTTP API: nothing
//! about it is taken for granted. What passes here is what the state machine relies on.

mod nodes;
pub(crate) mod references;
mod tree;

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, FORMAT};
use crate::ids::{NodeId, is_name};
use crate::units::Bytes;

/// Most nodes of a definition.
pub const MAX_NODES: usize = 10_000;
/// Deepest nesting of nodes.
pub const MAX_DEPTH: usize = 64;
/// Deepest nesting of loops: a task id holds the iteration of each, and has room for 255 bytes.
pub const MAX_LOOPS: usize = 8;
/// Deepest nesting of workflows in workflows.
pub const MAX_WORKFLOWS: usize = 8;
/// Largest definition, in bytes of JSON.
pub const MAX_BYTES: usize = 4 << 20;
/// Most rounds of a repeat.
pub const MAX_ROUNDS: u32 = 10_000;
/// Most retries of a step.
pub const MAX_RETRIES: u32 = 1_000;
/// Most regions that a step may name.
pub const MAX_REGIONS: usize = 16;
/// Most tasks of a gang: where each of them is stands in one record of its step.
pub const MAX_GANG: u32 = 256;
/// Most memory or disk that a step may ask for.
pub const MAX_SIZE: Bytes = Bytes(1 << 50);
/// Most ports that a task may ask for: an agent has a thousand, unless its operator says otherwise.
pub const MAX_PORTS: u32 = 128;
/// Most problems that are told at once.
pub const MAX_PROBLEMS: usize = 100;

/// Something that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}{message}{}", self.place(), self.advice())]
pub struct Problem {
    /// Stable and short, for programs: `unknown_reference`.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it, or nothing.
    pub remedy: String,
    /// The step that it is about, if about one.
    pub step: Option<String>,
    /// The field that it is about: `args[1]`, `until`; or nothing.
    pub field: String,
}

impl Problem {
    fn place(&self) -> String {
        match (&self.step, self.field.as_str()) {
            (Some(step), "") => format!("step {step}: "),
            (Some(step), field) => format!("step {step}, {field}: "),
            (None, "") => String::new(),
            (None, field) => format!("{field}: "),
        }
    }

    fn advice(&self) -> String {
        if self.remedy.is_empty() {
            String::new()
        } else {
            format!("; {}", self.remedy)
        }
    }
}

/// Collects problems, up to as many as anybody reads.
struct Problems<'a> {
    definition: &'a Definition,
    found: Vec<Problem>,
}

impl Problems<'_> {
    fn add(
        &mut self,
        node: Option<NodeId>,
        field: &str,
        code: &str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.found.len() < MAX_PROBLEMS {
            let step = node
                .and_then(|node| self.definition.step(node))
                .map(|step| step.name.clone());
            self.found.push(Problem {
                code: code.to_owned(),
                message: message.into(),
                remedy: remedy.into(),
                step,
                field: field.to_owned(),
            });
        }
    }
}

/// Everything that is wrong with `definition`, at most [`MAX_PROBLEMS`].
pub fn validate(definition: &Definition) -> Result<(), Vec<Problem>> {
    validate_nested(definition, 0)
}

fn validate_nested(definition: &Definition, level: usize) -> Result<(), Vec<Problem>> {
    let mut problems = Problems {
        definition,
        found: Vec::new(),
    };
    if definition.format > FORMAT {
        let message = format!(
            "the definition has format {}, this program knows {FORMAT}",
            definition.format
        );
        problems.add(
            None,
            "format",
            "newer_format",
            message,
            "upgrade the coordinators",
        );
        return Err(problems.found);
    }
    if level == 0 {
        let bytes = serde_json::to_vec(definition).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_BYTES {
            let message =
                format!("the definition has {bytes} bytes, at most {MAX_BYTES} are allowed");
            problems.add(
                None,
                "",
                "too_large",
                message,
                "move scripts and data into files of the bundle",
            );
            return Err(problems.found);
        }
    }
    if level > MAX_WORKFLOWS {
        let message = format!("workflows nested deeper than {MAX_WORKFLOWS} levels");
        problems.add(None, "", "too_deep", message, "");
        return Err(problems.found);
    }
    if !is_name(&definition.name) {
        let message = format!("{:?} is no workflow name", definition.name);
        problems.add(None, "name", "bad_name", message, NAME_RULE);
    }
    // Everything below walks the tree, and may rely on there being one.
    if !tree::check(&mut problems) {
        return Err(problems.found);
    }
    nodes::check(&mut problems, level);
    references::check(&mut problems);
    if problems.found.is_empty() {
        Ok(())
    } else {
        Err(problems.found)
    }
}

const NAME_RULE: &str = "use 1 to 64 letters, digits, `_` or `-`, beginning with a letter or `_`";
