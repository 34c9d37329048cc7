//! Rewrites a parsed expression so that it pays for what it does, and so that whole
//! numbers and fractions mix.
//!
//! * The range of a comprehension goes through [`ITERATE`]: it pays for the iterations, and
//!   a map becomes its sorted keys (a map's own order is random, and evaluation is not).
//! * Operands of operations over whole values go through [`WEIGH`]: they pay for their size.
//! * Arithmetic goes to our own operators, which turn `1 * 0.5` into `1.0 * 0.5` where CEL
//!   sees two types and refuses: JSON knows one kind of number, and R writes `1` for `1.0`.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators,
};
use cel::common::types::CelInt;

use super::error::ExpressionError;

/// The variable that holds the evaluation's [`Fuel`](super::eval::Fuel).
pub(super) const FUEL: &str = "@fuel";
/// `(fuel, price, range) -> range`.
pub(super) const ITERATE: &str = "@iterate";
/// `(fuel, value) -> value`.
pub(super) const WEIGH: &str = "@weigh";
/// `(fuel, text, pattern) -> text`.
pub(super) const MATCH: &str = "@match";
/// `(fuel, a, b) -> a + b`, and so on.
pub(super) const ARITHMETIC: [(&str, &str); 4] = [
    (operators::ADD, "@add"),
    (operators::SUBSTRACT, "@subtract"),
    (operators::MULTIPLY, "@multiply"),
    (operators::DIVIDE, "@divide"),
];

const FUNCTIONS: [&str; 19] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
    "hasValue",
    "value",
    "or",
    "orValue",
    "of",
    "none",
];

pub(super) fn instrument(expr: IdedExpr) -> Result<IdedExpr, ExpressionError> {
    let IdedExpr { id, expr } = expr;
    let expr = match expr {
        Expr::Call(call) => self::call(call)?,
        Expr::Comprehension(comprehension) => {
            Expr::Comprehension(Box::new(self::comprehension(*comprehension)?))
        }
        Expr::List(mut list) => {
            list.elements = list
                .elements
                .into_iter()
                .map(instrument)
                .collect::<Result<_, _>>()?;
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    entry.key = instrument(std::mem::take(&mut entry.key))?;
                    entry.value = instrument(std::mem::take(&mut entry.value))?;
                }
            }
            Expr::Map(map)
        }
        Expr::Select(mut select) => {
            select.operand = Box::new(instrument(*select.operand)?);
            Expr::Select(select)
        }
        Expr::Struct(message) => {
            return Err(ExpressionError::Unavailable {
                what: format!("{} {{ … }}", message.type_name),
                remedy: ": write a map, {'key': value}",
            });
        }
        other @ (Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified) => other,
    };
    Ok(IdedExpr { id, expr })
}

fn call(mut call: CallExpr) -> Result<Expr, ExpressionError> {
    // `@result + [x]` is how `map` and `filter` collect; the interpreter does that in place
    // as long as it recognises it, and the iterations have paid for it.
    let collects = call
        .args
        .first()
        .is_some_and(|arg| matches!(&arg.expr, Expr::Ident(name) if name.starts_with('@')));
    let operator = call.func_name.starts_with(['_', '!', '@', '-']);
    if !operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
        return Err(ExpressionError::Unavailable {
            what: format!("{}()", call.func_name),
            remedy: ": there are size, contains, startsWith, endsWith, matches, string, int, uint, double, bool, bytes, type, has, all, exists, exists_one, map, filter",
        });
    }
    call.args = call
        .args
        .into_iter()
        .map(instrument)
        .collect::<Result<_, _>>()?;
    call.target = call
        .target
        .map(|target| instrument(*target).map(Box::new))
        .transpose()?;

    if let Some((_, own)) = ARITHMETIC
        .iter()
        .find(|(name, _)| *name == call.func_name && !collects)
    {
        let mut args = vec![ident(FUEL)];
        args.append(&mut call.args);
        return Ok(Expr::Call(CallExpr {
            func_name: (*own).to_owned(),
            target: None,
            args,
        }));
    }
    match call.func_name.as_str() {
        // These look at one value, or at none as a whole.
        operators::CONDITIONAL
        | operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::NOT_STRICTLY_FALSE
        | operators::INDEX
        | operators::OPT_INDEX
        | operators::OPT_SELECT
        | operators::NEGATE
        | operators::ADD
        | operators::MODULO => {}
        "matches" => {
            let (text, pattern) = match (&mut call.target, &mut call.args[..]) {
                (Some(text), [pattern]) => (&mut **text, pattern),
                (None, [text, pattern]) => (text, pattern),
                _ => return Ok(Expr::Call(call)),
            };
            let charged = vec![ident(FUEL), std::mem::take(text), pattern.clone()];
            *text = node(Expr::Call(CallExpr {
                func_name: MATCH.to_owned(),
                target: None,
                args: charged,
            }));
        }
        _ => {
            let namespace = call
                .target
                .as_ref()
                .is_some_and(|t| matches!(&t.expr, Expr::Ident(n) if n == "optional"));
            if !namespace {
                call.target = call.target.map(|target| Box::new(weigh(*target)));
            }
            call.args = call.args.into_iter().map(weigh).collect();
        }
    }
    Ok(Expr::Call(call))
}

fn comprehension(mut c: ComprehensionExpr) -> Result<ComprehensionExpr, ExpressionError> {
    let body = nodes(&c.loop_cond) + nodes(&c.loop_step);
    let price = node(Expr::Literal(LiteralValue::Int(CelInt::from(i64::from(
        body,
    )))));
    let range = instrument(std::mem::take(&mut c.iter_range))?;
    c.iter_range = node(Expr::Call(CallExpr {
        func_name: ITERATE.to_owned(),
        target: None,
        args: vec![ident(FUEL), price, range],
    }));
    for part in [
        &mut c.accu_init,
        &mut c.loop_cond,
        &mut c.loop_step,
        &mut c.result,
    ] {
        *part = instrument(std::mem::take(part))?;
    }
    Ok(c)
}

/// How many nodes an expression has, without what is inside of nested comprehensions: those
/// pay for themselves each time they run.
fn nodes(expr: &IdedExpr) -> u32 {
    1 + match &expr.expr {
        Expr::Call(call) => call
            .target
            .iter()
            .map(|t| nodes(t))
            .chain(call.args.iter().map(nodes))
            .sum(),
        Expr::List(list) => list.elements.iter().map(nodes).sum(),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => nodes(&entry.key) + nodes(&entry.value),
                EntryExpr::StructField(field) => nodes(&field.value),
            })
            .sum(),
        Expr::Select(select) => nodes(&select.operand),
        Expr::Comprehension(inner) => nodes(&inner.iter_range),
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => 0,
    }
}

fn weigh(expr: IdedExpr) -> IdedExpr {
    if matches!(expr.expr, Expr::Literal(_)) {
        return expr;
    }
    node(Expr::Call(CallExpr {
        func_name: WEIGH.to_owned(),
        target: None,
        args: vec![ident(FUEL), expr],
    }))
}

fn ident(name: &str) -> IdedExpr {
    node(Expr::Ident(name.to_owned()))
}

fn node(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}
