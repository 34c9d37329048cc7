//! Whatever happens, in whatever order: the books agree with each other, and who waits gets a place.

use std::collections::BTreeSet;

use meson_core::ids::IterPath;
use meson_core::matching::{Gang, Shape};
use meson_core::resources::MilliCpus;
use meson_core::run::Claim;
use meson_core::units::Bytes as Size;
use meson_mesos::scheduler::{Event, Offers, Rescind, Update};
use meson_mesos::types::{CommandInfo, Offer, OfferId, Resource, StatusReason, TaskState};
use proptest::prelude::*;

use super::super::launch::ExecutorTemplate;
use super::gang::{fixture::payload, mates};
use super::port_ledger::{PortLedger, ports_of};
use super::task::Stage;
use super::*;

const AGENTS: [&str; 3] = ["a", "b", "c"];
const TASKS: u32 = 6;

#[derive(Debug, Clone)]
enum Step {
    Subscribed,
    Disconnected,
    Offer {
        agent: usize,
        cpus: u64,
        ports: usize,
    },
    Rescind {
        back: usize,
    },
    Enqueue {
        task: u32,
        cpus: u64,
        ports: u32,
        tasks: u32,
    },
    Confirm {
        task: u32,
    },
    Adopt {
        task: u32,
        rank: u32,
        agent: usize,
        cpus: Option<u64>,
    },
    Kill {
        task: u32,
        rank: u32,
        agent: Option<usize>,
    },
    Unheard {
        task: u32,
    },
    Verdict {
        task: u32,
        wanted: Option<bool>,
    },
    Update {
        task: u32,
        rank: u32,
        agent: usize,
        state: TaskState,
        reconciled: bool,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (task, agent) = (|| 0..TASKS, || 0..AGENTS.len());
    // The attempts with an odd number are gangs of three.
    let rank = || prop_oneof![2 => Just(0_u32), 1 => 1..3_u32];
    let tasks = |task: u32| if task % 2 == 1 { 3 } else { 1 };
    let state = prop_oneof![
        Just(TaskState::Staging),
        Just(TaskState::Running),
        Just(TaskState::Finished),
        Just(TaskState::Failed),
        Just(TaskState::Dropped),
        Just(TaskState::Unreachable),
        Just(TaskState::Unknown),
        Just(TaskState::Gone),
        Just(TaskState::Lost),
    ];
    prop_oneof![
        1 => Just(Step::Subscribed),
        1 => Just(Step::Disconnected),
        4 => (agent(), 1..8_u64, 0..8_usize).prop_map(|(agent, cpus, ports)| Step::Offer { agent, cpus, ports }),
        1 => (0..4_usize).prop_map(|back| Step::Rescind { back }),
        6 => (task(), 1..4_u64, 0..3_u32).prop_map(move |(task, cpus, ports)| {
            Step::Enqueue { task, cpus, ports, tasks: tasks(task) }
        }),
        4 => task().prop_map(|task| Step::Confirm { task }),
        3 => (task(), rank(), agent(), prop::option::of(1..4_u64)).prop_map(move |(task, rank, agent, cpus)| {
            Step::Adopt { task, rank: rank % tasks(task), agent, cpus }
        }),
        2 => (task(), rank(), prop::option::of(agent())).prop_map(move |(task, rank, agent)| {
            Step::Kill { task, rank: rank % tasks(task), agent }
        }),
        1 => task().prop_map(|task| Step::Unheard { task }),
        1 => (task(), prop::option::of(any::<bool>()))
            .prop_map(|(task, wanted)| Step::Verdict { task, wanted }),
        5 => (task(), rank(), agent(), state, any::<bool>()).prop_map(move |(task, rank, agent, state, reconciled)| {
            Step::Update { task, rank: rank % tasks(task), agent, state, reconciled }
        }),
        3 => prop_oneof![Just(1_u64), Just(600), Just(40_000)].prop_map(|ms| Step::Wait { ms }),
    ]
}

struct World {
    broker: Broker,
    now: Timestamp,
    offers: u64,
    ports: PortLedger,
}

fn resources(cpus: u64) -> Resources {
    Resources {
        cpus: MilliCpus(cpus * 1000),
        mem: Size::from_mib(16),
        ..Resources::ZERO
    }
}

fn name(task: u32) -> TaskId {
    format!("run-1.step.{task}.1").parse().expect("a task id")
}

impl World {
    fn new() -> Self {
        let executor = ExecutorTemplate {
            command: CommandInfo::shell("meson-executor"),
            resources: Resources::ZERO,
        };
        let mut settings = Settings::new("*", executor);
        // Tasks are lost all the time here.
        settings.brake.percent = 101;
        Self {
            broker: Broker::new(settings),
            now: Timestamp(1_000_000),
            offers: 0,
            ports: PortLedger::default(),
        }
    }

    fn input(&mut self, step: Step) -> Option<Input> {
        let agent = |agent: usize| AGENTS[agent].to_owned();
        Some(match step {
            Step::Subscribed => {
                self.ports.no_session();
                Input::Subscribed(FrameworkId::new("f"))
            }
            Step::Disconnected => {
                self.ports.no_session();
                Input::Disconnected
            }
            Step::Offer { agent, cpus, ports } => {
                self.offers += 1;
                let id = OfferId::new(format!("o{}", self.offers));
                let mut resources = vec![
                    Resource::scalar("cpus", cpus as f64),
                    Resource::scalar("mem", 1024.0),
                ];
                resources.extend(self.ports.offer(&id, AGENTS[agent], ports));
                Input::Event(Event::Offers(Offers {
                    offers: vec![Offer {
                        id,
                        agent_id: AgentId::new(AGENTS[agent]),
                        resources,
                        ..Offer::default()
                    }],
                }))
            }
            Step::Rescind { back } => {
                let offer = self.offers.saturating_sub(back as u64);
                let offer_id = OfferId::new(format!("o{offer}"));
                self.ports.rescinded(&offer_id);
                Input::Event(Event::Rescind(Rescind { offer_id }))
            }
            Step::Enqueue {
                task,
                cpus,
                ports,
                tasks,
            } => Input::Enqueue {
                task: name(task),
                shape: Shape {
                    resources: Resources {
                        ports,
                        ..resources(cpus)
                    },
                    gang: Gang {
                        tasks,
                        ..Gang::default()
                    },
                    ..Shape::default()
                },
                owner: format!("owner-{}", task % 2),
                deadline: None,
                payload: payload(),
            },
            Step::Confirm { task } => self.broker.confirmation(name(task)),
            Step::Adopt {
                task,
                rank,
                agent: at,
                cpus,
            } => Input::Adopt {
                task: name(task).member(rank),
                agent: agent(at),
                claim: cpus.map(|cpus| {
                    Box::new(Claim {
                        resources: resources(cpus),
                        owner: format!("owner-{}", task % 2),
                        lasts: None,
                        deadline: None,
                        started_at: None,
                    })
                }),
            },
            Step::Kill {
                task,
                rank,
                agent: at,
            } => Input::Kill {
                task: name(task).member(rank),
                agent: at.map(agent),
            },
            Step::Unheard { task } => Input::Unheard(name(task)),
            Step::Verdict { task, wanted } => Input::Verdict {
                task: name(task),
                wanted,
            },
            Step::Update {
                task,
                rank,
                agent,
                state,
                reconciled,
            } => {
                let task = name(task).member(rank);
                if state.is_terminal() {
                    self.ports.ended(&task);
                }
                let id = meson_mesos::types::TaskId::new(task.to_string());
                let status = TaskStatus {
                    agent_id: Some(AgentId::new(AGENTS[agent])),
                    reason: reconciled.then_some(StatusReason::Reconciliation),
                    uuid: (!reconciled).then(|| Data(Bytes::from_static(b"u"))),
                    ..TaskStatus::new(id, state)
                };
                Input::Event(Event::Update(Update { status }))
            }
            Step::Wait { ms } => {
                self.now = Timestamp(self.now.0 + ms);
                return None;
            }
        })
    }

    fn go(&mut self, step: Step) -> Vec<Output> {
        let mut out = Vec::new();
        if let Some(input) = self.input(step) {
            self.broker.handle(input, self.now, &mut out);
            self.books_agree();
        }
        self.broker.settle(self.now, &mut out);
        self.books_agree();
        self.launched_whole(&out);
        self.ports.take_in(&out);
        out
    }

    /// What is launched of a gang is launched with all of it: each of the others was confirmed, and
    /// is launched too, or will be as soon as its agent's other placements are confirmed.
    fn launched_whole(&self, out: &[Output]) {
        let (broker, desk) = (&self.broker, &self.broker.desks["*"]);
        let infos = out.iter().filter_map(|output| match output {
            Output::Call(Call::Accept(accept)) => Some(accept),
            _ => None,
        });
        for info in infos
            .flat_map(|accept| &accept.operations)
            .filter_map(|operation| operation.launch.as_ref())
            .flat_map(|launch| &launch.task_infos)
        {
            let task: TaskId = info.task_id.as_str().parse().expect("a task id");
            let IterPath(path) = &task.path;
            let tasks = if path[0] % 2 == 1 { 3 } else { 1 };
            let confirmed = mates(&broker.tasks, &task).filter(|(id, mate)| {
                mate.is_launched() || desk.agents.is_confirmed(mate.agent.as_deref(), id)
            });
            assert_eq!(confirmed.count(), tasks, "{task} is launched");
            let wanted = broker.tasks[&task].resources.ports;
            assert_eq!(ports_of(&info.resources).len(), wanted as usize);
        }
    }

    /// Whoever has a place counts once: for its owner, on its agent and in the ledger.
    fn held_once(&self) {
        let broker = &self.broker;
        let mut held: BTreeMap<String, Resources> = BTreeMap::new();
        let mut holds = BTreeMap::new();
        for (task, state) in &broker.tasks {
            if state.resources != Resources::ZERO {
                let agent = state.agent.as_deref().expect("it is somewhere");
                assert!(broker.desks["*"].agents.0.contains_key(agent));
                holds.insert(task, (agent, state.resources));
                let owner = held.entry(state.owner.clone()).or_insert(Resources::ZERO);
                *owner = owner.plus(&state.resources);
            }
        }
        assert_eq!(broker.held, held, "what owners hold");
        assert_eq!(broker.desks["*"].queue.holds(), holds, "the ledger");
    }

    /// Everybody's end is told.
    fn end_all(&mut self) {
        let tasks: Vec<TaskId> = self.broker.tasks.keys().cloned().collect();
        for task in tasks {
            let mut out = Vec::new();
            let kill = Input::Kill {
                task: task.clone(),
                agent: None,
            };
            self.broker.handle(kill, self.now, &mut out);
            let id = meson_mesos::types::TaskId::new(task.to_string());
            let status = TaskStatus {
                agent_id: Some(AgentId::new(AGENTS[0])),
                uuid: Some(Data(Bytes::from_static(b"end"))),
                ..TaskStatus::new(id, TaskState::Killed)
            };
            let update = Input::Event(Event::Update(Update { status }));
            self.broker.handle(update, self.now, &mut out);
            self.books_agree();
        }
    }

    fn books_agree(&self) {
        let broker = &self.broker;
        let desk = &broker.desks["*"];
        for task in desk.queue.tasks() {
            assert!(
                !broker.tasks.contains_key(task),
                "{task} waits and has a place"
            );
        }
        for (task, state) in &broker.tasks {
            // Placed together or not at all; while some are confirmed and others killed or lost one
            // by one, none of those that are left is launched.
            if let Stage::Placed { entry, .. } = &state.stage
                && !desk.agents.is_confirmed(state.agent.as_deref(), task)
                && mates(&broker.tasks, task).all(|(id, mate)| {
                    let agent = mate.agent.as_deref();
                    !mate.is_launched() && !desk.agents.is_confirmed(agent, id)
                })
            {
                let together = mates(&broker.tasks, task).count();
                assert!(
                    together <= entry.shape.gang.tasks as usize,
                    "{together} places for {task}"
                );
            }
        }
        let waiting: BTreeSet<_> = desk.queue.tasks().cloned().collect();
        let payloads: BTreeSet<_> = broker.payloads.keys().cloned().collect();
        assert_eq!(waiting, payloads, "a payload is kept while its task waits");
        self.held_once();
        for (task, state) in &broker.tasks {
            let asked = broker.questions.is_open(task);
            assert!(
                !(state.away && state.claimed) || asked,
                "{task} is out of sight, and nobody asks about it"
            );
        }
        for task in broker.questions.all_out_of_sight() {
            assert!(broker.questions.is_open(task), "{task} was settled");
        }
        for (id, agent) in &desk.agents.0 {
            let of_agent = || {
                let tasks = broker.tasks.iter();
                tasks.filter(|(_, task)| task.agent.as_deref() == Some(id.as_str()))
            };
            let placed: BTreeSet<_> = of_agent()
                .filter(|(_, task)| !task.is_launched())
                .map(|(name, _)| name.clone())
                .collect();
            let held_for: BTreeSet<_> = agent.placed.keys().cloned().collect();
            assert_eq!(
                held_for, placed,
                "agent {id} is held for these, and has these"
            );
            assert!(
                placed.is_empty() || agent.has_offers(),
                "places on no offer of {id}"
            );
            let held = of_agent().fold(Resources::ZERO, |sum, (_, task)| sum.plus(&task.resources));
            assert_eq!(
                desk.agents.held(id),
                held,
                "what our tasks hold on agent {id}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn books_agree_and_who_waits_gets_a_place(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.go(step);
        }
        // All is well again: a session, and room for everybody.
        world.go(Step::Disconnected);
        world.go(Step::Subscribed);
        let mut waiting: BTreeSet<TaskId> =
            world.broker.desks["*"].queue.tasks().cloned().collect();
        for agent in 0..AGENTS.len() {
            let ports = usize::MAX;
            let cpus = 64;
            let out = world.go(Step::Offer { agent, cpus, ports });
            for output in out {
                if let Output::Signal(task, News::Placed { .. }) = output {
                    waiting.remove(&task);
                }
            }
        }
        prop_assert!(waiting.is_empty(), "still waiting: {waiting:?}");
        world.end_all();
        let desk = &world.broker.desks["*"];
        prop_assert!(world.broker.held.is_empty(), "{:?}", world.broker.held);
        prop_assert!(desk.queue.holds().is_empty());
        for agent in AGENTS {
            prop_assert_eq!(desk.agents.held(agent), Resources::ZERO);
        }
    }
}
