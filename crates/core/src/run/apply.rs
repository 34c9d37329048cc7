//! Makes an event part of the records. Total: an event that makes no sense changes nothing,
//! and none makes it panic. The same events give the same records on every replica.

use std::borrow::Cow;

use super::event::Event;
use super::input::FailureClass;
use super::key::RecordKey;
use super::record::{
    FlowEnd, Group, GroupRecord, GroupState, Phase, Record, Resets, RunHeader, RunState, RunStatus,
    StepRecord, StepState, Summary,
};
use super::records::RecordsMut;
use super::state::{self, Standing};
use crate::ids::{Attempt, Instance, NodeId};
use crate::sizing::{End, Usage};
use crate::units::{Bytes, Timestamp};

/// The records that a run begins with.
pub fn create(header: RunHeader) -> Vec<(RecordKey, Record)> {
    vec![
        (RecordKey::Header, Record::Header(Box::new(header))),
        (RecordKey::Status, Record::Status(Box::default())),
    ]
}

/// Makes `event` part of `records`.
pub fn apply(records: &mut dyn RecordsMut, event: &Event) {
    match event {
        Event::RunStarted { at } => with_status(records, |status| status.started_at = Some(*at)),
        Event::Entered { instance, group } => enter(records, instance, group),
        Event::ItemsListed { instance, lists } => {
            records.put(
                RecordKey::Items(instance.clone(), 0),
                Record::ItemsIndex(lists.clone()),
            );
        }
        Event::ItemsStored {
            instance,
            chunk,
            values,
        } => {
            records.put(
                RecordKey::Items(instance.clone(), *chunk),
                Record::Items(values.clone()),
            );
        }
        Event::LoopMoved { instance, progress } => {
            with_group(records, instance, |group| {
                group.kind = Group::ForEach(*progress)
            });
        }
        Event::BranchEnded {
            instance,
            succeeded,
            failed,
        } => with_group(records, instance, |group| {
            group.kind = Group::Parallel {
                succeeded: *succeeded,
                failed: *failed,
            };
        }),
        Event::RoundStarted {
            instance,
            round,
            base,
            recount,
        } => {
            enter(
                records,
                instance,
                &Group::Repeat {
                    round: *round,
                    base: *base,
                },
            );
            recount
                .iter()
                .for_each(|node| records.remove(&RecordKey::Summary(*node)));
        }
        Event::GroupEnded { instance, error } => with_group(records, instance, |group| {
            group.state = error
                .clone()
                .map_or(GroupState::Succeeded, GroupState::Failed);
        }),
        Event::StepReady { instance, at } => begin(records, instance, None, *at),
        Event::AttemptStarted {
            instance,
            attempt,
            at,
        } => begin(records, instance, Some(*attempt), *at),
        Event::AttemptSized {
            instance, asked, ..
        } => with_step(records, instance, |step| {
            step.asked = Some(Box::new(*asked));
        }),
        Event::AttemptMeasured {
            instance,
            asked_mem,
            usage,
            end,
            ..
        } => measured(records, instance, *asked_mem, usage, *end),
        Event::AttemptRequested { .. }
        | Event::AttemptSpilled { .. }
        | Event::AttemptLaunching { .. }
        | Event::AttemptRunning { .. }
        | Event::AttemptUnreachable { .. }
        | Event::AttemptFailed { .. }
        | Event::TimerMoved { .. }
        | Event::KillRequested { .. }
        | Event::StepEnded { .. } => step(records, event),
        Event::LateUpdate { .. } => {}
        Event::TodoSet { instance, todo } => {
            let key = RecordKey::Todo(instance.clone());
            if records.get(&key).is_none() {
                with_status(records, |status| {
                    status.todo = status.todo.saturating_add(1)
                });
            }
            records.put(key, Record::Todo(todo.clone()));
        }
        Event::TodoDone { instance } => {
            let key = RecordKey::Todo(instance.clone());
            if records.get(&key).is_some() {
                with_status(records, |status| {
                    status.todo = status.todo.saturating_sub(1)
                });
                records.remove(&key);
            }
        }
        Event::CancelRequested { reason, .. } => {
            with_status(records, |status| status.cancelling = Some(reason.clone()));
        }
        Event::FlowEnded { error } => with_status(records, |status| {
            status.flow = Some(error.clone().map_or(FlowEnd::Succeeded, FlowEnd::Failed));
        }),
        Event::Retried {
            fresh, reopened, ..
        } => retry(records, fresh, reopened),
        Event::RunEnded { state, error, at } => with_status(records, |status| {
            status.state = *state;
            status.error.clone_from(error);
            status.finished_at = Some(*at);
        }),
    }
}

fn with_status(records: &mut dyn RecordsMut, change: impl FnOnce(&mut RunStatus)) {
    if let Some(mut status) = state::status(records).map(Cow::into_owned) {
        change(&mut status);
        records.put(RecordKey::Status, Record::Status(Box::new(status)));
    }
}

fn with_group(
    records: &mut dyn RecordsMut,
    instance: &Instance,
    change: impl FnOnce(&mut GroupRecord),
) {
    if let Some(mut group) = state::group(records, instance).map(Cow::into_owned) {
        change(&mut group);
        records.put(RecordKey::Instance(instance.clone()), Record::Group(group));
    }
}

fn with_step(
    records: &mut dyn RecordsMut,
    instance: &Instance,
    change: impl FnOnce(&mut StepRecord),
) {
    if let Some(mut step) = state::step(records, instance).map(Cow::into_owned) {
        change(&mut step);
        records.put(RecordKey::Instance(instance.clone()), Record::Step(step));
    }
}

/// An attempt's own record, and the sum of all of its step: so many bytes however many there are.
fn measured(
    records: &mut dyn RecordsMut,
    instance: &Instance,
    asked_mem: Bytes,
    usage: &Usage,
    end: End,
) {
    if usage.is_measured() {
        with_step(records, instance, |step| {
            step.usage = Some(Box::new(*usage));
        });
    }
    let mut samples = state::samples(records, instance.node).into_owned();
    samples.add(end, asked_mem, usage);
    records.put(
        RecordKey::Samples(instance.node),
        Record::Samples(Box::new(samples)),
    );
}

fn with_summary(records: &mut dyn RecordsMut, node: NodeId, change: impl FnOnce(&mut Summary)) {
    let mut summary = state::summary(records, node);
    change(&mut summary);
    records.put(RecordKey::Summary(node), Record::Summary(Box::new(summary)));
}

fn generation(records: &dyn RecordsMut) -> u32 {
    state::status(records).map_or(0, |status| status.generation)
}

/// Whether a record of this node that was written in `written` still counts.
fn counts(records: &dyn RecordsMut, node: NodeId, written: u32, generation: u32) -> bool {
    state::standing(state::reset(records, generation, node), written, generation) != Standing::Void
}

fn enter(records: &mut dyn RecordsMut, instance: &Instance, group: &Group) {
    let generation = generation(records);
    if let Group::ForEach(progress) = group {
        let before = state::group(records, instance)
            .filter(|record| counts(records, instance.node, record.generation, generation))
            .and_then(|record| match record.kind {
                Group::ForEach(before) => before.total,
                _ => None,
            });
        let (before, total) = (
            u64::from(before.unwrap_or(0)),
            u64::from(progress.total.unwrap_or(0)),
        );
        if before != total {
            with_summary(records, instance.node, |summary| {
                summary.expected = summary
                    .expected
                    .saturating_sub(before)
                    .saturating_add(total);
            });
        }
    }
    let record = GroupRecord {
        generation,
        state: GroupState::Active,
        kind: group.clone(),
    };
    records.put(RecordKey::Instance(instance.clone()), Record::Group(record));
}

/// A step is entered, or a new attempt of one that was.
fn begin(
    records: &mut dyn RecordsMut,
    instance: &Instance,
    attempt: Option<Attempt>,
    at: Timestamp,
) {
    let generation = generation(records);
    let before = state::step(records, instance).map(Cow::into_owned);
    let counted = before
        .as_ref()
        .filter(|before| counts(records, instance.node, before.generation, generation))
        .map(|before| before.state);
    let fresh = StepRecord {
        generation,
        state: StepState::Ready,
        attempt: before.as_ref().map_or(Attempt(0), |before| before.attempt),
        spent: [0; FailureClass::COUNT],
        kill: None,
        phase: Phase::LookUp,
        entered_at: at,
        started_at: None,
        ended_at: None,
        timer: None,
        place: None,
        failure: None,
        asked: None,
        usage: None,
    };
    let mut record = match before {
        Some(before) if before.generation == generation => StepRecord {
            spent: before.spent,
            entered_at: before.entered_at,
            failure: before.failure,
            ..fresh
        },
        _ => fresh,
    };
    if let Some(attempt) = attempt {
        record.attempt = attempt;
        record.phase = Phase::Attempt;
    }
    count(
        records,
        instance.node,
        counted,
        StepState::Ready,
        attempt.is_some(),
    );
    let live = RecordKey::Live(instance.clone());
    if records.get(&live).is_none() {
        records.put(live, Record::Live);
        with_status(records, |status| {
            status.live = status.live.saturating_add(1)
        });
    }
    records.put(RecordKey::Instance(instance.clone()), Record::Step(record));
}

fn count(
    records: &mut dyn RecordsMut,
    node: NodeId,
    before: Option<StepState>,
    after: StepState,
    attempt: bool,
) {
    if before == Some(after) && !attempt {
        return;
    }
    with_summary(records, node, |summary| {
        if let Some(before) = before {
            let count = &mut summary.counts[before as usize];
            *count = count.saturating_sub(1);
        }
        let count = &mut summary.counts[after as usize];
        *count = count.saturating_add(1);
        summary.attempts = summary.attempts.saturating_add(u64::from(attempt));
    });
}

fn step(records: &mut dyn RecordsMut, event: &Event) {
    let Some(instance) = event.instance() else {
        return;
    };
    let Some(mut step) = state::step(records, instance).map(Cow::into_owned) else {
        return ended_unseen(records, event);
    };
    let before = step.state;
    match event {
        Event::AttemptRequested { .. } => step.state = StepState::Requested,
        Event::AttemptSpilled { to, .. } => {
            step.place.get_or_insert_default().pool.clone_from(to);
        }
        Event::AttemptLaunching {
            pool,
            agent,
            host,
            mates,
            ..
        } => {
            step.state = StepState::Launching;
            let place = step.place.get_or_insert_default();
            place.pool.clone_from(pool);
            place.agent.clone_from(agent);
            place.host.clone_from(host);
            place.mates.clone_from(mates);
        }
        Event::AttemptRunning { url, timer, at, .. } => {
            step.state = StepState::Running;
            step.started_at.get_or_insert(*at);
            step.timer = *timer;
            if url.is_some() {
                step.place.get_or_insert_default().url.clone_from(url);
            }
        }
        Event::AttemptUnreachable { timer, .. } => {
            step.state = StepState::Unreachable;
            step.timer = *timer;
        }
        Event::AttemptFailed {
            failure, retry_at, ..
        } => {
            step.state = StepState::Ready;
            step.phase = Phase::BackOff;
            step.timer = Some(*retry_at);
            let spent = &mut step.spent[failure.class as usize];
            *spent = spent.saturating_add(1);
            step.failure = Some(Box::new(failure.clone()));
            step.place = None;
            step.kill = None;
            step.started_at = None;
        }
        Event::TimerMoved { timer, .. } => step.timer = Some(*timer),
        Event::KillRequested { reason, .. } => step.kill = Some(*reason),
        Event::StepEnded {
            state,
            failure,
            outputs,
            at,
            ..
        } => {
            step.state = *state;
            step.phase = Phase::Ended;
            step.timer = None;
            step.ended_at = Some(*at);
            step.kill = None;
            if state.is_success() {
                step.failure = None;
            } else if let Some(failure) = failure {
                step.failure = Some(Box::new(failure.clone()));
            }
            let key = RecordKey::Outputs(instance.clone());
            if outputs.is_empty() {
                records.remove(&key);
            } else {
                records.put(key, Record::Outputs(outputs.clone()));
            }
            let live = RecordKey::Live(instance.clone());
            if records.get(&live).is_some() {
                records.remove(&live);
                with_status(records, |status| {
                    status.live = status.live.saturating_sub(1)
                });
            }
        }
        _ => {}
    }
    let after = step.state;
    records.put(RecordKey::Instance(instance.clone()), Record::Step(step));
    count(records, instance.node, Some(before), after, false);
}

/// A step may end without ever having begun: its artifacts' ids cannot be evaluated.
fn ended_unseen(records: &mut dyn RecordsMut, event: &Event) {
    if let Event::StepEnded { instance, at, .. } = event {
        begin(records, instance, None, *at);
        if state::step(records, instance).is_some() {
            step(records, event);
        }
    }
}

fn retry(records: &mut dyn RecordsMut, fresh: &[NodeId], reopened: &[NodeId]) {
    with_status(records, |status| {
        status.generation = status.generation.saturating_add(1);
        status.state = RunState::Running;
        status.finished_at = None;
        status.cancelling = None;
        status.flow = None;
        status.error = None;
    });
    let generation = generation(records);
    let mut resets = match records.get(&RecordKey::Resets).map(Cow::into_owned) {
        Some(Record::Resets(resets)) => resets,
        _ => Resets::default(),
    };
    for node in fresh {
        resets.0.entry(*node).or_default().fresh_below = generation;
        records.remove(&RecordKey::Summary(*node));
    }
    for node in reopened {
        resets.0.entry(*node).or_default().reopen_below = generation;
    }
    records.put(RecordKey::Resets, Record::Resets(resets));
}
