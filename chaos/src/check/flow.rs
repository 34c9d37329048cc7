//! What has to be done before what. The tree of a definition is read here again, independently of the
//! engine that is judged by it.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::{
    definition::{Definition, Items, Join, NodeKind, StepKind},
    ids::NodeId,
};
use meson_protocol::api::RunEvent;

/// Iterations and rounds around a step, outermost first.
pub(super) type Path = Vec<u32>;

/// What is known of one instance of a step that was seen at all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Point {
    /// When it was done well.
    pub(super) done: Option<u64>,
}

/// Reads `2-17`.
pub(super) fn path_of(iteration: Option<&str>) -> Path {
    iteration
        .into_iter()
        .flat_map(|text| text.split('-'))
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Whether a `step_ended` lets what follows begin.
pub(super) fn succeeded(event: &RunEvent) -> bool {
    let state = event.text.split(": ").nth(1).unwrap_or_default();
    matches!(state, "succeeded" | "memoized" | "skipped")
}

/// A run's flow, with when each step was done.
pub(super) struct Flow<'a> {
    definition: &'a Definition,
    points: &'a BTreeMap<(&'a str, Path), Point>,
    /// Only processes were seen: steps that have none count as done whenever they have to be.
    processes: bool,
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        definition: &'a Definition,
        points: &'a BTreeMap<(&'a str, Path), Point>,
        processes: bool,
    ) -> Self {
        Self {
            definition,
            points,
            processes,
        }
    }

    /// Starts that came too early.
    pub(super) fn violations(&self, starts: &[(&str, Path, u64)]) -> Vec<String> {
        let mut found = Vec::new();
        for (step, path, at) in starts {
            let Some((node, _)) = self.definition.step_named(step) else {
                found.push(format!("{step} is no step of the workflow"));
                continue;
            };
            for (before, path_before) in self.before(node, path) {
                let done = self.done(before, &path_before);
                if done.is_none_or(|done| done >= *at) {
                    let done = done.map_or("never".to_owned(), |done| format!("at {done}"));
                    found.push(format!(
                        "{step}{path:?} starts at {at}, and node {}{path_before:?} before it is done {done}",
                        before.0
                    ));
                }
            }
        }
        found
    }

    /// Nodes that must be done before one begins, with the iterations around them.
    fn before(&self, node: NodeId, path: &[u32]) -> Vec<(NodeId, Path)> {
        let mut before = Vec::new();
        let (mut child, mut depth) = (node, path.len());
        while let Some(parent) = self.definition.node(child).parent {
            match &self.definition.node(parent).kind {
                NodeKind::Sequence(children) => {
                    let around = path.get(..depth).unwrap_or_default().to_vec();
                    let earlier = children.iter().take_while(|other| **other != child);
                    before.extend(earlier.map(|other| (*other, around.clone())));
                }
                NodeKind::Repeat { body, .. } => {
                    let round = path.get(depth.saturating_sub(1)).copied().unwrap_or(0);
                    depth = depth.saturating_sub(1);
                    if round > 0 {
                        let mut around = path.get(..depth).unwrap_or_default().to_vec();
                        around.push(round - 1);
                        before.push((*body, around));
                    }
                }
                NodeKind::ForEach { .. } => depth = depth.saturating_sub(1),
                NodeKind::Step(_) | NodeKind::Parallel { .. } | NodeKind::When { .. } => {}
            }
            child = parent;
        }
        before
    }

    /// When a node was done; none: it never was.
    fn done(&self, node: NodeId, path: &[u32]) -> Option<u64> {
        match &self.definition.node(node).kind {
            NodeKind::Step(step) => {
                if self.processes && !matches!(step.kind, StepKind::Command(_)) {
                    return Some(0);
                }
                self.points
                    .get(&(step.name.as_str(), path.to_vec()))
                    .and_then(|point| point.done)
            }
            NodeKind::Sequence(children) => self.last(children, path),
            NodeKind::Parallel { branches, join } => match join {
                Join::All => self.last(branches, path),
                Join::Any => branches
                    .iter()
                    .filter_map(|branch| self.done(*branch, path))
                    .min(),
            },
            NodeKind::When {
                then, otherwise, ..
            } => {
                let ways: Vec<NodeId> = [Some(*then), *otherwise].into_iter().flatten().collect();
                let taken = ways.iter().filter_map(|way| self.done(*way, path)).min();
                let none = ways
                    .iter()
                    .all(|way| self.rounds(*way, path, true).is_empty());
                taken.or(none.then_some(0))
            }
            NodeKind::ForEach { over, body, .. } => {
                let mut iterations = self.rounds(*body, path, false);
                if let Some(all) = literal(over) {
                    iterations.extend(0..all);
                }
                self.last_round(*body, path, &iterations)
            }
            NodeKind::Repeat { body, .. } => {
                let rounds = self.rounds(*body, path, false);
                if rounds.is_empty() && !self.processes {
                    return None;
                }
                self.last_round(*body, path, &rounds)
            }
        }
    }

    fn last(&self, nodes: &[NodeId], path: &[u32]) -> Option<u64> {
        nodes
            .iter()
            .try_fold(0, |latest, node| Some(self.done(*node, path)?.max(latest)))
    }

    fn last_round(&self, body: NodeId, path: &[u32], rounds: &BTreeSet<u32>) -> Option<u64> {
        rounds.iter().try_fold(0, |latest, round| {
            let inner = [path, &[*round]].concat();
            Some(self.done(body, &inner)?.max(latest))
        })
    }

    /// Iterations of `body` that any step below it was seen in; for a node without a loop of its own
    /// (`here`), not empty if any was seen at all.
    fn rounds(&self, body: NodeId, path: &[u32], here: bool) -> BTreeSet<u32> {
        let below = self.steps_below(body);
        self.points
            .keys()
            .filter(|(step, at)| below.contains(step) && at.starts_with(path))
            .filter_map(|(_, at)| at.get(path.len()).copied().or(here.then_some(0)))
            .collect()
    }

    fn steps_below(&self, node: NodeId) -> BTreeSet<&'a str> {
        let mut below = BTreeSet::new();
        let mut ahead = vec![node];
        while let Some(node) = ahead.pop() {
            match &self.definition.node(node).kind {
                NodeKind::Step(step) => {
                    below.insert(step.name.as_str());
                }
                NodeKind::Sequence(children) => ahead.extend(children),
                NodeKind::Parallel { branches, .. } => ahead.extend(branches),
                NodeKind::When {
                    then, otherwise, ..
                } => ahead.extend([Some(*then), *otherwise].into_iter().flatten()),
                NodeKind::ForEach { body, .. } | NodeKind::Repeat { body, .. } => ahead.push(*body),
            }
        }
        below
    }
}

/// How many iterations literal lists span; none if a list is only known at run time.
fn literal(over: &[(String, Items)]) -> Option<u32> {
    over.iter().try_fold(1_u32, |all, (_, items)| match items {
        Items::Literal(values) => Some(all * u32::try_from(values.len()).ok()?),
        Items::Computed(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Workload;

    fn late(workflow: &str, done: &[(&str, &[u32], u64)], start: (&str, &[u32], u64)) -> bool {
        let workload = Workload::compile().unwrap();
        let mut points: BTreeMap<(&str, Path), Point> = done
            .iter()
            .map(|(step, path, at)| ((*step, path.to_vec()), Point { done: Some(*at) }))
            .collect();
        points.entry((start.0, start.1.to_vec())).or_default();
        let definition = &workload.definitions()[workflow];
        let flow = Flow::new(definition, &points, false);
        !flow
            .violations(&[(start.0, start.1.to_vec(), start.2)])
            .is_empty()
    }

    #[test]
    fn a_join_of_all_waits_for_the_slowest() {
        let done: &[(&str, &[u32], u64)] = &[
            ("split", &[], 1),
            ("left", &[], 2),
            ("middle", &[], 3),
            ("right", &[], 8),
        ];
        assert!(late("diamond", done, ("join", &[], 7)));
        assert!(!late("diamond", done, ("join", &[], 9)));
        assert!(late("diamond", &done[..3], ("join", &[], 9)));
    }

    #[test]
    fn a_join_of_any_waits_for_the_fastest() {
        assert!(!late("race", &[("hare", &[], 2)], ("prize", &[], 3)));
        assert!(late("race", &[("hare", &[], 4)], ("prize", &[], 3)));
    }

    #[test]
    fn a_loop_waits_for_all_its_iterations() {
        let all: Vec<(&str, &[u32], u64)> = [[0], [1], [2], [3], [4], [5]]
            .iter()
            .map(|path| -> (&str, &[u32], u64) {
                ("each", Box::leak(Box::new(*path)), u64::from(path[0]) + 5)
            })
            .collect();
        assert!(!late("fan", &all, ("gather", &[], 20)));
        assert!(late("fan", &all[..5], ("gather", &[], 20)));
    }

    #[test]
    fn a_round_waits_for_the_one_before() {
        assert!(!late(
            "rounds",
            &[("turn", &[0], 2), ("look", &[0], 3)],
            ("turn", &[1], 4)
        ));
        assert!(late(
            "rounds",
            &[("turn", &[0], 2), ("look", &[0], 5)],
            ("turn", &[1], 4)
        ));
    }

    #[test]
    fn one_way_of_two_is_enough() {
        let taken: &[(&str, &[u32], u64)] = &[("toss", &[], 1), ("tails", &[], 2)];
        assert!(!late("choice", taken, ("after", &[], 3)));
        assert!(late("choice", taken, ("after", &[], 2)));
    }
}
