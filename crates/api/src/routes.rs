//! What there is.

use actix_web::http::StatusCode;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::error::Refusal;
use crate::{artifacts, bundles, cluster, logs, pools, runs};

pub(crate) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::scope("/v1")
            .service(resource(
                "/runs",
                [
                    ("GET", web::get().to(runs::list)),
                    ("POST", web::post().to(runs::submit)),
                ],
            ))
            .service(resource(
                "/workflows/{workflow}/profile",
                [("GET", web::get().to(runs::profile))],
            ))
            .service(resource("/run-id", [("GET", web::get().to(runs::draw_id))]))
            .service(resource(
                "/runs/{run}",
                [("GET", web::get().to(runs::show))],
            ))
            .service(resource(
                "/runs/{run}/definition",
                [("GET", web::get().to(runs::definition))],
            ))
            .service(resource(
                "/runs/{run}/cancel",
                [("POST", web::post().to(runs::cancel))],
            ))
            .service(resource(
                "/runs/{run}/retry",
                [("POST", web::post().to(runs::retry))],
            ))
            .service(resource(
                "/runs/{run}/events",
                [("GET", web::get().to(runs::events))],
            ))
            .service(resource(
                "/runs/{run}/logs",
                [("GET", web::get().to(logs::list))],
            ))
            .service(resource(
                "/runs/{run}/steps/{step}/iterations",
                [("GET", web::get().to(runs::iterations))],
            ))
            .service(resource(
                "/runs/{run}/explain",
                [("GET", web::get().to(runs::explain_run))],
            ))
            .service(resource(
                "/runs/{run}/steps/{step}/explain",
                [("GET", web::get().to(runs::explain))],
            ))
            .service(resource(
                "/tasks/{task}/logs/{stream}",
                [
                    ("GET", web::get().to(logs::read)),
                    ("POST", web::post().to(logs::append)),
                ],
            ))
            .service(resource(
                "/bundles/{digest}",
                [
                    ("GET", web::get().to(bundles::get)),
                    ("PUT", web::put().to(bundles::put)),
                ],
            ))
            .service(resource(
                "/artifacts",
                [("GET", web::get().to(artifacts::list))],
            ))
            .service(resource(
                "/artifacts/{name}/{id}",
                [("GET", web::get().to(artifacts::show))],
            ))
            .service(resource(
                "/artifacts/{name}/{id}/content",
                [("GET", web::get().to(artifacts::content))],
            ))
            .service(resource("/pools", [("GET", web::get().to(pools::list))]))
            .service(resource(
                "/pools/{pool}/release",
                [("POST", web::post().to(pools::release))],
            ))
            .service(resource(
                "/cluster",
                [("GET", web::get().to(cluster::show))],
            ))
            .service(resource(
                "/cluster/replicas",
                [("GET", web::get().to(cluster::replicas))],
            ))
            .service(resource(
                "/cluster/shards/{shard}/transfer",
                [("POST", web::post().to(cluster::transfer))],
            ))
            .service(resource(
                "/cluster/nodes/{node}",
                [
                    ("PUT", web::put().to(cluster::join)),
                    ("DELETE", web::delete().to(cluster::remove)),
                ],
            ))
            .service(resource(
                "/cluster/nodes/{node}/drain",
                [("POST", web::post().to(cluster::drain))],
            )),
    )
    .service(resource(
        "/health",
        [("GET", web::get().to(cluster::health))],
    ))
    .service(resource(
        "/metrics",
        [("GET", web::get().to(cluster::metrics))],
    ))
    .default_service(web::route().to(unknown));
}

/// A resource that answers other methods with what it does know.
fn resource<const N: usize>(
    path: &str,
    routes: [(&'static str, actix_web::Route); N],
) -> actix_web::Resource {
    let allowed = routes
        .iter()
        .map(|(method, _)| *method)
        .collect::<Vec<_>>()
        .join(", ");
    routes
        .into_iter()
        .fold(web::resource(path), |resource, (_, route)| {
            resource.route(route)
        })
        .default_service(web::route().to(move |request: HttpRequest| {
            let refusal = Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("{} does not go with {}", request.method(), request.path()),
                &format!("use {allowed}"),
            );
            async move { Err::<HttpResponse, _>(refusal) }
        }))
}

async fn unknown(request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Err(Refusal::new(
        StatusCode::NOT_FOUND,
        "no_such_route",
        format!("there is nothing at {}", request.path()),
        "the API's routes begin with /v1/",
    ))
}
