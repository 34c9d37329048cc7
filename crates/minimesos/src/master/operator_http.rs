//! The operator's side of the HTTP server: the operator API, maintenance by the older
//! endpoints, and pages for people.

use super::input::{Input, Reply};
use super::maintenance::{MachineId, Schedule};
use super::operator::{self, OperatorCall, Rejection, View};
use super::server::Shared;
use super::state::Master;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use std::io::Write;

/// Answers below this are not worth compressing (`GZIP_MINIMUM_BODY_LENGTH` of libprocess).
const GZIP_MINIMUM: usize = 1024;

/// Adds the operator's pages and calls.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    for prefix in ["", "/master"] {
        let path = |rest: &str| format!("{prefix}{rest}");
        config
            .service(web::resource(path("/api/v1")).route(web::post().to(call)))
            .service(
                web::resource(path("/maintenance/schedule"))
                    .route(web::get().to(show))
                    .route(web::post().to(plan)),
            )
            .route(&path("/machine/down"), web::post().to(down))
            .route(&path("/machine/up"), web::post().to(up))
            .route(&path("/health"), web::get().to(HttpResponse::Ok));
        for page in [
            "/maintenance/status",
            "/state",
            "/slaves",
            "/frameworks",
            "/tasks",
        ] {
            config.route(&path(page), web::get().to(show));
        }
    }
    config.route("/version", web::get().to(show));
}

fn text(status: StatusCode, message: String) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(message)
}

/// JSON, compressed when it is big and the client understands that.
fn json_answer(request: &HttpRequest, body: String) -> HttpResponse {
    let accepts = request
        .headers()
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(accepts_gzip);
    let mut answer = HttpResponse::Ok();
    answer.content_type("application/json");
    if !accepts || body.len() < GZIP_MINIMUM {
        return answer.body(body);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder
        .write_all(body.as_bytes())
        .and_then(|()| encoder.finish());
    match packed {
        Ok(packed) => answer
            .insert_header((header::CONTENT_ENCODING, "gzip"))
            .body(packed),
        Err(_) => answer.body(body),
    }
}

/// Whether an `Accept-Encoding` names gzip, and not with `q=0`.
fn accepts_gzip(text: &str) -> bool {
    text.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = matches!(parts.next(), Some("gzip" | "*"));
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .and_then(|q| q.parse::<f32>().ok())
                .is_some_and(|q| q <= 0.0)
        });
        named && !refused
    })
}

fn carry_out(request: &HttpRequest, shared: &Shared, call: OperatorCall) -> HttpResponse {
    if let Err(elsewhere) = shared.gate().leads(request) {
        return elsewhere.into();
    }
    let reply = shared.lock().handle(Input::Operator(Box::new(call)));
    match reply {
        Some(Reply::Json(body)) => json_answer(request, body),
        Some(Reply::BadRequest(message)) => text(StatusCode::BAD_REQUEST, message),
        Some(_) => HttpResponse::Ok().finish(),
        None => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the master gave no answer to a call".to_owned(),
        ),
    }
}

async fn call(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    match operator::decode(&body) {
        Ok(call) => carry_out(&request, &shared, call),
        Err(Rejection::Bad(message)) => text(StatusCode::BAD_REQUEST, message),
        Err(Rejection::NotDone(message)) => text(StatusCode::NOT_IMPLEMENTED, message),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("Failed to parse body into JSON: {error}"))
}

async fn plan(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    match parse::<Schedule>(&body) {
        Ok(schedule) => carry_out(&request, &shared, OperatorCall::Schedule(schedule)),
        Err(message) => text(StatusCode::BAD_REQUEST, message),
    }
}

async fn down(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    match parse::<Vec<MachineId>>(&body) {
        Ok(machines) => carry_out(&request, &shared, OperatorCall::MachinesDown(machines)),
        Err(message) => text(StatusCode::BAD_REQUEST, message),
    }
}

async fn up(request: HttpRequest, body: Bytes, shared: web::Data<Shared>) -> HttpResponse {
    match parse::<Vec<MachineId>>(&body) {
        Ok(machines) => carry_out(&request, &shared, OperatorCall::MachinesUp(machines)),
        Err(message) => text(StatusCode::BAD_REQUEST, message),
    }
}

/// What a page of the older endpoints shows; its path is without `/master`.
pub(super) fn page(master: &Master, path: &str) -> Option<Json> {
    // The part of the answer to a question, as the older endpoints give it.
    let part = |view: View, place: &str| master.view(view).pointer(place).cloned();
    // The lists of `/state` that have endpoints of their own.
    let lists = |names: &[&str]| {
        let summary = master.summary();
        let lists = names
            .iter()
            .map(|name| ((*name).to_owned(), summary[*name].clone()));
        Json::Object(lists.collect())
    };
    match path {
        "/maintenance/schedule" => part(
            View::MaintenanceSchedule,
            "/get_maintenance_schedule/schedule",
        ),
        "/maintenance/status" => part(View::MaintenanceStatus, "/get_maintenance_status/status"),
        "/state" => Some(master.summary()),
        "/slaves" => Some(lists(&["slaves", "recovered_slaves"])),
        "/frameworks" => Some(lists(&["frameworks", "completed_frameworks"])),
        "/tasks" => {
            let summary = master.summary();
            let of = |framework: &Json| {
                ["tasks", "unreachable_tasks", "completed_tasks"]
                    .iter()
                    .filter_map(|list| framework[*list].as_array())
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let frameworks = summary["frameworks"].as_array();
            let tasks: Vec<Json> = frameworks.into_iter().flatten().flat_map(of).collect();
            Some(json!({ "tasks": tasks }))
        }
        "/version" => {
            let version = &master.info().version;
            Some(json!({"version": version, "minimesos": env!("CARGO_PKG_VERSION")}))
        }
        "/health" => Some(json!({})),
        _ => None,
    }
}

async fn show(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let path = request.path();
    let path = path.strip_prefix("/master").unwrap_or(path);
    // What is asked about the process, and not about the cluster.
    let own = matches!(path, "/version" | "/health");
    if !own && let Err(elsewhere) = shared.gate().leads(&request) {
        return elsewhere.into();
    }
    let page = page(&shared.lock().master, path);
    match page {
        Some(page) => json_answer(&request, page.to_string()),
        None => text(StatusCode::NOT_FOUND, "404 Not Found.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        for (header, yes) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("*", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(header), yes, "{header}");
        }
    }
}
