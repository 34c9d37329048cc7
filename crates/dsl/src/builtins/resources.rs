//! What a step asks for: a dict, or `auto(…)`, which lets it learn.

use meson_core::resources::{MilliCpus, Resources};
use meson_core::sizing::Auto;
use meson_core::units::Bytes;
use meson_core::validate::MAX_PORTS;
use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::starlark_module;
use starlark::values::tuple::UnpackTuple;
use starlark::values::{UnpackValue as _, Value, ValueLike as _};

use crate::arguments::{Arguments, number};
use crate::fault::{Fault, Focus};
use crate::suggest;
use crate::values::{AutoValue, describe};

pub(super) const AUTO: &[&str] = &[
    "cpus", "mem", "disk", "gpus", "ports", "max_mem", "max_cpus",
];

/// More than any machine has: a mistake in the unit.
const MOST_CPUS: f64 = 1024.0;
const MOST_MEM: Bytes = Bytes(64 << 40);
const MOST_GPUS: u32 = 128;
/// What Mesos needs at least (src/master/constants.hpp: MIN_CPUS, MIN_MEM).
const LEAST_CPUS: f64 = 0.01;
const LEAST_MEM: Bytes = Bytes::from_mib(32);
/// How much more memory than at first a step may learn to ask for when it does not say.
const GROWTH: u64 = 4;

/// The argument `resources` of a step.
pub(super) fn resources(args: &Arguments<'_>) -> Result<(Resources, Option<Auto>), Fault> {
    const KEYS: [&str; 5] = ["cpus", "mem", "disk", "gpus", "ports"];
    let Some(value) = args.take("resources") else {
        return Ok((Resources::DEFAULT, None));
    };
    if let Some(AutoValue((resources, auto))) = value.downcast_ref::<AutoValue>() {
        return Ok((*resources, Some(*auto)));
    }
    let mut resources = stated();
    for (key, value) in args.dict("resources", value)? {
        let place = |fault: Fault| fault.on(Focus::Text(format!("\"{key}\"")));
        match key.as_str() {
            "cpus" => resources.cpus = cores(&key, value).map_err(place)?,
            "gpus" => resources.gpus = whole(&key, MOST_GPUS, value).map_err(place)?,
            "ports" => resources.ports = whole(&key, MAX_PORTS, value).map_err(place)?,
            "mem" => resources.mem = memory(&key, value).map_err(place)?,
            "disk" => resources.disk = size(&key, value).map_err(place)?,
            _ => {
                let fault = Fault::new("resources", format!("there is no resource `{key}`"))
                    .maybe_help(suggest::remedy(&key, "there are", &KEYS));
                return Err(place(fault));
            }
        }
    }
    Ok((resources, None))
}

fn stated() -> Resources {
    Resources {
        stated: true,
        ..Resources::DEFAULT
    }
}

fn wrong(message: String) -> Fault {
    Fault::new("resources", message)
}

fn cores(key: &str, value: Value<'_>) -> Result<MilliCpus, Fault> {
    let cpus = number(value).ok_or_else(|| {
        wrong(format!("`{key}` is a number, not {}", describe(value)))
            .help("write a number, like 0.5")
    })?;
    if !(LEAST_CPUS..=MOST_CPUS).contains(&cpus) {
        return Err(wrong(format!("no machine can give {cpus} cpus"))
            .help(format!("ask for {LEAST_CPUS} to {MOST_CPUS} cpus")));
    }
    Ok(MilliCpus((cpus * 1000.0).round() as u64))
}

fn whole(key: &str, most: u32, value: Value<'_>) -> Result<u32, Fault> {
    i64::unpack_value(value)
        .ok()
        .flatten()
        .filter(|_| value.get_type() == "int")
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| *count <= most)
        .ok_or_else(|| {
            wrong(format!(
                "`{key}` is a whole number from 0 to {most}, not {}",
                describe(value)
            ))
        })
}

fn size(key: &str, value: Value<'_>) -> Result<Bytes, Fault> {
    let text = value.unpack_str().ok_or_else(|| {
        let help = i64::unpack_value(value).ok().flatten().map_or_else(
            || "write it like \"512m\" or \"1g\"".to_owned(),
            |n| format!("write the unit: \"{n}m\" or \"{n}g\""),
        );
        wrong(format!(
            "`{key}` is a size like \"512m\", not {}",
            describe(value)
        ))
        .help(help)
    })?;
    let bytes: Bytes = text
        .parse()
        .map_err(|error| wrong(format!("`{key}`: {error}")))?;
    if bytes > MOST_MEM {
        return Err(wrong(format!("no machine has {bytes} of {key}"))
            .help("check the unit: \"512m\", \"16g\""));
    }
    Ok(bytes)
}

fn memory(key: &str, value: Value<'_>) -> Result<Bytes, Fault> {
    let bytes = size(key, value)?;
    if bytes < LEAST_MEM {
        return Err(wrong(format!(
            "{bytes} of {key} is less than a task needs to start"
        ))
        .help(format!("ask for {LEAST_MEM} or more; check the unit")));
    }
    Ok(bytes)
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// Resources to begin with, for a step that learns what it needs.
    fn auto<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
    ) -> starlark::Result<AutoValue> {
        let args = Arguments::new("auto", AUTO, &positional.items, named, 0)?;
        let mut resources = stated();
        let at = |key: &'static str| move |fault: Fault| fault.arg(key);
        if let Some(value) = args.take("cpus") {
            resources.cpus = cores("cpus", value).map_err(at("cpus"))?;
        }
        if let Some(value) = args.take("mem") {
            resources.mem = memory("mem", value).map_err(at("mem"))?;
        }
        if let Some(value) = args.take("disk") {
            resources.disk = size("disk", value).map_err(at("disk"))?;
        }
        if let Some(value) = args.take("gpus") {
            resources.gpus = whole("gpus", MOST_GPUS, value).map_err(at("gpus"))?;
        }
        if let Some(value) = args.take("ports") {
            resources.ports = whole("ports", MAX_PORTS, value).map_err(at("ports"))?;
        }
        let max_mem = match args.take("max_mem") {
            Some(value) => memory("max_mem", value).map_err(at("max_mem"))?,
            None => Bytes(resources.mem.0.saturating_mul(GROWTH).min(MOST_MEM.0)),
        };
        if max_mem < resources.mem {
            return Err(wrong(format!(
                "`max_mem` is {max_mem}, less than the {} of `mem` to begin with",
                resources.mem
            ))
            .help("let `mem` be a first guess, and `max_mem` the most that the step may ever get")
            .arg("max_mem")
            .into());
        }
        let max_cpus = match args.take("max_cpus") {
            Some(value) => Some(cores("max_cpus", value).map_err(at("max_cpus"))?),
            None => None,
        };
        if max_cpus.is_some_and(|most| most < resources.cpus) {
            return Err(wrong("`max_cpus` is less than the `cpus` to begin with".to_owned())
                .help("let `cpus` be a first guess, or leave `max_cpus` out: then cores are not learned")
                .arg("max_cpus")
                .into());
        }
        Ok(AutoValue((resources, Auto { max_mem, max_cpus })))
    }
}
