//! The HTTP server of the master: the scheduler API and the agents' link; what operators
//! ask is in `operator_http`. Texts and statuses are the real one's.

use super::decode;
use super::input::{Input, Reply, StreamId};
use super::operator_http;
use super::server::Shared;
use crate::link::{AgentCall, CALL_PATH, Hello, STREAM_HEADER, STREAM_PATH};
use actix_web::dev::Server;
use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use futures::Stream;
use meson_mesos::scheduler::{Call, Envelope};
use meson_mesos::types::FrameworkId;
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

pub(super) fn serve(listener: TcpListener, shared: Shared) -> io::Result<Server> {
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
        .disable_signals()
        .listen(listener)?;
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

fn text(status: StatusCode, message: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(message.into())
}

fn bad_request(message: impl Into<String>) -> HttpResponse {
    text(StatusCode::BAD_REQUEST, message)
}

fn header_text<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// What is wrong before the body is looked at, as status and text.
fn check_headers(request: &HttpRequest) -> Result<(), (StatusCode, &'static str)> {
    match header_text(request, header::CONTENT_TYPE.as_str()) {
        None => {
            return Err((
                StatusCode::BAD_REQUEST,
                "Expecting 'Content-Type' to be present",
            ));
        }
        // Exactly this: the real one refuses a charset too.
        Some("application/json") => {}
        Some("application/x-protobuf") => {
            return Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "minimesos speaks application/json only",
            ));
        }
        Some(_) => {
            let message = "Expecting 'Content-Type' of application/json or application/x-protobuf";
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    }
    let accepts = |accept: &str| {
        let kinds = accept
            .split(',')
            .map(|kind| kind.split(';').next().unwrap_or_default().trim());
        kinds
            .into_iter()
            .any(|kind| matches!(kind, "application/json" | "application/*" | "*/*"))
    };
    match header_text(request, header::ACCEPT.as_str()) {
        Some(accept) if !accepts(accept) => Err((
            StatusCode::NOT_ACCEPTABLE,
            "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
        )),
        _ => Ok(()),
    }
}

async fn scheduler(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    if let Err((status, message)) = check_headers(&request) {
        return text(status, message);
    }
    let envelope = match decode::call(&body) {
        Ok(envelope) => envelope,
        Err(message) => return bad_request(message),
    };
    let stream = header_text(&request, MESOS_STREAM_ID).map(StreamId::from);
    match envelope {
        Envelope {
            body: Call::Subscribe(_),
            ..
        } if stream.is_some() => {
            bad_request("Subscribe calls should not include the 'Mesos-Stream-Id' header")
        }
        Envelope {
            framework_id,
            body: Call::Subscribe(subscribe),
        } => {
            let mut core = shared.lock();
            let (stream, receiver) = core.open();
            core.handle(Input::Subscribe {
                stream: stream.clone(),
                framework_id,
                subscribe: Box::new(subscribe),
            });
            drop(core);
            stream_response(&shared, MESOS_STREAM_ID, stream, receiver, Peer::Scheduler)
        }
        Envelope { framework_id, body } => {
            let framework_id = framework_id.unwrap_or_default();
            let reply = shared.lock().handle(Input::Call {
                framework_id,
                stream,
                call: Box::new(body),
            });
            answer(reply)
        }
    }
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

async fn agent_stream(body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    let hello: Hello = match serde_json::from_slice(&body) {
        Ok(hello) => hello,
        Err(error) => return bad_request(format!("not an agent's hello: {error}")),
    };
    let mut core = shared.lock();
    let (stream, receiver) = core.open();
    core.handle(Input::AgentHello {
        stream: stream.clone(),
        hello: Box::new(hello),
    });
    drop(core);
    stream_response(&shared, STREAM_HEADER, stream, receiver, Peer::Agent)
}

async fn agent_call(body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
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

async fn teardown(body: String, shared: web::Data<Shared>) -> HttpResponse {
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
    peer: Peer,
) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((header, stream.0.clone()))
        .streaming(Records {
            receiver,
            stream,
            peer,
            shared: shared.clone(),
        })
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Scheduler,
    Agent,
}

/// The body of a stream. Dropped when the reader is gone, or all is said.
struct Records {
    receiver: mpsc::Receiver<Bytes>,
    stream: StreamId,
    peer: Peer,
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
            core.handle(match self.peer {
                Peer::Scheduler => Input::SchedulerGone { stream },
                Peer::Agent => Input::AgentGone { stream },
            });
        }
    }
}
