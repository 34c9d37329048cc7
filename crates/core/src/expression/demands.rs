//! What a condition on agents demands at least: simple tests that somebody else can make, who knows
//! agents by their attributes and nothing of expressions.
//!
//! Demands only ever leave agents out on which the condition cannot hold. What cannot be said so
//! simply is not demanded.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::compiled::{chain, parse};
use super::{Expression, ExpressionError};

/// Most alternatives, and most tests in one.
const ALTERNATIVES: usize = 16;
const TESTS: usize = 8;
/// Longest text to compare with, in bytes.
const TEXT_BYTES: usize = 256;

/// A test of an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Demand {
    /// It has this attribute.
    Has {
        /// The attribute.
        attribute: String,
    },
    /// It has this attribute, which is this text, if it is text at all.
    Is {
        /// The attribute.
        attribute: String,
        /// The text.
        text: String,
    },
    /// It has this attribute, which begins, goes on and ends with these texts, in this order, if it
    /// is text at all.
    Like {
        /// The attribute.
        attribute: String,
        /// What it begins with; empty: anything.
        prefix: String,
        /// What is in it; empty: anything.
        part: String,
        /// What it ends with; empty: anything.
        suffix: String,
    },
    /// Its host has this name.
    Host {
        /// The name.
        name: String,
    },
}

/// Alternatives, in each of which all tests must hold. None: anything may do.
pub type Demands = Option<Vec<Vec<Demand>>>;

impl Expression {
    /// What an agent must be at least for this to hold, as a condition on agents (`attributes`,
    /// `hostname`, …).
    ///
    /// # Errors
    /// It is no expression.
    pub fn demands(&self) -> Result<Demands, ExpressionError> {
        parse(&self.0).map(|expr| demands(&expr))
    }
}

fn demands(expr: &IdedExpr) -> Demands {
    match &expr.expr {
        Expr::Select(select) if select.test => match chain(&select.operand)? {
            (root, path) if is_root(root, "attributes") && path.is_empty() => has(&select.field),
            _ => None,
        },
        Expr::Call(call) => match (&*call.func_name, &call.args[..]) {
            (operators::LOGICAL_AND, [a, b]) => both(demands(a), demands(b)),
            (operators::LOGICAL_OR, [a, b]) => either(demands(a)?, demands(b)?),
            (operators::EQUALS, [a, b]) => {
                equal(a, b).or_else(|| equal(b, a)).or_else(|| read(call))
            }
            (operators::IN, [value, list]) => one_of(value, list).or_else(|| read(call)),
            (
                operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS,
                [_, _],
            ) => read(call),
            (method, [argument]) => like(method, call, argument).or_else(|| read(call)),
            _ => None,
        },
        _ => None,
    }
}

/// Whatever else it does, a comparison that reads an attribute fails on agents that lack it.
fn read(call: &CallExpr) -> Demands {
    let operands = call.target.iter().map(|target| &**target).chain(&call.args);
    operands
        .filter_map(attribute)
        .map(|name| has(&name))
        .reduce(both)
        .flatten()
}

fn has(attribute: &str) -> Demands {
    let attribute = attribute.to_owned();
    Some(vec![vec![Demand::Has { attribute }]])
}

fn equal(what: &IdedExpr, value: &IdedExpr) -> Demands {
    let text = literal(value)?;
    if let Some(attribute) = attribute(what) {
        return Some(vec![vec![Demand::Is { attribute, text }]]);
    }
    match &what.expr {
        Expr::Ident(root) if is_root(root, "hostname") => {
            Some(vec![vec![Demand::Host { name: text }]])
        }
        _ => None,
    }
}

fn one_of(value: &IdedExpr, list: &IdedExpr) -> Demands {
    let Expr::List(list) = &list.expr else {
        return None;
    };
    list.elements
        .iter()
        .map(|element| equal(value, element))
        .reduce(|a, b| either(a?, b?))
        .flatten()
}

fn like(method: &str, call: &CallExpr, argument: &IdedExpr) -> Demands {
    let attribute = attribute(call.target.as_deref()?)?;
    let text = literal(argument)?;
    let (mut prefix, mut part, mut suffix) = Default::default();
    match method {
        "startsWith" => prefix = text,
        "contains" => part = text,
        "endsWith" => suffix = text,
        _ => return None,
    }
    Some(vec![vec![Demand::Like {
        attribute,
        prefix,
        part,
        suffix,
    }]])
}

/// Both must hold. If that were too much to say, the first has to do.
fn both(a: Demands, b: Demands) -> Demands {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (one, other) => return one.or(other),
    };
    let fits = a.len() * b.len() <= ALTERNATIVES
        && a.iter().chain(&b).map(Vec::len).max().unwrap_or(0) * 2 <= TESTS;
    if !fits {
        return Some(a);
    }
    let mut all = Vec::with_capacity(a.len() * b.len());
    for a in &a {
        for b in &b {
            let mut tests = a.clone();
            tests.extend(b.iter().filter(|test| !a.contains(test)).cloned());
            all.push(tests);
        }
    }
    Some(all)
}

fn either(mut a: Vec<Vec<Demand>>, b: Vec<Vec<Demand>>) -> Demands {
    a.extend(b);
    a.sort();
    a.dedup();
    (a.len() <= ALTERNATIVES).then_some(a)
}

/// The attribute that `expr` is, if it is one.
fn attribute(expr: &IdedExpr) -> Option<String> {
    match chain(expr)? {
        (root, mut path) if is_root(root, "attributes") && path.len() == 1 => path.pop(),
        _ => None,
    }
}

fn literal(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => {
            Some(text.inner().to_owned()).filter(|text| text.len() <= TEXT_BYTES)
        }
        _ => None,
    }
}

fn is_root(ident: &str, root: &str) -> bool {
    ident.trim_start_matches('.') == root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(source: &str) -> Demands {
        Expression(source.to_owned()).demands().unwrap()
    }

    fn is(attribute: &str, text: &str) -> Demand {
        Demand::Is {
            attribute: attribute.to_owned(),
            text: text.to_owned(),
        }
    }

    fn has(attribute: &str) -> Demand {
        Demand::Has {
            attribute: attribute.to_owned(),
        }
    }

    #[test]
    fn equality_presence_and_their_combinations_are_demanded() {
        assert_eq!(
            of("attributes.disk == 'ssd'"),
            Some(vec![vec![is("disk", "ssd")]])
        );
        assert_eq!(
            of("'ssd' == attributes['disk']"),
            Some(vec![vec![is("disk", "ssd")]])
        );
        assert_eq!(
            of("attributes.disk == 'ssd' && has(attributes.gpu)"),
            Some(vec![vec![is("disk", "ssd"), has("gpu")]])
        );
        assert_eq!(
            of("attributes.rack in ['a', 'b']"),
            Some(vec![vec![is("rack", "a")], vec![is("rack", "b")]])
        );
        assert_eq!(
            of("hostname == 'h' || attributes.spark > 3.2"),
            Some(vec![
                vec![has("spark")],
                vec![Demand::Host {
                    name: "h".to_owned()
                }]
            ])
        );
    }

    #[test]
    fn what_cannot_be_said_is_not_demanded() {
        for source in [
            "true",
            "!has(attributes.slow)",
            "zone == 'a'",
            "attributes.disk == 'ssd' || zone == 'a'",
            "attributes.exists(name, name == 'x')",
        ] {
            assert_eq!(of(source), None, "{source}");
        }
        assert_eq!(
            of("zone == 'a' && attributes.disk == 'ssd'"),
            Some(vec![vec![is("disk", "ssd")]]),
            "the rest is"
        );
    }

    #[test]
    fn alternatives_do_not_multiply_without_end() {
        let side = |name: &str| {
            (0..5)
                .map(|n| format!("attributes.{name} == '{n}'"))
                .collect::<Vec<_>>()
                .join(" || ")
        };
        let source = format!("({}) && ({})", side("a"), side("b"));
        assert_eq!(of(&source).unwrap().len(), 5, "the first factor has to do");
        let many = (0..20)
            .map(|n| format!("'{n}'"))
            .collect::<Vec<_>>()
            .join(", ");
        assert_eq!(
            of(&format!("attributes.rack in [{many}]")),
            Some(vec![vec![has("rack")]])
        );
    }
}
