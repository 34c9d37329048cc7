//! Offers under mixed load: the broker's decisions and a Mesos master, both as plain values, in
//! simulated time. What is measured is what their protocol costs (rounds of offers, filters,
//! REVIVE), and what the broker itself costs; not the network between them. Beside it stands the
//! same load [without a protocol](ideal): what waits there waits for room.

mod ideal;
mod load;

use std::collections::BTreeMap;
use std::time::Duration as StdDuration;

use meson_core::ids::TaskId;
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::{Bytes, Duration, Timestamp};
use meson_engine::broker::messages::AttemptState;
use meson_engine::broker::state::{Broker, Input, News, Output};
use meson_engine::broker::{ExecutorTemplate, Settings, Stats};
use meson_mesos::scheduler::{Call, Event, Subscribe};
use meson_mesos::types::{
    AgentId, AgentInfo, CapabilityType, CommandInfo, Data, FrameworkInfo, MasterInfo, Resource,
    StatusSource, TaskState, TaskStatus,
};
use minimesos::link::{FromAgent, Hello, ToAgent};
use minimesos::master::{self, Config, Master, Moment, Registry};

use self::load::{AGENTS, CPUS, Load, MINUTES, SEEDS};
use crate::figures::{Table, quantile, timed};

/// A commit, and a message each way.
const COMMIT: u64 = 2;
/// An agent's way from a launch to RUNNING on a warm executor.
const START: u64 = 20;

/// Something that happens at a time.
enum Deed {
    Arrive,
    Confirm {
        task: TaskId,
        agents: Vec<String>,
    },
    Acknowledge(TaskId, String, Vec<u8>),
    Report {
        agent: AgentId,
        task: String,
        state: TaskState,
    },
}

struct World {
    now: u64,
    serial: u64,
    deeds: BTreeMap<(u64, u64), Deed>,
    master: Master,
    broker: Broker,
    framework: Option<meson_mesos::types::FrameworkId>,
    load: Load,
    /// What was asked for, when, and for how long it runs.
    asked: BTreeMap<TaskId, (u64, u64, u64)>,
    /// Cpus asked for, and how long it took to be launched.
    waits: Vec<(u64, u64)>,
    spent: StdDuration,
}

impl World {
    fn new(seed: u64) -> Self {
        let executor = ExecutorTemplate {
            command: CommandInfo::shell("meson-executor"),
            resources: Resources {
                cpus: MilliCpus(100),
                mem: Bytes::from_mib(64),
                ..Resources::ZERO
            },
        };
        let info = MasterInfo {
            id: "m".to_owned(),
            ..MasterInfo::default()
        };
        let now = 1_000_000;
        let master = Master::new(Config::new(info), Registry::default(), moment(now));
        Self {
            now,
            serial: 0,
            deeds: BTreeMap::new(),
            master,
            broker: Broker::new(Settings::new("*", executor)),
            framework: None,
            load: Load::new(seed),
            asked: BTreeMap::new(),
            waits: Vec::new(),
            spent: StdDuration::ZERO,
        }
    }

    fn later(&mut self, wait: u64, deed: Deed) {
        self.serial += 1;
        self.deeds.insert((self.now + wait, self.serial), deed);
    }

    fn tell_master(&mut self, input: master::Input) {
        for output in self.master.handle(input, moment(self.now)) {
            match output {
                master::Output::ToScheduler { event, .. } => {
                    if let Event::Subscribed(subscribed) = &*event {
                        self.framework = Some(subscribed.framework_id.clone());
                        self.tell(Input::Subscribed(subscribed.framework_id.clone()));
                    } else {
                        self.tell(Input::Event(*event));
                    }
                }
                master::Output::ToAgent { stream, message } => self.agent(&stream.0, *message),
                _ => {}
            }
        }
    }

    fn agent(&mut self, stream: &str, message: ToAgent) {
        match message {
            ToAgent::RunTask { task, .. } => {
                let (agent, id) = (task.agent_id.clone(), task.task_id.as_str().to_owned());
                let task: TaskId = id.parse().unwrap_or_else(|_| unreachable!("ours"));
                let lasts = self.asked.get(&task).map_or(1, |(_, _, lasts)| *lasts);
                for (wait, state) in [
                    (START, TaskState::Running),
                    (START + lasts, TaskState::Finished),
                ] {
                    let (agent, task) = (agent.clone(), id.clone());
                    self.later(wait, Deed::Report { agent, task, state });
                }
            }
            ToAgent::Ping { sequence } => {
                let call = Box::new(FromAgent::Pong { sequence });
                self.agent_says(AgentId::new(stream.replace("stream", "m-S")), call);
            }
            _ => {}
        }
    }

    fn agent_says(&mut self, agent_id: AgentId, call: Box<FromAgent>) {
        let number = agent_id.as_str().rsplit('S').next().unwrap_or_default();
        let stream = format!("stream{number}").as_str().into();
        self.tell_master(master::Input::AgentCall {
            agent_id,
            stream,
            call,
        });
    }

    fn tell(&mut self, input: Input) {
        let mut out = Vec::new();
        let ((), took) = timed(|| {
            self.broker.handle(input, Timestamp(self.now), &mut out);
            self.broker.settle(Timestamp(self.now), &mut out);
        });
        self.spent += took;
        self.carry_out(out);
    }

    fn wake(&mut self) {
        let mut out = Vec::new();
        let ((), took) = timed(|| self.broker.settle(Timestamp(self.now), &mut out));
        self.spent += took;
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Call(call) => self.call(call),
                Output::Signal(task, News::Placed { agent, mates, .. }) => {
                    let mates = mates.into_iter().map(|mate| mate.agent);
                    let agents = std::iter::once(agent).chain(mates).collect();
                    self.later(COMMIT, Deed::Confirm { task, agents });
                }
                Output::Signal(task, News::State { agent, uuid, state }) => {
                    if matches!(state, AttemptState::Failed { .. }) {
                        println!("unexpected: {task} failed: {state:?}");
                    }
                    if let (Some(agent), Some(uuid)) = (agent, uuid) {
                        self.later(COMMIT, Deed::Acknowledge(task, agent, uuid));
                    }
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, call: Call) {
        if let Call::Accept(accept) = &call {
            let launches = accept.operations.iter().filter_map(|it| it.launch.as_ref());
            for info in launches.flat_map(|launch| &launch.task_infos) {
                let task: Result<TaskId, _> = info.task_id.as_str().parse();
                let asked = task.ok().and_then(|task| self.asked.get(&task).copied());
                if let Some((at, cpus, _)) = asked {
                    self.waits.push((cpus, self.now - at));
                }
            }
        }
        let Some(framework_id) = self.framework.clone() else {
            return;
        };
        self.tell_master(master::Input::Call {
            framework_id,
            stream: Some("scheduler".into()),
            call: Box::new(call),
        });
    }

    fn arrive(&mut self) {
        let number = self.asked.len();
        let next = self.load.next();
        let task: TaskId = format!("load-1.step.{number}.1")
            .parse()
            .unwrap_or_else(|_| unreachable!("well formed"));
        let asked = (self.now, next.cpus, next.lasts);
        self.asked.insert(task.clone(), asked);
        self.tell(Input::Enqueue {
            task,
            shape: load::shape(next.cpus),
            owner: format!("owner-{}", load::owner(number)),
            deadline: None,
            payload: Default::default(),
        });
        self.later(next.pause, Deed::Arrive);
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Arrive => self.arrive(),
            Deed::Confirm { task, agents } => self.tell(Input::Confirm { task, agents }),
            Deed::Acknowledge(task, agent, uuid) => {
                self.tell(Input::Acknowledge { task, agent, uuid });
            }
            Deed::Report { agent, task, state } => {
                let Some(framework_id) = self.framework.clone() else {
                    return;
                };
                self.serial += 1;
                let status = TaskStatus {
                    source: Some(StatusSource::Executor),
                    uuid: Some(Data(self.serial.to_be_bytes().to_vec().into())),
                    agent_id: Some(agent.clone()),
                    ..TaskStatus::new(meson_mesos::types::TaskId::new(task), state.clone())
                };
                let call = FromAgent::StatusUpdate {
                    framework_id,
                    status: Box::new(status),
                    latest_state: state,
                };
                self.agent_says(agent, Box::new(call));
            }
        }
    }

    fn run(&mut self) {
        for number in 0..AGENTS {
            let hello = Hello {
                agent: AgentInfo {
                    hostname: format!("agent-{number}"),
                    resources: vec![
                        // Room for the executor beside them.
                        Resource::scalar("cpus", CPUS as f64 + 0.1),
                        Resource::scalar("mem", 65_536.0),
                    ],
                    ..AgentInfo::default()
                },
                ..Hello::default()
            };
            self.tell_master(master::Input::AgentHello {
                stream: format!("stream{number}").as_str().into(),
                hello: Box::new(hello),
            });
        }
        let framework_info = FrameworkInfo {
            user: "root".to_owned(),
            name: "meson".to_owned(),
            roles: vec!["*".to_owned()],
            checkpoint: Some(true),
            capabilities: [CapabilityType::PartitionAware, CapabilityType::MultiRole]
                .map(Into::into)
                .to_vec(),
            ..FrameworkInfo::default()
        };
        self.tell_master(master::Input::Subscribe {
            stream: "scheduler".into(),
            framework_id: None,
            subscribe: Box::new(Subscribe {
                framework_info,
                ..Subscribe::default()
            }),
        });
        self.later(1, Deed::Arrive);
        let end = self.now + MINUTES * 60_000;
        while self.now < end {
            let deed = self.deeds.keys().next().map_or(end, |(at, _)| *at);
            let tick = u64::try_from(self.master.next_tick().0.as_millis()).unwrap_or(end);
            let wake = self.broker.wake_at().map_or(end, |at| at.0);
            // What is due was done: the next is at least a moment later.
            let next = deed.min(tick.max(self.now + 1)).min(wake.max(self.now + 1));
            self.now = next.max(self.now);
            if deed <= self.now {
                if let Some((_, deed)) = self.deeds.pop_first() {
                    self.act(deed);
                }
            } else if tick <= self.now {
                self.tell_master(master::Input::Tick);
            } else {
                self.wake();
            }
        }
    }
}

fn moment(ms: u64) -> Moment {
    Moment(StdDuration::from_millis(ms))
}

pub(crate) fn measure(table: &mut Table) {
    let (mut waits, mut without, mut stranded) = (Vec::new(), Vec::new(), [0; 2]);
    let mut stats = Stats::default();
    let mut spent = StdDuration::ZERO;
    for seed in SEEDS {
        let mut world = World::new(seed);
        world.run();
        waits.append(&mut world.waits);
        without.append(&mut ideal::run(seed));
        let now = world.now;
        for (task, (at, cpus, _)) in &world.asked {
            let long = now - at > 300_000;
            if long && world.broker.explain(task, Timestamp(now)).is_some() {
                stranded[usize::from(*cpus == CPUS)] += 1;
            }
        }
        let seen = world.broker.stats();
        stats.offers += seen.offers;
        stats.accepted += seen.accepted;
        stats.launched += seen.launched;
        stats.revives += seen.revives;
        for (reason, seen) in &seen.declined {
            *stats.declined.entry(*reason).or_default() += seen;
        }
        spent += world.spent;
    }
    let kinds = [
        ("small (1 or 2 of 8 cpus)", false),
        ("large (a whole agent)", true),
    ];
    for (name, large) in kinds {
        let (text, bound) = (spread(&waits, large), spread(&without, large));
        table.add(
            format!("request to launch under mixed load, {name}: p50 / p99 / max, simulated"),
            format!(
                "{text}; {} left for 5 minutes",
                stranded[usize::from(large)]
            ),
            &format!("without a protocol {bound}"),
        );
    }
    let declined: u64 = stats.declined.values().sum();
    let reasons: Vec<String> = stats
        .declined
        .iter()
        .map(|(reason, offers)| format!("{} {offers}", reason.name()))
        .collect();
    table.add(
        "offers under mixed load: share declined",
        format!(
            "{:.0} % of {} ({}); {} launches, {} REVIVEs",
            declined as f64 * 100.0 / (stats.offers.max(1) as f64),
            stats.offers,
            reasons.join(", "),
            stats.launched,
            stats.revives
        ),
        "",
    );
    let each = spent / u32::try_from(stats.launched.max(1)).unwrap_or(u32::MAX);
    table.add(
        "the broker's own time per launch under mixed load",
        crate::figures::ms(each),
        "",
    );
}

/// Median, 99th percentile and longest of the waits of one kind, and how many there were.
fn spread(waits: &[(u64, u64)], large: bool) -> String {
    let of_kind = waits.iter().filter(|(cpus, _)| (*cpus == CPUS) == large);
    let mut waits: Vec<_> = of_kind
        .map(|(_, ms)| StdDuration::from_millis(*ms))
        .collect();
    let mut at = |share| Duration(quantile(&mut waits, share).as_millis() as u64);
    let text = format!("{} / {} / {}", at(0.5), at(0.99), at(1.0));
    format!("{text} of {}", waits.len())
}
