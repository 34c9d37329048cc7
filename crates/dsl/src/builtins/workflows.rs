//! `param`, `artifact` and `workflow`.

use std::sync::{Arc, OnceLock};

use meson_core::definition::{ParamType, Produces, Replication};
use serde_json::Value as Json;
use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::tuple::UnpackTuple;
use starlark::values::{Value, ValueLike as _};

use super::site;
use crate::arguments::{Arguments, check_name, json, list};
use crate::fault::{Fault, Focus, locate};
use crate::model::{ParamDef, WorkflowDef};
use crate::session::context;
use crate::values::{ArtifactValue, ParamValue, WorkflowValue, child, describe, not_a_flow};

pub(super) const PARAM: &[&str] = &["name", "default", "doc", "type"];
pub(super) const ARTIFACT: &[&str] = &["name", "id"];
pub(super) const WORKFLOW: &[&str] = &[
    "name",
    "flow",
    "params",
    "doc",
    "owner",
    "region",
    "replication",
];

const TYPES: [(&str, ParamType); 6] = [
    ("string", ParamType::String),
    ("int", ParamType::Int),
    ("float", ParamType::Float),
    ("bool", ParamType::Bool),
    ("list", ParamType::List),
    ("any", ParamType::Any),
];

/// The type that a default shows.
fn type_of(default: &Json) -> ParamType {
    match default {
        Json::String(_) => ParamType::String,
        Json::Bool(_) => ParamType::Bool,
        Json::Number(number) if number.is_i64() || number.is_u64() => ParamType::Int,
        Json::Number(_) => ParamType::Float,
        Json::Array(_) => ParamType::List,
        Json::Object(_) | Json::Null => ParamType::Any,
    }
}

fn fits(kind: ParamType, value: &Json) -> bool {
    match kind {
        ParamType::String => value.is_string(),
        ParamType::Int => value.is_i64() || value.is_u64(),
        ParamType::Float => value.is_number(),
        ParamType::Bool => value.is_boolean(),
        ParamType::List => value.is_array(),
        ParamType::Any => true,
    }
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// A value that the caller of a run gives.
    fn param<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<ParamValue> {
        let args = Arguments::new("param", PARAM, &positional.items, named, 2)?;
        let name = OnceLock::new();
        if let Some(text) = args.text("name")? {
            check_name("parameter", &text).map_err(|fault| fault.arg("name"))?;
            let _ = name.set(text);
        }
        let default = match args.take("default") {
            None => None,
            Some(value) => Some(json(value).ok_or_else(|| {
                Fault::new(
                    "type",
                    format!("`default` is plain data, not {}", describe(value)),
                )
                .help("use a text, a number, True, False, a list or a dict")
                .arg("default")
            })?),
        };
        let kind = match args.text("type")? {
            Some(text) => {
                let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
                TYPES
                    .iter()
                    .find(|(name, _)| *name == text)
                    .map(|(_, kind)| *kind)
                    .ok_or_else(|| {
                        Fault::new("value", format!("there is no type `{text}`"))
                            .maybe_help(crate::suggest::remedy(&text, "the types are", &names))
                            .arg("type")
                    })?
            }
            None => default.as_ref().map_or(ParamType::String, type_of),
        };
        if let Some(value) = default.as_ref().filter(|value| !fits(kind, value)) {
            let wanted = TYPES
                .iter()
                .find(|(_, known)| *known == kind)
                .map_or("any", |(name, _)| name);
            return Err(
                Fault::new("type", format!("the default {value} is no {wanted}"))
                    .help("make default and type agree")
                    .arg("default")
                    .into(),
            );
        }
        let doc = args.text("doc")?.unwrap_or_default();
        let session = context(eval)?.session;
        let param = Arc::new(ParamDef {
            id: session.next_id(),
            name,
            kind,
            default,
            doc,
            site: site(eval),
        });
        session.params.borrow_mut().push(Arc::clone(&param));
        Ok(ParamValue(param))
    }

    /// A named output that is kept under an id, so that a later run need not make it again.
    fn artifact<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<ArtifactValue> {
        let _ = &eval;
        let args = Arguments::new("artifact", ARTIFACT, &positional.items, named, 1)?;
        args.required("name")?;
        let name = args.text("name")?.unwrap_or_default();
        check_name("artifact", &name).map_err(|fault| fault.arg("name"))?;
        if args.take("id").is_none() {
            return Err(Fault::new("arguments", "artifact() needs `id`")
                .help(format!("add id = \"{name}-${{{{ params.… }}}}\": everything that makes this artifact another one"))
                .into());
        }
        let id = args.template("id")?.unwrap_or_default();
        if id.0.trim().is_empty() {
            return Err(Fault::new("value", "`id` is empty").arg("id").into());
        }
        Ok(ArtifactValue(Produces { name, id }))
    }

    /// The workflow of this file.
    fn workflow<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<WorkflowValue> {
        let args = Arguments::new("workflow", WORKFLOW, &positional.items, named, 0)?;
        args.required("name")?;
        let name = args.text("name")?.unwrap_or_default();
        if !meson_core::ids::is_name(&name) {
            return Err(
                Fault::new("name", format!("{name:?} cannot name a workflow"))
                    .help("use 1 to 64 letters, digits, `_` or `-`, beginning with a letter or `_`")
                    .arg("name")
                    .into(),
            );
        }
        let flow = args.required("flow")?;
        let flow = child(flow, None)
            .ok_or_else(|| not_a_flow(flow).arg("flow"))?
            .flow;
        let params = match args.take("params") {
            None => Vec::new(),
            Some(value) => {
                let wrong = |value: Value<'_>| {
                    Fault::new(
                        "type",
                        format!(
                            "`params` is a list of parameters; this is {}",
                            describe(value)
                        ),
                    )
                    .help("write cohort = param(default = \"2026-11\") and params = [cohort]")
                    .arg("params")
                };
                let items = list(value).ok_or_else(|| wrong(value))?;
                let one = |item: Value<'_>| {
                    item.downcast_ref::<ParamValue>()
                        .map(|param| Arc::clone(&param.0))
                        .ok_or_else(|| wrong(item))
                };
                items.into_iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
        };
        let replication = match args.text("replication")?.as_deref() {
            None | Some("regional") => Replication::Regional,
            Some("global") => Replication::Global,
            Some(other) => {
                return Err(Fault::new(
                    "value",
                    format!("`replication` is \"regional\" or \"global\", not {other:?}"),
                )
                .help("\"regional\" survives the loss of a node, \"global\" that of a region")
                .arg("replication")
                .into());
            }
        };
        let context = context(eval)?;
        let site = site(eval);
        if let Some(first) = context.workflows.borrow().first() {
            let mut fault = Fault::new(
                "two-workflows",
                "a file defines one workflow, and this is the second",
            )
            .help("move it to a file of its own; run_workflow(\"other.star\") runs it as a step");
            if let Some(place) = first.site.place() {
                fault.message = format!(
                    "{} (the first is in line {})",
                    fault.message,
                    place.resolve_span().begin.line + 1
                );
            }
            return Err(fault
                .on(Focus::Place(locate(context.session, &site, &Focus::Call)))
                .into());
        }
        let workflow = Arc::new(WorkflowDef {
            name,
            doc: args.text("doc")?.unwrap_or_default(),
            params,
            owner: args.text("owner")?.unwrap_or_default(),
            region: args.text("region")?.unwrap_or_default(),
            replication,
            flow,
            site,
            file: context.file.clone(),
        });
        context.workflows.borrow_mut().push(Arc::clone(&workflow));
        Ok(WorkflowValue(workflow))
    }
}
