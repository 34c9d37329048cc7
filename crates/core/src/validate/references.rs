//! Whether expressions parse, and whether what they refer to exists and is done by then.

use std::collections::BTreeMap;

use super::Problems;
use crate::definition::{Command, Definition, Items, NodeKind, Step, StepKind};
use crate::expression::{Expression, ExpressionError, Reference, Template};
use crate::ids::NodeId;
use crate::params::hint;

/// Names that CEL itself gives a meaning.
const BUILT_IN: [&str; 12] = [
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
];
/// What `where` and `prefer` see.
const PLACE: [&str; 4] = ["attributes", "region", "zone", "hostname"];
/// What is below `run`.
const RUN: [&str; 2] = ["id", "workflow"];

/// From where an expression looks at the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// From the node itself: what comes before it is done.
    Before(NodeId),
    /// From behind the node's body: what is in the body is done as well.
    After(NodeId),
}

struct Checker<'p, 'a> {
    problems: &'p mut Problems<'a>,
    definition: &'a Definition,
    steps: BTreeMap<&'a str, NodeId>,
}

pub(super) fn check(problems: &mut Problems<'_>) {
    let definition = problems.definition;
    let steps = definition
        .steps()
        .map(|(id, step)| (step.name.as_str(), id))
        .collect();
    let mut checker = Checker {
        problems,
        definition,
        steps,
    };
    for (id, node) in (0u32..).map(NodeId).zip(&definition.nodes) {
        match &node.kind {
            NodeKind::Step(step) => checker.step(id, step),
            NodeKind::ForEach { over, .. } => {
                for (name, items) in over {
                    if let Items::Computed(expression) = items {
                        checker.expression(Stand::Before(id), &format!("over.{name}"), expression);
                    }
                }
            }
            NodeKind::When { cond, .. } => checker.expression(Stand::Before(id), "cond", cond),
            NodeKind::Repeat { until, .. } => checker.expression(Stand::After(id), "until", until),
            NodeKind::Sequence(_) | NodeKind::Parallel { .. } => {}
        }
    }
}

/// Every template of a step and the field that it stands in.
pub(crate) fn templates(step: &Step) -> Vec<(String, &Template)> {
    let mut all: Vec<(String, &Template)> = Vec::new();
    all.extend(
        step.env
            .iter()
            .map(|(name, template)| (format!("env.{name}"), template)),
    );
    all.extend(
        step.inputs
            .iter()
            .map(|(name, template)| (format!("inputs.{name}"), template)),
    );
    all.extend(
        step.produces
            .iter()
            .map(|produces| (format!("produces.{}", produces.name), &produces.id)),
    );
    match &step.kind {
        StepKind::Noop => {}
        StepKind::Command(Command::Shell(text)) => all.push(("run".to_owned(), text)),
        StepKind::Command(Command::Argv(argv)) => all.extend(numbered("argv", argv)),
        StepKind::Docker {
            image,
            args,
            entrypoint,
            mounts,
        } => {
            all.push(("image".to_owned(), image));
            all.extend(numbered("args", args));
            all.extend(numbered(
                "entrypoint",
                entrypoint.as_deref().unwrap_or_default(),
            ));
            all.extend(numbered("mounts", mounts));
        }
        StepKind::Spark {
            app,
            args,
            master,
            conf,
            ..
        } => {
            all.push(("app".to_owned(), app));
            all.extend(numbered("args", args));
            all.extend(master.iter().map(|master| ("master".to_owned(), master)));
            all.extend(
                conf.iter()
                    .map(|(key, value)| (format!("conf.{key}"), value)),
            );
        }
        StepKind::Workflow { params, .. } => {
            all.extend(
                params
                    .iter()
                    .map(|(name, template)| (format!("params.{name}"), template)),
            );
        }
    }
    all
}

fn numbered<'t>(field: &str, templates: &'t [Template]) -> Vec<(String, &'t Template)> {
    templates
        .iter()
        .enumerate()
        .map(|(index, template)| (format!("{field}[{index}]"), template))
        .collect()
}

impl<'a> Checker<'_, 'a> {
    fn step(&mut self, id: NodeId, step: &Step) {
        for (field, template) in templates(step) {
            // Most templates have no expression in them.
            let references = if template.0.contains("${{") {
                template.references()
            } else {
                Ok(Vec::new())
            };
            self.references(Stand::Before(id), Some(id), &field, references);
        }
        for (field, expression) in [("where", &step.require), ("prefer", &step.prefer)] {
            match expression.as_ref().map(Expression::references) {
                None => {}
                Some(Err(error)) => self.unreadable(Some(id), field, &error),
                Some(Ok(references)) => {
                    for reference in references {
                        let root = reference.root.as_str();
                        if !PLACE.contains(&root) && !BUILT_IN.contains(&root) {
                            let message = format!("there is no `{root}` to choose an agent by");
                            let remedy = format!("there is {}", PLACE.join(", "));
                            self.problems.add(
                                Some(id),
                                field,
                                "unknown_reference",
                                message,
                                remedy,
                            );
                        }
                    }
                }
            }
        }
    }

    fn expression(&mut self, stand: Stand, field: &str, expression: &Expression) {
        self.references(stand, None, field, expression.references());
    }

    fn unreadable(&mut self, step: Option<NodeId>, field: &str, error: &ExpressionError) {
        self.problems
            .add(step, field, "bad_expression", error.to_string(), "");
    }

    fn references(
        &mut self,
        stand: Stand,
        step: Option<NodeId>,
        field: &str,
        references: Result<Vec<Reference>, ExpressionError>,
    ) {
        match references {
            Err(error) => self.unreadable(step, field, &error),
            Ok(references) => {
                for reference in references {
                    if let Err((code, message, remedy)) = self.reference(stand, &reference) {
                        self.problems.add(step, field, code, message, remedy);
                    }
                }
            }
        }
    }

    fn reference(
        &self,
        stand: Stand,
        reference: &Reference,
    ) -> Result<(), (&'static str, String, String)> {
        let unknown = |message: String, remedy: String| Err(("unknown_reference", message, remedy));
        let root = reference.root.as_str();
        match (root, reference.path.first()) {
            ("params", Some(name)) => {
                let params = || {
                    self.definition
                        .params
                        .iter()
                        .map(|param| param.name.as_str())
                };
                if params().any(|param| param == name) {
                    return Ok(());
                }
                unknown(
                    format!("there is no parameter {name:?}{}", hint(name, params())),
                    String::new(),
                )
            }
            ("run", Some(name)) if !RUN.contains(&name.as_str()) => unknown(
                format!("`run` has no {name:?}"),
                format!("there is {}", RUN.map(|n| format!("run.{n}")).join(", ")),
            ),
            ("params" | "run", _) => Ok(()),
            ("steps", Some(name)) => match self.steps.get(name.as_str()) {
                Some(&step) => self.output(stand, step, reference.path.get(1)),
                None => unknown(
                    format!(
                        "there is no step {name:?}{}",
                        hint(name, self.steps.keys().copied())
                    ),
                    String::new(),
                ),
            },
            ("steps", None) => unknown(
                "`steps` alone is not a value".to_owned(),
                "write steps['name'].output".to_owned(),
            ),
            (name, _) if BUILT_IN.contains(&name) || self.variables(stand).contains(&name) => {
                Ok(())
            }
            (name, field) => match self.steps.get(name) {
                Some(&step) => self.output(stand, step, field),
                None if name == "round" && self.is_repeated(stand) => Ok(()),
                None => {
                    let known = self
                        .variables(stand)
                        .into_iter()
                        .chain(self.steps.keys().copied());
                    let param = self
                        .definition
                        .params
                        .iter()
                        .any(|param| param.name == name);
                    let remedy = if param {
                        format!("write params.{name}")
                    } else {
                        String::new()
                    };
                    let hint = if param {
                        String::new()
                    } else {
                        hint(name, known)
                    };
                    unknown(
                        format!("there is no step or loop variable {name:?} here{hint}"),
                        remedy,
                    )
                }
            },
        }
    }

    /// Loop variables in scope.
    fn variables(&self, stand: Stand) -> Vec<&'a str> {
        let mut names = Vec::new();
        let (Stand::Before(node) | Stand::After(node)) = stand;
        let mut above = self.definition.node(node).parent;
        while let Some(node) = above.map(|above| self.definition.node(above)) {
            if let NodeKind::ForEach { over, .. } = &node.kind {
                names.extend(over.iter().map(|(name, _)| name.as_str()));
            }
            above = node.parent;
        }
        names
    }

    /// Whether a repeat is around, so that there is a `round`.
    fn is_repeated(&self, stand: Stand) -> bool {
        let mut around = match stand {
            Stand::Before(node) => self.definition.node(node).parent,
            // An `until` is asked behind the body, in the round.
            Stand::After(node) => Some(node),
        };
        while let Some(node) = around.map(|around| self.definition.node(around)) {
            if matches!(node.kind, NodeKind::Repeat { .. }) {
                return true;
            }
            around = node.parent;
        }
        false
    }

    fn output(
        &self,
        stand: Stand,
        step: NodeId,
        output: Option<&String>,
    ) -> Result<(), (&'static str, String, String)> {
        let name = self.definition.step(step).map_or("", |step| &step.name);
        self.is_done(stand, step).map_err(|why| {
            (
                "not_done_yet",
                format!("the outputs of step {name} are not there yet: it {why}"),
                "put it before".to_owned(),
            )
        })?;
        let (Some(output), Some(declared)) = (output, self.definition.step(step)) else {
            return Ok(());
        };
        let outputs = || {
            declared
                .outputs
                .iter()
                .map(String::as_str)
                .chain(declared.produces.iter().map(|p| p.name.as_str()))
        };
        if outputs().any(|known| known == output) {
            return Ok(());
        }
        let message = format!(
            "step {name} declares no output {output:?}{}",
            hint(output, outputs())
        );
        Err((
            "unknown_output",
            message,
            format!("declare it: outputs = [\"{output}\"]"),
        ))
    }

    /// Whether `step` is done, as far as the flow can say, when an expression is evaluated.
    fn is_done(&self, stand: Stand, step: NodeId) -> Result<(), &'static str> {
        let (Stand::Before(here) | Stand::After(here)) = stand;
        let (to_step, to_here) = (self.ways(step), self.ways(here));
        let common = to_step
            .iter()
            .zip(&to_here)
            .take_while(|(a, b)| a == b)
            .count();
        // The lowest node that both are in, or one of the two.
        let meeting = to_step[common - 1];
        let (Some(left), right) = (to_step.get(common), to_here.get(common)) else {
            return Err("is the step itself");
        };
        let Some(right) = right else {
            return match stand {
                Stand::After(_) => Ok(()),
                Stand::Before(_) => Err("is inside of what this decides about"),
            };
        };
        match &self.definition.node(meeting).kind {
            NodeKind::Sequence(children) => {
                let place = |node| children.iter().position(|child| child == node);
                if place(left) < place(right) {
                    Ok(())
                } else {
                    Err("comes later in the flow")
                }
            }
            NodeKind::Parallel { .. } => Err("is in another parallel branch"),
            NodeKind::When { .. } => Err("is on the other branch of a when"),
            _ => Err("is not before this"),
        }
    }

    /// The nodes from the root down to `node`.
    fn ways(&self, node: NodeId) -> Vec<NodeId> {
        let mut way = vec![node];
        let mut above = self.definition.node(node).parent;
        while let Some(node) = above {
            way.push(node);
            above = self.definition.node(node).parent;
        }
        way.reverse();
        way
    }
}
