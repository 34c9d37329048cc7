//! `[[pool]]` with `kind = "slurm"`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meson_engine::slurm::Owner;
use meson_slurm::Commands;
use nix::unistd::{Uid, User};
use serde::Deserialize;

use super::mesos::{Packing, default_pool, executor_mem, yes};
use super::pools::check_name;

/// A Slurm partition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlurmPool {
    /// Its name; `default` serves steps that name none.
    #[serde(default = "default_pool")]
    pub(crate) name: String,
    /// The region that it is in.
    #[serde(default)]
    pub(crate) region: String,
    /// The partition that jobs are submitted to.
    pub(crate) partition: String,
    /// Who pays for them (`sbatch --account`).
    pub(crate) account: Option<String>,
    /// `sbatch --qos`.
    pub(crate) qos: Option<String>,
    /// `sbatch --reservation`.
    pub(crate) reservation: Option<String>,
    /// `sbatch --time`, in minutes.
    pub(crate) time_limit_minutes: Option<u64>,
    /// Whom they run as; only a coordinator of root's may say somebody else than itself.
    pub(crate) user: Option<String>,
    /// A folder that coordinators and nodes see under the same path.
    pub(crate) spool: PathBuf,
    /// A folder of each node's own that steps work in, and that is left empty; `spool` otherwise.
    pub(crate) scratch: Option<PathBuf>,
    /// The folder of Slurm's commands; those of `PATH` otherwise.
    pub(crate) commands: Option<PathBuf>,
    /// `slurm.conf`, where it is not in its usual place.
    pub(crate) slurm_conf: Option<PathBuf>,
    /// Milliseconds between two questions to Slurm's controller.
    #[serde(default = "poll_ms")]
    pub(crate) poll_ms: u64,
    /// For steps, beside `PATH`, `HOME` and the like.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    /// The executor on nodes.
    pub(crate) executor: SlurmExecutor,
    /// Keep nodes that have GPUs for steps that ask for some.
    #[serde(default = "yes")]
    pub(crate) keep_gpus: bool,
    /// Fill nodes one after the other (`pack`), or spread over them (`spread`).
    #[serde(default)]
    pub(crate) packing: Packing,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SlurmExecutor {
    /// A path that exists on every node.
    pub(crate) command: PathBuf,
    /// What each job asks for beside its step's memory, in mebibytes.
    #[serde(default = "executor_mem")]
    pub(crate) mem: u64,
}

fn poll_ms() -> u64 {
    1000
}

/// Less often than this would be an unresponsive pool, more often a burden for the controller.
const POLL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

type Wrong = (&'static str, String);

impl SlurmPool {
    /// Paths are relative to the file's folder.
    pub(super) fn complete(&mut self, folder: &Path) {
        self.spool = folder.join(&self.spool);
        for path in [&mut self.commands, &mut self.slurm_conf]
            .into_iter()
            .flatten()
        {
            *path = folder.join(&*path);
        }
    }

    pub(super) fn check(&self) -> Result<(), Wrong> {
        check_name(&self.name)?;
        if self.partition.is_empty() || self.partition.contains([',', ' ']) {
            return Err((
                "pool.partition",
                format!("{:?}: name one partition", self.partition),
            ));
        }
        if !POLL_MS.contains(&self.poll_ms) {
            return Err((
                "pool.poll_ms",
                format!("{}: write a number in {POLL_MS:?}", self.poll_ms),
            ));
        }
        if self.time_limit_minutes == Some(0) {
            return Err((
                "pool.time_limit_minutes",
                "0: a job needs at least a minute; leave it out for the partition's own limit"
                    .to_owned(),
            ));
        }
        for (key, path) in [
            ("pool.executor.command", Some(&self.executor.command)),
            ("pool.scratch", self.scratch.as_ref()),
        ] {
            if let Some(path) = path.filter(|path| !path.is_absolute()) {
                return Err((
                    key,
                    format!("{path:?}: write the whole path that nodes have it under"),
                ));
            }
        }
        if let Some(name) = self
            .environment
            .keys()
            .find(|name| name.is_empty() || name.contains(['=', '\0']))
        {
            return Err((
                "pool.environment",
                format!("{name:?} is no variable's name"),
            ));
        }
        self.owner().map(|_| ())
    }

    /// Whom jobs run as, if it is somebody else than we.
    pub(crate) fn owner(&self) -> Result<Option<Owner>, Wrong> {
        let Some(name) = &self.user else {
            return Ok(None);
        };
        let user = match User::from_name(name) {
            Ok(Some(user)) => user,
            Ok(None) => return Err(("pool.user", format!("there is no user {name:?} here"))),
            Err(error) => return Err(("pool.user", format!("{name:?}: {error}"))),
        };
        let own = Uid::effective();
        if user.uid == own {
            return Ok(None);
        }
        if !own.is_root() {
            return Err((
                "pool.user",
                format!(
                    "{name:?}: only a coordinator that runs as root may run jobs as another user"
                ),
            ));
        }
        Ok(Some(Owner {
            name: name.clone(),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }))
    }

    /// Whose jobs they are, by number: every command of Slurm's takes that as well.
    pub(crate) fn job_user(&self) -> Result<String, Wrong> {
        let owner = self.owner()?;
        let uid = owner.map_or_else(|| Uid::effective().as_raw(), |owner| owner.uid);
        Ok(uid.to_string())
    }

    /// What is missing on this machine, before its commands are tried: without a configuration they
    /// wait a minute for one.
    pub(crate) fn missing(&self) -> Option<String> {
        let config = self.slurm_conf.as_deref()?;
        let found = std::fs::File::open(config);
        let error = found.err()?;
        Some(format!(
            "pool.slurm_conf: cannot read {}: {error}",
            config.display()
        ))
    }

    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// How to speak to Slurm.
    pub(crate) fn slurm(&self) -> Commands {
        Commands {
            folder: self.commands.clone(),
            config: self.slurm_conf.clone(),
            environment: self
                .environment
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AnyPool;
    use super::super::tests::{GOOD, read};

    const SLURM: &str = r#"
        [[pool]]
        kind = "slurm"
        name = "hpc"
        partition = "main"
        spool = "spool"
        executor = { command = "/usr/bin/meson-executor" }
    "#;

    #[test]
    fn a_pool_of_slurm_stands_beside_one_of_mesos() {
        let config = read(&format!("{GOOD}{SLURM}")).unwrap();
        let [AnyPool::Mesos(_), AnyPool::Slurm(pool)] = &config.pools[..] else {
            panic!("{:?}", config.pools)
        };
        assert!(pool.spool.is_absolute(), "relative to the file");
        assert_eq!((pool.poll_ms, pool.executor.mem), (1000, 64));
        assert_eq!(pool.owner().unwrap(), None);
    }

    #[test]
    fn mistakes_in_a_pool_of_slurm_are_named_with_their_place() {
        let good = format!("{GOOD}{SLURM}");
        for (from, to, expected) in [
            ("\"slurm\"", "\"sge\"", "pool.kind"),
            (
                "partition = \"main\"",
                "",
                "pool \"hpc\": missing field `partition`",
            ),
            (
                "partition = \"main\"",
                "masters = []\npartition = \"main\"",
                "pool \"hpc\": unknown field `masters`",
            ),
            ("\"main\"", "\"main,long\"", "pool.partition"),
            ("\"hpc\"", "\"default\"", "two pools"),
            ("\"hpc\"", "\"a/b\"", "pool.name"),
            ("spool =", "poll_ms = 5\nspool =", "pool.poll_ms"),
            (
                "spool =",
                "time_limit_minutes = 0\nspool =",
                "pool.time_limit_minutes",
            ),
            ("spool =", "scratch = \"tmp\"\nspool =", "pool.scratch"),
            (
                "spool =",
                "environment = { \"A=B\" = \"1\" }\nspool =",
                "pool.environment",
            ),
            (
                "spool =",
                "user = \"nobody-of-this-name\"\nspool =",
                "pool.user",
            ),
            ("\"/usr/bin/meson", "\"meson", "pool.executor.command"),
        ] {
            // The last of them: the first pool is Mesos's.
            let at = good.rfind(from).unwrap_or_else(|| panic!("{from}"));
            let text = format!("{}{to}{}", &good[..at], &good[at + from.len()..]);
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }
}
