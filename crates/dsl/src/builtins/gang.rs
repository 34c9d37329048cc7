//! `gang(…)`: a step of several equal tasks that start together or not at all.

use meson_core::matching::Gang;
use meson_core::validate::MAX_GANG;
use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::starlark_module;
use starlark::values::tuple::UnpackTuple;
use starlark::values::{Value, ValueLike as _};

use crate::arguments::Arguments;
use crate::fault::Fault;
use crate::values::{GangValue, describe};

pub(super) const GANG: &[&str] = &["tasks", "apart", "one_zone"];

/// The argument `gang` of a step.
pub(super) fn gang(args: &Arguments<'_>) -> Result<Gang, Fault> {
    let Some(value) = args.take("gang") else {
        return Ok(Gang::default());
    };
    match value.downcast_ref::<GangValue>() {
        Some(GangValue(gang)) => Ok(gang.clone()),
        None => Err(Fault::new(
            "type",
            format!("`gang` is gang(…), not {}", describe(value)),
        )
        .help("write gang = gang(tasks = 4)")
        .arg("gang")),
    }
}

#[starlark_module]
pub(super) fn functions(builder: &mut GlobalsBuilder) {
    /// Several equal tasks, placed together or not at all.
    fn gang<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
    ) -> starlark::Result<GangValue> {
        let args = Arguments::new("gang", GANG, &positional.items, named, 1)?;
        args.required("tasks")?;
        let tasks = args.count("tasks", 0)?.unwrap_or(1);
        if tasks < 2 {
            return Err(Fault::new(
                "value",
                format!("a gang of {tasks} is none: one task is an ordinary step"),
            )
            .help(format!(
                "leave `gang` out, or ask for 2 to {MAX_GANG} tasks"
            ))
            .arg("tasks")
            .into());
        }
        if tasks > MAX_GANG {
            return Err(Fault::new(
                "value",
                format!("a gang of {tasks} tasks: at most {MAX_GANG} can start together"),
            )
            .help("if they need not run at the same time, they are the iterations of a for_each")
            .arg("tasks")
            .into());
        }
        Ok(GangValue(Gang {
            tasks,
            apart: args.truth("apart")?,
            one_zone: args.truth("one_zone")?,
        }))
    }
}
