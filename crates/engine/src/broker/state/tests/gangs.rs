//! Attempts of several tasks: placed, confirmed and launched as one, heard of one by one.

use meson_core::matching::Gang;
use meson_core::run::Seat;
use meson_protocol::task::TaskPayload;

use super::super::gang::fixture::payload;
use super::*;

const TASKS: u32 = 3;

fn id(rank: u32) -> String {
    task(1).member(rank).to_string()
}

impl World {
    /// A gang of three, of so many cpus each.
    fn gang(&mut self, cpus: u64) -> Vec<Output> {
        self.tell(Input::Enqueue {
            task: task(1),
            shape: Shape {
                gang: Gang {
                    tasks: TASKS,
                    ..Gang::default()
                },
                ..shape(cpus)
            },
            owner: "ada".to_owned(),
            deadline: None,
            payload: payload(),
        })
    }

    fn offers(&mut self, offers: &[(&str, &str, u64)]) -> Vec<Output> {
        let offers = offers
            .iter()
            .map(|(id, agent, cpus)| offer(id, agent, *cpus));
        let offers = offers.collect();
        self.tell(Input::Event(Event::Offers(Offers { offers })))
    }

    /// Placed on two agents.
    fn with_places() -> Self {
        let mut world = Self::new();
        world.gang(2);
        world.offers(&[("o1", "a", 4), ("o2", "b", 3)]);
        assert_eq!(world.broker.live(), 3, "places for all of it");
        world
    }

    /// Launched, and running.
    fn with_gang() -> Self {
        let mut world = Self::with_places();
        world.confirm([1]);
        for rank in 0..TASKS {
            world.of(rank, TaskState::Running, Some(b"1"));
        }
        world
    }

    fn of(&mut self, rank: u32, state: TaskState, uuid: Option<&'static [u8]>) -> Vec<Output> {
        let agent = if rank == 2 { "b" } else { "a" };
        self.status(TaskStatus {
            uuid: uuid.map(|uuid| Data(Bytes::from_static(uuid))),
            agent_id: Some(AgentId::new(agent)),
            source: Some(StatusSource::Executor),
            ..TaskStatus::new(meson_mesos::types::TaskId::new(id(rank)), state)
        })
    }

    fn kill(&mut self, rank: u32, agent: Option<&str>) -> Vec<Output> {
        self.tell(Input::Kill {
            task: task(1).member(rank),
            agent: agent.map(str::to_owned),
        })
    }
}

fn withdrawn(out: &[Output]) -> usize {
    let signals = out.iter();
    signals
        .filter(|output| matches!(output, Output::Signal(_, News::Withdrawn)))
        .count()
}

fn payloads(out: &[Output]) -> Vec<TaskPayload> {
    calls(out)
        .into_iter()
        .filter_map(|call| match call {
            Call::Accept(accept) => Some(accept),
            _ => None,
        })
        .flat_map(|accept| &accept.operations)
        .filter_map(|operation| operation.launch.as_ref())
        .flat_map(|launch| &launch.task_infos)
        .map(|info| TaskPayload::decode(&info.data.as_ref().unwrap().0).unwrap())
        .collect()
}

#[test]
fn item_25_gang_is_placed_whole_or_not_at_all() {
    let mut world = World::new();
    world.gang(2);
    assert!(placed(&world.offers(&[("o1", "a", 4)])).is_empty());
    let out = world.offers(&[("o2", "a", 4), ("o3", "b", 3)]);
    let seat = |agent: &str| Seat {
        agent: agent.to_owned(),
        host: format!("{agent}.example"),
    };
    let news = out.iter().find_map(|output| match output {
        Output::Signal(id, News::Placed { agent, mates, .. }) => Some((id, agent, mates)),
        _ => None,
    });
    assert_eq!(
        news,
        Some((&task(1), &"a".to_owned(), &vec![seat("a"), seat("b")]))
    );
}

#[test]
fn item_25_gang_is_launched_when_all_of_it_is_confirmed_each_with_its_rank_and_the_hosts() {
    let mut world = World::with_places();
    let out = world.confirm([1]);
    assert_eq!(launched(&out), [id(0), id(1), id(2)]);
    assert_eq!(count(&out, |call| matches!(call, Call::Accept(_))), 2);
    for (rank, payload) in (0..).zip(payloads(&out)) {
        assert_eq!(payload.spec.task.rank, rank);
        assert_eq!(payload.spec.hosts, ["a.example", "a.example", "b.example"]);
    }
}

#[test]
fn item_25_gang_that_lost_an_offer_before_it_was_confirmed_waits_again_whole() {
    let mut world = World::with_places();
    world.tell(Input::Event(Event::Rescind(Rescind {
        offer_id: OfferId::new("o2"),
    })));
    assert_eq!((world.broker.queued(), world.broker.live()), (1, 0));
    let out = world.offers(&[("o4", "a", 4), ("o5", "b", 3)]);
    assert_eq!(placed(&out), [task(1)]);
    assert_eq!(launched(&world.confirm([1])).len(), 3);
}

#[test]
fn item_25_gang_whose_hold_ends_waits_again_whole_and_its_late_confirmation_ends_it() {
    let mut world = World::with_places();
    world.offers(&[("o9", "z", 1)]);
    world.tell(Input::Event(Event::Rescind(Rescind {
        offer_id: OfferId::new("o1"),
    })));
    world.wait(600);
    assert_eq!((world.broker.queued(), world.broker.live()), (1, 0));
    let out = world.confirm([1]);
    assert!(launched(&out).is_empty());
    assert_eq!(states(&out).len(), 3, "each of it is told");
    assert_eq!((world.broker.queued(), world.broker.live()), (0, 0));
}

#[test]
fn item_25_gang_that_loses_an_offer_once_it_is_confirmed_is_lost_and_none_of_it_launched() {
    let mut world = World::with_places();
    // Another one's placement holds agent `b` up, so nothing is launched there yet.
    let mut out = Vec::new();
    let confirmed = world.broker.confirmation(task(1));
    world.broker.handle(confirmed, world.now, &mut out);
    world.broker.handle(
        Input::Event(Event::Rescind(Rescind {
            offer_id: OfferId::new("o2"),
        })),
        world.now,
        &mut out,
    );
    world.broker.settle(world.now, &mut out);
    assert!(launched(&out).is_empty());
    assert_eq!(states(&out).len(), 3);
    assert_eq!((world.broker.queued(), world.broker.live()), (0, 0));
}

#[test]
fn a_gang_that_waits_or_has_places_is_withdrawn_as_one() {
    let mut world = World::new();
    world.gang(2);
    assert_eq!(withdrawn(&world.kill(0, None)), 1);
    assert_eq!(world.broker.queued(), 0);
    let mut world = World::with_places();
    assert_eq!(withdrawn(&world.kill(0, None)), 1);
    assert_eq!(world.broker.live(), 0);
}

#[test]
fn a_gang_with_places_that_is_killed_task_by_task_is_never_launched() {
    let mut world = World::with_places();
    for (rank, agent) in [(0, "a"), (1, "a"), (2, "b")] {
        let out = world.kill(rank, Some(agent));
        assert_eq!(withdrawn(&out), 1);
        assert!(launched(&out).is_empty());
        assert!(launched(&world.confirm([1])).is_empty());
    }
    assert_eq!(world.broker.live(), 0);
}

#[test]
fn tasks_of_a_gang_are_killed_one_by_one_and_a_kill_is_said_again() {
    let mut world = World::with_gang();
    assert_eq!(count(&world.kill(1, Some("a")), is_kill), 1);
    assert_eq!(count(&world.wait(10_000), is_kill), 1, "of that one alone");
}

#[test]
fn an_end_that_is_not_durable_yet_is_told_again_when_its_agent_repeats_it() {
    let mut world = World::with_gang();
    let first = world.of(1, TaskState::Finished, Some(b"9"));
    assert_eq!(states(&first).len(), 1);
    assert_eq!(count(&first, is_acknowledge), 0);
    let again = world.of(1, TaskState::Finished, Some(b"9"));
    assert_eq!(states(&again), states(&first));
    assert_eq!(world.broker.live(), 2, "it is over all the same");
    // Nobody hears it: whoever comes for it next does.
    world.tell(Input::Unheard(task(1).member(1)));
    let out = world.tell(Input::Adopt {
        task: task(1).member(1),
        agent: "a".to_owned(),
        claim: None,
    });
    assert_eq!(states(&out), states(&first));
}

#[test]
fn an_end_that_nobody_will_ever_make_durable_is_acknowledged() {
    let mut world = World::with_gang();
    world.of(1, TaskState::Finished, Some(b"9"));
    world.tell(Input::Unheard(task(1).member(1)));
    let out = world.wait(60_000);
    assert!(out.contains(&Output::AskWanted(task(1).member(1))));
    let out = world.tell(Input::Verdict {
        task: task(1).member(1),
        wanted: Some(false),
    });
    assert_eq!(count(&out, is_acknowledge), 1);
    assert_eq!(world.broker.live(), 2);
}

#[test]
fn item_21_gang_asks_for_what_was_refused_when_more_is_offered() {
    let mut world = World::new();
    world.gang(2);
    // The answer to the REVIVE that its request caused has too little.
    let out = world.offers(&[("o1", "a", 4)]);
    assert_eq!(count(&out, |call| matches!(call, Call::Decline(_))), 1);
    world.wait(5_000);
    let out = world.offers(&[("o2", "b", 3)]);
    assert_eq!(count(&out, is_revive), 1, "for agent `a` beside it");
    let out = world.offers(&[("o3", "b", 3)]);
    assert_eq!(count(&out, is_revive), 0, "that is the answer");
    assert_eq!(count(&world.wait(60_000), is_revive), 0);
}

#[test]
fn item_39_gang_that_is_larger_than_what_may_start_at_once_starts_all_the_same() {
    let mut world = World::with(|settings| settings.pacing.starting_per_agent = 2);
    world.gang(1);
    assert_eq!(placed(&world.offers(&[("o1", "a", 4)])), [task(1)]);
    assert_eq!(launched(&world.confirm([1])).len(), 3);
    world.enqueue(2, 1);
    let out = world.offers(&[("o2", "a", 4)]);
    assert!(placed(&out).is_empty(), "the next one waits until they run");
}

#[test]
fn a_gang_that_cannot_be_described_ends_by_its_own_fault() {
    let mut world = World::new();
    let gang = Gang {
        tasks: TASKS,
        ..Gang::default()
    };
    world.tell(Input::Enqueue {
        task: task(1),
        shape: Shape { gang, ..shape(1) },
        owner: "ada".to_owned(),
        deadline: None,
        payload: Bytes::from_static(b"no payload"),
    });
    let out = world.offers(&[("o1", "a", 4)]);
    assert_eq!(failure(&out), Some(FailureClass::Step));
    assert_eq!((world.broker.queued(), world.broker.live()), (0, 0));
}
