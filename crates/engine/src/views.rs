//! What people see of a run, read from its records: the core's views, with what is only known
//! here and now (progress, hosts) beside them.

use meson_core::definition::Step;
use meson_core::ids::{Attempt, Instance, IterPath, RunId, TaskId};
use meson_core::run::record::StepRecord;
use meson_core::run::view;
pub use meson_core::run::view::{IterationPage, IterationView};
use meson_core::run::{Family, Plan, Record, RecordKey, Records, Scan};
use meson_core::units::Timestamp;
use meson_protocol::api::{LiveAttempt, RunDetail};

use crate::error::EngineError;
use crate::explain::{self, Pool, RunNow, StepNow};
use crate::local::{find_step, header};
use crate::machine::Reader;
use crate::node::Node;
use crate::progress::Progress;

/// Live attempts that are shown with a run; the rest is found among its iterations.
const LIVE_SHOWN: usize = 100;

/// A run as people see it.
pub(crate) fn run(node: &Node, reader: &Reader, run: &RunId) -> Result<RunDetail, EngineError> {
    let header = header(reader, run)?;
    let plan = reader.plan(&header.definition, node.definitions())?;
    let records = reader.records(run);
    let view = view::run(&plan, &records).ok_or_else(|| EngineError::RunNotFound {
        run: run.to_string(),
    })?;
    let live = records
        .scan(&Scan::all(Family::Live), None, LIVE_SHOWN)
        .into_iter()
        .filter_map(|(key, _)| {
            let instance = key.instance()?;
            let name = plan.step(instance.node)?.name.clone();
            live_attempt(node, run, name, instance, &records)
        })
        .collect();
    let shard = reader.shard();
    Ok(RunDetail {
        run: view,
        live,
        shard: shard.get(),
        coordinator: node.consensus().node_id().get(),
    })
}

fn live_attempt(
    node: &Node,
    run: &RunId,
    step: String,
    instance: &Instance,
    records: &dyn Records,
) -> Option<LiveAttempt> {
    let record = records.get(&RecordKey::Instance(instance.clone()))?;
    let Record::Step(record) = &*record else {
        return None;
    };
    let task = TaskId {
        run: run.clone(),
        step: step.clone(),
        path: instance.path.clone(),
        attempt: record.attempt,
        rank: 0,
    };
    let Progress {
        percent,
        message,
        url,
        host,
        usage,
    } = node.progress().get(&task).unwrap_or_default();
    let Attempt(attempt) = record.attempt;
    let place = record.place.as_deref();
    Some(LiveAttempt {
        step,
        iteration: iteration(&instance.path),
        attempt,
        state: record.state.name().to_owned(),
        started_at: record.started_at.map(Timestamp::to_rfc3339),
        host: place
            .map(|place| place.host.clone())
            .filter(|host| !host.is_empty())
            .or(host),
        mates: place
            .into_iter()
            .flat_map(|place| &place.mates)
            .map(|mate| mate.host.clone())
            .collect(),
        pool: place
            .map(|place| place.pool.clone())
            .filter(|pool| !pool.is_empty()),
        url: place.and_then(|place| place.url.clone()).or(url),
        percent,
        message,
        usage,
    })
}

/// A step's iterations after one of them.
pub(crate) fn iterations(
    node: &Node,
    reader: &Reader,
    run: &RunId,
    step: &str,
    after: Option<&IterPath>,
    limit: usize,
) -> Result<IterationPage, EngineError> {
    let header = header(reader, run)?;
    let plan = reader.plan(&header.definition, node.definitions())?;
    let at = find_step(&plan, run, step)?;
    Ok(view::iterations(
        &plan,
        &reader.records(run),
        at,
        after,
        limit,
    ))
}

/// A step, or one of its iterations, with what it waits for.
pub(crate) fn step_now(
    node: &Node,
    reader: &Reader,
    run: &RunId,
    step: &str,
    iteration: Option<IterPath>,
) -> Result<StepNow, EngineError> {
    let header = header(reader, run)?;
    let plan = reader.plan(&header.definition, node.definitions())?;
    let at = find_step(&plan, run, step)?;
    let pool_of = pool_of(node, run, &plan);
    explain::step_now(
        &plan,
        &reader.records(run),
        &header,
        at,
        iteration,
        &pool_of,
    )
}

/// In which pool an attempt of the run is.
fn pool_of(node: &Node, run: &RunId, plan: &Plan) -> impl Fn(&Step, &StepRecord) -> Pool {
    move |step: &Step, record: &StepRecord| {
        let mut route = node.route_of(run, &step.pool, plan.regions_of(step));
        let place = record.place.as_deref();
        route.be_in(place.map_or("", |place| place.pool.as_str()));
        let launched = place.is_some_and(|place| !place.agent.is_empty());
        Pool {
            lost: route.explain(&node.sights(&route), node.timing().spill, launched),
            name: route.pool().to_owned(),
        }
    }
}

/// The steps of a run that are not done, each with what it waits for.
pub(crate) fn unfinished(
    node: &Node,
    reader: &Reader,
    run: &RunId,
    limit: usize,
) -> Result<RunNow, EngineError> {
    let header = header(reader, run)?;
    let plan = reader.plan(&header.definition, node.definitions())?;
    let pool_of = pool_of(node, run, &plan);
    explain::run_now(&plan, &reader.records(run), &header, limit, &pool_of)
}

/// A path as the API writes it; none outside of loops.
pub(crate) fn iteration(path: &IterPath) -> Option<String> {
    (!path.0.is_empty()).then(|| path.to_string())
}
