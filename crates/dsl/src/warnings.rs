//! What looks wrong though it runs. Each warning goes away with its cause, or with a comment
//! `# meson: allow(code)` on the line above the step or within its call.
//!
//! Two of them are about the classic failures of machine-learning pipelines:
//!
//! * `resources-unstated`: a step that states no resources, so that it gets the default, while
//!   steps of its kind in this workflow state more, or its own earlier runs used more.
//! * `publish-unvalidated`: a step that looks like it puts a model into use (its name, title,
//!   image or script has a word like publish, deploy, release), where nothing before it would
//!   stop a bad model. A model is what a step before it leaves with `produces`, or what the
//!   publishing step reads. What stops a bad model is one of
//!   - a `when` around the publishing step,
//!   - a `repeat(until = …)` before it (or around it, with a step before it in the round):
//!     the run fails when the condition never holds,
//!   - a step between model and publishing that reads the model, directly or through other
//!     steps, and is there to check: its name has a word like check, validate, test, evaluate.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meson_core::definition::{Command, Definition, NodeKind, Step, StepKind};
use meson_core::expression::Template;
use meson_core::ids::NodeId;
use meson_core::resources::Resources;
use meson_core::sizing::stated_for;
use starlark::codemap::FileSpan;

use crate::diagnostic::{Diagnostic, Warning};
use crate::fault::{Focus, locate};
use crate::lower::Lowered;
use crate::model::WorkflowDef;
use crate::session::Session;
use crate::shape::texts;
use crate::source::Site;

const PUBLISH: [&str; 8] = [
    "publish", "deploy", "release", "promote", "rollout", "push", "serve", "ship",
];
const CHECK: [&str; 9] = [
    "check", "valid", "test", "eval", "verif", "score", "compare", "assess", "gate",
];

pub(crate) fn warnings(
    session: &Session<'_>,
    entry: &Path,
    workflow: &WorkflowDef,
    lowered: &Lowered,
) -> Vec<Warning> {
    let mut found = Vec::new();
    unused_steps(session, entry, lowered, &mut found);
    unused_params(session, entry, workflow, &mut found);
    unstated_resources(session, lowered, &mut found);
    unvalidated_models(session, lowered, &mut found);
    found.sort_by(|a, b| (&a.file, a.offset, a.code).cmp(&(&b.file, b.offset, b.code)));
    found
}

/// Adds a warning unless a comment allows it.
fn warn(
    session: &Session<'_>,
    site: &Site,
    code: &'static str,
    message: String,
    help: String,
    found: &mut Vec<Warning>,
) {
    let allows = |span: &FileSpan| {
        session
            .index(span.filename())
            .is_some_and(|index| index.allows(span, code))
    };
    if site.0.iter().any(allows) {
        return;
    }
    let place = locate(session, site, &Focus::Call);
    let help = format!("{help}; or allow it: # meson: allow({code})");
    found.push(Diagnostic::at(&place, code, message, Some(help)).warning());
}

fn written_in(site: &Site, file: &Path) -> bool {
    site.0
        .last()
        .is_some_and(|span| Path::new(span.filename()) == file)
}

fn unused_steps(session: &Session<'_>, entry: &Path, lowered: &Lowered, found: &mut Vec<Warning>) {
    for step in session.steps.borrow().iter() {
        if lowered.used.contains(&step.id) || !written_in(&step.site, entry) {
            continue;
        }
        let (message, help) = match step.name.get() {
            Some(name) => (
                format!("step `{name}` is defined but not part of the flow"),
                format!("join it, … >> {name}, or delete it"),
            ),
            None => (
                format!("this {} step is not part of the flow", step.flavour()),
                "bind it to a variable and join it, or delete it".to_owned(),
            ),
        };
        warn(session, &step.site, "unused-step", message, help, found);
    }
}

fn unused_params(
    session: &Session<'_>,
    entry: &Path,
    workflow: &WorkflowDef,
    found: &mut Vec<Warning>,
) {
    for param in session.params.borrow().iter() {
        if workflow.params.iter().any(|listed| listed.id == param.id)
            || !written_in(&param.site, entry)
        {
            continue;
        }
        let name = param.name.get().map_or("this parameter", String::as_str);
        let message =
            format!("parameter `{name}` is not in the workflow's `params`, so nobody can give it");
        warn(
            session,
            &param.site,
            "unused-param",
            message,
            format!("add it: workflow(…, params = [{name}])"),
            found,
        );
    }
}

fn takes_resources(step: &Step) -> bool {
    !matches!(step.kind, StepKind::Noop | StepKind::Workflow { .. })
}

fn kind_of(step: &Step) -> &str {
    if step.flavour.is_empty() {
        step.kind.name()
    } else {
        &step.flavour
    }
}

fn unstated_resources(session: &Session<'_>, lowered: &Lowered, found: &mut Vec<Warning>) {
    let steps: Vec<&Step> = lowered
        .definition
        .steps()
        .map(|(_, step)| step)
        .filter(|step| takes_resources(step))
        .collect();
    // Of each kind, the step that asks for most.
    let mut most: BTreeMap<&str, &Step> = BTreeMap::new();
    let size = |step: &Step| (step.resources.mem, step.resources.cpus);
    for step in steps.iter().copied().filter(|step| step.resources.stated) {
        let entry = most.entry(kind_of(step)).or_insert(step);
        if size(step) > size(entry) {
            *entry = step;
        }
    }
    let default = Resources::DEFAULT;
    for step in steps.into_iter().filter(|step| !step.resources.stated) {
        let Some(site) = lowered.sites.get(&step.name) else {
            continue;
        };
        let (name, kind) = (&step.name, kind_of(step));
        let peak = session
            .options
            .history
            .peak_mem
            .get(name)
            .filter(|peak| **peak > default.mem);
        let (reason, processors, mem) = if let Some(peak) = peak {
            let mib = peak.to_mib_ceil();
            (
                format!("its earlier runs used up to {mib}m"),
                1.0,
                stated_for(*peak),
            )
        } else if let Some(sibling) = most
            .get(kind)
            .filter(|sibling| !sibling.resources.fits_in(&default))
        {
            let most = &sibling.resources;
            (
                format!(
                    "`{}`, also a {kind} step, asks for {} of memory and {} cpus",
                    sibling.name,
                    most.mem,
                    cpus(most)
                ),
                cpus(most),
                most.mem,
            )
        } else {
            continue;
        };
        let message = format!(
            "step `{name}` states no resources and gets {} and {} cpus, but {reason}",
            default.mem,
            cpus(&default)
        );
        let help = format!(
            "say what it needs: resources = {{\"cpus\": {processors}, \"mem\": \"{mem}\"}}"
        );
        warn(session, site, "resources-unstated", message, help, found);
    }
}

fn cpus(resources: &Resources) -> f64 {
    resources.cpus.0 as f64 / 1000.0
}

fn has_word(text: &str, words: &[&str]) -> bool {
    let text = text.to_lowercase();
    words.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            !text[..at]
                .chars()
                .next_back()
                .is_some_and(char::is_alphanumeric)
        })
    })
}

/// What a step's author calls what it does.
fn labels(step: &Step) -> Vec<&str> {
    let mut labels = vec![step.name.as_str(), step.title.as_str()];
    match &step.kind {
        StepKind::Docker { image, .. } => labels.push(&image.0),
        StepKind::Command(Command::Shell(text)) => {
            labels.push(text.0.split_whitespace().next().unwrap_or_default())
        }
        // `python3 publish.py`, `Rscript --vanilla publish.R`: the script, not the `sh -c` of a wrapper.
        StepKind::Command(Command::Argv(argv))
            if argv.first().is_some_and(|program| program.0 != "sh") =>
        {
            labels.extend(argv.iter().take(3).map(|word| word.0.as_str()));
        }
        StepKind::Spark { app, .. } => labels.push(&app.0),
        StepKind::Command(_) | StepKind::Noop | StepKind::Workflow { .. } => {}
    }
    labels
}

/// Which steps a step reads.
fn reads(step: &Step) -> BTreeSet<String> {
    let mut step = step.clone();
    let mut roots = BTreeSet::new();
    for text in texts(&mut step) {
        let references = Template(text.clone()).references().unwrap_or_default();
        roots.extend(references.into_iter().map(|reference| reference.root));
    }
    roots
}

struct Flow<'d> {
    definition: &'d Definition,
    reads: BTreeMap<&'d str, BTreeSet<String>>,
}

impl<'d> Flow<'d> {
    /// Whether `step` reads `source`, directly or through other steps.
    fn depends(&self, step: &str, source: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = vec![step];
        while let Some(step) = next.pop() {
            for root in self.reads.get(step).into_iter().flatten() {
                if root == source {
                    return true;
                }
                if seen.insert(root.as_str()) {
                    next.push(root);
                }
            }
        }
        false
    }

    fn steps_below(&self, node: NodeId, into: &mut Vec<&'d Step>) {
        match &self.definition.node(node).kind {
            NodeKind::Step(step) => into.push(step),
            NodeKind::Sequence(children)
            | NodeKind::Parallel {
                branches: children, ..
            } => {
                children
                    .iter()
                    .for_each(|child| self.steps_below(*child, into));
            }
            NodeKind::ForEach { body, .. } | NodeKind::Repeat { body, .. } => {
                self.steps_below(*body, into)
            }
            NodeKind::When {
                then, otherwise, ..
            } => {
                self.steps_below(*then, into);
                otherwise
                    .iter()
                    .for_each(|child| self.steps_below(*child, into));
            }
        }
    }

    fn has_repeat(&self, node: NodeId) -> bool {
        match &self.definition.node(node).kind {
            NodeKind::Repeat { .. } => true,
            // One branch of several is passed by when another is taken or is faster.
            NodeKind::Step(_)
            | NodeKind::When { .. }
            | NodeKind::Parallel { .. }
            | NodeKind::ForEach { .. } => false,
            NodeKind::Sequence(children) => children.iter().any(|child| self.has_repeat(*child)),
        }
    }

    /// The steps that are done before the node, and whether a `when` or `repeat` guards it.
    fn before(&self, id: NodeId) -> (Vec<&'d Step>, bool) {
        let (mut steps, mut guarded) = (Vec::new(), false);
        let mut child = id;
        while let Some(parent) = self.definition.node(child).parent {
            match &self.definition.node(parent).kind {
                NodeKind::Sequence(children) => {
                    for earlier in children.iter().take_while(|other| **other != child) {
                        guarded |= self.has_repeat(*earlier);
                        self.steps_below(*earlier, &mut steps);
                    }
                }
                NodeKind::When { .. } => guarded = true,
                NodeKind::Parallel { .. }
                | NodeKind::ForEach { .. }
                | NodeKind::Repeat { .. }
                | NodeKind::Step(_) => {}
            }
            child = parent;
        }
        (steps, guarded)
    }
}

fn unvalidated_models(session: &Session<'_>, lowered: &Lowered, found: &mut Vec<Warning>) {
    let definition = &lowered.definition;
    let reads = definition
        .steps()
        .map(|(_, step)| (step.name.as_str(), reads(step)))
        .collect();
    let flow = Flow { definition, reads };
    for (id, publisher) in definition.steps() {
        if !labels(publisher)
            .iter()
            .any(|label| has_word(label, &PUBLISH))
            || matches!(publisher.kind, StepKind::Noop)
        {
            continue;
        }
        let Some(site) = lowered.sites.get(&publisher.name) else {
            continue;
        };
        let (before, guarded) = flow.before(id);
        let model = before
            .iter()
            .rev()
            .find(|step| !step.produces.is_empty() && flow.depends(&publisher.name, &step.name))
            .or_else(|| {
                before
                    .iter()
                    .rev()
                    .find(|step| flow.reads[publisher.name.as_str()].contains(&step.name))
            })
            .or_else(|| before.iter().rev().find(|step| !step.produces.is_empty()));
        let Some(model) = model else { continue };
        let checked = before.iter().any(|step| {
            step.name != model.name
                && flow.depends(&step.name, &model.name)
                && labels(step).iter().any(|label| has_word(label, &CHECK))
        });
        if guarded || checked {
            continue;
        }
        let message = format!(
            "`{}` publishes what `{}` made, and nothing before it would stop a bad model",
            publisher.name, model.name
        );
        let output = model
            .produces
            .first()
            .map_or("output", |produces| produces.name.as_str());
        let help = format!(
            "check it first: validate = python(script = \"validate.py\", inputs = {{\"model\": {}.{output}}}, outputs = [\"ok\"]), then {} >> validate >> when(validate.ok, then = {})",
            model.name, model.name, publisher.name
        );
        warn(session, site, "publish-unvalidated", message, help, found);
    }
}
