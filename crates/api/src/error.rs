//! Every error in one shape, with a status that says whose fault it is.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use meson_engine::error::{EngineError, ErrorKind};
use meson_protocol::api::{ErrorBody, ErrorDetail};

/// What a handler may answer instead.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    detail: Box<ErrorDetail>,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &str,
        message: impl Into<String>,
        remedy: &str,
    ) -> Self {
        let detail = ErrorDetail {
            code: code.to_owned(),
            message: message.into(),
            remedy: remedy.to_owned(),
            problems: Vec::new(),
        };
        Self {
            status,
            detail: Box::new(detail),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>, remedy: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message, remedy)
    }

    pub(crate) fn store(action: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, action, "the object store failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store_unavailable",
            format!("cannot {action}: {error}"),
            "try again; if it lasts, look at the object store",
        )
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail.message)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(ErrorBody {
            error: (*self.detail).clone(),
        })
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let status = match error.kind() {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::BadInput => StatusCode::BAD_REQUEST,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(%error, "a request failed");
        }
        Self {
            status,
            detail: Box::new(error.detail()),
        }
    }
}

/// A body that is no JSON, or not the right one.
pub(crate) fn json(error: actix_web::error::JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    use actix_web::error::JsonPayloadError as E;
    let refusal = match &error {
        E::OverflowKnownLength { limit, .. } | E::Overflow { limit } => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the request's body is above the limit of {limit} bytes"),
            "put data into files of the bundle, or into artifacts",
        ),
        E::ContentType => Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the request's body is not said to be JSON",
            "send the header Content-Type: application/json",
        ),
        _ => Refusal::bad_request(
            format!("the request's body cannot be read: {error}"),
            "send the JSON that the route expects",
        ),
    };
    refusal.into()
}

/// A part of the path that cannot be read.
pub(crate) fn path(error: actix_web::error::PathError, _: &HttpRequest) -> actix_web::Error {
    Refusal::bad_request(format!("the path cannot be read: {error}"), "").into()
}

/// A query that cannot be read.
pub(crate) fn query(
    error: actix_web::error::QueryPayloadError,
    _: &HttpRequest,
) -> actix_web::Error {
    Refusal::bad_request(format!("the query cannot be read: {error}"), "").into()
}
