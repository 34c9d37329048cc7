//! Mesos behind the broker: its client, and what a framework of ours says about itself.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use meson_actors::{BoxError, Supervisor};
use meson_mesos::client::scheduler::{self as client, SchedulerClient, SchedulerOptions};
use meson_mesos::client::{StreamError, Tls};
use meson_mesos::encoding::Encoding;
use meson_mesos::scheduler::{Call, UpdateFramework};
use meson_mesos::secret::Credential;
use meson_mesos::types::{Capability, CapabilityType, FrameworkId, FrameworkInfo};

use super::manager::{Calls, ResourceManager, Session, SessionEnd, SubscribeError};
use super::settings::Settings;
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
    /// Take agents that have GPUs.
    pub gpus: bool,
    /// Take resources that may be taken away again, for steps that allow it.
    pub revocable: bool,
    /// Take agents of other regions than the master's.
    pub region_aware: bool,
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
        let info = framework(pool);
        Ok(Self {
            client: SchedulerClient::new(&pool.masters, options)?,
            info,
        })
    }
}

/// What a framework of ours says about itself.
fn framework(pool: &MesosPool) -> FrameworkInfo {
    let by_configuration = [
        (pool.gpus, CapabilityType::GpuResources),
        (pool.revocable, CapabilityType::RevocableResources),
        (pool.region_aware, CapabilityType::RegionAware),
    ];
    let always = [
        CapabilityType::PartitionAware,
        CapabilityType::TaskKillingState,
        CapabilityType::MultiRole,
        CapabilityType::ReservationRefinement,
    ];
    let chosen = by_configuration
        .into_iter()
        .filter_map(|(wanted, capability)| wanted.then_some(capability));
    FrameworkInfo {
        user: pool.user.clone(),
        name: format!("meson-{}", pool.name),
        failover_timeout: Some(FAILOVER_TIMEOUT_SECONDS),
        checkpoint: Some(true),
        roles: pool
            .settings
            .roles()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        principal: pool
            .credential
            .as_ref()
            .map(|credential| credential.principal.clone()),
        webui_url: pool.webui_url.clone(),
        capabilities: always
            .into_iter()
            .chain(chosen)
            .map(Capability::from)
            .collect(),
        ..FrameworkInfo::default()
    }
}

#[async_trait]
impl ResourceManager for Mesos {
    fn remarks(&self) -> Vec<String> {
        let trouble = self.client.trouble().into_iter();
        trouble
            .map(|why| format!("no master takes a subscription: {why}"))
            .collect()
    }

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
            calls: Arc::new(MesosSession {
                info: FrameworkInfo {
                    id: Some(session.framework_id().clone()),
                    ..self.info.clone()
                },
                session,
            }),
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

struct MesosSession {
    session: client::Session,
    /// Who we are, which an UPDATE_FRAMEWORK has to say in full.
    info: FrameworkInfo,
}

#[async_trait]
impl Calls for MesosSession {
    async fn call(&self, call: Call) -> Result<(), String> {
        let call = match call {
            Call::UpdateFramework(update) => Call::UpdateFramework(UpdateFramework {
                framework_info: FrameworkInfo {
                    offer_filters: update.framework_info.offer_filters,
                    ..self.info.clone()
                },
                ..update
            }),
            call => call,
        };
        self.session
            .call(call)
            .await
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use meson_mesos::types::CommandInfo;

    use super::super::launch::ExecutorTemplate;
    use super::*;

    fn pool() -> MesosPool {
        let executor = ExecutorTemplate {
            command: CommandInfo::shell("meson-executor"),
            resources: meson_core::resources::Resources::ZERO,
        };
        MesosPool {
            name: "default".to_owned(),
            region: String::new(),
            masters: vec!["http://127.0.0.1:5050".to_owned()],
            encoding: Encoding::default(),
            credential: Some(Credential {
                principal: "meson".to_owned(),
                secret: "secret".into(),
            }),
            tls: None,
            user: "meson".to_owned(),
            webui_url: Some("http://coordinator:7070".to_owned()),
            gpus: false,
            revocable: false,
            region_aware: true,
            settings: Settings::new("*", executor),
            seed: 1,
        }
    }

    fn can(info: &FrameworkInfo) -> Vec<&str> {
        info.capabilities
            .iter()
            .map(|capability| capability.kind.as_str())
            .collect()
    }

    #[test]
    fn item_03_tasks_outlive_the_framework_for_a_week_and_a_restart_of_their_agent() {
        let info = framework(&pool());
        assert_eq!(info.failover_timeout, Some(604_800.0));
        assert_eq!(info.checkpoint, Some(true));
    }

    #[test]
    fn item_07_capabilities_follow_the_configuration() {
        let always = [
            "PARTITION_AWARE",
            "TASK_KILLING_STATE",
            "MULTI_ROLE",
            "RESERVATION_REFINEMENT",
        ];
        let mut pool = pool();
        pool.region_aware = false;
        assert_eq!(can(&framework(&pool)), always);
        (pool.gpus, pool.revocable, pool.region_aware) = (true, true, true);
        assert_eq!(
            can(&framework(&pool))[4..],
            ["GPU_RESOURCES", "REVOCABLE_RESOURCES", "REGION_AWARE"]
        );
    }

    #[test]
    fn item_23_each_owners_role_is_subscribed_to_once() {
        let mut pool = pool();
        pool.settings.role = "meson".to_owned();
        for owner in ["ada", "bob"] {
            let role = "meson/research".to_owned();
            pool.settings.owner_roles.insert(owner.to_owned(), role);
        }
        assert_eq!(framework(&pool).roles, ["meson", "meson/research"]);
    }

    #[test]
    fn item_38_webui_url_and_principal_are_told() {
        let info = framework(&pool());
        assert_eq!(info.webui_url.as_deref(), Some("http://coordinator:7070"));
        assert_eq!(info.principal.as_deref(), Some("meson"));
    }
}
