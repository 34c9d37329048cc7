//! Operators and verbs mean the same: random flows, written in both ways, are equal.

use std::fmt::Write as _;

use meson_core::definition::{Definition, Join, NodeKind};
use proptest::prelude::*;

use crate::support::{definition, try_compile};

#[derive(Debug, Clone)]
enum Tree {
    Step,
    Then(Vec<Tree>),
    Beside(Vec<Tree>),
    Any(Vec<Tree>),
    Loop(Box<Tree>),
    Repeat(Box<Tree>),
    When(Box<Tree>, Option<Box<Tree>>),
}

fn trees() -> impl Strategy<Value = Tree> {
    Just(Tree::Step).prop_recursive(5, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            3 => several.clone().prop_map(Tree::Then),
            3 => several.clone().prop_map(Tree::Beside),
            1 => several.prop_map(Tree::Any),
            1 => inner.clone().prop_map(|tree| Tree::Loop(Box::new(tree))),
            1 => inner.clone().prop_map(|tree| Tree::Repeat(Box::new(tree))),
            1 => (inner.clone(), prop::option::of(inner)).prop_map(|(a, b)| Tree::When(Box::new(a), b.map(Box::new))),
        ]
    })
}

/// How a tree is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Operators,
    /// As operators, but grouped from the right.
    RightOperators,
    Verbs,
    /// Step by step in variables, with `>>=` and `|=`.
    Marked,
}

fn write(tree: &Tree, style: Style, next: &mut usize, loops: usize) -> String {
    let all = |trees: &[Tree], next: &mut usize| {
        trees
            .iter()
            .map(|tree| write(tree, style, next, loops))
            .collect::<Vec<_>>()
    };
    let join = |parts: Vec<String>, operator: &str, verb: &str| match style {
        Style::Operators => format!("({})", parts.join(operator)),
        Style::Verbs => format!("{verb}({})", parts.join(", ")),
        Style::Marked => format!(
            "{verb}({})",
            parts
                .iter()
                .map(|part| format!("{verb}({part})"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Style::RightOperators => {
            let mut parts = parts.into_iter().rev();
            let last = parts.next().unwrap_or_default();
            parts.fold(last, |right, left| format!("({left}{operator}({right}))"))
        }
    };
    match tree {
        Tree::Step => {
            *next += 1;
            format!("noop(name = \"s{next}\")")
        }
        Tree::Then(trees) => join(all(trees, next), " >> ", "sequence"),
        Tree::Beside(trees) => join(all(trees, next), " | ", "parallel"),
        Tree::Any(trees) => format!("parallel({}, join = \"any\")", all(trees, next).join(", ")),
        Tree::Loop(body) => {
            format!(
                "for_each(over = {{\"v{loops}\": [1, 2]}}, do = {})",
                write(body, style, next, loops + 1)
            )
        }
        Tree::Repeat(body) => format!(
            "repeat(do = {}, until = \"true\", max_rounds = 2)",
            write(body, style, next, loops + 1)
        ),
        Tree::When(then, otherwise) => {
            let then = write(then, style, next, loops);
            let mut text = format!("when(cond = \"true\", then = {then}");
            if let Some(otherwise) = otherwise {
                let _ = write!(
                    text,
                    ", otherwise = {}",
                    write(otherwise, style, next, loops)
                );
            }
            text + ")"
        }
    }
}

fn lowered(tree: &Tree, style: Style) -> Definition {
    let flow = write(tree, style, &mut 0, 0);
    let flow = if style == Style::Marked {
        format!("start >> {flow} >> end")
    } else {
        flow
    };
    definition(&format!("workflow(name = \"w\", flow = {flow})\n"))
}

/// The normal form that the definition's documentation promises.
fn assert_normal(definition: &Definition) {
    for node in &definition.nodes {
        let kind = |id| &definition.node(id).kind;
        match &node.kind {
            NodeKind::Sequence(children) => {
                assert_ne!(children.len(), 1);
                assert!(
                    !children
                        .iter()
                        .any(|child| matches!(kind(*child), NodeKind::Sequence(_)))
                );
            }
            NodeKind::Parallel { branches, join } => {
                assert!(branches.len() > 1);
                if *join == Join::All {
                    assert!(!branches.iter().any(|child| matches!(
                        kind(*child),
                        NodeKind::Parallel {
                            join: Join::All,
                            ..
                        }
                    )));
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn operators_and_verbs_give_equal_definitions(tree in trees()) {
        let operators = lowered(&tree, Style::Operators);
        assert_normal(&operators);
        prop_assert_eq!(&operators, &lowered(&tree, Style::Verbs));
        prop_assert_eq!(&operators, &lowered(&tree, Style::RightOperators));
        prop_assert_eq!(&operators, &lowered(&tree, Style::Marked));
        let json = serde_json::to_string(&operators).unwrap();
        prop_assert_eq!(operators, serde_json::from_str::<Definition>(&json).unwrap());
    }

    #[test]
    fn no_text_makes_the_compiler_panic(text in "[a-z(){}\\[\\]<>|=\"'#:,. \n$0-9+*%-]{0,200}") {
        let _ = try_compile(&text);
    }
}

#[test]
fn assignments_with_operators_mean_the_same() {
    let steps = "a = noop()\nb = noop()\nc = noop()\n";
    let plain = definition(&format!(
        "{steps}workflow(name = \"w\", flow = a >> b >> c)\n"
    ));
    assert_eq!(
        plain,
        definition(&format!(
            "{steps}f = a\nf >>= b\nf >>= c\nworkflow(name = \"w\", flow = f)\n"
        ))
    );
    let wide = definition(&format!(
        "{steps}workflow(name = \"w\", flow = a | b | c)\n"
    ));
    assert_eq!(
        wide,
        definition(&format!(
            "{steps}f = a\nf |= b\nf |= c\nworkflow(name = \"w\", flow = f)\n"
        ))
    );
}

#[test]
fn a_flow_that_two_others_extend_is_not_changed_by_either() {
    let text = "a = noop()\nb = noop()\nc = noop()\nhead = start >> a\nleft = head >> b\nright = head >> c\nworkflow(name = \"w\", flow = right)\n";
    let names: Vec<_> = definition(text)
        .steps()
        .map(|(_, step)| step.name.clone())
        .collect();
    assert_eq!(names, ["a", "c"]);
}
