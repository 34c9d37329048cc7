//! What is looked at before a request is understood: whether this master leads, who asks, and
//! in which encoding. Texts and statuses are the real one's.

use super::auth::Credentials;
use super::election::Leadership;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use meson_mesos::encoding::Encoding;
use tokio::sync::watch;

/// An answer that says no; in a box, because it is large and rare.
#[derive(Debug)]
pub(super) struct Refusal(Box<HttpResponse>);

impl From<HttpResponse> for Refusal {
    fn from(answer: HttpResponse) -> Self {
        Self(Box::new(answer))
    }
}

impl From<Refusal> for HttpResponse {
    fn from(refusal: Refusal) -> Self {
        *refusal.0
    }
}

/// The gate before the master.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    /// Who leads.
    pub(super) leadership: watch::Receiver<Leadership>,
    /// Whom frameworks have to be, if anybody.
    pub(super) credentials: Option<Credentials>,
}

impl Gate {
    /// Lets requests through to a master that leads, and sends others to the one that does.
    pub(super) fn leads(&self, request: &HttpRequest) -> Result<(), Refusal> {
        match &*self.leadership.borrow() {
            Leadership::Leading => Ok(()),
            Leadership::Following(Some(leader)) => {
                let target = format!("//{leader}{}", request.uri());
                Err(HttpResponse::TemporaryRedirect()
                    .insert_header((header::LOCATION, target))
                    .finish()
                    .into())
            }
            Leadership::Following(None) | Leadership::Lost(_) => {
                Err(text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected").into())
            }
        }
    }

    /// Whom a framework has proven to be; `None` where nobody asks.
    pub(super) fn principal(&self, request: &HttpRequest) -> Result<Option<String>, Refusal> {
        let Some(credentials) = &self.credentials else {
            return Ok(None);
        };
        let said = header_text(request, header::AUTHORIZATION.as_str());
        match said.and_then(|said| credentials.principal(said)) {
            Some(principal) => Ok(Some(principal)),
            None => Err(HttpResponse::Unauthorized()
                .insert_header((
                    header::WWW_AUTHENTICATE,
                    "Basic realm=\"mesos-master-scheduler\"",
                ))
                .content_type("text/plain; charset=utf-8")
                .body("401 Unauthorized.")
                .into()),
        }
    }
}

/// The encoding of a call's body.
pub(super) fn content_type(request: &HttpRequest) -> Result<Encoding, Refusal> {
    let Some(kind) = header_text(request, header::CONTENT_TYPE.as_str()) else {
        let message = "Expecting 'Content-Type' to be present";
        return Err(text(StatusCode::BAD_REQUEST, message).into());
    };
    // Exactly one of these: the real one refuses a charset too.
    Encoding::of_media_type(kind).ok_or_else(|| {
        let message = "Expecting 'Content-Type' of application/json or application/x-protobuf";
        text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into()
    })
}

/// The encoding of the stream that a subscriber wants.
pub(super) fn accepted(request: &HttpRequest) -> Result<Encoding, Refusal> {
    Encoding::of_accept(header_text(request, header::ACCEPT.as_str())).ok_or_else(|| {
        let message = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        text(StatusCode::NOT_ACCEPTABLE, message).into()
    })
}

pub(super) fn text(status: StatusCode, message: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/plain; charset=utf-8")
        .body(message.into())
}

pub(super) fn header_text<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn gate(leadership: Leadership) -> Gate {
        Gate {
            leadership: watch::channel(leadership).1,
            credentials: None,
        }
    }

    #[test]
    fn item_05_who_follows_sends_to_the_leader() {
        let request = TestRequest::post()
            .uri("/api/v1/scheduler?x=1")
            .to_http_request();
        let follower = gate(Leadership::Following(Some("m:5050".to_owned())));
        let answer = HttpResponse::from(follower.leads(&request).unwrap_err());
        assert_eq!(answer.status(), 307);
        let target = answer.headers().get(header::LOCATION).unwrap();
        assert_eq!(target, "//m:5050/api/v1/scheduler?x=1");
        let nobody = gate(Leadership::Following(None));
        let answer = HttpResponse::from(nobody.leads(&request).unwrap_err());
        assert_eq!(answer.status(), 503);
        assert!(gate(Leadership::Leading).leads(&request).is_ok());
    }
}
