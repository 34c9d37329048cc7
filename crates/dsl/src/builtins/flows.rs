//! The verbs: `sequence`, `parallel`, `for_each`, `when`, `repeat`.

use meson_core::definition::{Items, Join};
use meson_core::expression::Expression;
use starlark::codemap::FileSpan;
use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::tuple::UnpackTuple;
use starlark::values::{Value, ValueLike as _};

use super::site;
use crate::arguments::{Arguments, bare, check_name, expression, json, list, number};
use crate::fault::{Fault, Focus, locate};
use crate::flow::{Child, Flow, Kind};
use crate::session::context;
use crate::values::{FlowValue, ParamValue, ReferenceValue, child, describe, not_a_flow};

pub(super) const FOR_EACH: &[&str] = &["over", "do", "max_parallel", "tolerate"];
pub(super) const WHEN: &[&str] = &["cond", "then", "otherwise"];
pub(super) const REPEAT: &[&str] = &["do", "until", "max_rounds"];

/// Rounds of a repeat that does not say how many.
pub(crate) const DEFAULT_ROUNDS: u32 = 10;

fn place(eval: &Evaluator<'_, '_, '_>, focus: &Focus) -> Result<FileSpan, Fault> {
    Ok(locate(context(eval)?.session, &site(eval), focus))
}

/// The parts of `sequence(...)` and `parallel(...)`, each with its place.
fn parts<'v>(values: &[Value<'v>], eval: &Evaluator<'v, '_, '_>) -> Result<Vec<Child>, Fault> {
    values
        .iter()
        .enumerate()
        .map(|(n, value)| {
            let focus = Focus::Position(n);
            child(*value, Some(place(eval, &focus)?)).ok_or_else(|| not_a_flow(*value).on(focus))
        })
        .collect()
}

fn body<'v>(
    args: &Arguments<'v>,
    name: &str,
    eval: &Evaluator<'v, '_, '_>,
) -> Result<Child, Fault> {
    let value = args.required(name)?;
    let at = place(eval, &Focus::Argument(name.to_owned()))?;
    child(value, Some(at)).ok_or_else(|| not_a_flow(value).arg(name))
}

fn condition<'v>(args: &Arguments<'v>, name: &str) -> Result<String, Fault> {
    let value = args.required(name)?;
    expression(value)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| {
            Fault::new(
                "type",
                format!(
                    "`{name}` is an expression or a step's output, not {}",
                    describe(value)
                ),
            )
            .help(format!(
                "write {name} = \"check.ok && check.rmse < 0.9\" or {name} = check.ok"
            ))
            .arg(name)
        })
}

/// The lists of a loop's variables.
fn grid<'v>(args: &Arguments<'v>) -> Result<Vec<(String, Items)>, Fault> {
    let value = args.required("over")?;
    let entries = args.dict("over", value)?;
    if entries.is_empty() {
        return Err(Fault::new("value", "`over` has no variable")
            .help("write over = {\"region\": wrangle.regions} or over = {\"x\": [1, 2, 3]}")
            .arg("over"));
    }
    let mut grid = Vec::new();
    for (name, value) in entries {
        check_name("loop variable", &name)
            .map_err(|fault| fault.on(Focus::Text(format!("\"{name}\""))))?;
        let items = if let Some(items) = list(value) {
            literal(&name, &items)?
        } else if value.get_type() == "range" {
            let items = json_range(value);
            Items::Literal(items)
        } else if value.downcast_ref::<ReferenceValue>().is_some()
            || value.downcast_ref::<ParamValue>().is_some()
        {
            Items::Computed(Expression(expression(value).unwrap_or_default()))
        } else if let Some(text) = value.unpack_str().filter(|text| bare(text) != text.trim()) {
            Items::Computed(Expression(bare(text).to_owned()))
        } else {
            return Err(Fault::new("type", format!("`{name}` runs over a list or a step's output, not {}", describe(value)))
                .help(format!("write over = {{\"{name}\": [1, 2, 3]}}, {{\"{name}\": step.output}} or {{\"{name}\": \"${{{{ expression }}}}\"}}"))
                .on(Focus::Text(format!("\"{name}\""))));
        };
        grid.push((name, items));
    }
    Ok(grid)
}

fn literal(name: &str, items: &[Value<'_>]) -> Result<Items, Fault> {
    let items = items.iter().map(|item| {
        json(*item).ok_or_else(|| {
            Fault::new(
                "type",
                format!(
                    "a list of `{name}` that is written out holds plain data, not {}",
                    describe(*item)
                ),
            )
            .help("use numbers, texts, lists and dicts, or one output that is a list")
            .arg("over")
        })
    });
    Ok(Items::Literal(items.collect::<Result<_, _>>()?))
}

fn json_range(value: Value<'_>) -> Vec<serde_json::Value> {
    // A range prints as range(from, to, step); its elements are whole numbers.
    let text = value.to_str();
    let inner = text.trim_start_matches("range(").trim_end_matches(')');
    let numbers: Vec<i64> = inner
        .split(',')
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let (from, to, step) = match numbers[..] {
        [to] => (0, to, 1),
        [from, to] => (from, to, 1),
        [from, to, step] => (from, to, step),
        _ => return Vec::new(),
    };
    let mut items = Vec::new();
    let mut at = from;
    while (step > 0 && at < to) || (step < 0 && at > to) {
        items.push(serde_json::Value::from(at));
        at = at.saturating_add(step);
    }
    items
}

fn share(args: &Arguments<'_>) -> Result<f64, Fault> {
    let Some(value) = args.take("tolerate") else {
        return Ok(0.0);
    };
    let share = match value.unpack_str() {
        Some(text) => text
            .trim()
            .strip_suffix('%')
            .and_then(|n| n.trim().parse::<f64>().ok())
            .map(|n| n / 100.0),
        None => number(value),
    };
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| {
            Fault::new(
                "value",
                format!("`tolerate` is a share from 0 to 1, not {}", describe(value)),
            )
            .help("write tolerate = 0.1 or tolerate = \"10%\"")
            .arg("tolerate")
        })
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// One after the other, like `>>`.
    fn sequence<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<FlowValue> {
        Ok(FlowValue(Flow::sequence(&parts(&positional.items, eval)?)?))
    }

    /// All at once, like `|`.
    fn parallel<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        join: Option<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<FlowValue> {
        let join = match join.map(|join| (join, join.unpack_str())) {
            None | Some((_, Some("all"))) => Join::All,
            Some((_, Some("any"))) => Join::Any,
            Some((join, _)) => {
                return Err(Fault::new(
                    "value",
                    format!("`join` is \"all\" or \"any\", not {}", describe(join)),
                )
                .help("\"all\" waits for every branch, \"any\" for the first that succeeds")
                .arg("join")
                .into());
            }
        };
        let parts = parts(&positional.items, eval)?;
        if parts.is_empty() {
            return Err(Fault::new("arguments", "parallel() has no branch")
                .help("write parallel(a, b)")
                .into());
        }
        Ok(FlowValue(Flow::parallel(&parts, join)?))
    }

    /// Once per item of a list, or per point of a grid.
    fn for_each<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<FlowValue> {
        let args = Arguments::new("for_each", FOR_EACH, &positional.items, named, 2)?;
        let over = grid(&args)?;
        let body = body(&args, "do", eval)?;
        let kind = Kind::ForEach {
            over,
            body: body.clone(),
            max_parallel: args.count("max_parallel", 1)?,
            tolerate: share(&args)?,
            site: site(eval),
        };
        Ok(FlowValue(Flow::verb(kind, &[&body])?))
    }

    /// One way or the other.
    fn when<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<FlowValue> {
        let args = Arguments::new("when", WHEN, &positional.items, named, 3)?;
        let cond = condition(&args, "cond")?;
        let then = body(&args, "then", eval)?;
        let otherwise = args
            .take("otherwise")
            .is_some()
            .then(|| body(&args, "otherwise", eval))
            .transpose()?;
        let mut parts = vec![&then];
        parts.extend(&otherwise);
        let kind = Kind::When {
            cond,
            then: then.clone(),
            otherwise: otherwise.clone(),
            site: site(eval),
        };
        Ok(FlowValue(Flow::verb(kind, &parts)?))
    }

    /// Again and again until a condition holds.
    fn repeat<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<FlowValue> {
        let args = Arguments::new("repeat", REPEAT, &positional.items, named, 2)?;
        let body = body(&args, "do", eval)?;
        let until = condition(&args, "until")?;
        let max_rounds = args.count("max_rounds", 1)?.unwrap_or(DEFAULT_ROUNDS);
        let kind = Kind::Repeat {
            body: body.clone(),
            until,
            max_rounds,
            site: site(eval),
        };
        Ok(FlowValue(Flow::verb(kind, &[&body])?))
    }
}
