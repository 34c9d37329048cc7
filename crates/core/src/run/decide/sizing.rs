//! What attempts ask for, and what is learned from how they ended ([`crate::sizing`]).

use super::Transition;
use crate::definition::StepKind;
use crate::ids::{Instance, NodeId};
use crate::run::event::Event;
use crate::run::input::{Failure, FailureClass, Outcome};
use crate::run::launch::sized;
use crate::run::record::{Loop, StepRecord};
use crate::run::state::{header, samples};
use crate::sizing::{Asked, End, Known, LEARN_FIRST, MIN_SAMPLES, Usage, ask, grown, most_mem};

impl Transition<'_> {
    /// What the next attempt asks for, where that is not what its step states. Reads the record of
    /// the attempt before.
    pub(super) fn asked(&self, instance: &Instance) -> Option<Asked> {
        let step = self.plan.step(instance.node)?;
        let before = self.step_record(instance);
        let starved = before.as_ref().and_then(|before| {
            let class = before.failure.as_ref()?.class;
            (class == FailureClass::OutOfMemory).then(|| sized(&step.resources, before).mem)
        });
        let before = before.and_then(|before| before.asked).map(|asked| *asked);
        if step.auto.is_none() && starved.is_none() && before.is_none() {
            return None;
        }
        let header = header(&self.records)?;
        let known = Known {
            run: &samples(&self.records, instance.node),
            earlier: header.learned.get(&step.name),
            before,
            starved,
        };
        ask(&step.resources, step.auto.as_ref(), known)
    }

    /// Keeps what the attempt used, for those that come after it.
    pub(super) fn measure(
        &mut self,
        instance: &Instance,
        record: &StepRecord,
        outcome: &Outcome,
        usage: Option<&Usage>,
    ) {
        let Some(step) = self.plan.step(instance.node) else {
            return;
        };
        let end = match outcome {
            Outcome::Succeeded { .. } => End::Succeeded,
            Outcome::Failed(failure) if failure.class == FailureClass::OutOfMemory => {
                End::OutOfMemory
            }
            Outcome::Failed(_) | Outcome::Killed => End::Failed,
        };
        let usage = usage.copied().unwrap_or_default();
        let runs = !matches!(step.kind, StepKind::Noop | StepKind::Workflow { .. });
        if !runs || (!usage.is_measured() && end != End::OutOfMemory) {
            return;
        }
        let asked = sized(&step.resources, record);
        self.emit(Event::AttemptMeasured {
            instance: instance.clone(),
            attempt: record.attempt,
            step: step.name.clone(),
            asked_cpus: asked.cpus,
            asked_mem: asked.mem,
            usage,
            end,
        });
    }

    /// A failure for want of memory that no more memory can mend is the step's own.
    pub(super) fn of_memory(
        &self,
        instance: &Instance,
        record: &StepRecord,
        failure: Failure,
    ) -> Failure {
        let Some(step) = self.plan.step(instance.node) else {
            return failure;
        };
        if failure.class != FailureClass::OutOfMemory {
            return failure;
        }
        let mem = sized(&step.resources, record).mem;
        let most = most_mem(&step.resources, step.auto.as_ref());
        if let Some(next) = grown(mem, most) {
            return Failure {
                message: format!("{}; the next attempt gets {next}", failure.message),
                ..failure
            };
        }
        let remedy = match step.auto {
            Some(_) => "the most that its max_mem allows",
            None if step.resources.stated => {
                "what its resources state; state more, or resources = auto(…)"
            }
            None => "the most that is tried when a step states no resources",
        };
        Failure {
            class: FailureClass::Step,
            message: format!("{} (it had {mem}, {remedy})", failure.message),
            ..failure
        }
    }

    /// How many iterations may run at once while too little is known of a step that learns; none
    /// when nothing needs to be learned, or nothing can be.
    pub(super) fn learning(&self, body: NodeId, progress: &Loop) -> Option<u32> {
        let learners = self.plan.learners(body);
        if learners.is_empty() || progress.succeeded.saturating_add(progress.failed) >= LEARN_FIRST
        {
            return None;
        }
        let header = header(&self.records)?;
        let unknown = |node: NodeId| {
            let step = self.plan.step(node)?;
            step.auto?;
            let earlier = header.learned.get(&step.name);
            let known = earlier.is_some_and(|earlier| earlier.samples >= MIN_SAMPLES)
                || samples(&self.records, node).count() >= MIN_SAMPLES;
            (!known).then_some(())
        };
        learners
            .iter()
            .any(|node| unknown(*node).is_some())
            .then_some(LEARN_FIRST)
    }
}
