//! What the owners of workflows may have of a pool.

use std::collections::BTreeMap;

use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::Bytes;
use meson_engine::broker::OwnerTerms;
use serde::Deserialize;

/// `[pool.owner.NAME]`: who is not named has a weight of 1 and no quota.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerEntry {
    /// Who has twice the weight may hold twice as much while others wait.
    #[serde(default = "one")]
    pub(crate) weight: u32,
    /// Most processors that its steps may hold at once.
    #[serde(default)]
    pub(crate) cpus: Option<f64>,
    /// Most memory, like `"400g"`.
    #[serde(default)]
    pub(crate) mem: Option<String>,
    /// Most GPUs.
    #[serde(default)]
    pub(crate) gpus: Option<u32>,
    /// Most ports.
    #[serde(default)]
    pub(crate) ports: Option<u32>,
}

fn one() -> u32 {
    1
}

/// The owners of a pool as the broker takes them; the key and what is wrong with it, otherwise.
pub(crate) fn terms(
    owners: &BTreeMap<String, OwnerEntry>,
) -> Result<BTreeMap<String, OwnerTerms>, (&'static str, String)> {
    owners
        .iter()
        .map(|(name, entry)| Ok((name.clone(), entry.terms(name)?)))
        .collect()
}

impl OwnerEntry {
    fn terms(&self, name: &str) -> Result<OwnerTerms, (&'static str, String)> {
        if self.weight == 0 {
            let problem = format!("{name:?} has none: the least is 1");
            return Err(("pool.owner.weight", problem));
        }
        let cpus = match self.cpus {
            Some(cpus) if !(cpus.is_finite() && cpus >= 0.0) => {
                let problem = format!("{cpus} of {name:?} is no amount of processors");
                return Err(("pool.owner.cpus", problem));
            }
            // Non-negative and finite, as was just seen.
            cpus => cpus.map(|cpus| MilliCpus((cpus * 1000.0).round() as u64)),
        };
        let mem = self
            .mem
            .as_deref()
            .map(str::parse::<Bytes>)
            .transpose()
            .map_err(|error| ("pool.owner.mem", format!("of {name:?}: {error}")))?;
        let limited =
            cpus.is_some() || mem.is_some() || self.gpus.is_some() || self.ports.is_some();
        Ok(OwnerTerms {
            weight: self.weight,
            quota: limited.then(|| Resources {
                cpus: cpus.unwrap_or(MilliCpus(u64::MAX)),
                mem: mem.unwrap_or(Bytes(u64::MAX)),
                disk: Bytes(u64::MAX),
                gpus: self.gpus.unwrap_or(u32::MAX),
                ports: self.ports.unwrap_or(u32::MAX),
                stated: true,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BTreeMap<String, OwnerTerms>, (&'static str, String)> {
        terms(&toml::from_str(text).unwrap())
    }

    #[test]
    fn weights_and_quotas_are_read_and_what_is_left_out_is_unlimited() {
        let owners = read("[ml]\nweight = 2\n[etl]\ncpus = 1.5\nmem = \"4g\"").unwrap();
        assert_eq!(owners["ml"].weight, 2);
        assert_eq!(owners["ml"].quota, None);
        let quota = owners["etl"].quota.unwrap();
        assert_eq!((quota.cpus, quota.mem), (MilliCpus(1500), Bytes(4 << 30)));
        assert_eq!((quota.gpus, quota.ports), (u32::MAX, u32::MAX));
        let few = read("[etl]\nports = 8").unwrap()["etl"].quota.unwrap();
        assert_eq!((few.ports, few.gpus), (8, u32::MAX));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, key) in [
            ("[ml]\nweight = 0", "pool.owner.weight"),
            ("[ml]\ncpus = -1.0", "pool.owner.cpus"),
            ("[ml]\nmem = \"4\"", "pool.owner.mem"),
        ] {
            let (found, problem) = read(text).unwrap_err();
            assert_eq!(found, key);
            assert!(problem.contains("ml"), "{problem}");
        }
    }
}
