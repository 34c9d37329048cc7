//! The tasks of one attempt: one, or all of a gang. They are placed together or not at all, and
//! none is launched before all are confirmed; from then on each goes its own way.

use std::collections::BTreeMap;

use bytes::Bytes;
use meson_core::ids::TaskId;
use meson_core::run::{FailureClass, Seat};
use meson_core::units::Timestamp;
use meson_protocol::task::TaskPayload;
use meson_protocol::wire::WireError;

use super::super::agents::Agents;
use super::super::messages::AttemptState;
use super::task::{Stage, Task, lost};
use super::{Broker, News, Output};

/// Those tasks of the attempt that are in the books, by rank.
pub(super) fn mates<'a>(
    tasks: &'a BTreeMap<TaskId, Task>,
    task: &TaskId,
) -> impl Iterator<Item = (&'a TaskId, &'a Task)> {
    let first = task.first();
    tasks
        .range(first.clone()..)
        .take_while(move |(other, _)| other.is_mate_of(&first))
}

/// Whether a task that has a place may be launched: its placement is confirmed, and those of all
/// the others of its attempt are, or they are launched already.
pub(super) fn is_confirmed(tasks: &BTreeMap<TaskId, Task>, agents: &Agents, task: &TaskId) -> bool {
    let Some(Task {
        stage: Stage::Placed { entry, .. },
        agent,
        ..
    }) = tasks.get(task)
    else {
        return false;
    };
    if !entry.is_gang() {
        return agents.is_confirmed(agent.as_deref(), task);
    }
    let confirmed = mates(tasks, task)
        .filter(|(id, mate)| mate.is_launched() || agents.is_confirmed(mate.agent.as_deref(), id));
    confirmed.count() == entry.shape.gang.tasks as usize
}

/// What each task of an attempt is told: its ports, and of a gang, its own rank and where the others
/// are.
pub(super) fn payloads(
    payload: Bytes,
    hosts: &[String],
    ports: &[Vec<u16>],
) -> Result<Vec<Bytes>, WireError> {
    let hosts = if hosts.len() > 1 { hosts } else { &[] };
    if hosts.is_empty() && ports.iter().all(Vec::is_empty) {
        return Ok(vec![payload]);
    }
    let first = ports.iter().filter_map(|ports| ports.first()).copied();
    let gang_ports: Vec<u16> = first.filter(|_| !hosts.is_empty()).collect();
    let of_member = |(rank, ports): (u32, &Vec<u16>)| {
        TaskPayload::of_member(&payload, rank, hosts, &gang_ports, ports).map(Bytes::from)
    };
    (0..).zip(ports).map(of_member).collect()
}

impl Broker {
    /// Those tasks of the attempt that are in the books.
    pub(super) fn members(&self, task: &TaskId) -> Vec<TaskId> {
        mates(&self.tasks, task).map(|(id, _)| id.clone()).collect()
    }

    /// Those of them that are not launched.
    pub(super) fn unlaunched(&self, task: &TaskId) -> Vec<TaskId> {
        mates(&self.tasks, task)
            .filter(|(_, mate)| !mate.is_launched())
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// An attempt is asked for that has a place, or was launched.
    pub(super) fn enqueued_again(
        &mut self,
        task: &TaskId,
        known: Vec<TaskId>,
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let mut seats = Vec::new();
        for id in known {
            let Some(known) = self.tasks.get_mut(&id) else {
                continue;
            };
            known.claimed = true;
            if !known.killing {
                known.next = None;
            }
            if let (Stage::Placed { .. }, Some(agent)) = (&known.stage, &known.agent) {
                let desk = self.desks.get(self.settings.role_of(&known.owner));
                let host = desk.and_then(|desk| desk.agents.hostname(agent));
                seats.push(Seat {
                    agent: agent.clone(),
                    host: host.unwrap_or_default().to_owned(),
                });
            } else {
                // Somebody launched it: it is heard of as soon as it is asked about.
                let agent = known.agent.clone();
                self.questions.ask(id, agent, now);
            }
        }
        out.extend(placed(task, seats));
    }

    pub(super) fn confirm(
        &mut self,
        task: TaskId,
        agents: &[String],
        now: Timestamp,
        out: &mut Vec<Output>,
    ) {
        let members = self.members(&task);
        if members.is_empty() {
            // The hold is over. The placement is on record, so this attempt is done for.
            let tasks = self
                .withdraw(&task)
                .map_or(1, |entry| entry.shape.gang.tasks);
            out.extend((0..tasks).map(|rank| too_late(task.member(rank))));
            return;
        }
        let is_elsewhere = members.iter().any(|id| {
            let placed = self.tasks.get(id).filter(|mate| !mate.is_launched());
            let on_record = agents.get(id.rank as usize);
            placed.is_some_and(|mate| mate.agent.as_ref() != on_record)
        });
        if is_elsewhere {
            // It was placed anew while this was on its way, and is launched where it is on record,
            // or nowhere.
            tracing::debug!(%task, "a placement was confirmed that is not held any more");
            return;
        }
        for task in members {
            self.confirm_one(task, now, out);
        }
    }

    /// The placement of one of the tasks is durable.
    pub(super) fn confirm_one(&mut self, task: TaskId, now: Timestamp, out: &mut Vec<Output>) {
        let Some(known) = self.tasks.get(&task) else {
            return;
        };
        let desk = self.desks.get_mut(self.settings.role_of(&known.owner));
        let agent = known.agent.as_ref();
        let place = desk
            .zip(agent)
            .and_then(|(desk, agent)| desk.agents.0.get_mut(agent))
            .and_then(|agent| agent.placed.get_mut(&task));
        match place {
            Some(place) => {
                let first = !std::mem::replace(&mut place.confirmed, true) && task.rank == 0;
                if let (true, Stage::Placed { since, .. }) = (first, &known.stage) {
                    self.patience.confirmed(now.since(*since));
                }
            }
            None if known.is_launched() => {}
            None => {
                self.forget(&task);
                out.push(too_late(task));
            }
        }
    }

    /// Its place is void. One that was confirmed takes its mates with it, as far as they are not
    /// launched; the others end once its step actor hears of it.
    pub(super) fn displace(&mut self, task: TaskId, confirmed: bool, out: &mut Vec<Output>) {
        if !confirmed {
            return self.requeue(task, out);
        }
        for mate in self.unlaunched(&task) {
            self.forget(&mate);
            out.push(lost(
                mate,
                "the offer was withdrawn before the task was launched",
            ));
        }
    }

    /// A placement came to nothing: the request waits again, in its old place. One that nobody
    /// hears does not: its step actor is gone, or went to another pool, and if anybody does hear, he
    /// asks again.
    pub(super) fn requeue(&mut self, task: TaskId, out: &mut Vec<Output>) {
        let Some(Task {
            stage: Stage::Placed { entry, .. },
            owner,
            ..
        }) = self.tasks.get(&task)
        else {
            return;
        };
        let desk = self.desks.get(self.settings.role_of(owner));
        let tasks = entry.shape.gang.tasks as usize;
        // Mates that were confirmed are on record as placed, and are launched there or nowhere.
        let whole = mates(&self.tasks, &task)
            .filter(|(id, mate)| {
                let agent = mate.agent.as_deref();
                !mate.is_launched() && !desk.is_some_and(|d| d.agents.is_confirmed(agent, id))
            })
            .count()
            == tasks;
        let mut last = None;
        for mate in self.unlaunched(&task) {
            last = self.forget(&mate);
            if !whole {
                out.push(too_late(mate));
            }
        }
        let Some(Task {
            stage: Stage::Placed { entry, payload, .. },
            claimed,
            ..
        }) = last.filter(|_| whole)
        else {
            return;
        };
        let task = task.first();
        let desk = self.desks.get_mut(self.settings.role_of(&entry.owner));
        match desk.filter(|_| claimed) {
            Some(desk) => {
                self.payloads.insert(task.clone(), payload);
                desk.queue.add(task, *entry);
                desk.appetite.grow();
            }
            None => out.push(Output::Signal(task, News::Withdrawn)),
        }
    }
}

/// News that an attempt has a place, or all of its tasks have.
pub(super) fn placed(task: &TaskId, seats: Vec<Seat>) -> Option<Output> {
    let mut seats = seats.into_iter();
    let Seat { agent, host } = seats.next()?;
    let mates = seats.collect();
    let news = News::Placed { agent, host, mates };
    Some(Output::Signal(task.first(), news))
}

/// News that the tasks of a gang cannot be told of each other: the step says too much already.
pub(super) fn indescribable(task: TaskId, error: &WireError) -> Output {
    let state = AttemptState::Failed {
        class: FailureClass::Step,
        message: format!("cannot describe the tasks of the gang to their executors: {error}"),
        data: Bytes::new(),
    };
    let news = News::State {
        agent: None,
        uuid: None,
        state,
    };
    Output::Signal(task, news)
}

fn too_late(task: TaskId) -> Output {
    lost(
        task,
        "the placement was confirmed too late: its offer is gone",
    )
}

/// A description that can be given to the tasks of a gang.
#[cfg(test)]
pub(super) mod fixture {
    use meson_core::matching::Gang;
    use meson_core::resources::Resources;
    use meson_core::run::{LaunchKind, LaunchSpec};
    use meson_protocol::task::StoreLocation;

    use super::*;

    pub(in super::super) fn payload() -> Bytes {
        let spec = LaunchSpec {
            task: "run-1.step.1.1".parse().expect("a task id"),
            kind: LaunchKind::Argv(Vec::new()),
            flavour: String::new(),
            env: BTreeMap::new(),
            inputs: BTreeMap::new(),
            params: BTreeMap::new(),
            items: BTreeMap::new(),
            outputs: Vec::new(),
            produces: Vec::new(),
            resources: Resources::DEFAULT,
            require: None,
            prefer: None,
            preemptible: false,
            spread: None,
            gang: Gang::default(),
            hosts: Vec::new(),
            gang_ports: Vec::new(),
            ports: Vec::new(),
            timeout: None,
            deadline: None,
            owner: String::new(),
            region: String::new(),
            pool: String::new(),
        };
        let payload = TaskPayload {
            spec,
            bundle: None,
            coordinators: Vec::new(),
            token: String::new(),
            store: StoreLocation::default(),
        };
        payload.encode().expect("a short one").into()
    }
}
