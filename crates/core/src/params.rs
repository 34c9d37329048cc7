//! Binds what a caller gave to a workflow's parameters.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::definition::{Definition, Param, ParamType};

/// Most bytes that the values of all parameters may have, as JSON.
pub const MAX_BYTES: usize = 256 << 10;

/// A value that does not fit its parameter, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// There is no such parameter.
    #[error("workflow {workflow} has no parameter {name:?}{hint}")]
    Unknown {
        /// The workflow.
        workflow: String,
        /// The name that was given.
        name: String,
        /// What was meant, perhaps.
        hint: String,
    },
    /// A required one was not given.
    #[error(
        "workflow {workflow} needs the parameter {name:?} ({wanted}): give it with --param {name}=…"
    )]
    Missing {
        /// The workflow.
        workflow: String,
        /// The parameter.
        name: String,
        /// Its type.
        wanted: &'static str,
    },
    /// It has another type.
    #[error("parameter {name:?} is {wanted}, but {got} was given")]
    Type {
        /// The parameter.
        name: String,
        /// Its type.
        wanted: &'static str,
        /// What was given, cut.
        got: String,
    },
    /// All together are too large.
    #[error(
        "the parameters have {bytes} bytes, at most {MAX_BYTES} are allowed: pass large data as an artifact"
    )]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
}

/// The values of all parameters of `definition`: what was given, and defaults for the rest.
///
/// Text, as a command line gives it, is read as the parameter's type.
pub fn bind(
    definition: &Definition,
    given: BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, ParamError> {
    if let Some(name) = given
        .keys()
        .find(|name| definition.params.iter().all(|param| param.name != **name))
    {
        return Err(ParamError::Unknown {
            workflow: definition.name.clone(),
            name: name.clone(),
            hint: hint(
                name,
                definition.params.iter().map(|param| param.name.as_str()),
            ),
        });
    }
    let mut given = given;
    let mut bound = BTreeMap::new();
    for param in &definition.params {
        let value = match (given.remove(&param.name), &param.default) {
            (Some(value), _) => convert(param, value)?,
            (None, Some(default)) => default.clone(),
            (None, None) => {
                return Err(ParamError::Missing {
                    workflow: definition.name.clone(),
                    name: param.name.clone(),
                    wanted: param.kind.describe(),
                });
            }
        };
        bound.insert(param.name.clone(), value);
    }
    let bytes = serde_json::to_vec(&bound).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_BYTES {
        return Err(ParamError::TooLarge { bytes });
    }
    Ok(bound)
}

fn convert(param: &Param, value: Value) -> Result<Value, ParamError> {
    if param.kind.holds(&value) {
        return Ok(value);
    }
    let read = match &value {
        Value::String(text) => match param.kind {
            ParamType::Bool if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
            ParamType::Bool if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
            // Not kept as it was typed: 1e-3 and 0.001 are one value.
            ParamType::Float => text
                .trim()
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Value::from),
            ParamType::Int | ParamType::List => serde_json::from_str(text.trim()).ok(),
            _ => None,
        },
        _ => None,
    };
    read.filter(|read| param.kind.holds(read))
        .ok_or_else(|| ParamError::Type {
            name: param.name.clone(),
            wanted: param.kind.describe(),
            got: value.to_string().chars().take(60).collect(),
        })
}

impl ParamType {
    /// Whether a parameter of this type may be `value`.
    pub fn holds(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::Float => value.is_number(),
            Self::Bool => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Any => true,
        }
    }

    /// What it may hold, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::String => "text",
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Bool => "true or false",
            Self::List => "a list",
            Self::Any => "any JSON",
        }
    }
}

/// `; did you mean "x"?`, or the names there are, or nothing.
pub(crate) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let nearest = known
        .iter()
        .map(|other| (distance(name, other), *other))
        .min();
    match nearest {
        Some((distance, other)) if distance <= 1 + name.chars().count() / 3 => {
            format!("; did you mean {other:?}?")
        }
        Some(_) if known.len() <= 8 => format!("; there is {}", known.join(", ")),
        _ => String::new(),
    }
}

/// Levenshtein's distance, in characters, of names (at most 64 bytes each matter).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = std::mem::replace(&mut row[j + 1], 0);
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ids::NodeId;

    fn workflow(params: &[(&str, ParamType, Option<Value>)]) -> Definition {
        let params = params.iter().map(|(name, kind, default)| Param {
            name: (*name).to_owned(),
            kind: *kind,
            default: default.clone(),
            doc: String::new(),
        });
        Definition {
            format: 1,
            name: "w".to_owned(),
            doc: String::new(),
            params: params.collect(),
            owner: String::new(),
            region: String::new(),
            replication: crate::definition::Replication::Regional,
            nodes: Vec::new(),
            root: NodeId(0),
        }
    }

    fn given(name: &str, value: Value) -> BTreeMap<String, Value> {
        BTreeMap::from([(name.to_owned(), value)])
    }

    #[test]
    fn defaults_are_taken_and_text_becomes_the_parameters_type() {
        let w = workflow(&[
            ("rounds", ParamType::Int, Some(json!(3))),
            ("rate", ParamType::Float, Some(json!(0.5))),
            ("dry", ParamType::Bool, Some(json!(false))),
            ("regions", ParamType::List, Some(json!([]))),
        ]);
        assert_eq!(bind(&w, BTreeMap::new()).unwrap()["rounds"], json!(3));
        for (name, text, value) in [
            ("rounds", "7", json!(7)),
            ("rate", "1e-3", json!(0.001)),
            ("dry", "TRUE", json!(true)),
            ("regions", "[\"de\", 1]", json!(["de", 1])),
        ] {
            assert_eq!(bind(&w, given(name, json!(text))).unwrap()[name], value);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let w = workflow(&[("cohort", ParamType::Int, None)]);
        let missing = bind(&w, BTreeMap::new()).unwrap_err().to_string();
        assert!(missing.contains("--param cohort="), "{missing}");
        let unknown = bind(&w, given("cohrot", json!(1))).unwrap_err().to_string();
        assert!(unknown.contains("did you mean \"cohort\"?"), "{unknown}");
        for bad in [
            json!("seven"),
            json!(1.5),
            json!("1.5"),
            json!(null),
            json!([]),
        ] {
            let error = bind(&w, given("cohort", bad)).unwrap_err();
            assert!(matches!(error, ParamError::Type { .. }), "{error}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        let w = workflow(&[("text", ParamType::String, None)]);
        let error = bind(&w, given("text", json!("x".repeat(MAX_BYTES)))).unwrap_err();
        assert!(matches!(error, ParamError::TooLarge { .. }));
    }
}
