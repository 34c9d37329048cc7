//! What is offered is not all alike: reserved for us, a volume, a disk of its own.

use meson_mesos::types::{ExecutorId, ExecutorInfo, Reservation, ReservationType, TaskInfo};
use serde_json::json;

use super::*;

fn reserved(name: &str, value: f64) -> Resource {
    Resource {
        reservations: vec![Reservation {
            kind: Some(ReservationType::Static),
            role: Some("ml".to_owned()),
            ..Reservation::default()
        }],
        ..Resource::scalar(name, value)
    }
    .allocated_to("ml")
}

fn infos(out: &[Output]) -> Vec<TaskInfo> {
    let accepts = calls(out).into_iter().filter_map(|call| match call {
        Call::Accept(accept) => Some(accept),
        _ => None,
    });
    let launches = accepts.flat_map(|accept| &accept.operations);
    let launches = launches.filter_map(|operation| operation.launch.clone());
    launches.flat_map(|launch| launch.task_infos).collect()
}

/// An agent that has nothing but what is reserved for our role.
fn offer_of(
    world: &mut World,
    id: &str,
    cpus: f64,
    mem: f64,
    executors: &[&ExecutorId],
) -> Vec<Output> {
    let offer = Offer {
        resources: vec![reserved("cpus", cpus), reserved("mem", mem)],
        executor_ids: executors.iter().map(|id| (*id).clone()).collect(),
        allocation_info: Some(AllocationInfo {
            role: Some("ml".to_owned()),
        }),
        ..offer(id, "a", 0)
    };
    let offers = vec![offer];
    world.tell(Input::Event(Event::Offers(Offers { offers })))
}

/// All that the tasks and their executor, if it is started, are given.
fn given(info: &TaskInfo, name: &str, with_executor: bool) -> f64 {
    let executor = info.executor.iter().flat_map(|it| &it.resources);
    let executor = executor.filter(|_| with_executor);
    let all: Vec<Resource> = info.resources.iter().chain(executor).cloned().collect();
    meson_mesos::resources::scalar_total(&all, name)
}

#[test]
fn item_23_an_agent_that_is_all_ours_runs_tasks_and_one_executor_for_them() {
    let mut world = World::with(|settings| settings.role = "ml".to_owned());
    world.enqueue(1, 1);
    world.enqueue(2, 1);
    // Room for one of them and the executor.
    offer_of(&mut world, "o1", 1.0, 96.0, &[]);
    let first = infos(&world.confirm([1]));
    assert_eq!(first.len(), 1);
    let executor: ExecutorInfo = first[0].executor.clone().unwrap();
    for resource in first[0].resources.iter().chain(&executor.resources) {
        assert_eq!(resource.reservations, reserved("", 0.0).reservations);
    }
    assert_eq!(given(&first[0], "mem", true), 96.0);
    // Next time it is there already, also if nothing reserved is left to say so again.
    offer_of(&mut world, "o2", 1.0, 64.0, &[&executor.executor_id]);
    let second = infos(&world.confirm([2]));
    assert_eq!(second.len(), 1, "there is room without another executor");
    assert_eq!(second[0].executor.as_ref(), Some(&executor));
    // Where something is free for all, it is the usual one.
    world.enqueue(3, 1);
    world.tell(Input::Event(Event::Offers(Offers {
        offers: vec![offer("o3", "b", 4)],
    })));
    let third = infos(&world.confirm([3]));
    assert_ne!(third[0].executor, Some(executor));
}

#[test]
fn item_24_a_disk_of_its_own_and_a_volume_are_no_room_for_a_steps_files() {
    let mut world = World::new();
    let mut wants = shape(1);
    wants.resources.disk = Size::from_mib(100);
    world.tell(Input::Enqueue {
        task: task(1),
        shape: wants,
        owner: "ada".to_owned(),
        deadline: None,
        payload: Bytes::from_static(b"payload"),
    });
    let disk = |disk: serde_json::Value| Resource {
        disk: Some(disk),
        ..Resource::scalar("disk", 1000.0)
    };
    let things = [
        disk(json!({"source": {"type": "MOUNT", "mount": {"root": "/mnt/ssd"}}})),
        disk(json!({"source": {"type": "PATH", "path": {"root": "/data"}}})),
        disk(
            json!({"persistence": {"id": "db"}, "volume": {"mode": "RW", "container_path": "db"}}),
        ),
        Resource {
            provider_id: Some(json!({"value": "csi"})),
            ..Resource::scalar("disk", 1000.0)
        },
        Resource {
            shared: Some(json!({})),
            ..Resource::scalar("disk", 1000.0)
        },
    ];
    let mut with_things = offer("o1", "a", 4);
    with_things.resources.extend(things);
    let mut plain = with_things.clone();
    let offers = |offer| {
        Input::Event(Event::Offers(Offers {
            offers: vec![offer],
        }))
    };
    assert!(placed(&world.tell(offers(with_things))).is_empty());
    plain.id = OfferId::new("o2");
    plain.resources.push(Resource::scalar("disk", 200.0));
    assert_eq!(placed(&world.tell(offers(plain))), [task(1)]);
    let info = infos(&world.confirm([1])).remove(0);
    let taken = info.resources.iter().find(|it| it.name == "disk").unwrap();
    assert_eq!(taken, &Resource::scalar("disk", 100.0).allocated_to("*"));
}
