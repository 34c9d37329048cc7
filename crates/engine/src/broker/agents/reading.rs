//! What offers say, in our own words: amounts, attributes, times.

use meson_core::matching::Outage;
use meson_core::resources::{MilliCpus, Resources};
use meson_core::units::{Bytes, Duration, Timestamp};
use meson_mesos::resources::{is_plain, to_fixed};
use meson_mesos::types::{Attribute, Resource, Unavailability};
use serde_json::Value;

use crate::broker::ports;

/// What may be kept for as long as it is used, and what may be taken away again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) firm: Resources,
    pub(super) revocable: Resources,
}

impl Room {
    pub(super) const NOTHING: Self = Self {
        firm: Resources::ZERO,
        revocable: Resources::ZERO,
    };

    pub(super) fn with(self, firm: &Resources) -> Self {
        Self {
            firm: self.firm.plus(firm),
            ..self
        }
    }

    pub(super) fn of<'a>(resources: impl IntoIterator<Item = &'a Resource> + Clone) -> Self {
        let sum = |revocable: bool| {
            let all = resources.clone().into_iter();
            amounts(all.filter(move |resource| resource.revocable.is_some() == revocable))
        };
        Self {
            firm: Resources {
                ports: ports::count(resources.clone()),
                ..sum(false)
            },
            revocable: sum(true),
        }
    }
}

/// When a machine goes down, in our own units.
pub(super) fn outage(unavailability: &Unavailability) -> Outage {
    let ms = |nanoseconds: i64| u64::try_from(nanoseconds / 1_000_000).unwrap_or(0);
    let from = Timestamp(ms(unavailability.start.nanoseconds));
    Outage {
        from,
        until: unavailability
            .duration
            .map(|duration| from.after(Duration(ms(duration.nanoseconds)))),
    }
}

/// The scalars that Meson schedules, no ports, out of Mesos's list.
fn amounts<'a>(resources: impl Iterator<Item = &'a Resource>) -> Resources {
    let mut thousandths = [0u64; 4];
    for resource in resources.filter(|resource| is_plain(resource)) {
        let name = ["cpus", "mem", "disk", "gpus"];
        let Some(index) = name.iter().position(|name| *name == resource.name) else {
            continue;
        };
        if let Some(scalar) = &resource.scalar {
            let amount = u64::try_from(to_fixed(scalar.value)).unwrap_or(0);
            thousandths[index] = thousandths[index].saturating_add(amount);
        }
    }
    let [cpus, mem, disk, gpus] = thousandths;
    // Mesos counts memory and disk in mebibytes, with three decimals.
    let size = |thousandths: u64| Bytes(thousandths.saturating_mul(1 << 20) / 1000);
    Resources {
        cpus: MilliCpus(cpus),
        mem: size(mem),
        disk: size(disk),
        gpus: u32::try_from(gpus / 1000).unwrap_or(u32::MAX),
        ports: 0,
        stated: true,
    }
}

/// `spark:3.5` is the number 3.5 to Mesos, `spark:3.5.1` a text: expressions see what Mesos sees.
pub(in crate::broker) fn attribute_value(attribute: &Attribute) -> Value {
    if let Some(scalar) = &attribute.scalar {
        return serde_json::json!(scalar.value);
    }
    if let Some(text) = &attribute.text {
        return Value::String(text.value.clone());
    }
    let ranges = attribute.ranges.as_ref().map(|ranges| {
        ranges
            .range
            .iter()
            .map(|range| format!("{}-{}", range.begin, range.end))
            .collect::<Vec<_>>()
            .join(",")
    });
    Value::String(ranges.unwrap_or_default())
}
