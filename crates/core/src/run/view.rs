//! A run as people and programs see it. Field names are stable: scripts read them.
//!
//! What a run looks like costs as much as its definition is long: how far loops are is read
//! from counters. The iterations of a step come in pages of their own.

mod absent;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::key::{Family, RecordKey, Scan};
use super::plan::Plan;
use super::record::{Group, GroupState, Place, Record, StepRecord, StepState, Summary};
use super::records::Records;
use super::scope::Scope;
use super::state::{State, header, samples, status, summary};
use crate::definition::NodeKind;
use crate::ids::{Instance, IterPath, NodeId};
use crate::sizing::{Samples, Sketch, Usage};

/// Most iterations in one page.
pub const MAX_PAGE: usize = 1_000;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// Its id.
    pub id: String,
    /// Its workflow's name.
    pub workflow: String,
    /// `running`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// Its parameters.
    pub params: BTreeMap<String, Value>,
    /// Who pays.
    pub owner: String,
    /// RFC 3339: when it began, or was accepted if it did not yet.
    pub started_at: String,
    /// RFC 3339; none while it runs.
    pub finished_at: Option<String>,
    /// Why it failed or was cancelled.
    pub error: Option<String>,
    /// Whether it is being cancelled.
    pub cancelling: bool,
    /// How often it was retried.
    pub retries: u32,
    /// Its steps, in the order of the flow.
    pub steps: Vec<StepView>,
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// What people read.
    pub title: String,
    /// The DSL function that made it, or its kind.
    pub kind: String,
    /// One of the names of [`StepState`]. In a for-each: what matters most of all iterations.
    pub state: String,
    /// How many attempts there were, of all iterations.
    pub attempts: u64,
    /// Failures that each budget paid for, outside of a for-each.
    pub retries_used: RetriesUsed,
    /// What it left; empty for a step in a for-each, whose iterations have their own.
    pub outputs: BTreeMap<String, Value>,
    /// Why it failed last.
    pub error: Option<String>,
    /// For a step in a for-each.
    pub iterations: Option<Iterations>,
    /// RFC 3339: when the newest attempt began to run.
    pub started_at: Option<String>,
    /// RFC 3339: when it ended.
    pub finished_at: Option<String>,
    /// Where the newest attempt runs or ran.
    pub host: Option<String>,
    /// Where the further tasks of a gang do, by rank from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mates: Vec<String>,
    /// The pool that it was placed in, or went to because its first choice could not be reached.
    pub pool: Option<String>,
    /// Where to look at its process.
    pub url: Option<String>,
    /// The round of the innermost repeat around it, from 1.
    pub round: Option<u32>,
    /// What the newest attempt used; in a for-each what those used that succeeded.
    #[serde(default)]
    pub usage: Option<UsageView>,
    /// What the newest attempt asks for, where that is not what the step states.
    #[serde(default)]
    pub asked: Option<AskedView>,
}

/// What attempts used. Of one attempt all three of a spread are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageView {
    /// Of how many attempts.
    pub attempts: u64,
    /// Peak memory, in bytes.
    pub peak_rss_bytes: Spread,
    /// Processor time, in milliseconds.
    pub cpu_ms: Spread,
    /// Time, in milliseconds.
    pub wall_ms: Spread,
}

/// From the least to the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: u64,
    /// In the middle, within three percent.
    pub median: u64,
    /// The most.
    pub max: u64,
}

/// What an attempt asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskedView {
    /// Cores, in thousandths. (A run is flattened into what goes around it, and fractions do not
    /// survive that where numbers are kept to their last digit.)
    pub cpu_millis: u64,
    /// Memory.
    pub mem_bytes: u64,
    /// Why it is not what the step states.
    pub why: String,
}

impl UsageView {
    fn one(usage: &Usage) -> Self {
        let spread = |value| Spread {
            min: value,
            median: value,
            max: value,
        };
        Self {
            attempts: 1,
            peak_rss_bytes: spread(usage.peak_rss_bytes),
            cpu_ms: spread(usage.cpu_ms),
            wall_ms: spread(usage.wall_ms),
        }
    }

    fn of(samples: &Samples) -> Option<Self> {
        let spread = |sketch: &Sketch| Spread {
            min: sketch.min(),
            median: sketch.percentile(50),
            max: sketch.max(),
        };
        (samples.count() > 0).then(|| Self {
            attempts: samples.count(),
            peak_rss_bytes: spread(&samples.memory),
            cpu_ms: spread(&samples.cpu),
            wall_ms: spread(&samples.wall),
        })
    }
}

impl AskedView {
    fn of(record: &StepRecord) -> Option<Self> {
        let asked = record.asked.as_deref()?;
        Some(Self {
            cpu_millis: asked.cpus.0,
            mem_bytes: asked.mem.0,
            why: asked.why.to_string(),
        })
    }
}

/// Failures that were tried again, by who paid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriesUsed {
    /// The step's own.
    pub step: u16,
    /// The platform's.
    pub platform: u16,
    /// Time-outs.
    pub timeout: u16,
    /// The platform's, for want of memory.
    #[serde(default)]
    pub out_of_memory: u16,
}

/// How far the iterations of a step are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iterations {
    /// How many there are, as far as is known yet.
    pub total: u64,
    /// Done: succeeded, memoized or skipped.
    pub succeeded: u64,
    /// Failed, timed out or killed.
    pub failed: u64,
    /// With something going on.
    pub running: u64,
}

/// One iteration of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IterationView {
    /// Its path: `2-17`.
    pub iteration: String,
    /// The values of the loop variables.
    pub items: BTreeMap<String, Value>,
    /// One of the names of [`StepState`].
    pub state: String,
    /// How many attempts there were.
    pub attempts: u32,
    /// What it left.
    pub outputs: BTreeMap<String, Value>,
    /// Why it failed last.
    pub error: Option<String>,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: Option<String>,
    /// Where it runs or ran.
    pub host: Option<String>,
    /// Where the further tasks of a gang do, by rank from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mates: Vec<String>,
    /// The pool that it was placed in.
    pub pool: Option<String>,
    /// Where to look at its process.
    pub url: Option<String>,
    /// What the newest attempt used, once it has ended.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// What the newest attempt asks for, where that is not what the step states.
    #[serde(default)]
    pub asked: Option<AskedView>,
}

/// A part of the iterations of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct IterationPage {
    /// Those that were begun, in order.
    pub items: Vec<IterationView>,
    /// The path to ask for what comes after; none on the last page.
    pub next: Option<String>,
}

/// The run of these records; none if they are those of no run.
pub fn run(plan: &Plan, records: &dyn Records) -> Option<RunView> {
    let (header, status) = (header(records)?, status(records)?);
    let state = State::new(plan, records);
    Some(RunView {
        id: header.id.to_string(),
        workflow: header.workflow.clone(),
        state: status.state.name().to_owned(),
        params: header.params.clone(),
        owner: header.owner.clone(),
        started_at: status.started_at.unwrap_or(header.created_at).to_rfc3339(),
        finished_at: status.finished_at.map(|at| at.to_rfc3339()),
        error: status.error.clone(),
        cancelling: status.cancelling.is_some() && status.finished_at.is_none(),
        retries: status.generation,
        steps: in_order(plan)
            .into_iter()
            .filter_map(|node| view_step(&state, node))
            .collect(),
    })
}

/// One step of the run.
pub fn step(plan: &Plan, records: &dyn Records, node: NodeId) -> Option<StepView> {
    view_step(&State::new(plan, records), node)
}

/// Iterations of a step, from behind `after`, at most `limit` and [`MAX_PAGE`].
pub fn iterations(
    plan: &Plan,
    records: &dyn Records,
    node: NodeId,
    after: Option<&IterPath>,
    limit: usize,
) -> IterationPage {
    let limit = limit.clamp(1, MAX_PAGE);
    let after = after.map(|path| {
        RecordKey::Instance(Instance {
            node,
            path: path.clone(),
        })
    });
    let scan = Scan::below(Family::Instance, node, IterPath::default());
    let page = records.scan(&scan, after.as_ref(), limit);
    let full = page.len() == limit;
    let items: Vec<IterationView> = page
        .into_iter()
        .filter_map(|(key, record)| match record {
            Record::Step(record) => Some(view_iteration(plan, records, key.instance()?, &record)),
            _ => None,
        })
        .collect();
    IterationPage {
        next: items
            .last()
            .filter(|_| full)
            .map(|last| last.iteration.clone()),
        items,
    }
}

/// The steps in the order in which they stand in the flow.
fn in_order(plan: &Plan) -> Vec<NodeId> {
    let mut order = Vec::new();
    let mut ahead = vec![plan.root().node];
    while let Some(node) = ahead.pop() {
        if plan.step(node).is_some() {
            order.push(node);
        }
        ahead.extend(plan.kind(node).children().into_iter().rev());
    }
    order
}

fn view_step(state: &State<'_>, node: NodeId) -> Option<StepView> {
    let step = state.plan.step(node)?;
    let (path, round, iterated) = newest_path(state, node);
    let kind = if step.flavour.is_empty() {
        step.kind.name()
    } else {
        &step.flavour
    };
    let mut view = StepView {
        name: step.name.clone(),
        title: if step.title.is_empty() {
            step.name.clone()
        } else {
            step.title.clone()
        },
        kind: kind.to_owned(),
        state: String::new(),
        attempts: 0,
        retries_used: RetriesUsed::default(),
        outputs: BTreeMap::new(),
        error: None,
        iterations: None,
        started_at: None,
        finished_at: None,
        host: None,
        mates: Vec::new(),
        pool: None,
        url: None,
        round: round.map(|round| round.saturating_add(1)),
        usage: None,
        asked: None,
    };
    if iterated {
        let summary = summary(state.records, node);
        let iterations = roll_up(state, node, &summary);
        view.state = rolled_state(state, node, &path, &summary, iterations)
            .name()
            .to_owned();
        view.attempts = summary.attempts;
        view.iterations = Some(iterations);
        view.usage = UsageView::of(&samples(state.records, node));
        return Some(view);
    }
    let instance = Instance { node, path };
    match state.step(&instance) {
        None => view.state = absent::state_of(state, &instance).name().to_owned(),
        Some(record) => {
            view.state = record.state.name().to_owned();
            view.attempts = u64::from(record.attempt.0);
            let [step, platform, timeout, out_of_memory] = record.spent;
            view.retries_used = RetriesUsed {
                step,
                platform,
                timeout,
                out_of_memory,
            };
            view.usage = record.usage.as_deref().map(UsageView::one);
            view.asked = AskedView::of(&record);
            view.outputs = outputs(state.records, &instance);
            view.error = record
                .failure
                .as_ref()
                .map(|failure| failure.message.clone());
            view.started_at = record.started_at.map(|at| at.to_rfc3339());
            view.finished_at = record.ended_at.map(|at| at.to_rfc3339());
            view.host = place(record.place.as_deref(), |place| &place.host);
            view.mates = mates(record.place.as_deref());
            view.pool = place(record.place.as_deref(), |place| &place.pool);
            view.url = record.place.as_ref().and_then(|place| place.url.clone());
        }
    }
    Some(view)
}

/// The path as far as there is only one, the newest round of the innermost repeat on it, and
/// whether the rest is the iterations of a for-each.
fn newest_path(state: &State<'_>, node: NodeId) -> (IterPath, Option<u32>, bool) {
    let mut path = IterPath::default();
    let mut newest = None;
    for around in state.plan.loops(node) {
        if matches!(state.plan.kind(*around), NodeKind::ForEach { .. }) {
            return (path, newest, true);
        }
        let round = state.round(&Instance {
            node: *around,
            path: path.clone(),
        });
        newest = round.or(newest);
        path = path.child(round.unwrap_or(0));
    }
    (path, newest, false)
}

fn roll_up(state: &State<'_>, node: NodeId, summary: &Summary) -> Iterations {
    let sum = |states: &[StepState]| {
        states
            .iter()
            .map(|state| u64::from(summary.count(*state)))
            .sum::<u64>()
    };
    let known: u64 = summary.counts.iter().map(|count| u64::from(*count)).sum();
    let loops = state.plan.loops(node);
    // The innermost for-each knows how many there will be, unless they come in rounds of their own.
    let expected = match loops.last() {
        Some(innermost) if matches!(state.plan.kind(*innermost), NodeKind::ForEach { .. }) => {
            self::summary(state.records, *innermost).expected
        }
        _ => 0,
    };
    Iterations {
        total: expected.max(known),
        succeeded: sum(&[
            StepState::Succeeded,
            StepState::Memoized,
            StepState::Skipped,
        ]),
        failed: sum(&[
            StepState::Failed,
            StepState::TimedOut,
            StepState::Killed,
            StepState::UpstreamFailed,
        ]),
        running: sum(&[
            StepState::Ready,
            StepState::Requested,
            StepState::Launching,
            StepState::Running,
            StepState::Unreachable,
        ]),
    }
}

/// What matters most: something runs, else something failed, else how most ended.
fn rolled_state(
    state: &State<'_>,
    node: NodeId,
    path: &IterPath,
    summary: &Summary,
    iterations: Iterations,
) -> StepState {
    let order = [
        StepState::Running,
        StepState::Unreachable,
        StepState::Launching,
        StepState::Requested,
        StepState::Ready,
    ];
    if let Some(active) = order.into_iter().find(|state| summary.count(*state) > 0) {
        return active;
    }
    // The outermost for-each around it tells whether there is more to come.
    let around = state.plan.loops(node).get(path.0.len()).copied();
    let group = around.and_then(|node| {
        state.group(&Instance {
            node,
            path: path.clone(),
        })
    });
    let under_way = group.is_some_and(|group| {
        group.generation == state.generation()
            && group.state == GroupState::Active
            && matches!(group.kind, Group::ForEach(_))
    });
    let begun = iterations.succeeded + iterations.failed > 0;
    if under_way && iterations.succeeded + iterations.failed < iterations.total {
        return if begun {
            StepState::Running
        } else {
            StepState::Waiting
        };
    }
    let failures = [StepState::Failed, StepState::TimedOut, StepState::Killed];
    let ends = [
        StepState::Succeeded,
        StepState::Memoized,
        StepState::Skipped,
    ];
    if let Some(failed) = failures.into_iter().find(|state| summary.count(*state) > 0)
        && (iterations.succeeded == 0 || !loop_succeeded(state, node, path))
    {
        return failed;
    }
    match ends.into_iter().find(|state| summary.count(*state) > 0) {
        Some(end) => end,
        None if begun => StepState::Failed,
        None => around.map_or(StepState::Waiting, |around| {
            absent::inside(
                state,
                &Instance {
                    node: around,
                    path: path.clone(),
                },
            )
        }),
    }
}

fn loop_succeeded(state: &State<'_>, node: NodeId, path: &IterPath) -> bool {
    state
        .plan
        .loops(node)
        .get(path.0.len())
        .and_then(|around| {
            state.group(&Instance {
                node: *around,
                path: path.clone(),
            })
        })
        .is_some_and(|group| group.state == GroupState::Succeeded)
}

fn outputs(records: &dyn Records, instance: &Instance) -> BTreeMap<String, Value> {
    match records
        .get(&RecordKey::Outputs(instance.clone()))
        .as_deref()
    {
        Some(Record::Outputs(outputs)) => outputs.clone(),
        _ => BTreeMap::new(),
    }
}

fn view_iteration(
    plan: &Plan,
    records: &dyn Records,
    instance: &Instance,
    record: &StepRecord,
) -> IterationView {
    let items = Scope::new(plan, records, instance)
        .items()
        .unwrap_or_default();
    IterationView {
        iteration: instance.path.to_string(),
        items: items.into_iter().collect(),
        state: record.state.name().to_owned(),
        attempts: record.attempt.0,
        outputs: outputs(records, instance),
        error: record
            .failure
            .as_ref()
            .map(|failure| failure.message.clone()),
        started_at: record.started_at.map(|at| at.to_rfc3339()),
        finished_at: record.ended_at.map(|at| at.to_rfc3339()),
        host: place(record.place.as_deref(), |place| &place.host),
        mates: mates(record.place.as_deref()),
        pool: place(record.place.as_deref(), |place| &place.pool),
        url: record.place.as_ref().and_then(|place| place.url.clone()),
        usage: record.usage.as_deref().copied(),
        asked: AskedView::of(record),
    }
}

/// The hosts of a gang's further tasks.
fn mates(place: Option<&Place>) -> Vec<String> {
    let mates = place.into_iter().flat_map(|place| &place.mates);
    mates.map(|mate| mate.host.clone()).collect()
}

/// What is known of a place; nothing if it is empty.
fn place(place: Option<&Place>, part: impl FnOnce(&Place) -> &String) -> Option<String> {
    place.map(part).filter(|part| !part.is_empty()).cloned()
}
