//! The cluster, and this coordinator's own state.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::server::ApiOptions;

pub(crate) async fn show(state: Data<ApiOptions>) -> HttpResponse {
    HttpResponse::Ok().json(state.engine.cluster())
}

/// 200 while this coordinator serves, 503 with what is wrong while it does not.
pub(crate) async fn health(state: Data<ApiOptions>) -> HttpResponse {
    let health = state.engine.health();
    let mut answer = if health.ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    answer.json(serde_json::json!({ "ready": health.ready, "problems": health.problems }))
}

/// Prometheus's text format.
pub(crate) async fn metrics(state: Data<ApiOptions>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(state.engine.metrics_text())
}
