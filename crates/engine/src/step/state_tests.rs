//! One test per rule of [`super::state`], and a property over all orders of events.

use bytes::Bytes;
use meson_core::ids::{Attempt, Instance, IterPath, NodeId, TaskId};
use meson_core::run::{FailureClass, Input, Outcome, Seat};
use meson_core::sizing::Usage;
use meson_protocol::task::TaskResult;
use proptest::prelude::*;

use super::state::{MAX_STAGED, StepState};
use super::words::{Action, Event};
use crate::broker::messages::{AttemptState, Signal, Update};

fn task() -> TaskId {
    "w-1.train.1".parse().unwrap()
}

fn seat(agent: &str) -> Seat {
    Seat {
        agent: agent.to_owned(),
        host: format!("{agent}.host"),
    }
}

fn step(launched_on: Option<&str>) -> StepState {
    let instance = Instance {
        node: NodeId(1),
        path: IterPath::default(),
    };
    StepState::new(
        task(),
        instance,
        "eu".to_owned(),
        1,
        launched_on.map(seat).into_iter().collect(),
    )
}

fn placed(agent: &str) -> Event {
    placed_in("eu", agent)
}

fn placed_in(pool: &str, agent: &str) -> Event {
    let Seat { agent, host } = seat(agent);
    Event::Signal(Signal::Placed {
        task: task(),
        pool: pool.to_owned(),
        agent,
        host,
        mates: Vec::new(),
    })
}

fn update(state: AttemptState, uuid: Option<u8>) -> Event {
    Event::Signal(Signal::Update(Box::new(Update {
        task: task(),
        agent: Some("a1".to_owned()),
        uuid: uuid.map(|n| vec![n]),
        state,
    })))
}

fn running(uuid: u8) -> Event {
    update(AttemptState::Running { url: None }, Some(uuid))
}

fn finished(uuid: u8) -> Event {
    let data = TaskResult::default().encode().unwrap();
    update(AttemptState::Finished { data: data.into() }, Some(uuid))
}

fn ack(uuid: u8) -> Action {
    Action::Acknowledge {
        rank: 0,
        agent: "a1".to_owned(),
        uuid: vec![uuid],
    }
}

fn reported(actions: &[Action]) -> Option<&Input> {
    actions.iter().find_map(|action| match action {
        Action::Report(input) => Some(input),
        _ => None,
    })
}

fn outcome(actions: &[Action]) -> Option<&Outcome> {
    match reported(actions) {
        Some(Input::Ended { outcome, .. }) => Some(outcome),
        _ => None,
    }
}

/// An attempt that was placed on `a1` and confirmed.
fn launched() -> StepState {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    step.on(placed("a1"));
    step.on(Event::Committed);
    step
}

#[test]
fn a_new_attempt_is_asked_of_the_broker_once_there_is_one() {
    let mut step = step(None);
    assert_eq!(step.on(Event::BrokerUp), [Action::Enqueue]);
    let actions = step.on(Event::Signal(Signal::Queued { task: task() }));
    assert!(matches!(
        reported(&actions),
        Some(Input::Requested {
            attempt: Attempt(1),
            ..
        })
    ));
    assert!(
        step.on(Event::Signal(Signal::Queued { task: task() }))
            .is_empty(),
        "told once"
    );
}

fn confirmed(actions: &[Action]) -> Option<&[String]> {
    actions.iter().find_map(|action| match action {
        Action::Confirm { agents } => Some(&agents[..]),
        _ => None,
    })
}

#[test]
fn nothing_is_confirmed_before_the_placement_is_committed() {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    let actions = step.on(placed("a1"));
    assert!(matches!(reported(&actions), Some(Input::Launching { agent, .. }) if agent == "a1"));
    assert!(confirmed(&actions).is_none());
    let actions = step.on(Event::Committed);
    assert_eq!(confirmed(&actions), Some(&["a1".to_owned()][..]));
    assert!(actions.contains(&Action::WatchLaunch));
}

#[test]
fn a_placement_that_moved_meanwhile_is_committed_before_it_is_confirmed() {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    step.on(placed("a1"));
    assert!(step.on(placed("a2")).is_empty());
    let actions = step.on(Event::Committed);
    assert!(matches!(reported(&actions), Some(Input::Launching { agent, .. }) if agent == "a2"));
    let actions = step.on(Event::Committed);
    assert_eq!(confirmed(&actions), Some(&["a2".to_owned()][..]));
}

#[test]
fn what_an_attempt_used_is_noted_while_it_runs_and_reported_with_its_end() {
    let usage = Usage {
        peak_rss_bytes: 7,
        cpu_ms: 8,
        wall_ms: 9,
    };
    let mut step = step(Some("a1"));
    step.on(Event::BrokerUp);
    step.on(running(1));
    let live = Event::Signal(Signal::Usage {
        task: task(),
        usage,
    });
    assert_eq!(step.on(live), [Action::Usage(usage)]);
    let result = TaskResult {
        usage,
        ..TaskResult::default()
    };
    let data = result.encode().unwrap().into();
    let actions = step.on(update(AttemptState::Finished { data }, Some(2)));
    let Some(Input::Ended { usage: told, .. }) = reported(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(*told, Some(usage));
    // One that nobody measured is not told to have used nothing.
    let mut step = self::step(Some("a1"));
    step.on(Event::BrokerUp);
    let actions = step.on(finished(1));
    assert!(matches!(
        reported(&actions),
        Some(Input::Ended { usage: None, .. })
    ));
}

#[test]
fn an_attempt_with_an_agent_is_adopted_and_never_enqueued() {
    let mut step = step(Some("a1"));
    let adopt = Action::Adopt {
        rank: 0,
        agent: "a1".to_owned(),
    };
    assert_eq!(
        step.on(Event::BrokerUp),
        [adopt.clone(), Action::WatchLaunch]
    );
    step.on(Event::BrokerGone);
    assert_eq!(step.on(Event::BrokerUp), [adopt, Action::WatchLaunch]);
}

#[test]
fn an_update_is_acknowledged_after_its_commit_and_not_before() {
    let mut step = launched();
    let actions = step.on(running(1));
    assert!(matches!(
        actions[..],
        [Action::Report(Input::Running { .. })]
    ));
    let actions = step.on(finished(2));
    assert!(matches!(outcome(&actions), Some(Outcome::Succeeded { .. })));
    assert_eq!(step.on(Event::Committed), [ack(1)]);
    assert_eq!(step.on(Event::Committed), [ack(2), Action::Stop]);
    assert_eq!(
        step.on(finished(3)),
        [ack(3)],
        "it comes again: the acknowledgement was lost"
    );
}

#[test]
fn a_repeated_update_is_acknowledged_without_another_commit() {
    let mut step = launched();
    step.on(running(1));
    step.on(Event::Committed);
    assert_eq!(step.on(running(2)), [ack(2)]);
}

#[test]
fn back_from_out_of_sight_it_runs_again() {
    let mut step = launched();
    step.on(running(1));
    step.on(Event::Committed);
    let actions = step.on(update(AttemptState::Unreachable, None));
    assert!(matches!(
        reported(&actions),
        Some(Input::Unreachable { .. })
    ));
    assert!(matches!(
        reported(&step.on(running(2))),
        Some(Input::Running { .. })
    ));
}

#[test]
fn item_14_launch_timeout_reconciles_the_task_and_its_answer_leads_to_a_new_attempt() {
    let mut step = launched();
    let actions = step.on(Event::LaunchOverdue);
    let asked = [
        Action::Adopt {
            rank: 0,
            agent: "a1".to_owned(),
        },
        Action::WatchLaunch,
    ];
    assert_eq!(actions, asked);
    let gone = AttemptState::Failed {
        class: FailureClass::Platform,
        message: "TASK_GONE".to_owned(),
        data: Bytes::new(),
    };
    let actions = step.on(update(gone, None));
    let Some(Outcome::Failed(failure)) = outcome(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(failure.class, FailureClass::Platform);
}

#[test]
fn item_14_launch_timeout_gives_up_what_only_the_master_has_heard_of_for_long() {
    let mut step = launched();
    for _ in 0..MAX_STAGED {
        assert!(outcome(&step.on(Event::LaunchOverdue)).is_none());
        step.on(update(AttemptState::Launching, None));
        step.on(update(AttemptState::Launching, None));
    }
    assert!(outcome(&step.on(Event::LaunchOverdue)).is_none());
    step.on(update(AttemptState::Launching, None));
    let actions = step.on(Event::LaunchOverdue);
    assert_eq!(
        actions[0],
        Action::Kill {
            rank: 0,
            agent: Some("a1".to_owned())
        }
    );
    let Some(Outcome::Failed(failure)) = outcome(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(failure.class, FailureClass::Platform);
}

#[test]
fn item_14_launch_timeout_leaves_alone_what_its_executor_is_preparing() {
    let mut step = launched();
    step.on(update(AttemptState::Launching, Some(1)));
    for _ in 0..10 * MAX_STAGED {
        assert!(step.on(Event::LaunchOverdue).is_empty());
        step.on(update(AttemptState::Launching, None));
    }
}

#[test]
fn item_18_silence_while_agents_reregister_is_no_loss() {
    let mut step = launched();
    for _ in 0..100 {
        let actions = step.on(Event::LaunchOverdue);
        assert!(outcome(&actions).is_none(), "{actions:?}");
        assert!(
            matches!(actions[0], Action::Adopt { .. }),
            "it is asked about again"
        );
    }
    assert!(matches!(
        reported(&step.on(running(1))),
        Some(Input::Running { .. })
    ));
}

#[test]
fn item_12_unreachable_is_reported_once_however_often_it_is_said() {
    let mut step = launched();
    let first = step.on(update(AttemptState::Unreachable, None));
    assert!(matches!(reported(&first), Some(Input::Unreachable { .. })));
    step.on(Event::Committed);
    for _ in 0..10 {
        let again = step.on(update(AttemptState::Unreachable, None));
        assert!(again.is_empty(), "{again:?}");
    }
    assert!(matches!(
        reported(&step.on(running(1))),
        Some(Input::Running { .. })
    ));
    let gone_again = step.on(update(AttemptState::Unreachable, None));
    assert!(matches!(
        reported(&gone_again),
        Some(Input::Unreachable { .. })
    ));
}

#[test]
fn a_launch_is_not_given_up_while_there_is_no_broker_to_ask() {
    let mut step = launched();
    step.on(Event::BrokerGone);
    for _ in 0..10 {
        assert!(step.on(Event::LaunchOverdue).is_empty());
    }
}

#[test]
fn an_end_without_outputs_waits_for_the_update_that_carries_them() {
    let empty = || update(AttemptState::Finished { data: Bytes::new() }, None);
    let mut step = step(Some("a1"));
    step.on(Event::BrokerUp);
    assert_eq!(step.on(empty()), [Action::AwaitResult { rank: 0 }]);
    assert!(step.on(empty()).is_empty(), "one wait is enough");
    let mut other = step.clone();
    assert!(matches!(
        outcome(&step.on(finished(1))),
        Some(Outcome::Succeeded { .. })
    ));
    assert!(step.on(Event::ResultOverdue { rank: 0 }).is_empty());
    let actions = other.on(Event::ResultOverdue { rank: 0 });
    let Some(Outcome::Failed(failure)) = outcome(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(failure.class, FailureClass::Platform);
}

#[test]
fn an_attempt_in_the_queue_is_withdrawn_when_it_is_not_wanted() {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    assert_eq!(
        step.on(Event::Kill),
        [
            Action::Kill {
                rank: 0,
                agent: None
            },
            Action::WatchKill
        ]
    );
    let actions = step.on(Event::Signal(Signal::Withdrawn { task: task() }));
    assert_eq!(outcome(&actions), Some(&Outcome::Killed));
}

#[test]
fn an_attempt_that_no_broker_has_is_over_at_once_when_it_is_not_wanted() {
    assert_eq!(outcome(&step(None).on(Event::Kill)), Some(&Outcome::Killed));
}

#[test]
fn an_attempt_killed_while_its_placement_is_committed_is_never_confirmed() {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    step.on(placed("a1"));
    assert!(step.on(Event::Kill).is_empty());
    let actions = step.on(Event::Committed);
    assert_eq!(
        actions,
        [
            Action::Kill {
                rank: 0,
                agent: Some("a1".to_owned())
            },
            Action::WatchKill
        ]
    );
}

#[test]
fn a_kill_is_repeated_until_it_is_answered() {
    let mut step = launched();
    step.on(running(1));
    let kill = Action::Kill {
        rank: 0,
        agent: Some("a1".to_owned()),
    };
    assert!(step.on(Event::Kill).contains(&kill));
    assert!(step.on(Event::KillOverdue).contains(&kill));
    let actions = step.on(update(AttemptState::Killed, Some(2)));
    assert_eq!(outcome(&actions), Some(&Outcome::Killed));
    assert!(step.on(Event::KillOverdue).is_empty());
}

#[test]
fn a_kill_that_we_did_not_ask_for_costs_the_platform() {
    let actions = launched().on(update(AttemptState::Killed, Some(1)));
    let Some(Outcome::Failed(failure)) = outcome(&actions) else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (failure.class, failure.retryable),
        (FailureClass::Platform, true)
    );
}

#[test]
fn an_attempt_that_a_queue_lost_is_asked_again() {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    let withdrawn = Event::Signal(Signal::Withdrawn { task: task() });
    assert_eq!(step.on(withdrawn), [Action::Enqueue]);
}

fn pool_lost() -> Event {
    Event::PoolLost {
        to: "us".to_owned(),
        reason: "region eu was out of reach for 30 s".to_owned(),
    }
}

fn moves() -> Action {
    Action::Move {
        pool: "us".to_owned(),
    }
}

#[test]
fn an_attempt_that_waits_in_a_lost_pool_moves_once_that_is_committed() {
    let mut step = step(None);
    let actions = step.on(pool_lost());
    assert!(
        matches!(reported(&actions), Some(Input::Spilled { from, to, .. }) if from == "eu" && to == "us")
    );
    assert!(step.on(pool_lost()).is_empty(), "said once");
    assert!(
        step.on(Event::BrokerUp).is_empty(),
        "the old pool is not asked any more"
    );
    assert_eq!(
        step.on(Event::Committed),
        [
            Action::Kill {
                rank: 0,
                agent: None
            },
            moves()
        ],
        "what the old one may have in its queue it need not keep"
    );
    assert_eq!(step.on(Event::BrokerUp), [Action::Enqueue]);
    let actions = step.on(placed_in("us", "u1"));
    assert!(
        matches!(reported(&actions), Some(Input::Launching { pool, agent, .. }) if pool == "us" && agent == "u1")
    );
}

#[test]
fn a_placement_of_a_pool_that_was_left_is_void() {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    step.on(pool_lost());
    assert!(
        step.on(placed("a1")).is_empty(),
        "it is on record as leaving"
    );
    step.on(Event::Committed);
    assert!(step.on(placed("a1")).is_empty(), "it has left");
    step.on(Event::BrokerUp);
    assert!(step.on(placed("a1")).is_empty());
    assert!(reported(&step.on(placed_in("us", "u1"))).is_some());
}

#[test]
fn an_attempt_that_is_being_placed_does_not_move() {
    let mut step = step(None);
    step.on(Event::BrokerUp);
    step.on(placed("a1"));
    step.on(Event::BrokerGone);
    assert!(step.on(pool_lost()).is_empty());
    step.on(Event::Committed);
    let actions = step.on(pool_lost());
    assert!(
        matches!(
            reported(&actions),
            Some(Input::Unreachable {
                reason: Some(_),
                ..
            })
        ),
        "it is on record as placed there: {actions:?}"
    );
}

#[test]
fn an_attempt_that_runs_in_a_lost_pool_is_told_to_be_unreachable_and_back_again() {
    let mut step = launched();
    step.on(running(1));
    step.on(Event::Committed);
    let actions = step.on(pool_lost());
    assert!(matches!(
        reported(&actions),
        Some(Input::Unreachable {
            reason: Some(_),
            ..
        })
    ));
    step.on(Event::Committed);
    assert!(step.on(pool_lost()).is_empty(), "said once");
    // Another word does not say that it runs.
    step.on(update(AttemptState::Launching, None));
    let actions = step.on(running(2));
    assert!(
        matches!(reported(&actions), Some(Input::Running { .. })),
        "it is news again: {actions:?}"
    );
}

#[test]
fn an_attempt_that_is_killed_while_it_moves_ends() {
    let mut step = step(None);
    step.on(pool_lost());
    assert_eq!(outcome(&step.on(Event::Kill)), Some(&Outcome::Killed));
    assert!(step.on(Event::Committed).is_empty(), "it goes nowhere");
    assert_eq!(step.on(Event::Committed), [Action::Stop]);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Committed),
        2 => Just(Event::BrokerUp),
        1 => Just(Event::BrokerGone),
        1 => Just(Event::Kill),
        1 => Just(Event::KillOverdue),
        1 => Just(Event::LaunchOverdue),
        1 => Just(Event::ResultOverdue { rank: 0 }),
        1 => Just(Event::Signal(Signal::Queued { task: task() })),
        1 => Just(Event::Signal(Signal::Withdrawn { task: task() })),
        2 => (1..4u8).prop_map(|n| placed(&format!("a{n}"))),
        1 => (1..4u8).prop_map(|n| placed_in("us", &format!("u{n}"))),
        1 => Just(pool_lost()),
        1 => Just(update(AttemptState::Launching, Some(1))),
        1 => Just(running(2)),
        1 => Just(update(AttemptState::Unreachable, None)),
        1 => Just(update(AttemptState::Finished { data: Bytes::new() }, None)),
        1 => Just(finished(3)),
        1 => Just(update(AttemptState::Killed, Some(4))),
    ]
}

proptest! {
    /// Whatever comes in whatever order: it ends once, is never enqueued after it was placed,
    /// confirms only what is committed, moves only before it was placed, is placed only where it is,
    /// and acknowledges an end only after its commit.
    #[test]
    fn the_rules_hold_in_every_order(events in prop::collection::vec(any_event(), 0..60)) {
        let mut step = step(None);
        let (mut ends, mut placements, mut outstanding) = (0, 0, 0u32);
        let mut end_committed = false;
        let mut unconfirmed: Option<String> = None;
        let mut at = "eu".to_owned();
        for event in events {
            if matches!(event, Event::Committed) {
                if outstanding == 0 {
                    continue; // the run answers what it was told, and nothing else
                }
                outstanding -= 1;
                end_committed |= ends == 1 && outstanding == 0;
            }
            for action in step.on(event.clone()) {
                match action {
                    Action::Report(input) => {
                        prop_assert_eq!(ends, 0, "nothing follows the end");
                        outstanding += 1;
                        match input {
                            Input::Spilled { from, .. } => {
                                prop_assert_eq!(placements, 0, "placed, then moved");
                                prop_assert_eq!(&from, &at);
                            }
                            Input::Launching { agent, pool, .. } => {
                                prop_assert_eq!(&pool, &at, "placed where it is not");
                                placements += 1;
                                unconfirmed = Some(agent);
                            }
                            Input::Ended { .. } => ends += 1,
                            _ => {}
                        }
                    }
                    Action::Move { pool } => {
                        prop_assert_eq!(placements, 0, "placed, then moved");
                        at = pool;
                    }
                    Action::Enqueue => prop_assert_eq!(placements, 0, "placed, then enqueued"),
                    Action::Confirm { agents } => {
                        prop_assert_eq!(unconfirmed.as_ref(), agents.first());
                        prop_assert!(matches!(event, Event::Committed), "confirmed too early");
                    }
                    Action::Stop => prop_assert!(end_committed),
                    Action::Acknowledge { uuid, .. } if uuid == [3] || uuid == [4] => {
                        prop_assert!(end_committed, "an end is acknowledged once it is durable");
                    }
                    _ => {}
                }
            }
        }
        prop_assert!(ends <= 1);
    }
}
