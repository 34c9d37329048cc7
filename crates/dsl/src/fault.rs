//! Errors on their way to becoming diagnostics: raised without a place, found one later.

use starlark::codemap::{CodeMap, FileSpan, Span};
use starlark::{Error, ErrorKind};

use crate::builtins::SIGNATURES;
use crate::diagnostic::Diagnostic;
use crate::session::Session;
use crate::source::{Site, find_in, is_internal};
use crate::suggest;

/// Something wrong with a call, raised by a function of ours.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) focus: Focus,
    /// Findings in another file that are the reason; then they are reported instead.
    pub(crate) nested: Vec<Diagnostic>,
}

/// Which part of a call a fault is about.
#[derive(Debug, Clone)]
pub(crate) enum Focus {
    /// All of it.
    Call,
    /// The value of an argument.
    Argument(String),
    /// The name of an argument.
    Keyword(String),
    /// The n-th positional argument.
    Position(usize),
    /// A text somewhere in the call, in this argument if it is known.
    Text(String),
    /// Known already.
    Place(FileSpan),
}

impl Fault {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            help: None,
            focus: Focus::Call,
            nested: Vec::new(),
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    pub(crate) fn on(mut self, focus: Focus) -> Self {
        self.focus = focus;
        self
    }

    pub(crate) fn arg(self, name: &str) -> Self {
        self.on(Focus::Argument(name.to_owned()))
    }

    /// At the part of `site` that it is about.
    pub(crate) fn into_diagnostic(self, session: &Session<'_>, site: &Site) -> Diagnostic {
        let place = locate(session, site, &self.focus);
        let diagnostic = Diagnostic::at(&place, self.code, self.message, self.help);
        // When the place is inside a function, the call in the workflow's own file helps too.
        match site.0.last() {
            Some(outer) if site.0.len() > 1 && !place_within(&place, outer) => {
                diagnostic.label(outer, "called from here")
            }
            _ => diagnostic,
        }
    }
}

fn place_within(inner: &FileSpan, outer: &FileSpan) -> bool {
    inner.filename() == outer.filename()
        && outer.span.begin() <= inner.span.begin()
        && inner.span.end() <= outer.span.end()
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::new_other(fault)
    }
}

/// The place in `site` that `focus` means: the innermost call that has it.
pub(crate) fn locate(session: &Session<'_>, site: &Site, focus: &Focus) -> FileSpan {
    let part = |span: &FileSpan| -> Option<FileSpan> {
        let at = |inner: Span| FileSpan {
            file: span.file.clone(),
            span: inner,
        };
        let index = session.index(span.filename());
        let places = index.as_ref().and_then(|index| index.call(span.span));
        let named =
            |wanted: &str| places.and_then(|p| p.named.iter().find(|(name, ..)| name == wanted));
        match focus {
            Focus::Call => None,
            Focus::Argument(name) => named(name).map(|(_, _, value)| at(*value)),
            Focus::Keyword(name) => named(name).map(|(_, key, _)| at(*key)),
            Focus::Position(n) => places
                .and_then(|p| p.positional.get(*n))
                .map(|value| at(*value)),
            Focus::Text(needle) => find_in(span, needle),
            Focus::Place(place) => Some(place.clone()),
        }
    };
    if let Focus::Place(place) = focus {
        return place.clone();
    }
    site.0
        .iter()
        .find_map(part)
        .or_else(|| positional_argument(session, site, focus))
        .or_else(|| site.place().cloned())
        .unwrap_or_else(|| CodeMap::new(String::new(), String::new()).file_span(Span::default()))
}

/// An argument that was given by position instead of by name.
fn positional_argument(session: &Session<'_>, site: &Site, focus: &Focus) -> Option<FileSpan> {
    let Focus::Argument(name) = focus else {
        return None;
    };
    site.0.iter().find_map(|span| {
        let index = session.index(span.filename())?;
        let places = index.call(span.span)?;
        let (_, parameters) = SIGNATURES
            .iter()
            .find(|(function, _)| *function == places.callee)?;
        let n = parameters.iter().position(|parameter| parameter == name)?;
        let value = places.positional.get(n)?;
        Some(FileSpan {
            file: span.file.clone(),
            span: *value,
        })
    })
}

/// A Starlark error as diagnostics; at `last`, the last statement that ran, if it has no place.
pub(crate) fn diagnose(session: &Session<'_>, last: FileSpan, error: &Error) -> Vec<Diagnostic> {
    let mut site = Site::from_stack(error.call_stack());
    let place = error.span().filter(|span| !is_internal(span)).cloned();
    if let (None, Some(place)) = (site.place(), &place) {
        site = Site(std::sync::Arc::from(vec![place.clone()]));
    }
    let raised = match error.kind() {
        ErrorKind::Other(inner) | ErrorKind::Native(inner) => inner.downcast_ref::<Fault>(),
        _ => None,
    };
    if let Some(fault) = raised {
        if !fault.nested.is_empty() {
            return fault.nested.clone();
        }
        return vec![fault.clone().into_diagnostic(session, &site)];
    }
    let mut fault = translate(session, error, &site, place.as_ref());
    if let (Focus::Call, Some(place)) = (&fault.focus, place) {
        fault.focus = Focus::Place(place);
    }
    if site.place().is_none() && !matches!(fault.focus, Focus::Place(_)) {
        fault.focus = Focus::Place(last);
    }
    vec![fault.into_diagnostic(session, &site)]
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = text.split_once(before)?.1;
    Some(rest.split_once(after)?.0)
}

/// Starlark's own words, with a remedy.
fn translate(session: &Session<'_>, error: &Error, site: &Site, place: Option<&FileSpan>) -> Fault {
    let text = error.without_diagnostic().to_string();
    let text = text.trim_start_matches("fail:").trim();
    if let ErrorKind::Fail(_) = error.kind() {
        return Fault::new("fail", text);
    }
    if text.starts_with("Execution duration limit") {
        return Fault::new(
            "endless",
            format!("the file is still busy after {} calls and loop rounds: a loop that never ends?", session.options.limits.ticks),
        )
        .help("a workflow file only describes the steps; loop over data with for_each(...), which runs on the cluster");
    }
    if text.starts_with("Evaluation cancelled") {
        return Fault::new("endless", "the file took too long to evaluate")
            .help("a workflow file only describes the steps; leave computation to a step");
    }
    if matches!(error.kind(), ErrorKind::StackOverflow(_)) || text.contains("call stack overflow") {
        return Fault::new(
            "recursion",
            format!(
                "functions call each other more than {} levels deep",
                session.options.limits.call_depth
            ),
        )
        .help("a function that calls itself needs an end; a `for` loop over a list needs none");
    }
    if text.to_lowercase().contains("heap") && text.contains("limit") {
        return memory(session.options.limits.heap_bytes);
    }
    if let Some(rest) = text.strip_prefix("Variable `") {
        let name = rest.split('`').next().unwrap_or_default();
        let names = session.names(place.map_or("", FileSpan::filename));
        let near = suggest::nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        let near = near.or_else(|| between(text, "did you mean `", "`").map(str::to_owned));
        let help = near.map_or_else(
            || format!("bind it first, like {name} = python(script = \"{name}.py\"), or load() it"),
            |near| format!("did you mean `{near}`?"),
        );
        return Fault::new("unknown-name", format!("there is no `{name}` here")).help(help);
    }
    if let Some(name) = text
        .strip_prefix("Local variable `")
        .and_then(|rest| rest.split('`').next())
    {
        return Fault::new(
            "unknown-name",
            format!("`{name}` is used before it is bound"),
        )
        .help("move its definition above this line");
    }
    if let Some(attribute) = between(text, "has no attribute `", "`") {
        return no_attribute(session, text, attribute, place);
    }
    if text.contains("extra named parameter") {
        let names: Vec<&str> = between(text, "Found `", "` extra")
            .map(|n| n.split("` `").collect())
            .unwrap_or_default();
        let name = names.first().copied().unwrap_or_default();
        let function = text.rsplit("call to ").next().unwrap_or_default();
        return unknown_keyword(function, name, signature(function));
    }
    if let Some(name) = between(text, "Argument `", "` occurs more than once") {
        // Passed on to a function that sets it itself.
        let callee = site.0.iter().find_map(|span| {
            let places = session.index(span.filename())?.call(span.span).cloned()?;
            places
                .named
                .iter()
                .any(|(known, ..)| known == name)
                .then_some(places.callee)
        });
        let function = callee.unwrap_or_default();
        return unknown_keyword(&function, name, signature(&function));
    }
    if text.contains("extra positional argument") {
        let function = text.rsplit("call to ").next().unwrap_or_default();
        let mut fault = Fault::new(
            "arguments",
            format!("too many arguments without a name for {function}()"),
        );
        if !signature(function).is_empty() {
            fault = fault.help(format!(
                "it takes, by name: {}",
                signature(function).join(", ")
            ));
        }
        return fault;
    }
    if text.starts_with("Missing ") {
        return missing_argument(session, text, site);
    }
    if let Some(name) = between(text, "Type of parameter `", "`") {
        let expected = between(text, "expected `", "`").unwrap_or("another type");
        let actual = between(text, "actual `", "`").unwrap_or("this");
        return Fault::new("type", format!("`{name}` is {expected}, not {actual}")).arg(name);
    }
    if let Some(op) = between(text, "Operation `", "`") {
        let fault = Fault::new(
            "type",
            text.replace("Operation `", "the operator `")
                .replace("not supported for types", "does not join"),
        );
        if op == ">>" || op == "|" {
            return fault.help("`>>` and `|` join steps and flows");
        }
        return fault;
    }
    let code = if matches!(error.kind(), ErrorKind::Parser(_)) {
        "syntax"
    } else {
        "evaluation"
    };
    Fault::new(code, text.to_owned())
}

pub(crate) fn memory(limit: usize) -> Fault {
    Fault::new("memory", format!("the file needs more than {} MiB of memory to evaluate", limit >> 20))
        .help("a workflow file only describes the steps; large lists belong into a step's output, over which for_each(...) runs")
}

pub(crate) fn unknown_keyword(function: &str, name: &str, known: &[&str]) -> Fault {
    Fault::new(
        "unknown-argument",
        format!("{function}() has no argument `{name}`"),
    )
    .maybe_help(suggest::remedy(name, "it takes", known))
    .on(Focus::Keyword(name.to_owned()))
}

fn signature(function: &str) -> &'static [&'static str] {
    SIGNATURES
        .iter()
        .find(|(name, _)| *name == function)
        .map_or(&[], |(_, parameters)| parameters)
}

fn missing_argument(session: &Session<'_>, text: &str, site: &Site) -> Fault {
    let name = between(text, "`", "`").unwrap_or_default();
    let function = text
        .rsplit("call to ")
        .next()
        .unwrap_or_default()
        .trim_matches('`');
    // A misspelt keyword is why it is missing.
    let misspelt = site.0.iter().find_map(|span| {
        let index = session.index(span.filename())?;
        let places = index.call(span.span)?;
        let known = signature(&places.callee);
        let (typed, ..) = places.named.iter().find(|(typed, ..)| {
            !known.contains(&typed.as_str()) && suggest::nearest(typed, [name]).is_some()
        })?;
        Some(typed.clone())
    });
    if let Some(typed) = misspelt {
        return unknown_keyword(function, &typed, &[name]);
    }
    Fault::new("arguments", format!("{function}() needs `{name}`")).help(format!("add {name} = …"))
}

fn no_attribute(
    session: &Session<'_>,
    text: &str,
    attribute: &str,
    place: Option<&FileSpan>,
) -> Fault {
    let kind = between(text, "type `", "`").unwrap_or("value");
    let focus = |fault: Fault| match place.and_then(|place| find_in(place, attribute)) {
        Some(found) => fault.on(Focus::Place(found)),
        None => fault,
    };
    let owner = place.and_then(|place| {
        let text = place.source_span();
        text.rsplit_once('.')
            .map(|(owner, _)| owner.trim().to_owned())
    });
    if kind != "step" {
        let fault = Fault::new(
            "unknown-attribute",
            format!("a {kind} has no `{attribute}`"),
        );
        let help = match kind {
            "param" => {
                Some("a parameter is used as it is, or as \"${{ params.name }}\"".to_owned())
            }
            "flow" => Some("only steps have outputs: name the step within the flow".to_owned()),
            _ => between(text, "did you mean `", "`").map(|near| format!("did you mean `{near}`?")),
        };
        return focus(fault.maybe_help(help));
    }
    let step = owner.as_deref().and_then(|owner| session.step_named(owner));
    let outputs: Vec<String> = step
        .iter()
        .flat_map(|step| step.outputs().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    focus(unknown_output(
        owner.as_deref().unwrap_or("the step"),
        attribute,
        &outputs,
    ))
}

/// `step.output` where the step declares no such output.
pub(crate) fn unknown_output(step: &str, output: &str, outputs: &[String]) -> Fault {
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    Fault::new(
        "unknown-output",
        format!("step `{step}` has no output `{output}`"),
    )
    .help(
        suggest::remedy(output, "its outputs are", &names)
            .unwrap_or_else(|| format!("declare it: {step} = …(…, outputs = [\"{output}\"])")),
    )
}
