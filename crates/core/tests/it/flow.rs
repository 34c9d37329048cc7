//! Builds definitions out of a few words.

use meson_core::definition::{
    Command, Definition, FORMAT, Items, Join, Node, NodeKind, Param, ParamType, Produces,
    Replication, Step, StepKind,
};
use meson_core::expression::{Expression, Template};
use meson_core::ids::NodeId;
use meson_core::sizing::Auto;
use meson_core::units::{Bytes, Duration};
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) enum Flow {
    Step(Box<Step>),
    Sequence(Vec<Flow>),
    Parallel(Join, Vec<Flow>),
    ForEach {
        over: Vec<(String, Items)>,
        max_parallel: Option<u32>,
        tolerate: f64,
        body: Box<Flow>,
    },
    When {
        cond: String,
        then: Box<Flow>,
        otherwise: Option<Box<Flow>>,
    },
    Repeat {
        body: Box<Flow>,
        until: String,
        max_rounds: u32,
    },
}

pub(crate) fn step(name: &str) -> Flow {
    let kind = StepKind::Command(Command::Shell(Template("true".to_owned())));
    Flow::Step(Box::new(Step {
        outputs: vec!["out".to_owned()],
        retries: 0,
        ..Step::new(name, kind)
    }))
}

pub(crate) fn noop(name: &str) -> Flow {
    step(name).with(|step| {
        step.kind = StepKind::Noop;
        step.outputs.clear();
    })
}

pub(crate) fn seq(flows: impl IntoIterator<Item = Flow>) -> Flow {
    Flow::Sequence(flows.into_iter().collect())
}

pub(crate) fn all(flows: impl IntoIterator<Item = Flow>) -> Flow {
    Flow::Parallel(Join::All, flows.into_iter().collect())
}

pub(crate) fn any(flows: impl IntoIterator<Item = Flow>) -> Flow {
    Flow::Parallel(Join::Any, flows.into_iter().collect())
}

pub(crate) fn each(name: &str, items: Items, body: Flow) -> Flow {
    Flow::ForEach {
        over: vec![(name.to_owned(), items)],
        max_parallel: None,
        tolerate: 0.0,
        body: Box::new(body),
    }
}

pub(crate) fn numbers(count: usize) -> Items {
    Items::Literal((0..count).map(|n| json!(n)).collect())
}

pub(crate) fn computed(expression: &str) -> Items {
    Items::Computed(Expression(expression.to_owned()))
}

pub(crate) fn when(cond: &str, then: Flow, otherwise: Option<Flow>) -> Flow {
    Flow::When {
        cond: cond.to_owned(),
        then: Box::new(then),
        otherwise: otherwise.map(Box::new),
    }
}

pub(crate) fn repeat(body: Flow, until: &str, max_rounds: u32) -> Flow {
    Flow::Repeat {
        body: Box::new(body),
        until: until.to_owned(),
        max_rounds,
    }
}

impl Flow {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Step)) -> Self {
        match &mut self {
            Self::Step(step) => change(step),
            _ => panic!("only steps have this"),
        }
        self
    }

    pub(crate) fn retries(self, retries: u32) -> Self {
        self.with(|step| step.retries = retries)
    }

    /// Asks for so much memory, and may learn up to a limit.
    pub(crate) fn auto(self, mib: u64, max_mib: u64) -> Self {
        self.with(|step| {
            step.resources.mem = Bytes::from_mib(mib);
            step.resources.stated = true;
            step.auto = Some(Auto {
                max_mem: Bytes::from_mib(max_mib),
                max_cpus: None,
            });
        })
    }

    pub(crate) fn timeout(self, duration: Duration) -> Self {
        self.with(|step| step.timeout = Some(duration))
    }

    pub(crate) fn produces(self, name: &str, id: &str) -> Self {
        self.with(|step| {
            step.produces.push(Produces {
                name: name.to_owned(),
                id: Template(id.to_owned()),
            })
        })
    }

    pub(crate) fn shell(self, text: &str) -> Self {
        self.with(|step| step.kind = StepKind::Command(Command::Shell(Template(text.to_owned()))))
    }

    pub(crate) fn at_most(mut self, most: u32) -> Self {
        match &mut self {
            Self::ForEach { max_parallel, .. } => *max_parallel = Some(most),
            _ => panic!("only loops have this"),
        }
        self
    }

    pub(crate) fn tolerating(mut self, share: f64) -> Self {
        match &mut self {
            Self::ForEach { tolerate, .. } => *tolerate = share,
            _ => panic!("only loops have this"),
        }
        self
    }

    pub(crate) fn define(self) -> Definition {
        let mut nodes = Vec::new();
        lower(self, None, &mut nodes);
        let param = |name: &str, kind, default: Value| Param {
            name: name.to_owned(),
            kind,
            default: Some(default),
            doc: String::new(),
        };
        Definition {
            format: FORMAT,
            name: "w".to_owned(),
            doc: String::new(),
            params: vec![
                param("flag", ParamType::Bool, json!(true)),
                param("items", ParamType::List, json!(["a", "b", "c"])),
                param("cohort", ParamType::String, json!("2026-11")),
            ],
            owner: "team".to_owned(),
            region: String::new(),
            replication: Replication::Regional,
            nodes,
            root: NodeId(0),
        }
    }
}

fn lower(flow: Flow, parent: Option<NodeId>, nodes: &mut Vec<Node>) -> NodeId {
    let id = NodeId(u32::try_from(nodes.len()).unwrap());
    nodes.push(Node {
        parent,
        kind: NodeKind::Sequence(Vec::new()),
    });
    let mut below = |flow: Flow| lower(flow, Some(id), nodes);
    let kind = match flow {
        Flow::Step(step) => NodeKind::Step(step),
        Flow::Sequence(flows) => NodeKind::Sequence(flows.into_iter().map(below).collect()),
        Flow::Parallel(join, flows) => NodeKind::Parallel {
            branches: flows.into_iter().map(below).collect(),
            join,
        },
        Flow::ForEach {
            over,
            max_parallel,
            tolerate,
            body,
        } => NodeKind::ForEach {
            over,
            max_parallel,
            tolerate,
            body: below(*body),
        },
        Flow::When {
            cond,
            then,
            otherwise,
        } => {
            let then = below(*then);
            NodeKind::When {
                cond: Expression(cond),
                then,
                otherwise: otherwise.map(|flow| below(*flow)),
            }
        }
        Flow::Repeat {
            body,
            until,
            max_rounds,
        } => NodeKind::Repeat {
            body: below(*body),
            until: Expression(until),
            max_rounds,
        },
    };
    nodes[id.0 as usize].kind = kind;
    id
}
