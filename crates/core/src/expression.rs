//! CEL expressions and `${{ … }}` templates: what is left of a workflow for run time.
//!
//! ```text
//!   source ─► [scan] limits ─► cel parser ─► [instrument] fuel, widening ─► Compiled ─► [eval] with a JSON context ─► JSON
//!                                   └─► references: which roots and fields it reads
//! ```
//!
//! There is no clock here, so evaluation is bounded in steps: every comprehension pays for
//! its iterations, and every operation whose price depends on the size of a value pays for
//! that size, out of [`limits::FUEL`]. The same expression over the same context therefore
//! gives the same answer, or the same error, on every machine.

mod compiled;
mod demands;
mod error;
mod eval;
mod instrument;
pub mod limits;
mod scan;
mod template;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::compiled::{Compiled, Reference};
pub use self::demands::{Demand, Demands};
pub use self::error::{EvalError, ExpressionError};
pub use self::template::CompiledTemplate;

use crate::units::Bytes;

/// A CEL expression, kept as its source text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub String);

/// Text with `${{ expression }}` in it, kept as its source text. A shell's own `${VAR}` is plain text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub String);

/// A blob in the artifact store, as outputs carry it: `{"$artifact": {…}}` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// File name that a task sees, without folders.
    pub name: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Size of the stored blob.
    pub bytes: Bytes,
    /// Whether the blob is a packed directory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
}

impl ArtifactRef {
    /// The key that marks an artifact among JSON values.
    pub const KEY: &'static str = "$artifact";

    /// The artifact that `value` stands for, if it stands for one.
    pub fn from_value(value: &Value) -> Option<Self> {
        let object = value.as_object().filter(|o| o.len() == 1)?;
        serde_json::from_value(object.get(Self::KEY)?.clone()).ok()
    }

    /// This artifact as a JSON value.
    pub fn to_value(&self) -> Value {
        serde_json::json!({ Self::KEY: self })
    }
}

/// A template's value: text, with places where an artifact's local path goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResolvedText(pub Vec<Piece>);

/// A piece of a [`ResolvedText`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// As it is.
    Text(String),
    /// Replaced by the local path of this artifact once the agent has it.
    Path(ArtifactRef),
}

impl Expression {
    /// Parses it once, for many evaluations.
    pub fn compile(&self) -> Result<Compiled, ExpressionError> {
        Compiled::new(&self.0)
    }

    /// What it reads, in order of appearance, each once.
    pub fn references(&self) -> Result<Vec<Reference>, ExpressionError> {
        Ok(self.compile()?.references().to_vec())
    }

    /// Its value, over the roots that the object `context` holds.
    pub fn evaluate(&self, context: &Value) -> Result<Value, EvalError> {
        self.compile()?.evaluate(context)
    }

    /// Whether it is true; a value that is no bool is an error.
    pub fn holds(&self, context: &Value) -> Result<bool, EvalError> {
        self.compile()?.holds(context)
    }
}

impl Template {
    /// Parses it once, for many evaluations.
    pub fn compile(&self) -> Result<CompiledTemplate, ExpressionError> {
        CompiledTemplate::new(&self.0)
    }

    /// What its expressions read, in order of appearance, each once.
    pub fn references(&self) -> Result<Vec<Reference>, ExpressionError> {
        Ok(self.compile()?.references())
    }

    /// As text: lists and maps print as compact JSON, artifacts become places for a path.
    pub fn resolve(&self, context: &Value) -> Result<ResolvedText, EvalError> {
        self.compile()?.resolve(context)
    }

    /// As a value: a lone `${{ x }}` keeps its type, everything else is a string.
    pub fn value(&self, context: &Value) -> Result<Value, EvalError> {
        self.compile()?.value(context)
    }

    /// A template that evaluates to `text`, whatever `text` holds.
    pub fn literal(text: &str) -> Self {
        Self(text.replace("${{", "$${{"))
    }
}

impl ResolvedText {
    /// The text, if no artifact's path is part of it.
    pub fn as_text(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}
