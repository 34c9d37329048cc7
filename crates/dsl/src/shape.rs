//! The shape of flows and steps: the normal form in which operators and verbs are equal, all
//! steps of a flow, all texts of a step.

use std::sync::Arc;

use meson_core::definition::{Command, Join, Step, StepKind};
use meson_core::expression::Template;

use crate::flow::{Child, Kind};
use crate::model::StepDef;

/// A part of a flow in normal form: no sequence directly in a sequence, no `|` directly in
/// a `|`, nothing of one element, no `start` and `end`.
pub(crate) enum Shape {
    One(Child),
    Sequence(Vec<Child>),
    Parallel(Vec<Child>, Join),
}

pub(crate) fn shape(child: &Child) -> Shape {
    match &child.flow.kind {
        Kind::Empty => Shape::Sequence(Vec::new()),
        Kind::Sequence(chain) => {
            let mut items = Vec::new();
            let mut only = None;
            for item in chain.items() {
                let shaped = shape(&item);
                match shaped {
                    Shape::Sequence(more) => items.extend(more),
                    other => {
                        items.push(item);
                        only = Some(other);
                    }
                }
            }
            match (items.len(), only) {
                (1, Some(only)) => only,
                (1, None) => shape(&items[0]),
                _ => Shape::Sequence(items),
            }
        }
        Kind::Parallel(chain, join) => {
            let mut branches = Vec::new();
            let mut only = None;
            for item in chain.items() {
                let shaped = shape(&item);
                match shaped {
                    Shape::Parallel(more, Join::All) if *join == Join::All => branches.extend(more),
                    Shape::Sequence(nothing) if nothing.is_empty() && *join == Join::All => {}
                    other => {
                        branches.push(item);
                        only = Some(other);
                    }
                }
            }
            match (branches.len(), only) {
                (0, _) => Shape::Sequence(Vec::new()),
                (1, Some(only)) => only,
                _ => Shape::Parallel(branches, *join),
            }
        }
        _ => Shape::One(child.clone()),
    }
}

/// Every step of the flow, each time that it is used.
pub(crate) fn collect(child: &Child, steps: &mut Vec<Arc<StepDef>>) {
    match &child.flow.kind {
        Kind::Empty => {}
        Kind::Step(step) => steps.push(Arc::clone(step)),
        Kind::Sequence(chain) | Kind::Parallel(chain, _) => {
            chain.items().iter().for_each(|item| collect(item, steps));
        }
        Kind::ForEach { body, .. } | Kind::Repeat { body, .. } => collect(body, steps),
        Kind::When {
            then, otherwise, ..
        } => {
            collect(then, steps);
            otherwise
                .iter()
                .for_each(|otherwise| collect(otherwise, steps));
        }
    }
}

/// Every text of a step that is evaluated when the step starts.
pub(crate) fn texts(step: &mut Step) -> Vec<&mut String> {
    let mut all: Vec<&mut Template> = Vec::new();
    match &mut step.kind {
        StepKind::Noop => {}
        StepKind::Command(Command::Shell(text)) => all.push(text),
        StepKind::Command(Command::Argv(argv)) => all.extend(argv),
        StepKind::Docker {
            image,
            args,
            entrypoint,
            mounts,
        } => {
            all.push(image);
            all.extend(args);
            all.extend(entrypoint.iter_mut().flatten());
            all.extend(mounts);
        }
        StepKind::Spark {
            app,
            args,
            master,
            conf,
            ..
        } => {
            all.push(app);
            all.extend(args);
            all.extend(master);
            all.extend(conf.values_mut());
        }
        StepKind::Workflow { params, .. } => all.extend(params.values_mut()),
    }
    all.extend(step.env.values_mut());
    all.extend(step.inputs.values_mut());
    all.extend(step.produces.iter_mut().map(|produces| &mut produces.id));
    all.into_iter().map(|template| &mut template.0).collect()
}
