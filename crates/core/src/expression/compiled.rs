//! An expression parsed, checked and made ready to run.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::Value;

use super::error::{EvalError, ExpressionError};
use super::{eval, instrument, scan};

/// A parsed expression: cheap to evaluate again and again.
#[derive(Debug, Clone)]
pub struct Compiled {
    source: Box<str>,
    expr: IdedExpr,
    references: Vec<Reference>,
}

/// What an expression reads: `wrangle.regions[0]` is the root `wrangle` and the path `regions`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// The variable.
    pub root: String,
    /// Fields below it, as far as they are constant.
    pub path: Vec<String>,
    /// Whether only its presence is asked, as in `has(a.b)`.
    pub test: bool,
}

/// Stack for parsing the deepest expression that is allowed, with much to spare.
const PARSER_STACK_BYTES: usize = 16 << 20;

impl Compiled {
    pub(super) fn new(source: &str) -> Result<Self, ExpressionError> {
        let expr = parse(source)?;
        let mut references = Vec::new();
        collect(&expr, &mut Vec::new(), &mut references);
        let expr = instrument::instrument(expr)?;
        Ok(Self {
            source: source.trim().into(),
            expr,
            references,
        })
    }

    /// The source, without the blanks around it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it reads, in order of appearance, each once.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    pub(super) fn expr(&self) -> &IdedExpr {
        &self.expr
    }

    /// Its value, over the roots that the object `context` holds.
    pub fn evaluate(&self, context: &Value) -> Result<Value, EvalError> {
        eval::evaluate(self, context)
    }

    /// Whether it is true; a value that is no bool is an error.
    pub fn holds(&self, context: &Value) -> Result<bool, EvalError> {
        let value = self.evaluate(context)?;
        value
            .as_bool()
            .ok_or_else(|| self.wrong_type(&value, "true or false"))
    }

    /// Its value, which must be a list.
    pub fn list(&self, context: &Value) -> Result<Vec<Value>, EvalError> {
        match self.evaluate(context)? {
            Value::Array(items) => Ok(items),
            other => Err(self.wrong_type(&other, "a list")),
        }
    }

    fn wrong_type(&self, value: &Value, wanted: &'static str) -> EvalError {
        let got = match value {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        EvalError::WrongType {
            expression: self.source.to_string(),
            got,
            wanted,
        }
    }
}

/// Checks and parses a source.
pub(super) fn parse(source: &str) -> Result<IdedExpr, ExpressionError> {
    scan::check(source)?;
    let syntax = |reason: String, column: usize| ExpressionError::Syntax {
        source_text: source.trim().to_owned(),
        reason,
        column,
    };
    if source.trim().is_empty() {
        return Err(syntax("it is empty".to_owned(), 1));
    }
    // The parser recurses with frames of many kilobytes, larger still when it is optimized.
    let parse = || eval::environment().parser().parse(source);
    stacker::maybe_grow(PARSER_STACK_BYTES, PARSER_STACK_BYTES, parse).map_err(|errors| {
        errors.errors.first().map_or_else(
            || syntax("it is no expression".to_owned(), 1),
            |error| {
                let column = usize::try_from(error.pos.1).unwrap_or(1).max(1);
                if is_single_equals(source, column) {
                    return syntax("`=` compares nothing: write `==`".to_owned(), column);
                }
                syntax(error.msg.clone(), column)
            },
        )
    })
}

/// Whether a lone `=` stands there, as many would write a comparison. Columns count from 1 or, in
/// some of the parser's complaints, from 0.
fn is_single_equals(source: &str, column: usize) -> bool {
    let at = |index: usize| source.chars().nth(index);
    [column - 1, column].into_iter().any(|index| {
        let before = index.checked_sub(1).and_then(at);
        at(index) == Some('=')
            && at(index + 1) != Some('=')
            && !before.is_some_and(|before| "=!<>".contains(before))
    })
}

/// The root and constant fields that `expr` selects, if it selects some.
pub(super) fn chain(expr: &IdedExpr) -> Option<(&str, Vec<String>)> {
    match &expr.expr {
        Expr::Ident(root) => Some((root, Vec::new())),
        Expr::Select(select) if !select.test => {
            let (root, mut path) = chain(&select.operand)?;
            path.push(select.field.clone());
            Some((root, path))
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [operand, index] = &call.args[..] else {
                return None;
            };
            let Expr::Literal(LiteralValue::String(field)) = &index.expr else {
                return None;
            };
            let (root, mut path) = chain(operand)?;
            path.push(field.inner().to_owned());
            Some((root, path))
        }
        _ => None,
    }
}

fn collect(expr: &IdedExpr, bound: &mut Vec<String>, found: &mut Vec<Reference>) {
    let mut note = |root: &str, path: Vec<String>, test: bool, bound: &[String]| {
        let reference = Reference {
            root: root.trim_start_matches('.').to_owned(),
            path,
            test,
        };
        if !bound.contains(&reference.root) && !found.contains(&reference) {
            found.push(reference);
        }
    };
    if let Some((root, path)) = chain(expr) {
        note(root, path, false, bound);
        return;
    }
    match &expr.expr {
        Expr::Select(select) => match chain(&select.operand) {
            Some((root, mut path)) if select.test => {
                path.push(select.field.clone());
                note(root, path, true, bound);
            }
            _ => collect(&select.operand, bound, found),
        },
        Expr::Call(call) => {
            for part in call.target.iter().map(|target| &**target).chain(&call.args) {
                collect(part, bound, found);
            }
        }
        Expr::Comprehension(comprehension) => {
            collect(&comprehension.iter_range, bound, found);
            collect(&comprehension.accu_init, bound, found);
            let outer = bound.len();
            bound.push(comprehension.accu_var.clone());
            bound.push(comprehension.iter_var.clone());
            bound.extend(comprehension.iter_var2.clone());
            for part in [
                &comprehension.loop_cond,
                &comprehension.loop_step,
                &comprehension.result,
            ] {
                collect(part, bound, found);
            }
            bound.truncate(outer);
        }
        Expr::List(list) => list
            .elements
            .iter()
            .for_each(|element| collect(element, bound, found)),
        Expr::Map(map) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    collect(&entry.key, bound, found);
                    collect(&entry.value, bound, found);
                }
            }
        }
        Expr::Struct(_) | Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified => {}
    }
}
