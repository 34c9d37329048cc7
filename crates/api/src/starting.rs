//! A coordinator that may not serve yet says so, and what it waits for, instead of nothing.
//!
//! A node without data waits for the others, or for somebody to let it into the cluster; one with much
//! data reads it. Meanwhile load balancers, `mesonctl` and people who ask get an answer.

use std::net::TcpListener;

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use tokio::sync::watch;

use crate::error::Refusal;
use crate::server::ApiError;

/// A server that answers every request by 503 and the reason.
pub struct Starting {
    handle: ServerHandle,
    phase: watch::Sender<String>,
}

impl Starting {
    /// Answers at the address of `listener`, which stays the caller's, until [`stop`](Self::stop).
    /// Must be called within an actix system.
    ///
    /// # Errors
    /// The listener is of no use.
    pub fn serve(listener: &TcpListener, phase: &str) -> Result<Self, ApiError> {
        let failed = |reason| ApiError::at(listener, reason);
        let (told, phase) = watch::channel(phase.to_owned());
        let phase = Data::new(phase);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(phase.clone())
                .route("/health", web::get().to(health))
                .default_service(web::to(not_yet))
        })
        .workers(1)
        .disable_signals()
        .listen(listener.try_clone().map_err(failed)?)
        .map_err(failed)?
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self {
            handle,
            phase: told,
        })
    }

    /// What is said from now on.
    pub fn phase(&self, phase: impl Into<String>) {
        self.phase.send_replace(phase.into());
    }

    /// Answers no more. Who comes from now on waits until somebody else takes the listener.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

async fn health(phase: Data<watch::Receiver<String>>) -> HttpResponse {
    let problems = [said(&phase)];
    HttpResponse::ServiceUnavailable()
        .json(serde_json::json!({ "ready": false, "problems": problems }))
}

async fn not_yet(phase: Data<watch::Receiver<String>>) -> Result<HttpResponse, Refusal> {
    Err(Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting",
        said(&phase),
        "ask another coordinator, or this one again in a moment",
    ))
}

fn said(phase: &watch::Receiver<String>) -> String {
    format!("this coordinator does not serve yet: {}", *phase.borrow())
}
