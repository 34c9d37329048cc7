//! How much memory a container may use: what its executor and that one's live tasks asked
//! for. As in the real agent, the limit of a container is raised and never lowered: a task
//! that ends gives nothing back while its executor may still hold what it used.

use meson_mesos::types::{ContainerId, ExecutorId, FrameworkId, Resource, ValueType};

use super::{Ending, Out, Output, Phase, State};

/// The megabytes of memory among resources.
fn memory(resources: &[Resource]) -> f64 {
    resources
        .iter()
        .filter(|resource| resource.name == "mem" && resource.kind == ValueType::Scalar)
        .filter_map(|resource| resource.scalar.as_ref())
        .map(|scalar| scalar.value)
        .sum()
}

impl State {
    /// Raises the limit of an executor's container, if a new task asks for more.
    pub(super) fn limit_memory(
        &mut self,
        framework_id: &FrameworkId,
        executor_id: &ExecutorId,
        out: &mut Out,
    ) {
        if !self.settings.limit_memory {
            return;
        }
        let Some(framework) = self.frameworks.get_mut(framework_id) else {
            return;
        };
        let Some(executor) = framework.executors.get_mut(executor_id) else {
            return;
        };
        let tasks = executor
            .tasks
            .iter()
            .filter_map(|id| framework.tasks.get(id)?.record.info.as_deref())
            .map(|task| memory(&task.resources));
        let wanted = memory(&executor.run.info.resources) + tasks.sum::<f64>();
        if wanted > executor.limit_mb {
            executor.limit_mb = wanted;
            out.push(Output::LimitMemory(
                executor.run.container_id.clone(),
                wanted,
            ));
        }
    }

    /// A container was seen to use more than it may: it is killed, and its tasks fail.
    pub(super) fn memory_exceeded(
        &mut self,
        container_id: &ContainerId,
        used_mb: f64,
        out: &mut Out,
    ) {
        let Some((framework_id, executor_id)) = self.containers.get(container_id).cloned() else {
            return;
        };
        let Some(executor) = self.executor_mut(&framework_id, &executor_id) else {
            return;
        };
        // Measured before the limit was raised; or already on its way out, for another reason.
        if used_mb <= executor.limit_mb || executor.phase == Phase::Destroying {
            return;
        }
        executor.ending = Ending::MemoryLimit {
            limit_mb: executor.limit_mb,
            used_mb,
        };
        if let Some(stream) = executor.stream() {
            out.push(Output::Close(stream));
        }
        executor.phase = Phase::Destroying;
        out.push(Output::Destroy(container_id.clone()));
        self.recovery_may_be_over(out);
    }
}
