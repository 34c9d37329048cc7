//! Operators and `range`, with a limit on what one of them may ask of memory. Starlark's
//! own limit on its heap is only looked at now and then, too late for `"x" * 1000000000`.

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::list::ListRef;
use starlark::values::tuple::{TupleRef, UnpackTuple};
use starlark::values::{UnpackValue as _, Value};

use crate::fault::{Fault, Focus};
use crate::flow::{Child, Flow};
use crate::session::context;
use crate::values::{FlowValue, child, not_a_flow};

/// Text length or number of elements of what `*` and `+` make longer.
fn length(value: Value<'_>) -> Option<(usize, bool)> {
    if let Some(text) = value.unpack_str() {
        return Some((text.len(), true));
    }
    ListRef::from_value(value)
        .map(|list| list.content().len())
        .or_else(|| TupleRef::from_value(value).map(|tuple| tuple.content().len()))
        .map(|len| (len, false))
}

fn check(eval: &Evaluator<'_, '_, '_>, len: usize, text: bool) -> Result<(), Fault> {
    let limits = &context(eval)?.session.options.limits;
    let (limit, what) = if text {
        (limits.text_bytes, "bytes of text")
    } else {
        (limits.elements, "elements")
    };
    if len > limit {
        return Err(Fault::new(
            "memory",
            format!("this makes {len} {what}; at most {limit} are allowed"),
        )
        .help(
            "a workflow file only describes the steps; large data belongs into a step's output",
        ));
    }
    Ok(())
}

fn operands<'v>(
    left: Value<'v>,
    right: Value<'v>,
    eval: &Evaluator<'v, '_, '_>,
) -> Result<Option<(Child, Child)>, Fault> {
    if child(left, None).is_none() && child(right, None).is_none() {
        return Ok(None);
    }
    let place = eval.call_stack_top_location();
    let (mut at_left, mut at_right) = (None, None);
    if let Some(place) = place {
        let index = context(eval)?.session.index(place.filename());
        if let Some((left, right)) = index.and_then(|index| index.operands(place.span)) {
            let at = |span| starlark::codemap::FileSpan {
                file: place.file.clone(),
                span,
            };
            (at_left, at_right) = (Some(at(left)), Some(at(right)));
        }
    }
    let part = |value: Value<'v>, at: Option<starlark::codemap::FileSpan>| {
        child(value, at.clone()).ok_or_else(|| {
            let fault = not_a_flow(value);
            match at {
                Some(at) => fault.on(Focus::Place(at)),
                None => fault,
            }
        })
    };
    Ok(Some((part(left, at_left)?, part(right, at_right)?)))
}

fn number(value: Value<'_>) -> Option<i64> {
    i64::unpack_value(value).ok().flatten()
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    fn __meson_then<'v>(
        #[starlark(require = pos)] left: Value<'v>,
        #[starlark(require = pos)] right: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        match operands(left, right, eval)? {
            Some((left, right)) => Ok(eval.heap().alloc(FlowValue(Flow::then(&left, &right)?))),
            None => left.right_shift(right, eval.heap()),
        }
    }

    fn __meson_or<'v>(
        #[starlark(require = pos)] left: Value<'v>,
        #[starlark(require = pos)] right: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        match operands(left, right, eval)? {
            Some((left, right)) => Ok(eval.heap().alloc(FlowValue(Flow::beside(&left, &right)?))),
            None => left.bit_or(right, eval.heap()),
        }
    }

    fn __meson_add<'v>(
        #[starlark(require = pos)] left: Value<'v>,
        #[starlark(require = pos)] right: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        if let (Some((a, text)), Some((b, _))) = (length(left), length(right)) {
            check(eval, a.saturating_add(b), text)?;
        }
        left.add(right, eval.heap())
    }

    fn __meson_mul<'v>(
        #[starlark(require = pos)] left: Value<'v>,
        #[starlark(require = pos)] right: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        for (long, times) in [(left, right), (right, left)] {
            if let (Some((len, text)), Some(times)) = (length(long), number(times)) {
                check(
                    eval,
                    len.saturating_mul(usize::try_from(times).unwrap_or(0)),
                    text,
                )?;
            }
        }
        left.mul(right, eval.heap())
    }

    fn __meson_shl<'v>(
        #[starlark(require = pos)] left: Value<'v>,
        #[starlark(require = pos)] right: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        if number(right).is_none_or(|bits| bits > 1024) {
            check(eval, usize::MAX, true)?;
        }
        left.left_shift(right, eval.heap())
    }

    /// Whole numbers in order: `range(stop)`, `range(start, stop)`, `range(start, stop, step)`.
    fn range<'v>(
        #[starlark(args)] args: UnpackTuple<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let numbers: Vec<i64> = args.items.iter().filter_map(|arg| number(*arg)).collect();
        let (from, to, step) = match numbers[..] {
            [to] => (0, to, 1),
            [from, to] => (from, to, 1),
            [from, to, step] => (from, to, step),
            _ => (0, 0, 1),
        };
        if step != 0 {
            let span = if step > 0 {
                to.saturating_sub(from)
            } else {
                from.saturating_sub(to)
            };
            let len = span.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
            check(eval, usize::try_from(len).unwrap_or(usize::MAX), false)?;
        }
        let session = context(eval)?.session;
        let original = session
            .globals
            .iter()
            .find(|(name, _)| *name == "__meson_range")
            .map(|(_, value)| value);
        let Some(original) = original else {
            return Err(Fault::new("evaluation", "range() is missing").into());
        };
        eval.eval_function(original.to_value(), &args.items, &[])
    }

    /// Ends evaluation with `message` about an argument of the caller's call, for step functions.
    fn fail_at<'v>(
        #[starlark(require = pos)] argument: &str,
        #[starlark(require = pos)] message: &str,
        help: Option<&str>,
    ) -> starlark::Result<Value<'v>> {
        Err(Fault::new("type", message)
            .maybe_help(help.map(str::to_owned))
            .arg(argument)
            .into())
    }

    /// A file of the workflow's folder that has to travel to the agents; returns its path there.
    fn file<'v>(
        #[starlark(require = pos)] path: Value<'v>,
        argument: Option<&str>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let argument = argument.unwrap_or("path");
        let Some(path) = path.unpack_str() else {
            return Err(Fault::new(
                "type",
                format!(
                    "`{argument}` is the path of a file, not {}",
                    crate::values::describe(path)
                ),
            )
            .arg(argument)
            .into());
        };
        Ok(super::steps::bundle_file(eval, path, argument)?)
    }
}
