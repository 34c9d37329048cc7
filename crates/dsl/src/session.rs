//! What one compilation shares over all its files.

#![expect(
    unsafe_code,
    reason = "starlark's derive of ProvidesStaticType writes an unsafe impl"
)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use starlark::any::ProvidesStaticType;
use starlark::codemap::{CodeMap, FileSpan, Span};
use starlark::environment::{FrozenModule, Globals};
use starlark::eval::Evaluator;

use crate::fault::Fault;
use crate::files::Files;
use crate::model::{ParamDef, StepDef, WorkflowDef};
use crate::options::Options;
use crate::source::Index;

/// State of a compilation.
pub(crate) struct Session<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) options: &'a Options,
    pub(crate) globals: Globals,
    pub(crate) prelude: RefCell<Option<FrozenModule>>,
    /// Modules that are loaded, by path.
    pub(crate) modules: RefCell<BTreeMap<PathBuf, Loaded>>,
    /// Files that are being evaluated, outermost first: a second time would be a cycle.
    pub(crate) open: RefCell<Vec<PathBuf>>,
    /// Files of the bundle.
    pub(crate) bundle: RefCell<BTreeSet<PathBuf>>,
    pub(crate) steps: RefCell<Vec<Arc<StepDef>>>,
    pub(crate) params: RefCell<Vec<Arc<ParamDef>>>,
    indexes: RefCell<BTreeMap<String, (Rc<Index>, CodeMap)>>,
    next_id: Cell<u32>,
}

/// An evaluated file.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) module: FrozenModule,
    pub(crate) workflows: Vec<Arc<WorkflowDef>>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(files: &'a dyn Files, options: &'a Options, globals: Globals) -> Self {
        Self {
            files,
            options,
            globals,
            prelude: RefCell::default(),
            modules: RefCell::default(),
            open: RefCell::default(),
            bundle: RefCell::default(),
            steps: RefCell::default(),
            params: RefCell::default(),
            indexes: RefCell::default(),
            next_id: Cell::new(0),
        }
    }

    pub(crate) fn add_index(&self, file: &str, index: Index, codemap: CodeMap) {
        self.indexes
            .borrow_mut()
            .insert(file.to_owned(), (Rc::new(index), codemap));
    }

    pub(crate) fn index(&self, file: &str) -> Option<Rc<Index>> {
        self.indexes
            .borrow()
            .get(file)
            .map(|(index, _)| Rc::clone(index))
    }

    /// The first byte of a file.
    pub(crate) fn start_of(&self, file: &str) -> FileSpan {
        match self.indexes.borrow().get(file) {
            Some((_, codemap)) => codemap.file_span(Span::default()),
            None => CodeMap::new(file.to_owned(), String::new()).file_span(Span::default()),
        }
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    pub(crate) fn add_step(&self, step: StepDef) -> Result<Arc<StepDef>, Fault> {
        let mut steps = self.steps.borrow_mut();
        let limit = self.options.limits.steps;
        if steps.len() >= limit {
            return Err(Fault::new("too-many-steps", format!("the file defines more than {limit} steps"))
                .help("a step inside for_each(...) runs once per item, without being defined once per item"));
        }
        let step = Arc::new(step);
        steps.push(Arc::clone(&step));
        Ok(step)
    }

    pub(crate) fn step_named(&self, name: &str) -> Option<Arc<StepDef>> {
        self.steps
            .borrow()
            .iter()
            .find(|step| step.name.get().is_some_and(|n| n == name))
            .cloned()
    }

    /// Names that the author of `file` may have meant, the file's own first.
    pub(crate) fn names(&self, file: &str) -> Vec<String> {
        let mut names = self
            .index(file)
            .map(|index| index.bound.clone())
            .unwrap_or_default();
        names.extend(
            self.globals
                .names()
                .map(|name| name.as_str().to_owned())
                .filter(|name| !name.starts_with('_')),
        );
        if let Some(prelude) = &*self.prelude.borrow() {
            names.extend(prelude.names().map(|name| name.as_str().to_owned()));
        }
        names
    }
}

/// What functions of ours know about the file that calls them.
#[derive(ProvidesStaticType)]
pub(crate) struct Context<'a> {
    pub(crate) session: &'a Session<'a>,
    /// The file that is evaluated; paths in it are relative to its folder.
    pub(crate) file: PathBuf,
    /// Its `workflow(...)` calls so far.
    pub(crate) workflows: RefCell<Vec<Arc<WorkflowDef>>>,
}

impl<'a> Context<'a> {
    pub(crate) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }
}

/// The context that the evaluator carries.
pub(crate) fn context<'a, 'e>(eval: &Evaluator<'_, 'a, 'e>) -> Result<&'a Context<'e>, Fault> {
    eval.extra
        .and_then(|extra| extra.downcast_ref::<Context<'e>>())
        .ok_or_else(|| {
            Fault::new(
                "evaluation",
                "this function only works while a workflow file is evaluated",
            )
        })
}
