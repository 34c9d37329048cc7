//! A run in memory: its plan, its records, the number of its next event.
//!
//! The records run ahead of what is committed by the one proposal that is under way, never by
//! more; nobody but the actor sees them.

use std::sync::Arc;

use meson_consensus::{Consistency, Shard};
use meson_core::definition::StepKind;
use meson_core::ids::{Attempt, Instance, RunId, TaskId};
use meson_core::run::record::{Phase, StepRecord};
use meson_core::run::{
    Claim, Effect, Event, Failure, FailureClass, Input, MemoryRecords, Place, Plan, Record,
    RecordKey, Records, Rejected, ResolvedArtifact, RunHeader, RunState, apply, claim, decide,
    effects, launch_spec, recover,
};
use meson_core::units::Timestamp;

use super::effects::{AttemptKind, task_id};
use crate::error::EngineError;
use crate::machine::Reader;
use crate::node::Node;
use crate::step::AttemptNow;

pub(super) struct HotRun {
    header: RunHeader,
    plan: Arc<Plan>,
    records: MemoryRecords,
    next_seq: u64,
}

impl HotRun {
    /// The run as this replica has applied it. A leader has applied all that was committed
    /// before its term.
    pub(super) async fn load(node: &Node, shard: &Shard, run: &RunId) -> Result<Self, EngineError> {
        let view =
            shard
                .read(Consistency::Stale)
                .await
                .map_err(|error| EngineError::Unavailable {
                    action: "load the run",
                    reason: error.to_string(),
                })?;
        let reader = Reader::new(view);
        let header = crate::local::header(&reader, run)?;
        let plan = reader.plan(&header.definition, node.definitions())?;
        let next_seq = reader.last_seq(run)? + 1;
        let records = reader.all_records(run).await?;
        Ok(Self {
            header,
            plan,
            records,
            next_seq,
        })
    }

    pub(super) fn header(&self) -> &RunHeader {
        &self.header
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Decides an input and moves the records on.
    pub(super) fn decide(&mut self, input: &Input, now: Timestamp) -> Result<Vec<Event>, Rejected> {
        let events = decide(&self.plan, &self.records, input, now)?;
        for event in &events {
            apply(&mut self.records, event);
        }
        Ok(events)
    }

    /// So many events are committed.
    pub(super) fn committed(&mut self, events: u64) {
        self.next_seq += events;
    }

    pub(super) fn effects(&self, events: &[Event]) -> Vec<Effect> {
        effects(&self.plan, &self.records, events)
    }

    pub(super) fn recover(&self) -> Vec<Effect> {
        recover(&self.plan, &self.records)
    }

    pub(super) fn has_ended(&self) -> bool {
        match self.records.get(&RecordKey::Status).as_deref() {
            Some(Record::Status(status)) => status.state != RunState::Running,
            _ => false,
        }
    }

    fn step_record(&self, instance: &Instance) -> Option<StepRecord> {
        match self
            .records
            .get(&RecordKey::Instance(instance.clone()))
            .as_deref()
        {
            Some(Record::Step(step)) => Some(step.clone()),
            _ => None,
        }
    }

    /// The instance's record, if this is its newest attempt and that has not ended.
    fn live(&self, instance: &Instance, attempt: Attempt) -> Option<StepRecord> {
        self.step_record(instance)
            .filter(|step| step.attempt == attempt && step.phase == Phase::Attempt)
    }

    /// Name and kind of an attempt.
    pub(super) fn attempt(
        &self,
        instance: &Instance,
        attempt: Attempt,
    ) -> Option<(TaskId, AttemptKind)> {
        let step = self.plan.step(instance.node)?;
        let kind = AttemptKind {
            pool: step.pool.clone(),
            regions: self.plan.regions_of(step).to_vec(),
            is_workflow: matches!(step.kind, StepKind::Workflow { .. }),
            tasks: step.gang.tasks,
        };
        Some((
            task_id(&self.header.id, &step.name, instance, attempt),
            kind,
        ))
    }

    /// What an attempt holds, if it is the newest one.
    pub(super) fn claim(&self, instance: &Instance, attempt: Attempt) -> Option<Box<Claim>> {
        claim(&self.plan, &self.records, instance, attempt).map(Box::new)
    }

    /// Where an attempt is, if it is the newest one.
    pub(super) fn place(&self, instance: &Instance, attempt: Attempt) -> Option<Box<Place>> {
        self.step_record(instance)
            .filter(|step| step.attempt == attempt)?
            .place
    }

    /// What a live attempt leaves behind under ids of its own; `None` if nothing.
    pub(super) fn produces(
        &self,
        instance: &Instance,
        attempt: Attempt,
    ) -> Option<Vec<ResolvedArtifact>> {
        if self.plan.step(instance.node)?.produces.is_empty() {
            return None;
        }
        self.live(instance, attempt)?;
        Some(
            launch_spec(&self.plan, &self.records, instance, attempt)
                .ok()?
                .produces,
        )
    }

    pub(super) fn describe(&self, instance: &Instance, attempt: Attempt) -> Option<AttemptNow> {
        let step = self.live(instance, attempt)?;
        let spec = launch_spec(&self.plan, &self.records, instance, attempt);
        Some(AttemptNow {
            place: step.place.clone(),
            spec: spec.map(Box::new).map_err(|error| Failure {
                class: FailureClass::Step,
                message: error.to_string(),
                retryable: false,
            }),
            bundle: self.header.bundle.clone(),
            kill: step.kill.is_some(),
        })
    }
}
