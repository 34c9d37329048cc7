//! Whatever the flow and whatever happens around it.

use meson_core::definition::{Definition, Items, Join, NodeKind};
use meson_core::run::{Input, RunState};
use meson_core::units::Duration;
use proptest::prelude::*;
use serde_json::json;

use crate::chance::Dice;
use crate::flow::{Flow, noop, step};
use crate::world::World;

/// A shape; names and expressions come when it is finished, for they depend on what is around.
#[derive(Debug, Clone)]
enum Shape {
    Step {
        retries: u32,
        timeout: bool,
        produces: bool,
        refers: bool,
        learns: bool,
    },
    Noop,
    Sequence(Vec<Shape>),
    Parallel(bool, Vec<Shape>),
    ForEach {
        lists: Vec<Option<usize>>,
        max_parallel: Option<u32>,
        tolerate: f64,
        body: Box<Shape>,
    },
    When(Option<bool>, Box<Shape>, Option<Box<Shape>>),
    Repeat(Box<Shape>, Option<bool>, u32),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        4 => (0u32..3, any::<bool>(), prop::bool::weighted(0.2), any::<bool>(), any::<bool>())
            .prop_map(|(retries, timeout, produces, refers, learns)| Shape::Step { retries, timeout, produces, refers, learns }),
        1 => Just(Shape::Noop),
        1 => Just(Shape::Sequence(Vec::new())),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let several = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            3 => several.clone().prop_map(Shape::Sequence),
            2 => (any::<bool>(), several).prop_map(|(any, flows)| Shape::Parallel(any, flows)),
            2 => (
                prop::collection::vec(prop::option::of(0usize..5), 1..3),
                prop::option::of(1u32..4),
                prop_oneof![Just(0.0), Just(0.34), Just(1.0)],
                inner.clone()
            )
                .prop_map(|(lists, max_parallel, tolerate, body)| Shape::ForEach {
                    lists,
                    max_parallel,
                    tolerate,
                    body: Box::new(body)
                }),
            1 => (any::<Option<bool>>(), inner.clone(), prop::option::of(inner.clone()))
                .prop_map(|(cond, then, other)| Shape::When(cond, Box::new(then), other.map(Box::new))),
            1 => (inner, any::<Option<bool>>(), 1u32..4)
                .prop_map(|(body, until, rounds)| Shape::Repeat(Box::new(body), until, rounds)),
        ]
    })
}

/// Gives names, and expressions over the steps that are done by then.
#[derive(Default)]
struct Namer {
    steps: u32,
    variables: u32,
    loops: usize,
}

impl Namer {
    fn finish(&mut self, shape: &Shape, before: &mut Vec<String>) -> Flow {
        match shape {
            Shape::Noop => {
                self.steps += 1;
                noop(&format!("s{}", self.steps))
            }
            Shape::Step {
                retries,
                timeout,
                produces,
                refers,
                learns,
            } => {
                self.steps += 1;
                let name = format!("s{}", self.steps);
                let mut flow = step(&name).retries(*retries);
                if *learns {
                    flow = flow.auto(128, 1_024);
                }
                if *timeout {
                    flow = flow.timeout(Duration::from_secs(60));
                }
                let text = match before.last().filter(|_| *refers) {
                    Some(other) => format!("${{{{ {other}.out }}}}-{name}"),
                    None => format!("id-{name}"),
                };
                flow = if *produces {
                    flow.produces("model", &text)
                } else {
                    flow.shell(&text)
                };
                before.push(name);
                flow
            }
            Shape::Sequence(flows) => {
                Flow::Sequence(flows.iter().map(|flow| self.finish(flow, before)).collect())
            }
            Shape::Parallel(any, flows) => {
                let outer = before.clone();
                let flows = flows
                    .iter()
                    .map(|flow| {
                        let mut inside = outer.clone();
                        let flow = self.finish(flow, &mut inside);
                        before.extend(inside.split_off(outer.len()));
                        flow
                    })
                    .collect();
                Flow::Parallel(if *any { Join::Any } else { Join::All }, flows)
            }
            Shape::ForEach {
                lists,
                max_parallel,
                tolerate,
                body,
            } => {
                // A loop in a loop in a loop has more iterations than a test has time.
                self.loops += 1;
                let most = if self.loops > 1 { 2 } else { 4 };
                let over = lists
                    .iter()
                    .map(|list| {
                        self.variables += 1;
                        let items = match list {
                            Some(count) => {
                                Items::Literal((0..(*count).min(most)).map(|n| json!(n)).collect())
                            }
                            None => Items::Computed(meson_core::expression::Expression(
                                "params.items.filter(x, x != 'b')".to_owned(),
                            )),
                        };
                        (format!("v{}", self.variables), items)
                    })
                    .collect();
                let body = Box::new(self.finish(body, before));
                self.loops -= 1;
                Flow::ForEach {
                    over,
                    max_parallel: *max_parallel,
                    tolerate: *tolerate,
                    body,
                }
            }
            Shape::When(cond, then, otherwise) => {
                let cond = match (cond, before.last()) {
                    (Some(cond), _) => format!("params.flag == {cond}"),
                    (None, Some(step)) => format!("string({step}.out) != '3'"),
                    (None, None) => "params.cohort > '2026'".to_owned(),
                };
                let outer = before.len();
                let then = self.finish(then, before);
                let in_then = before.split_off(outer);
                let otherwise = otherwise
                    .as_ref()
                    .map(|other| Box::new(self.finish(other, before)));
                before.extend(in_then);
                Flow::When {
                    cond,
                    then: Box::new(then),
                    otherwise,
                }
            }
            Shape::Repeat(body, until, max_rounds) => {
                self.loops += 1;
                let body = self.finish(body, before);
                self.loops -= 1;
                let until = match (until, before.last()) {
                    (Some(until), _) => until.to_string(),
                    (None, Some(step)) => format!("string({step}.out) > '2'"),
                    (None, None) => "params.flag".to_owned(),
                };
                Flow::Repeat {
                    body: Box::new(body),
                    until,
                    max_rounds: *max_rounds,
                }
            }
        }
    }
}

/// A definition that prints as its flow: what proptest shows of a failure is to be read.
struct Case(Definition);

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (id, node) in self.0.nodes.iter().enumerate() {
            match &node.kind {
                NodeKind::Step(step) => write!(
                    f,
                    "\n  {id}: {} {} retries {} timeout {:?} produces {}",
                    step.name,
                    step.kind.name(),
                    step.retries,
                    step.timeout,
                    step.produces.len()
                )?,
                kind => write!(f, "\n  {id}: {}", format!("{kind:?}").replace("NodeId", ""))?,
            }
        }
        Ok(())
    }
}

fn definitions() -> impl Strategy<Value = Case> {
    shapes().prop_map(|shape| Case(Namer::default().finish(&shape, &mut Vec::new()).define()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_its_log_tells_all_of_it(definition in definitions(), seed: u64, unlucky in 0usize..40) {
        let mut world = World::begin(definition.0);
        world.play(&mut Dice(seed), unlucky);
        prop_assert_eq!(world.replayed(), world.records);
    }

    #[test]
    fn a_cancelled_run_ends_and_can_go_on_to_its_end(definition in definitions(), seed: u64, delay in 0usize..40) {
        let dice = &mut Dice(seed);
        let mut world = World::begin(definition.0);
        for _ in 0..delay {
            if !world.ended {
                world.tick(dice, 20);
                world.check();
            }
        }
        if !world.ended {
            world.feed(Input::Cancel { reason: "enough".to_owned() });
            world.play(dice, 20);
        }
        if world.state() != RunState::Succeeded {
            world.pending.clear();
            world.feed(Input::Retry { from: None });
            world.play(dice, 0);
        }
        prop_assert_eq!(world.replayed(), world.records);
    }

    #[test]
    fn a_run_can_go_on_from_any_of_its_steps_again_and_again(definition in definitions(), seed: u64) {
        let dice = &mut Dice(seed);
        let mut world = World::begin(definition.0);
        let steps: Vec<_> = world.plan.definition().steps().map(|(id, _)| id).collect();
        for unlucky in [30, 10, 0] {
            world.play(dice, unlucky);
            if steps.is_empty() {
                break;
            }
            world.pending.clear();
            world.feed(Input::Retry { from: Some(steps[dice.roll(steps.len())]) });
        }
        if !steps.is_empty() {
            world.play(dice, 5);
        }
        prop_assert_eq!(world.replayed(), world.records);
    }

    #[test]
    fn with_good_luck_only_conditions_make_a_run_fail(definition in definitions(), seed: u64) {
        let mut definition = definition.0;
        for node in &mut definition.nodes {
            if let NodeKind::Step(step) = &mut node.kind {
                step.timeout = None;
            }
        }
        let mut world = World::begin(definition);
        world.play(&mut Dice(seed), 0);
        if world.state() == RunState::Failed {
            let error = world.status().error.unwrap();
            let of_conditions = ["within", "until:", "when:", "branches", "iterations"];
            prop_assert!(of_conditions.iter().any(|word| error.contains(word)), "{}", error);
        }
    }
}
