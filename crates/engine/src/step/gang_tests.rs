//! Attempts of several tasks: placed and confirmed as one, ended as one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meson_core::ids::{Instance, IterPath, NodeId, TaskId};
use meson_core::run::{Failure, FailureClass, Input, Outcome, Seat};
use meson_core::sizing::Usage;
use meson_protocol::task::TaskResult;
use proptest::prelude::*;

use super::state::StepState;
use super::words::{Action, Event};
use crate::broker::messages::{AttemptState, Signal, Update};

const TASKS: u32 = 3;

fn task() -> TaskId {
    "w-1.train.1".parse().expect("a task id")
}

fn seats() -> Vec<Seat> {
    (0..TASKS)
        .map(|rank| Seat {
            agent: format!("a{rank}"),
            host: format!("h{rank}"),
        })
        .collect()
}

fn gang(launched_on: Vec<Seat>) -> StepState {
    let instance = Instance {
        node: NodeId(1),
        path: IterPath::default(),
    };
    StepState::new(task(), instance, "eu".to_owned(), TASKS, launched_on)
}

fn placed() -> Event {
    let mut seats = seats();
    let Seat { agent, host } = seats.remove(0);
    Event::Signal(Signal::Placed {
        task: task(),
        pool: "eu".to_owned(),
        agent,
        host,
        mates: seats,
    })
}

fn update(rank: u32, state: AttemptState, uuid: Option<u8>) -> Event {
    Event::Signal(Signal::Update(Box::new(Update {
        task: task().member(rank),
        agent: Some(format!("a{rank}")),
        uuid: uuid.map(|n| vec![n]),
        state,
    })))
}

fn running(rank: u32) -> Event {
    update(rank, AttemptState::Running { url: None }, Some(1))
}

fn finished(rank: u32) -> Event {
    let result = TaskResult {
        outputs: [("rank".to_owned(), rank.into())].into(),
        usage: Usage {
            peak_rss_bytes: u64::from(10 - rank),
            cpu_ms: u64::from(rank),
            wall_ms: 5,
        },
        ..TaskResult::default()
    };
    let data = result.encode().expect("a result").into();
    update(rank, AttemptState::Finished { data }, Some(9))
}

fn failed(rank: u32, class: FailureClass) -> Event {
    let state = AttemptState::Failed {
        class,
        message: format!("{class:?}"),
        data: Bytes::new(),
    };
    update(rank, state, Some(9))
}

fn killed(rank: u32) -> Event {
    update(rank, AttemptState::Killed, Some(9))
}

fn ack(rank: u32, uuid: u8) -> Action {
    Action::Acknowledge {
        rank,
        agent: format!("a{rank}"),
        uuid: vec![uuid],
    }
}

fn kill(rank: u32) -> Action {
    Action::Kill {
        rank,
        agent: Some(format!("a{rank}")),
    }
}

fn reports(actions: &[Action]) -> Vec<&Input> {
    let reports = actions.iter().filter_map(|action| match action {
        Action::Report(input) => Some(input),
        _ => None,
    });
    reports.collect()
}

fn ended(actions: &[Action]) -> Option<(&Outcome, Option<Usage>)> {
    reports(actions).into_iter().find_map(|input| match input {
        Input::Ended { outcome, usage, .. } => Some((outcome, *usage)),
        _ => None,
    })
}

/// Placed, committed and confirmed.
fn launched() -> StepState {
    let mut step = gang(Vec::new());
    step.on(Event::BrokerUp);
    step.on(placed());
    step.on(Event::Committed);
    step
}

/// All of it runs, and the run knows.
fn up() -> StepState {
    let mut step = launched();
    for rank in 0..TASKS {
        step.on(running(rank));
    }
    step.on(Event::Committed);
    step
}

#[test]
fn where_all_of_a_gang_will_be_is_committed_before_any_of_it_is_confirmed() {
    let mut step = gang(Vec::new());
    step.on(Event::BrokerUp);
    let actions = step.on(placed());
    let [Input::Launching { agent, mates, .. }] = reports(&actions)[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((agent.as_str(), &mates[..]), ("a0", &seats()[1..]));
    assert_eq!(
        step.on(Event::Committed),
        [
            Action::Confirm {
                agents: seats().into_iter().map(|seat| seat.agent).collect()
            },
            Action::WatchLaunch
        ],
        "one word for all of it"
    );
}

#[test]
fn a_gang_runs_once_all_of_it_does() {
    let mut step = launched();
    assert_eq!(step.on(running(1)), [ack(1, 1)]);
    assert_eq!(step.on(running(0)), [ack(0, 1)]);
    let actions = step.on(running(2));
    assert!(matches!(reports(&actions)[..], [Input::Running { .. }]));
    assert_eq!(step.on(Event::Committed), [ack(2, 1)]);
}

#[test]
fn one_that_is_done_before_the_last_has_begun_counts_as_running() {
    let mut step = launched();
    step.on(running(0));
    step.on(running(1));
    step.on(finished(1));
    assert!(matches!(
        reports(&step.on(running(2)))[..],
        [Input::Running { .. }]
    ));
}

#[test]
fn a_gang_has_succeeded_when_all_of_it_has_with_the_outputs_of_the_first() {
    let mut step = up();
    assert!(
        step.on(finished(0)).is_empty(),
        "kept by its agent until then"
    );
    assert!(step.on(finished(2)).is_empty());
    assert!(step.on(finished(2)).is_empty(), "it comes again meanwhile");
    let actions = step.on(finished(1));
    let Some((Outcome::Succeeded { outputs }, usage)) = ended(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(outputs["rank"], 0);
    let hungriest = Usage {
        peak_rss_bytes: 10,
        cpu_ms: 2,
        wall_ms: 5,
    };
    assert_eq!(usage, Some(hungriest));
    assert_eq!(
        step.on(Event::Committed),
        [ack(0, 9), ack(1, 9), ack(2, 9), Action::Stop]
    );
}

#[test]
fn one_that_fails_takes_the_others_with_it_and_pays() {
    let mut step = up();
    let actions = step.on(failed(1, FailureClass::Step));
    assert_eq!(actions, [kill(0), kill(2), Action::WatchKill]);
    assert_eq!(
        step.on(Event::KillOverdue),
        [kill(0), kill(2), Action::WatchKill]
    );
    assert!(step.on(killed(0)).is_empty());
    assert_eq!(step.on(Event::KillOverdue), [kill(2), Action::WatchKill]);
    let actions = step.on(killed(2));
    let Some((Outcome::Failed(Failure { class, message, .. }), _)) = ended(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(*class, FailureClass::Step);
    assert_eq!(message, "task 1 of its gang of 3 on h1: Step");
}

#[test]
fn a_lost_agent_costs_no_retry_even_if_the_others_fail_of_it_first() {
    let mut step = up();
    step.on(failed(1, FailureClass::Step));
    step.on(failed(0, FailureClass::Step));
    let actions = step.on(failed(2, FailureClass::Platform));
    let Some((Outcome::Failed(failure), _)) = ended(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(failure.class, FailureClass::Platform);
}

#[test]
fn a_gang_that_is_not_wanted_is_killed_whole() {
    let mut step = up();
    assert_eq!(
        step.on(Event::Kill),
        [kill(0), kill(1), kill(2), Action::WatchKill]
    );
    step.on(killed(1));
    step.on(killed(0));
    assert_eq!(
        ended(&step.on(killed(2))).map(|end| end.0),
        Some(&Outcome::Killed)
    );
}

#[test]
fn a_task_that_was_placed_and_never_launched_counts_as_killed() {
    let mut step = launched();
    step.on(failed(0, FailureClass::Platform));
    let withdrawn = |rank| {
        Event::Signal(Signal::Withdrawn {
            task: task().member(rank),
        })
    };
    assert!(ended(&step.on(withdrawn(1))).is_none());
    assert!(ended(&step.on(withdrawn(2))).is_some());
}

#[test]
fn a_gang_with_seats_is_adopted_whole_and_what_had_ended_is_heard_again() {
    let mut step = gang(seats());
    let adopt = |rank| Action::Adopt {
        rank,
        agent: format!("a{rank}"),
    };
    assert_eq!(
        step.on(Event::BrokerUp),
        [adopt(0), adopt(1), adopt(2), Action::WatchLaunch]
    );
    step.on(finished(1));
    step.on(running(0));
    assert!(matches!(
        reports(&step.on(running(2)))[..],
        [Input::Running { .. }]
    ));
    step.on(Event::BrokerGone);
    assert_eq!(
        step.on(Event::BrokerUp),
        [adopt(0), adopt(2), Action::WatchLaunch],
        "of the one that has ended all is known"
    );
}

#[test]
fn launch_timeout_asks_about_those_that_do_not_run_yet() {
    let mut step = launched();
    step.on(running(1));
    let actions = step.on(Event::LaunchOverdue);
    let ranks: Vec<u32> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Adopt { rank, .. } => Some(*rank),
            _ => None,
        })
        .collect();
    assert_eq!(ranks, [0, 2]);
}

#[test]
fn a_gang_of_which_one_is_out_of_sight_is_unreachable_until_all_of_it_is_back() {
    let mut step = up();
    let actions = step.on(update(1, AttemptState::Unreachable, None));
    assert!(matches!(reports(&actions)[..], [Input::Unreachable { .. }]));
    assert!(reports(&step.on(running(0))).is_empty(), "that was known");
    assert!(matches!(
        reports(&step.on(running(1)))[..],
        [Input::Running { .. }]
    ));
}

#[test]
fn a_gang_whose_tasks_are_heard_of_before_it_has_a_place_ends() {
    let mut step = gang(Vec::new());
    step.on(Event::BrokerUp);
    let actions = step.on(running(2));
    assert!(actions.contains(&kill(2)));
    assert!(matches!(ended(&actions), Some((Outcome::Failed(_), _))));
}

fn any_event() -> impl Strategy<Value = Event> {
    let rank = || 0..TASKS;
    let class = prop_oneof![
        Just(FailureClass::Step),
        Just(FailureClass::Platform),
        Just(FailureClass::OutOfMemory)
    ];
    prop_oneof![
        6 => Just(Event::Committed),
        2 => Just(Event::BrokerUp),
        1 => Just(Event::BrokerGone),
        1 => Just(Event::Kill),
        1 => Just(Event::KillOverdue),
        1 => Just(Event::LaunchOverdue),
        1 => rank().prop_map(|rank| Event::ResultOverdue { rank }),
        1 => Just(Event::Signal(Signal::Queued { task: task() })),
        1 => rank().prop_map(|rank| Event::Signal(Signal::Withdrawn { task: task().member(rank) })),
        3 => Just(placed()),
        1 => rank().prop_map(|rank| update(rank, AttemptState::Launching, None)),
        4 => rank().prop_map(running),
        1 => rank().prop_map(|rank| update(rank, AttemptState::Unreachable, None)),
        1 => rank().prop_map(|rank| update(rank, AttemptState::Finished { data: Bytes::new() }, None)),
        3 => rank().prop_map(finished),
        1 => (rank(), class).prop_map(|(rank, class)| failed(rank, class)),
        2 => rank().prop_map(killed),
    ]
}

/// How the tasks stand, as the outside sees it.
#[derive(Default)]
struct Seen {
    placed: bool,
    ends: u32,
    outstanding: u32,
    end_committed: bool,
    /// Terminal updates that were told since it was launched.
    over: BTreeSet<u32>,
    killed: BTreeMap<u32, u32>,
}

impl Seen {
    fn note(&mut self, actions: &[Action]) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::Report(input) => {
                    prop_assert_eq!(self.ends, 0, "nothing follows the end");
                    self.outstanding += 1;
                    match input {
                        Input::Launching { mates, .. } => {
                            prop_assert_eq!(mates.len() as u32 + 1, TASKS);
                            self.placed = true;
                        }
                        Input::Ended { .. } => self.ends += 1,
                        _ => {}
                    }
                }
                Action::Enqueue => prop_assert!(!self.placed, "placed, then enqueued"),
                Action::Kill {
                    rank,
                    agent: Some(_),
                } => *self.killed.entry(*rank).or_default() += 1,
                Action::Acknowledge { uuid, .. } if uuid == &[9] => {
                    prop_assert!(
                        self.end_committed,
                        "an end is acknowledged once it is durable"
                    );
                }
                Action::Stop => prop_assert!(self.end_committed),
                _ => {}
            }
        }
        Ok(())
    }
}

proptest! {
    /// Whatever is said of whichever of its tasks in whatever order: it ends once, after each of
    /// them has; once one has ended badly the others are asked to end; and it does end when they do.
    #[test]
    fn a_gang_ends_once_and_leaves_none_behind(events in prop::collection::vec(any_event(), 0..80)) {
        let mut step = gang(Vec::new());
        let mut seen = Seen::default();
        seen.note(&step.on(Event::BrokerUp))?;
        for event in events {
            if matches!(event, Event::Committed) {
                if seen.outstanding == 0 {
                    continue;
                }
                seen.outstanding -= 1;
                seen.end_committed |= seen.ends == 1 && seen.outstanding == 0;
            }
            if !seen.placed && matches!(&event, Event::Signal(Signal::Update(_))) {
                continue; // nothing is launched before it has a place
            }
            if let Event::Signal(Signal::Update(update)) = &event {
                let has_ended = match &update.state {
                    AttemptState::Finished { .. } => update.uuid.is_some(),
                    AttemptState::Failed { .. } | AttemptState::Killed => true,
                    _ => false,
                };
                if has_ended {
                    seen.over.insert(update.task.rank);
                }
            }
            let given_up = matches!(
                event,
                Event::ResultOverdue { .. } | Event::LaunchOverdue | Event::Signal(Signal::Withdrawn { .. })
            );
            let before = seen.ends;
            let actions = step.on(event);
            seen.note(&actions)?;
            if seen.ends > before && seen.placed && !given_up {
                prop_assert!(step.is_unwanted() || seen.over.len() as u32 == TASKS, "ended before its tasks");
            }
        }
        // All that was said is committed, and a broker answers.
        for _ in 0..2 {
            while seen.outstanding > 0 {
                seen.outstanding -= 1;
                seen.end_committed |= seen.ends == 1 && seen.outstanding == 0;
                seen.note(&step.on(Event::Committed))?;
            }
            seen.note(&step.on(Event::BrokerUp))?;
            seen.killed.clear();
            seen.note(&step.on(Event::KillOverdue))?;
        }
        if seen.placed && seen.ends == 0 {
            // Whoever is asked to end does; the others end well.
            let asked = seen.killed.clone();
            if step.is_unwanted() {
                prop_assert!(!asked.is_empty(), "somebody is left, and nobody ends it");
            }
            for rank in 0..TASKS {
                let end = if asked.contains_key(&rank) { killed(rank) } else { finished(rank) };
                seen.note(&step.on(end))?;
            }
            prop_assert_eq!(seen.ends, 1, "all of it has ended");
        }
        prop_assert!(seen.ends <= 1);
    }
}
