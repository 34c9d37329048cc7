//! The agent's HTTP API for executors: `POST /api/v1/executor`.
//!
//! A call is checked here as far as its text goes, with the real agent's statuses
//! and words; whether its framework and executor exist is for the state machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures::Stream;
use meson_mesos::executor::{Call, Envelope};
use meson_mesos::types::{ExecutorId, FrameworkId, StatusSource, TaskState, TaskStatus};
use tokio::sync::{mpsc, oneshot};

use super::state::{Answer, Input, RequestId};

/// The longest call that is read, in bytes. Results travel in it.
const CALL_LIMIT: usize = 16 << 20;
/// Events that may wait for a slow executor before its stream is cut.
const STREAM_EVENTS: usize = 16_384;

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    calls: mpsc::Sender<Incoming>,
    inputs: mpsc::Sender<Input>,
    next: Arc<AtomicU64>,
}

/// An executor's call on its way to the state machine.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) request: RequestId,
    pub(crate) framework_id: FrameworkId,
    pub(crate) executor_id: ExecutorId,
    pub(crate) call: Call,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Answer>,
    /// Where the events go, of a SUBSCRIBE.
    pub(crate) events: Option<mpsc::Sender<Bytes>>,
}

impl Api {
    /// The API of one agent.
    pub(crate) fn new(calls: mpsc::Sender<Incoming>, inputs: mpsc::Sender<Input>) -> Self {
        Self {
            calls,
            inputs,
            next: Arc::new(AtomicU64::new(1)),
        }
    }

    /// Adds the routes to an actix application.
    pub(crate) fn configure(self, config: &mut web::ServiceConfig) {
        config
            .app_data(web::Data::new(self))
            .app_data(web::PayloadConfig::new(CALL_LIMIT));
        for path in [
            "/api/v1/executor",
            "/api/v1/executor/",
            "/slave(1)/api/v1/executor",
        ] {
            config.route(path, web::post().to(executor));
        }
        for path in ["/health", "/slave(1)/health"] {
            config.route(path, web::get().to(HttpResponse::Ok));
        }
    }
}

/// An answer that is not what the executor hoped for.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    text: String,
}

impl From<Refusal> for HttpResponse {
    fn from(refusal: Refusal) -> Self {
        Self::build(refusal.status)
            .content_type("text/plain; charset=utf-8")
            .body(refusal.text)
    }
}

fn text(status: StatusCode, text: impl Into<String>) -> Refusal {
    Refusal {
        status,
        text: text.into(),
    }
}

fn bad(reason: impl Into<String>) -> Refusal {
    text(StatusCode::BAD_REQUEST, reason)
}

/// What the headers and the body say, or why they are refused.
fn read(request: &HttpRequest, body: &[u8]) -> Result<(FrameworkId, ExecutorId, Call), Refusal> {
    let content_type = request.headers().get(CONTENT_TYPE);
    match content_type.map(|value| value.as_bytes()) {
        None => return Err(bad("Expecting 'Content-Type' to be present")),
        Some(b"application/json") => {}
        // The real agent also speaks protobuf; this one does not.
        Some(_) => {
            return Err(text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Expecting 'Content-Type' of application/json",
            ));
        }
    }
    let (framework_id, executor_id, call) = parse(body).map_err(bad)?;
    if matches!(call, Call::Subscribe(_)) {
        let accepted = request.headers().get(ACCEPT).is_none_or(|accept| {
            accept.to_str().is_ok_and(|accept| {
                accept.split(',').any(|kind| {
                    let kind = kind.split(';').next().unwrap_or_default().trim();
                    matches!(kind, "application/json" | "application/*" | "*/*")
                })
            })
        });
        if !accepted {
            return Err(text(
                StatusCode::NOT_ACCEPTABLE,
                "Expecting 'Accept' to allow 'application/json'",
            ));
        }
    }
    Ok((framework_id, executor_id, call))
}

/// What a body says, or the text of the 400 that it gets.
pub(super) fn parse(body: &[u8]) -> Result<(FrameworkId, ExecutorId, Call), String> {
    let json: serde_json::Value = serde_json::from_slice(body)
        .map_err(|error| format!("Failed to parse body into JSON: {error}"))?;
    // The real agent names all required fields that are missing at once.
    let missing: Vec<&str> = ["executor_id", "framework_id"]
        .into_iter()
        .filter(|field| json.get(field).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "Failed to convert JSON into Call protobuf: Missing required fields: {}",
            missing.join(", ")
        ));
    }
    let invalid = |reason: String| format!("Failed to validate Executor::Call: {reason}");
    let envelope: Envelope = serde_json::from_value(json).map_err(|error| {
        let reason = error.to_string();
        if reason.starts_with("Expecting '") {
            invalid(reason)
        } else {
            format!("Failed to convert JSON into Call protobuf: {reason}")
        }
    })?;
    let (Some(framework_id), Some(executor_id)) = (envelope.framework_id, envelope.executor_id)
    else {
        return Err(
            "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id"
                .to_owned(),
        );
    };
    match &envelope.body {
        Call::Update(update) => validate(&update.status, &executor_id).map_err(invalid)?,
        Call::Subscribe(subscribe) => {
            for update in &subscribe.unacknowledged_updates {
                validate(&update.status, &executor_id).map_err(invalid)?;
            }
        }
        Call::Unknown(_) => return Err(invalid("Expecting 'type' to be present".to_owned())),
        _ => {}
    }
    Ok((framework_id, executor_id, envelope.body))
}

/// The rules for an executor's update (`src/slave/validation.cpp` of Mesos).
fn validate(status: &TaskStatus, executor_id: &ExecutorId) -> Result<(), String> {
    let Some(uuid) = &status.uuid else {
        return Err("Expecting 'uuid' to be present".to_owned());
    };
    if uuid.len() != 16 {
        return Err("Not a valid UUID".to_owned());
    }
    if let Some(other) = &status.executor_id
        && other != executor_id
    {
        return Err(format!(
            "ExecutorID in Call: {executor_id} does not match ExecutorID in TaskStatus: {other}"
        ));
    }
    if let Some(source) = &status.source
        && *source != StatusSource::Executor
    {
        return Err(format!(
            "Received Call from executor {executor_id} with invalid source, expecting 'SOURCE_EXECUTOR'"
        ));
    }
    if status.state == TaskState::Staging {
        return Err(format!(
            "Received TASK_STAGING from executor {executor_id} which is not allowed"
        ));
    }
    Ok(())
}

async fn executor(request: HttpRequest, body: Bytes, api: web::Data<Api>) -> HttpResponse {
    let (framework_id, executor_id, call) = match read(&request, &body) {
        Ok(call) => call,
        Err(refusal) => return refusal.into(),
    };
    let (answer, answered) = oneshot::channel();
    let (events, stream) = if matches!(call, Call::Subscribe(_)) {
        let (sender, receiver) = mpsc::channel(STREAM_EVENTS);
        (Some(sender), Some(receiver))
    } else {
        (None, None)
    };
    let id = RequestId(api.next.fetch_add(1, Ordering::Relaxed));
    let incoming = Incoming {
        request: id,
        framework_id,
        executor_id,
        call,
        answer,
        events,
    };
    let stopping = || {
        HttpResponse::from(text(
            StatusCode::SERVICE_UNAVAILABLE,
            "Agent is shutting down",
        ))
    };
    if api.calls.send(incoming).await.is_err() {
        return stopping();
    }
    match (answered.await, stream) {
        (Ok(Answer::Streaming), Some(events)) => HttpResponse::Ok()
            .content_type("application/json")
            .streaming(Events {
                events,
                stream: id,
                inputs: api.inputs.clone(),
            }),
        (Ok(Answer::Accepted), _) => HttpResponse::Accepted().finish(),
        (Ok(Answer::Refused(reason)), _) => bad(reason).into(),
        (Ok(Answer::Forbidden(reason)), _) => text(StatusCode::FORBIDDEN, reason).into(),
        _ => stopping(),
    }
}

/// The body of a subscription: framed events. Its end is reported, whoever ends it.
struct Events {
    events: mpsc::Receiver<Bytes>,
    stream: RequestId,
    inputs: mpsc::Sender<Input>,
}

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.events.poll_recv(context).map(|event| event.map(Ok))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let inputs = self.inputs.clone();
        let ended = Input::StreamEnded(self.stream);
        if let Err(mpsc::error::TrySendError::Full(ended)) = inputs.try_send(ended)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = inputs.send(ended).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn refused(content_type: Option<&str>, body: &str) -> (u16, String) {
        let mut request = TestRequest::post();
        if let Some(content_type) = content_type {
            request = request.insert_header((CONTENT_TYPE, content_type));
        }
        let refusal = read(&request.to_http_request(), body.as_bytes()).unwrap_err();
        (refusal.status.as_u16(), refusal.text)
    }

    const JSON: Option<&str> = Some("application/json");

    #[test]
    fn bad_calls_are_refused_in_the_words_of_a_real_agent() {
        let (status, body) = refused(JSON, "{not json");
        assert_eq!(status, 400);
        assert!(
            body.starts_with("Failed to parse body into JSON: "),
            "{body}"
        );

        let (status, body) = refused(JSON, r#"{"type":"UPDATE"}"#);
        assert_eq!(status, 400);
        assert_eq!(
            body,
            "Failed to convert JSON into Call protobuf: Missing required fields: executor_id, framework_id"
        );

        let head = r#""framework_id":{"value":"f"},"executor_id":{"value":"e"}"#;
        for (call, reason) in [
            (
                r#""type":"UPDATE","update":{"status":{"task_id":{"value":"x"},"state":"TASK_RUNNING"}}"#,
                "Expecting 'uuid' to be present",
            ),
            (
                r#""type":"UPDATE","update":{"status":{"task_id":{"value":"x"},"state":"TASK_RUNNING","uuid":"eA=="}}"#,
                "Not a valid UUID",
            ),
            (r#""type":"UPDATE""#, "Expecting 'update' to be present"),
            (r#""type":"NONSENSE""#, "Expecting 'type' to be present"),
        ] {
            let (status, body) = refused(JSON, &format!("{{{head},{call}}}"));
            assert_eq!(status, 400);
            assert_eq!(body, format!("Failed to validate Executor::Call: {reason}"));
        }
    }

    #[test]
    fn only_json_is_understood() {
        assert_eq!(refused(Some("text/plain"), "x").0, 415);
        let charset = Some("application/json; charset=utf-8");
        assert_eq!(refused(charset, "{}").0, 415);
        assert_eq!(
            refused(None, "{}"),
            (400, "Expecting 'Content-Type' to be present".to_owned())
        );
    }
}
