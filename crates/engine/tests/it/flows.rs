//! Definitions for tests, written as trees.

use std::collections::BTreeMap;

use meson_core::definition::{
    Command, Definition, FORMAT, Items, Join, Node, NodeKind, Param, Produces, Replication, Step,
    StepKind,
};
use meson_core::expression::{Expression, Template};
use meson_core::ids::NodeId;

/// A node and what is below it.
pub(crate) enum Flow {
    Step(Box<Step>),
    Sequence(Vec<Flow>),
    Parallel(Vec<Flow>),
    ForEach {
        items: Items,
        max_parallel: Option<u32>,
        body: Box<Flow>,
    },
}

/// A step that a broker has to place.
pub(crate) fn task(name: &str) -> Step {
    Step::new(
        name,
        StepKind::Command(Command::Shell(Template("true".to_owned()))),
    )
}

/// A step that is done as soon as it is ready.
pub(crate) fn noop(name: &str) -> Step {
    Step::new(name, StepKind::Noop)
}

/// A step that is a run of another workflow.
pub(crate) fn child(name: &str, definition: Definition) -> Step {
    let definition = Box::new(definition);
    Step::new(
        name,
        StepKind::Workflow {
            definition,
            params: BTreeMap::new(),
        },
    )
}

/// A step that leaves an artifact behind.
pub(crate) fn producer(name: &str, artifact: &str, id: &str) -> Step {
    let produces = Produces {
        name: artifact.to_owned(),
        id: Template(id.to_owned()),
    };
    Step {
        produces: vec![produces],
        ..task(name)
    }
}

impl From<Step> for Flow {
    fn from(step: Step) -> Self {
        Self::Step(Box::new(step))
    }
}

pub(crate) fn sequence(children: impl IntoIterator<Item = Flow>) -> Flow {
    Flow::Sequence(children.into_iter().collect())
}

pub(crate) fn parallel(children: impl IntoIterator<Item = Flow>) -> Flow {
    Flow::Parallel(children.into_iter().collect())
}

/// A loop over so many numbers.
pub(crate) fn for_each(count: u32, max_parallel: Option<u32>, body: impl Into<Flow>) -> Flow {
    let items = Items::Literal((0..count).map(Into::into).collect());
    Flow::ForEach {
        items,
        max_parallel,
        body: Box::new(body.into()),
    }
}

/// A loop over a list that a step leaves.
pub(crate) fn for_each_of(list: &str, body: impl Into<Flow>) -> Flow {
    let items = Items::Computed(Expression(list.to_owned()));
    Flow::ForEach {
        items,
        max_parallel: None,
        body: Box::new(body.into()),
    }
}

/// The definition of a tree.
pub(crate) fn workflow(name: &str, flow: impl Into<Flow>) -> Definition {
    let mut nodes = Vec::new();
    let root = place(flow.into(), None, &mut nodes);
    Definition {
        format: FORMAT,
        name: name.to_owned(),
        doc: String::new(),
        params: Vec::<Param>::new(),
        owner: String::new(),
        region: String::new(),
        replication: Replication::Regional,
        nodes,
        root,
    }
}

fn place(flow: Flow, parent: Option<NodeId>, nodes: &mut Vec<Node>) -> NodeId {
    let id = NodeId(u32::try_from(nodes.len()).unwrap());
    nodes.push(Node {
        parent,
        kind: NodeKind::Sequence(Vec::new()),
    });
    let mut below = |flow: Flow| place(flow, Some(id), nodes);
    let kind = match flow {
        Flow::Step(step) => NodeKind::Step(step),
        Flow::Sequence(children) => {
            NodeKind::Sequence(children.into_iter().map(&mut below).collect())
        }
        Flow::Parallel(children) => NodeKind::Parallel {
            branches: children.into_iter().map(&mut below).collect(),
            join: Join::All,
        },
        Flow::ForEach {
            items,
            max_parallel,
            body,
        } => NodeKind::ForEach {
            over: vec![("item".to_owned(), items)],
            body: below(*body),
            max_parallel,
            tolerate: 0.0,
        },
    };
    nodes[id.0 as usize].kind = kind;
    id
}
