//! The books of resources.
//!
//! The invariant of the whole: for each agent, what is free, offered and used adds up to
//! its total. Only the functions here change `used` and `offered`.

use super::formats;
use super::state::{Agent, Executor, Framework, MAX_COMPLETED_TASKS, Master, Outstanding, Task};
use meson_mesos::resources;
use meson_mesos::types::{
    AgentId, ExecutorId, ExecutorInfo, FrameworkId, OfferId, Resource, TaskId, TaskState, ValueType,
};

impl Framework {
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

    /// Remembers a task that has ended, for who asks what there was.
    pub(super) fn remember_task(
        &mut self,
        framework_id: &FrameworkId,
        task_id: TaskId,
        task: Task,
    ) {
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.completed.push_back((task_id, task));
            if framework.completed.len() > MAX_COMPLETED_TASKS {
                framework.completed.pop_front();
            }
        }
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
