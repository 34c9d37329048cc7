//! The HTTP server of the master: the scheduler API and the agents' link; what operators
//! ask is in `operator_http`. Texts and statuses are the real one's.

use super::decode;
use super::front::{Refusal, accepted, content_type, header_text, text};
use super::input::{Input, Reply, StreamId};
use super::operator_http;
use super::server::{Shared, Speech};
use crate::link::{AgentCall, CALL_PATH, Hello, STREAM_HEADER, STREAM_PATH};
use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures::Stream;
use meson_mesos::scheduler::{Call, Envelope};
use meson_mesos::types::FrameworkId;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Calls larger than this are refused with 413: 32 MiB.
const MAX_CALL_BYTES: usize = 32 << 20;
/// The header that names a scheduler's stream.
const MESOS_STREAM_ID: &str = "Mesos-Stream-Id";

pub(super) fn serve(
    listener: TcpListener,
    shared: Shared,
    tls: Option<ServerConfig>,
) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(shared.clone()))
            .app_data(web::PayloadConfig::new(MAX_CALL_BYTES))
            .service(post_only("/api/v1/scheduler").route(web::post().to(scheduler)))
            .service(post_only("/api/v1/scheduler/").route(web::post().to(scheduler)))
            .service(post_only("/master/api/v1/scheduler").route(web::post().to(scheduler)))
            .configure(operator_http::configure)
            .service(post_only("/teardown").route(web::post().to(teardown)))
            .service(post_only("/master/teardown").route(web::post().to(teardown)))
            .service(post_only(STREAM_PATH).route(web::post().to(agent_stream)))
            .service(post_only(CALL_PATH).route(web::post().to(agent_call)))
            .default_service(web::to(|| async {
                text(StatusCode::NOT_FOUND, "404 Not Found.")
            }))
    });
    let server = server
        .workers(1)
        // A scheduler that closes its side of the stream is gone.
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .shutdown_timeout(0)
        .disable_signals();
    let server = match tls {
        None => server.listen(listener)?,
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
    };
    Ok(server.run())
}

fn post_only(path: &str) -> actix_web::Resource {
    web::resource(path.to_owned()).default_service(web::to(|request: HttpRequest| async move {
        let method = request.method();
        let message = format!(
            "405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'."
        );
        text(StatusCode::METHOD_NOT_ALLOWED, message)
    }))
}

fn bad_request(message: impl Into<String>) -> HttpResponse {
    text(StatusCode::BAD_REQUEST, message)
}

async fn scheduler(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    scheduler_call(&request, &body, &shared).unwrap_or_else(HttpResponse::from)
}

/// In the order in which the real one looks at things.
fn scheduler_call(
    request: &HttpRequest,
    body: &[u8],
    shared: &Shared,
) -> Result<HttpResponse, Refusal> {
    let principal = shared.gate().principal(request)?;
    shared.gate().leads(request)?;
    let encoding = content_type(request)?;
    let envelope = decode::envelope(encoding, body, principal.as_deref()).map_err(bad_request)?;
    let stream = header_text(request, MESOS_STREAM_ID).map(StreamId::from);
    let Envelope { framework_id, body } = envelope;
    let Call::Subscribe(subscribe) = body else {
        let reply = shared.lock().handle(Input::Call {
            framework_id: framework_id.unwrap_or_default(),
            stream,
            call: Box::new(body),
        });
        return Ok(answer(reply));
    };
    let encoding = accepted(request)?;
    if stream.is_some() {
        return Err(
            bad_request("Subscribe calls should not include the 'Mesos-Stream-Id' header").into(),
        );
    }
    let mut core = shared.lock();
    let (stream, receiver) = core.open(Speech::Scheduler(encoding));
    core.handle(Input::Subscribe {
        stream: stream.clone(),
        framework_id,
        subscribe: Box::new(subscribe),
    });
    drop(core);
    let speech = Speech::Scheduler(encoding);
    Ok(stream_response(
        shared,
        MESOS_STREAM_ID,
        stream,
        receiver,
        speech,
    ))
}

fn answer(reply: Option<Reply>) -> HttpResponse {
    match reply {
        Some(Reply::Accepted) => HttpResponse::Accepted().finish(),
        Some(Reply::Ok) => HttpResponse::Ok().finish(),
        Some(Reply::Json(body)) => HttpResponse::Ok()
            .content_type("application/json")
            .body(body),
        Some(Reply::BadRequest(message)) => bad_request(message),
        Some(Reply::Forbidden(message)) => text(StatusCode::FORBIDDEN, message),
        Some(Reply::Conflict(message)) => text(StatusCode::CONFLICT, message),
        None => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the master gave no answer to a call",
        ),
    }
}

async fn agent_stream(
    request: HttpRequest,
    body: Bytes,
    shared: web::Data<Shared>,
) -> HttpResponse {
    if let Err(elsewhere) = shared.gate().leads(&request) {
        return elsewhere.into();
    }
    let hello: Hello = match serde_json::from_slice(&body) {
        Ok(hello) => hello,
        Err(error) => return bad_request(format!("not an agent's hello: {error}")),
    };
    let mut core = shared.lock();
    let (stream, receiver) = core.open(Speech::Agent);
    core.handle(Input::AgentHello {
        stream: stream.clone(),
        hello: Box::new(hello),
    });
    drop(core);
    stream_response(&shared, STREAM_HEADER, stream, receiver, Speech::Agent)
}

async fn agent_call(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    if let Err(elsewhere) = shared.gate().leads(&request) {
        return elsewhere.into();
    }
    let AgentCall {
        agent_id,
        stream_id,
        call,
    } = match serde_json::from_slice(&body) {
        Ok(call) => call,
        Err(error) => return bad_request(format!("not an agent's call: {error}")),
    };
    let input = Input::AgentCall {
        agent_id,
        stream: StreamId(stream_id),
        call: Box::new(call),
    };
    let reply = shared.lock().handle(input);
    answer(reply)
}

async fn teardown(request: HttpRequest, body: String, shared: web::Data<Shared>) -> HttpResponse {
    if let Err(elsewhere) = shared.gate().leads(&request) {
        return elsewhere.into();
    }
    let Some(framework_id) = body.trim().strip_prefix("frameworkId=") else {
        return bad_request("Missing 'frameworkId' query parameter");
    };
    let reply = shared.lock().handle(Input::Teardown {
        framework_id: FrameworkId::new(framework_id),
    });
    answer(reply)
}

fn stream_response(
    shared: &Shared,
    header: &'static str,
    stream: StreamId,
    receiver: mpsc::Receiver<Bytes>,
    speech: Speech,
) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(speech.media_type())
        .insert_header((header, stream.0.clone()))
        .streaming(Records {
            receiver,
            stream,
            speech,
            shared: shared.clone(),
        })
}

/// The body of a stream. Dropped when the reader is gone, or all is said.
struct Records {
    receiver: mpsc::Receiver<Bytes>,
    stream: StreamId,
    speech: Speech,
    shared: Shared,
}

impl Stream for Records {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver
            .poll_recv(context)
            .map(|record| record.map(Ok))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        if core.forget(&self.stream) {
            let stream = self.stream.clone();
            core.handle(match self.speech {
                Speech::Scheduler(_) => Input::SchedulerGone { stream },
                Speech::Agent => Input::AgentGone { stream },
            });
        }
    }
}
