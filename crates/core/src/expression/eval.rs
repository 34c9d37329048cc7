//! Evaluation: a JSON context becomes CEL values that borrow from it, and the result JSON again.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional,
    CelString, CelUInt, DYN_TYPE, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Context, Env, ExecutionError};
use serde_json::{Map, Number, Value};

use super::error::EvalError;
use super::{Compiled, instrument, limits};

/// Marks the error of an evaluation that ran out of fuel among CEL's own errors.
const EXHAUSTED: &str = "@exhausted";

/// CEL's standard functions and ours, built once.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Declaring a function fails only if its name is taken, and no standard name begins with `@`.
    let declared = [
        env.add_overload(
            instrument::ITERATE,
            "iterate",
            vec![DYN_TYPE, DYN_TYPE, DYN_TYPE],
            iterate,
        ),
        env.add_overload(instrument::WEIGH, "weigh", vec![DYN_TYPE, DYN_TYPE], weigh),
        env.add_overload(
            instrument::MATCH,
            "match",
            vec![DYN_TYPE, DYN_TYPE, DYN_TYPE],
            charge_match,
        ),
        env.add_overload("@add", "add", vec![DYN_TYPE, DYN_TYPE, DYN_TYPE], add),
        env.add_overload(
            "@subtract",
            "subtract",
            vec![DYN_TYPE, DYN_TYPE, DYN_TYPE],
            subtract,
        ),
        env.add_overload(
            "@multiply",
            "multiply",
            vec![DYN_TYPE, DYN_TYPE, DYN_TYPE],
            multiply,
        ),
        env.add_overload(
            "@divide",
            "divide",
            vec![DYN_TYPE, DYN_TYPE, DYN_TYPE],
            divide,
        ),
    ];
    debug_assert!(declared.iter().all(Result::is_ok));
    Arc::new(env)
});

pub(super) fn environment() -> &'static Arc<Env> {
    &ENVIRONMENT
}

pub(super) fn evaluate(compiled: &Compiled, context: &Value) -> Result<Value, EvalError> {
    let fuel = Fuel(Arc::new(AtomicU64::new(limits::FUEL)));
    let mut cel = Context::with_env(Arc::clone(environment()));
    let mut bound: Vec<&str> = Vec::new();
    for reference in compiled.references() {
        if bound.contains(&reference.root.as_str()) {
            continue;
        }
        bound.push(&reference.root);
        if let Some(value) = context.get(&reference.root) {
            cel.add_variable_as_val(reference.root.as_str(), to_cel(value));
        }
    }
    cel.add_variable_as_val(instrument::FUEL, Box::new(Fuel(Arc::clone(&fuel.0))));

    let expression = || compiled.source().to_owned();
    let result = cel::Value::resolve_val(compiled.expr(), &cel).map_err(|error| match error {
        ExecutionError::FunctionError { function, .. } if function == EXHAUSTED => {
            EvalError::TooExpensive {
                expression: expression(),
            }
        }
        other => EvalError::Failed {
            expression: expression(),
            reason: cut(&reason(&other)),
        },
    })?;
    // `||` and `&&` forgive an error on one side; an empty tank is not forgiven.
    if fuel.0.load(Ordering::Relaxed) == 0 {
        return Err(EvalError::TooExpensive {
            expression: expression(),
        });
    }
    let mut room = limits::RESULT_BYTES;
    to_json(result.as_ref(), &mut room).map_err(|unfit| match unfit {
        Unfit::TooLarge => EvalError::TooLarge {
            expression: expression(),
        },
        Unfit::NoJson(reason) => EvalError::Failed {
            expression: expression(),
            reason: reason.to_owned(),
        },
    })
}

/// CEL's words for people who did not write an interpreter.
fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no `{key}`"),
        ExecutionError::UndeclaredReference(name) => format!("there is no `{name}` here"),
        ExecutionError::UnsupportedBinaryOperator(operator, a, b) => {
            format!("cannot {operator} {} and {}", a.type_of(), b.type_of())
        }
        ExecutionError::ValuesNotComparable(a, b) => {
            format!("cannot compare {} to {}", a.type_of(), b.type_of())
        }
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    let end = text
        .char_indices()
        .map(|(at, _)| at)
        .find(|&at| at >= 500)
        .unwrap_or(text.len());
    text[..end].to_owned()
}

/// Steps that are left, shared by all the functions of one evaluation.
#[derive(Debug)]
pub(super) struct Fuel(Arc<AtomicU64>);

static FUEL_TYPE: Type = Type::new_unspecified_type("fuel");

impl Val for Fuel {
    fn get_type(&self) -> &Type {
        &FUEL_TYPE
    }

    fn cel_type() -> &'static Type {
        &FUEL_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self(Arc::clone(&self.0)))
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Fuel {}

impl Fuel {
    fn charge(&self, price: u64) -> Result<(), ExecutionError> {
        let left = self
            .0
            .load(Ordering::Relaxed)
            .saturating_sub(price.saturating_add(1));
        self.0.store(left, Ordering::Relaxed);
        if left == 0 { Err(exhausted()) } else { Ok(()) }
    }
}

fn exhausted() -> ExecutionError {
    ExecutionError::function_error(EXHAUSTED, "")
}

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Answer<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn take<'b, 'v, const N: usize>(args: Args<'b, 'v>) -> Result<[CowVal<'b, 'v>; N], ExecutionError> {
    let actual = args.len();
    args.try_into()
        .map_err(|_| ExecutionError::invalid_argument_count(N, actual))
}

fn charge(fuel: &CowVal<'_, '_>, price: u64) -> Result<(), ExecutionError> {
    fuel.downcast_ref::<Fuel>()
        .ok_or_else(exhausted)?
        .charge(price)
}

fn iterate<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [fuel, price, range] = take(args)?;
    let price = price
        .downcast_ref::<CelInt>()
        .map_or(1, |price| u64::try_from(*price.inner()).unwrap_or(1));
    if let Some(map) = range.downcast_ref::<CelMap>() {
        charge(&fuel, price.saturating_mul(map.inner().len() as u64))?;
        let mut keys: Vec<CelMapKey<'v>> = map.inner().keys().cloned().collect();
        keys.sort_by_key(key_text);
        let keys = keys
            .into_iter()
            .map(|key| -> Box<dyn Val + 'v> { key.inner().clone_as_boxed() });
        return Ok(CowVal::owned(CelList::from(keys.collect::<Vec<_>>())));
    }
    let len = range
        .downcast_ref::<CelList>()
        .map_or(1, |list| list.inner().len() as u64);
    // An item is copied when it is bound to the loop's variable.
    charge(
        &fuel,
        price
            .saturating_mul(len)
            .saturating_add(weight(range.as_ref())),
    )?;
    Ok(range)
}

fn weigh<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [fuel, value] = take(args)?;
    charge(&fuel, weight(value.as_ref()))?;
    Ok(value)
}

fn charge_match<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
    let [fuel, text, pattern] = take(args)?;
    let len = |value: &CowVal<'_, '_>| {
        value
            .downcast_ref::<CelString>()
            .map_or(1, |text| text.inner().len())
    };
    if len(&pattern) > limits::REGEX_BYTES {
        let message = format!(
            "regular expressions have at most {} bytes",
            limits::REGEX_BYTES
        );
        return Err(ExecutionError::function_error("matches", message));
    }
    // Compiling costs by the pattern, matching by both (at worst) and compiled states by
    // counted repetitions, which the regex crate limits itself.
    charge(
        &fuel,
        (len(&pattern) as u64 + 1).saturating_mul(len(&text) as u64 / 64 + 20),
    )?;
    Ok(text)
}

macro_rules! arithmetic {
    ($name:ident, $accessor:ident, $method:ident, $word:literal, $operator:tt) => {
        fn $name<'b, 'v>(args: Args<'b, 'v>) -> Answer<'b, 'v> {
            let [fuel, left, right] = take(args)?;
            charge(&fuel, weight(left.as_ref()) + weight(right.as_ref()))?;
            if let Some((left, right)) = mixed(left.as_ref(), right.as_ref()) {
                return Ok(CowVal::owned(CelDouble::from(left $operator right)));
            }
            let unsupported = || {
                ExecutionError::UnsupportedBinaryOperator(
                    $word,
                    cel::Value::try_from(left.as_ref()).unwrap_or(cel::Value::Null),
                    cel::Value::try_from(right.as_ref()).unwrap_or(cel::Value::Null),
                )
            };
            let result = left.$accessor().ok_or_else(unsupported)?.$method(right.as_ref())?;
            Ok(CowVal::Owned(result.into_owned()))
        }
    };
}

arithmetic!(add, as_adder, add, "add", +);
arithmetic!(subtract, as_subtractor, sub, "subtract", -);
arithmetic!(multiply, as_multiplier, mul, "multiply", *);
arithmetic!(divide, as_divider, div, "divide", /);

/// Both as fractions, if one is a fraction and the other is a whole number.
fn mixed(left: &dyn Val, right: &dyn Val) -> Option<(f64, f64)> {
    let whole = |value: &dyn Val| {
        value
            .downcast_ref::<CelInt>()
            .map(|int| *int.inner() as f64)
            .or_else(|| {
                value
                    .downcast_ref::<CelUInt>()
                    .map(|uint| *uint.inner() as f64)
            })
    };
    let fraction = |value: &dyn Val| {
        value
            .downcast_ref::<CelDouble>()
            .map(|double| *double.inner())
    };
    match (fraction(left), fraction(right)) {
        (Some(left), None) => Some((left, whole(right)?)),
        (None, Some(right)) => Some((whole(left)?, right)),
        _ => None,
    }
}

/// What it costs to look at all of a value: one per scalar and per 64 bytes of text.
fn weight(value: &dyn Val) -> u64 {
    let text = |bytes: usize| bytes as u64 / 64;
    if let Some(string) = value.downcast_ref::<CelString>() {
        text(string.inner().len())
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner()
            .iter()
            .map(|item| 1 + weight(item.as_ref()))
            .sum()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner()
            .values()
            .map(|item| 2 + weight(item.as_ref()))
            .sum()
    } else {
        value
            .downcast_ref::<CelBytes>()
            .map_or(0, |bytes| text(bytes.inner().len()))
    }
}

fn key_text(key: &CelMapKey<'_>) -> String {
    match key {
        CelMapKey::String(text) => text.inner().to_owned(),
        CelMapKey::Int(int) => int.inner().to_string(),
        CelMapKey::UInt(uint) => uint.inner().to_string(),
        CelMapKey::Bool(bool) => bool.inner().to_string(),
    }
}

fn to_cel<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(bool) => Box::new(CelBool::from(*bool)),
        Value::Number(number) => {
            if let Some(int) = number.as_i64() {
                Box::new(CelInt::from(int))
            } else if let Some(uint) = number.as_u64() {
                Box::new(CelUInt::from(uint))
            } else {
                Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
            }
        }
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => {
            Box::new(CelList::from(items.iter().map(to_cel).collect::<Vec<_>>()))
        }
        Value::Object(fields) => {
            let fields: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = fields
                .iter()
                .map(|(key, value)| (CelMapKey::from(key.as_str()), to_cel(value)))
                .collect();
            Box::new(CelMap::from(fields))
        }
    }
}

enum Unfit {
    TooLarge,
    NoJson(&'static str),
}

fn to_json(value: &dyn Val, room: &mut usize) -> Result<Value, Unfit> {
    let mut take = |bytes: usize| {
        *room = room.checked_sub(bytes).ok_or(Unfit::TooLarge)?;
        Ok(())
    };
    take(8)?;
    if let Some(text) = value.downcast_ref::<CelString>() {
        take(text.inner().len())?;
        Ok(Value::String(text.inner().to_owned()))
    } else if let Some(bool) = value.downcast_ref::<CelBool>() {
        Ok(Value::Bool(*bool.inner()))
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        Ok(Value::Number((*int.inner()).into()))
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        Ok(Value::Number((*uint.inner()).into()))
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        let number = Number::from_f64(*double.inner());
        number
            .map(Value::Number)
            .ok_or(Unfit::NoJson("the result is no finite number"))
    } else if value.downcast_ref::<CelNull>().is_some() {
        Ok(Value::Null)
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner()
            .iter()
            .map(|item| to_json(item.as_ref(), room))
            .collect::<Result<_, _>>()
            .map(Value::Array)
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let mut entries: Vec<(String, &dyn Val)> = map
            .inner()
            .iter()
            .map(|(key, value)| (key_text(key), value.as_ref()))
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut fields = Map::new();
        for (key, value) in entries {
            *room = room.checked_sub(key.len()).ok_or(Unfit::TooLarge)?;
            fields.insert(key, to_json(value, room)?);
        }
        Ok(Value::Object(fields))
    } else if let Some(optional) = value.downcast_ref::<CelOptional>() {
        optional
            .option()
            .map_or(Ok(Value::Null), |value| to_json(value, room))
    } else {
        Err(Unfit::NoJson(
            "the result is neither a number, text, true, false, null, a list nor a map",
        ))
    }
}
