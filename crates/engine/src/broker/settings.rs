//! How a pool is used.

use std::collections::{BTreeMap, BTreeSet};

use meson_core::matching::Policy;
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::Duration;

use super::launch::ExecutorTemplate;
use super::queue::OwnerTerms;

/// How a pool is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The role in which offers come, for owners that have none of their own.
    pub role: String,
    /// Roles of some owners: what is offered to a role goes to the steps of its owners only.
    pub owner_roles: BTreeMap<String, String>,
    /// The executor of all tasks.
    pub executor: ExecutorTemplate,
    /// How places are chosen.
    pub policy: Policy,
    /// What owners may have; who is not named has a weight of 1 and no quota.
    pub owners: BTreeMap<String, OwnerTerms>,
    /// How long offers that nobody wants are kept in case somebody does; then they are declined.
    pub idle_hold: Duration,
    /// How long offers of an agent are kept on which room is set aside for who has waited long, so
    /// that what becomes free there adds up and nobody else takes it meanwhile.
    pub set_aside_hold: Duration,
    /// For how long declined resources are refused; new work revives them before that.
    pub refuse: Duration,
    /// Least time between two REVIVEs.
    pub revive_every: Duration,
    /// A task that nobody claims within this time is asked about and killed if unwanted.
    pub orphan_grace: Duration,
    /// Time between implicit reconciliations, a fifth more or less.
    pub implicit_every: Duration,
    /// Time between explicit reconciliations of everything, a fifth more or less.
    pub explicit_every: Duration,
    /// How fast tasks are started.
    pub pacing: Pacing,
    /// When launching stops by itself.
    pub brake: BrakePolicy,
    /// Whether the resource manager is told which agents are of use. For one that filters
    /// offers itself.
    pub constrain_offers: bool,
    /// Tasks on an agent that is about to be maintained are ended this long before, and begin
    /// anew elsewhere, at the platform's cost. None: they run until the machine goes down.
    pub vacate: Option<Duration>,
    /// The resource manager hands out whole processors: a step that asks for less holds one.
    pub whole_cpus: bool,
    /// Decides the jitter of delays.
    pub seed: u64,
}

/// How fast tasks are started, so that ten thousand do not begin in one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Tasks of one agent that are launched and do not run yet, at most.
    pub starting_per_agent: usize,
    /// Launches per second, at most; as many may come at once after a pause.
    pub per_second: u32,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            starting_per_agent: 100,
            per_second: 1_000,
        }
    }
}

/// When launching stops by itself: something is wrong with the cluster, and more launches would
/// feed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrakePolicy {
    /// Losses this far back count.
    pub window: Duration,
    /// More than this many of a hundred tasks, or of a hundred agents, lost: stop. Above a
    /// hundred: never.
    pub percent: u32,
    /// Losses on fewer agents than this are nobody's disaster.
    pub least_agents: usize,
    /// Without a loss for so long it is released.
    pub calm: Duration,
}

impl Default for BrakePolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            percent: 20,
            least_agents: 3,
            calm: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Defaults for a role and an executor.
    pub fn new(role: impl Into<String>, executor: ExecutorTemplate) -> Self {
        Self {
            role: role.into(),
            owner_roles: BTreeMap::new(),
            executor,
            policy: Policy::default(),
            owners: BTreeMap::new(),
            idle_hold: Duration(300),
            set_aside_hold: Duration::from_secs(5),
            refuse: Duration::from_secs(600),
            revive_every: Duration(50),
            orphan_grace: Duration::from_secs(30),
            implicit_every: Duration::from_secs(600),
            explicit_every: Duration::from_secs(900),
            pacing: Pacing::default(),
            brake: BrakePolicy::default(),
            constrain_offers: true,
            vacate: None,
            whole_cpus: false,
            seed: 0,
        }
    }

    /// What a request of this size holds.
    pub(super) fn held(&self, mut resources: Resources) -> Resources {
        if self.whole_cpus {
            resources.cpus = MilliCpus(resources.cpus.0.div_ceil(1000) * 1000);
        }
        resources
    }

    /// All roles, in order.
    pub fn roles(&self) -> BTreeSet<&str> {
        let own = self.owner_roles.values().map(String::as_str);
        own.chain([self.role.as_str()]).collect()
    }

    /// The role of an owner.
    pub fn role_of(&self, owner: &str) -> &str {
        self.owner_roles.get(owner).unwrap_or(&self.role)
    }
}
