//! Runs: submit, look, cancel, retry, explain.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use meson_core::ids::RunId;
use meson_engine::Coverage;
use meson_protocol::api::{CancelRun, DrawRunId, RetryRun, RunAccepted, SubmitRun};
use serde::Deserialize;

use crate::error::Refusal;
use crate::server::ApiOptions;

type Answer = Result<HttpResponse, Refusal>;

/// Items of a page when the caller does not say.
const DEFAULT_PAGE: usize = 50;

pub(crate) fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|error: meson_core::ids::IdError| {
        Refusal::bad_request(error.to_string(), "run ids are what `mesonctl run` prints")
    })
}

pub(crate) async fn submit(state: Data<ApiOptions>, body: Json<SubmitRun>) -> Answer {
    let accepted = state.engine.submit(body.into_inner()).await?;
    Ok(HttpResponse::Created().json(accepted))
}

pub(crate) async fn draw_id(state: Data<ApiOptions>, query: Query<DrawRunId>) -> Answer {
    let DrawRunId {
        workflow,
        region,
        replication,
    } = query.into_inner();
    let id = state.engine.draw_id(&workflow, &region, replication)?;
    Ok(HttpResponse::Ok().json(RunAccepted { id }))
}

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
    workflow: Option<String>,
    state: Option<String>,
    #[serde(default)]
    partial: bool,
}

/// What a list holds when `partial` was, or was not, asked for.
pub(crate) fn coverage(partial: bool) -> Coverage {
    if partial {
        Coverage::Reachable
    } else {
        Coverage::Whole
    }
}

pub(crate) async fn list(state: Data<ApiOptions>, query: Query<ListQuery>) -> Answer {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    let page = state
        .engine
        .runs(
            query.after.as_deref(),
            limit,
            query.workflow.as_deref(),
            query.state.as_deref(),
            coverage(query.partial),
        )
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

pub(crate) async fn show(state: Data<ApiOptions>, run: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(state.engine.run(&run_id(&run)?).await?))
}

pub(crate) async fn definition(state: Data<ApiOptions>, run: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(state.engine.definition(&run_id(&run)?).await?))
}

pub(crate) async fn cancel(
    state: Data<ApiOptions>,
    run: Path<String>,
    body: Json<CancelRun>,
) -> Answer {
    state.engine.cancel(&run_id(&run)?, &body.reason).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({})))
}

pub(crate) async fn retry(
    state: Data<ApiOptions>,
    run: Path<String>,
    body: Json<RetryRun>,
) -> Answer {
    state
        .engine
        .retry(&run_id(&run)?, body.from.as_deref())
        .await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({})))
}

pub(crate) async fn profile(state: Data<ApiOptions>, workflow: Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(state.engine.profile(&workflow).await?))
}

#[derive(Deserialize)]
pub(crate) struct EventsQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
    /// Seconds to wait for news if there are none.
    #[serde(default)]
    wait: u64,
}

pub(crate) async fn events(
    state: Data<ApiOptions>,
    run: Path<String>,
    query: Query<EventsQuery>,
) -> Answer {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    let events = state
        .engine
        .events(
            &run_id(&run)?,
            query.after,
            limit,
            Duration::from_secs(query.wait),
        )
        .await?;
    Ok(HttpResponse::Ok().json(events))
}

#[derive(Deserialize)]
pub(crate) struct PageQuery {
    after: Option<String>,
    limit: Option<usize>,
}

pub(crate) async fn iterations(
    state: Data<ApiOptions>,
    path: Path<(String, String)>,
    query: Query<PageQuery>,
) -> Answer {
    let (run, step) = path.into_inner();
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    let page = state
        .engine
        .iterations(&run_id(&run)?, &step, query.after.as_deref(), limit)
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

#[derive(Deserialize)]
pub(crate) struct ExplainQuery {
    iteration: Option<String>,
}

pub(crate) async fn explain(
    state: Data<ApiOptions>,
    path: Path<(String, String)>,
    query: Query<ExplainQuery>,
) -> Answer {
    let (run, step) = path.into_inner();
    let explanation = state
        .engine
        .explain(&run_id(&run)?, &step, query.iteration.as_deref())
        .await?;
    Ok(HttpResponse::Ok().json(explanation))
}

pub(crate) async fn explain_run(state: Data<ApiOptions>, run: Path<String>) -> Answer {
    let explanation = state.engine.explain_run(&run_id(&run)?).await?;
    Ok(HttpResponse::Ok().json(explanation))
}
