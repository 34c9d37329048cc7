//! What each node says about itself: names, numbers, sizes.

use std::collections::BTreeSet;

use super::{
    MAX_GANG, MAX_PORTS, MAX_REGIONS, MAX_RETRIES, MAX_ROUNDS, MAX_SIZE, NAME_RULE, Problems,
    validate_nested,
};
use crate::definition::{Command, Definition, Items, NodeKind, Step, StepKind};
use crate::expression::Template;
use crate::ids::{NodeId, is_name};
use crate::params::hint;
use crate::units::Duration;

/// Names that expressions use otherwise: our own roots, and CEL's words.
/// (<https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>)
const RESERVED: [&str; 36] = [
    "params",
    "run",
    "steps",
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
];

/// Most iterations whose lists stand in the definition.
const MAX_ITERATIONS: u64 = crate::run::limits::ITERATIONS as u64;

pub(super) fn check(problems: &mut Problems<'_>, level: usize) {
    let definition = problems.definition;
    params(problems);
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for (id, step) in definition.steps() {
        name(problems, Some(id), "name", "step", &step.name);
        if !names.insert(&step.name) {
            let message = format!("there are two steps with the name {:?}", step.name);
            problems.add(
                Some(id),
                "name",
                "duplicate_name",
                message,
                "give one of them another name",
            );
        }
        self::step(problems, id, step, level);
    }
    for (id, node) in (0u32..).map(NodeId).zip(&definition.nodes) {
        match &node.kind {
            NodeKind::ForEach {
                over,
                max_parallel,
                tolerate,
                ..
            } => {
                for_each(problems, id, over, &names);
                if *max_parallel == Some(0) {
                    problems.add(
                        None,
                        "max_parallel",
                        "bad_number",
                        "max_parallel is 0: nothing would run",
                        "",
                    );
                }
                if !(0.0..=1.0).contains(tolerate) {
                    let message = format!("tolerate is {tolerate}, and it is a share");
                    problems.add(
                        None,
                        "tolerate",
                        "bad_number",
                        message,
                        "write a number from 0 to 1",
                    );
                }
            }
            NodeKind::Repeat { max_rounds, .. } if *max_rounds == 0 || *max_rounds > MAX_ROUNDS => {
                let message = format!("max_rounds is {max_rounds}");
                problems.add(
                    None,
                    "max_rounds",
                    "bad_number",
                    message,
                    format!("write 1 to {MAX_ROUNDS}"),
                );
            }
            NodeKind::Parallel { branches, .. } if branches.is_empty() => {
                problems.add(None, "parallel", "empty", "a parallel has no branches", "");
            }
            _ => {}
        }
    }
}

fn name(problems: &mut Problems<'_>, node: Option<NodeId>, field: &str, what: &str, name: &str) {
    if !is_name(name) {
        problems.add(
            node,
            field,
            "bad_name",
            format!("{name:?} is no {what} name"),
            NAME_RULE,
        );
    } else if RESERVED.contains(&name) {
        let message = format!("{name:?} is a word of the expression language");
        problems.add(node, field, "reserved_name", message, "use another name");
    }
}

fn params(problems: &mut Problems<'_>) {
    let definition = problems.definition;
    let mut seen = BTreeSet::new();
    for param in &definition.params {
        let field = format!("params.{}", param.name);
        if !is_name(&param.name) {
            problems.add(
                None,
                &field,
                "bad_name",
                format!("{:?} is no parameter name", param.name),
                NAME_RULE,
            );
        }
        if !seen.insert(&param.name) {
            let message = format!("there are two parameters with the name {:?}", param.name);
            problems.add(
                None,
                &field,
                "duplicate_name",
                message,
                "give one of them another name",
            );
        }
        if let Some(default) = param
            .default
            .as_ref()
            .filter(|default| !param.kind.holds(default))
        {
            let message = format!("the default {default} is not {}", param.kind.describe());
            problems.add(
                None,
                &field,
                "wrong_type",
                message,
                "change the default or the type",
            );
        }
    }
}

fn for_each(
    problems: &mut Problems<'_>,
    id: NodeId,
    over: &[(String, Items)],
    steps: &BTreeSet<&str>,
) {
    if over.is_empty() {
        problems.add(
            None,
            "over",
            "empty",
            "a for_each has no variable",
            "write over = {\"name\": list}",
        );
    }
    let mut around: Vec<&str> = Vec::new();
    let mut above = problems.definition.node(id).parent;
    while let Some(node) = above.map(|above| problems.definition.node(above)) {
        if let NodeKind::ForEach { over, .. } = &node.kind {
            around.extend(over.iter().map(|(name, _)| name.as_str()));
        }
        above = node.parent;
    }
    let mut total = 1u64;
    for (index, (variable, items)) in over.iter().enumerate() {
        let field = format!("over.{variable}");
        name(problems, None, &field, "variable", variable);
        if variable.contains('-') {
            let message = format!("{variable:?} would read as a subtraction in expressions");
            problems.add(None, &field, "bad_name", message, "use `_`");
        }
        if steps.contains(variable.as_str()) {
            let message = format!("{variable:?} is a loop variable and a step");
            problems.add(
                None,
                &field,
                "duplicate_name",
                message,
                "give one of them another name",
            );
        }
        if around.contains(&variable.as_str())
            || over[..index].iter().any(|(other, _)| other == variable)
        {
            let message = format!("{variable:?} is a variable of two loops, one in the other");
            problems.add(
                None,
                &field,
                "duplicate_name",
                message,
                "give one of them another name",
            );
        }
        if let Items::Literal(values) = items {
            total = total.saturating_mul(values.len() as u64);
        }
    }
    if total > MAX_ITERATIONS {
        let message = format!("{total} iterations, at most {MAX_ITERATIONS} are allowed");
        problems.add(
            None,
            "over",
            "too_many",
            message,
            "let each iteration do more",
        );
    }
}

/// The regions that a step may go to.
fn regions(step: &Step, add: &mut impl FnMut(&str, &str, String, &str)) {
    let mut seen = BTreeSet::new();
    for region in &step.regions {
        if region.trim().is_empty() {
            add(
                "region",
                "bad_name",
                format!("{region:?} is no region"),
                "leave it out for the workflow's own",
            );
        }
        if !seen.insert(region) {
            add(
                "region",
                "duplicate_name",
                format!("region {region:?} is named twice"),
                "leave one of them out",
            );
        }
    }
    if step.regions.len() > MAX_REGIONS {
        let message = format!(
            "{} regions, at most {MAX_REGIONS} are allowed",
            step.regions.len()
        );
        add("region", "too_many", message, "");
    }
    if step.regions.len() > 1 && !step.pool.is_empty() {
        let message = format!(
            "pool {:?} is one resource manager, and the step names {} regions",
            step.pool,
            step.regions.len()
        );
        let remedy = "leave out `pool` to take each region's own, or name no region";
        add("pool", "contradiction", message, remedy);
    }
}

/// The tasks of a step that asks for several at once.
fn gang(step: &Step, add: &mut impl FnMut(&str, &str, String, &str)) {
    let tasks = step.gang.tasks;
    if tasks == 0 || tasks > MAX_GANG {
        let message = format!("a gang of {tasks} tasks, 1 to {MAX_GANG} are allowed");
        let remedy =
            "more of them are better the iterations of a for_each, which need not all run at once";
        add("gang", "bad_number", message, remedy);
    }
    let why = match &step.kind {
        StepKind::Spark { .. } => "Spark distributes its work itself",
        StepKind::Noop => "a noop runs nothing",
        StepKind::Workflow { .. } => "a workflow asks for no resources itself",
        StepKind::Command(_) | StepKind::Docker { .. } => return,
    };
    if tasks > 1 {
        let message = format!("a gang of {tasks} tasks: {why}");
        add("gang", "contradiction", message, "leave `gang` out");
    }
}

fn step(problems: &mut Problems<'_>, id: NodeId, step: &Step, level: usize) {
    let mut add = |field: &str, code: &str, message: String, remedy: &str| {
        problems.add(Some(id), field, code, message, remedy);
    };
    let mut seen = BTreeSet::new();
    for (field, output) in step
        .outputs
        .iter()
        .map(|output| ("outputs", output))
        .chain(step.produces.iter().map(|p| ("produces", &p.name)))
    {
        if !is_name(output) {
            add(
                field,
                "bad_name",
                format!("{output:?} is no output name"),
                NAME_RULE,
            );
        }
        if !seen.insert(output) {
            add(
                field,
                "duplicate_name",
                format!("there are two outputs with the name {output:?}"),
                "",
            );
        }
    }
    for input in step.inputs.keys().filter(|input| !is_name(input)) {
        add(
            "inputs",
            "bad_name",
            format!("{input:?} is no input name"),
            NAME_RULE,
        );
    }
    for variable in step
        .env
        .keys()
        .filter(|name| name.is_empty() || name.contains(['=', '\0']))
    {
        add(
            "env",
            "bad_name",
            format!("{variable:?} cannot name an environment variable"),
            "",
        );
    }
    regions(step, &mut add);
    gang(step, &mut add);
    if step.retries > MAX_RETRIES {
        add(
            "retries",
            "bad_number",
            format!(
                "{} retries, at most {MAX_RETRIES} are allowed",
                step.retries
            ),
            "",
        );
    }
    for (field, duration) in [("timeout", step.timeout), ("sla", step.sla)] {
        if duration == Some(Duration(0)) {
            add(
                field,
                "bad_number",
                format!("`{field}` is no time at all"),
                "write a duration like \"90s\", or leave it out",
            );
        }
    }
    resources(problems, id, step);
    kind(problems, id, step, level);
}

fn resources(problems: &mut Problems<'_>, id: NodeId, step: &Step) {
    let asked = &step.resources;
    if matches!(step.kind, StepKind::Noop | StepKind::Workflow { .. }) {
        return;
    }
    let mut add = |field: &str, message: String, remedy: &str| {
        problems.add(
            Some(id),
            &format!("resources.{field}"),
            "impossible_resources",
            message,
            remedy,
        );
    };
    if asked.cpus.0 == 0 {
        add(
            "cpus",
            "no processor time: nothing could run".to_owned(),
            "ask for 0.1 at least",
        );
    }
    if asked.mem.0 == 0 {
        add(
            "mem",
            "no memory: nothing could run".to_owned(),
            "ask for \"32m\" at least",
        );
    }
    if asked.cpus.0 > 1_000_000_000 {
        add(
            "cpus",
            format!("{} cores: no machine has them", asked.cpus.0 / 1000),
            "",
        );
    }
    if asked.gpus > 10_000 {
        add(
            "gpus",
            format!("{} GPUs: no machine has them", asked.gpus),
            "",
        );
    }
    if asked.ports > MAX_PORTS {
        add(
            "ports",
            format!("{} ports, at most {MAX_PORTS} are allowed", asked.ports),
            "",
        );
    }
    for (field, size) in [("mem", asked.mem), ("disk", asked.disk)] {
        if size > MAX_SIZE {
            add(
                field,
                format!("{size}: no machine has more than {MAX_SIZE}"),
                "",
            );
        }
    }
}

fn kind(problems: &mut Problems<'_>, id: NodeId, step: &Step, level: usize) {
    let mut add = |field: &str, code: &str, message: &str, remedy: &str| {
        problems.add(Some(id), field, code, message, remedy);
    };
    let blank = |template: &Template| template.0.trim().is_empty();
    match &step.kind {
        StepKind::Noop => {
            if !step.outputs.is_empty() || !step.produces.is_empty() {
                add(
                    "outputs",
                    "impossible_output",
                    "a noop runs nothing that could write an output",
                    "use command()",
                );
            }
        }
        StepKind::Command(Command::Shell(text)) if blank(text) => {
            add("run", "empty", "the command is empty", "")
        }
        StepKind::Command(Command::Argv(argv)) if argv.first().is_none_or(blank) => {
            add(
                "argv",
                "empty",
                "the command is empty",
                "write argv = [\"program\", \"argument\"]",
            );
        }
        StepKind::Docker { image, .. } if blank(image) => {
            add("image", "empty", "the image has no name", "")
        }
        StepKind::Spark { app, .. } if blank(app) => {
            add("app", "empty", "the application is missing", "")
        }
        StepKind::Workflow { definition, params } => {
            if !step.produces.is_empty() || !step.outputs.is_empty() {
                add(
                    "outputs",
                    "impossible_output",
                    "a workflow has no outputs of its own",
                    "pass artifacts by id",
                );
            }
            workflow(problems, id, definition, params.keys(), level);
        }
        StepKind::Command(_) | StepKind::Docker { .. } | StepKind::Spark { .. } => {}
    }
}

fn workflow<'a>(
    problems: &mut Problems<'_>,
    id: NodeId,
    definition: &Definition,
    given: impl Iterator<Item = &'a String>,
    level: usize,
) {
    let given: BTreeSet<&str> = given.map(String::as_str).collect();
    for name in &given {
        if definition.params.iter().all(|param| param.name != **name) {
            let hint = hint(
                name,
                definition.params.iter().map(|param| param.name.as_str()),
            );
            let message = format!(
                "workflow {} has no parameter {name:?}{hint}",
                definition.name
            );
            problems.add(Some(id), "params", "unknown_param", message, "");
        }
    }
    for param in &definition.params {
        if param.default.is_none() && !given.contains(param.name.as_str()) {
            let message = format!(
                "workflow {} needs the parameter {:?}",
                definition.name, param.name
            );
            problems.add(
                Some(id),
                "params",
                "missing_param",
                message,
                "pass it with params = {…}",
            );
        }
    }
    if let Err(inner) = validate_nested(definition, level + 1) {
        for problem in inner {
            problems.add(
                Some(id),
                "workflow",
                &problem.code,
                format!("{}{}", problem.place(), problem.message),
                problem.remedy,
            );
        }
    }
}
