//! What an ACCEPT says: tasks, their executor, and resources carved out of the offers.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::resources::Resources;
use meson_mesos::resources::{add, contains, from_fixed, is_plain, subtract, to_fixed};
use meson_mesos::scheduler::{Accept, Call};
use meson_mesos::types::{
    AgentId, CommandInfo, Data, ExecutorId, ExecutorInfo, ExecutorType, Filters, FrameworkId,
    Label, Labels, OfferId, Operation, Resource, TaskInfo,
};

use super::ports;

/// How the executor of a pool is started, and what it costs beside its tasks.
#[derive(Debug, Clone)]
pub struct ExecutorTemplate {
    /// Program, arguments, files to fetch, environment.
    pub command: CommandInfo,
    /// What it uses itself.
    pub resources: Resources,
}

/// A task about to be launched.
#[derive(Debug, Clone)]
pub(super) struct Launchable {
    pub(super) task: TaskId,
    pub(super) resources: Resources,
    /// What of that is to be taken from what is revocable.
    pub(super) revocable: Resources,
    /// Those of the offered ports that are its own.
    pub(super) ports: Vec<u16>,
    pub(super) owner: String,
    pub(super) payload: Bytes,
}

impl ExecutorTemplate {
    /// The executor as Mesos is told. Its id is a hash of all that is in it, because the same id
    /// needs an identical ExecutorInfo (src/master/validation.cpp).
    pub fn info(&self, framework: &FrameworkId, role: &str) -> ExecutorInfo {
        let mut info = ExecutorInfo {
            kind: Some(ExecutorType::Custom),
            framework_id: Some(framework.clone()),
            command: Some(self.command.clone()),
            resources: scalars(&self.resources)
                .map(|resource| resource.allocated_to(role))
                .collect(),
            name: Some("meson-executor".to_owned()),
            ..ExecutorInfo::default()
        };
        name(&mut info);
        info
    }
}

fn name(info: &mut ExecutorInfo) {
    let mut hasher = DefaultHasher::new();
    info.executor_id = ExecutorId::new("");
    serde_json::to_string(&info)
        .unwrap_or_default()
        .hash(&mut hasher);
    info.executor_id = ExecutorId::new(format!("meson-{:016x}", hasher.finish()));
}

/// What several offers of one agent to one role hold, each kind of it once.
pub(super) fn in_one(offered: Vec<Resource>, role: &str) -> Vec<Resource> {
    let mut all = Vec::with_capacity(offered.len());
    for resource in offered {
        // Said of every resource that a framework with several roles is offered.
        let resource = match resource.allocation_info {
            Some(_) => resource,
            None => resource.allocated_to(role),
        };
        add(&mut all, &[resource]);
    }
    all
}

/// Takes the share of an executor that is to be started out of what is offered. An agent may have
/// nothing but what is reserved for us: then it comes out of that, and the executor is another one
/// than the `usual`.
pub(super) fn start_executor(usual: &ExecutorInfo, offered: &mut Vec<Resource>) -> ExecutorInfo {
    if contains(offered, &usual.resources) {
        subtract(offered, &usual.resources);
        return usual.clone();
    }
    let mut info = usual.clone();
    info.resources.clear();
    for resource in &usual.resources {
        let amount = resource.scalar.map_or(0, |scalar| to_fixed(scalar.value));
        take(offered, &resource.name, amount, false, &mut info.resources);
    }
    name(&mut info);
    info
}

/// One ACCEPT for these tasks of one agent.
pub(super) fn accept(
    agent: &str,
    offers: Vec<OfferId>,
    mut offered: Vec<Resource>,
    executor: &ExecutorInfo,
    tasks: Vec<Launchable>,
    refuse_rest_seconds: f64,
) -> Call {
    let task_infos = tasks
        .into_iter()
        .map(|task| TaskInfo {
            name: task.task.step.clone(),
            task_id: meson_mesos::types::TaskId::new(task.task.to_string()),
            agent_id: AgentId::new(agent),
            resources: {
                let firm = task.resources.minus(&task.revocable);
                let mut resources = carve(&mut offered, &firm, false);
                resources.extend(carve(&mut offered, &task.revocable, true));
                resources.extend(ports::carve(&offered, &task.ports));
                resources
            },
            executor: Some(executor.clone()),
            data: Some(Data(task.payload)),
            labels: Some(labels(&task.task, &task.owner)),
            ..TaskInfo::default()
        })
        .collect();
    Call::Accept(Accept {
        offer_ids: offers,
        operations: vec![Operation::launch(task_infos)],
        filters: Some(Filters::refuse(refuse_rest_seconds)),
    })
}

fn labels(task: &TaskId, owner: &str) -> Labels {
    let label = |key: &str, value: String| Label {
        key: key.to_owned(),
        value: Some(value),
    };
    Labels {
        labels: vec![
            label("meson.run", task.run.to_string()),
            label("meson.step", task.step.clone()),
            label("meson.iteration", task.path.to_string()),
            label("meson.attempt", task.attempt.0.to_string()),
            label("meson.rank", task.rank.to_string()),
            label("meson.owner", owner.to_owned()),
        ],
    }
}

fn scalars(resources: &Resources) -> impl Iterator<Item = Resource> {
    amounts(resources)
        .into_iter()
        .filter(|&(_, amount)| amount > 0)
        .map(|(name, amount)| Resource::scalar(name, from_fixed(amount)))
}

/// Amounts in thousandths, memory and disk of mebibytes, by Mesos's names. Ports are no amount.
pub(super) fn amounts(resources: &Resources) -> [(&'static str, i64); 4] {
    let mib = |bytes: u64| {
        i64::try_from((u128::from(bytes) * 1000).div_ceil(1 << 20)).unwrap_or(i64::MAX)
    };
    [
        ("cpus", i64::try_from(resources.cpus.0).unwrap_or(i64::MAX)),
        ("mem", mib(resources.mem.0)),
        ("disk", mib(resources.disk.0)),
        ("gpus", i64::from(resources.gpus).saturating_mul(1000)),
    ]
}

/// Takes `wanted` out of `offered`, entry by entry: the same name may come reserved and
/// unreserved, and what is taken keeps the reservation of where it came from.
/// What is revocable is taken only if it is asked for, and then nothing else.
fn carve(offered: &mut Vec<Resource>, wanted: &Resources, revocable: bool) -> Vec<Resource> {
    let mut carved = Vec::new();
    for (name, amount) in amounts(wanted) {
        take(offered, name, amount, revocable, &mut carved);
    }
    carved
}

/// Moves so much of one name from `offered` to `taken`.
fn take(
    offered: &mut Vec<Resource>,
    name: &str,
    amount: i64,
    revocable: bool,
    taken: &mut Vec<Resource>,
) {
    let mut missing = amount;
    for resource in offered.iter_mut().filter(|resource| {
        resource.name == name && resource.revocable.is_some() == revocable && is_plain(resource)
    }) {
        let Some(scalar) = &mut resource.scalar else {
            continue;
        };
        let take = missing.min(to_fixed(scalar.value));
        if take <= 0 {
            continue;
        }
        let rest = to_fixed(scalar.value) - take;
        scalar.value = from_fixed(take);
        taken.push(resource.clone());
        if let Some(scalar) = &mut resource.scalar {
            scalar.value = from_fixed(rest);
        }
        missing -= take;
    }
    offered.retain(|resource| {
        let scalar = resource.scalar.as_ref();
        scalar.is_none_or(|scalar| to_fixed(scalar.value) > 0)
    });
}

#[cfg(test)]
mod tests {
    use meson_core::resources::MilliCpus;
    use meson_core::units::Bytes as Size;
    use meson_mesos::types::{Reservation, ReservationType};
    use proptest::prelude::*;

    use super::*;

    fn resources(cpus: u64, mib: u64) -> Resources {
        Resources {
            cpus: MilliCpus(cpus),
            mem: Size::from_mib(mib),
            ..Resources::ZERO
        }
    }

    #[test]
    fn what_is_carved_keeps_its_reservation_and_adds_up() {
        let reserved = Resource {
            role: Some("ml".to_owned()),
            ..Resource::scalar("cpus", 1.0)
        };
        let mut offered = vec![
            reserved.clone(),
            Resource::scalar("cpus", 2.0),
            Resource::scalar("mem", 512.0),
        ];
        let carved = carve(&mut offered, &resources(1500, 256), false);
        let amounts: Vec<_> = carved
            .iter()
            .map(|r| (r.role.clone(), to_fixed(r.scalar.unwrap().value)))
            .collect();
        assert_eq!(
            amounts,
            [(Some("ml".to_owned()), 1000), (None, 500), (None, 256_000)]
        );
        assert_eq!(to_fixed(offered[0].scalar.unwrap().value), 1500);
    }

    #[test]
    fn what_is_revocable_is_carved_only_for_who_asks_for_it() {
        let revocable = Resource {
            revocable: Some(serde_json::json!({})),
            ..Resource::scalar("cpus", 4.0)
        };
        let mut offered = vec![revocable.clone(), Resource::scalar("cpus", 1.0)];
        let firm = carve(&mut offered, &resources(2000, 0), false);
        assert_eq!(to_fixed(firm[0].scalar.unwrap().value), 1000);
        assert_eq!(firm.len(), 1, "{firm:?}");
        let lent = carve(&mut offered, &resources(3000, 0), true);
        assert_eq!(to_fixed(lent[0].scalar.unwrap().value), 3000);
        assert!(lent.iter().all(|resource| resource.revocable.is_some()));
    }

    #[test]
    fn the_executors_id_changes_with_anything_that_is_in_it() {
        let template = ExecutorTemplate {
            command: CommandInfo::shell("run"),
            resources: resources(100, 32),
        };
        let framework = FrameworkId::new("f");
        let id = |template: &ExecutorTemplate| template.info(&framework, "*").executor_id;
        assert_eq!(id(&template), id(&template.clone()));
        let other = ExecutorTemplate {
            resources: resources(100, 64),
            ..template.clone()
        };
        assert_ne!(id(&template), id(&other));
    }

    fn reserved(name: &str, value: f64, principal: Option<&str>) -> Resource {
        Resource {
            reservations: vec![Reservation {
                kind: Some(match principal {
                    Some(_) => ReservationType::Dynamic,
                    None => ReservationType::Static,
                }),
                role: Some("ml".to_owned()),
                principal: principal.map(str::to_owned),
                labels: None,
            }],
            ..Resource::scalar(name, value)
        }
    }

    fn executor() -> ExecutorInfo {
        let template = ExecutorTemplate {
            command: CommandInfo::shell("run"),
            resources: resources(100, 32),
        };
        template.info(&FrameworkId::new("f"), "ml")
    }

    #[test]
    fn item_23_where_all_is_reserved_for_us_the_executors_share_is_too() {
        let usual = executor();
        let offer = vec![reserved("cpus", 1.0, None), reserved("mem", 128.0, None)];
        let mut offered = in_one(offer.clone(), "ml");
        let info = start_executor(&usual, &mut offered);
        assert_eq!(
            info.resources,
            [
                reserved("cpus", 0.1, None).allocated_to("ml"),
                reserved("mem", 32.0, None).allocated_to("ml")
            ]
        );
        assert_ne!(info.executor_id, usual.executor_id);
        assert_eq!(
            start_executor(&usual, &mut in_one(offer, "ml")),
            info,
            "the same one on every such agent, whichever broker starts it"
        );
        let task = carve(&mut offered, &resources(900, 96), false);
        assert!(offered.is_empty(), "{offered:?}");
        assert_eq!(task[0], reserved("cpus", 0.9, None).allocated_to("ml"));
    }

    #[test]
    fn item_24_what_several_offers_hold_is_taken_as_one() {
        let usual = executor();
        let scraps = vec![
            Resource::scalar("cpus", 0.05),
            Resource::scalar("mem", 16.0),
            Resource::scalar("cpus", 1.0),
            Resource::scalar("mem", 64.0),
        ];
        let mut offered = in_one(scraps, "ml");
        assert_eq!(start_executor(&usual, &mut offered), usual);
        let task = carve(&mut offered, &resources(1000, 64), false);
        let amounts: Vec<_> = task
            .iter()
            .map(|r| to_fixed(r.scalar.unwrap().value))
            .collect();
        assert_eq!(amounts, [950, 48_000], "no more than there is");
    }

    #[test]
    fn item_24_reservations_of_several_kinds_are_kept_apart() {
        let mut offered = in_one(
            vec![
                reserved("cpus", 1.0, Some("ops")),
                Resource::scalar("cpus", 1.0),
                reserved("cpus", 1.0, None),
            ],
            "ml",
        );
        let task = carve(&mut offered, &resources(2500, 0), false);
        let whole = [
            reserved("cpus", 1.0, Some("ops")).allocated_to("ml"),
            Resource::scalar("cpus", 1.0).allocated_to("ml"),
            reserved("cpus", 0.5, None).allocated_to("ml"),
        ];
        assert_eq!(task, whole);
    }

    #[test]
    fn item_24_volumes_and_disks_of_their_own_are_nobodys_scratch() {
        let disk = |disk: serde_json::Value| Resource {
            disk: Some(disk),
            ..Resource::scalar("disk", 1000.0)
        };
        let mut offered = vec![
            disk(serde_json::json!({"source": {"type": "MOUNT", "mount": {"root": "/d"}}})),
            disk(serde_json::json!({"persistence": {"id": "p"}, "volume": {"mode": "RW"}})),
            Resource {
                shared: Some(serde_json::json!({})),
                ..Resource::scalar("disk", 1000.0)
            },
            Resource {
                provider_id: Some(serde_json::json!({"value": "csi"})),
                ..Resource::scalar("disk", 1000.0)
            },
            Resource::scalar("disk", 10.0),
        ];
        let wanted = Resources {
            disk: Size::from_mib(50),
            ..Resources::ZERO
        };
        let carved = carve(&mut offered, &wanted, false);
        assert_eq!(carved, [Resource::scalar("disk", 10.0)]);
    }

    #[test]
    fn ports_are_launched_with_as_a_real_master_writes_them() {
        // Recorded from a master, for a role with a reservation and for all.
        let offered = serde_json::json!([
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 4.0}, "allocation_info": {"role": "ml"}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 512.0}, "allocation_info": {"role": "ml"}},
            {
                "name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31004}]},
                "allocation_info": {"role": "ml"}, "reservations": [{"type": "STATIC", "role": "ml"}],
            },
            {
                "name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31005, "end": 31099}]},
                "allocation_info": {"role": "ml"},
            },
        ]);
        let offered: Vec<Resource> = serde_json::from_value(offered).unwrap();
        let task = |n: u32, ports: &[u16]| Launchable {
            task: format!("run-1.serve.{n}.1").parse().unwrap(),
            resources: Resources {
                ports: u32::try_from(ports.len()).unwrap(),
                ..resources(1000, 64)
            },
            revocable: Resources::ZERO,
            ports: ports.to_vec(),
            owner: "ada".to_owned(),
            payload: Bytes::new(),
        };
        let mut rest = in_one(offered.clone(), "ml");
        let executor = start_executor(&executor(), &mut rest);
        let call = accept(
            "a",
            vec![OfferId::new("o1")],
            rest,
            &executor,
            vec![
                task(1, &[31_003, 31_004, 31_005, 31_007]),
                task(2, &[31_006]),
                task(3, &[]),
            ],
            5.0,
        );
        let Call::Accept(accept) = call else {
            panic!("{call:?}")
        };
        let infos = &accept.operations[0].launch.as_ref().unwrap().task_infos;
        let ports = |info: &TaskInfo| {
            let of = info.resources.iter().filter(|it| it.name == "ports");
            serde_json::to_value(of.collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(
            ports(&infos[0]),
            serde_json::json!([
                {
                    "name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31003, "end": 31004}]},
                    "allocation_info": {"role": "ml"}, "reservations": [{"type": "STATIC", "role": "ml"}],
                },
                {
                    "name": "ports", "type": "RANGES",
                    "ranges": {"range": [{"begin": 31005, "end": 31005}, {"begin": 31007, "end": 31007}]},
                    "allocation_info": {"role": "ml"},
                },
            ])
        );
        assert_eq!(
            ports(&infos[1])[0]["ranges"],
            serde_json::json!({"range": [{"begin": 31006, "end": 31006}]})
        );
        assert_eq!(ports(&infos[2]), serde_json::json!([]));
        // All of it together, with the executor, is what a master would find in the offer.
        let mut used = Vec::new();
        for info in infos {
            meson_mesos::resources::add(&mut used, &info.resources);
        }
        meson_mesos::resources::add(&mut used, &infos[0].executor.as_ref().unwrap().resources);
        assert!(
            meson_mesos::resources::contains(&offered, &used),
            "{used:?}"
        );
    }

    fn any_resource() -> impl Strategy<Value = Resource> {
        let name = prop::sample::select(vec!["cpus", "mem", "disk", "gpus"]);
        (name, 1_i64..5_000, 0..6_u8).prop_map(|(name, amount, kind)| {
            let amount = from_fixed(if name == "gpus" {
                amount / 1000 * 1000
            } else {
                amount
            });
            let plain = Resource::scalar(name, amount);
            let json = serde_json::json!({});
            match kind {
                0 => reserved(name, amount, None),
                1 => reserved(name, amount, Some("ops")),
                2 => Resource {
                    revocable: Some(json),
                    ..plain
                },
                3 => Resource {
                    shared: Some(json),
                    ..plain
                },
                _ => plain,
            }
        })
    }

    proptest! {
        #[test]
        fn what_an_accept_takes_is_offered(
            offered in prop::collection::vec(any_resource(), 0..12),
            tasks in prop::collection::vec((1_u64..3_000, 0_u64..4, any::<bool>()), 1..5),
        ) {
            let offered = in_one(offered, "ml");
            let mut left = offered.clone();
            let usual = executor();
            let info = start_executor(&usual, &mut left);
            let launchables = tasks.into_iter().enumerate().map(|(n, (cpus, mib, lent))| {
                let resources = resources(cpus, mib);
                let revocable = if lent { resources } else { Resources::ZERO };
                Launchable {
                    task: format!("run-1.step.{n}.1").parse().unwrap(),
                    resources,
                    revocable,
                    ports: Vec::new(),
                    owner: "ada".to_owned(),
                    payload: Bytes::new(),
                }
            });
            let call = accept("a", Vec::new(), left, &info, launchables.collect(), 1.0);
            let Call::Accept(accept) = call else { panic!("{call:?}") };
            let mut taken = info.resources.clone();
            for task in &accept.operations[0].launch.as_ref().unwrap().task_infos {
                for name in ["cpus", "mem"] {
                    let of_name = task.resources.iter().filter(|it| it.name == name);
                    let lent = of_name.clone().filter(|it| it.revocable.is_some()).count();
                    prop_assert!(lent == 0 || lent == of_name.count(), "a master takes no mixture");
                }
                add(&mut taken, &task.resources);
            }
            prop_assert!(taken.iter().all(is_plain));
            let plain: Vec<_> = offered.into_iter().filter(is_plain).collect();
            prop_assert!(contains(&plain, &taken), "{taken:?} out of {plain:?}");
        }
    }
}
