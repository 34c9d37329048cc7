//! The workflows that are measured: of steps that do nothing.

use meson_core::definition::{
    Definition, FORMAT, Items, Node, NodeKind, Replication, Step, StepKind,
};
use meson_core::ids::NodeId;

/// One no-op after the other.
pub(crate) fn chain(steps: u32) -> Definition {
    let mut nodes = vec![Node {
        parent: None,
        kind: NodeKind::Sequence((1..=steps).map(NodeId).collect()),
    }];
    nodes.extend((1..=steps).map(|n| Node {
        parent: Some(NodeId(0)),
        kind: noop(format!("s{n}")),
    }));
    definition("chain", nodes)
}

/// A no-op for each of so many numbers.
pub(crate) fn wide(width: u32) -> Definition {
    let items = Items::Literal((0..width).map(Into::into).collect());
    let each = NodeKind::ForEach {
        over: vec![("n".to_owned(), items)],
        body: NodeId(1),
        max_parallel: None,
        tolerate: 0.0,
    };
    let body = Node {
        parent: Some(NodeId(0)),
        kind: noop("one".to_owned()),
    };
    definition(
        "wide",
        vec![
            Node {
                parent: None,
                kind: each,
            },
            body,
        ],
    )
}

fn definition(name: &str, nodes: Vec<Node>) -> Definition {
    Definition {
        format: FORMAT,
        name: name.to_owned(),
        doc: String::new(),
        params: Vec::new(),
        owner: String::new(),
        region: String::new(),
        replication: Replication::Regional,
        nodes,
        root: NodeId(0),
    }
}

fn noop(name: String) -> NodeKind {
    NodeKind::Step(Box::new(Step {
        retries: 0,
        ..Step::new(name, StepKind::Noop)
    }))
}
