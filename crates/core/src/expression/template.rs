//! Text with `${{ expression }}` in it.

use serde_json::Value;

use super::error::{EvalError, ExpressionError};
use super::{ArtifactRef, Compiled, Piece, Reference, ResolvedText, limits, scan};

/// A parsed template.
#[derive(Debug, Clone, Default)]
pub struct CompiledTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Expression(Compiled),
}

const OPEN: &str = "${{";
const ESCAPED: &str = "$${{";

impl CompiledTemplate {
    pub(super) fn new(source: &str) -> Result<Self, ExpressionError> {
        if source.len() > limits::TEMPLATE_BYTES {
            return Err(ExpressionError::TemplateTooLong {
                bytes: source.len(),
            });
        }
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut expressions = 0;
        let mut at = 0;
        while let Some(found) = source[at..].find(OPEN) {
            let open = at + found;
            if source[..open].ends_with('$') && open > at {
                // `$${{` is the text `${{`.
                text.push_str(&source[at..open + OPEN.len() - ESCAPED.len()]);
                text.push_str(OPEN);
                at = open + OPEN.len();
                continue;
            }
            text.push_str(&source[at..open]);
            let begin = open + OPEN.len();
            let length = scan::end_of_expression(&source[begin..])
                .ok_or(ExpressionError::Unterminated { offset: open })?;
            let compiled = Compiled::new(&source[begin..begin + length]).map_err(|error| {
                ExpressionError::At {
                    offset: open,
                    error: Box::new(error),
                }
            })?;
            expressions += 1;
            if expressions > limits::TEMPLATE_EXPRESSIONS {
                return Err(ExpressionError::TooManyExpressions);
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(Part::Expression(compiled));
            at = begin + length + 2;
        }
        text.push_str(&source[at..]);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { parts })
    }

    /// What its expressions read, in order of appearance, each once.
    pub fn references(&self) -> Vec<Reference> {
        let mut all = Vec::new();
        for expression in self.expressions() {
            for reference in expression.references() {
                if !all.contains(reference) {
                    all.push(reference.clone());
                }
            }
        }
        all
    }

    /// Its expressions, in order.
    pub fn expressions(&self) -> impl Iterator<Item = &Compiled> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(compiled) => Some(compiled),
            Part::Text(_) => None,
        })
    }

    /// As text: lists and maps print as compact JSON, artifacts become places for a path.
    pub fn resolve(&self, context: &Value) -> Result<ResolvedText, EvalError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Expression(compiled) => {
                    let value = compiled.evaluate(context)?;
                    if let Some(artifact) = ArtifactRef::from_value(&value) {
                        if !text.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut text)));
                        }
                        pieces.push(Piece::Path(artifact));
                    } else {
                        text.push_str(&print(&value));
                    }
                }
            }
            if text.len() > limits::RESULT_BYTES {
                let last = self
                    .expressions()
                    .last()
                    .map(|last| last.source().to_owned());
                return Err(EvalError::TooLarge {
                    expression: last.unwrap_or_default(),
                });
            }
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(ResolvedText(pieces))
    }

    /// As a value: a lone `${{ x }}` keeps its type, everything else is a string. An artifact
    /// amid other text is an error: a string cannot hold a path that is not known yet.
    pub fn value(&self, context: &Value) -> Result<Value, EvalError> {
        if let [Part::Expression(compiled)] = &self.parts[..] {
            return compiled.evaluate(context);
        }
        let resolved = self.resolve(context)?;
        match resolved.as_text() {
            Some(text) => Ok(Value::String(text.to_owned())),
            None => Err(self.no_path_here()),
        }
    }

    /// As plain text; an artifact in it is an error.
    pub fn text(&self, context: &Value) -> Result<String, EvalError> {
        let resolved = self.resolve(context)?;
        resolved
            .as_text()
            .map(str::to_owned)
            .ok_or_else(|| self.no_path_here())
    }

    fn no_path_here(&self) -> EvalError {
        EvalError::WrongType {
            expression: self
                .expressions()
                .map(Compiled::source)
                .collect::<Vec<_>>()
                .join(" "),
            got: "an artifact, whose path only the agent knows",
            wanted: "plain text",
        }
    }
}

/// A value inside of text.
fn print(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
