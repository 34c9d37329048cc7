//! A definition made ready to run: checked, indexed, its expressions parsed. Made once, used
//! by every transition.

use std::collections::HashMap;
use std::sync::Arc;

use crate::definition::{Definition, Items, Node, NodeKind, Step};
use crate::expression::{Compiled, CompiledTemplate, EvalError, Expression, Template};
use crate::ids::{Instance, IterPath, NodeId};
use crate::validate::{Problem, references, validate};

/// A definition made ready to run.
#[derive(Debug)]
pub struct Plan {
    definition: Arc<Definition>,
    places: Vec<Place>,
    steps: HashMap<String, NodeId>,
    expressions: HashMap<String, Compiled>,
    templates: HashMap<String, CompiledTemplate>,
}

/// Where a node stands.
#[derive(Debug, Clone, Default)]
struct Place {
    /// Which child of its parent it is.
    position: u32,
    /// The loops around it, outermost first: one level of its instances' paths for each.
    loops: Vec<NodeId>,
    /// Of the body of a for-each: steps in it that learn what to ask for.
    learners: Vec<NodeId>,
}

impl Plan {
    /// Checks `definition` and prepares it.
    pub fn new(definition: Arc<Definition>) -> Result<Self, Vec<Problem>> {
        validate(&definition)?;
        let mut plan = Self {
            places: vec![Place::default(); definition.nodes.len()],
            steps: definition
                .steps()
                .map(|(id, step)| (step.name.clone(), id))
                .collect(),
            expressions: HashMap::new(),
            templates: HashMap::new(),
            definition: Arc::clone(&definition),
        };
        let unreadable = |error: &dyn std::fmt::Display| {
            vec![Problem {
                code: "bad_expression".to_owned(),
                message: error.to_string(),
                remedy: String::new(),
                step: None,
                field: String::new(),
            }]
        };
        // A child stands after its parent, so the parent's place is known.
        for (id, node) in (0u32..).map(NodeId).zip(&definition.nodes) {
            for (position, child) in (0u32..).zip(node.kind.children()) {
                let mut loops = plan.places[id.0 as usize].loops.clone();
                loops.extend(node.kind.is_loop().then_some(id));
                plan.places[child.0 as usize] = Place {
                    position,
                    loops,
                    learners: Vec::new(),
                };
            }
            for expression in expressions(node) {
                let compiled = expression.compile().map_err(|error| unreadable(&error))?;
                plan.expressions.insert(expression.0.clone(), compiled);
            }
            if let NodeKind::Step(step) = &node.kind {
                for (_, template) in references::templates(step) {
                    if template.0.contains("${{") {
                        let compiled = template.compile().map_err(|error| unreadable(&error))?;
                        plan.templates.insert(template.0.clone(), compiled);
                    }
                }
            }
        }
        for node in &definition.nodes {
            if let NodeKind::ForEach { body, .. } = &node.kind {
                let mut learners = plan.subtree(*body);
                learners.retain(|node| plan.step(*node).is_some_and(|step| step.auto.is_some()));
                plan.places[body.0 as usize].learners = learners;
            }
        }
        Ok(plan)
    }

    /// The definition.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// The regions that a step asks for, in order of preference, or its workflow's; empty: neither
    /// asks for one.
    #[must_use]
    pub fn regions_of<'a>(&'a self, step: &'a Step) -> &'a [String] {
        let home = &self.definition().region;
        if !step.regions.is_empty() {
            &step.regions
        } else if home.is_empty() {
            &[]
        } else {
            std::slice::from_ref(home)
        }
    }

    /// The node of the step with this name.
    pub fn step_named(&self, name: &str) -> Option<NodeId> {
        self.steps.get(name).copied()
    }

    /// The step at this node, if it is a leaf.
    pub fn step(&self, node: NodeId) -> Option<&Step> {
        self.definition.step(node)
    }

    /// The loops around a node, outermost first.
    pub fn loops(&self, node: NodeId) -> &[NodeId] {
        self.places
            .get(node.0 as usize)
            .map_or(&[], |place| &place.loops)
    }

    /// Whether an instance can exist: the node does, and the path is as long as it has loops.
    pub fn fits(&self, instance: &Instance) -> bool {
        (instance.node.0 as usize) < self.places.len()
            && self.loops(instance.node).len() == instance.path.0.len()
    }

    /// Steps in the body of a for-each that learn what to ask for.
    pub(super) fn learners(&self, body: NodeId) -> &[NodeId] {
        self.places
            .get(body.0 as usize)
            .map_or(&[], |place| &place.learners)
    }

    pub(super) fn root(&self) -> Instance {
        Instance {
            node: self.definition.root,
            path: IterPath::default(),
        }
    }

    pub(super) fn kind(&self, node: NodeId) -> &NodeKind {
        &self.definition.node(node).kind
    }

    /// Which child of its parent a node is.
    pub(super) fn position(&self, node: NodeId) -> usize {
        self.places
            .get(node.0 as usize)
            .map_or(0, |place| place.position as usize)
    }

    /// The instance that `instance` is a child of.
    pub(super) fn parent(&self, instance: &Instance) -> Option<Instance> {
        let node = self.definition.node(instance.node).parent?;
        let path = if self.kind(node).is_loop() {
            instance.path.prefix(self.loops(node).len())
        } else {
            instance.path.clone()
        };
        Some(Instance { node, path })
    }

    /// All nodes below and including `node`.
    pub(super) fn subtree(&self, node: NodeId) -> Vec<NodeId> {
        let mut found = vec![node];
        let mut next = 0;
        while let Some(&node) = found.get(next) {
            found.extend(self.kind(node).children());
            next += 1;
        }
        found
    }

    /// An expression of this definition, parsed.
    pub(super) fn expression(&self, expression: &Expression) -> Result<&Compiled, EvalError> {
        // All of them were parsed at the beginning.
        self.expressions.get(&expression.0).ok_or_else(|| {
            EvalError::State(format!(
                "`{}` is no expression of this workflow",
                expression.0
            ))
        })
    }

    /// A template of this definition, parsed; none if it is plain text.
    pub(super) fn template(&self, template: &Template) -> Option<&CompiledTemplate> {
        self.templates.get(&template.0)
    }
}

/// The expressions that the state machine evaluates.
fn expressions(node: &Node) -> Vec<&Expression> {
    match &node.kind {
        NodeKind::When { cond, .. } => vec![cond],
        NodeKind::Repeat { until, .. } => vec![until],
        NodeKind::ForEach { over, .. } => over
            .iter()
            .filter_map(|(_, items)| match items {
                Items::Computed(expression) => Some(expression),
                Items::Literal(_) => None,
            })
            .collect(),
        NodeKind::Step(_) | NodeKind::Sequence(_) | NodeKind::Parallel { .. } => Vec::new(),
    }
}
