//! The way from a file to a definition.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use meson_core::definition::Definition;

use crate::builtins;
use crate::diagnostic::{Diagnostic, Diagnostics, Warning};
use crate::evaluate::{load_file, load_prelude, sources, the_workflow};
use crate::fault::{Focus, locate};
use crate::files::{Files, Folder};
use crate::lower::{Lowered, lower};
use crate::model::WorkflowDef;
use crate::options::Options;
use crate::session::Session;
use crate::warnings;

/// A workflow file that can be submitted.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What runs.
    pub definition: Definition,
    /// Scripts, queries and applications that the bundle must hold, relative to the file's
    /// folder; sorted.
    pub files: Vec<PathBuf>,
    /// The `.star` files that were read, sorted.
    pub sources: Vec<PathBuf>,
    /// What looks wrong.
    pub warnings: Vec<Warning>,
    /// Where each step was written, by name.
    pub places: BTreeMap<String, Location>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Relative to the root of the compilation.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// Compiles the workflow file `entry` of `files`.
///
/// # Errors
///
/// [`Diagnostics`] with everything that is wrong: at most one finding while the file is
/// evaluated, all findings about the flow.
pub fn compile(
    entry: &Path,
    files: &dyn Files,
    options: &Options,
) -> Result<Compiled, Diagnostics> {
    // Starlark's parser and compiler are recursive, and callers have stacks of any size. The
    // thread is only there for its stack: nobody goes on before it has ended.
    let failed = |message: String| {
        Diagnostics::one(Diagnostic::about_file(
            entry.to_owned(),
            "evaluation",
            message,
            None,
        ))
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("meson-dsl".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || compile_here(entry, files, options))
            .map_err(|error| {
                failed(format!(
                    "cannot get {} MiB of stack to compile: {error}",
                    STACK_BYTES >> 20
                ))
            })?
            .join()
            .unwrap_or_else(|_| {
                Err(failed(
                    "the compiler failed; please report this file".to_owned(),
                ))
            })
    })
}

/// Enough for [`Limits::nesting`](crate::Limits::nesting) in a build without optimisation
/// (80 KiB a level at most, measured). Memory that is not used is not taken.
const STACK_BYTES: usize = 128 << 20;

fn compile_here(
    entry: &Path,
    files: &dyn Files,
    options: &Options,
) -> Result<Compiled, Diagnostics> {
    let session = Session::new(files, options, builtins::globals());
    load_prelude(&session)?;
    let entry =
        crate::files::resolve(Path::new(""), &entry.to_string_lossy()).map_err(|problem| {
            let (message, help) = problem.say();
            Diagnostics::one(Diagnostic::about_file(
                entry.to_owned(),
                "path",
                message.to_owned(),
                Some(help.to_owned()),
            ))
        })?;
    let loaded = load_file(&session, &entry)?;
    let workflow = the_workflow(&session, &entry, &loaded)
        .map_err(|diagnostic| Diagnostics::one(*diagnostic))?;
    let lowered = lower(&session, &workflow)?;
    validated(&session, &workflow, &lowered)?;
    if let Some(given) = &options.params {
        meson_core::params::bind(&lowered.definition, given.clone()).map_err(|error| {
            let place = locate(
                &session,
                &workflow.site,
                &Focus::Argument("params".to_owned()),
            );
            Diagnostics::one(Diagnostic::at(&place, "params", error.to_string(), None))
        })?;
    }
    let warnings = warnings::warnings(&session, &entry, &workflow, &lowered);
    let places = lowered
        .sites
        .iter()
        .filter_map(|(name, site)| {
            let span = site.place()?;
            let begin = span.resolve_span().begin;
            let file = PathBuf::from(span.filename());
            Some((
                name.clone(),
                Location {
                    file,
                    line: begin.line + 1,
                    column: begin.column + 1,
                },
            ))
        })
        .collect();
    Ok(Compiled {
        definition: lowered.definition,
        files: session.bundle.borrow().iter().cloned().collect(),
        sources: sources(&session),
        warnings,
        places,
    })
}

/// What coordinators would refuse, found here first. Nearly all of it has been found by now,
/// with better places.
fn validated(
    session: &Session<'_>,
    workflow: &WorkflowDef,
    lowered: &Lowered,
) -> Result<(), Diagnostics> {
    let problems = match meson_core::validate::validate(&lowered.definition) {
        Ok(()) => return Ok(()),
        Err(problems) => problems,
    };
    let diagnostics = problems.into_iter().map(|problem| {
        let site = problem
            .step
            .as_ref()
            .and_then(|step| lowered.sites.get(step))
            .unwrap_or(&workflow.site);
        let argument = problem
            .field
            .split(['.', '['])
            .next()
            .unwrap_or_default()
            .to_owned();
        let place = locate(session, site, &Focus::Argument(argument));
        let help = (!problem.remedy.is_empty()).then_some(problem.remedy);
        Diagnostic::at(&place, "invalid", problem.message, help)
    });
    Err(Diagnostics::from(diagnostics.collect::<Vec<_>>()))
}

/// Compiles a workflow file on disk. Its folder is the root: what lies outside of it cannot
/// be loaded, and [`Compiled::files`] are relative to it.
pub fn compile_path(file: &Path, options: &Options) -> Result<Compiled, Diagnostics> {
    let unreadable = |error: std::io::Error| {
        Diagnostics::one(Diagnostic::about_file(
            file.to_owned(),
            "unreadable-file",
            format!("cannot read {}: {error}", file.display()),
            Some("check the path".to_owned()),
        ))
    };
    let (folder, name) = Folder::of(file).map_err(unreadable)?;
    compile(&name, &folder, options)
}
