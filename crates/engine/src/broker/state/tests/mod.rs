//! What the broker decides, by subject; the names of tests say which item of CHECKLIST.md they
//! stand for.

mod adoption;
mod declined;
mod gangs;
mod offers;
mod ports;
mod reconciliation;
mod reserved;
mod updates;
mod upkeep;

use meson_core::matching::{Shape, Shortage};
use meson_core::resources::MilliCpus;
use meson_core::run::FailureClass;
use meson_core::units::{Bytes as Size, Duration};
use meson_mesos::scheduler::{Event, Offers, Rescind, Update};
use meson_mesos::types::{
    AllocationInfo, CommandInfo, Offer, OfferId, Resource, StatusReason, StatusSource, TaskState,
};

use super::super::launch::ExecutorTemplate;
use super::super::messages::AttemptState;
use super::super::stats::{Declined, Measured};
use super::*;

struct World {
    broker: Broker,
    now: Timestamp,
}

fn resources(cpus: u64, mib: u64) -> Resources {
    Resources {
        cpus: MilliCpus(cpus * 1000),
        mem: Size::from_mib(mib),
        ..Resources::ZERO
    }
}

fn task(n: u32) -> TaskId {
    format!("run-1.step.{n}.1").parse().unwrap()
}

fn shape(cpus: u64) -> Shape {
    Shape {
        resources: resources(cpus, 64),
        ..Shape::default()
    }
}

fn offer(id: &str, agent: &str, cpus: u64) -> Offer {
    Offer {
        id: OfferId::new(id),
        agent_id: AgentId::new(agent),
        hostname: format!("{agent}.example"),
        resources: vec![
            Resource::scalar("cpus", cpus as f64),
            Resource::scalar("mem", 1024.0),
        ],
        ..Offer::default()
    }
}

/// What a master says by itself of a task: no uuid.
fn made_up(n: u32, state: TaskState, reason: StatusReason) -> TaskStatus {
    TaskStatus {
        reason: Some(reason),
        source: Some(StatusSource::Master),
        agent_id: Some(AgentId::new("a")),
        ..TaskStatus::new(meson_mesos::types::TaskId::new(task(n).to_string()), state)
    }
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let executor = ExecutorTemplate {
            command: CommandInfo::shell("meson-executor"),
            resources: resources(0, 32),
        };
        let mut settings = Settings::new("*", executor);
        change(&mut settings);
        let mut world = Self {
            broker: Broker::new(settings),
            now: Timestamp(1_000_000),
        };
        world.tell(Input::Subscribed(FrameworkId::new("f")));
        world
    }

    /// Tells the broker, and returns what it does about it.
    fn tell(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.broker.handle(input, self.now, &mut out);
        self.broker.settle(self.now, &mut out);
        out
    }

    fn wait(&mut self, ms: u64) -> Vec<Output> {
        self.now = Timestamp(self.now.0 + ms);
        let mut out = Vec::new();
        self.broker.settle(self.now, &mut out);
        out
    }

    fn enqueue(&mut self, n: u32, cpus: u64) -> Vec<Output> {
        self.enqueue_for("ada", n, cpus)
    }

    fn enqueue_for(&mut self, owner: &str, n: u32, cpus: u64) -> Vec<Output> {
        self.tell(Input::Enqueue {
            task: task(n),
            shape: shape(cpus),
            owner: owner.to_owned(),
            deadline: None,
            payload: Bytes::from_static(b"payload"),
        })
    }

    fn offer(&mut self, id: &str, agent: &str, cpus: u64) -> Vec<Output> {
        let offer = offer(id, agent, cpus);
        self.tell(Input::Event(Event::Offers(Offers {
            offers: vec![offer],
        })))
    }

    fn confirm(&mut self, tasks: impl IntoIterator<Item = u32>) -> Vec<Output> {
        tasks
            .into_iter()
            .flat_map(|n| self.tell(self.broker.confirmation(task(n))))
            .collect()
    }

    fn status(&mut self, status: TaskStatus) -> Vec<Output> {
        self.tell(Input::Event(Event::Update(Update { status })))
    }

    fn update(&mut self, n: u32, state: TaskState, uuid: Option<&'static [u8]>) -> Vec<Output> {
        let status = TaskStatus {
            uuid: uuid.map(|uuid| Data(Bytes::from_static(uuid))),
            agent_id: Some(AgentId::new("a")),
            source: Some(StatusSource::Executor),
            ..TaskStatus::new(meson_mesos::types::TaskId::new(task(n).to_string()), state)
        };
        self.tell(Input::Event(Event::Update(Update { status })))
    }

    /// A task that runs on agent `a`.
    fn launched(n: u32) -> Self {
        let mut world = Self::new();
        world.enqueue(n, 1);
        world.offer("o1", "a", 4);
        world.confirm([n]);
        world.update(n, TaskState::Running, Some(b"1"));
        world
    }
}

fn calls(out: &[Output]) -> Vec<&Call> {
    out.iter()
        .filter_map(|output| {
            if let Output::Call(call) = output {
                Some(call)
            } else {
                None
            }
        })
        .collect()
}

fn states(out: &[Output]) -> Vec<&AttemptState> {
    out.iter()
        .filter_map(|output| match output {
            Output::Signal(_, News::State { state, .. }) => Some(state),
            _ => None,
        })
        .collect()
}

fn placed(out: &[Output]) -> Vec<TaskId> {
    out.iter()
        .filter_map(|output| match output {
            Output::Signal(task, News::Placed { .. }) => Some(task.clone()),
            _ => None,
        })
        .collect()
}

fn launched(out: &[Output]) -> Vec<String> {
    calls(out)
        .into_iter()
        .filter_map(|call| {
            if let Call::Accept(accept) = call {
                Some(accept)
            } else {
                None
            }
        })
        .flat_map(|accept| &accept.operations)
        .filter_map(|operation| operation.launch.as_ref())
        .flat_map(|launch| &launch.task_infos)
        .map(|info| info.task_id.as_str().to_owned())
        .collect()
}

fn failure(out: &[Output]) -> Option<FailureClass> {
    out.iter().find_map(|output| match output {
        Output::Signal(
            _,
            News::State {
                state: AttemptState::Failed { class, .. },
                ..
            },
        ) => Some(*class),
        _ => None,
    })
}

fn count(out: &[Output], what: impl Fn(&Call) -> bool) -> usize {
    calls(out).into_iter().filter(|call| what(call)).count()
}

fn is_kill(call: &Call) -> bool {
    matches!(call, Call::Kill(_))
}

fn is_revive(call: &Call) -> bool {
    matches!(call, Call::Revive(_))
}

fn is_acknowledge(call: &Call) -> bool {
    matches!(call, Call::Acknowledge(_))
}
