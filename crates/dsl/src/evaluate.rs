//! Runs workflow files, and the files that they load, within limits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use meson_core::definition::Definition;
use starlark::codemap::{CodeMap, FileSpan, FileSpanRef};
use starlark::environment::{FrozenModule, Module};
use starlark::eval::{BeforeStmtFunc, BeforeStmtFuncDyn, Evaluator, ReturnFileLoader};

use crate::PRELUDE;
use crate::diagnostic::Diagnostic;
use crate::fault::{Fault, diagnose, memory};
use crate::files;
use crate::lower;
use crate::model::WorkflowDef;
use crate::session::{Context, Loaded, Session};
use crate::source::{self, is_internal};

const PRELUDE_TEXT: &str = include_str!("prelude/steps.star");

type Outcome<T> = Result<T, Vec<Diagnostic>>;

/// Findings of another file as the reason why a call failed.
pub(crate) fn nested(nested: Vec<Diagnostic>) -> Fault {
    let message = nested
        .first()
        .map_or_else(String::new, |first| first.message.clone());
    Fault {
        nested,
        ..Fault::new("nested", message)
    }
}

/// Evaluates the standard steps.
pub(crate) fn load_prelude(session: &Session<'_>) -> Outcome<()> {
    let (module, _) = evaluate(session, Path::new(PRELUDE), PRELUDE_TEXT.to_owned())?;
    *session.prelude.borrow_mut() = Some(module);
    Ok(())
}

/// The file at `path`, evaluated once however often it is loaded.
pub(crate) fn load_file(session: &Session<'_>, path: &Path) -> Outcome<Loaded> {
    if let Some(loaded) = session.modules.borrow().get(path) {
        return Ok(loaded.clone());
    }
    let limits = &session.options.limits;
    if session.modules.borrow().len() + session.open.borrow().len() >= limits.files {
        let message = format!("more than {} files are loaded", limits.files);
        let help = "put functions that belong together into one file".to_owned();
        return Err(vec![Diagnostic::about_file(
            path.to_owned(),
            "too-many-files",
            message,
            Some(help),
        )]);
    }
    let text = read(session, path)?;
    session.open.borrow_mut().push(path.to_owned());
    let result = evaluate(session, path, text);
    session.open.borrow_mut().pop();
    let (module, workflows) = result?;
    let loaded = Loaded { module, workflows };
    session
        .modules
        .borrow_mut()
        .insert(path.to_owned(), loaded.clone());
    Ok(loaded)
}

fn read(session: &Session<'_>, path: &Path) -> Outcome<String> {
    let limit = session.options.limits.file_bytes;
    let problem = |code, message: String, help: &str| {
        vec![Diagnostic::about_file(
            path.to_owned(),
            code,
            message,
            Some(help.to_owned()),
        )]
    };
    let unreadable = |error: std::io::Error| {
        problem(
            "unreadable-file",
            format!("cannot read {}: {error}", path.display()),
            "check the path and its permissions",
        )
    };
    let size = session.files.size(path).map_err(unreadable)?;
    if size > limit {
        return Err(problem(
            "file-too-large",
            format!(
                "{} has {size} bytes; a workflow file has at most {limit}",
                path.display()
            ),
            "a workflow file only describes the steps; keep data in files that steps read",
        ));
    }
    Ok(session.files.read(path, limit).map_err(unreadable)?.text)
}

fn evaluate(
    session: &Session<'_>,
    path: &Path,
    text: String,
) -> Outcome<(FrozenModule, Vec<Arc<WorkflowDef>>)> {
    let name = path.display().to_string();
    let limits = &session.options.limits;
    let (ast, index) =
        source::parse(&name, &text, limits).map_err(|diagnostic| vec![*diagnostic])?;
    session.add_index(&name, index, CodeMap::new(name.clone(), text));

    let mut modules: HashMap<String, FrozenModule> = HashMap::new();
    for load in ast.loads() {
        if !modules.contains_key(load.module_id) {
            let module = load_module(session, path, load.module_id, &load.span)?;
            modules.insert(load.module_id.to_owned(), module);
        }
    }
    let loaded: HashMap<&str, &FrozenModule> = modules
        .iter()
        .map(|(name, module)| (name.as_str(), module))
        .collect();
    let loader = ReturnFileLoader { modules: &loaded };
    let context = Context {
        session,
        file: path.to_owned(),
        workflows: Default::default(),
    };
    let cancelled = session.options.cancelled.clone();

    Module::with_temp_heap(|module| {
        if let Some(prelude) = &*session.prelude.borrow() {
            module.import_public_symbols(prelude);
        }
        let last: Rc<RefCell<Option<FileSpan>>> = Rc::default();
        let failed = |error: &starlark::Error| {
            let last = last.borrow().clone();
            diagnose(
                session,
                last.unwrap_or_else(|| session.start_of(&name)),
                error,
            )
        };
        let misconfigured = |error: String| {
            vec![Diagnostic::about_file(
                path.to_owned(),
                "evaluation",
                error,
                None,
            )]
        };
        {
            let mut eval = Evaluator::new(&module);
            eval.extra = Some(&context);
            eval.set_loader(&loader);
            eval.set_max_tick_count(limits.ticks)
                .map_err(|error| misconfigured(error.to_string()))?;
            eval.set_max_callstack_size(limits.call_depth)
                .map_err(|error| misconfigured(error.to_string()))?;
            eval.set_max_heap_size(limits.heap_bytes)
                .map_err(|error| misconfigured(error.to_string()))?;
            if let Some(cancelled) = cancelled {
                eval.set_check_cancelled(Box::new(move || cancelled()));
            }
            let watch = Watch {
                heap_bytes: limits.heap_bytes,
                last: Rc::clone(&last),
            };
            eval.before_stmt_for_dap(BeforeStmtFunc::from_dyn(Box::new(watch)));
            eval.eval_module(ast, &session.globals)
                .map_err(|error| failed(&error))?;
        }
        let workflows = context.workflows.take();
        let frozen = module
            .freeze()
            .map_err(|error| misconfigured(format!("cannot keep the file's values: {error:?}")))?;
        Ok((frozen, workflows))
    })
}

/// Looks at the heap before every statement: Starlark itself looks every thousand calls and
/// rounds, and `text += text` doubles it in each. Remembers the statement, since errors about
/// limits come without a place.
struct Watch {
    heap_bytes: usize,
    last: Rc<RefCell<Option<FileSpan>>>,
}

impl<'e> BeforeStmtFuncDyn<'e> for Watch {
    fn call<'v>(
        &mut self,
        span: FileSpanRef<'_>,
        _continued: bool,
        eval: &mut Evaluator<'v, '_, 'e>,
    ) -> starlark::Result<()> {
        let span = span.to_file_span();
        if !is_internal(&span) {
            *self.last.borrow_mut() = Some(span);
        }
        if eval.heap().peak_allocated_bytes() > self.heap_bytes {
            Err(memory(self.heap_bytes).into())
        } else {
            Ok(())
        }
    }
}

/// The module that `load()` names in `from`.
fn load_module(
    session: &Session<'_>,
    from: &Path,
    name: &str,
    span: &FileSpan,
) -> Outcome<FrozenModule> {
    if name == PRELUDE {
        return session.prelude.borrow().clone().ok_or_else(Vec::new);
    }
    let problem =
        |code, message: String, help: String| vec![Diagnostic::at(span, code, message, Some(help))];
    if name.starts_with('@') {
        return Err(problem(
            "missing-file",
            format!("there is no module `{name}`"),
            format!("the standard steps are in \"{PRELUDE}\""),
        ));
    }
    let folder = from.parent().unwrap_or(Path::new(""));
    let path = files::resolve(folder, name).map_err(|found| {
        let (message, help) = found.say();
        problem("path", message.to_owned(), help.to_owned())
    })?;
    if !session.files.exists(&path) {
        return Err(problem(
            "missing-file",
            format!("there is no file `{name}`"),
            format!(
                "load() paths are relative to this file: it would be {}",
                path.display()
            ),
        ));
    }
    check_open(session, &path)
        .map_err(|fault| problem(fault.code, fault.message, fault.help.unwrap_or_default()))?;
    Ok(load_file(session, &path)?.module)
}

/// Refuses a file that is being evaluated already, and chains that are too long.
fn check_open(session: &Session<'_>, path: &Path) -> Result<(), Fault> {
    let open = session.open.borrow();
    if let Some(at) = open.iter().position(|file| file == path) {
        let chain: Vec<String> = open[at..]
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        return Err(Fault::new(
            "cycle",
            format!(
                "files need each other in a circle: {} → {}",
                chain.join(" → "),
                path.display()
            ),
        )
        .help("move what both need into a third file"));
    }
    let limit = session.options.limits.load_depth;
    if open.len() >= limit {
        return Err(Fault::new(
            "nesting",
            format!("files load each other more than {limit} levels deep"),
        )
        .help("load what is needed directly"));
    }
    Ok(())
}

/// The workflow of another file, for `run_workflow("other.star")`.
pub(crate) fn run_workflow(context: &Context<'_>, path: &str) -> Result<Definition, Fault> {
    let session = context.session;
    let full = files::resolve(context.folder(), path).map_err(|problem| {
        let (message, help) = problem.say();
        Fault::new("path", message).help(help).arg("workflow")
    })?;
    if !session.files.exists(&full) {
        return Err(Fault::new(
            "missing-file",
            format!("there is no workflow file `{path}`"),
        )
        .help(format!(
            "the path is relative to this file: it would be {}",
            full.display()
        ))
        .arg("workflow"));
    }
    check_open(session, &full).map_err(|fault| fault.arg("workflow"))?;
    let loaded = load_file(session, &full).map_err(nested)?;
    let workflow =
        the_workflow(session, &full, &loaded).map_err(|diagnostic| nested(vec![*diagnostic]))?;
    Ok(lower::lower(session, &workflow).map_err(nested)?.definition)
}

/// The one workflow of a file.
pub(crate) fn the_workflow(
    session: &Session<'_>,
    path: &Path,
    loaded: &Loaded,
) -> Result<Arc<WorkflowDef>, Box<Diagnostic>> {
    loaded.workflows.first().cloned().ok_or_else(|| {
        let start = session.start_of(&path.display().to_string());
        Box::new(Diagnostic::at(
            &start,
            "no-workflow",
            "the file defines no workflow",
            Some(
                "end it with workflow(name = \"my_workflow\", flow = start >> a >> b >> end)"
                    .to_owned(),
            ),
        ))
    })
}

/// Files that were read, but for the prelude.
pub(crate) fn sources(session: &Session<'_>) -> Vec<PathBuf> {
    session.modules.borrow().keys().cloned().collect()
}
