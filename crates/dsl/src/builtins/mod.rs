//! The functions of workflow files that are written in Rust. The others are in
//! `prelude/steps.star`, written over these.

mod flows;
mod gang;
mod guards;
mod resources;
mod steps;
mod workflows;

use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::Evaluator;
use starlark::values::FrozenValue;

use crate::flow::Flow;
use crate::values::FlowValue;

/// Arguments that every step function takes.
macro_rules! with_common {
    ($($own:literal),* $(,)?) => {
        &[
            $($own,)* "name", "title", "env", "inputs", "outputs", "produces", "resources", "where", "prefer",
            "preemptible", "spread", "gang", "retries", "timeout", "unreachable", "sla", "region", "pool", "owner", "files",
            "flavour",
        ]
    };
}
use with_common;

/// Parameters of each function, those that may be given by position first.
pub(crate) const SIGNATURES: [(&str, &[&str]); 22] = [
    ("command", steps::COMMAND),
    ("noop", steps::NOOP),
    ("docker", steps::DOCKER),
    ("spark", steps::SPARK),
    ("run_workflow", steps::RUN_WORKFLOW),
    ("python", with_common!("script", "args")),
    ("r", with_common!("script", "args")),
    (
        "scala",
        with_common!("script", "args", "main_class", "version", "master", "conf"),
    ),
    ("hive", with_common!("query", "vars", "conf", "database")),
    ("param", workflows::PARAM),
    ("artifact", workflows::ARTIFACT),
    ("auto", resources::AUTO),
    ("gang", gang::GANG),
    ("workflow", workflows::WORKFLOW),
    ("file", &["path", "argument"]),
    ("for_each", flows::FOR_EACH),
    ("when", flows::WHEN),
    ("repeat", flows::REPEAT),
    ("parallel", &["join"]),
    ("sequence", &[]),
    ("range", &["start", "stop", "step"]),
    ("fail_at", &["argument", "message", "help"]),
];

/// Everything that is there without `load()`, but for the prelude.
pub(crate) fn globals() -> Globals {
    let base = GlobalsBuilder::extended_by(&[
        LibraryExtension::StructType,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Partial,
        LibraryExtension::Json,
        LibraryExtension::Print,
    ])
    .build();
    let range = base
        .iter()
        .find(|(name, _)| *name == "range")
        .map(|(_, value)| value);
    let mut builder = GlobalsBuilder::new();
    builder.frozen_heap().add_reference(base.heap());
    for (name, value) in base.iter().filter(|(name, _)| *name != "range") {
        builder.set(name, value);
    }
    builder.set("__meson_range", range.unwrap_or_else(FrozenValue::new_none));
    builder.set("start", FlowValue(std::sync::Arc::new(Flow::start())));
    builder.set("end", FlowValue(std::sync::Arc::new(Flow::end())));
    builder
        .with(steps::functions)
        .with(resources::functions)
        .with(gang::functions)
        .with(flows::functions)
        .with(workflows::functions)
        .with(guards::functions)
        .build()
}

/// Where the running function was called.
fn site(eval: &Evaluator<'_, '_, '_>) -> crate::source::Site {
    crate::source::Site::capture(eval)
}
