//! What steps wrote: sent by their executors with the attempt's token, read by people.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use meson_artifacts::LogKey;
use meson_core::ids::{RunId, TaskId};
use meson_protocol::api::LogView;
use serde::Deserialize;

use crate::MAX_LOG_BYTES;
use crate::bundles::read as read_body;
use crate::error::Refusal;
use crate::runs::run_id;
use crate::server::ApiOptions;

#[derive(Deserialize)]
pub(crate) struct OffsetQuery {
    #[serde(default)]
    offset: u64,
    limit: Option<usize>,
}

fn key(task: &str, stream: &str) -> Result<(TaskId, LogKey), Refusal> {
    let task: TaskId = task
        .parse()
        .map_err(|error: meson_core::ids::IdError| Refusal::bad_request(error.to_string(), ""))?;
    if !matches!(stream, "stdout" | "stderr") {
        return Err(Refusal::bad_request(
            format!("{stream:?} is no stream"),
            "use stdout or stderr",
        ));
    }
    let key = LogKey {
        run: task.run.to_string(),
        step: task.step.clone(),
        iteration: task.path.to_string(),
        attempt: task.attempt.0,
        rank: task.rank,
        stream: stream.to_owned(),
    };
    Ok((task, key))
}

pub(crate) async fn append(
    state: Data<ApiOptions>,
    request: HttpRequest,
    path: Path<(String, String)>,
    query: Query<OffsetQuery>,
    body: Payload,
) -> Result<HttpResponse, Refusal> {
    let (task, key) = key(&path.0, &path.1)?;
    let token = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if !token.is_some_and(|token| state.engine.verify_task_token(&task, token)) {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "wrong_token",
            format!("the token is not that of {task}"),
            "only the attempt's own executor writes its log",
        ));
    }
    let bytes = read_body(body, MAX_LOG_BYTES, "a piece of a log").await?;
    state
        .logs
        .append(&key, query.offset, bytes)
        .await
        .map_err(|error| Refusal::store("store a piece of a log", &error))?;
    Ok(HttpResponse::NoContent().finish())
}

/// Answers with the bytes from `offset` on, and where to go on in the header `Meson-Next-Offset`.
pub(crate) async fn read(
    state: Data<ApiOptions>,
    path: Path<(String, String)>,
    query: Query<OffsetQuery>,
) -> Result<HttpResponse, Refusal> {
    let (_, key) = key(&path.0, &path.1)?;
    let limit = query.limit.unwrap_or(MAX_LOG_BYTES).min(MAX_LOG_BYTES);
    let chunk = state
        .logs
        .read(&key, query.offset, limit)
        .await
        .map_err(|error| Refusal::store("read a log", &error))?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header(("Meson-Next-Offset", chunk.next_offset.to_string()))
        .body(chunk.bytes))
}

/// Which logs a run has.
pub(crate) async fn list(
    state: Data<ApiOptions>,
    run: Path<String>,
) -> Result<HttpResponse, Refusal> {
    let run = run_id(&run)?;
    let logs = state
        .logs
        .list(run.as_str())
        .await
        .map_err(|error| Refusal::store("list logs", &error))?;
    let logs: Vec<LogView> = logs
        .into_iter()
        .map(|log| LogView {
            task: task_id(&run, &log.key),
            step: log.key.step,
            iteration: log.key.iteration,
            attempt: log.key.attempt,
            stream: log.key.stream,
            bytes: log.end_offset,
        })
        .collect();
    Ok(HttpResponse::Ok().json(logs))
}

fn task_id(run: &RunId, key: &LogKey) -> String {
    let iteration = if key.iteration.is_empty() {
        String::new()
    } else {
        format!(".{}", key.iteration)
    };
    let rank = match key.rank {
        0 => String::new(),
        rank => format!("-{rank}"),
    };
    format!("{run}.{}{iteration}.{}{rank}", key.step, key.attempt)
}
