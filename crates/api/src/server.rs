//! The server: what it shares between requests, and its life.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use meson_artifacts::{BlobStore, LogStore};
use meson_engine::Engine;

use crate::{MAX_JSON_BYTES, error, routes};

/// What the API stands in front of.
#[derive(Clone)]
pub struct ApiOptions {
    /// The engine.
    pub engine: Engine,
    /// Artifacts.
    pub blobs: BlobStore,
    /// Logs.
    pub logs: LogStore,
}

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve the API at {listen}: {reason}; is something else listening there?")]
pub struct ApiError {
    listen: SocketAddr,
    reason: std::io::Error,
}

impl ApiError {
    pub(crate) fn at(listener: &TcpListener, reason: std::io::Error) -> Self {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let listen = listener.local_addr().unwrap_or(unknown);
        Self { listen, reason }
    }
}

/// A running server.
pub struct Api {
    addr: SocketAddr,
    handle: ServerHandle,
}

/// Time for requests under way when the server ends, in seconds.
const SHUTDOWN_SECONDS: u64 = 2;
/// A client that sends nothing for so long is let go.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

impl Api {
    /// Takes the address, so that its port is known (0 takes any) before anybody is told of it.
    ///
    /// # Errors
    /// Something else is there.
    pub fn bind(listen: SocketAddr) -> Result<TcpListener, ApiError> {
        TcpListener::bind(listen).map_err(|reason| ApiError { listen, reason })
    }

    /// Serves until [`stop`](Self::stop). Must be called within an actix system.
    ///
    /// # Errors
    /// The listener is of no use.
    pub fn start(listener: TcpListener, options: ApiOptions) -> Result<Self, ApiError> {
        let failed = |reason| ApiError::at(&listener, reason);
        let addr = listener.local_addr().map_err(failed)?;
        let state = web::Data::new(options);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(state.clone())
                .app_data(
                    web::JsonConfig::default()
                        .limit(MAX_JSON_BYTES)
                        .error_handler(error::json),
                )
                .app_data(web::PathConfig::default().error_handler(error::path))
                .app_data(web::QueryConfig::default().error_handler(error::query))
                .configure(routes::configure)
        })
        .workers(2)
        .disable_signals()
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .client_request_timeout(CLIENT_TIMEOUT)
        .listen(listener)
        .map_err(|reason| ApiError {
            listen: addr,
            reason,
        })?;
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the API's server ended");
            }
        });
        Ok(Self { addr, handle })
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it, after the requests under way.
    pub async fn stop(self) {
        self.handle.stop(true).await;
    }
}
