//! Serves the calls of [`calls`](crate::calls) on the shard's leader.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meson_actors::SendError;
use meson_consensus::{Consistency, MembershipError, Shard, Term};
use meson_core::ids::{Instance, NodeId, RunId, TaskId};
use meson_core::run::record::Phase;
use meson_core::run::{Input, Plan, Record, RecordKey, Records, RunHeader, RunState};
use meson_core::units::Timestamp;
use meson_protocol::api::{PoolView, RunEvent, RunSummary};
use tokio::time::Instant;

use crate::announce::Waiter;
use crate::broker::messages::{Explain, Look, Waiting};
use crate::calls::{RunFilter, RunPage, ShardCall, ShardReply};
use crate::error::{EngineError, similar};
use crate::events::show;
use crate::guardian::{Reload, Wake};
use crate::machine::{self, Command, Reader, Response};
use crate::node::Node;
use crate::views;
use crate::workflow::{Report, ReportError};

/// Pause before an actor that is being started is asked again.
const AGAIN: Duration = Duration::from_millis(10);
/// Entries of the index of runs that are read at a time.
const INDEX_PAGE: usize = 256;

pub(crate) async fn serve(
    node: &Node,
    shard: &Shard,
    term: Term,
    call: ShardCall,
) -> Result<ShardReply, EngineError> {
    match call {
        ShardCall::CreateRun { header, definition } => {
            create(node, shard, term, header, definition).await
        }
        ShardCall::Tell { run, input } => tell(node, shard, &run, input).await,
        ShardCall::Run { run } => {
            let reader = read(shard).await?;
            Ok(ShardReply::Run(Box::new(views::run(node, &reader, &run)?)))
        }
        ShardCall::Summary { run } => {
            let reader = read(shard).await?;
            Ok(ShardReply::Summary(Box::new(summary(&reader, &run)?)))
        }
        ShardCall::AwaitEnd { run, wait } => await_end(node, shard, term, &run, wait).await,
        ShardCall::Runs {
            after,
            limit,
            filter,
        } => {
            let reader = read(shard).await?;
            Ok(ShardReply::Runs(runs(
                node, &reader, after, limit, &filter,
            )?))
        }
        ShardCall::Iterations {
            run,
            step,
            after,
            limit,
        } => {
            let reader = read(shard).await?;
            let page = views::iterations(node, &reader, &run, &step, after.as_ref(), limit)?;
            Ok(ShardReply::Iterations(page))
        }
        ShardCall::Step {
            run,
            step,
            iteration,
        } => {
            let reader = read(shard).await?;
            let now = views::step_now(node, &reader, &run, &step, iteration)?;
            Ok(ShardReply::Step(Box::new(now)))
        }
        ShardCall::Unfinished { run, limit } => {
            let reader = read(shard).await?;
            let now = views::unfinished(node, &reader, &run, limit)?;
            Ok(ShardReply::Unfinished(Box::new(now)))
        }
        ShardCall::Events {
            run,
            after,
            limit,
            wait,
        } => Ok(ShardReply::Events(
            events(node, shard, term, &run, after, limit, wait).await?,
        )),
        ShardCall::Definition { run } => {
            let reader = read(shard).await?;
            let header = header(&reader, &run)?;
            let plan = reader.plan(&header.definition, node.definitions())?;
            Ok(ShardReply::Definition(Arc::clone(plan.definition())))
        }
        ShardCall::IsWanted { task } => {
            let reader = read(shard).await?;
            Ok(ShardReply::IsWanted(is_wanted(node, &reader, &task)?))
        }
        ShardCall::Waiting { pool, task } => {
            let waiting = waiting(node, &pool, task).await;
            Ok(ShardReply::Waiting(waiting.map(Box::new)))
        }
        ShardCall::Pool {
            pool,
            release_brake,
        } => Ok(ShardReply::Pool(look(node, &pool, release_brake).await)),
        ShardCall::PutArtifact(entry) => {
            done(
                shard,
                term,
                &Command::PutArtifact(entry),
                "register an artifact",
            )
            .await
        }
        ShardCall::Profiles { workflow } => Ok(ShardReply::Profiles(
            read(shard).await?.profiles(&workflow)?,
        )),
        ShardCall::Artifact { name, id } => Ok(ShardReply::Artifact(
            read(shard).await?.artifact(&name, &id)?.map(Box::new),
        )),
        ShardCall::Artifacts { name, after, limit } => {
            let reader = read(shard).await?;
            Ok(ShardReply::Artifacts(reader.artifacts(
                name.as_deref(),
                after.as_ref(),
                limit,
            )?))
        }
        ShardCall::PutBundlePiece {
            digest,
            bytes,
            pieces,
            index,
            piece,
        } => {
            let expected = digest.clone();
            let command = Command::PutBundlePiece {
                digest,
                bytes,
                pieces,
                index,
                piece,
            };
            match machine::propose(shard, term, &command).await? {
                Response::Done | Response::MorePieces { .. } => Ok(ShardReply::Done),
                Response::DigestMismatch { found } => {
                    Err(EngineError::DigestMismatch { expected, found })
                }
                other => Err(other.unexpected("store a bundle")),
            }
        }
        ShardCall::Bundle { digest } => Ok(ShardReply::Bundle(read(shard).await?.bundle(&digest)?)),
        ShardCall::HasBundle { digest } => Ok(ShardReply::HasBundle(
            read(shard).await?.has_bundle(&digest)?,
        )),
        ShardCall::RegisterNode { node, incarnation } => {
            let command = Command::RegisterNode { node, incarnation };
            match machine::propose(shard, term, &command).await? {
                Response::Done => Ok(ShardReply::Done),
                Response::NodeTaken => Err(EngineError::NodeTaken { node: node.get() }),
                other => Err(other.unexpected("register the node")),
            }
        }
        ShardCall::KnowsNode { node } => {
            Ok(ShardReply::KnowsNode(read(shard).await?.knows_node(node)?))
        }
        ShardCall::Transfer { to } => membership(shard.transfer(to).await, "hand over leadership"),
        ShardCall::AddVoter { node, member } => {
            membership(shard.add_voter(node, member).await, "let the node join")
        }
        ShardCall::RemoveMember { node } => membership(shard.remove(node).await, "remove the node"),
    }
}

fn membership(
    result: Result<(), MembershipError>,
    action: &'static str,
) -> Result<ShardReply, EngineError> {
    match result {
        Ok(()) => Ok(ShardReply::Done),
        Err(MembershipError::Refused { reason }) => Err(EngineError::BadInput {
            action,
            reason,
            remedy: "look at `mesonctl cluster status`".to_owned(),
        }),
        // Its leader, now or soon, can do it.
        Err(error) => Err(EngineError::Unavailable {
            action,
            reason: error.to_string(),
        }),
    }
}

async fn read(shard: &Shard) -> Result<Reader, EngineError> {
    let view = shard
        .read(Consistency::Linearizable)
        .await
        .map_err(|error| EngineError::Unavailable {
            action: "read the shard's state",
            reason: error.to_string(),
        })?;
    Ok(Reader::new(view))
}

async fn done(
    shard: &Shard,
    term: Term,
    command: &Command,
    action: &'static str,
) -> Result<ShardReply, EngineError> {
    match machine::propose(shard, term, command).await? {
        Response::Done => Ok(ShardReply::Done),
        other => Err(other.unexpected(action)),
    }
}

async fn create(
    node: &Node,
    shard: &Shard,
    term: Term,
    header: Box<RunHeader>,
    definition: Bytes,
) -> Result<ShardReply, EngineError> {
    let run = header.id.clone();
    let command = Command::CreateRun { header, definition };
    let created = machine::propose(shard, term, &command).await;
    if created.is_err()
        && let Some(guardian) = node.guardian(shard.id())
    {
        // It may be durable all the same, and this node may lead on. Where the guardian has no
        // room for this, it is because others have told it.
        let _ = guardian.try_send(Reload(term));
    }
    match created? {
        Response::Done => {
            node.metrics().runs_submitted.inc();
            // The run is durable. If its actor cannot be started now, the shard's next leader
            // does it: the index of active runs names it.
            wake(node, shard, &run).await;
            Ok(ShardReply::Done)
        }
        Response::Exists => {
            // Whoever created it may have been told that it cannot be known.
            wake(node, shard, &run).await;
            Ok(ShardReply::Done)
        }
        Response::Conflict => Err(EngineError::RunExists { run }),
        other => Err(other.unexpected("create the run")),
    }
}

/// The run's actor, once there is one. `None`: the shard's actors are not here now; whoever
/// starts them will find the run.
async fn wake(
    node: &Node,
    shard: &Shard,
    run: &RunId,
) -> Option<meson_actors::ChildRef<crate::workflow::WorkflowActor>> {
    let guardian = node.guardian(shard.id())?;
    loop {
        match guardian.send(Wake(run.clone())).await {
            Ok(child) => return child,
            Err(SendError::Busy { .. }) => tokio::time::sleep(AGAIN).await,
            Err(error) => {
                tracing::debug!(%run, %error, "the run's actor is started later");
                return None;
            }
        }
    }
}

/// Hands an input to the run's actor and waits for its commit. The caller's deadline bounds it.
async fn tell(
    node: &Node,
    shard: &Shard,
    run: &RunId,
    input: Input,
) -> Result<ShardReply, EngineError> {
    header(&read(shard).await?, run)?;
    loop {
        if let Some(actor) = wake(node, shard, run).await {
            match actor
                .send(Report {
                    input: input.clone(),
                })
                .await
            {
                Ok(Ok(())) => return Ok(ShardReply::Done),
                // The actor is gone or going; the next one may have to be told again.
                Ok(Err(ReportError::NotCommitted)) | Err(_) => {}
                Ok(Err(ReportError::Rejected(reason))) => {
                    return Err(EngineError::BadInput {
                        action: "tell the run",
                        reason,
                        remedy: "look at `mesonctl status RUN` for the run's state".to_owned(),
                    });
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
        if !shard.leadership().borrow().local {
            return Err(EngineError::Unavailable {
                action: "tell the run",
                reason: "its shard moved to another coordinator".to_owned(),
            });
        }
    }
}

pub(crate) fn header(reader: &Reader, run: &RunId) -> Result<RunHeader, EngineError> {
    reader.header(run)?.ok_or_else(|| EngineError::RunNotFound {
        run: run.to_string(),
    })
}

fn summary(reader: &Reader, run: &RunId) -> Result<RunSummary, EngineError> {
    let header = header(reader, run)?;
    let status = reader.status(run)?.unwrap_or_default();
    Ok(RunSummary {
        id: header.id,
        workflow: header.workflow,
        state: status.state.name().to_owned(),
        owner: header.owner,
        started_at: header.created_at.to_rfc3339(),
        finished_at: status.finished_at.map(Timestamp::to_rfc3339),
        shard: reader.shard().get(),
    })
}

fn runs(
    node: &Node,
    reader: &Reader,
    after: Option<(Timestamp, RunId)>,
    limit: usize,
    filter: &RunFilter,
) -> Result<RunPage, EngineError> {
    let scan = node.limits().page_scan;
    let mut page = RunPage {
        items: Vec::new(),
        searched_to: after,
    };
    let mut looked_at = 0;
    loop {
        let part = reader.run_index(page.searched_to.as_ref(), INDEX_PAGE)?;
        let whole = part.len() == INDEX_PAGE;
        for (at, run) in part {
            if page.items.len() == limit || looked_at == scan {
                return Ok(page);
            }
            looked_at += 1;
            let item = summary(reader, &run)?;
            page.searched_to = Some((at, run));
            let fits = filter
                .workflow
                .as_ref()
                .is_none_or(|workflow| *workflow == item.workflow)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|state| *state == item.state);
            if fits {
                page.items.push((at, item));
            }
        }
        if !whole {
            page.searched_to = None;
            return Ok(page);
        }
    }
}

async fn events(
    node: &Node,
    shard: &Shard,
    term: Term,
    run: &RunId,
    after: u64,
    limit: usize,
    wait: Duration,
) -> Result<Vec<RunEvent>, EngineError> {
    let wait = wait.min(node.timing().long_poll);
    // In line before the first look: what comes between look and wait is not missed.
    let mut waiter = node.announcements().wait_for(run);
    let until = Instant::now() + wait;
    loop {
        {
            let reader = read(shard).await?;
            let header = header(&reader, run)?;
            let entries = reader.events(run, after, limit)?;
            if !entries.is_empty() || wait.is_zero() {
                let plan = reader.plan(&header.definition, node.definitions())?;
                let definition = plan.definition();
                return Ok(entries
                    .iter()
                    .map(|entry| show(definition, entry))
                    .collect());
            }
        }
        if !news(&mut waiter, shard, term, until).await? {
            return Ok(Vec::new());
        }
    }
}

async fn await_end(
    node: &Node,
    shard: &Shard,
    term: Term,
    run: &RunId,
    wait: Duration,
) -> Result<ShardReply, EngineError> {
    let mut waiter = node.announcements().wait_for(run);
    let until = Instant::now() + wait.min(node.timing().long_poll);
    loop {
        let status = {
            let reader = read(shard).await?;
            header(&reader, run)?;
            reader.status(run)?.unwrap_or_default()
        };
        let over = status.state != RunState::Running;
        if over || !news(&mut waiter, shard, term, until).await? {
            return Ok(ShardReply::Ended {
                state: status.state,
                error: status.error,
            });
        }
    }
}

/// Waits for news of a run: `false` if there are none in time.
///
/// A run's moves are announced where it is led. When leadership moves, who waits here would wait in
/// vain, and has to ask the next leader.
async fn news(
    waiter: &mut Waiter,
    shard: &Shard,
    term: Term,
    until: Instant,
) -> Result<bool, EngineError> {
    let mut leadership = shard.leadership();
    tokio::select! {
        news = tokio::time::timeout_at(until, waiter.next()) => Ok(news.is_ok()),
        _ = leadership.wait_for(|now| !now.local || now.term != term) => {
            Err(EngineError::Unavailable {
                action: "wait for the run",
                reason: "its shard moved to another coordinator".to_owned(),
            })
        }
    }
}

/// An attempt is wanted while it is its step's newest one and has not ended.
fn is_wanted(node: &Node, reader: &Reader, task: &TaskId) -> Result<bool, EngineError> {
    let Some(header) = reader.header(&task.run)? else {
        return Ok(false);
    };
    let plan = reader.plan(&header.definition, node.definitions())?;
    let Some(step) = plan.step_named(&task.step) else {
        return Ok(false);
    };
    if task.rank > 0
        && plan
            .step(step)
            .is_none_or(|step| task.rank >= step.gang.tasks)
    {
        return Ok(false);
    }
    let instance = Instance {
        node: step,
        path: task.path.clone(),
    };
    let records = reader.records(&task.run);
    Ok(
        match records.get(&RecordKey::Instance(instance)).as_deref() {
            Some(Record::Step(step)) => {
                step.attempt == task.attempt && step.phase == Phase::Attempt && step.kill.is_none()
            }
            _ => false,
        },
    )
}

async fn waiting(node: &Node, pool: &str, task: TaskId) -> Option<Waiting> {
    let broker = node.brokers().current(pool)?;
    broker.explain.send(Explain { task }).await.ok().flatten()
}

async fn look(node: &Node, pool: &str, release_brake: bool) -> Option<PoolView> {
    let broker = node.brokers().current(pool)?;
    broker
        .look
        .send(Look { release_brake })
        .await
        .ok()
        .flatten()
}

/// The step of this name, or an error that names those that are close to it.
pub(crate) fn find_step(plan: &Plan, run: &RunId, step: &str) -> Result<NodeId, EngineError> {
    plan.step_named(step)
        .ok_or_else(|| EngineError::StepNotFound {
            run: run.clone(),
            step: step.to_owned(),
            similar: similar(
                step,
                plan.definition()
                    .steps()
                    .map(|(_, step)| step.name.as_str()),
            ),
        })
}
