//! Pools of resources, as their brokers see them.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};

use crate::error::Refusal;
use crate::server::ApiOptions;

pub(crate) async fn list(state: Data<ApiOptions>) -> HttpResponse {
    HttpResponse::Ok().json(state.engine.pools().await)
}

/// Lets launching go on that has stopped by itself.
pub(crate) async fn release(
    state: Data<ApiOptions>,
    pool: Path<String>,
) -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(state.engine.release_pool(&pool).await?))
}
