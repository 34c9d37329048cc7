//! Small histories for the tests of the checks.

use std::collections::BTreeMap;

use meson_protocol::api::RunEvent;

use super::{Promise, check};
use crate::{
    history::{
        ArtifactAtEnd, Effect, End, Entry, History, Member, Moment, Replica, RunAtEnd, What,
    },
    load::Workload,
};

/// The run of [`good`].
pub(super) const RUN: &str = "pair-1";

fn event(kind: &str, step: Option<&str>, attempt: Option<u32>, text: &str) -> RunEvent {
    RunEvent {
        seq: 0,
        time: "1970-01-01T00:00:01.000Z".to_owned(),
        kind: kind.to_owned(),
        step: step.map(str::to_owned),
        iteration: None,
        attempt,
        text: text.to_owned(),
    }
}

fn of_step(step: &str) -> Vec<RunEvent> {
    let step = Some(step);
    vec![
        event("step_ready", step, None, ": ready"),
        event("attempt_started", step, Some(1), ": attempt 1 begins"),
        event("attempt_running", step, Some(1), ": running"),
        event("step_ended", step, None, "x: succeeded"),
    ]
}

fn effect(moment: Moment, step: &str, at: u64) -> Effect {
    Effect {
        moment,
        at,
        run: RUN.to_owned(),
        step: step.to_owned(),
        iteration: None,
        attempt: 1,
    }
}

/// A run of two steps, on three nodes with one shard, in which all went well.
pub(super) fn good() -> History {
    let mut events = vec![event("run_started", None, None, "the run started")];
    events.extend(of_step("first"));
    events.extend(of_step("second"));
    events.push(event("run_ended", None, None, "the run succeeded"));
    renumber(&mut events);
    let run = RunAtEnd {
        workflow: "pair".to_owned(),
        shard: 0,
        state: "succeeded".to_owned(),
        error: None,
        events,
    };
    let entry = |at, what| Entry { at, what };
    let leader = |seen_by, leader, term| What::Leader {
        seen_by,
        shard: 0,
        leader,
        term,
        commit: 3,
    };
    let (id, workflow) = (RUN.to_owned(), "pair".to_owned());
    History {
        scenario: "sample".to_owned(),
        seed: 1,
        nodes: (1..=3)
            .map(|id| Member {
                id,
                region: "eu".to_owned(),
            })
            .collect(),
        shards: 1,
        entries: vec![
            entry(1_000, leader(1, Some(1), 1)),
            entry(1_001, leader(2, Some(1), 1)),
            entry(
                1_010,
                What::Asked {
                    run: id.clone(),
                    workflow,
                    node: 1,
                },
            ),
            entry(1_020, What::Acknowledged { run: id, node: 1 }),
            entry(1_400, leader(2, Some(2), 2)),
            entry(1_500, leader(1, None, 2)),
        ],
        workflows: Workload::compile().unwrap().definitions().clone(),
        end: End {
            runs: BTreeMap::from([(RUN.to_owned(), run)]),
            effects: vec![
                effect(Moment::Start, "first", 1_100),
                effect(Moment::End, "first", 1_110),
                effect(Moment::Start, "second", 1_130),
                effect(Moment::End, "second", 1_140),
            ],
            tasks: Vec::new(),
            processes: Vec::new(),
            replicas: (1..=3)
                .map(|node| Replica {
                    node,
                    shard: 0,
                    applied: 7,
                    digest: "same".to_owned(),
                })
                .collect(),
            artifacts: vec![ArtifactAtEnd {
                run: RUN.to_owned(),
                id: "model/1".to_owned(),
                digest: Some("sha256:aa".to_owned()),
                found: Some("sha256:aa".to_owned()),
            }],
        },
    }
}

/// Breaks the good history, and asserts that exactly this promise is found broken.
pub(super) fn broken(promise: Promise, how: impl FnOnce(&mut History)) {
    let mut history = good();
    how(&mut history);
    let found = check(&history);
    assert!(
        found.iter().any(|violation| violation.promise == promise),
        "not found: {found:?}"
    );
    assert!(
        found.iter().all(|violation| violation.promise == promise),
        "more than was broken: {found:?}"
    );
}

pub(super) fn events_of<'a>(history: &'a mut History, run: &str) -> &'a mut Vec<RunEvent> {
    &mut history.end.runs.get_mut(run).unwrap().events
}

pub(super) fn renumber(events: &mut [RunEvent]) {
    for (event, seq) in events.iter_mut().zip(1..) {
        event.seq = seq;
    }
}
