//! Arguments of our functions, taken by name with errors that say what is expected.

use std::collections::BTreeMap;

use meson_core::expression::Template;
use serde_json::Value as Json;
use starlark::collections::SmallMap;
use starlark::values::dict::DictRef;
use starlark::values::float::UnpackFloat;
use starlark::values::list_or_tuple::UnpackListOrTuple;
use starlark::values::{UnpackValue as _, Value, ValueLike as _};

use crate::builtins::SIGNATURES;
use crate::fault::{Fault, unknown_keyword};
use crate::values::{ParamValue, ReferenceValue, describe};

/// The arguments of one call. `None` is the same as leaving one out.
pub(crate) struct Arguments<'v> {
    /// As its author knows it: `python`, though it is a `command` in the end.
    function: String,
    known: &'static [&'static str],
    given: SmallMap<String, Value<'v>>,
}

impl<'v> Arguments<'v> {
    /// `positional` take the first names of `known`.
    pub(crate) fn new(
        function: &'static str,
        known: &'static [&'static str],
        positional: &[Value<'v>],
        mut given: SmallMap<String, Value<'v>>,
        most_positional: usize,
    ) -> Result<Self, Fault> {
        if positional.len() > most_positional {
            let by_name = &known[most_positional.min(known.len())..];
            return Err(Fault::new(
                "arguments",
                match most_positional {
                    0 => format!("{function}() takes its arguments by name"),
                    1 => format!(
                        "{function}() takes one argument without a name, `{}`",
                        known[0]
                    ),
                    n => format!(
                        "{function}() takes {n} arguments without a name: {}",
                        known[..n].join(", ")
                    ),
                },
            )
            .help(format!("give the others by name: {}", by_name.join(", ")))
            .on(crate::fault::Focus::Position(most_positional)));
        }
        for (name, value) in known.iter().zip(positional) {
            if given.insert((*name).to_owned(), *value).is_some() {
                return Err(
                    Fault::new("arguments", format!("{function}() got `{name}` twice")).arg(name),
                );
            }
        }
        let flavour = given
            .get("flavour")
            .and_then(|flavour| flavour.unpack_str())
            .filter(|_| known.contains(&"flavour"));
        let shown = flavour.unwrap_or(function);
        if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
            let signature = SIGNATURES
                .iter()
                .find(|(function, _)| *function == shown)
                .map_or(known, |(_, names)| names);
            return Err(unknown_keyword(shown, name, signature));
        }
        let function = shown.to_owned();
        Ok(Self {
            function,
            known,
            given,
        })
    }

    /// The argument, unless it is missing or None.
    pub(crate) fn take(&self, name: &str) -> Option<Value<'v>> {
        debug_assert!(
            self.known.contains(&name),
            "{name} is not declared by {}",
            self.function
        );
        self.given
            .get(name)
            .copied()
            .filter(|value| !value.is_none())
    }

    pub(crate) fn required(&self, name: &str) -> Result<Value<'v>, Fault> {
        self.take(name).ok_or_else(|| {
            Fault::new("arguments", format!("{}() needs `{name}`", self.function))
                .help(format!("add {name} = …"))
        })
    }

    fn wrong(&self, name: &str, value: Value<'_>, wanted: &str) -> Fault {
        // What is `argv` for command() was `args` for the function around it.
        let wrapped = name == "argv" && self.function != "command";
        let name = if wrapped { "args" } else { name };
        Fault::new(
            "type",
            format!(
                "`{name}` of {}() is {wanted}, not {}",
                self.function,
                describe(value)
            ),
        )
        .arg(name)
    }

    /// Text as it is written.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.unpack_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.wrong(name, value, "a text")),
        }
    }

    /// `True` or `False`; `False` when it is not given.
    pub(crate) fn truth(&self, name: &str) -> Result<bool, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(false);
        };
        value
            .unpack_bool()
            .ok_or_else(|| self.wrong(name, value, "True or False"))
    }

    /// Text in which references and parameters may stand.
    pub(crate) fn template(&self, name: &str) -> Result<Option<Template>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        template(value)
            .map(Some)
            .ok_or_else(|| self.wrong(name, value, "a text, a number or a step's output"))
    }

    pub(crate) fn templates(&self, name: &str) -> Result<Option<Vec<Template>>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let items = list(value).ok_or_else(|| {
            self.wrong(name, value, "a list")
                .help(format!("write {name} = [\"…\"]"))
        })?;
        let one = |item: &Value<'v>| {
            template(*item).ok_or_else(|| {
                self.wrong(name, *item, "a list of texts, numbers and steps' outputs")
            })
        };
        items.iter().map(one).collect::<Result<_, _>>().map(Some)
    }

    /// A dict of texts in which references may stand.
    pub(crate) fn template_map(&self, name: &str) -> Result<BTreeMap<String, Template>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(BTreeMap::new());
        };
        let dict = self.dict(name, value)?;
        let mut map = BTreeMap::new();
        for (key, value) in dict {
            let text = template(value).ok_or_else(|| {
                self.wrong(
                    name,
                    value,
                    &format!("a dict; its `{key}` is a text, a number or a step's output"),
                )
            })?;
            map.insert(key, text);
        }
        Ok(map)
    }

    pub(crate) fn dict(
        &self,
        name: &str,
        value: Value<'v>,
    ) -> Result<Vec<(String, Value<'v>)>, Fault> {
        let dict = DictRef::from_value(value).ok_or_else(|| {
            self.wrong(name, value, "a dict")
                .help(if name == "resources" {
                    "write resources = {\"cpus\": 1, \"mem\": \"1g\"}".to_owned()
                } else {
                    format!("write {name} = {{\"name\": …}}")
                })
        })?;
        let mut entries = Vec::new();
        for (key, value) in dict.iter() {
            let key = key
                .unpack_str()
                .ok_or_else(|| self.wrong(name, key, "a dict with texts as keys"))?;
            entries.push((key.to_owned(), value));
        }
        Ok(entries)
    }

    /// A list of names, each once. One text stands for a list of one.
    pub(crate) fn names(&self, name: &str) -> Result<Vec<String>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(Vec::new());
        };
        let items = list(value).ok_or_else(|| {
            self.wrong(name, value, "a list of names")
                .help(format!("write {name} = [\"…\"]"))
        })?;
        let mut names: Vec<String> = Vec::new();
        for item in items {
            let text = item
                .unpack_str()
                .ok_or_else(|| self.wrong(name, item, "a list of names"))?;
            check_name("output", text).map_err(|fault| fault.arg(name))?;
            if names.iter().any(|known| known == text) {
                return Err(
                    Fault::new("duplicate", format!("`{text}` is twice in `{name}`"))
                        .help("leave one of them out")
                        .arg(name),
                );
            }
            names.push(text.to_owned());
        }
        Ok(names)
    }

    /// A text, or a list of some.
    pub(crate) fn text_or_texts(&self, name: &str) -> Result<Vec<String>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(Vec::new());
        };
        if let Some(text) = value.unpack_str() {
            return Ok(vec![text.to_owned()]);
        }
        let wrong = |value| {
            self.wrong(name, value, "a text, or a list of texts")
                .help(format!("write {name} = \"…\" or {name} = [\"…\", \"…\"]"))
        };
        let items = list(value).ok_or_else(|| wrong(value))?;
        if items.is_empty() {
            return Err(Fault::new("value", format!("`{name}` is an empty list"))
                .help(format!("name one or more, or leave `{name}` out"))
                .arg(name));
        }
        let text = |item: &Value<'v>| item.unpack_str().map(str::to_owned);
        let one = |item| text(item).ok_or_else(|| wrong(*item));
        items.iter().map(one).collect()
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(Vec::new());
        };
        let items = list(value).ok_or_else(|| {
            self.wrong(name, value, "a list of texts")
                .help(format!("write {name} = [\"…\"]"))
        })?;
        items
            .into_iter()
            .map(|item| {
                item.unpack_str()
                    .map(str::to_owned)
                    .ok_or_else(|| self.wrong(name, item, "a list of texts"))
            })
            .collect()
    }

    /// A whole number of at least `least`.
    pub(crate) fn count(&self, name: &str, least: u32) -> Result<Option<u32>, Fault> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = i64::unpack_value(value)
            .ok()
            .flatten()
            .filter(|_| value.get_type() == "int");
        match number.map(u32::try_from) {
            Some(Ok(count)) if count >= least => Ok(Some(count)),
            Some(_) => Err(Fault::new(
                "value",
                format!("`{name}` of {}() is {value}", self.function),
            )
            .help(format!("write a whole number, {least} or more"))
            .arg(name)),
            None => {
                let fault = self.wrong(name, value, "a whole number");
                Err(
                    match value
                        .unpack_str()
                        .and_then(|text| text.trim().parse::<u32>().ok())
                    {
                        Some(number) => {
                            fault.help(format!("write {name} = {number}, without quotes"))
                        }
                        None => {
                            fault.help(format!("write a number, like {name} = {}", least.max(3)))
                        }
                    },
                )
            }
        }
    }

    pub(crate) fn parsed<T>(&self, name: &str) -> Result<Option<T>, Fault>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let text = value.unpack_str().ok_or_else(|| {
            self.wrong(name, value, "a text with a unit")
                .help("write \"90s\", \"15m\" or \"2h\"")
        })?;
        text.parse()
            .map(Some)
            .map_err(|error: T::Err| Fault::new("value", format!("`{name}`: {error}")).arg(name))
    }
}

pub(crate) fn list<'v>(value: Value<'v>) -> Option<Vec<Value<'v>>> {
    Some(
        UnpackListOrTuple::<Value<'v>>::unpack_value(value)
            .ok()??
            .items,
    )
}

/// Text, number, truth value, output or parameter, as text that is evaluated later.
pub(crate) fn template(value: Value<'_>) -> Option<Template> {
    if let Some(text) = value.unpack_str() {
        return Some(Template(text.to_owned()));
    }
    if let Some(reference) = value.downcast_ref::<ReferenceValue>() {
        return Some(Template(reference.to_string()));
    }
    if let Some(param) = value.downcast_ref::<ParamValue>() {
        return Some(Template(param.to_string()));
    }
    match value.get_type() {
        "bool" => Some(Template(value.unpack_bool()?.to_string())),
        "int" | "float" => Some(Template(value.to_str())),
        _ => None,
    }
}

/// An output, a parameter or text as a CEL expression; `"${{ x }}"` and `"x"` are the same.
pub(crate) fn expression(value: Value<'_>) -> Option<String> {
    if let Some(reference) = value.downcast_ref::<ReferenceValue>() {
        return Some(reference.0.expression());
    }
    if let Some(param) = value.downcast_ref::<ParamValue>() {
        return Some(param.0.expression());
    }
    if let Some(truth) = value.unpack_bool() {
        return Some(truth.to_string());
    }
    value.unpack_str().map(|text| bare(text).to_owned())
}

/// What is in a text that is one `${{ … }}` and nothing else, or the text itself.
pub(crate) fn bare(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("${{")
        .and_then(|rest| rest.strip_suffix("}}"))
        .filter(|inner| !inner.contains("${{"))
        .map_or(text, str::trim)
}

/// A number, whole or not.
pub(crate) fn number(value: Value<'_>) -> Option<f64> {
    if value.get_type() == "bool" {
        return None;
    }
    UnpackFloat::unpack_value(value)
        .ok()
        .flatten()
        .map(|float| float.0)
}

/// Plain data as JSON.
pub(crate) fn json(value: Value<'_>) -> Option<Json> {
    json_below(value, 16)
}

fn json_below(value: Value<'_>, depth: u32) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    match value.get_type() {
        "NoneType" => Some(Json::Null),
        "bool" => value.unpack_bool().map(Json::Bool),
        "int" => i64::unpack_value(value).ok().flatten().map(Json::from),
        "float" => serde_json::Number::from_f64(number(value)?).map(Json::Number),
        "string" => value.unpack_str().map(Json::from),
        "list" | "tuple" => list(value)?
            .into_iter()
            .map(|item| json_below(item, depth))
            .collect::<Option<_>>()
            .map(Json::Array),
        "dict" => {
            let dict = DictRef::from_value(value)?;
            let mut object = serde_json::Map::new();
            for (key, value) in dict.iter() {
                object.insert(key.unpack_str()?.to_owned(), json_below(value, depth)?);
            }
            Some(Json::Object(object))
        }
        _ => None,
    }
}

/// Names of steps, outputs, parameters and loop variables are CEL identifiers.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Fault> {
    // Our own roots and CEL's words (as in `meson_core::validate`).
    const RESERVED: [&str; 38] = [
        "params",
        "run",
        "steps",
        "round",
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "bytes",
        "list",
        "map",
        "type",
        "dyn",
        "null_type",
        "optional",
        "meson",
    ];
    if !meson_core::ids::is_name(name) || name.contains('-') {
        let better: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(64)
            .collect();
        let better = if better.starts_with(|c: char| c.is_ascii_digit()) {
            format!("_{better}")
        } else {
            better
        };
        return Err(Fault::new("name", format!("{name:?} cannot name {} {what}", article(what))).help(format!(
            "use at most 64 letters, digits and `_`, beginning with a letter{}: expressions refer to it by its name",
            if better.is_empty() { String::new() } else { format!(", like `{better}`") }
        )));
    }
    if RESERVED.contains(&name) {
        return Err(Fault::new(
            "name",
            format!(
                "`{name}` cannot name {} {what}: expressions use that word",
                article(what)
            ),
        )
        .help(format!("call it `{name}_` or something better")));
    }
    Ok(())
}

fn article(what: &str) -> &'static str {
    if what.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
