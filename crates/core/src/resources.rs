//! What a step asks for.

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Processor time in thousandths of a core: Mesos's own precision (docs/resources: three decimals).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliCpus(pub u64);

/// An amount of each resource that Meson schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time.
    pub cpus: MilliCpus,
    /// Memory.
    pub mem: Bytes,
    /// Scratch space.
    #[serde(default)]
    pub disk: Bytes,
    /// Whole GPUs.
    #[serde(default)]
    pub gpus: u32,
    /// False when the author said nothing and these are the defaults.
    #[serde(default = "yes")]
    pub stated: bool,
}

fn yes() -> bool {
    true
}

impl Resources {
    /// What a step gets that states nothing: half a core and 256 MiB.
    pub const DEFAULT: Self = Self {
        cpus: MilliCpus(500),
        mem: Bytes::from_mib(256),
        disk: Bytes(0),
        gpus: 0,
        stated: false,
    };
}

impl Default for Resources {
    fn default() -> Self {
        Self::DEFAULT
    }
}
