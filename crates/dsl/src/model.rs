//! What evaluation leaves behind: definitions of steps, parameters and workflows with
//! the places that they were written at.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use meson_core::definition::{ParamType, Replication, Step};
use serde_json::Value;

use crate::flow::Flow;
use crate::source::Site;

/// A step as a call made it. Its texts may hold [placeholders](placeholder), since it may
/// refer to steps that have no name yet.
#[derive(Debug)]
pub(crate) struct StepDef {
    /// Unique within the compilation.
    pub(crate) id: u32,
    /// What it lowers to; its name is still empty.
    pub(crate) step: Step,
    pub(crate) site: Site,
    /// Given by `name =`, or by the first variable that it is bound to.
    pub(crate) name: OnceLock<String>,
}

impl StepDef {
    /// What others may refer to.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &str> {
        let produced = self
            .step
            .produces
            .iter()
            .map(|produces| produces.name.as_str());
        self.step.outputs.iter().map(String::as_str).chain(produced)
    }

    /// The DSL function that made it.
    pub(crate) fn flavour(&self) -> &str {
        if self.step.flavour.is_empty() {
            self.step.kind.name()
        } else {
            &self.step.flavour
        }
    }
}

/// A parameter as `param()` made it.
#[derive(Debug)]
pub(crate) struct ParamDef {
    pub(crate) id: u32,
    pub(crate) name: OnceLock<String>,
    pub(crate) kind: ParamType,
    pub(crate) default: Option<Value>,
    pub(crate) doc: String,
    pub(crate) site: Site,
}

/// A workflow as `workflow()` made it, not lowered yet.
#[derive(Debug)]
pub(crate) struct WorkflowDef {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) params: Vec<Arc<ParamDef>>,
    pub(crate) owner: String,
    pub(crate) region: String,
    pub(crate) replication: Replication,
    pub(crate) flow: Arc<Flow>,
    pub(crate) site: Site,
    /// The file that it is the workflow of.
    pub(crate) file: PathBuf,
}

/// The output of a step, as an attribute names it.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) step: Arc<StepDef>,
    pub(crate) output: String,
}

impl Reference {
    /// As CEL: by name, or by a placeholder as long as there is none.
    pub(crate) fn expression(&self) -> String {
        match self.step.name.get() {
            Some(name) => format!("{name}.{}", self.output),
            None => format!("{}.{}", placeholder("step", self.step.id), self.output),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{{ {} }}}}", self.expression())
    }
}

impl ParamDef {
    pub(crate) fn expression(&self) -> String {
        match self.name.get() {
            Some(name) => format!("params.{name}"),
            None => format!("params.{}", placeholder("param", self.id)),
        }
    }
}

/// Stands for a name that is not known yet; a CEL identifier.
pub(crate) fn placeholder(what: &str, id: u32) -> String {
    format!("__meson_{what}_{id}__")
}

/// `text` with its placeholders replaced by what `name` says about them.
pub(crate) fn fill<'a>(text: &str, name: impl Fn(&str, u32) -> Option<&'a str>) -> String {
    const MARK: &str = "__meson_";
    if !text.contains(MARK) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let after = &rest[at + MARK.len()..];
        let found = after.split_once("__").and_then(|(body, tail)| {
            let (what, id) = body.split_once('_')?;
            Some((name(what, id.parse().ok()?)?, tail))
        });
        match found {
            Some((name, tail)) => {
                out.push_str(name);
                rest = tail;
            }
            None => {
                out.push_str(MARK);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_look_alikes_stay() {
        let name = |what: &str, id: u32| (what == "step" && id == 7).then_some("train");
        assert_eq!(
            fill("a ${{ __meson_step_7__.x }} b", name),
            "a ${{ train.x }} b"
        );
        assert_eq!(
            fill("__meson_step_8__ __meson_", name),
            "__meson_step_8__ __meson_"
        );
    }
}
