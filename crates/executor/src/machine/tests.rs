use super::*;
use crate::task::fixture::payload;
use meson_core::run::FailureClass;
use meson_mesos::types::KillPolicy;
use proptest::prelude::*;

fn stamps() -> impl FnMut() -> Stamp {
    let mut next = 0u8;
    move || {
        next += 1;
        Stamp {
            uuid: [next; 16],
            seconds: f64::from(next),
        }
    }
}

fn info(id: &str) -> TaskInfo {
    TaskInfo {
        name: id.into(),
        task_id: id.into(),
        data: Some(payload(id, "true").encode().unwrap().into()),
        ..TaskInfo::default()
    }
}

fn launch(id: &str) -> Input {
    Input::Launch(Box::new(info(id)))
}

fn kill(id: &str) -> Input {
    Input::Kill(Kill {
        task_id: id.into(),
        kill_policy: None,
    })
}

fn done(id: &str) -> Input {
    Input::Ended {
        task: id.into(),
        ending: Ending::Done(Box::default()),
    }
}

fn states(actions: &[Action]) -> Vec<TaskState> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(update) => Some(update.status.state.clone()),
            _ => None,
        })
        .collect()
}

const A: &str = "r-1.a.1";

#[test]
fn a_task_starts_runs_and_finishes() {
    let (mut machine, mut stamp) = (Machine::default(), stamps());
    let actions = machine.decide(launch(A), &mut stamp);
    assert_eq!(states(&actions), [TaskState::Starting]);
    assert!(matches!(&actions[1], Action::Run { task, .. } if task.value == A));
    let started = Input::Started {
        task: A.into(),
        started: Started {
            url: Some("http://x".into()),
        },
    };
    assert_eq!(
        states(&machine.decide(started, &mut stamp)),
        [TaskState::Running]
    );
    assert_eq!(
        states(&machine.decide(done(A), &mut stamp)),
        [TaskState::Finished]
    );
    assert_eq!(machine.live().count(), 0);
    assert_eq!(machine.subscription().unacknowledged_updates.len(), 3);
}

#[test]
fn a_payload_that_cannot_be_read_fails_with_the_reason() {
    let (mut machine, mut stamp) = (Machine::default(), stamps());
    let mut task = info(A);
    task.data = Some("garbage".into());
    let actions = machine.decide(Input::Launch(Box::new(task)), &mut stamp);
    let [Action::Send(update)] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(update.status.state, TaskState::Failed);
    assert!(update.status.message.as_ref().unwrap().contains("version"));
    let failure = TaskResult::decode(update.status.data.as_ref().unwrap())
        .unwrap()
        .failure
        .unwrap();
    assert_eq!(
        (failure.class, failure.retryable),
        (FailureClass::Platform, false)
    );
}

#[test]
fn a_payload_of_another_task_is_refused() {
    let (mut machine, mut stamp) = (Machine::default(), stamps());
    let mut task = info("r-1.b.1");
    task.task_id = A.into();
    let actions = machine.decide(Input::Launch(Box::new(task)), &mut stamp);
    assert_eq!(states(&actions), [TaskState::Failed]);
}

#[test]
fn a_second_launch_of_a_task_starts_nothing() {
    let (mut machine, mut stamp) = (Machine::default(), stamps());
    machine.decide(launch(A), &mut stamp);
    assert_eq!(machine.decide(launch(A), &mut stamp), []);
}

#[test]
fn item_32_killing_is_told_once_and_only_to_those_who_know_it() {
    for knows in [false, true] {
        let (mut machine, mut stamp) = (Machine::default(), stamps());
        machine.decide(Input::KillingState(knows), &mut stamp);
        machine.decide(launch(A), &mut stamp);
        let first = machine.decide(kill(A), &mut stamp);
        assert_eq!(
            states(&first),
            if knows {
                vec![TaskState::Killing]
            } else {
                vec![]
            }
        );
        assert_eq!(
            first.last(),
            Some(&Action::Stop {
                task: A.into(),
                grace: DEFAULT_GRACE
            })
        );
        assert_eq!(states(&machine.decide(kill(A), &mut stamp)), []);
        // Its process came up meanwhile: that is no news any more.
        let started = Input::Started {
            task: A.into(),
            started: Started::default(),
        };
        assert_eq!(machine.decide(started, &mut stamp), []);
        let killed = Input::Ended {
            task: A.into(),
            ending: Ending::Killed(Box::default()),
        };
        assert_eq!(
            states(&machine.decide(killed, &mut stamp)),
            [TaskState::Killed]
        );
        assert_eq!(machine.decide(kill(A), &mut stamp), []);
    }
}

#[test]
fn item_32_the_call_s_kill_policy_goes_before_the_task_s() {
    let policy = |secs| {
        Some(KillPolicy {
            grace_period: Some(Duration::from_secs(secs).into()),
        })
    };
    let (mut machine, mut stamp) = (Machine::default(), stamps());
    let mut task = info(A);
    task.kill_policy = policy(9);
    machine.decide(Input::Launch(Box::new(task)), &mut stamp);
    for (given, expected) in [(None, 9), (policy(1), 1)] {
        let kill = Input::Kill(Kill {
            task_id: A.into(),
            kill_policy: given,
        });
        let actions = machine.decide(kill, &mut stamp);
        assert_eq!(
            actions,
            [Action::Stop {
                task: A.into(),
                grace: Duration::from_secs(expected)
            }]
        );
    }
}

#[test]
fn item_30_what_is_acknowledged_is_forgotten_and_the_rest_is_told_again() {
    let (mut machine, mut stamp) = (Machine::default(), stamps());
    machine.decide(launch(A), &mut stamp);
    machine.decide(done(A), &mut stamp);
    assert_eq!(machine.subscription().unacknowledged_tasks.len(), 1);
    let ack = |n: u8| Input::Acknowledged {
        task: A.into(),
        uuid: Data::from(&[n; 16][..]),
    };
    machine.decide(ack(1), &mut stamp);
    let told = machine.subscription();
    assert_eq!(told.unacknowledged_tasks.len(), 0);
    assert_eq!(told.unacknowledged_updates.len(), 1);
    assert_eq!(
        told.unacknowledged_updates[0].status.state,
        TaskState::Finished
    );
    machine.decide(ack(2), &mut stamp);
    assert_eq!(machine.subscription(), Subscribe::default());
    assert!(machine.tasks.is_empty());
}

#[test]
fn a_task_that_arrives_during_the_shutdown_fails_on_our_budget() {
    let (mut machine, mut stamp) = (Machine::default(), stamps());
    machine.decide(launch(A), &mut stamp);
    let grace = Duration::from_secs(2);
    let actions = machine.decide(Input::Shutdown { grace }, &mut stamp);
    assert_eq!(
        actions,
        [Action::Stop {
            task: A.into(),
            grace
        }]
    );
    assert_eq!(
        states(&machine.decide(launch("r-1.b.1"), &mut stamp)),
        [TaskState::Failed]
    );
}

fn input() -> impl Strategy<Value = (usize, u8)> {
    (0..3usize, 0..7u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_task_gets_one_terminal_update_and_nothing_after_it(inputs in prop::collection::vec(input(), 1..60)) {
        let ids = ["r-1.a.1", "r-1.b.1", "r-1.c.1"];
        let mut counter = 0u32;
        let mut stamp = || {
            counter += 1;
            let mut uuid = [0; 16];
            uuid[..4].copy_from_slice(&counter.to_be_bytes());
            Stamp { uuid, seconds: 0.0 }
        };
        let mut machine = Machine::default();
        let mut told: BTreeMap<TaskId, Vec<TaskState>> = BTreeMap::new();
        let mut open: Vec<Update> = Vec::new();
        let mut launched = std::collections::BTreeSet::new();
        machine.decide(Input::KillingState(true), &mut stamp);
        for (which, what) in inputs {
            let id = ids[which];
            let input = match what {
                // An agent launches an id once.
                0 | 1 if launched.insert(id) => launch(id),
                0 | 1 => continue,
                2 => Input::Started { task: id.into(), started: Started::default() },
                3 => done(id),
                4 => kill(id),
                5 => Input::Ended { task: id.into(), ending: Ending::Killed(Box::default()) },
                _ => match open.first().cloned() {
                    Some(update) => {
                        open.remove(0);
                        Input::Acknowledged { task: update.status.task_id, uuid: update.status.uuid.unwrap() }
                    }
                    None => continue,
                },
            };
            for action in machine.decide(input, &mut stamp) {
                if let Action::Send(update) = action {
                    let states = told.entry(update.status.task_id.clone()).or_default();
                    prop_assert!(!states.iter().any(TaskState::is_terminal), "{states:?} then {:?}", update.status.state);
                    prop_assert!(!states.contains(&update.status.state));
                    if update.status.state == TaskState::Running {
                        prop_assert_eq!(&states[..], [TaskState::Starting]);
                    }
                    states.push(update.status.state.clone());
                    open.push(*update);
                }
            }
            // What was not acknowledged is exactly what the next subscription tells.
            prop_assert_eq!(&machine.subscription().unacknowledged_updates, &open);
            for id in machine.live() {
                prop_assert!(!told[id].iter().any(TaskState::is_terminal));
            }
        }
    }
}
