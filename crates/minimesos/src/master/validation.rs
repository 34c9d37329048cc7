//! Whether a task may be launched, in the words of the real master
//! (`src/master/validation.cpp`, and the answers that it was seen to give).

use super::accept::internal_resources;
use super::formats;
use super::state::Master;
use meson_mesos::resources;
use meson_mesos::types::{
    AgentId, ExecutorInfo, FrameworkId, Resource, TaskInfo, ValueType, validate_id,
};

/// What a good launch takes out of its offers, in the master's format.
#[derive(Debug)]
pub(super) struct Launchable {
    pub(super) task_resources: Vec<Resource>,
    /// Empty when the executor is there already.
    pub(super) executor_resources: Vec<Resource>,
}

/// Checks a task whose blanks are filled in.
pub(super) fn check(
    master: &Master,
    framework_id: &FrameworkId,
    agent_id: &AgentId,
    role: &str,
    task: &TaskInfo,
    offered: &[Resource],
) -> Result<Launchable, String> {
    validate_id(task.task_id.as_str())?;
    if let Some(framework) = master.frameworks.get(framework_id)
        && (framework.tasks.contains_key(&task.task_id)
            || framework.unreachable_tasks.contains_key(&task.task_id))
    {
        return Err(format!("Task has duplicate ID: {}", task.task_id));
    }
    if &task.agent_id != agent_id {
        return Err(format!(
            "Task uses invalid agent {} while agent {agent_id} is expected",
            task.agent_id
        ));
    }
    if task.executor.is_some() == task.command.is_some() {
        return Err(
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
                .to_owned(),
        );
    }
    check_resources(&task.resources, role)?;
    let task_resources = internal_resources(&task.resources);
    if resources::all_empty(&task_resources) {
        return Err("Task uses no resources".to_owned());
    }
    if let Some(command) = &task.command {
        let value_missing = command.value.as_deref().unwrap_or_default().is_empty();
        if command.is_shell() && value_missing {
            return Err("Shell command of the task must have a value".to_owned());
        }
    }
    let executor_resources = match &task.executor {
        None => Vec::new(),
        Some(executor) => check_executor(master, framework_id, agent_id, role, executor)?,
    };
    let mut needed = task_resources.clone();
    resources::add(&mut needed, &executor_resources);
    if !resources::contains(offered, &needed) {
        return Err(format!(
            "Total resources {} required by task and its executor is more than available {}",
            formats::describe(&needed, role),
            formats::describe(offered, role)
        ));
    }
    Ok(Launchable {
        task_resources,
        executor_resources,
    })
}

fn check_resources(list: &[Resource], role: &str) -> Result<(), String> {
    for resource in list {
        let shown = || formats::describe(std::slice::from_ref(resource), role);
        // A scalar of nothing, or less, has its own words.
        if let (ValueType::Scalar, Some(scalar)) = (&resource.kind, resource.scalar)
            && scalar.value <= 0.0
        {
            return Err(format!(
                "Resource '{}' is invalid: Invalid scalar resource: value <= 0",
                shown()
            ));
        }
        resources::validate(resource)
            .map_err(|why| format!("Resource '{}' is invalid: {why}", shown()))?;
        let allocated = resource
            .allocation_info
            .as_ref()
            .and_then(|info| info.role.as_deref());
        if allocated != Some(role) {
            return Err(format!(
                "Resource '{}' is not allocated to role '{role}'",
                shown()
            ));
        }
    }
    Ok(())
}

/// What the executor takes beside the task.
fn check_executor(
    master: &Master,
    framework_id: &FrameworkId,
    agent_id: &AgentId,
    role: &str,
    executor: &ExecutorInfo,
) -> Result<Vec<Resource>, String> {
    validate_id(executor.executor_id.as_str())?;
    if executor.framework_id.as_ref() != Some(framework_id) {
        let actual = executor.framework_id.as_ref().map_or("", |id| id.as_str());
        return Err(format!(
            "ExecutorInfo has an invalid FrameworkID (Actual: {actual} vs Expected: {framework_id})"
        ));
    }
    if executor.command.is_none() {
        return Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned());
    }
    check_resources(&executor.resources, role)?;
    let key = (framework_id.clone(), executor.executor_id.clone());
    match master
        .agents
        .get(agent_id)
        .and_then(|agent| agent.executors.get(&key))
    {
        None => Ok(internal_resources(&executor.resources)),
        Some(running) if is_same(&running.info, executor) => Ok(Vec::new()),
        Some(running) => {
            let line = "-".repeat(60);
            Err(format!(
                "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{line}\nExisting \
                 ExecutorInfo:\n{}\n{line}\nExecutorInfo:\n{}\n{line}\n",
                shown(&running.info),
                shown(executor)
            ))
        }
    }
}

/// Alike in everything; the order of resources and the writing of amounts do not matter.
fn is_same(a: &ExecutorInfo, b: &ExecutorInfo) -> bool {
    let without = |info: &ExecutorInfo| ExecutorInfo {
        resources: Vec::new(),
        ..info.clone()
    };
    without(a) == without(b)
        && resources::equivalent(
            &internal_resources(&a.resources),
            &internal_resources(&b.resources),
        )
}

fn shown(executor: &ExecutorInfo) -> String {
    serde_json::to_string(executor).unwrap_or_else(|_| executor.executor_id.to_string())
}
