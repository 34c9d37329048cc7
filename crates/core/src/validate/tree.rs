//! Whether the nodes are a tree: one root, every node reached once, parents and children
//! agree, children after parents, and not too deep.

use super::{MAX_DEPTH, MAX_LOOPS, MAX_NODES, Problems};
use crate::definition::{Node, NodeKind};
use crate::ids::NodeId;

impl NodeKind {
    /// The nodes right below, in order.
    pub fn children(&self) -> Vec<NodeId> {
        match self {
            Self::Step(_) => Vec::new(),
            Self::Sequence(children) => children.clone(),
            Self::Parallel { branches, .. } => branches.clone(),
            Self::ForEach { body, .. } | Self::Repeat { body, .. } => vec![*body],
            Self::When {
                then, otherwise, ..
            } => std::iter::once(*then).chain(*otherwise).collect(),
        }
    }

    /// Whether it adds a level to the paths of what is below it.
    pub fn is_loop(&self) -> bool {
        matches!(self, Self::ForEach { .. } | Self::Repeat { .. })
    }
}

pub(super) fn check(problems: &mut Problems<'_>) -> bool {
    let definition = problems.definition;
    let nodes = &definition.nodes;
    let mut broken = |message: String| {
        problems.add(
            None,
            "nodes",
            "no_tree",
            message,
            "let the DSL make the definition",
        );
        false
    };
    if nodes.len() > MAX_NODES {
        return broken(format!(
            "{} nodes, at most {MAX_NODES} are allowed",
            nodes.len()
        ));
    }
    match nodes.get(definition.root.0 as usize) {
        None => {
            return broken(format!(
                "the root is node {}, and there is none",
                definition.root.0
            ));
        }
        Some(Node {
            parent: Some(_), ..
        }) => return broken("the root has a parent".to_owned()),
        Some(_) => {}
    }
    // Node, depth, loops around it. A node that was seen is not entered again, so this ends.
    let mut seen = vec![false; nodes.len()];
    let mut ahead = vec![(definition.root, 1usize, 0usize)];
    seen[definition.root.0 as usize] = true;
    while let Some((id, depth, loops)) = ahead.pop() {
        let kind = &nodes[id.0 as usize].kind;
        if depth > MAX_DEPTH {
            return broken(format!("nodes nested deeper than {MAX_DEPTH} levels"));
        }
        let loops = loops + usize::from(kind.is_loop());
        if loops > MAX_LOOPS {
            return broken(format!("loops nested deeper than {MAX_LOOPS} levels"));
        }
        for child in kind.children() {
            let Some(node) = nodes.get(child.0 as usize) else {
                return broken(format!(
                    "node {} has the child {}, and there is none",
                    id.0, child.0
                ));
            };
            if child <= id {
                return broken(format!(
                    "node {} stands before its parent {}",
                    child.0, id.0
                ));
            }
            if node.parent != Some(id) {
                return broken(format!(
                    "node {} is a child of {}, and does not say so",
                    child.0, id.0
                ));
            }
            if std::mem::replace(&mut seen[child.0 as usize], true) {
                return broken(format!("node {} is a child twice", child.0));
            }
            ahead.push((child, depth + 1, loops));
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(lost) => broken(format!("node {lost} belongs to no other")),
        None => true,
    }
}
