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
    table.try_into().map_err(|error: toml::de::Error| {
        // The line is not known any more, so the key has to say where it is.
        let (message, whole) = (error.message(), error.to_string());
        let key = whole[message.len().min(whole.len())..].trim();
        let key = if key.is_empty() {
            String::new()
        } else {
            format!(" {key}")
        };
        E::custom(format!("pool {name:?}: {message}{key}"))
    })
}

/// What is wrong with a pool's name, which operators write on command lines, and which is a part of
/// the names of folders.
pub(super) fn check_name(name: &str) -> Result<(), (&'static str, String)> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !name.is_empty() && name.chars().all(good) {
        return Ok(());
    }
    Err((
        "pool.name",
        format!("{name:?} is no name: letters, digits, `_`, `-` and `.` make one"),
    ))
}
