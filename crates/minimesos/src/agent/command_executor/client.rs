//! The command executor's side of the executor API.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use meson_mesos::executor::{Call, Envelope, Event};
use meson_mesos::recordio::Decoder;
use meson_mesos::types::{ExecutorId, FrameworkId};
use tokio::time::Instant;

use super::CommandExecutorError;

/// The first wait before a subscription is tried again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest wait: an agent that came back waits two seconds for its executors.
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What the agent told the executor through its environment.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    endpoint: String,
    framework_id: FrameworkId,
    executor_id: ExecutorId,
    /// How long to wait for an agent that went away; `None` without checkpoints.
    recovery: Option<Duration>,
    shutdown_grace: Duration,
}

/// A duration as Mesos writes it: `15mins`, `2secs`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

impl Surroundings {
    /// Reads them.
    pub(super) fn from_environment() -> Result<Self, CommandExecutorError> {
        let get = |name: &'static str| {
            std::env::var(name).map_err(|_| CommandExecutorError::Environment(name))
        };
        let get_duration = |name: &'static str| {
            duration(&get(name)?).ok_or(CommandExecutorError::Environment(name))
        };
        let checkpoint = get("MESOS_CHECKPOINT")? == "1";
        Ok(Self {
            endpoint: get("MESOS_AGENT_ENDPOINT")?,
            framework_id: get("MESOS_FRAMEWORK_ID")?.into(),
            executor_id: get("MESOS_EXECUTOR_ID")?.into(),
            recovery: checkpoint
                .then(|| get_duration("MESOS_RECOVERY_TIMEOUT"))
                .transpose()?,
            shutdown_grace: get_duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD")?,
        })
    }
}

/// How often and how long a subscription has been tried.
#[derive(Debug)]
pub(super) struct Retry {
    wait: Duration,
    since: Instant,
}

/// Makes calls to the agent.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    surroundings: Surroundings,
    url: String,
    subscribed_before: bool,
}

impl Client {
    pub(super) fn new(surroundings: Surroundings) -> Result<Self, CommandExecutorError> {
        crate::agent::install_crypto_provider();
        let http = reqwest::Client::builder()
            .no_proxy()
            // The agent speaks plain HTTP: no certificates are looked for, which
            // would take longer than everything else at the start.
            .tls_certs_only([])
            .build()
            .map_err(|error| CommandExecutorError::Setup(error.to_string()))?;
        Ok(Self {
            http,
            url: format!("http://{}/api/v1/executor", surroundings.endpoint),
            surroundings,
            subscribed_before: false,
        })
    }

    pub(super) fn shutdown_grace(&self) -> Duration {
        self.surroundings.shutdown_grace
    }

    pub(super) fn retry(&self) -> Retry {
        Retry {
            wait: BACKOFF_MIN,
            since: Instant::now(),
        }
    }

    fn post(&self, call: Call) -> reqwest::RequestBuilder {
        self.http.post(&self.url).json(&Envelope {
            executor_id: Some(self.surroundings.executor_id.clone()),
            framework_id: Some(self.surroundings.framework_id.clone()),
            body: call,
        })
    }

    /// Makes a call; whether the agent took it.
    pub(super) async fn call(&self, call: Call) -> bool {
        match self.post(call).timeout(CALL_TIMEOUT).send().await {
            Ok(answer) if answer.status().is_success() => true,
            Ok(answer) => {
                eprintln!("the agent answered {}", answer.status());
                false
            }
            Err(_) => false,
        }
    }

    /// Tries to subscribe once. `None` after a wait: try again.
    pub(super) async fn subscribe(
        &mut self,
        call: Call,
        retry: &mut Retry,
    ) -> Result<Option<Stream>, CommandExecutorError> {
        // No timeout on the whole: the answer has no end.
        let sent = tokio::time::timeout(CALL_TIMEOUT, self.post(call).send()).await;
        match sent {
            Ok(Ok(answer)) if answer.status().is_success() => {
                self.subscribed_before = true;
                return Ok(Some(Stream {
                    body: answer.bytes_stream().boxed(),
                    decoder: Decoder::default(),
                }));
            }
            Ok(Ok(answer)) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                // Not started (404) or not recovered (503) yet; everything else
                // is meant for good.
                if !matches!(status.as_u16(), 404 | 503) {
                    return Err(CommandExecutorError::Refused(format!("{status} {text}")));
                }
            }
            _ => {}
        }
        // Without checkpoints, an agent that is gone is gone.
        let patience = match self.surroundings.recovery {
            Some(recovery) => recovery,
            None if self.subscribed_before => Duration::ZERO,
            None => Duration::from_secs(5),
        };
        if retry.since.elapsed() >= patience {
            return Err(CommandExecutorError::AgentLost(patience));
        }
        tokio::time::sleep(retry.wait).await;
        retry.wait = (retry.wait * 2).min(BACKOFF_MAX);
        Ok(None)
    }
}

/// The agent's events.
pub(super) struct Stream {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: Decoder,
}

impl Stream {
    /// The next event; `None` when the stream is broken.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(record) = self.decoder.next_record().ok()? {
                match serde_json::from_slice(&record) {
                    Ok(event) => return Some(event),
                    Err(error) => eprintln!("an event cannot be understood: {error}"),
                }
                continue;
            }
            self.decoder.push(&self.body.next().await?.ok()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_mesos_writes_them() {
        assert_eq!(duration("15mins"), Some(Duration::from_secs(900)));
        assert_eq!(duration("2secs"), Some(Duration::from_secs(2)));
        assert_eq!(duration("1.5secs"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("100ms"), Some(Duration::from_millis(100)));
        assert_eq!(duration("0ns"), Some(Duration::ZERO));
        for bad in ["", "5", "secs", "5 parsecs", "-1secs"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
