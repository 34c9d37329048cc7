//! The cluster, and this coordinator's own state.

use actix_web::HttpResponse;
use actix_web::web::Data;

use crate::error::Refusal;
use crate::server::ApiOptions;

pub(crate) async fn show(state: Data<ApiOptions>) -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(state.engine.cluster().await?))
}

/// 200 while this coordinator serves, 503 when it gave up.
pub(crate) async fn health(state: Data<ApiOptions>) -> Result<HttpResponse, Refusal> {
    state.engine.health()?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "state": "up" })))
}

/// Prometheus's text format.
pub(crate) async fn metrics(state: Data<ApiOptions>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(state.engine.metrics_text())
}
