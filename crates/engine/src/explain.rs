//! Why is this step not running? From a run's records, as far as they tell; what the broker
//! knows is added by the facade.

use meson_core::definition::{Definition, NodeKind, Step, StepKind};
use meson_core::ids::{Instance, IterPath, NodeId, TaskId};
use meson_core::run::record::{Group, GroupRecord, GroupState, Phase, StepRecord, Summary};
use meson_core::run::{
    Family, Plan, Record, RecordKey, Records, RunHeader, RunState, Scan, StepState,
};
use meson_protocol::api::IterationCounts;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;

/// Predecessors that are named.
const NAMED: usize = 3;
/// Instances that are looked at for one that waits for a place.
const LOOKED_AT: usize = 200;

/// A step, or one of its instances, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepNow {
    pub(crate) step: String,
    /// Which iteration, of a step in a loop.
    pub(crate) iteration: Option<String>,
    pub(crate) state: StepState,
    /// How its iterations stand, of a step in a loop.
    pub(crate) iterations: Option<IterationCounts>,
    /// One sentence.
    pub(crate) summary: String,
    /// Where to ask on, if the attempt waits in a queue.
    pub(crate) queued: Option<Queued>,
}

/// A run's steps that are not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunNow {
    pub(crate) state: RunState,
    /// In the order of the flow.
    pub(crate) steps: Vec<StepNow>,
    /// Further ones.
    pub(crate) more: usize,
}

/// An attempt that waits, and in which pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queued {
    pub(crate) pool: String,
    pub(crate) task: TaskId,
    /// The pool is out of reach: its broker can say no more than why.
    pub(crate) lost: bool,
    /// What it asks for and why, where that is not what its step states.
    pub(crate) asked: Option<String>,
}

/// The pool where an attempt is.
pub(crate) struct Pool {
    pub(crate) name: String,
    /// What people should know of it, if it is out of reach.
    pub(crate) lost: Option<String>,
}

/// Whether a for-each around the step is known to have fewer iterations than that.
fn is_beyond(plan: &Plan, records: &dyn Records, node: NodeId, path: &IterPath) -> bool {
    plan.loops(node)
        .iter()
        .zip(&path.0)
        .enumerate()
        .any(|(depth, (around, index))| {
            let at = Instance {
                node: *around,
                path: path.prefix(depth),
            };
            match records.get(&RecordKey::Instance(at)).as_deref() {
                Some(Record::Group(GroupRecord {
                    kind: Group::ForEach(progress),
                    ..
                })) => progress.total.is_some_and(|total| *index >= total),
                _ => false,
            }
        })
}

pub(crate) fn step_now(
    plan: &Plan,
    records: &dyn Records,
    header: &RunHeader,
    node: NodeId,
    iteration: Option<IterPath>,
    pool_of: &dyn Fn(&Step, &StepRecord) -> Pool,
) -> Result<StepNow, EngineError> {
    let Some(step) = plan.step(node) else {
        return Err(EngineError::Internal {
            action: "explain the step",
            reason: "its name leads to no step".to_owned(),
        });
    };
    let depth = plan.loops(node).len();
    let path = match iteration {
        Some(path) if path.0.len() == depth && !is_beyond(plan, records, node, &path) => path,
        Some(path) => {
            return Err(EngineError::IterationNotFound {
                run: header.id.clone(),
                step: step.name.clone(),
                iteration: path.to_string(),
            });
        }
        None => interesting(records, node).unwrap_or_default(),
    };
    let instance = Instance { node, path };
    let known = match records
        .get(&RecordKey::Instance(instance.clone()))
        .as_deref()
    {
        Some(Record::Step(record)) => Some(record.clone()),
        _ => None,
    };
    let prefix = if instance.path.0.is_empty() {
        String::new()
    } else {
        format!("iteration {}: ", instance.path)
    };
    let mut now = StepNow {
        step: step.name.clone(),
        iteration: (depth > 0).then(|| instance.path.to_string()),
        state: StepState::Waiting,
        iterations: (depth > 0).then(|| counts(records, node)),
        summary: String::new(),
        queued: None,
    };
    let Some(record) = known else {
        let (state, text) = not_entered(plan, records, &instance);
        now.summary = format!("{prefix}{text}");
        now.state = state;
        return Ok(now);
    };
    let mut text = entered(&record, &step.kind, !step.produces.is_empty());
    let asks = record.phase == Phase::Attempt
        && record.attempt.0 > 0
        && !matches!(step.kind, StepKind::Noop | StepKind::Workflow { .. });
    let pool = asks.then(|| pool_of(step, &record));
    if let Some(lost) = pool.as_ref().and_then(|pool| pool.lost.as_deref()) {
        text = format!("{text}; {lost}");
    }
    // The broker of a pool that is out of reach may still know why, if it can be asked.
    let waits = matches!(record.state, StepState::Requested | StepState::Ready);
    let task = TaskId {
        run: header.id.clone(),
        step: step.name.clone(),
        path: instance.path.clone(),
        attempt: record.attempt,
        rank: 0,
    };
    let asked = asked(&record);
    if let Some(asked) = asked.as_ref().filter(|_| !waits) {
        text.push_str(&format!("; {asked}"));
    }
    now.state = record.state;
    now.summary = format!("{prefix}{text}");
    now.queued = pool.filter(|_| waits).map(|pool| Queued {
        lost: pool.lost.is_some(),
        pool: pool.name,
        task,
        asked,
    });
    Ok(now)
}

/// The steps that are not done, each with what it waits for.
pub(crate) fn run_now(
    plan: &Plan,
    records: &dyn Records,
    header: &RunHeader,
    limit: usize,
    pool_of: &dyn Fn(&Step, &StepRecord) -> Pool,
) -> Result<RunNow, EngineError> {
    let state = match records.get(&RecordKey::Status).as_deref() {
        Some(Record::Status(status)) => status.state,
        _ => RunState::Running,
    };
    let mut now = RunNow {
        state,
        steps: Vec::new(),
        more: 0,
    };
    if state != RunState::Running {
        return Ok(now);
    }
    for (node, _) in plan.definition().steps() {
        let summary = summary(records, node);
        let begun: u32 = summary.counts.iter().sum();
        // Outside of loops, one instance is all there is.
        if begun > 0 && ended(&summary) == begun && plan.loops(node).is_empty() {
            continue;
        }
        if now.steps.len() >= limit {
            now.more += 1;
            continue;
        }
        let step = step_now(plan, records, header, node, None, pool_of)?;
        if !step.state.is_ended() {
            now.steps.push(step);
        }
    }
    Ok(now)
}

fn summary(records: &dyn Records, node: NodeId) -> Summary {
    match records.get(&RecordKey::Summary(node)).as_deref() {
        Some(Record::Summary(summary)) => (**summary).clone(),
        _ => Summary::default(),
    }
}

fn ended(summary: &Summary) -> u32 {
    StepState::ALL
        .into_iter()
        .filter(|state| state.is_ended())
        .map(|state| summary.count(state))
        .sum()
}

fn counts(records: &dyn Records, node: NodeId) -> IterationCounts {
    let summary = summary(records, node);
    let count = |states: &[StepState]| states.iter().map(|state| summary.count(*state)).sum();
    IterationCounts {
        begun: summary.counts.iter().sum(),
        waiting: count(&[
            StepState::Waiting,
            StepState::Activated,
            StepState::Ready,
            StepState::Requested,
        ]),
        running: count(&[
            StepState::Launching,
            StepState::Running,
            StepState::Unreachable,
        ]),
        ended: ended(&summary),
    }
}

/// The instance that says most about a step when none was asked for: one that waits for a place,
/// one that goes on, or else the first.
fn interesting(records: &dyn Records, node: NodeId) -> Option<IterPath> {
    let below = |family| Scan::below(family, node, IterPath::default());
    let live = records.scan(&below(Family::Live), None, LOOKED_AT);
    let waits = live.iter().find_map(|(key, _)| {
        let instance = key.instance()?;
        match records
            .get(&RecordKey::Instance(instance.clone()))
            .as_deref()
        {
            Some(Record::Step(record)) if record.state == StepState::Requested => {
                Some(instance.path.clone())
            }
            _ => None,
        }
    });
    if waits.is_some() {
        return waits;
    }
    let first = || {
        records
            .scan(&below(Family::Instance), None, 1)
            .into_iter()
            .next()
    };
    let (key, _) = live.into_iter().next().or_else(first)?;
    Some(key.instance()?.path.clone())
}

/// What a live attempt asks for, where that is not what its step states.
fn asked(record: &StepRecord) -> Option<String> {
    let asked = record.asked.as_deref()?;
    let cpus = asked.cpus.0 as f64 / 1000.0;
    (!record.state.is_ended()).then(|| {
        format!(
            "it asks for {} of memory and {cpus} cpus: {}",
            asked.mem, asked.why
        )
    })
}

/// A sentence about a step that was entered.
fn entered(record: &StepRecord, kind: &StepKind, produces: bool) -> String {
    let failure = record.failure.as_deref();
    let host = record
        .place
        .as_deref()
        .map_or("an agent", |place| place.host.as_str());
    if let (Phase::BackOff, Some(at), Some(failure)) = (record.phase, record.timer, failure) {
        return format!(
            "attempt {} failed ({}); the next one begins at {}",
            record.attempt.0,
            failure.message,
            at.to_rfc3339()
        );
    }
    if record.kill.is_some() && !record.state.is_ended() {
        return "it is being killed".to_owned();
    }
    match record.state {
        StepState::Ready if produces && record.phase == Phase::LookUp => {
            "it asks whether its artifacts exist".to_owned()
        }
        StepState::Waiting | StepState::Activated | StepState::Ready => {
            "it is about to be asked of the broker".to_owned()
        }
        StepState::Requested if matches!(kind, StepKind::Workflow { .. }) => {
            "its run is being started".to_owned()
        }
        StepState::Requested => "it waits in the broker's queue for a place".to_owned(),
        StepState::Launching => format!("it is being launched on {host}"),
        StepState::Running => match record.started_at {
            Some(at) => format!("it runs on {host} since {}", at.to_rfc3339()),
            None => format!("it runs on {host}"),
        },
        StepState::Unreachable => match record.timer {
            Some(at) => format!(
                "{host} is out of sight; it may come back, and is given up at {}",
                at.to_rfc3339()
            ),
            None => format!("{host} is out of sight; it may come back"),
        },
        StepState::Succeeded => "it is done".to_owned(),
        StepState::Memoized => "its artifacts existed, so it was not run".to_owned(),
        StepState::Skipped => "it is on a branch that was not taken".to_owned(),
        StepState::Killed => "it was ended because nobody wants it any more".to_owned(),
        StepState::UpstreamFailed => "something before it failed".to_owned(),
        StepState::Failed | StepState::TimedOut => match failure {
            Some(failure) => format!("it failed: {}", failure.message),
            None => "it failed".to_owned(),
        },
    }
}

/// A sentence about a step that was not entered: what stands before it.
fn not_entered(plan: &Plan, records: &dyn Records, instance: &Instance) -> (StepState, String) {
    if let Some(Record::Status(status)) = records.get(&RecordKey::Status).as_deref() {
        if status.state != RunState::Running {
            let text = format!("the run {} before it was reached", status.state.name());
            return (StepState::UpstreamFailed, text);
        }
        if status.cancelling.is_some() {
            return (StepState::Waiting, "the run is being cancelled".to_owned());
        }
    }
    let definition = plan.definition();
    let mut child = instance.node;
    while let Some(parent) = definition.node(child).parent {
        let depth = plan.loops(parent).len();
        let at = Instance {
            node: parent,
            path: instance.path.prefix(depth),
        };
        let group = match records.get(&RecordKey::Instance(at)).as_deref() {
            Some(Record::Group(group)) => Some(group.clone()),
            _ => None,
        };
        if let Some(group) = group {
            return behind(
                plan,
                records,
                &definition.node(parent).kind,
                &group,
                child,
                instance,
            );
        }
        child = parent;
    }
    (StepState::Waiting, "the run has not begun".to_owned())
}

/// Why `child` of an entered node was not entered.
fn behind(
    plan: &Plan,
    records: &dyn Records,
    kind: &NodeKind,
    group: &GroupRecord,
    child: NodeId,
    instance: &Instance,
) -> (StepState, String) {
    let waiting = |text: String| (StepState::Waiting, text);
    if let GroupState::Failed(reason) = &group.state {
        return (
            StepState::UpstreamFailed,
            format!("something before it failed: {reason}"),
        );
    }
    match (kind, &group.kind) {
        (NodeKind::Sequence(children), _) => {
            let before = children.iter().position(|node| *node == child).unwrap_or(0);
            // The last one before it that was entered is the one that goes on.
            let on = children[..before]
                .iter()
                .rev()
                .find(|node| was_entered(plan, records, **node, instance));
            match on.or(children[..before].last()) {
                Some(node) => {
                    let (some_done, names) = unfinished(plan.definition(), records, *node);
                    let state = if some_done {
                        StepState::Activated
                    } else {
                        StepState::Waiting
                    };
                    if names.is_empty() {
                        (state, "it waits for what is before it".to_owned())
                    } else {
                        (state, format!("it waits for {}", names.join(", ")))
                    }
                }
                None => waiting("it is about to begin".to_owned()),
            }
        }
        (NodeKind::ForEach { max_parallel, .. }, Group::ForEach(progress)) => {
            let total = progress.total.unwrap_or(0);
            match max_parallel {
                Some(limit) => waiting(format!(
                    "it waits for its turn: {} of {total} iterations are done, {} run, \
                     max_parallel is {limit}",
                    progress.succeeded + progress.failed,
                    progress.running
                )),
                None => waiting(format!(
                    "its turn is near: {} of {total} iterations were started",
                    progress.next
                )),
            }
        }
        (NodeKind::When { .. }, Group::When { taken: Some(_) }) => (
            StepState::Skipped,
            "it is on a branch that was not taken".to_owned(),
        ),
        _ => waiting("it is about to begin".to_owned()),
    }
}

fn was_entered(plan: &Plan, records: &dyn Records, node: NodeId, near: &Instance) -> bool {
    let path = near.path.prefix(plan.loops(node).len());
    records
        .get(&RecordKey::Instance(Instance { node, path }))
        .is_some()
}

/// The steps below a node that are not done, the first few; and whether others are.
fn unfinished(definition: &Definition, records: &dyn Records, node: NodeId) -> (bool, Vec<String>) {
    let mut some_done = false;
    let mut names = Vec::new();
    for leaf in leaves(definition, node) {
        let Some(step) = definition.step(leaf) else {
            continue;
        };
        let summary = summary(records, leaf);
        let total: u32 = summary.counts.iter().sum();
        let ended = ended(&summary);
        if total > 0 && ended == total {
            some_done = true;
            continue;
        }
        let busy = StepState::ALL
            .into_iter()
            .rev()
            .find(|state| !state.is_ended() && summary.count(*state) > 0)
            .unwrap_or(StepState::Waiting);
        names.push(format!("{} ({})", step.name, busy.name()));
    }
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        names.truncate(NAMED);
        names.push(format!("and {more} more"));
    }
    (some_done, names)
}

fn leaves(definition: &Definition, node: NodeId) -> Vec<NodeId> {
    let mut found = Vec::new();
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        let children = definition.node(node).kind.children();
        if children.is_empty() {
            found.push(node);
        }
        open.extend(children.into_iter().rev());
    }
    found
}
