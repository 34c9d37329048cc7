//! HTTP towards masters and agents: clients, TLS, requests, and what their errors say.

use crate::encoding::Encoding;
use reqwest::{Certificate, Identity, Url, header};
use std::fmt;
use std::time::Duration;

/// An HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// Of no particular part.
    #[error("making an HTTP client for Mesos: {}", chain(.0))]
    Build(#[from] reqwest::Error),
    /// The authority's certificates are none.
    #[error("making an HTTP client for Mesos: the authority's certificate is no PEM: {}", chain(.0))]
    Authority(#[source] reqwest::Error),
    /// There is no certificate in what should hold the authority's.
    #[error("making an HTTP client for Mesos: there is no certificate in the authority's PEM")]
    NoAuthority,
    /// Our own certificate or its key is none.
    #[error("making an HTTP client for Mesos: our own certificate and key are no PEM: {}", chain(.0))]
    Identity(#[source] reqwest::Error),
}

/// Whom to trust over `https`, and who we are. Prints without the key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of the authority, in PEM, instead of those that the system trusts.
    pub authority: Option<Vec<u8>>,
    /// Our own certificate and its key, in PEM, for a master that asks for one.
    pub identity: Option<Vec<u8>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authority", &self.authority.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// An HTTP client for masters and agents: HTTP/1 without redirects (they are followed by hand,
/// with the body) and without proxies (masters and agents are near).
///
/// # Errors
/// When certificates or keys are none.
pub fn http_client(
    connect_timeout: Duration,
    tls: Option<&Tls>,
) -> Result<reqwest::Client, HttpClientError> {
    Ok(builder(connect_timeout, tls)?.build()?)
}

/// The same, for who is not verified: an executor's own agent, which started it, unless the agent's
/// operator wants it otherwise. That is what Mesos's own executors do.
pub(super) fn trusting_http_client(
    connect_timeout: Duration,
    tls: Option<&Tls>,
) -> Result<reqwest::Client, HttpClientError> {
    let builder = builder(connect_timeout, tls)?;
    Ok(builder.tls_danger_accept_invalid_certs(true).build()?)
}

fn builder(
    connect_timeout: Duration,
    tls: Option<&Tls>,
) -> Result<reqwest::ClientBuilder, HttpClientError> {
    // Fails when somebody has chosen a provider already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(pem) = tls.and_then(|tls| tls.authority.as_deref()) {
        let certificates = Certificate::from_pem_bundle(pem).map_err(HttpClientError::Authority)?;
        if certificates.is_empty() {
            return Err(HttpClientError::NoAuthority);
        }
        client = client.tls_certs_only(certificates);
    }
    if let Some(pem) = tls.and_then(|tls| tls.identity.as_deref()) {
        client = client.identity(Identity::from_pem(pem).map_err(HttpClientError::Identity)?);
    }
    Ok(client)
}

/// A request to an API of Mesos, in nothing but exactly one of its content types.
pub(super) fn post(
    http: &reqwest::Client,
    url: Url,
    encoding: Encoding,
    body: Vec<u8>,
) -> reqwest::RequestBuilder {
    http.post(url)
        .header(header::CONTENT_TYPE, encoding.media_type())
        .header(header::ACCEPT, encoding.media_type())
        .body(body)
}

/// Of an error's body, no more than this is read, nor waited for longer.
const TEXT_BYTES: usize = 1000;
const TEXT_WAIT: Duration = Duration::from_secs(2);

/// The first part of an error's body. Whoever is in trouble may send one that does not end.
pub(super) async fn text_of(mut response: reqwest::Response) -> String {
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            text.extend_from_slice(&chunk[..chunk.len().min(TEXT_BYTES)]);
            if text.len() >= TEXT_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(TEXT_WAIT, read).await;
    text.truncate(TEXT_BYTES);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
    text
}

/// For how long a proxy asks us to be quiet.
pub(super) fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let header = response.headers().get(header::RETRY_AFTER)?;
    let seconds: f64 = header.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        // Some errors print their cause themselves.
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_said() {
        let make = |authority: &str, identity: Option<&str>| {
            let tls = Tls {
                authority: Some(authority.into()),
                identity: identity.map(Into::into),
            };
            let error = http_client(Duration::from_secs(1), Some(&tls)).unwrap_err();
            error.to_string()
        };
        assert!(
            make("", None).contains("no certificate"),
            "{}",
            make("", None)
        );
        let bad = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(make(bad, None).contains("authority"), "{}", make(bad, None));
    }

    #[test]
    fn a_key_is_never_printed() {
        let tls = Tls {
            authority: None,
            identity: Some(b"-----BEGIN PRIVATE KEY-----".to_vec()),
        };
        assert_eq!(
            format!("{tls:?}"),
            "Tls { authority: false, identity: true }"
        );
    }
}
