//! The master's state, and how it speaks to those around it.

use super::constraints::{Constraints, Minimums};
use super::drain::Deactivation;
use super::input::{Moment, Output, StreamId};
use super::maintenance::Maintenance;
use super::operations::{Conversion, Finished, next_repeat};
use super::registry::Registry;
use crate::link::ToAgent;
use meson_mesos::scheduler::{Error, Event, Update};
use meson_mesos::types::{
    AgentId, AgentInfo, CapabilityType, ContainerStatus, Data, ExecutorId, ExecutorInfo,
    FrameworkId, FrameworkInfo, MasterInfo, Offer, OfferId, Resource, StatusReason, StatusSource,
    TaskId, TaskState, TaskStatus,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How many removed frameworks are remembered, so that they cannot come back.
pub(super) const MAX_REMOVED_FRAMEWORKS: usize = 10_000;
/// How many of them are described (`--max_completed_frameworks`).
pub(super) const MAX_COMPLETED_FRAMEWORKS: usize = 50;
/// How many ended tasks of a framework are remembered, and how many unreachable ones
/// (`--max_completed_tasks_per_framework`, `--max_unreachable_tasks_per_framework`).
pub(super) const MAX_COMPLETED_TASKS: usize = 1000;
/// How many agents are remembered that are unreachable or gone (`--registry_max_agent_count`).
pub(super) const MAX_ABSENT_AGENTS: usize = 102_400;

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
    /// The latest of them.
    pub(super) completed_frameworks: VecDeque<Framework>,
    pub(super) agents: BTreeMap<AgentId, Agent>,
    /// Since when.
    pub(super) unreachable: BTreeMap<AgentId, Moment>,
    /// Since when.
    pub(super) gone: BTreeMap<AgentId, Moment>,
    /// Admitted by an earlier master and not back yet.
    pub(super) recovered: BTreeMap<AgentId, AgentInfo>,
    /// When those that are not back are unreachable.
    pub(super) recovered_until: Moment,
    /// Agents that an operator took out of service.
    pub(super) deactivated: BTreeMap<AgentId, Deactivation>,
    pub(super) maintenance: Maintenance,
    pub(super) offers: BTreeMap<OfferId, Outstanding>,
    pub(super) started: Moment,
    pub(super) next_operation: u64,
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
    pub(super) constraints: Constraints,
    pub(super) minimums: Minimums,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// Tasks that have ended, oldest first.
    pub(super) completed: VecDeque<(TaskId, Task)>,
    /// Operations whose status it has not acknowledged.
    pub(super) operations: BTreeMap<String, Finished>,
    /// When it first subscribed; absent when only agents told of it.
    pub(super) registered: Option<Moment>,
    /// When it last subscribed.
    pub(super) reregistered: Option<Moment>,
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
    /// What operations made of its resources.
    pub(super) conversions: Vec<Conversion>,
    pub(super) registered: Moment,
    pub(super) reregistered: Option<Moment>,
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
            minimums: Minimums::parse(info.offer_filters.as_ref()),
            info,
            connection,
            suppressed: BTreeSet::new(),
            constraints: Constraints::default(),
            tasks: BTreeMap::new(),
            completed: VecDeque::new(),
            operations: BTreeMap::new(),
            registered: None,
            reregistered: None,
            unreachable_tasks: BTreeMap::new(),
            filters: BTreeMap::new(),
            allocated: BTreeMap::new(),
            offers_made: 0,
        }
    }

    /// The framework describes itself anew.
    pub(super) fn describe(&mut self, info: FrameworkInfo) {
        self.minimums = Minimums::parse(info.offer_filters.as_ref());
        self.info = info;
    }

    /// When a status of an operation is to be sent again.
    pub(super) fn next_repeat(&self) -> Option<Moment> {
        next_repeat(&self.operations)
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
            completed_frameworks: VecDeque::new(),
            agents: BTreeMap::new(),
            unreachable: ids(registry.unreachable),
            gone: ids(registry.gone),
            recovered,
            deactivated: registry
                .deactivated
                .into_iter()
                .map(|(id, deactivation)| (AgentId::new(id), deactivation))
                .collect(),
            maintenance: Maintenance::remembered(registry.schedule, registry.down),
            offers: BTreeMap::new(),
            started: now,
            next_operation: 0,
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
            deactivated: self
                .deactivated
                .iter()
                .map(|(id, deactivation)| (id.value.clone(), *deactivation))
                .collect(),
            schedule: self.maintenance.schedule.clone(),
            down: self.maintenance.down.clone(),
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
