use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::Bytes as Size;
use meson_mesos::scheduler::{Offers, Rescind, Update};
use meson_mesos::types::{
    CommandInfo, Offer, OfferId, Resource, StatusReason, StatusSource, TaskState,
};

use super::*;

struct World {
    broker: Broker,
    now: Timestamp,
}

fn resources(cpus: u64, mib: u64) -> Resources {
    Resources {
        cpus: MilliCpus(cpus * 1000),
        mem: Size::from_mib(mib),
        ..Resources::ZERO
    }
}

fn task(n: u32) -> TaskId {
    format!("run-1.step.{n}.1").parse().unwrap()
}

impl World {
    fn new() -> Self {
        let executor = ExecutorTemplate {
            command: CommandInfo::shell("meson-executor"),
            resources: resources(0, 32),
        };
        let mut world = Self {
            broker: Broker::new(Settings::new("*", executor)),
            now: Timestamp(1_000_000),
        };
        world.tell(Input::Subscribed(FrameworkId::new("f")));
        world
    }

    /// Tells the broker, and returns what it does about it.
    fn tell(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.broker.handle(input, self.now, &mut out);
        self.broker.settle(self.now, &mut out);
        out
    }

    fn wait(&mut self, ms: u64) -> Vec<Output> {
        self.now = Timestamp(self.now.0 + ms);
        let mut out = Vec::new();
        self.broker.settle(self.now, &mut out);
        out
    }

    fn enqueue(&mut self, n: u32, cpus: u64) -> Vec<Output> {
        self.tell(Input::Enqueue {
            task: task(n),
            shape: Shape {
                resources: resources(cpus, 64),
                ..Shape::default()
            },
            owner: "ada".to_owned(),
            deadline: None,
            payload: Bytes::from_static(b"payload"),
        })
    }

    fn offer(&mut self, id: &str, agent: &str, cpus: u64) -> Vec<Output> {
        let offer = Offer {
            id: OfferId::new(id),
            agent_id: AgentId::new(agent),
            hostname: format!("{agent}.example"),
            resources: vec![
                Resource::scalar("cpus", cpus as f64),
                Resource::scalar("mem", 1024.0),
            ],
            ..Offer::default()
        };
        self.tell(Input::Event(Event::Offers(Offers {
            offers: vec![offer],
        })))
    }

    fn update(&mut self, n: u32, state: TaskState, uuid: Option<&'static [u8]>) -> Vec<Output> {
        let status = TaskStatus {
            uuid: uuid.map(|uuid| Data(Bytes::from_static(uuid))),
            agent_id: Some(AgentId::new("a")),
            source: Some(StatusSource::Executor),
            ..TaskStatus::new(meson_mesos::types::TaskId::new(task(n).to_string()), state)
        };
        self.tell(Input::Event(Event::Update(Update { status })))
    }

    /// A task that runs on agent `a`.
    fn launched(n: u32) -> Self {
        let mut world = Self::new();
        world.enqueue(n, 1);
        world.offer("o1", "a", 4);
        world.tell(Input::Confirm(task(n)));
        world.update(n, TaskState::Running, Some(b"1"));
        world
    }
}

fn calls(out: &[Output]) -> Vec<&Call> {
    out.iter()
        .filter_map(|output| {
            if let Output::Call(call) = output {
                Some(call)
            } else {
                None
            }
        })
        .collect()
}

fn states(out: &[Output]) -> Vec<&AttemptState> {
    out.iter()
        .filter_map(|output| match output {
            Output::Signal(_, News::State { state, .. }) => Some(state),
            _ => None,
        })
        .collect()
}

fn placed(out: &[Output]) -> Vec<TaskId> {
    out.iter()
        .filter_map(|output| match output {
            Output::Signal(task, News::Placed { .. }) => Some(task.clone()),
            _ => None,
        })
        .collect()
}

fn launched(out: &[Output]) -> Vec<String> {
    calls(out)
        .into_iter()
        .filter_map(|call| {
            if let Call::Accept(accept) = call {
                Some(accept)
            } else {
                None
            }
        })
        .flat_map(|accept| &accept.operations)
        .filter_map(|operation| operation.launch.as_ref())
        .flat_map(|launch| &launch.task_infos)
        .map(|info| info.task_id.as_str().to_owned())
        .collect()
}

fn failure(out: &[Output]) -> Option<FailureClass> {
    out.iter().find_map(|output| match output {
        Output::Signal(
            _,
            News::State {
                state: AttemptState::Failed { class, .. },
                ..
            },
        ) => Some(*class),
        _ => None,
    })
}

use meson_core::run::FailureClass;

#[test]
fn nothing_is_launched_before_its_placement_is_confirmed() {
    let mut world = World::new();
    world.enqueue(1, 1);
    let out = world.offer("o1", "a", 4);
    assert_eq!(placed(&out), [task(1)]);
    assert!(launched(&out).is_empty());
    assert_eq!(
        launched(&world.tell(Input::Confirm(task(1)))),
        [task(1).to_string()]
    );
}

#[test]
fn new_work_revives_and_an_empty_queue_declines_and_suppresses() {
    let mut world = World::new();
    world.offer("o1", "a", 4);
    let out = world.wait(300);
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Decline(_))),
        "{out:?}"
    );
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Suppress(_))),
        "{out:?}"
    );
    let out = world.enqueue(1, 1);
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Revive(_))),
        "{out:?}"
    );
}

#[test]
fn a_lost_revive_is_said_once_more_and_never_periodically() {
    let mut world = World::new();
    let revives = |out: Vec<Output>| {
        calls(&out)
            .iter()
            .filter(|call| matches!(call, Call::Revive(_)))
            .count()
    };
    assert_eq!(revives(world.enqueue(1, 1)), 1);
    assert_eq!(revives(world.wait(1_000)), 1);
    let later: usize = (0..60).map(|_| revives(world.wait(1_000))).sum();
    assert_eq!(later, 0);
}

#[test]
fn a_placement_that_is_not_confirmed_in_time_waits_again_and_a_late_word_ends_the_attempt() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    world.tell(Input::Event(Event::Rescind(Rescind {
        offer_id: OfferId::new("o1"),
    })));
    assert_eq!(world.broker.queued(), 1, "it waits again");
    let out = world.tell(Input::Confirm(task(1)));
    assert_eq!(failure(&out), Some(FailureClass::Platform));
    assert_eq!(world.broker.queued(), 0);
}

#[test]
fn a_placement_that_nobody_hears_of_does_not_wait_again() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.enqueue(2, 1);
    world.offer("o1", "a", 4);
    let out = world.tell(Input::Unheard(task(1)));
    assert!(
        out.contains(&Output::Signal(task(1), News::Withdrawn)),
        "whoever does hear asks again: {out:?}"
    );
    assert_eq!((world.broker.queued(), world.broker.live()), (0, 1));
}

#[test]
fn an_offer_that_goes_after_the_confirmation_costs_the_platform() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.enqueue(2, 1);
    world.offer("o1", "a", 4);
    world.tell(Input::Confirm(task(1)));
    let out = world.tell(Input::Disconnected);
    assert_eq!(
        failure(&out),
        Some(FailureClass::Platform),
        "placed on record, never launched"
    );
    assert_eq!(
        world.broker.queued(),
        1,
        "the other was not confirmed and waits"
    );
}

#[test]
fn an_update_is_told_with_its_uuid_and_acknowledged_only_on_word() {
    let mut world = World::launched(1);
    let out = world.update(1, TaskState::Finished, Some(b"2"));
    assert!(
        !calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Acknowledge(_)))
    );
    assert!(
        out.iter()
            .any(|output| matches!(output, Output::Signal(_, News::State { uuid: Some(_), .. })))
    );
    let out = world.tell(Input::Acknowledge {
        task: task(1),
        agent: "a".to_owned(),
        uuid: b"2".to_vec(),
    });
    assert!(matches!(calls(&out)[..], [Call::Acknowledge(_)]));
}

#[test]
fn a_task_that_no_run_knows_is_killed_and_one_that_a_run_knows_is_left_alone() {
    for (wanted, killed) in [(Some(false), true), (Some(true), false), (None, false)] {
        let mut world = World::new();
        let out = world.update(9, TaskState::Running, Some(b"1"));
        assert!(calls(&out).is_empty(), "nobody may have claimed it yet");
        let out = world.wait(30_000);
        assert!(out.contains(&Output::AskWanted(task(9))), "{out:?}");
        let out = world.tell(Input::Verdict {
            task: task(9),
            wanted,
        });
        assert_eq!(
            calls(&out).iter().any(|call| matches!(call, Call::Kill(_))),
            killed,
            "{wanted:?}"
        );
    }
}

#[test]
fn what_was_heard_before_the_adoption_is_told_after_it() {
    let mut world = World::new();
    world.update(9, TaskState::Finished, Some(b"1"));
    let out = world.tell(Input::Adopt {
        task: task(9),
        agent: "a".to_owned(),
    });
    assert!(
        out.iter().any(|o| matches!(
            o,
            Output::Signal(
                _,
                News::State {
                    state: AttemptState::Finished { .. },
                    ..
                }
            )
        )),
        "{out:?}"
    );
}

#[test]
fn an_update_that_was_not_acknowledged_is_told_to_whoever_adopts_the_task_next() {
    let mut world = World::new();
    let adopt = || Input::Adopt {
        task: task(1),
        agent: "a".to_owned(),
    };
    world.tell(adopt());
    let told = world.update(1, TaskState::Finished, Some(b"7"));
    assert_eq!(states(&told).len(), 1, "{told:?}");
    // Its hearer dies before that is durable, and the next one comes.
    let told = world.tell(adopt());
    assert_eq!(
        states(&told).len(),
        1,
        "without waiting for the agent: {told:?}"
    );
    world.tell(Input::Acknowledge {
        task: task(1),
        agent: "a".to_owned(),
        uuid: b"7".to_vec(),
    });
    assert!(world.broker.unacknowledged.is_empty());
    let told = world.tell(adopt());
    assert_eq!(
        states(&told).len(),
        0,
        "what is acknowledged is over: {told:?}"
    );
}

#[test]
fn an_adopted_task_is_reconciled_with_its_agent_until_answered() {
    let mut world = World::new();
    let reconciles = |out: &[Output]| {
        calls(out)
            .iter()
            .filter(|call| matches!(call, Call::Reconcile(r) if r.tasks.iter().all(|t| t.agent_id.is_some()) && !r.tasks.is_empty()))
            .count()
    };
    let out = world.tell(Input::Adopt {
        task: task(1),
        agent: "a".to_owned(),
    });
    assert_eq!(reconciles(&out), 1);
    assert_eq!(reconciles(&world.wait(2_000)), 1);
    world.update(1, TaskState::Running, None);
    assert_eq!(reconciles(&world.wait(60_000)), 0);
}

#[test]
fn after_a_new_session_all_that_runs_is_asked_about() {
    let mut world = World::launched(1);
    world.tell(Input::Disconnected);
    let out = world.tell(Input::Subscribed(FrameworkId::new("f")));
    let explicit = calls(&out)
        .iter()
        .any(|call| matches!(call, Call::Reconcile(r) if r.tasks.len() == 1));
    let implicit = calls(&out)
        .iter()
        .any(|call| matches!(call, Call::Reconcile(r) if r.tasks.is_empty()));
    assert!(explicit && implicit, "{out:?}");
}

#[test]
fn a_kill_is_said_again_until_the_task_ends() {
    let mut world = World::launched(1);
    let kills = |out: Vec<Output>| {
        calls(&out)
            .iter()
            .filter(|call| matches!(call, Call::Kill(_)))
            .count()
    };
    assert_eq!(
        kills(world.tell(Input::Kill {
            task: task(1),
            agent: None
        })),
        1
    );
    assert_eq!(kills(world.wait(10_000)), 1);
    let out = world.update(1, TaskState::Killed, Some(b"2"));
    assert!(out.iter().any(|o| matches!(
        o,
        Output::Signal(
            _,
            News::State {
                state: AttemptState::Killed,
                ..
            }
        )
    )));
    assert_eq!(kills(world.wait(60_000)), 0);
}

#[test]
fn a_request_that_is_killed_in_the_queue_never_ran() {
    let mut world = World::new();
    world.enqueue(1, 1);
    let out = world.tell(Input::Kill {
        task: task(1),
        agent: None,
    });
    assert!(out.contains(&Output::Signal(task(1), News::Withdrawn)));
    assert!(placed(&world.offer("o1", "a", 4)).is_empty());
}

#[test]
fn several_tasks_share_one_accept_and_one_executor() {
    let mut world = World::new();
    for n in 1..=3 {
        world.enqueue(n, 1);
    }
    assert_eq!(placed(&world.offer("o1", "a", 4)).len(), 3);
    assert!(
        launched(&world.tell(Input::Confirm(task(1)))).is_empty(),
        "the others are about to be confirmed"
    );
    world.tell(Input::Confirm(task(2)));
    assert_eq!(launched(&world.tell(Input::Confirm(task(3)))).len(), 3);
}

#[test]
fn a_task_too_big_hears_why_and_the_offer_goes_back() {
    let mut world = World::new();
    world.enqueue(1, 16);
    let out = world.offer("o1", "a", 4);
    assert!(
        calls(&out)
            .iter()
            .any(|call| matches!(call, Call::Decline(_)))
    );
    let waiting = world.broker.explain(&task(1), world.now).unwrap();
    assert!(
        waiting.reasons[0]
            .text
            .contains("cpus: wants 16, at most 4 free"),
        "{waiting:?}"
    );
    assert_eq!(waiting.would_fit, ["fits now on 1 agent if cpus ≤ 4"]);
}

#[test]
fn an_error_about_a_duplicate_does_not_end_the_live_task() {
    let mut world = World::launched(1);
    let status = TaskStatus {
        reason: Some(StatusReason::TaskInvalid),
        source: Some(StatusSource::Master),
        ..TaskStatus::new(
            meson_mesos::types::TaskId::new(task(1).to_string()),
            TaskState::Error,
        )
    };
    let out = world.tell(Input::Event(Event::Update(Update { status })));
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(world.broker.live(), 1);
}

#[test]
fn an_end_told_by_reconciliation_leaves_the_task_known_until_its_result_comes() {
    let mut world = World::launched(1);
    let status = TaskStatus {
        reason: Some(StatusReason::Reconciliation),
        source: Some(StatusSource::Master),
        ..TaskStatus::new(
            meson_mesos::types::TaskId::new(task(1).to_string()),
            TaskState::Finished,
        )
    };
    world.tell(Input::Event(Event::Update(Update { status })));
    assert_eq!(world.broker.live(), 1);
    let out = world.update(1, TaskState::Finished, Some(b"2"));
    assert!(
        out.iter()
            .any(|o| matches!(o, Output::Signal(_, News::State { uuid: Some(_), .. }))),
        "{out:?}"
    );
    assert_eq!(world.broker.live(), 0);
}

#[test]
fn a_task_whose_step_actor_is_gone_is_asked_about() {
    let mut world = World::launched(1);
    world.tell(Input::Unheard(task(1)));
    let out = world.wait(30_000);
    assert!(out.contains(&Output::AskWanted(task(1))), "{out:?}");
    let out = world.tell(Input::Verdict {
        task: task(1),
        wanted: Some(false),
    });
    assert!(calls(&out).iter().any(|call| matches!(call, Call::Kill(_))));
}

#[test]
fn a_placement_that_is_on_record_counts_as_confirmed_when_it_is_adopted() {
    let mut world = World::new();
    world.enqueue(1, 1);
    assert_eq!(placed(&world.offer("o1", "a", 4)), [task(1)]);
    // The step actor is lost with its coordinator, after the placement was committed there.
    let out = world.tell(Input::Adopt {
        task: task(1),
        agent: "a".to_owned(),
    });
    assert_eq!(launched(&out), [task(1).to_string()]);
}

#[test]
fn an_agent_is_not_held_for_a_placement_that_is_gone() {
    let mut world = World::new();
    world.enqueue(1, 1);
    world.offer("o1", "a", 4);
    // Of the placement on b the run knows, of the one on a it does not.
    world.tell(Input::Adopt {
        task: task(1),
        agent: "b".to_owned(),
    });
    assert_eq!(placed(&world.enqueue(2, 1)), [task(2)]);
    let out = world.tell(Input::Confirm(task(2)));
    assert_eq!(launched(&out), [task(2).to_string()]);
}
