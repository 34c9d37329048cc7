//! Which names an expression may use at a place of the flow.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use meson_core::expression::Reference;

use crate::fault::{Fault, Focus, unknown_output};
use crate::model::StepDef;
use crate::suggest;

/// Words that CEL itself knows.
const CEL_TYPES: [&str; 11] = [
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
];

/// Names that are visible while the flow is walked in its order.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// Steps that are done when the place is reached, in the order of the flow.
    done: Vec<String>,
    visible: HashSet<String>,
    /// Loop variables, outermost first.
    loops: Vec<String>,
    /// Enclosing repeats.
    rounds: usize,
    /// The workflow's parameters.
    pub(crate) params: Vec<String>,
    /// Parameters that the file defines, listed in the workflow or not.
    pub(crate) defined_params: Vec<String>,
    /// Every step of the flow.
    pub(crate) flow: HashMap<String, Arc<StepDef>>,
    /// Every step that the file defines.
    pub(crate) defined: HashSet<String>,
}

impl Scope {
    pub(crate) fn mark(&self) -> usize {
        self.done.len()
    }

    pub(crate) fn add(&mut self, name: &str) {
        if self.visible.insert(name.to_owned()) {
            self.done.push(name.to_owned());
        }
    }

    /// Forgets the steps that were added since `mark`, and returns them.
    pub(crate) fn take_since(&mut self, mark: usize) -> Vec<String> {
        let taken = self.done.split_off(mark);
        for name in &taken {
            self.visible.remove(name);
        }
        taken
    }

    pub(crate) fn enter_loop<'n>(&mut self, names: impl IntoIterator<Item = &'n String>) {
        self.loops.extend(names.into_iter().cloned());
    }

    pub(crate) fn leave_loop(&mut self, names: usize) {
        self.loops
            .truncate(self.loops.len() - names.min(self.loops.len()));
    }

    pub(crate) fn enter_round(&mut self) {
        self.rounds += 1;
    }

    pub(crate) fn leave_round(&mut self) {
        self.rounds -= 1;
    }

    pub(crate) fn is_loop_variable(&self, name: &str) -> bool {
        self.loops.iter().any(|known| known == name)
    }

    /// Checks one reference of the step `user`, or of a verb.
    pub(crate) fn check(&self, reference: &Reference, user: Option<&str>) -> Result<(), Fault> {
        // `steps.name.output` is the long form of `name.output`.
        let (root, path) = match reference.path.split_first() {
            Some((step, rest)) if reference.root == "steps" => (step.as_str(), rest),
            _ => (reference.root.as_str(), &reference.path[..]),
        };
        let field = path.first().map(String::as_str);
        let fault = |code, message: String| {
            let needle = field.map_or_else(|| root.to_owned(), |field| format!("{root}.{field}"));
            Fault::new(code, message).on(Focus::Text(needle))
        };
        if root == "params" {
            let Some(field) = field else { return Ok(()) };
            if self.params.iter().any(|known| known == field) {
                return Ok(());
            }
            let known: Vec<&str> = self.params.iter().map(String::as_str).collect();
            return Err(if self.defined_params.iter().any(|known| known == field) {
                fault(
                    "unknown-param",
                    format!("parameter `{field}` is not in the workflow's `params`"),
                )
                .help(format!(
                    "add it: workflow(…, params = [{}])",
                    [&known[..], &[field]].concat().join(", ")
                ))
            } else {
                fault("unknown-param", format!("the workflow has no parameter `{field}`")).help(
                    suggest::remedy(field, "its parameters are", &known)
                        .unwrap_or_else(|| format!("define it: {field} = param(default = …), and list it in workflow(params = [{field}])")),
                )
            });
        }
        if self.is_loop_variable(root) {
            return Ok(());
        }
        if root == "run" {
            return match field {
                None | Some("id" | "workflow") => Ok(()),
                Some(_) => Err(fault(
                    "unknown-reference",
                    format!("a run has no `{}`", field.unwrap_or_default()),
                )
                .help("there are run.id and run.workflow")),
            };
        }
        if root == "round" {
            return if self.rounds > 0 {
                Ok(())
            } else {
                Err(fault(
                    "unknown-reference",
                    "`round` is only known inside repeat(...)".to_owned(),
                )
                .help("leave it out, or put the step into a repeat"))
            };
        }
        // `type(x) == int`
        if CEL_TYPES.contains(&root) {
            return Ok(());
        }
        let Some(step) = self.flow.get(root) else {
            if self.defined.contains(root) {
                return Err(fault(
                    "not-in-flow",
                    format!("step `{root}` is not part of the flow"),
                )
                .help(format!("put it before its use: … >> {root} >> …")));
            }
            let mut known: Vec<&str> = self.done.iter().map(String::as_str).collect();
            known.extend(self.loops.iter().map(String::as_str));
            known.push("params");
            // A parameter without its `params.` is the most likely meaning.
            let help = if self.params.iter().any(|param| param == root) {
                Some(format!("write params.{root}"))
            } else {
                suggest::remedy(root, "known here are", &known)
            };
            return Err(fault(
                "unknown-reference",
                format!("there is no step, loop variable or parameter `{root}` here"),
            )
            .maybe_help(help));
        };
        if user == Some(root) {
            return Err(
                fault("order", format!("step `{root}` refers to its own output"))
                    .help("a step sees the outputs of the steps before it"),
            );
        }
        if !self.visible.contains(root) {
            let message = match user {
                Some(user) => format!("step `{user}` uses `{root}`, which is not done before it"),
                None => format!("`{root}` is not done when this is evaluated"),
            };
            return Err(fault("order", message).help(match user {
                Some(user) => format!("put `{root}` before it in the flow: … >> {root} >> {user}"),
                None => format!("put `{root}` before it in the flow"),
            }));
        }
        match field {
            Some(output) if !step.outputs().any(|known| known == output) => {
                let outputs: Vec<String> = step.outputs().map(str::to_owned).collect();
                let needle = format!("{root}.{output}");
                Err(unknown_output(root, output, &outputs).on(Focus::Text(needle)))
            }
            _ => Ok(()),
        }
    }
}
