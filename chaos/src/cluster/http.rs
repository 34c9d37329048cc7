//! Speaks to the API from outside, as any client would.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde::de::DeserializeOwned;

/// Longest wait for an answer, unless the caller says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A client. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON, if the status is a good one.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        (200..300).contains(&self.status).then_some(())?;
        serde_json::from_slice(&self.body).ok()
    }

    /// The body for people.
    #[must_use]
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let short: String = text.chars().take(300).collect();
        format!("{} {short}", self.status)
    }
}

impl Http {
    /// A client.
    ///
    /// # Errors
    /// HTTP cannot be set up.
    pub fn new() -> Result<Self> {
        // Nothing here speaks TLS, but the client wants to know how it would.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(1))
            .timeout(TIMEOUT)
            // A connection to a process that was killed and started again is of no use.
            .pool_idle_timeout(Duration::from_secs(2))
            .no_proxy()
            .build()
            .context("set up HTTP")?;
        Ok(Self { client })
    }

    /// `GET`. None: no answer.
    pub async fn get(&self, url: &str) -> Option<Answer> {
        self.get_within(url, TIMEOUT).await
    }

    /// `GET`, within this time.
    pub async fn get_within(&self, url: &str, limit: Duration) -> Option<Answer> {
        answer(self.client.get(url).timeout(limit).send().await)
            .await
            .ok()
    }

    /// `POST` of JSON, within this time.
    ///
    /// # Errors
    /// No answer, with the reason.
    pub async fn post(&self, url: &str, body: Vec<u8>, limit: Duration) -> Result<Answer> {
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .timeout(limit)
            .body(body);
        answer(request.send().await).await
    }
}

async fn answer(response: reqwest::Result<reqwest::Response>) -> Result<Answer> {
    let response = response?;
    let status = response.status().as_u16();
    let body = response.bytes().await?;
    Ok(Answer { status, body })
}
