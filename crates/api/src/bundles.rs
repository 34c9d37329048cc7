//! Bundles: scripts, queries and applications of a workflow, by their digest.

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpResponse, http::StatusCode};

use crate::MAX_BUNDLE_BYTES;
use crate::error::Refusal;
use crate::server::ApiOptions;

pub(crate) async fn put(
    state: Data<ApiOptions>,
    digest: Path<String>,
    body: Payload,
) -> Result<HttpResponse, Refusal> {
    let bytes = read(body, MAX_BUNDLE_BYTES, "a bundle").await?;
    state.engine.put_bundle(&digest, bytes).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(crate) async fn get(
    state: Data<ApiOptions>,
    digest: Path<String>,
) -> Result<HttpResponse, Refusal> {
    let bytes = state.engine.bundle(&digest).await?;
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .body(bytes))
}

/// Reads a body of at most `limit` bytes.
pub(crate) async fn read(body: Payload, limit: usize, what: &str) -> Result<bytes::Bytes, Refusal> {
    match body.to_bytes_limited(limit).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(Refusal::bad_request(
            format!("the body broke off: {error}"),
            "send it again",
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("{what} is above the limit of {limit} bytes"),
            "leave out what steps can fetch as artifacts",
        )),
    }
}
