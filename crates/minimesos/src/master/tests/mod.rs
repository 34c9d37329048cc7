//! Tests of the pure master: each says one thing that a recording of the real one showed.

mod agents;
mod conservation;
mod frameworks;
mod fuzz;
mod launches;
mod offers;
mod operators;
mod replay;
mod tasks;

use super::{Config, Input, Master, Moment, Output, Registry, Reply, StreamId};
use crate::link::{FromAgent, Hello, ToAgent};
use meson_mesos::scheduler::{Accept, Call, Decline, Event, Subscribe};
use meson_mesos::types::{
    AgentId, AgentInfo, CapabilityType, CommandInfo, Data, ExecutorId, ExecutorInfo, Filters,
    FrameworkId, FrameworkInfo, MasterInfo, Offer, OfferId, Operation, Resource, StatusSource,
    TaskId, TaskInfo, TaskState, TaskStatus,
};
use std::time::Duration;

/// A master with a clock that the test moves.
struct Bench {
    master: Master,
    now: Moment,
    streams: u64,
}

/// A framework on the bench.
#[derive(Clone, Debug)]
struct Scheduler {
    id: FrameworkId,
    stream: StreamId,
}

/// An agent on the bench.
#[derive(Clone, Debug)]
struct TestAgent {
    id: AgentId,
    stream: StreamId,
}

fn config() -> Config {
    Config::new(MasterInfo {
        id: "m".into(),
        ..MasterInfo::default()
    })
}

fn info(capabilities: &[CapabilityType]) -> FrameworkInfo {
    FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        failover_timeout: Some(60.0),
        checkpoint: Some(true),
        capabilities: capabilities.iter().cloned().map(Into::into).collect(),
        ..FrameworkInfo::default()
    }
}

fn aware() -> FrameworkInfo {
    info(&[CapabilityType::PartitionAware])
}

fn machine() -> Vec<Resource> {
    vec![
        Resource::ranges("ports", [(31000, 31099)]),
        Resource::scalar("cpus", 4.0),
        Resource::scalar("mem", 2048.0),
        Resource::scalar("disk", 4096.0),
    ]
}

fn hello(resources: Vec<Resource>) -> Hello {
    Hello {
        agent: AgentInfo {
            hostname: "h".into(),
            resources,
            ..AgentInfo::default()
        },
        ..Hello::default()
    }
}

/// A task with a command.
fn task(id: &str, agent: &TestAgent, cpus: f64) -> TaskInfo {
    TaskInfo {
        name: id.into(),
        task_id: id.into(),
        agent_id: agent.id.clone(),
        resources: vec![
            Resource::scalar("cpus", cpus),
            Resource::scalar("mem", 64.0),
        ],
        command: Some(CommandInfo::shell("true")),
        ..TaskInfo::default()
    }
}

fn executor(id: &str) -> ExecutorInfo {
    ExecutorInfo {
        executor_id: id.into(),
        command: Some(CommandInfo::shell("run")),
        resources: vec![Resource::scalar("cpus", 0.1), Resource::scalar("mem", 32.0)],
        ..ExecutorInfo::default()
    }
}

/// A task on a custom executor.
fn task_on(executor_id: &str, id: &str, agent: &TestAgent, cpus: f64) -> TaskInfo {
    TaskInfo {
        executor: Some(executor(executor_id)),
        command: None,
        ..task(id, agent, cpus)
    }
}

fn status(id: &str, state: TaskState, uuid: &str) -> TaskStatus {
    TaskStatus {
        source: Some(StatusSource::Executor),
        uuid: Some(Data::from(uuid)),
        data: Some("result".into()),
        ..TaskStatus::new(id.into(), state)
    }
}

/// What one stream of a scheduler got.
fn events(outputs: &[Output], scheduler: &Scheduler) -> Vec<Event> {
    let of = |output: &Output| match output {
        Output::ToScheduler { stream, event } if *stream == scheduler.stream => {
            Some((**event).clone())
        }
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

fn kinds(outputs: &[Output], scheduler: &Scheduler) -> Vec<String> {
    events(outputs, scheduler)
        .iter()
        .map(|event| event.type_name().to_owned())
        .collect()
}

fn offers(outputs: &[Output], scheduler: &Scheduler) -> Vec<Offer> {
    let of = |event: Event| match event {
        Event::Offers(offers) => offers.offers,
        _ => Vec::new(),
    };
    events(outputs, scheduler)
        .into_iter()
        .flat_map(of)
        .collect()
}

fn updates(outputs: &[Output], scheduler: &Scheduler) -> Vec<TaskStatus> {
    let of = |event: Event| match event {
        Event::Update(update) => Some(update.status),
        _ => None,
    };
    events(outputs, scheduler)
        .into_iter()
        .filter_map(of)
        .collect()
}

fn to_agent(outputs: &[Output], agent: &TestAgent) -> Vec<ToAgent> {
    let of = |output: &Output| match output {
        Output::ToAgent { stream, message } if *stream == agent.stream => Some((**message).clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

fn reply(outputs: &[Output]) -> Reply {
    let replies: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Reply(reply) => Some(reply.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(replies.len(), 1, "a call has one answer: {outputs:?}");
    replies[0].clone()
}

fn closes(outputs: &[Output], stream: &StreamId) -> bool {
    outputs.iter().any(
        |output| matches!(output, Output::CloseScheduler { stream: closed } if closed == stream),
    )
}

fn cpus(offer: &Offer) -> f64 {
    meson_mesos::resources::scalar_total(&offer.resources, "cpus")
}

impl Bench {
    fn new() -> Self {
        Self::with(config(), Registry::default())
    }

    fn with(config: Config, registry: Registry) -> Self {
        let now = Moment(Duration::from_secs(1_000_000));
        Self {
            master: Master::new(config, registry, now),
            now,
            streams: 0,
        }
    }

    fn stream(&mut self) -> StreamId {
        self.streams += 1;
        StreamId(format!("stream-{}", self.streams))
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.master.handle(input, self.now)
    }

    /// Lets time pass, with a tick whenever one is due.
    fn pass(&mut self, span: Duration) -> Vec<Output> {
        let end = self.now + span;
        let mut out = Vec::new();
        while self.master.next_tick() <= end {
            self.now = self.master.next_tick().max(self.now);
            out.extend(self.input(Input::Tick));
        }
        self.now = end;
        out
    }

    fn seconds(&mut self, seconds: f64) -> Vec<Output> {
        self.pass(Duration::from_secs_f64(seconds))
    }

    fn subscribe_as(
        &mut self,
        info: FrameworkInfo,
        id: Option<FrameworkId>,
    ) -> (Scheduler, Vec<Output>) {
        let stream = self.stream();
        let subscribe = Subscribe {
            framework_info: info,
            ..Subscribe::default()
        };
        let outputs = self.input(Input::Subscribe {
            stream: stream.clone(),
            framework_id: id,
            subscribe: Box::new(subscribe),
        });
        let subscribed = outputs.iter().find_map(|output| match output {
            Output::ToScheduler { stream: to, event } if *to == stream => match &**event {
                Event::Subscribed(subscribed) => Some(subscribed.framework_id.clone()),
                _ => None,
            },
            _ => None,
        });
        (
            Scheduler {
                id: subscribed.unwrap_or_default(),
                stream,
            },
            outputs,
        )
    }

    fn subscribe(&mut self, info: FrameworkInfo) -> Scheduler {
        let (scheduler, outputs) = self.subscribe_as(info, None);
        assert!(!scheduler.id.value.is_empty(), "{outputs:?}");
        scheduler
    }

    fn call(&mut self, scheduler: &Scheduler, call: Call) -> Vec<Output> {
        let input = Input::Call {
            framework_id: scheduler.id.clone(),
            stream: Some(scheduler.stream.clone()),
            call: Box::new(call),
        };
        self.input(input)
    }

    /// A call that must be accepted.
    fn accepted(&mut self, scheduler: &Scheduler, call: Call) -> Vec<Output> {
        let outputs = self.call(scheduler, call);
        assert_eq!(reply(&outputs), Reply::Accepted);
        outputs
    }

    fn hello(&mut self, hello: Hello) -> (TestAgent, Vec<Output>) {
        let stream = self.stream();
        let outputs = self.input(Input::AgentHello {
            stream: stream.clone(),
            hello: Box::new(hello),
        });
        let id = outputs.iter().find_map(|output| match output {
            Output::ToAgent {
                stream: to,
                message,
            } if *to == stream => match &**message {
                ToAgent::Registered { agent_id, .. } | ToAgent::Reregistered { agent_id, .. } => {
                    Some(agent_id.clone())
                }
                _ => None,
            },
            _ => None,
        });
        (
            TestAgent {
                id: id.unwrap_or_default(),
                stream,
            },
            outputs,
        )
    }

    fn agent(&mut self) -> TestAgent {
        self.hello(hello(machine())).0
    }

    fn agent_says(&mut self, agent: &TestAgent, call: FromAgent) -> Vec<Output> {
        let input = Input::AgentCall {
            agent_id: agent.id.clone(),
            stream: agent.stream.clone(),
            call: Box::new(call),
        };
        self.input(input)
    }

    fn update(
        &mut self,
        agent: &TestAgent,
        scheduler: &Scheduler,
        status: TaskStatus,
    ) -> Vec<Output> {
        let latest_state = status.state.clone();
        let framework_id = scheduler.id.clone();
        self.agent_says(
            agent,
            FromAgent::StatusUpdate {
                framework_id,
                status: Box::new(status),
                latest_state,
            },
        )
    }

    fn accept(
        &mut self,
        scheduler: &Scheduler,
        offer_ids: &[&OfferId],
        tasks: Vec<TaskInfo>,
        refuse: Option<f64>,
    ) -> Vec<Output> {
        let accept = Accept {
            offer_ids: offer_ids.iter().map(|id| (*id).clone()).collect(),
            operations: vec![Operation::launch(tasks)],
            filters: refuse.map(Filters::refuse),
        };
        self.accepted(scheduler, Call::Accept(accept))
    }

    fn decline(
        &mut self,
        scheduler: &Scheduler,
        offer: &Offer,
        refuse: Option<f64>,
    ) -> Vec<Output> {
        let decline = Decline {
            offer_ids: vec![offer.id.clone()],
            filters: refuse.map(Filters::refuse),
        };
        self.accepted(scheduler, Call::Decline(decline))
    }

    /// A scheduler, an agent, and the offer between them.
    fn trio(&mut self, info: FrameworkInfo) -> (Scheduler, TestAgent, Offer) {
        let scheduler = self.subscribe(info);
        let (agent, outputs) = self.hello(hello(machine()));
        let offer = offers(&outputs, &scheduler)
            .pop()
            .expect("a new agent is offered at once");
        (scheduler, agent, offer)
    }

    /// The same with one task that runs, and its first update acknowledged.
    fn running(
        &mut self,
        info: FrameworkInfo,
        task: impl FnOnce(&TestAgent) -> TaskInfo,
    ) -> (Scheduler, TestAgent, TaskId) {
        let (scheduler, agent, offer) = self.trio(info);
        let task = task(&agent);
        let id = task.task_id.clone();
        self.accept(&scheduler, &[&offer.id], vec![task], Some(3600.0));
        self.update(
            &agent,
            &scheduler,
            status(id.as_str(), TaskState::Running, "running-uuid-000"),
        );
        (scheduler, agent, id)
    }
}
