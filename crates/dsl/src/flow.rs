//! The flow of a workflow while it is put together: what `>>`, `|` and the verbs make.

use std::sync::{Arc, Mutex, PoisonError};

use meson_core::definition::{Items, Join};
use starlark::codemap::FileSpan;

use crate::fault::Fault;
use crate::model::StepDef;
use crate::source::Site;

/// Deepest nesting of verbs.
const MAX_DEPTH: u32 = 32;

/// A part of a flow.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) kind: Kind,
    depth: u32,
    /// `start` stands before it.
    starts: bool,
    /// `end` stands after it.
    ends: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing to do: `start` and `end` themselves.
    Empty,
    Step(Arc<StepDef>),
    Sequence(Chain),
    Parallel(Chain, Join),
    ForEach {
        over: Vec<(String, Items)>,
        body: Child,
        max_parallel: Option<u32>,
        tolerate: f64,
        site: Site,
    },
    When {
        cond: String,
        then: Child,
        otherwise: Option<Child>,
        site: Site,
    },
    Repeat {
        body: Child,
        until: String,
        max_rounds: u32,
        site: Site,
    },
}

/// A part of a flow where it is used.
#[derive(Debug, Clone)]
pub(crate) struct Child {
    pub(crate) flow: Arc<Flow>,
    pub(crate) at: Option<FileSpan>,
}

/// A list that grows at its end without copying what is there: `flow = flow >> step` in a
/// loop costs one push per round. Whoever is not the newest owner of the list copies it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    shared: Arc<Mutex<Vec<Child>>>,
    len: usize,
}

impl Chain {
    fn extended(&self, more: impl IntoIterator<Item = Child>) -> Self {
        let mut list = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() == self.len {
            list.extend(more);
            return Self {
                shared: Arc::clone(&self.shared),
                len: list.len(),
            };
        }
        let mut copy = list[..self.len].to_vec();
        copy.extend(more);
        Self {
            len: copy.len(),
            shared: Arc::new(Mutex::new(copy)),
        }
    }

    pub(crate) fn items(&self) -> Vec<Child> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)[..self.len].to_vec()
    }
}

impl Flow {
    fn new(kind: Kind, depth: u32, starts: bool, ends: bool) -> Result<Arc<Self>, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new(
                "nesting",
                format!("flows are nested deeper than {MAX_DEPTH} levels"),
            )
            .help("split the workflow: run_workflow(\"other.star\") runs another one as a step"));
        }
        Ok(Arc::new(Self {
            kind,
            depth,
            starts,
            ends,
        }))
    }

    pub(crate) fn start() -> Self {
        Self {
            kind: Kind::Empty,
            depth: 0,
            starts: true,
            ends: false,
        }
    }

    pub(crate) fn end() -> Self {
        Self {
            kind: Kind::Empty,
            depth: 0,
            starts: false,
            ends: true,
        }
    }

    pub(crate) fn step(step: Arc<StepDef>) -> Arc<Self> {
        Arc::new(Self {
            kind: Kind::Step(step),
            depth: 0,
            starts: false,
            ends: false,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    /// `left >> right`.
    pub(crate) fn then(left: &Child, right: &Child) -> Result<Arc<Self>, Fault> {
        let (l, r) = (&left.flow, &right.flow);
        if l.ends {
            return Err(Fault::new("flow", "nothing can come after `end`")
                .help("put `end` last, or leave it out"));
        }
        if r.starts {
            return Err(Fault::new("flow", "`start` can only come first")
                .help("put `start` first, or leave it out"));
        }
        let (starts, ends) = (l.starts, r.ends);
        let chain = match &l.kind {
            Kind::Empty => Chain::default(),
            Kind::Sequence(chain) => chain.clone(),
            _ => Chain::default().extended([left.clone()]),
        };
        let chain = match &r.kind {
            Kind::Empty => chain,
            Kind::Sequence(more) => chain.extended(more.items()),
            _ => chain.extended([right.clone()]),
        };
        Self::new(Kind::Sequence(chain), l.depth.max(r.depth), starts, ends)
    }

    /// `left | right`.
    pub(crate) fn beside(left: &Child, right: &Child) -> Result<Arc<Self>, Fault> {
        if left.flow.starts != right.flow.starts || left.flow.ends != right.flow.ends {
            return Err(Fault::new(
                "flow",
                "`|` binds looser than `>>`, so `start` or `end` is in one branch only",
            )
            .help("put the branches in parentheses: start >> a >> (b | c) >> end"));
        }
        if left.flow.is_empty() || right.flow.is_empty() {
            return Err(Fault::new("flow", "`start` and `end` are no branches")
                .help("leave them out of the `|`"));
        }
        let chain = match &left.flow.kind {
            Kind::Parallel(chain, Join::All) => chain.clone(),
            _ => Chain::default().extended([left.clone()]),
        };
        let chain = match &right.flow.kind {
            Kind::Parallel(more, Join::All) => chain.extended(more.items()),
            _ => chain.extended([right.clone()]),
        };
        let depth = left.flow.depth.max(right.flow.depth) + 1;
        Self::new(Kind::Parallel(chain, Join::All), depth, false, false)
    }

    /// `sequence(…)`.
    pub(crate) fn sequence(parts: &[Child]) -> Result<Arc<Self>, Fault> {
        let mut parts = parts.iter();
        let Some(first) = parts.next() else {
            return Self::new(Kind::Sequence(Chain::default()), 0, false, false);
        };
        let mut flow = first.clone();
        for part in parts {
            flow = Child {
                flow: Self::then(&flow, part)?,
                at: None,
            };
        }
        Ok(flow.flow)
    }

    /// `parallel(…)`.
    pub(crate) fn parallel(parts: &[Child], join: Join) -> Result<Arc<Self>, Fault> {
        let mut chain = Chain::default();
        let mut depth = 0;
        for part in parts {
            if part.flow.is_empty() {
                return Err(
                    Fault::new("flow", "`start` and `end` are no branches").help("leave them out")
                );
            }
            depth = depth.max(part.flow.depth + 1);
            chain = match &part.flow.kind {
                Kind::Parallel(more, Join::All) if join == Join::All => {
                    chain.extended(more.items())
                }
                _ => chain.extended([part.clone()]),
            };
        }
        Self::new(Kind::Parallel(chain, join), depth, false, false)
    }

    /// A verb around `parts`.
    pub(crate) fn verb(kind: Kind, parts: &[&Child]) -> Result<Arc<Self>, Fault> {
        let depth = parts
            .iter()
            .map(|part| part.flow.depth + 1)
            .max()
            .unwrap_or(0);
        Self::new(kind, depth, false, false)
    }
}
