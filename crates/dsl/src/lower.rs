//! From flows to a [`Definition`]: a normal form, so that operators and verbs give equal
//! definitions, with every name resolved and every reference checked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use meson_core::definition::{Definition, FORMAT, Items, Node, NodeKind, Param};
use meson_core::expression::{Expression, ExpressionError, Reference, Template};
use meson_core::ids::NodeId;
use starlark::codemap::FileSpan;

use crate::arguments::check_name;
use crate::diagnostic::Diagnostic;
use crate::fault::{Fault, Focus, locate};
use crate::flow::{Child, Kind};
use crate::model::{ParamDef, StepDef, WorkflowDef, fill};
use crate::scope::Scope;
use crate::session::Session;
use crate::shape::{Shape, collect, shape, texts};
use crate::source::Site;

/// A lowered workflow and where its steps were written.
pub(crate) struct Lowered {
    pub(crate) definition: Definition,
    pub(crate) sites: BTreeMap<String, Site>,
    /// Ids of the steps in the flow.
    pub(crate) used: Vec<u32>,
}

struct Lowering<'s, 'a> {
    session: &'s Session<'a>,
    nodes: Vec<Node>,
    scope: Scope,
    /// Where each step stands in the flow.
    placed: HashMap<u32, Option<FileSpan>>,
    names: HashMap<(&'static str, u32), String>,
    problems: Vec<Diagnostic>,
}

/// Lowers `workflow`, or says everything that is wrong with it.
pub(crate) fn lower(
    session: &Session<'_>,
    workflow: &WorkflowDef,
) -> Result<Lowered, Vec<Diagnostic>> {
    let mut lowering = Lowering {
        session,
        nodes: Vec::new(),
        scope: Scope::default(),
        placed: HashMap::new(),
        names: HashMap::new(),
        problems: Vec::new(),
    };
    let params = lowering.params(workflow);
    let root = Child {
        flow: Arc::clone(&workflow.flow),
        at: None,
    };
    let mut steps = Vec::new();
    collect(&root, &mut steps);
    lowering.declare(&steps);
    let root = lowering.visit(&root, None);

    let mut problems = lowering.problems;
    if problems.is_empty() {
        let index = session.index(&workflow.file.display().to_string());
        let file_doc = index.map(|index| index.doc.clone()).unwrap_or_default();
        let definition = Definition {
            format: FORMAT,
            name: workflow.name.clone(),
            doc: if workflow.doc.is_empty() {
                file_doc
            } else {
                workflow.doc.clone()
            },
            params,
            owner: workflow.owner.clone(),
            region: workflow.region.clone(),
            replication: workflow.replication,
            nodes: lowering.nodes,
            root,
        };
        let sites = steps
            .iter()
            .filter_map(|step| Some((step.name.get()?.clone(), step.site.clone())))
            .collect();
        return Ok(Lowered {
            definition,
            sites,
            used: steps.iter().map(|step| step.id).collect(),
        });
    }
    problems.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    Err(problems)
}

impl Lowering<'_, '_> {
    fn problem(&mut self, fault: Fault, site: &Site) {
        let diagnostic = fault.into_diagnostic(self.session, site);
        let same = |known: &Diagnostic| {
            known.code == diagnostic.code
                && known.offset == diagnostic.offset
                && known.message == diagnostic.message
        };
        if !self.problems.iter().any(same) {
            self.problems.push(diagnostic);
        }
    }

    fn params(&mut self, workflow: &WorkflowDef) -> Vec<Param> {
        let mut params: Vec<Param> = Vec::new();
        for param in &workflow.params {
            let ParamDef {
                id,
                name,
                kind,
                default,
                doc,
                site,
            } = &**param;
            let Some(name) = name.get() else {
                let fault = Fault::new("unnamed", "this parameter has no name")
                    .help("bind it to a variable, or write param(name = \"cohort\", …)");
                self.problem(fault, site);
                continue;
            };
            if let Err(fault) = check_name("parameter", name) {
                self.problem(fault, site);
            }
            if params.iter().any(|known| known.name == *name) {
                self.problem(
                    Fault::new("duplicate", format!("two parameters are named `{name}`"))
                        .help("rename one"),
                    site,
                );
            }
            self.names.insert(("param", *id), name.clone());
            params.push(Param {
                name: name.clone(),
                kind: *kind,
                default: default.clone(),
                doc: doc.clone(),
            });
        }
        self.scope.params = params.iter().map(|param| param.name.clone()).collect();
        for param in &*self.session.params.borrow() {
            if let Some(name) = param.name.get() {
                self.names.insert(("param", param.id), name.clone());
                self.scope.defined_params.push(name.clone());
            }
        }
        params
    }

    /// Checks the names of the flow's steps and makes them known.
    fn declare(&mut self, steps: &[Arc<StepDef>]) {
        for step in &*self.session.steps.borrow() {
            if let Some(name) = step.name.get() {
                self.names.insert(("step", step.id), name.clone());
                self.scope.defined.insert(name.clone());
            }
        }
        let mut checked: HashMap<u32, ()> = HashMap::new();
        for step in steps {
            if checked.insert(step.id, ()).is_some() {
                continue;
            }
            let Some(name) = step.name.get() else {
                let fault = Fault::new("unnamed", format!("this {} step has no name", step.flavour()))
                    .help("bind it to a variable at the top of a file, or give it one: name = \"my_step\" (inside functions, loops and lists that is the only way)");
                self.problem(fault, &step.site);
                continue;
            };
            if let Err(fault) = check_name("step", name) {
                self.problem(fault, &step.site);
                continue;
            }
            if let Some(first) = self.scope.flow.get(name).cloned() {
                let fault = Fault::new(
                    "duplicate",
                    format!("two steps of the flow are named `{name}`"),
                )
                .help("give one of them another name: name = \"…\", or bind it to another variable")
                .arg("name");
                let mut diagnostic = fault.into_diagnostic(self.session, &step.site);
                if let Some(place) = first.site.place() {
                    diagnostic = diagnostic.label(place, "the other one");
                }
                self.problems.push(diagnostic);
                continue;
            }
            self.scope.flow.insert(name.clone(), Arc::clone(step));
        }
    }

    fn push(&mut self, parent: Option<NodeId>, kind: NodeKind) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { parent, kind });
        id
    }

    fn set(&mut self, id: NodeId, kind: NodeKind) {
        if let Some(node) = self.nodes.get_mut(id.0 as usize) {
            node.kind = kind;
        }
    }

    fn visit(&mut self, child: &Child, parent: Option<NodeId>) -> NodeId {
        match shape(child) {
            Shape::Sequence(items) => {
                let id = self.push(parent, NodeKind::Sequence(Vec::new()));
                let children = items
                    .iter()
                    .map(|item| self.visit(item, Some(id)))
                    .collect();
                self.set(id, NodeKind::Sequence(children));
                id
            }
            Shape::Parallel(branches, join) => {
                let id = self.push(parent, NodeKind::Sequence(Vec::new()));
                let mut children = Vec::new();
                let mut done = Vec::new();
                for branch in &branches {
                    let mark = self.scope.mark();
                    children.push(self.visit(branch, Some(id)));
                    done.extend(self.scope.take_since(mark));
                }
                done.iter().for_each(|name| self.scope.add(name));
                self.set(
                    id,
                    NodeKind::Parallel {
                        branches: children,
                        join,
                    },
                );
                id
            }
            Shape::One(child) => self.visit_one(&child, parent),
        }
    }

    fn visit_one(&mut self, child: &Child, parent: Option<NodeId>) -> NodeId {
        match &child.flow.kind {
            Kind::Step(step) => self.visit_step(step, child.at.as_ref(), parent),
            Kind::ForEach {
                over,
                body,
                max_parallel,
                tolerate,
                site,
            } => {
                let id = self.push(parent, NodeKind::Sequence(Vec::new()));
                let mut filled = Vec::new();
                for (name, items) in over {
                    if self.scope.flow.contains_key(name) || self.scope.is_loop_variable(name) {
                        let fault = Fault::new("duplicate", format!("the loop variable `{name}` has the name of a step or of an outer loop's variable"))
                            .help("rename it")
                            .on(Focus::Text(format!("\"{name}\"")));
                        self.problem(fault, site);
                    }
                    let items = match items {
                        Items::Literal(values) => Items::Literal(values.clone()),
                        Items::Computed(expression) => {
                            Items::Computed(self.expression(&expression.0, site, "over"))
                        }
                    };
                    filled.push((name.clone(), items));
                }
                self.scope.enter_loop(over.iter().map(|(name, _)| name));
                let body = self.visit(body, Some(id));
                self.scope.leave_loop(over.len());
                let kind = NodeKind::ForEach {
                    over: filled,
                    body,
                    max_parallel: *max_parallel,
                    tolerate: *tolerate,
                };
                self.set(id, kind);
                id
            }
            Kind::When {
                cond,
                then,
                otherwise,
                site,
            } => {
                let id = self.push(parent, NodeKind::Sequence(Vec::new()));
                let cond = self.expression(cond, site, "cond");
                let mark = self.scope.mark();
                let then = self.visit(then, Some(id));
                let mut done = self.scope.take_since(mark);
                let otherwise = otherwise
                    .as_ref()
                    .map(|otherwise| self.visit(otherwise, Some(id)));
                done.extend(self.scope.take_since(mark));
                done.iter().for_each(|name| self.scope.add(name));
                self.set(
                    id,
                    NodeKind::When {
                        cond,
                        then,
                        otherwise,
                    },
                );
                id
            }
            Kind::Repeat {
                body,
                until,
                max_rounds,
                site,
            } => {
                let id = self.push(parent, NodeKind::Sequence(Vec::new()));
                self.scope.enter_round();
                let body = self.visit(body, Some(id));
                let until = self.expression(until, site, "until");
                self.scope.leave_round();
                self.set(
                    id,
                    NodeKind::Repeat {
                        body,
                        until,
                        max_rounds: *max_rounds,
                    },
                );
                id
            }
            // A shape's single element is none of these.
            Kind::Empty | Kind::Sequence(_) | Kind::Parallel(..) => {
                self.push(parent, NodeKind::Sequence(Vec::new()))
            }
        }
    }

    fn visit_step(
        &mut self,
        def: &Arc<StepDef>,
        at: Option<&FileSpan>,
        parent: Option<NodeId>,
    ) -> NodeId {
        let name = def.name.get().cloned().unwrap_or_default();
        let here = at.cloned();
        if let Some(first) = self.placed.get(&def.id).cloned() {
            let fault = Fault::new("repeated-step", format!("step `{name}` stands in the flow twice"))
                .help("a step runs in one place: make a second one for the second place, or use repeat(...) for a loop");
            let place = here.unwrap_or_else(|| locate(self.session, &def.site, &Focus::Call));
            let mut diagnostic = fault
                .on(Focus::Place(place))
                .into_diagnostic(self.session, &def.site);
            if let Some(first) = first {
                diagnostic = diagnostic.label(&first, "here it stands first");
            }
            self.problems.push(diagnostic);
            return self.push(parent, NodeKind::Sequence(Vec::new()));
        }
        self.placed.insert(def.id, here);
        let mut step = def.step.clone();
        step.name.clone_from(&name);
        for text in texts(&mut step) {
            let filled = self.fill(text);
            let site = &def.site;
            match Template(filled.clone()).compile() {
                Ok(template) => self.check(&template.references(), Some(&name), site),
                Err(error) => self.bad_expression(&error, &filled, site, None),
            }
            *text = filled;
        }
        self.scope.add(&name);
        self.push(parent, NodeKind::Step(Box::new(step)))
    }

    fn fill(&self, text: &str) -> String {
        fill(text, |what, id| {
            let what = if what == "step" { "step" } else { "param" };
            self.names.get(&(what, id)).map(String::as_str)
        })
    }

    /// The expression of a verb.
    fn expression(&mut self, text: &str, site: &Site, argument: &str) -> Expression {
        let expression = Expression(self.fill(text));
        match expression.references() {
            Ok(references) => self.check(&references, None, site),
            Err(error) => self.bad_expression(&error, &expression.0, site, Some(argument)),
        }
        expression
    }

    fn check(&mut self, references: &[Reference], user: Option<&str>, site: &Site) {
        for reference in references {
            if let Err(fault) = self.scope.check(reference, user) {
                self.problem(narrowed(self.session, fault, &reference.root, site), site);
            }
        }
    }

    fn bad_expression(
        &mut self,
        error: &ExpressionError,
        text: &str,
        site: &Site,
        argument: Option<&str>,
    ) {
        let inner = match error {
            ExpressionError::At { error, .. } => error,
            other => other,
        };
        let message = inner.to_string();
        let focus = match (argument, inner) {
            (Some(argument), _) => Focus::Argument(argument.to_owned()),
            (None, ExpressionError::Syntax { source_text, .. }) if !source_text.is_empty() => {
                Focus::Text(source_text.clone())
            }
            (None, ExpressionError::Unterminated { offset }) => Focus::Text(
                text.get(*offset..)
                    .unwrap_or_default()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ),
            _ => Focus::Call,
        };
        let fault = Fault::new("expression", message)
            .help("expressions are CEL: step.output, params.name, a loop variable, comparisons, && and ||")
            .on(focus);
        self.problem(fault, site);
    }
}

/// With the needle `root.field`, or only `root` where the text writes it in another way.
fn narrowed(session: &Session<'_>, fault: Fault, root: &str, site: &Site) -> Fault {
    let Focus::Text(needle) = &fault.focus else {
        return fault;
    };
    let whole = site.place().cloned();
    let place = locate(session, site, &Focus::Text(needle.clone()));
    if whole.is_some_and(|whole| whole.span == place.span && whole.filename() == place.filename()) {
        return fault.on(Focus::Text(root.to_owned()));
    }
    fault.on(Focus::Place(place))
}
