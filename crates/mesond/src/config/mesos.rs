//! The part of the configuration that is about a pool of Mesos.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::masters::{self, CredentialFile, MasterNames, PoolEncoding, TlsFiles};
use super::owners::{OwnerEntry, terms};
use super::pools::check_name;

/// `[[pool]]` of the kind `mesos`, which is the kind of those that name none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    /// Its name; `default` serves steps that name none.
    #[serde(default = "default_pool")]
    pub(crate) name: String,
    /// The region that it is in: steps that ask for a region get their resources there.
    #[serde(default)]
    pub(crate) region: String,
    /// Mesos masters: a list of `http://host:5050`, or `zk://host1:2181,host2:2181/mesos`.
    pub(crate) masters: MasterNames,
    /// What is spoken with them.
    #[serde(default)]
    pub(crate) encoding: PoolEncoding,
    /// Who we are for them.
    #[serde(default)]
    pub(crate) credential: Option<CredentialFile>,
    /// Whom to trust over https. With ZooKeeper, masters are spoken to over https if this is given.
    #[serde(default)]
    pub(crate) tls: Option<TlsFiles>,
    /// The role in which resources are offered.
    #[serde(default = "any_role")]
    pub(crate) role: String,
    /// The user that steps run as.
    #[serde(default = "root")]
    pub(crate) user: String,
    /// How agents get the executor.
    pub(crate) executor: Executor,
    /// Keep agents that have GPUs for steps that ask for some.
    #[serde(default = "yes")]
    pub(crate) keep_gpus: bool,
    /// Take agents that have GPUs.
    #[serde(default = "yes")]
    pub(crate) gpus: bool,
    /// Take what the resource manager lends until it wants it back, for steps that allow it.
    #[serde(default)]
    pub(crate) revocable: bool,
    /// Take agents of other regions than the master's.
    #[serde(default = "yes")]
    pub(crate) region_aware: bool,
    /// Roles of some owners: what is offered to a role goes to its owners' steps only.
    #[serde(default)]
    pub(crate) owner_roles: BTreeMap<String, String>,
    /// Tell the master which agents are of use to those who wait.
    #[serde(default = "yes")]
    pub(crate) constrain_offers: bool,
    /// Steps on an agent that is about to be maintained are moved away so many seconds before.
    pub(crate) vacate_before_s: Option<u64>,
    /// How fast steps are started.
    #[serde(default)]
    pub(crate) pacing: Pacing,
    /// When launching stops by itself.
    #[serde(default)]
    pub(crate) brake: Brake,
    /// Fill agents one after the other (`pack`), or spread over them (`spread`).
    #[serde(default)]
    pub(crate) packing: Packing,
    /// What owners may have of it.
    #[serde(default, rename = "owner")]
    pub(crate) owners: BTreeMap<String, OwnerEntry>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Packing {
    #[default]
    Pack,
    Spread,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pacing {
    /// Steps of one agent that are launched and do not run yet, at most.
    pub(crate) starting_per_agent: Option<usize>,
    /// Launches per second, at most.
    pub(crate) per_second: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Brake {
    /// More than so many of a hundred steps, or agents, lost at once: nothing is launched any more.
    pub(crate) percent: Option<u32>,
    /// At once: within so many seconds.
    pub(crate) window_s: Option<u64>,
    /// Losses on fewer agents than these do not count.
    pub(crate) least_agents: Option<usize>,
    /// It goes on after so many seconds without a loss.
    pub(crate) calm_s: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Executor {
    /// A path that exists on every agent, or the file's name once `uri` is fetched.
    pub(crate) command: String,
    /// Fetched and cached by the agent.
    #[serde(default)]
    pub(crate) uri: Option<String>,
    /// What it uses beside its steps.
    #[serde(default = "executor_cpus")]
    pub(crate) cpus: f64,
    /// In mebibytes.
    #[serde(default = "executor_mem")]
    pub(crate) mem: u64,
    /// Whether it keeps steps within the memory that they asked for; none: if the agent limits it.
    #[serde(default)]
    pub(crate) memory: Option<Keeping>,
}

/// What an executor does about steps that use more memory than they asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keeping {
    /// It ends them, by the kernel where it can.
    Enforce,
    /// It ends them, by its own looks.
    Watch,
    /// It measures.
    Measure,
}

impl Keeping {
    /// As the executor reads it from `MESON_EXECUTOR_MEMORY`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Watch => "watch",
            Self::Measure => "measure",
        }
    }
}

pub(super) fn default_pool() -> String {
    "default".to_owned()
}
fn any_role() -> String {
    "*".to_owned()
}
fn root() -> String {
    "root".to_owned()
}
pub(super) fn yes() -> bool {
    true
}
fn executor_cpus() -> f64 {
    0.1
}
pub(super) fn executor_mem() -> u64 {
    64
}

/// The longest window, calm and notice that make sense, in seconds: a day, a day, a week.
const MAX_BRAKE_S: u64 = 24 * 3600;
const MAX_VACATE_S: u64 = 7 * 24 * 3600;

impl Brake {
    fn check(&self) -> Result<(), (&'static str, String)> {
        for (key, seconds) in [
            ("pool.brake.window_s", self.window_s),
            ("pool.brake.calm_s", self.calm_s),
        ] {
            if seconds.is_some_and(|seconds| !(1..=MAX_BRAKE_S).contains(&seconds)) {
                let problem = format!(
                    "{} is not between 1 and {MAX_BRAKE_S}; percent = 101 turns the brake off",
                    seconds.unwrap_or_default()
                );
                return Err((key, problem));
            }
        }
        Ok(())
    }
}

/// What a master takes for a role (`src/common/roles.cpp` in the Mesos repository).
fn is_role(role: &str) -> bool {
    role.split('/').all(|part| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.starts_with('-')
            && (part != "*" || role == "*")
            && !part.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\')
    })
}

impl Pool {
    pub(super) fn complete(&mut self, place: impl Fn(&Path) -> PathBuf) {
        if let Some(credential) = &mut self.credential {
            credential.place(&place);
        }
        if let Some(tls) = &mut self.tls {
            tls.place(&place);
        }
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        masters::check(
            &self.name,
            &self.masters,
            self.credential.as_ref(),
            self.tls.as_ref(),
        )?;
        check_name(&self.name)?;
        terms(&self.owners)?;
        self.brake.check()?;
        let roles = self
            .owner_roles
            .values()
            .map(|role| ("pool.owner_roles", role));
        if let Some((key, role)) = std::iter::once(("pool.role", &self.role))
            .chain(roles)
            .find(|(_, role)| !is_role(role))
        {
            return Err((
                key,
                format!(
                    "{role:?} is no role: no blanks, no `-` in front, no empty part between slashes"
                ),
            ));
        }
        if self.pacing.starting_per_agent == Some(0) || self.pacing.per_second == Some(0) {
            return Err((
                "pool.pacing",
                "with 0 nothing would ever be started: leave it out, or write at least 1"
                    .to_owned(),
            ));
        }
        if self
            .vacate_before_s
            .is_some_and(|seconds| seconds > MAX_VACATE_S)
        {
            return Err((
                "pool.vacate_before_s",
                format!("more than {MAX_VACATE_S}, which is a week"),
            ));
        }
        for (key, text) in [
            ("pool.user", &self.user),
            ("pool.executor.command", &self.executor.command),
        ] {
            if text.trim().is_empty() {
                return Err((key, "it is empty".to_owned()));
            }
        }
        if !(self.executor.cpus.is_finite() && self.executor.cpus >= 0.0) {
            return Err((
                "pool.executor.cpus",
                format!("{} is no amount of processors", self.executor.cpus),
            ));
        }
        Ok(())
    }
}
