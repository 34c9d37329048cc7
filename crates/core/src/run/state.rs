//! Reads records with what retries made void in mind.

use std::borrow::Cow;

use super::key::RecordKey;
use super::plan::Plan;
use super::record::{
    Group, GroupRecord, GroupState, Record, Reset, RunHeader, RunStatus, StepRecord, Summary,
};
use super::records::Records;
use crate::ids::{Instance, NodeId};
use crate::sizing::Samples;

/// What a record is worth after retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Written since the last retry.
    Current,
    /// Written before it: if it is done it stays done.
    Older,
    /// Not done, whatever it says; what it knows stays.
    Reopened,
    /// Nothing but a number of attempts.
    Void,
}

/// The records of a run, read.
pub(super) struct State<'a> {
    pub(super) plan: &'a Plan,
    pub(super) records: &'a dyn Records,
    generation: u32,
    resets: Option<Cow<'a, Record>>,
}

pub(super) fn header(records: &dyn Records) -> Option<Cow<'_, RunHeader>> {
    match records.get(&RecordKey::Header)? {
        Cow::Borrowed(Record::Header(header)) => Some(Cow::Borrowed(header)),
        Cow::Owned(Record::Header(header)) => Some(Cow::Owned(*header)),
        _ => None,
    }
}

pub(super) fn status(records: &dyn Records) -> Option<Cow<'_, RunStatus>> {
    match records.get(&RecordKey::Status)? {
        Cow::Borrowed(Record::Status(status)) => Some(Cow::Borrowed(status)),
        Cow::Owned(Record::Status(status)) => Some(Cow::Owned(*status)),
        _ => None,
    }
}

pub(super) fn summary(records: &dyn Records, node: NodeId) -> Summary {
    match records.get(&RecordKey::Summary(node)).map(Cow::into_owned) {
        Some(Record::Summary(summary)) => *summary,
        _ => Summary::default(),
    }
}

/// What the attempts of a step used so far.
pub(super) fn samples(records: &dyn Records, node: NodeId) -> Cow<'_, Samples> {
    match records.get(&RecordKey::Samples(node)) {
        Some(Cow::Borrowed(Record::Samples(samples))) => Cow::Borrowed(samples),
        Some(Cow::Owned(Record::Samples(samples))) => Cow::Owned(*samples),
        _ => Cow::Owned(Samples::default()),
    }
}

pub(super) fn step<'a>(
    records: &'a dyn Records,
    instance: &Instance,
) -> Option<Cow<'a, StepRecord>> {
    match records.get(&RecordKey::Instance(instance.clone()))? {
        Cow::Borrowed(Record::Step(step)) => Some(Cow::Borrowed(step)),
        Cow::Owned(Record::Step(step)) => Some(Cow::Owned(step)),
        _ => None,
    }
}

pub(super) fn group<'a>(
    records: &'a dyn Records,
    instance: &Instance,
) -> Option<Cow<'a, GroupRecord>> {
    match records.get(&RecordKey::Instance(instance.clone()))? {
        Cow::Borrowed(Record::Group(group)) => Some(Cow::Borrowed(group)),
        Cow::Owned(Record::Group(group)) => Some(Cow::Owned(group)),
        _ => None,
    }
}

/// What is void of a node. Runs that were never retried have no such record.
pub(super) fn reset(records: &dyn Records, generation: u32, node: NodeId) -> Reset {
    if generation == 0 {
        return Reset::default();
    }
    match records.get(&RecordKey::Resets).as_deref() {
        Some(Record::Resets(resets)) => resets.0.get(&node).copied().unwrap_or_default(),
        _ => Reset::default(),
    }
}

pub(super) fn standing(reset: Reset, written: u32, generation: u32) -> Standing {
    if written < reset.fresh_below {
        Standing::Void
    } else if written < reset.reopen_below {
        Standing::Reopened
    } else if written < generation {
        Standing::Older
    } else {
        Standing::Current
    }
}

impl<'a> State<'a> {
    pub(super) fn new(plan: &'a Plan, records: &'a dyn Records) -> Self {
        let generation = status(records).map_or(0, |status| status.generation);
        let resets = if generation == 0 {
            None
        } else {
            records.get(&RecordKey::Resets)
        };
        Self {
            plan,
            records,
            generation,
            resets,
        }
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn standing(&self, node: NodeId, written: u32) -> Standing {
        let reset = match self.resets.as_deref() {
            Some(Record::Resets(resets)) => resets.0.get(&node).copied().unwrap_or_default(),
            _ => Reset::default(),
        };
        standing(reset, written, self.generation)
    }

    /// The step's record, unless it is void.
    pub(super) fn step(&self, instance: &Instance) -> Option<Cow<'a, StepRecord>> {
        step(self.records, instance)
            .filter(|record| self.standing(instance.node, record.generation) != Standing::Void)
    }

    /// The inner node's record, unless it is void.
    pub(super) fn group(&self, instance: &Instance) -> Option<Cow<'a, GroupRecord>> {
        group(self.records, instance)
            .filter(|record| self.standing(instance.node, record.generation) != Standing::Void)
    }

    /// The inner node's record, if it was entered since the last retry.
    pub(super) fn current_group(&self, instance: &Instance) -> Option<Cow<'a, GroupRecord>> {
        group(self.records, instance).filter(|record| record.generation == self.generation)
    }

    /// Whether an instance is done, so that entering it again would change nothing.
    pub(super) fn is_done(&self, instance: &Instance) -> bool {
        let (written, success) = match self
            .records
            .get(&RecordKey::Instance(instance.clone()))
            .as_deref()
        {
            Some(Record::Step(step)) => (step.generation, step.state.is_success()),
            Some(Record::Group(group)) => (group.generation, group.state == GroupState::Succeeded),
            _ => return false,
        };
        success
            && matches!(
                self.standing(instance.node, written),
                Standing::Current | Standing::Older
            )
    }

    /// Whether what goes on at `instance` still matters: everything around it is under way.
    pub(super) fn is_wanted(&self, instance: &Instance) -> bool {
        if status(self.records)
            .is_none_or(|status| status.cancelling.is_some() || status.flow.is_some())
        {
            return false;
        }
        let mut above = self.plan.parent(instance);
        while let Some(node) = above {
            if self
                .current_group(&node)
                .is_none_or(|group| group.state != GroupState::Active)
            {
                return false;
            }
            above = self.plan.parent(&node);
        }
        true
    }

    /// The newest round of a repeat, if it was entered.
    pub(super) fn round(&self, instance: &Instance) -> Option<u32> {
        match self.group(instance)?.kind {
            Group::Repeat { round, .. } => Some(round),
            _ => None,
        }
    }
}
