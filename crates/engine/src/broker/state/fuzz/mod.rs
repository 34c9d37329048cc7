//! Whatever happens in whatever order, by accident or by malice: nothing panics, nothing grows
//! without end, no request is forgotten, no offer is used twice, no attempt is launched twice.

mod ops;

use std::collections::{BTreeMap, BTreeSet};

use meson_core::matching::Shape;
use meson_core::resources::{MilliCpus, Resources};
use meson_core::run::Claim;
use meson_core::units::{Bytes as Size, Duration};
use meson_mesos::scheduler::{
    Event, Failure, InverseOffers, Message, Offers, Rescind, Update as UpdateEvent,
};
use meson_mesos::types::{
    AgentId, AllocationInfo, CommandInfo, Data, ExecutorId, InverseOffer, Offer, OfferId, Resource,
    TaskState, TaskStatus, TimeInfo, Unavailability,
};
use proptest::prelude::*;

use self::ops::{OWNERS, Op, ROLES, op, task};
use super::super::launch::ExecutorTemplate;
use super::super::messages::AttemptState;
use super::super::settings::{BrakePolicy, Pacing};
use super::gang::fixture::payload;
use super::port_ledger::{ports_of, told};
use super::*;

struct World {
    broker: Broker,
    now: Timestamp,
    /// Requests that must not be forgotten.
    open: BTreeSet<TaskId>,
    placed: BTreeSet<TaskId>,
    launched: BTreeMap<TaskId, u32>,
    /// Offers that were sent in this session, and not answered.
    in_hand: BTreeSet<OfferId>,
    serial: u32,
    told: BTreeMap<TaskId, (String, Vec<u8>)>,
}

fn claim(n: u32) -> Claim {
    Claim {
        resources: Resources {
            cpus: MilliCpus(1_000),
            mem: Size::from_mib(64),
            ..Resources::ZERO
        },
        owner: OWNERS[n as usize % OWNERS.len()].to_owned(),
        lasts: None,
        deadline: None,
        started_at: None,
    }
}

impl World {
    fn new() -> Self {
        let executor = ExecutorTemplate {
            command: CommandInfo::shell("meson-executor"),
            resources: Resources {
                mem: Size::from_mib(32),
                ..Resources::ZERO
            },
        };
        let mut settings = Settings::new("*", executor);
        settings
            .owner_roles
            .insert("bob".to_owned(), "research".to_owned());
        settings.pacing = Pacing {
            starting_per_agent: 3,
            per_second: 5,
        };
        settings.brake = BrakePolicy {
            least_agents: 2,
            ..BrakePolicy::default()
        };
        settings.vacate = Some(Duration::from_secs(10));
        Self {
            broker: Broker::new(settings),
            now: Timestamp(1_000_000),
            open: BTreeSet::new(),
            placed: BTreeSet::new(),
            launched: BTreeMap::new(),
            in_hand: BTreeSet::new(),
            serial: 0,
            told: BTreeMap::new(),
        }
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        self.broker.handle(input, self.now, &mut out);
        self.broker.settle(self.now, &mut out);
        for output in out {
            self.look(output);
        }
    }

    fn look(&mut self, output: Output) {
        match output {
            Output::Call(Call::Accept(accept)) => {
                for id in &accept.offer_ids {
                    assert!(
                        self.in_hand.remove(id),
                        "{id:?} is used, and is not in hand"
                    );
                }
                let mut ports = BTreeSet::new();
                for info in accept
                    .operations
                    .iter()
                    .filter_map(|operation| operation.launch.as_ref())
                    .flat_map(|launch| &launch.task_infos)
                {
                    let task: TaskId = info.task_id.as_str().parse().expect("ours");
                    let own = ports_of(&info.resources);
                    told(info, &own);
                    for port in own {
                        assert!(ports.insert(port), "{port} is given to two");
                    }
                    *self.launched.entry(task).or_default() += 1;
                }
            }
            Output::Call(Call::Decline(decline)) => {
                for id in &decline.offer_ids {
                    assert!(
                        self.in_hand.remove(id),
                        "{id:?} is declined, and is not in hand"
                    );
                }
            }
            Output::Call(Call::Reconcile(reconcile)) => assert!(reconcile.tasks.len() <= 1_000),
            Output::Signal(task, News::Placed { .. }) => {
                self.placed.insert(task);
            }
            Output::Signal(task, News::Withdrawn) => {
                self.open.remove(&task);
                self.placed.remove(&task);
            }
            Output::Signal(task, News::State { state, agent, uuid }) => {
                if let (Some(agent), Some(uuid)) = (agent, uuid) {
                    self.told.insert(task.clone(), (agent, uuid));
                }
                if matches!(
                    state,
                    AttemptState::Finished { .. }
                        | AttemptState::Failed { .. }
                        | AttemptState::Killed
                ) {
                    self.open.remove(&task);
                    self.placed.remove(&task);
                }
            }
            _ => {}
        }
    }

    fn enqueue(&mut self, n: u32, cpus: u64) {
        let task = task(n);
        // A task id is never reused.
        if self.launched.contains_key(&task) {
            return;
        }
        self.open.insert(task.clone());
        self.tell(Input::Enqueue {
            task,
            shape: Shape {
                resources: Resources {
                    cpus: MilliCpus(cpus * 1_000),
                    mem: Size::from_mib(64),
                    ports: n % 3,
                    ..Resources::ZERO
                },
                ..Shape::default()
            },
            owner: OWNERS[n as usize % OWNERS.len()].to_owned(),
            deadline: None,
            payload: payload(),
        });
    }

    fn offer(&mut self, id: u16, agent: u8, cpus: f64, role: usize, unavailable: bool) {
        if !self.broker.connected {
            return;
        }
        // An offer's id is new each time; a liar's may not be.
        let id = if id < 36 {
            self.serial += 1;
            OfferId::new(format!("o-{}", self.serial))
        } else {
            OfferId::new(format!("lie-{id}"))
        };
        if !self.in_hand.insert(id.clone()) {
            return;
        }
        let offer = Offer {
            id,
            agent_id: AgentId::new(format!("a{agent}")),
            hostname: format!("host-{agent}"),
            resources: vec![
                Resource::scalar("cpus", cpus),
                Resource::scalar("mem", cpus * 100.0),
                Resource::scalar("cpus", 0.5),
                // Some twice, some that are none, and now and then more than there can be.
                Resource::ranges("ports", [(0, 3), (u64::from(agent), 3), (9, 7)]),
                Resource::ranges(
                    "ports",
                    [(65_530, if agent > 2 { u64::MAX } else { 65_534 })],
                ),
            ],
            allocation_info: Some(AllocationInfo {
                role: Some(ROLES[role].to_owned()).filter(|role| !role.is_empty()),
            }),
            executor_ids: vec![ExecutorId::new("somebody's")],
            unavailability: unavailable.then(Unavailability::default),
            ..Offer::default()
        };
        self.tell(Input::Event(Event::Offers(Offers {
            offers: vec![offer],
        })));
    }

    fn confirm_all(&mut self) {
        for task in std::mem::take(&mut self.placed) {
            self.tell(self.broker.confirmation(task));
        }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Wait(ms) => {
                self.now = self.now.after(Duration(ms));
                let mut out = Vec::new();
                self.broker.settle(self.now, &mut out);
                out.into_iter().for_each(|output| self.look(output));
            }
            Op::Subscribe => {
                self.in_hand.clear();
                self.tell(Input::Subscribed(FrameworkId::new("f")));
            }
            Op::Disconnect => {
                self.in_hand.clear();
                self.tell(Input::Disconnected);
            }
            Op::Enqueue { task, cpus } => self.enqueue(task, cpus),
            Op::Confirm(n) => {
                self.placed.remove(&task(n));
                self.tell(self.broker.confirmation(task(n)));
            }
            Op::ConfirmAll => self.confirm_all(),
            Op::Adopt { task: n, agent } => {
                self.open.insert(task(n));
                self.tell(Input::Adopt {
                    task: task(n),
                    agent: format!("a{agent}"),
                    // Some know what it holds, others do not.
                    claim: n.is_multiple_of(2).then(|| Box::new(claim(n))),
                });
            }
            Op::Kill(n) => self.tell(Input::Kill {
                task: task(n),
                agent: None,
            }),
            Op::Unheard(n) => {
                self.open.remove(&task(n));
                self.placed.remove(&task(n));
                self.tell(Input::Unheard(task(n)));
            }
            Op::Verdict { task: n, wanted } => {
                if wanted == Some(false) {
                    self.open.remove(&task(n));
                }
                self.tell(Input::Verdict {
                    task: task(n),
                    wanted,
                });
            }
            Op::Acknowledge { task: n, uuid } => self.tell(Input::Acknowledge {
                task: task(n),
                agent: "a0".to_owned(),
                uuid: vec![uuid],
            }),
            Op::AcknowledgeLast(n) => {
                if let Some((agent, uuid)) = self.told.remove(&task(n)) {
                    self.tell(Input::Acknowledge {
                        task: task(n),
                        agent,
                        uuid,
                    });
                }
            }
            Op::Offer {
                id,
                agent,
                cpus,
                role,
                unavailable,
            } => self.offer(id, agent, cpus, role, unavailable),
            Op::Rescind(id) => {
                let id = OfferId::new(format!("o-{}", u32::from(id).min(self.serial)));
                self.in_hand.remove(&id);
                self.tell(Input::Event(Event::Rescind(Rescind { offer_id: id })));
            }
            Op::Update(status) => {
                self.tell(Input::Event(Event::Update(UpdateEvent { status: *status })))
            }
            Op::Inverse { agent, start } => {
                let offer = InverseOffer {
                    id: OfferId::new(format!("i-{agent}")),
                    agent_id: Some(AgentId::new(format!("a{agent}"))),
                    unavailability: Unavailability {
                        start: TimeInfo { nanoseconds: start },
                        duration: None,
                    },
                    ..InverseOffer::default()
                };
                self.tell(Input::Event(Event::InverseOffers(InverseOffers {
                    inverse_offers: vec![offer],
                })));
            }
            Op::Failure { agent, executor } => {
                self.tell(Input::Event(Event::Failure(Failure {
                    agent_id: Some(AgentId::new(format!("a{agent}"))),
                    executor_id: executor.then(|| ExecutorId::new("somebody's")),
                    status: Some(9),
                })));
            }
            Op::Message(data) => self.tell(Input::Event(Event::Message(Message {
                data: Data(data.into()),
                ..Message::default()
            }))),
            Op::Release => self.tell(Input::ReleaseBrake),
            Op::NotTaken => self.tell(Input::ConstraintsNotTaken),
        }
    }

    fn check(&mut self) {
        for task in &self.open {
            let queued = self.broker.explain(task, self.now).is_some();
            assert!(
                queued || self.broker.tasks.contains_key(task),
                "{task} is forgotten"
            );
        }
        for (task, launches) in &self.launched {
            assert_eq!(*launches, 1, "{task} was launched more than once");
        }
        let queued: usize = self.broker.queued();
        assert_eq!(queued, self.broker.payloads.len(), "each has its payload");
        assert!(self.broker.starting <= self.broker.tasks.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_nobody_is_forgotten_and_nothing_happens_twice(
        ops in prop::collection::vec(op(), 1..120)
    ) {
        let mut world = World::new();
        let count = ops.len();
        for op in ops {
            world.act(op);
            world.check();
            prop_assert!(world.broker.tasks.len() <= count + 12, "bounded by what was said");
        }
    }

    /// Once everything is well again, everybody who waits is launched.
    #[test]
    fn whatever_happened_everybody_who_waits_is_launched_once_all_is_well(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        let mut world = World::new();
        for op in ops {
            world.act(op);
        }
        world.act(Op::Subscribe);
        world.act(Op::Release);
        for round in 0..60 {
            world.act(Op::Wait(1_000));
            for role in [0, 1] {
                // Other agents than those that may be about to be maintained.
                world.offer(0, 10 + round, 16.0, role, false);
            }
            world.confirm_all();
            if world.broker.queued() == 0 {
                break;
            }
        }
        prop_assert_eq!(world.broker.queued(), 0);
        world.check();
    }
}

#[test]
fn updates_of_a_hundred_thousand_unknown_tasks_leave_nothing_behind() {
    let mut world = World::new();
    world.act(Op::Subscribe);
    for n in 0..100_000 {
        let status = TaskStatus::new(
            meson_mesos::types::TaskId::new(task(n).to_string()),
            TaskState::Unknown,
        );
        world.act(Op::Update(Box::new(status)));
    }
    assert_eq!(world.broker.tasks.len(), 0);
    assert_eq!(world.broker.questions.len(), 0);
}
