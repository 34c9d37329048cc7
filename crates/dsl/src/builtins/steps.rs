//! Step kinds: `command`, `noop`, `docker`, `spark`, `run_workflow`.

use std::sync::OnceLock;

use meson_core::definition::{Command, DEFAULT_RETRIES, Produces, Step, StepKind, Unreachable};
use meson_core::expression::{Expression, Template};
use meson_core::matching::{Gang, Spread};
use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::tuple::UnpackTuple;
use starlark::values::{Value, ValueLike as _};

use super::gang::gang;
use super::resources::resources;
use super::{site, with_common};
use crate::arguments::{Arguments, bare, check_name, list};
use crate::fault::{Fault, Focus};
use crate::files;
use crate::model::StepDef;
use crate::session::context;
use crate::suggest;
use crate::values::{ArtifactValue, StepValue, WorkflowValue, describe};

pub(super) const COMMAND: &[&str] = with_common!("run", "argv");
pub(super) const NOOP: &[&str] = with_common!();
pub(super) const DOCKER: &[&str] = with_common!("image", "args", "entrypoint", "mounts");
pub(super) const SPARK: &[&str] =
    with_common!("app", "args", "main_class", "version", "master", "conf");
pub(super) const RUN_WORKFLOW: &[&str] = with_common!("workflow", "params");

/// Adds `path` to the bundle and gives its path there.
pub(super) fn bundle_file(
    eval: &Evaluator<'_, '_, '_>,
    path: &str,
    argument: &str,
) -> Result<String, Fault> {
    let context = context(eval)?;
    let fault = |message: String| Fault::new("missing-file", message).arg(argument);
    if path.contains("${{") {
        return Err(Fault::new("value", format!("`{argument}` is the path of a file and must be known when the workflow is submitted"))
            .help("choose between scripts with when(...), or pass the choice to one script in args")
            .arg(argument));
    }
    let full = files::resolve(context.folder(), path).map_err(|problem| {
        let (message, help) = problem.say();
        Fault::new("path", message).help(help).arg(argument)
    })?;
    if !context.session.files.exists(&full) {
        let folder = context.folder();
        let place = if folder.as_os_str().is_empty() {
            "the workflow's folder".to_owned()
        } else {
            format!("{}/", folder.display())
        };
        return Err(fault(format!("there is no file `{path}` in {place}"))
            .help("paths are relative to the workflow file; create the file or correct the path"));
    }
    let text = full
        .iter()
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join("/");
    context.session.bundle.borrow_mut().insert(full);
    Ok(text)
}

/// The step that the common arguments and `kind` make.
fn step(
    args: Arguments<'_>,
    kind: StepKind,
    eval: &Evaluator<'_, '_, '_>,
) -> Result<StepValue, Fault> {
    let session = context(eval)?.session;
    let name = OnceLock::new();
    if let Some(text) = args.text("name")? {
        check_name("step", &text).map_err(|fault| fault.arg("name"))?;
        let _ = name.set(text);
    }
    let outputs = args.names("outputs")?;
    let produces = produces(&args, &outputs)?;
    let (resources, auto) = resources(&args)?;
    let cel = |args: &Arguments<'_>, key: &str| -> Result<Option<Expression>, Fault> {
        let Some(text) = args.text(key)? else {
            return Ok(None);
        };
        Ok(Some(Expression(bare(&text).to_owned())))
    };
    let require = cel(&args, "where")?;
    let prefer = cel(&args, "prefer")?;
    for (key, expression) in [("where", &require), ("prefer", &prefer)] {
        if let Some(expression) = expression {
            check_constraint(key, expression)?;
        }
    }
    let inputs = args.template_map("inputs")?;
    for input in inputs.keys() {
        check_name("input", input).map_err(|fault| fault.arg("inputs"))?;
    }
    let env = args.template_map("env")?;
    if let Some(name) = env
        .keys()
        .find(|name| name.is_empty() || name.contains(['=', '\0']))
    {
        return Err(Fault::new(
            "name",
            format!("{name:?} cannot name a variable of the environment"),
        )
        .arg("env"));
    }
    for file in args.texts("files")? {
        bundle_file(eval, &file, "files").map_err(|fault| fault.on(Focus::Text(file.clone())))?;
    }
    let spread = match args.text("spread")?.as_deref() {
        None => None,
        Some("agents") => Some(Spread::Agents),
        Some("zones") => Some(Spread::Zones),
        Some(other) => {
            return Err(Fault::new(
                "value",
                format!("`spread` is \"agents\" or \"zones\", not {other:?}"),
            )
            .help("the iterations of the step are then kept on different ones, as far as there is a choice")
            .arg("spread"));
        }
    };
    let gang = gang(&args)?;
    refuse_gang(&gang, &kind)?;
    let (regions, pool) = (regions(&args)?, args.text("pool")?.unwrap_or_default());
    if regions.len() > 1 && !pool.is_empty() {
        return Err(Fault::new(
            "arguments",
            format!(
                "`pool` is one resource manager, and `region` names {}",
                regions.len()
            ),
        )
        .help("leave `pool` out to take each region's own")
        .arg("pool"));
    }
    let step = Step {
        name: String::new(),
        title: args.text("title")?.unwrap_or_default(),
        kind,
        flavour: args.text("flavour")?.unwrap_or_default(),
        env,
        inputs,
        outputs,
        produces,
        resources,
        auto,
        require,
        prefer,
        preemptible: args.truth("preemptible")?,
        spread,
        gang,
        retries: args.count("retries", 0)?.unwrap_or(DEFAULT_RETRIES),
        timeout: args.parsed("timeout")?,
        unreachable: unreachable(&args)?,
        sla: args.parsed("sla")?,
        regions,
        pool,
        owner: args.text("owner")?.unwrap_or_default(),
    };
    let step = StepDef {
        id: session.next_id(),
        step,
        site: site(eval),
        name,
    };
    Ok(StepValue(session.add_step(step)?))
}

/// Some kinds of steps cannot be several tasks.
fn refuse_gang(gang: &Gang, kind: &StepKind) -> Result<(), Fault> {
    let (why, help) = match kind {
        StepKind::Spark { .. } => (
            "Spark distributes its work itself",
            "leave `gang` out, and give Spark a `master` that has executors",
        ),
        StepKind::Noop => ("a noop runs nothing", "leave `gang` out"),
        StepKind::Workflow { .. } => (
            "a workflow asks for no resources itself",
            "give `gang` to steps of that workflow",
        ),
        StepKind::Command(_) | StepKind::Docker { .. } => return Ok(()),
    };
    if gang.is_single() {
        return Ok(());
    }
    Err(
        Fault::new("arguments", format!("this step cannot be a gang: {why}"))
            .help(help)
            .arg("gang"),
    )
}

/// `"wait"`, or a duration.
fn unreachable(args: &Arguments<'_>) -> Result<Unreachable, Fault> {
    let policy = args.parsed("unreachable").map_err(|fault| {
        fault.help("write \"wait\", or the time after which another attempt takes over, as \"10m\"")
    })?;
    Ok(policy.unwrap_or_default())
}

/// One region, or several in order of preference.
fn regions(args: &Arguments<'_>) -> Result<Vec<String>, Fault> {
    let regions = args.text_or_texts("region")?;
    for (index, region) in regions.iter().enumerate() {
        if region.trim().is_empty() {
            return Err(Fault::new("region", "an empty text is no region")
                .help("leave `region` out for the workflow's own")
                .arg("region"));
        }
        if regions[..index].contains(region) {
            return Err(
                Fault::new("duplicate", format!("`{region}` is twice in `region`"))
                    .help("a list of regions is in order of preference: leave one of them out")
                    .arg("region"),
            );
        }
    }
    Ok(regions)
}

fn produces(args: &Arguments<'_>, outputs: &[String]) -> Result<Vec<Produces>, Fault> {
    let Some(value) = args.take("produces") else {
        return Ok(Vec::new());
    };
    let items = list(value).unwrap_or_else(|| vec![value]);
    let mut all: Vec<Produces> = Vec::new();
    for item in items {
        let Some(artifact) = item.downcast_ref::<ArtifactValue>() else {
            return Err(Fault::new(
                "type",
                format!(
                    "`produces` is an artifact or a list of them, not {}",
                    describe(item)
                ),
            )
            .help("write produces = artifact(\"model\", id = \"model-${{ params.cohort }}\")")
            .arg("produces"));
        };
        let name = &artifact.0.name;
        if outputs.contains(name) || all.iter().any(|known| known.name == *name) {
            return Err(Fault::new("duplicate", format!("the step has two outputs named `{name}`"))
                .help("an artifact of `produces` is an output too: leave it out of `outputs`, or rename one")
                .arg("produces"));
        }
        all.push(artifact.0.clone());
    }
    Ok(all)
}

/// `where` and `prefer` see the agent only.
fn check_constraint(key: &str, expression: &Expression) -> Result<(), Fault> {
    const ROOTS: [&str; 4] = ["attributes", "region", "zone", "hostname"];
    let references = expression
        .references()
        .map_err(|error| Fault::new("expression", format!("`{key}`: {error}")).arg(key))?;
    for reference in references {
        if !ROOTS.contains(&reference.root.as_str()) {
            return Err(Fault::new(
                "unknown-reference",
                format!("`{key}` knows no `{}`", reference.root),
            )
            .maybe_help(suggest::remedy(
                &reference.root,
                "it is about the agent and sees",
                &ROOTS,
            ))
            .on(Focus::Text(reference.root)));
        }
    }
    Ok(())
}

fn one_of<'v>(args: &Arguments<'v>, name: &str) -> Result<Template, Fault> {
    args.required(name)?;
    Ok(args.template(name)?.unwrap_or_default())
}

/// Whether an application is somewhere else than in the bundle.
fn is_remote(app: &str) -> bool {
    app.contains("://") || app.starts_with("local:") || app.starts_with('/') || app.contains("${{")
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// A process: shell text or a program with its arguments.
    fn command<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<StepValue> {
        let args = Arguments::new("command", COMMAND, &positional.items, named, 1)?;
        let run = args.template("run")?;
        let argv = args.templates("argv")?;
        let command = match (run, argv) {
            (Some(run), None) if !run.0.trim().is_empty() => Command::Shell(run),
            (None, Some(argv)) if !argv.is_empty() => Command::Argv(argv),
            (Some(_), Some(_)) => {
                return Err(
                    Fault::new("arguments", "command() takes `run` or `argv`, not both")
                        .help("run = \"…\" goes through a shell, argv = [\"program\", …] does not")
                        .arg("argv")
                        .into(),
                );
            }
            (Some(_), None) => {
                return Err(Fault::new("value", "`run` is empty")
                    .help("write the shell text")
                    .arg("run")
                    .into());
            }
            (None, Some(_)) => {
                return Err(Fault::new("value", "`argv` is empty")
                    .help("write the program first")
                    .arg("argv")
                    .into());
            }
            (None, None) => {
                return Err(Fault::new("arguments", "command() needs `run` or `argv`")
                    .help("write command(run = \"echo hello\") or command(argv = [\"echo\", \"hello\"])")
                    .into());
            }
        };
        Ok(step(args, StepKind::Command(command), eval)?)
    }

    /// Nothing: a place where branches meet.
    fn noop<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<StepValue> {
        let args = Arguments::new("noop", NOOP, &positional.items, named, 0)?;
        Ok(step(args, StepKind::Noop, eval)?)
    }

    /// A container.
    fn docker<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<StepValue> {
        let args = Arguments::new("docker", DOCKER, &positional.items, named, 2)?;
        let kind = StepKind::Docker {
            image: one_of(&args, "image")?,
            args: args.templates("args")?.unwrap_or_default(),
            entrypoint: args.templates("entrypoint")?,
            mounts: args.templates("mounts")?.unwrap_or_default(),
        };
        Ok(step(args, kind, eval)?)
    }

    /// spark-submit.
    fn spark<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<StepValue> {
        let args = Arguments::new("spark", SPARK, &positional.items, named, 2)?;
        let mut app = one_of(&args, "app")?;
        if !is_remote(&app.0) {
            app = Template::literal(&bundle_file(eval, &app.0, "app")?);
        }
        let main_class = args.text("main_class")?;
        if app.0.ends_with(".jar") && main_class.is_none() {
            // A jar may name its main class itself, so this is fine.
        } else if main_class.is_some() && (app.0.ends_with(".py") || app.0.ends_with(".R")) {
            return Err(Fault::new(
                "arguments",
                "`main_class` is for jars; this application is a script",
            )
            .help("leave main_class out")
            .arg("main_class")
            .into());
        }
        let kind = StepKind::Spark {
            app,
            args: args.templates("args")?.unwrap_or_default(),
            main_class,
            version: args.text("version")?,
            master: args.template("master")?,
            conf: args.template_map("conf")?,
        };
        Ok(step(args, kind, eval)?)
    }

    /// Another workflow as a step: its file, or what workflow() returned.
    fn run_workflow<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<StepValue> {
        let args = Arguments::new("run_workflow", RUN_WORKFLOW, &positional.items, named, 1)?;
        let which = args.required("workflow")?;
        let definition = if let Some(workflow) = which.downcast_ref::<WorkflowValue>() {
            let session = context(eval)?.session;
            crate::lower::lower(session, &workflow.0)
                .map_err(crate::evaluate::nested)?
                .definition
        } else if let Some(path) = which.unpack_str() {
            crate::evaluate::run_workflow(context(eval)?, path)?
        } else {
            return Err(Fault::new(
                "type",
                format!(
                    "`workflow` is a file or a workflow, not {}",
                    describe(which)
                ),
            )
            .help("write run_workflow(\"other.star\") or load the workflow and pass it")
            .arg("workflow")
            .into());
        };
        let params = args.template_map("params")?;
        let known: Vec<&str> = definition
            .params
            .iter()
            .map(|param| param.name.as_str())
            .collect();
        if let Some(name) = params.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Fault::new(
                "unknown-param",
                format!("workflow `{}` has no parameter `{name}`", definition.name),
            )
            .maybe_help(suggest::remedy(name, "its parameters are", &known))
            .on(Focus::Text(format!("\"{name}\"")))
            .into());
        }
        if let Some(missing) = definition
            .params
            .iter()
            .find(|param| param.default.is_none() && !params.contains_key(&param.name))
        {
            return Err(Fault::new(
                "missing-param",
                format!(
                    "workflow `{}` needs the parameter `{}`",
                    definition.name, missing.name
                ),
            )
            .help(format!("add params = {{\"{}\": …}}", missing.name))
            .into());
        }
        Ok(step(
            args,
            StepKind::Workflow {
                definition: Box::new(definition),
                params,
            },
            eval,
        )?)
    }
}
