//! CEL expressions and `${{ … }}` templates: what is left of a workflow for run time.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
