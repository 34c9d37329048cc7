//! `[[pool]]` in a coordinator's configuration: which kind it is decides which keys it has.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use super::Pool;
use super::slurm::SlurmPool;

/// Where resources come from.
#[derive(Debug, Clone)]
pub(crate) enum AnyPool {
    /// `kind = "mesos"`, or no kind.
    Mesos(Pool),
    /// `kind = "slurm"`.
    Slurm(SlurmPool),
}

impl AnyPool {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Mesos(pool) => &pool.name,
            Self::Slurm(pool) => &pool.name,
        }
    }

    /// What is wrong with it, with the key.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        match self {
            Self::Mesos(pool) => pool.check(),
            Self::Slurm(pool) => pool.check(),
        }
    }
}

impl<'de> Deserialize<'de> for AnyPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        let kind = table.remove("kind");
        match kind.as_ref().map(toml::Value::as_str) {
            None | Some(Some("mesos")) => of(table).map(Self::Mesos),
            Some(Some("slurm")) => of(table).map(Self::Slurm),
            _ => Err(D::Error::custom("pool.kind: write \"mesos\" or \"slurm\"")),
        }
    }
}

/// The pool's own keys; what is wrong is told with the pool's name, since there may be several.
fn of<T: DeserializeOwned, E: Error>(table: toml::Table) -> Result<T, E> {
    let name = match table.get("name") {
        Some(toml::Value::String(name)) => name.clone(),
        _ => "default".to_owned(),
    };
    table
        .try_into()
        .map_err(|error: toml::de::Error| E::custom(format!("pool {name:?}: {}", error.message())))
}
