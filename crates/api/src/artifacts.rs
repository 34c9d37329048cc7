//! Artifacts: the registry, and what is behind it.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path, Query};
use serde::Deserialize;

use crate::error::Refusal;
use crate::runs::coverage;
use crate::server::ApiOptions;

#[derive(Deserialize)]
pub(crate) struct ListQuery {
    name: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    partial: bool,
}

pub(crate) async fn list(
    state: Data<ApiOptions>,
    query: Query<ListQuery>,
) -> Result<HttpResponse, Refusal> {
    let page = state
        .engine
        .artifacts(
            query.name.as_deref(),
            query.after.as_deref(),
            query.limit.unwrap_or(100),
            coverage(query.partial),
        )
        .await?;
    Ok(HttpResponse::Ok().json(page))
}

pub(crate) async fn show(
    state: Data<ApiOptions>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(state.engine.artifact(&path.0, &path.1).await?))
}

/// The stored blob: a file as it is, a directory as the tar that it is packed in (the header
/// `Meson-Kind` says which). Whoever reads it checks its digest, which is in `Meson-Digest`.
pub(crate) async fn content(
    state: Data<ApiOptions>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let artifact = state.engine.artifact(&path.0, &path.1).await?;
    let digest = artifact
        .digest
        .parse()
        .map_err(|error: meson_artifacts::ParseDigestError| {
            Refusal::store("read an artifact", &error)
        })?;
    let stream = state.blobs.stream(&digest);
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header(("Meson-Digest", artifact.digest))
        .insert_header((
            "Meson-Kind",
            if artifact.directory {
                "directory"
            } else {
                "file"
            },
        ))
        .streaming(stream))
}
