//! ACCEPT and DECLINE.

use super::formats;
use super::input::{Moment, Output};
use super::state::{Master, Outstanding, Task, master_status};
use super::validation::{self, Launchable};
use crate::link::ToAgent;
use meson_mesos::resources;
use meson_mesos::scheduler::{Accept, Decline};
use meson_mesos::types::{
    AgentId, ExecutorInfo, ExecutorType, FrameworkId, OfferId, Operation, Resource, StatusReason,
    TaskInfo, TaskState,
};

impl Master {
    pub(super) fn decline(&mut self, framework_id: &FrameworkId, decline: &Decline, now: Moment) {
        for offer_id in &decline.offer_ids {
            if !self.holds_offer(framework_id, offer_id) {
                continue;
            }
            if let Some(Outstanding {
                offer,
                resources,
                role,
                ..
            }) = self.remove_offer(offer_id)
            {
                self.refuse(
                    framework_id,
                    &offer.agent_id,
                    &role,
                    resources,
                    decline.filters.as_ref(),
                    now,
                );
            }
        }
    }

    pub(super) fn accept(
        &mut self,
        framework_id: &FrameworkId,
        accept: Accept,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let checked = self.check_offers(framework_id, &accept.offer_ids);
        let mut taken = Vec::new();
        for offer_id in &accept.offer_ids {
            if self.holds_offer(framework_id, offer_id) {
                taken.extend(self.remove_offer(offer_id));
            }
        }
        let (agent_id, role) = match (checked, taken.first()) {
            (Ok(()), Some(first)) => (first.offer.agent_id.clone(), first.role.clone()),
            (checked, _) => {
                // Good offers in a bad list are simply free again.
                let why = checked
                    .err()
                    .unwrap_or_else(|| "No offers specified".to_owned());
                return self.drop_tasks(framework_id, &accept.operations, &why, now, out);
            }
        };
        let mut offered: Vec<Resource> = Vec::new();
        taken
            .iter()
            .for_each(|outstanding| resources::add(&mut offered, &outstanding.resources));

        for operation in accept.operations {
            match operation.kind.as_str() {
                "LAUNCH" => {
                    for task in operation
                        .launch
                        .into_iter()
                        .flat_map(|launch| launch.task_infos)
                    {
                        self.launch(framework_id, &agent_id, &role, task, &mut offered, now, out);
                    }
                }
                "LAUNCH_GROUP" => self.refuse_group(framework_id, operation, now, out),
                _ => self.operate(
                    framework_id,
                    &agent_id,
                    &role,
                    &operation,
                    &mut offered,
                    now,
                    out,
                ),
            }
        }
        self.refuse(
            framework_id,
            &agent_id,
            &role,
            offered,
            accept.filters.as_ref(),
            now,
        );
    }

    fn holds_offer(&self, framework_id: &FrameworkId, offer_id: &OfferId) -> bool {
        self.offers
            .get(offer_id)
            .is_some_and(|offer| &offer.offer.framework_id == framework_id)
    }

    /// Whether offers may be used together, in the words of `src/master/validation.cpp`.
    fn check_offers(
        &self,
        framework_id: &FrameworkId,
        offer_ids: &[OfferId],
    ) -> Result<(), String> {
        let mut first: Option<&Outstanding> = None;
        for (index, offer_id) in offer_ids.iter().enumerate() {
            if offer_ids[..index].contains(offer_id) {
                return Err(format!("Duplicate offer {offer_id} in offer list"));
            }
            let Some(offer) = self.offers.get(offer_id) else {
                return Err(format!("Offer {offer_id} is no longer valid"));
            };
            if &offer.offer.framework_id != framework_id {
                return Err(format!(
                    "Offer {offer_id} has invalid framework {} while framework {framework_id} is expected",
                    offer.offer.framework_id
                ));
            }
            let first = first.get_or_insert(offer);
            if first.offer.agent_id != offer.offer.agent_id {
                return Err(format!(
                    "Aggregated offers must belong to one single agent. Offer {offer_id} uses agent {} and agent {}",
                    offer.offer.agent_id, first.offer.agent_id
                ));
            }
            if first.role != offer.role {
                return Err(format!(
                    "Aggregated offers must be allocated to the same role. Offer {offer_id} uses role {} but another \
                     is using role {}",
                    offer.role, first.role
                ));
            }
        }
        if offer_ids.is_empty() {
            Err("No offers specified".to_owned())
        } else {
            Ok(())
        }
    }

    /// Answers for tasks that were launched with offers that are not valid.
    fn drop_tasks(
        &self,
        framework_id: &FrameworkId,
        operations: &[Operation],
        why: &str,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        let Some(framework) = self.frameworks.get(framework_id) else {
            return;
        };
        let state = framework.or_lost(TaskState::Dropped);
        let message = format!("Task launched with invalid offers: {why}");
        let single = operations
            .iter()
            .filter_map(|operation| operation.launch.as_ref())
            .flat_map(|l| &l.task_infos);
        let grouped = operations
            .iter()
            .filter_map(|operation| operation.launch_group.as_ref());
        for task in single.chain(grouped.flat_map(|group| &group.task_group.tasks)) {
            let reason = StatusReason::InvalidOffers;
            let status = master_status(
                &task.task_id,
                state.clone(),
                reason,
                &message,
                Some(&task.agent_id),
                now,
            );
            self.tell_status(framework_id, status, out);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one launch has all of these, and nothing else does"
    )]
    fn launch(
        &mut self,
        framework_id: &FrameworkId,
        agent_id: &AgentId,
        role: &str,
        mut task: TaskInfo,
        offered: &mut Vec<Resource>,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        fill_in(&mut task, framework_id, role);
        let Launchable {
            task_resources,
            executor_resources,
        } = match validation::check(self, framework_id, agent_id, role, &task, offered) {
            Ok(launchable) => launchable,
            Err(why) => {
                let reason = StatusReason::TaskInvalid;
                let status = master_status(
                    &task.task_id,
                    TaskState::Error,
                    reason,
                    why,
                    Some(&task.agent_id),
                    now,
                );
                return self.tell_status(framework_id, status, out);
            }
        };
        resources::subtract(offered, &task_resources);
        resources::subtract(offered, &executor_resources);
        if let Some(executor) = &task.executor {
            self.add_executor(framework_id, agent_id, executor.clone());
        }
        let record = Task {
            name: task.name.clone(),
            agent_id: agent_id.clone(),
            executor_id: task
                .executor
                .as_ref()
                .map(|executor| executor.executor_id.clone()),
            resources: task_resources,
            state: TaskState::Staging,
            told: None,
            container_status: None,
            healthy: None,
        };
        self.add_task(framework_id, task.task_id.clone(), record);
        let Some(framework) = self
            .frameworks
            .get(framework_id)
            .map(|framework| framework.info.clone())
        else {
            return;
        };
        let executor = task.executor.clone();
        self.tell_agent(
            agent_id,
            ToAgent::RunTask {
                framework,
                executor,
                task: Box::new(task),
            },
            out,
        );
    }

    fn refuse_group(
        &self,
        framework_id: &FrameworkId,
        operation: Operation,
        now: Moment,
        out: &mut Vec<Output>,
    ) {
        for task in operation
            .launch_group
            .into_iter()
            .flat_map(|group| group.task_group.tasks)
        {
            let (state, reason) = (TaskState::Error, StatusReason::TaskGroupInvalid);
            let message = "minimesos has no default executor: launch the tasks one by one";
            let status = master_status(
                &task.task_id,
                state,
                reason,
                message,
                Some(&task.agent_id),
                now,
            );
            self.tell_status(framework_id, status, out);
        }
    }
}

/// What the real master fills in before it passes a task on.
fn fill_in(task: &mut TaskInfo, framework_id: &FrameworkId, role: &str) {
    let allocate = |list: &mut Vec<Resource>| {
        for resource in list
            .iter_mut()
            .filter(|resource| resource.allocation_info.is_none())
        {
            *resource = std::mem::take(resource).allocated_to(role);
        }
    };
    allocate(&mut task.resources);
    if let Some(executor) = &mut task.executor {
        fill_in_executor(executor, framework_id);
        allocate(&mut executor.resources);
    }
}

fn fill_in_executor(executor: &mut ExecutorInfo, framework_id: &FrameworkId) {
    executor.kind.get_or_insert(ExecutorType::Custom);
    executor
        .framework_id
        .get_or_insert_with(|| framework_id.clone());
}

/// What tasks and executors take out of offers, in the master's format.
pub(super) fn internal_resources(list: &[Resource]) -> Vec<Resource> {
    formats::internal(list)
}
