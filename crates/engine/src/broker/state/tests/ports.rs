//! Which ports tasks get, and what they and their gangs are told of them.

use meson_core::matching::Gang;
use meson_mesos::resources::range_total;
use meson_mesos::types::TaskInfo;
use meson_protocol::task::TaskPayload;

use super::super::gang::fixture::payload;
use super::*;

impl World {
    /// A request for `tasks` tasks of so many ports each.
    fn serve(&mut self, n: u32, ports: u32, tasks: u32) -> Vec<Output> {
        self.tell(Input::Enqueue {
            task: task(n),
            shape: Shape {
                resources: Resources {
                    ports,
                    ..resources(1, 64)
                },
                gang: Gang {
                    tasks,
                    ..Gang::default()
                },
                ..shape(0)
            },
            owner: "ada".to_owned(),
            deadline: None,
            payload: payload(),
        })
    }

    /// An offer of an agent, with these ports.
    fn with_ports(&mut self, id: &str, agent: &str, ports: (u64, u64)) -> Vec<Output> {
        self.with_offers(&[(id, agent, 8, ports)])
    }

    fn with_offers(&mut self, offers: &[(&str, &str, u64, (u64, u64))]) -> Vec<Output> {
        let offers = offers.iter().map(|(id, agent, cpus, ports)| {
            let mut offer = offer(id, agent, *cpus);
            offer.resources.push(Resource::ranges("ports", [*ports]));
            offer
        });
        let offers = offers.collect();
        self.tell(Input::Event(Event::Offers(Offers { offers })))
    }
}

/// What was launched: the ports that the resource manager is told of, and what the executor is.
fn served(out: &[Output]) -> Vec<(Vec<u64>, TaskPayload)> {
    let accepts = calls(out).into_iter().filter_map(|call| match call {
        Call::Accept(accept) => Some(accept),
        _ => None,
    });
    let ports = |info: &TaskInfo| {
        let ranges = range_total(&info.resources, "ports");
        ranges.iter().flat_map(|r| r.begin..=r.end).collect()
    };
    accepts
        .flat_map(|accept| &accept.operations)
        .filter_map(|operation| operation.launch.as_ref())
        .flat_map(|launch| &launch.task_infos)
        .map(|info| {
            let data = &info.data.as_ref().unwrap().0;
            (ports(info), TaskPayload::decode(data).unwrap())
        })
        .collect()
}

fn numbers(ports: &[u16]) -> Vec<u64> {
    ports.iter().copied().map(u64::from).collect()
}

#[test]
fn two_tasks_of_one_accept_get_ports_of_their_own_and_are_told_which() {
    let mut world = World::new();
    world.serve(1, 2, 1);
    world.serve(2, 1, 1);
    world.enqueue(3, 1);
    assert_eq!(
        placed(&world.with_ports("o1", "a", (31_000, 31_002))).len(),
        3
    );
    world.confirm([1, 2]);
    let out = world.confirm([3]);
    let accept = calls(&out)
        .into_iter()
        .find(|call| matches!(call, Call::Accept(_)));
    let Some(Call::Accept(accept)) = accept else {
        panic!("{out:?}")
    };
    let infos = &accept.operations[0].launch.as_ref().unwrap().task_infos;
    let mut all = Vec::new();
    for info in &infos[..2] {
        let ranges = range_total(&info.resources, "ports");
        let ports: Vec<u64> = ranges.iter().flat_map(|r| r.begin..=r.end).collect();
        let spec = TaskPayload::decode(&info.data.as_ref().unwrap().0)
            .unwrap()
            .spec;
        assert_eq!(numbers(&spec.ports), ports);
        assert!(spec.hosts.is_empty() && spec.gang_ports.is_empty());
        all.extend(ports);
    }
    all.sort_unstable();
    assert_eq!(all, [31_000, 31_001, 31_002]);
    assert!(range_total(&infos[2].resources, "ports").is_empty());
    assert_eq!(infos[2].data.as_ref().unwrap().0, &b"payload"[..]);
}

#[test]
fn a_port_that_was_given_back_comes_last() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for n in 1..=4 {
        world.serve(n, 1, 1);
        world.with_ports(&format!("o{n}"), "a", (31_000, 31_003));
        let out = world.confirm([n]);
        seen.extend(served(&out)[0].0.clone());
        world.update(n, TaskState::Finished, Some(b"1"));
    }
    let next = |port: u64| if port == 31_003 { 31_000 } else { port + 1 };
    for pair in seen.windows(2) {
        assert_eq!(pair[1], next(pair[0]), "{seen:?}");
    }
}

#[test]
fn who_asks_for_more_ports_than_are_free_waits_and_hears_of_what() {
    let mut world = World::new();
    world.serve(1, 3, 1);
    assert!(placed(&world.with_ports("o1", "a", (31_000, 31_001))).is_empty());
    let waiting = world.broker.explain(&task(1), world.now).unwrap();
    assert_eq!(waiting.reasons[0].code, "ports_total");
    assert_eq!(
        waiting.reasons[0].text,
        "ports: wants 3, at most 2 free of 2"
    );
    assert_eq!(waiting.would_fit, ["fits now on 1 agent if ports ≤ 2"]);
    assert_eq!(waiting.view.changes[0].ports, Some(2));
    let told = world.broker.stats().declined.clone();
    assert_eq!(
        told.get(&Declined::TooSmall(Shortage::Ports)),
        Some(&1),
        "{told:?}"
    );
    assert_eq!(
        placed(&world.with_ports("o2", "a", (31_000, 31_002))),
        [task(1)]
    );
}

#[test]
fn who_waits_for_ports_that_another_holds_hears_of_whom() {
    let mut world = World::new();
    world.serve(1, 2, 1);
    world.with_ports("o1", "a", (31_000, 31_002));
    world.confirm([1]);
    world.serve(2, 2, 1);
    world.with_ports("o2", "a", (31_000, 31_000));
    let waiting = world.broker.explain(&task(2), world.now).unwrap();
    assert_eq!(waiting.reasons[0].code, "ports");
    let next = waiting.view.next.unwrap();
    assert_eq!(next.text, "waits for 1 of 3 ports");
    assert_eq!(next.holders[0].step, "step");
    assert_eq!(waiting.view.owner.ports, 2);
}

#[test]
fn item_25_gang_meets_at_the_ports_that_its_tasks_were_given() {
    let mut world = World::new();
    world.serve(1, 2, 3);
    let mut ports = (31_000, 31_005);
    world.with_offers(&[("o1", "a", 2, ports), ("o2", "b", 2, ports)]);
    // Lost and placed once more: what counts is where it is launched.
    world.tell(Input::Event(Event::Rescind(Rescind {
        offer_id: OfferId::new("o2"),
    })));
    assert_eq!((world.broker.queued(), world.broker.live()), (1, 0));
    ports.0 += 1;
    world.with_offers(&[("o3", "a", 2, ports), ("o4", "b", 2, (31_100, 31_101))]);
    let served = served(&world.confirm([1]));
    assert_eq!(served.len(), 3);
    let firsts: Vec<u16> = served.iter().map(|(_, it)| it.spec.ports[0]).collect();
    for (ports, payload) in &served {
        assert_eq!(&numbers(&payload.spec.ports), ports);
        assert_eq!(payload.spec.hosts.len(), 3);
        assert_eq!(payload.spec.gang_ports, firsts);
    }
    let mut all: Vec<u64> = served.iter().flat_map(|(ports, _)| ports.clone()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 6, "{all:?}");
    assert!(all.contains(&31_100) && !all.contains(&31_000), "{all:?}");
}
