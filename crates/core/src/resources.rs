//! What a step asks for.

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Processor time in thousandths of a core: Mesos's own precision (docs/resources: three decimals).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
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
    /// Ports that nobody else on the machine uses. How many: which ones, is chosen with the place.
    #[serde(default)]
    pub ports: u32,
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
        ports: 0,
        stated: false,
    };

    /// Nothing at all.
    pub const ZERO: Self = Self {
        cpus: MilliCpus(0),
        mem: Bytes(0),
        disk: Bytes(0),
        gpus: 0,
        ports: 0,
        stated: true,
    };

    /// Whether all of this is there in `room`.
    pub fn fits_in(&self, room: &Self) -> bool {
        self.cpus <= room.cpus
            && self.mem <= room.mem
            && self.disk <= room.disk
            && self.gpus <= room.gpus
            && self.ports <= room.ports
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_add, u32::saturating_add)
    }

    /// What is left of this without `other`; never below nothing.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, u64::saturating_sub, u32::saturating_sub)
    }

    /// `n` times as much.
    #[must_use]
    pub fn times(&self, n: u32) -> Self {
        Self {
            cpus: MilliCpus(self.cpus.0.saturating_mul(n.into())),
            mem: Bytes(self.mem.0.saturating_mul(n.into())),
            disk: Bytes(self.disk.0.saturating_mul(n.into())),
            gpus: self.gpus.saturating_mul(n),
            ports: self.ports.saturating_mul(n),
            stated: self.stated,
        }
    }

    /// Whether it is nothing at all.
    pub fn is_nothing(&self) -> bool {
        self.fits_in(&Self::ZERO)
    }

    /// The larger amount of each resource.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        self.zip(other, u64::max, u32::max)
    }

    fn zip(&self, other: &Self, amount: fn(u64, u64) -> u64, count: fn(u32, u32) -> u32) -> Self {
        Self {
            cpus: MilliCpus(amount(self.cpus.0, other.cpus.0)),
            mem: Bytes(amount(self.mem.0, other.mem.0)),
            disk: Bytes(amount(self.disk.0, other.disk.0)),
            gpus: count(self.gpus, other.gpus),
            ports: count(self.ports, other.ports),
            stated: self.stated || other.stated,
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self::DEFAULT
    }
}
