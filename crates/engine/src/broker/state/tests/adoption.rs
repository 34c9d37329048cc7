//! Tasks that an earlier broker launched count like those that this one did.

use meson_core::run::Claim;

use super::*;

fn claim(cpus: u64) -> Claim {
    Claim {
        resources: resources(cpus, 64),
        owner: "ada".to_owned(),
        lasts: Some(Duration::from_secs(600)),
        deadline: None,
        started_at: None,
    }
}

impl World {
    fn adopt(&mut self, task: TaskId, claim: Option<Claim>) -> Vec<Output> {
        self.tell(Input::Adopt {
            task,
            agent: "a".to_owned(),
            claim: claim.map(Box::new),
        })
    }

    fn held_by(&self, owner: &str) -> Resources {
        let held = self.broker.held.get(owner);
        held.copied().unwrap_or(Resources::ZERO)
    }

    fn held_on(&self, agent: &str) -> Resources {
        self.broker.desks["*"].agents.held(agent)
    }
}

#[test]
fn an_adopted_task_holds_its_resources_once_until_it_ends() {
    let mut world = World::new();
    for _ in 0..2 {
        world.adopt(task(1), Some(claim(2)));
        assert_eq!(world.held_by("ada"), resources(2, 64));
        assert_eq!(world.held_on("a"), resources(2, 64));
    }
    world.update(1, TaskState::Finished, Some(b"1"));
    assert_eq!(world.broker.held.len(), 0);
    assert_eq!(world.held_on("a"), Resources::ZERO);
}

#[test]
fn each_task_of_a_gang_is_adopted_with_what_one_of_them_holds() {
    let mut world = World::new();
    for rank in 0..3 {
        world.adopt(task(1).member(rank), Some(claim(1)));
    }
    assert_eq!(world.held_by("ada"), resources(3, 192));
    world.update(1, TaskState::Finished, Some(b"1"));
    assert_eq!(world.held_by("ada"), resources(2, 128));
}

#[test]
fn a_task_that_was_heard_of_before_it_was_adopted_counts_from_then_on() {
    let mut world = World::new();
    world.update(1, TaskState::Running, Some(b"1"));
    assert_eq!(
        world.held_on("a"),
        Resources::ZERO,
        "nobody said what it holds"
    );
    world.adopt(task(1), Some(claim(2)));
    assert_eq!(world.held_on("a"), resources(2, 64));
    // Its end was told already, and is told again to whoever adopts it.
    world.update(2, TaskState::Finished, Some(b"2"));
    world.adopt(task(2), Some(claim(1)));
    assert_eq!(world.held_by("ada"), resources(2, 64));
}

#[test]
fn what_is_launched_and_asked_for_again_holds_what_is_asked_for() {
    let mut world = World::new();
    world.update(1, TaskState::Running, Some(b"1"));
    world.enqueue(1, 2);
    assert_eq!(world.held_by("ada"), resources(2, 64));
    // The other way round: told of what still waits.
    world.enqueue(2, 1);
    world.update(2, TaskState::Running, Some(b"2"));
    assert_eq!(world.held_by("ada"), resources(3, 128));
}

#[test]
fn an_adopted_task_counts_against_its_owners_quota() {
    let mut world = World::with(|settings| {
        let terms = crate::broker::queue::OwnerTerms {
            quota: Some(resources(2, 1024)),
            ..Default::default()
        };
        settings.owners.insert("ada".to_owned(), terms);
    });
    world.adopt(task(1), Some(claim(2)));
    world.enqueue(2, 1);
    assert!(placed(&world.offer("o1", "b", 4)).is_empty());
    world.update(1, TaskState::Finished, Some(b"1"));
    assert_eq!(placed(&world.offer("o2", "b", 4)), [task(2)]);
}

#[test]
fn who_waits_for_room_that_an_adopted_task_holds_hears_of_it_and_until_when() {
    let mut world = World::new();
    world.adopt(task(1), Some(claim(3)));
    world.offer("o1", "a", 1);
    world.enqueue(2, 4);
    world.offer("o2", "a", 1);
    let waiting = world.broker.explain(&task(2), world.now).unwrap();
    let next = waiting.view.next.expect("the agent has enough in all");
    assert_eq!(next.holders.len(), 1, "{next:?}");
    assert_eq!(next.holders[0].owner, "ada");
    assert_eq!(next.holders[0].guessed_from, "timeout");
    let ends = world.now.after(Duration::from_secs(600)).to_rfc3339();
    assert_eq!(next.holders[0].until, Some(ends));
}

#[test]
fn an_agent_that_has_offered_nothing_yet_is_told_of_to_nobody() {
    let mut world = World::new();
    world.adopt(task(1), Some(claim(2)));
    world.enqueue(2, 8);
    world.offer("o1", "b", 4);
    let waiting = world.broker.explain(&task(2), world.now).unwrap();
    let agents: Vec<_> = waiting
        .view
        .agents
        .iter()
        .map(|it| it.agent.as_str())
        .collect();
    assert_eq!(agents, ["b"], "what `a` is and has in all is not known");
}

#[test]
fn offers_are_asked_for_at_once_as_long_as_nothing_was_offered_but_tasks_were_adopted() {
    let mut world = World::new();
    world.adopt(task(1), Some(claim(2)));
    assert_eq!(
        count(&world.wait(1_000), |call| matches!(call, Call::Suppress(_))),
        0,
        "nothing is known yet"
    );
    assert_eq!(count(&world.enqueue(2, 1), is_revive), 1);
}

#[test]
fn offers_are_asked_for_when_an_adopted_task_ends_on_an_agent_that_was_never_offered() {
    let mut world = World::new();
    world.adopt(task(1), Some(claim(2)));
    world.enqueue(2, 8);
    world.offer("o1", "b", 4);
    world.wait(60_000);
    let out = world.wait(1_000);
    assert_eq!(count(&out, is_revive), 0, "there is no reason to");
    let out = world.update(1, TaskState::Finished, Some(b"1"));
    assert_eq!(count(&out, is_revive), 1);
}
