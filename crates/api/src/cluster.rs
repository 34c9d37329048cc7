//! The cluster, and this coordinator's own state.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path, Query};
use meson_consensus::{Member, NodeId};
use meson_protocol::api::{DrainNode, JoinNode, TransferShard};
use serde::Deserialize;

use crate::error::Refusal;
use crate::server::ApiOptions;

pub(crate) async fn show(state: Data<ApiOptions>) -> HttpResponse {
    HttpResponse::Ok().json(state.engine.cluster())
}

#[derive(Deserialize)]
pub(crate) struct ReplicasQuery {
    /// Hash every record of every shard.
    #[serde(default)]
    digest: bool,
}

pub(crate) async fn replicas(
    state: Data<ApiOptions>,
    query: Query<ReplicasQuery>,
) -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(state.engine.replicas(query.digest).await?))
}

pub(crate) async fn transfer(
    state: Data<ApiOptions>,
    shard: Path<u16>,
    body: Json<TransferShard>,
) -> Result<HttpResponse, Refusal> {
    let to = NodeId::new(body.to);
    state.engine.transfer(shard.into_inner(), to).await?;
    done()
}

pub(crate) async fn drain(
    state: Data<ApiOptions>,
    node: Path<u64>,
    body: Json<DrainNode>,
) -> Result<HttpResponse, Refusal> {
    let node = NodeId::new(node.into_inner());
    state.engine.drain(node, body.on).await?;
    done()
}

pub(crate) async fn join(
    state: Data<ApiOptions>,
    node: Path<u64>,
    body: Json<JoinNode>,
) -> Result<HttpResponse, Refusal> {
    let JoinNode {
        addr,
        http,
        region,
        zone,
    } = body.into_inner();
    let port = addr.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(1..))) {
        return Err(Refusal::bad_request(
            format!("{addr:?} is no address of a node"),
            "write host:port, as in the node's [cluster] advertise",
        ));
    }
    let member = Member {
        addr,
        http,
        region,
        zone,
    };
    let node = NodeId::new(node.into_inner());
    state.engine.join(node, member).await?;
    done()
}

pub(crate) async fn remove(
    state: Data<ApiOptions>,
    node: Path<u64>,
) -> Result<HttpResponse, Refusal> {
    state.engine.remove(NodeId::new(node.into_inner())).await?;
    done()
}

fn done() -> Result<HttpResponse, Refusal> {
    Ok(HttpResponse::Ok().json(serde_json::json!({})))
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
