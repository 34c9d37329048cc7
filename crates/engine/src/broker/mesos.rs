//! Mesos behind the broker: its client, and what a framework of ours says about itself.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use meson_actors::{BoxError, Supervisor};
use meson_mesos::client::scheduler::{self as client, SchedulerClient, SchedulerOptions};
use meson_mesos::client::{StreamError, Tls};
use meson_mesos::encoding::Encoding;
use meson_mesos::scheduler::Call;
use meson_mesos::secret::Credential;
use meson_mesos::types::{Capability, CapabilityType, FrameworkId, FrameworkInfo};

use super::manager::{Calls, ResourceManager, Session, SessionEnd, SubscribeError};
use super::state::Settings;
use crate::pool::{BrokerContext, BrokerFactory};

/// A week: how long the master keeps our tasks while nobody is subscribed. The default, 0, would kill
/// them at every disconnect (docs/high-availability-framework-guide.md).
const FAILOVER_TIMEOUT_SECONDS: f64 = 7.0 * 24.0 * 3600.0;

/// A Mesos cluster to take resources from.
#[derive(Debug, Clone)]
pub struct MesosPool {
    /// Its name, as steps write it; `default` serves steps that name none.
    pub name: String,
    /// The region that it is in; empty: none in particular.
    pub region: String,
    /// Its masters, or the one `zk://` address where they meet.
    pub masters: Vec<String>,
    /// What is spoken with them.
    pub encoding: Encoding,
    /// Principal and secret.
    pub credential: Option<Credential>,
    /// Whom to trust over https.
    pub tls: Option<Tls>,
    /// The user that steps run as.
    pub user: String,
    /// Where people can look at us.
    pub webui_url: Option<String>,
    /// How it is used.
    pub settings: Settings,
    /// Decides the jitter of delays.
    pub seed: u64,
}

/// Starts a broker for each of these pools.
#[derive(Debug, Clone)]
pub struct MesosBrokers {
    pools: Vec<MesosPool>,
}

impl MesosBrokers {
    /// A factory for these pools.
    pub fn new(pools: Vec<MesosPool>) -> Self {
        Self { pools }
    }
}

impl BrokerFactory for MesosBrokers {
    fn pools(&self) -> Vec<String> {
        self.pools.iter().map(|pool| pool.name.clone()).collect()
    }

    fn region(&self, name: &str) -> Option<String> {
        let pool = self.pools.iter().find(|pool| pool.name == name)?;
        (!pool.region.is_empty()).then(|| pool.region.clone())
    }

    fn start(&self, supervisor: &Supervisor, context: BrokerContext) -> Result<(), BoxError> {
        let pool = self
            .pools
            .iter()
            .find(|pool| pool.name == context.pool)
            .ok_or_else(|| format!("pool {:?} is not configured here", context.pool))?;
        let manager: Arc<dyn ResourceManager> = Arc::new(Mesos::new(pool)?);
        super::start(supervisor, context, pool.settings.clone(), manager)
    }
}

/// A Mesos cluster's scheduler API.
struct Mesos {
    client: SchedulerClient,
    info: FrameworkInfo,
}

impl Mesos {
    fn new(pool: &MesosPool) -> Result<Self, BoxError> {
        let options = SchedulerOptions {
            encoding: pool.encoding,
            credential: pool.credential.clone(),
            tls: pool.tls.clone(),
            seed: pool.seed,
            ..SchedulerOptions::default()
        };
        let info = FrameworkInfo {
            user: pool.user.clone(),
            name: format!("meson-{}", pool.name),
            failover_timeout: Some(FAILOVER_TIMEOUT_SECONDS),
            checkpoint: Some(true),
            roles: vec![pool.settings.role.clone()],
            principal: pool
                .credential
                .as_ref()
                .map(|credential| credential.principal.clone()),
            webui_url: pool.webui_url.clone(),
            capabilities: [
                CapabilityType::PartitionAware,
                CapabilityType::TaskKillingState,
                CapabilityType::MultiRole,
                CapabilityType::ReservationRefinement,
                CapabilityType::GpuResources,
                CapabilityType::RegionAware,
            ]
            .map(Capability::from)
            .to_vec(),
            ..FrameworkInfo::default()
        };
        Ok(Self {
            client: SchedulerClient::new(&pool.masters, options)?,
            info,
        })
    }
}

#[async_trait]
impl ResourceManager for Mesos {
    async fn subscribe(&self, id: Option<FrameworkId>) -> Result<Session, SubscribeError> {
        let (session, events) =
            self.client
                .subscribe(self.info.clone(), id)
                .await
                .map_err(|error| match error {
                    error if error.is_removed() => SubscribeError::Removed(error.to_string()),
                    client::SubscribeError::Unreachable { .. } => {
                        SubscribeError::Unavailable(error.to_string())
                    }
                    client::SubscribeError::Unauthorized { authenticated, .. } => {
                        let look_at = if authenticated {
                            "the pool's `credential`: is its `principal` known there, and the secret in `secret_file` right?"
                        } else {
                            "the pool has no `credential`: give it `principal` and `secret_file`"
                        };
                        SubscribeError::Refused(format!("{error} ({look_at})"))
                    }
                    error => SubscribeError::Refused(error.to_string()),
                })?;
        let framework = session.framework_id().clone();
        let events = events
            .into_stream()
            .map(|event| event.map_err(|error| end(&error)))
            .boxed();
        Ok(Session {
            framework,
            events,
            calls: Arc::new(MesosSession(session)),
        })
    }
}

fn end(error: &StreamError) -> SessionEnd {
    if error.is_fenced() {
        return SessionEnd::Fenced;
    }
    let text = error.to_string();
    if text.contains("has been removed") {
        SessionEnd::Removed(text)
    } else {
        SessionEnd::Lost(text)
    }
}

struct MesosSession(client::Session);

#[async_trait]
impl Calls for MesosSession {
    async fn call(&self, call: Call) -> Result<(), String> {
        self.0.call(call).await.map_err(|error| error.to_string())
    }
}
