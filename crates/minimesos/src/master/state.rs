//! The master's state, and the bookkeeping that every part of it shares.
//!
//! The invariant of the whole: for each agent, what is free, offered and used adds up to
//! its total. Only the functions here change `used` and `offered`.

use super::formats;
use super::input::{Moment, Output, StreamId};
use super::registry::Registry;
use crate::link::ToAgent;
use meson_mesos::resources;
use meson_mesos::scheduler::{Error, Event, Update};
use meson_mesos::types::{
    AgentId, AgentInfo, CapabilityType, ContainerStatus, Data, ExecutorId, ExecutorInfo,
    FrameworkId, FrameworkInfo, MasterInfo, Offer, OfferId, Resource, StatusReason, StatusSource,
    TaskId, TaskState, TaskStatus, ValueType,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How many removed frameworks are remembered, so that they cannot come back.
pub(super) const MAX_REMOVED_FRAMEWORKS: usize = 10_000;

/// Settings of a master; the names of the real one's flags.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who the master is. `id` begins all ids that it issues and should be new at each start.
    pub info: MasterInfo,
    /// Between two offers of everything that is free.
    pub allocation_interval: Duration,
    /// Between two heartbeats to a scheduler.
    pub heartbeat_interval: Duration,
    /// Between two pings to an agent.
    pub agent_ping_timeout: Duration,
    /// So many pings without an answer make an agent unreachable.
    pub max_agent_ping_timeouts: u32,
    /// After a master's restart, so long may its agents take to come back.
    pub agent_reregister_timeout: Duration,
    /// Offers are taken back after this; never when absent.
    pub offer_timeout: Option<Duration>,
}

impl Config {
    /// The real one's defaults.
    pub fn new(info: MasterInfo) -> Self {
        Self {
            info,
            allocation_interval: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(15),
            agent_ping_timeout: Duration::from_secs(15),
            max_agent_ping_timeouts: 5,
            agent_reregister_timeout: Duration::from_secs(600),
            offer_timeout: None,
        }
    }
}

/// A master without I/O, clock or randomness. See [`super`] for how it is driven.
#[derive(Clone, Debug)]
pub struct Master {
    pub(super) config: Config,
    pub(super) frameworks: BTreeMap<FrameworkId, Framework>,
    /// Oldest first.
    pub(super) removed_frameworks: VecDeque<FrameworkId>,
    pub(super) agents: BTreeMap<AgentId, Agent>,
    /// Since when.
    pub(super) unreachable: BTreeMap<AgentId, Moment>,
    /// Since when.
    pub(super) gone: BTreeMap<AgentId, Moment>,
    /// Admitted by an earlier master and not back yet.
    pub(super) recovered: BTreeMap<AgentId, AgentInfo>,
    /// When those that are not back are unreachable.
    pub(super) recovered_until: Moment,
    pub(super) offers: BTreeMap<OfferId, Outstanding>,
    pub(super) next_framework: u64,
    pub(super) next_agent: u64,
    pub(super) next_offer: u64,
    pub(super) next_allocation: Moment,
}

/// A framework that is subscribed, or may come back.
#[derive(Clone, Debug)]
pub(super) struct Framework {
    pub(super) info: FrameworkInfo,
    pub(super) connection: Connection,
    /// Roles for which no offers are sent.
    pub(super) suppressed: BTreeSet<String>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// Tasks on unreachable agents, by agent.
    pub(super) unreachable_tasks: BTreeMap<TaskId, AgentId>,
    /// What not to offer again yet, by agent and role.
    pub(super) filters: BTreeMap<(AgentId, String), Vec<Filter>>,
    /// All that is offered to it or used by it, in thousandths by name; for fairness.
    pub(super) allocated: BTreeMap<String, i64>,
    /// Offers it has had; who had fewer comes first among equals.
    pub(super) offers_made: u64,
}

/// Whether a framework's scheduler is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Connection {
    /// It is, on this stream.
    Subscribed {
        stream: StreamId,
        next_heartbeat: Moment,
    },
    /// It is not; the framework is removed when this moment comes.
    Disconnected { removed_at: Moment },
}

/// An offer is not made when all of it is within `resources`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) resources: Vec<Resource>,
    pub(super) until: Moment,
}

/// A task that the master knows.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) agent_id: AgentId,
    /// None for a task with a command.
    pub(super) executor_id: Option<ExecutorId>,
    /// In the master's format.
    pub(super) resources: Vec<Resource>,
    /// The newest that is known, perhaps ahead of what the scheduler has been told.
    pub(super) state: TaskState,
    /// The last update that went to the scheduler: its state and uuid.
    pub(super) told: Option<(TaskState, Option<Data>)>,
    pub(super) container_status: Option<ContainerStatus>,
    pub(super) healthy: Option<bool>,
}

/// An executor that the master believes to be alive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Executor {
    pub(super) info: ExecutorInfo,
    /// In the master's format.
    pub(super) resources: Vec<Resource>,
}

/// An agent that is registered.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) info: AgentInfo,
    /// None while its connection is broken.
    pub(super) stream: Option<StreamId>,
    /// In the master's format, like the next two.
    pub(super) total: Vec<Resource>,
    pub(super) used: Vec<Resource>,
    pub(super) offered: Vec<Resource>,
    pub(super) executors: BTreeMap<(FrameworkId, ExecutorId), Executor>,
    /// Killed while the agent was disconnected; told when it is back.
    pub(super) pending_kills: BTreeSet<(FrameworkId, TaskId)>,
    pub(super) ping: Ping,
}

/// How an agent answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ping {
    pub(super) sequence: u64,
    pub(super) answered: bool,
    /// In a row.
    pub(super) missed: u32,
    pub(super) next: Moment,
}

/// An offer that a framework holds.
#[derive(Clone, Debug)]
pub(super) struct Outstanding {
    pub(super) offer: Offer,
    /// In the master's format.
    pub(super) resources: Vec<Resource>,
    pub(super) role: String,
    pub(super) expires: Option<Moment>,
}

impl Framework {
    pub(super) fn new(info: FrameworkInfo, connection: Connection) -> Self {
        Self {
            info,
            connection,
            suppressed: BTreeSet::new(),
            tasks: BTreeMap::new(),
            unreachable_tasks: BTreeMap::new(),
            filters: BTreeMap::new(),
            allocated: BTreeMap::new(),
            offers_made: 0,
        }
    }

    pub(super) fn stream(&self) -> Option<&StreamId> {
        match &self.connection {
            Connection::Subscribed { stream, .. } => Some(stream),
            Connection::Disconnected { .. } => None,
        }
    }

    pub(super) fn partition_aware(&self) -> bool {
        self.info.can(&CapabilityType::PartitionAware)
    }

    /// What a framework hears instead of `state` when it is not PARTITION_AWARE.
    pub(super) fn or_lost(&self, state: TaskState) -> TaskState {
        if self.partition_aware() {
            state
        } else {
            TaskState::Lost
        }
    }

    pub(super) fn failover_timeout(&self) -> Duration {
        let seconds = self.info.failover_timeout.unwrap_or(0.0).max(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn charge(&mut self, list: &[Resource], sign: i64) {
        for resource in list
            .iter()
            .filter(|resource| resource.kind == ValueType::Scalar)
        {
            let amount = resource
                .scalar
                .map_or(0, |scalar| resources::to_fixed(scalar.value));
            let total = self.allocated.entry(resource.name.clone()).or_default();
            *total = total.saturating_add(sign.saturating_mul(amount)).max(0);
        }
    }
}

impl Agent {
    /// What is neither used nor offered.
    pub(super) fn free(&self) -> Vec<Resource> {
        let mut free = self.total.clone();
        resources::subtract(&mut free, &self.used);
        resources::subtract(&mut free, &self.offered);
        free
    }
}

impl Master {
    /// A master that starts now, with what an earlier one remembered.
    pub fn new(config: Config, registry: Registry, now: Moment) -> Self {
        let recovered: BTreeMap<_, _> = registry
            .admitted
            .into_iter()
            .filter_map(|info| Some((info.id.clone()?, info)))
            .collect();
        let ids = |map: BTreeMap<String, Moment>| {
            map.into_iter()
                .map(|(id, at)| (AgentId::new(id), at))
                .collect()
        };
        Self {
            recovered_until: now + config.agent_reregister_timeout,
            next_allocation: now + config.allocation_interval,
            config,
            frameworks: BTreeMap::new(),
            removed_frameworks: VecDeque::new(),
            agents: BTreeMap::new(),
            unreachable: ids(registry.unreachable),
            gone: ids(registry.gone),
            recovered,
            offers: BTreeMap::new(),
            next_framework: 0,
            next_agent: 0,
            next_offer: 0,
        }
    }

    /// What a master that starts after this one has to know.
    pub fn registry(&self) -> Registry {
        let texts = |map: &BTreeMap<AgentId, Moment>| {
            map.iter().map(|(id, at)| (id.value.clone(), *at)).collect()
        };
        Registry {
            admitted: self
                .agents
                .values()
                .map(|agent| &agent.info)
                .chain(self.recovered.values())
                .cloned()
                .collect(),
            unreachable: texts(&self.unreachable),
            gone: texts(&self.gone),
        }
    }

    /// Who the master is.
    pub fn info(&self) -> &MasterInfo {
        &self.config.info
    }

    /// Sends an event, if the framework's scheduler is there.
    pub(super) fn tell(&self, framework_id: &FrameworkId, event: Event, out: &mut Vec<Output>) {
        if let Some(stream) = self
            .frameworks
            .get(framework_id)
            .and_then(Framework::stream)
        {
            out.push(Output::ToScheduler {
                stream: stream.clone(),
                event: Box::new(event),
            });
        }
    }

    /// Sends a status update, if the framework's scheduler is there.
    pub(super) fn tell_status(
        &self,
        framework_id: &FrameworkId,
        status: TaskStatus,
        out: &mut Vec<Output>,
    ) {
        self.tell(framework_id, Event::Update(Update { status }), out);
    }

    /// Sends a message, if the agent is connected. Says whether it was.
    pub(super) fn tell_agent(
        &self,
        agent_id: &AgentId,
        message: ToAgent,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(stream) = self
            .agents
            .get(agent_id)
            .and_then(|agent| agent.stream.clone())
        else {
            return false;
        };
        out.push(Output::ToAgent {
            stream,
            message: Box::new(message),
        });
        true
    }

    /// An ERROR event and the end of the stream.
    pub(super) fn refuse_stream(
        stream: StreamId,
        message: impl Into<String>,
        out: &mut Vec<Output>,
    ) {
        let event = Event::Error(Error {
            message: message.into(),
        });
        out.push(Output::ToScheduler {
            stream: stream.clone(),
            event: Box::new(event),
        });
        out.push(Output::CloseScheduler { stream });
    }

    /// Books resources of an agent as used by a framework.
    pub(super) fn use_resources(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        list: &[Resource],
    ) {
        if let Some(agent) = self.agents.get_mut(agent_id) {
            resources::add(&mut agent.used, list);
        }
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.charge(list, 1);
        }
    }

    /// Books resources of an agent as not used any more.
    pub(super) fn free_resources(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        list: &[Resource],
    ) {
        if let Some(agent) = self.agents.get_mut(agent_id) {
            resources::subtract(&mut agent.used, list);
        }
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.charge(list, -1);
        }
    }

    /// Books an offer.
    pub(super) fn add_offer(&mut self, outstanding: Outstanding) {
        let offer = &outstanding.offer;
        if let Some(agent) = self.agents.get_mut(&offer.agent_id) {
            resources::add(&mut agent.offered, &outstanding.resources);
        }
        if let Some(framework) = self.frameworks.get_mut(&offer.framework_id) {
            framework.charge(&outstanding.resources, 1);
            framework.offers_made += 1;
        }
        self.offers.insert(offer.id.clone(), outstanding);
    }

    /// Takes an offer out of the books; its resources are free again.
    pub(super) fn remove_offer(&mut self, offer_id: &OfferId) -> Option<Outstanding> {
        let outstanding = self.offers.remove(offer_id)?;
        let offer = &outstanding.offer;
        if let Some(agent) = self.agents.get_mut(&offer.agent_id) {
            resources::subtract(&mut agent.offered, &outstanding.resources);
        }
        if let Some(framework) = self.frameworks.get_mut(&offer.framework_id) {
            framework.charge(&outstanding.resources, -1);
        }
        Some(outstanding)
    }

    /// Adds a task to the books. One that has ended holds nothing.
    pub(super) fn add_task(&mut self, framework_id: &FrameworkId, task_id: TaskId, task: Task) {
        if !task.state.is_terminal() {
            self.use_resources(
                framework_id,
                &task.agent_id.clone(),
                &task.resources.clone(),
            );
        }
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.tasks.insert(task_id, task);
        }
    }

    /// Takes a task out of the books.
    pub(super) fn remove_task(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
    ) -> Option<Task> {
        let task = self
            .frameworks
            .get_mut(framework_id)?
            .tasks
            .remove(task_id)?;
        if !task.state.is_terminal() {
            self.free_resources(framework_id, &task.agent_id, &task.resources);
        }
        Some(task)
    }

    /// Notes a task's newest state; its resources are free once that is terminal. A task
    /// that has ended stays so.
    pub(super) fn set_task_state(
        &mut self,
        framework_id: &FrameworkId,
        task_id: &TaskId,
        state: TaskState,
    ) {
        let Some(task) = self
            .frameworks
            .get_mut(framework_id)
            .and_then(|f| f.tasks.get_mut(task_id))
        else {
            return;
        };
        if task.state.is_terminal() {
            return;
        }
        task.state = state;
        if task.state.is_terminal() {
            let (agent_id, list) = (task.agent_id.clone(), task.resources.clone());
            self.free_resources(framework_id, &agent_id, &list);
        }
    }

    /// Adds an executor to the books, unless it is there.
    pub(super) fn add_executor(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        info: ExecutorInfo,
    ) {
        let key = (framework_id.clone(), info.executor_id.clone());
        let Some(agent) = self.agents.get_mut(agent_id) else {
            return;
        };
        if agent.executors.contains_key(&key) {
            return;
        }
        let list = formats::internal(&info.resources);
        agent.executors.insert(
            key,
            Executor {
                info,
                resources: list.clone(),
            },
        );
        self.use_resources(framework_id, agent_id, &list);
    }

    /// Takes an executor out of the books.
    pub(super) fn remove_executor(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        executor_id: &ExecutorId,
    ) {
        let key = (framework_id.clone(), executor_id.clone());
        if let Some(executor) = self
            .agents
            .get_mut(agent_id)
            .and_then(|agent| agent.executors.remove(&key))
        {
            self.free_resources(framework_id, agent_id, &executor.resources);
        }
    }

    /// The tasks of an agent, by framework.
    pub(super) fn tasks_on(&self, agent_id: &AgentId) -> Vec<(FrameworkId, TaskId)> {
        let of = |(id, framework): (&FrameworkId, &Framework)| {
            let here = framework
                .tasks
                .iter()
                .filter(|(_, task)| &task.agent_id == agent_id);
            here.map(|(task_id, _)| (id.clone(), task_id.clone()))
                .collect::<Vec<_>>()
        };
        self.frameworks.iter().flat_map(of).collect()
    }

    /// The offers that fulfil a condition.
    pub(super) fn offers_where(&self, condition: impl Fn(&Outstanding) -> bool) -> Vec<OfferId> {
        self.offers
            .iter()
            .filter(|(_, offer)| condition(offer))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

/// A status that the master makes: without uuid.
pub(super) fn master_status(
    task_id: &TaskId,
    state: TaskState,
    reason: StatusReason,
    message: impl Into<String>,
    agent_id: Option<&AgentId>,
    now: Moment,
) -> TaskStatus {
    TaskStatus {
        message: Some(message.into()),
        source: Some(StatusSource::Master),
        reason: Some(reason),
        agent_id: agent_id.cloned(),
        timestamp: Some(now.as_seconds()),
        ..TaskStatus::new(task_id.clone(), state)
    }
}
