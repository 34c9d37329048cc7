//! An executor's connection to its agent.
//!
//! An agent starts an executor with the environment of [`ExecutorEnvironment`]. The
//! executor subscribes at once ([`ExecutorClient::subscribe`]), and again after its agent
//! has restarted ([`ExecutorClient::resubscribe`]), each time with the tasks and updates
//! that have not been acknowledged (`docs/executor-http-api.md`).

use super::backoff::Backoff;
use super::connection::{
    HttpClientError, Tls, chain, http_client, post, text_of, trusting_http_client,
};
use super::duration::{ParseDurationError, parse_duration};
use super::stream::{Events, StreamError};
use crate::encoding::{EncodeError, Encoding};
use crate::executor::{Call, Envelope, Event, Subscribe, Subscribed, Update};
use crate::recordio::DEFAULT_MAX_RECORD_BYTES;
use crate::types::{AgentId, ExecutorId, FrameworkId, TaskInfo};
use reqwest::{StatusCode, Url};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// An executor's calls are few and small: better that people can read them.
const ENCODING: Encoding = Encoding::Json;
const PATH: &str = "/api/v1/executor";
/// The agent that started us was there a moment ago.
const FIRST_SUBSCRIPTION: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What a real agent sets unless it is told otherwise.
const DEFAULT_RECOVERY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const DEFAULT_BACKOFF_MAX: Duration = Duration::from_secs(2);
const DEFAULT_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// What an agent tells the executor that it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorEnvironment {
    /// `MESOS_FRAMEWORK_ID`.
    pub framework_id: FrameworkId,
    /// `MESOS_EXECUTOR_ID`.
    pub executor_id: ExecutorId,
    /// `MESOS_SLAVE_ID`.
    pub agent_id: Option<AgentId>,
    /// `MESOS_AGENT_ENDPOINT`: host:port.
    pub agent_endpoint: String,
    /// `MESOS_SANDBOX`, or `MESOS_DIRECTORY`.
    pub sandbox: Option<String>,
    /// `MESOS_CHECKPOINT`: outlive a restart of the agent.
    pub checkpoint: bool,
    /// `MESOS_RECOVERY_TIMEOUT`: for so long.
    pub recovery_timeout: Duration,
    /// `MESOS_SUBSCRIPTION_BACKOFF_MAX`: trying at least so often.
    pub subscription_backoff_max: Duration,
    /// `MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD`: from SHUTDOWN to the end.
    pub shutdown_grace_period: Duration,
    /// `MESOS_EXECUTOR_AUTHENTICATION_TOKEN`.
    pub authentication_token: Option<String>,
    /// The agent speaks TLS, as those do that are given `LIBPROCESS_SSL_ENABLED`; its executors are
    /// told by `--executor_environment_variables`.
    pub tls: Option<AgentTls>,
}

/// How an agent speaks TLS, in the words in which libprocess is told (`docs/ssl.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentTls {
    /// `LIBPROCESS_SSL_VERIFY_SERVER_CERT`, or `LIBPROCESS_SSL_VERIFY_CERT`: whether it has to prove
    /// who it is. Not by default.
    pub verify: bool,
    /// `LIBPROCESS_SSL_CA_FILE`: whom to trust for that.
    pub authority_file: Option<String>,
    /// `LIBPROCESS_SSL_CERT_FILE` and `LIBPROCESS_SSL_KEY_FILE`, for an agent that asks who we are.
    pub identity_files: Option<(String, String)>,
}

impl AgentTls {
    fn client(&self, connect_timeout: Duration) -> Result<reqwest::Client, ExecutorError> {
        let read = |file: &String| {
            std::fs::read(file).map_err(|error| ExecutorError::TlsFile {
                file: file.clone(),
                reason: error.to_string(),
            })
        };
        let authority = self.authority_file.as_ref().filter(|_| self.verify);
        let authority = authority.map(read).transpose()?;
        let identity = match &self.identity_files {
            Some((certificate, key)) => Some([read(certificate)?, read(key)?].join(&b'\n')),
            None => None,
        };
        let tls = Tls {
            authority,
            identity,
        };
        Ok(if self.verify {
            http_client(connect_timeout, Some(&tls))?
        } else {
            trusting_http_client(connect_timeout, Some(&tls))?
        })
    }
}

/// The environment is not that of an executor.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is missing.
    #[error(
        "reading an executor's environment: {0} is not set; an executor is started by a Mesos agent"
    )]
    Missing(&'static str),
    /// A duration is none.
    #[error("reading an executor's environment: {variable}: {source}")]
    Duration {
        /// The variable.
        variable: &'static str,
        /// Why not.
        source: ParseDurationError,
    },
}

impl ExecutorEnvironment {
    /// From the environment of this process.
    ///
    /// # Errors
    /// When it is not that of an executor.
    pub fn from_process() -> Result<Self, EnvironmentError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// From any source of variables.
    ///
    /// # Errors
    /// When they are not those of an executor.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, EnvironmentError> {
        let text = |name: &'static str| variable(name).filter(|text| !text.is_empty());
        let flag = |name| text(name).is_some_and(|text| text == "1" || text == "true");
        let needed = |name| text(name).ok_or(EnvironmentError::Missing(name));
        let duration = |name, default| match text(name) {
            None => Ok(default),
            Some(text) => parse_duration(&text).map_err(|source| EnvironmentError::Duration {
                variable: name,
                source,
            }),
        };
        Ok(Self {
            framework_id: FrameworkId::new(needed("MESOS_FRAMEWORK_ID")?),
            executor_id: ExecutorId::new(needed("MESOS_EXECUTOR_ID")?),
            agent_id: text("MESOS_SLAVE_ID").map(AgentId::new),
            agent_endpoint: needed("MESOS_AGENT_ENDPOINT")?,
            sandbox: text("MESOS_SANDBOX").or_else(|| text("MESOS_DIRECTORY")),
            checkpoint: flag("MESOS_CHECKPOINT"),
            recovery_timeout: duration("MESOS_RECOVERY_TIMEOUT", DEFAULT_RECOVERY_TIMEOUT)?,
            subscription_backoff_max: duration(
                "MESOS_SUBSCRIPTION_BACKOFF_MAX",
                DEFAULT_BACKOFF_MAX,
            )?,
            shutdown_grace_period: duration(
                "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
                DEFAULT_GRACE_PERIOD,
            )?,
            authentication_token: text("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
            tls: flag("LIBPROCESS_SSL_ENABLED").then(|| AgentTls {
                verify: flag("LIBPROCESS_SSL_VERIFY_SERVER_CERT")
                    || flag("LIBPROCESS_SSL_VERIFY_CERT"),
                authority_file: text("LIBPROCESS_SSL_CA_FILE"),
                identity_files: text("LIBPROCESS_SSL_CERT_FILE")
                    .zip(text("LIBPROCESS_SSL_KEY_FILE")),
            }),
        })
    }
}

/// An executor cannot go on with its agent.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// A client could not be made.
    #[error(transparent)]
    Http(#[from] HttpClientError),
    /// A file that is to speak TLS with the agent cannot be read.
    #[error(
        "making an executor client: reading {file}, which LIBPROCESS_SSL_ variables name: {reason}"
    )]
    TlsFile {
        /// Its path.
        file: String,
        /// Why not.
        reason: String,
    },
    /// The agent's address is none.
    #[error("making an executor client: MESOS_AGENT_ENDPOINT '{endpoint}' is no address: {reason}")]
    BadEndpoint {
        /// As it was given.
        endpoint: String,
        /// Why not.
        reason: String,
    },
    /// The agent was not there for too long, or is gone and the framework does not
    /// checkpoint: the executor has to end.
    #[error("subscribing to agent {agent}: not subscribed within {waited:?}; last: {last}")]
    AgentLost {
        /// The agent.
        agent: String,
        /// For how long it was tried.
        waited: Duration,
        /// What went wrong last.
        last: String,
    },
    /// The agent does not know this executor (any more), or does not take the call.
    #[error("{call} to agent {agent}: {status}: {message}")]
    Rejected {
        /// The call.
        call: String,
        /// The agent.
        agent: String,
        /// Its answer.
        status: StatusCode,
        /// Its words.
        message: String,
    },
    /// No answer came to a call, or the agent has just started. Updates are sent again at
    /// the next subscription.
    #[error("{call} to agent {agent}: {reason}")]
    Unavailable {
        /// The call.
        call: String,
        /// The agent.
        agent: String,
        /// Why.
        reason: String,
    },
    /// The call has no such form.
    #[error("{call}: {source}")]
    Encode {
        /// The call.
        call: String,
        /// Why.
        source: EncodeError,
    },
}

/// Subscribes to the agent that started this executor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ExecutorClient(Arc<ClientInner>);

#[derive(Debug)]
struct ClientInner {
    http: reqwest::Client,
    url: Url,
    environment: ExecutorEnvironment,
    seed: u64,
}

impl ExecutorClient {
    /// A client for the agent in this environment. `seed` decides the jitter of delays.
    ///
    /// # Errors
    /// When the agent's address is none.
    pub fn new(environment: ExecutorEnvironment, seed: u64) -> Result<Self, ExecutorError> {
        let endpoint = &environment.agent_endpoint;
        let tls = environment.tls.as_ref();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = Url::parse(&format!("{scheme}://{endpoint}{PATH}")).map_err(|error| {
            ExecutorError::BadEndpoint {
                endpoint: endpoint.clone(),
                reason: error.to_string(),
            }
        })?;
        let http = match tls {
            Some(tls) => tls.client(CONNECT_TIMEOUT)?,
            None => http_client(CONNECT_TIMEOUT, None)?,
        };
        Ok(Self(Arc::new(ClientInner {
            http,
            url,
            environment,
            seed,
        })))
    }

    /// What the agent told us at our start.
    pub fn environment(&self) -> &ExecutorEnvironment {
        &self.0.environment
    }

    /// Subscribes for the first time.
    ///
    /// # Errors
    /// When the agent does not take us, or is not there for ten seconds.
    pub async fn subscribe(&self) -> Result<(Subscribed, ExecutorEvents), ExecutorError> {
        self.subscribe_within(Subscribe::default(), FIRST_SUBSCRIPTION)
            .await
    }

    /// Subscribes again after the stream was lost. With checkpointing it is tried for the
    /// recovery timeout; without, the executor has to end, and this says so at once.
    ///
    /// # Errors
    /// When the executor has to end.
    pub async fn resubscribe(
        &self,
        unacknowledged_tasks: Vec<TaskInfo>,
        unacknowledged_updates: Vec<Update>,
    ) -> Result<(Subscribed, ExecutorEvents), ExecutorError> {
        let environment = &self.0.environment;
        if !environment.checkpoint {
            let last = "the stream is lost, and the framework does not checkpoint".to_owned();
            return Err(ExecutorError::AgentLost {
                agent: self.agent(),
                waited: Duration::ZERO,
                last,
            });
        }
        let subscribe = Subscribe {
            unacknowledged_tasks,
            unacknowledged_updates,
        };
        self.subscribe_within(subscribe, environment.recovery_timeout)
            .await
    }

    async fn subscribe_within(
        &self,
        subscribe: Subscribe,
        limit: Duration,
    ) -> Result<(Subscribed, ExecutorEvents), ExecutorError> {
        let inner = &self.0;
        let body = self.encode(Call::Subscribe(subscribe))?;
        let started = Instant::now();
        // Retries stay frequent: a recovered agent waits for its executors for 2 s only.
        let limit_between = inner
            .environment
            .subscription_backoff_max
            .min(Duration::from_millis(500));
        let mut backoff = Backoff::new(FIRST_BACKOFF, limit_between.max(FIRST_BACKOFF), inner.seed);
        loop {
            let last = match self.try_subscribe(&body).await? {
                Ok(subscribed) => return Ok(subscribed),
                Err(why) => why,
            };
            tracing::debug!(agent = %inner.url, why = %last, "not subscribed yet");
            let (delay, waited) = (backoff.next_delay(), started.elapsed());
            if waited + delay > limit {
                return Err(ExecutorError::AgentLost {
                    agent: self.agent(),
                    waited,
                    last,
                });
            }
            sleep(delay).await;
        }
    }

    /// The inner error is worth another try, the outer one is not.
    async fn try_subscribe(
        &self,
        body: &[u8],
    ) -> Result<Result<(Subscribed, ExecutorEvents), String>, ExecutorError> {
        let request = self.request(body.to_vec());
        let response = match timeout(ANSWER_TIMEOUT, request.send()).await {
            Err(_) => return Ok(Err("no answer in time".to_owned())),
            Ok(Err(error)) => return Ok(Err(chain(&error))),
            Ok(Ok(response)) => response,
        };
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE) => {
                return Ok(Err(format!("{status}: {}", text_of(response).await)));
            }
            status => {
                let message = text_of(response).await;
                return Err(ExecutorError::Rejected {
                    call: "SUBSCRIBE".into(),
                    agent: self.agent(),
                    status,
                    message,
                });
            }
        }
        let mut events = Events::<Event>::new(
            response,
            ENCODING,
            DEFAULT_MAX_RECORD_BYTES,
            Some(ANSWER_TIMEOUT),
        );
        match events.next().await {
            Ok(Event::Subscribed(subscribed)) => {
                // An agent's heartbeats are half an hour apart: silence says nothing.
                events.set_patience(None);
                Ok(Ok((
                    subscribed,
                    ExecutorEvents {
                        events: Some(events),
                    },
                )))
            }
            Ok(Event::Error(error)) => Err(ExecutorError::Rejected {
                call: "SUBSCRIBE".into(),
                agent: self.agent(),
                status: StatusCode::OK,
                message: error.message,
            }),
            Ok(other) => Ok(Err(format!("the first event is {}", other.type_name()))),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    /// Makes a call: UPDATE, MESSAGE or HEARTBEAT. Calls that must be heard in order have to
    /// be awaited in order.
    ///
    /// # Errors
    /// When the agent does not take it, or no answer comes. Nothing is tried again here.
    pub async fn call(&self, call: Call) -> Result<(), ExecutorError> {
        let name = call.type_name().to_owned();
        let body = self.encode(call)?;
        let response = match self.request(body).timeout(ANSWER_TIMEOUT).send().await {
            Ok(response) => response,
            Err(error) => {
                return Err(ExecutorError::Unavailable {
                    call: name,
                    agent: self.agent(),
                    reason: chain(&error),
                });
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let message = text_of(response).await;
        let agent = self.agent();
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => ExecutorError::Unavailable {
                call: name,
                agent,
                reason: format!("{status}: {message}"),
            },
            _ => ExecutorError::Rejected {
                call: name,
                agent,
                status,
                message,
            },
        })
    }

    fn encode(&self, call: Call) -> Result<Vec<u8>, ExecutorError> {
        let environment = &self.0.environment;
        let name = call.type_name().to_owned();
        let envelope = Envelope {
            executor_id: Some(environment.executor_id.clone()),
            framework_id: Some(environment.framework_id.clone()),
            body: call,
        };
        let body = ENCODING.encode(&envelope);
        body.map_err(|source| ExecutorError::Encode { call: name, source })
    }

    fn request(&self, body: Vec<u8>) -> reqwest::RequestBuilder {
        let request = post(&self.0.http, self.0.url.clone(), ENCODING, body);
        match &self.0.environment.authentication_token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn agent(&self) -> String {
        self.0.environment.agent_endpoint.clone()
    }
}

/// The events after SUBSCRIBED. Ends with one error, then `None`.
#[derive(Debug)]
pub struct ExecutorEvents {
    events: Option<Events<Event>>,
}

impl ExecutorEvents {
    /// The next event, or the reason why there are no more. Nothing is lost when the future
    /// is dropped, so it can be used in a `select!`.
    pub async fn next(&mut self) -> Option<Result<Event, StreamError>> {
        let next = match self.events.as_mut()?.next().await {
            Ok(Event::Error(error)) => Err(StreamError::Ended(error.message)),
            next => next,
        };
        if next.is_err() {
            self.events = None;
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(extra: &[(&str, &str)]) -> Result<ExecutorEnvironment, EnvironmentError> {
        let base = [
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_AGENT_ENDPOINT", "127.0.0.1:5051"),
        ];
        ExecutorEnvironment::from_variables(|name| {
            let pairs = extra.iter().chain(&base);
            pairs
                .into_iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_of_a_checkpointing_framework_is_understood() {
        let environment = variables(&[
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "15mins"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "3secs"),
        ])
        .unwrap();
        assert!(environment.checkpoint);
        assert_eq!(environment.recovery_timeout, Duration::from_secs(900));
        assert_eq!(environment.shutdown_grace_period, Duration::from_secs(3));
        assert!(!variables(&[("MESOS_CHECKPOINT", "0")]).unwrap().checkpoint);
    }

    #[test]
    fn an_agent_that_speaks_tls_says_so() {
        assert_eq!(
            variables(&[("LIBPROCESS_SSL_ENABLED", "0")]).unwrap().tls,
            None
        );
        let told = [
            ("LIBPROCESS_SSL_ENABLED", "1"),
            ("LIBPROCESS_SSL_VERIFY_SERVER_CERT", "true"),
            ("LIBPROCESS_SSL_CA_FILE", "/no/such/ca.pem"),
            ("LIBPROCESS_SSL_CERT_FILE", "/no/such/cert.pem"),
        ];
        let environment = variables(&told).unwrap();
        let tls = environment.tls.clone().unwrap();
        assert!(tls.verify && tls.identity_files.is_none());
        let error = ExecutorClient::new(environment, 1).unwrap_err().to_string();
        assert!(error.contains("/no/such/ca.pem"), "{error}");
        let environment = variables(&told[..1]).unwrap();
        let client = ExecutorClient::new(environment, 1).unwrap();
        assert_eq!(
            client.0.url.as_str(),
            "https://127.0.0.1:5051/api/v1/executor"
        );
    }

    #[test]
    fn a_missing_or_wrong_variable_is_named() {
        assert_eq!(
            variables(&[("MESOS_FRAMEWORK_ID", "")]).unwrap_err(),
            EnvironmentError::Missing("MESOS_FRAMEWORK_ID")
        );
        let error = variables(&[("MESOS_RECOVERY_TIMEOUT", "soon")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("MESOS_RECOVERY_TIMEOUT") && error.contains("soon"),
            "{error}"
        );
    }
}
