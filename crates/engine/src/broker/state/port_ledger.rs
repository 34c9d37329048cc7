//! Who has which port of an agent, as the resource manager would know it: an offer, a task, or nobody.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::ids::TaskId;
use meson_mesos::resources::range_total;
use meson_mesos::scheduler::{Accept, Call};
use meson_mesos::types::{OfferId, Resource, TaskInfo};
use meson_protocol::task::TaskPayload;

use super::Output;

const FIRST: u16 = 31_000;
const LAST: u16 = 32_000;

#[derive(Debug, Default)]
pub(super) struct PortLedger {
    offers: BTreeMap<OfferId, (String, BTreeSet<u16>)>,
    tasks: BTreeMap<TaskId, (String, BTreeSet<u16>)>,
}

pub(super) fn ports_of(resources: &[Resource]) -> Vec<u16> {
    let ranges = range_total(resources, "ports");
    let ports = ranges.into_iter().flat_map(|range| range.begin..=range.end);
    ports
        .map(|port| u16::try_from(port).expect("a port"))
        .collect()
}

impl PortLedger {
    /// Up to so many ports of an agent that nobody has are in this offer from now on.
    pub(super) fn offer(&mut self, id: &OfferId, agent: &str, most: usize) -> Option<Resource> {
        let taken: BTreeSet<u16> = self
            .offers
            .values()
            .chain(self.tasks.values())
            .filter(|(on, _)| on == agent)
            .flat_map(|(_, ports)| ports)
            .copied()
            .collect();
        let free = (FIRST..=LAST).filter(|port| !taken.contains(port));
        let ports: BTreeSet<u16> = free.take(most).collect();
        if ports.is_empty() {
            return None;
        }
        let single = ports
            .iter()
            .map(|port| (u64::from(*port), u64::from(*port)));
        let resource = Resource::ranges("ports", single);
        self.offers.insert(id.clone(), (agent.to_owned(), ports));
        Some(resource)
    }

    pub(super) fn rescinded(&mut self, id: &OfferId) {
        self.offers.remove(id);
    }

    pub(super) fn no_session(&mut self) {
        self.offers.clear();
    }

    /// The task is over, and its ports are anybody's.
    pub(super) fn ended(&mut self, task: &TaskId) {
        self.tasks.remove(task);
    }

    /// What the broker does with the offers: each task gets what it is told it has, out of what is
    /// offered, and no port has two owners.
    pub(super) fn take_in(&mut self, out: &[Output]) {
        for output in out {
            match output {
                Output::Call(Call::Accept(accept)) => self.accepted(accept),
                Output::Call(Call::Decline(decline)) => {
                    for id in &decline.offer_ids {
                        self.offers.remove(id);
                    }
                }
                _ => {}
            }
        }
    }

    fn accepted(&mut self, accept: &Accept) {
        let mut offered: BTreeSet<u16> = BTreeSet::new();
        for id in &accept.offer_ids {
            let (_, ports) = self.offers.remove(id).unwrap_or_default();
            offered.extend(ports);
        }
        let launches = accept.operations.iter().filter_map(|it| it.launch.as_ref());
        for info in launches.flat_map(|launch| &launch.task_infos) {
            let ports = ports_of(&info.resources);
            told(info, &ports);
            for port in &ports {
                assert!(offered.remove(port), "{port} is not offered, or another's");
            }
            let agent = info.agent_id.as_str().to_owned();
            let task = info.task_id.as_str().parse().expect("a task id");
            self.tasks
                .insert(task, (agent, ports.into_iter().collect()));
        }
        // The rest is nobody's again.
    }
}

/// The task is told of the ports that it has, as many as it asked for, and its mates of the first.
pub(super) fn told(info: &TaskInfo, ports: &[u16]) {
    let data = info.data.as_ref().expect("a description");
    let spec = TaskPayload::decode(&data.0).expect("one").spec;
    assert_eq!(spec.ports, ports, "{}", info.task_id.as_str());
    let own = spec.gang_ports.get(spec.task.rank as usize);
    let expected = ports.first().filter(|_| spec.hosts.len() > 1);
    assert_eq!(own, expected, "{}", info.task_id.as_str());
}
