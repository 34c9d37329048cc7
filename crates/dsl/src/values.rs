//! The values that a workflow file works with: steps, references to their outputs,
//! parameters, artifacts, flows and workflows.

#![expect(
    unsafe_code,
    reason = "starlark's derive of ProvidesStaticType writes an unsafe impl"
)]

use std::fmt::{self, Display};
use std::sync::Arc;

use allocative::Allocative;
use meson_core::definition::Produces;
use meson_core::matching::Gang;
use meson_core::resources::Resources;
use meson_core::sizing::Auto;
use starlark::any::ProvidesStaticType;
use starlark::codemap::FileSpan;
use starlark::eval::Evaluator;
use starlark::starlark_simple_value;
use starlark::values::{
    Heap, NoSerialize, StarlarkPagablePanic, StarlarkValue, Value, ValueLike as _, starlark_value,
};

use crate::fault::Fault;
use crate::flow::{Child, Flow};
use crate::model::{ParamDef, Reference, StepDef, WorkflowDef};

macro_rules! value {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, StarlarkPagablePanic)]
        pub(crate) struct $name(#[allocative(skip)] pub(crate) $inner);
        starlark_simple_value!($name);
    };
}

value! {
    /// What `python(…)` and the like return.
    StepValue(Arc<StepDef>)
}
value! {
    /// `step.output`.
    ReferenceValue(Reference)
}
value! {
    /// What `param(…)` returns.
    ParamValue(Arc<ParamDef>)
}
value! {
    /// What `artifact(…)` returns.
    ArtifactValue(Produces)
}
value! {
    /// What `auto(…)` returns.
    AutoValue((Resources, Auto))
}
value! {
    /// What `gang(…)` returns.
    GangValue(Gang)
}
value! {
    /// What `>>`, `|` and the verbs return.
    FlowValue(Arc<Flow>)
}
value! {
    /// What `workflow(…)` returns.
    WorkflowValue(Arc<WorkflowDef>)
}

impl Display for StepValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<step {}>",
            self.0.name.get().map_or("without a name", String::as_str)
        )
    }
}

impl Display for ReferenceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{{ {} }}}}", self.0.expression())
    }
}

impl Display for ArtifactValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<artifact {}>", self.0.name)
    }
}

impl Display for AutoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resources, auto) = &self.0;
        write!(f, "<resources from {} to {}>", resources.mem, auto.max_mem)
    }
}

impl Display for GangValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<gang of {} tasks>", self.0.tasks)
    }
}

impl Display for FlowValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<flow>")
    }
}

impl Display for WorkflowValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<workflow {}>", self.0.name)
    }
}

/// `left >> right` without places, as `flow >>= step` does it.
fn then<'v>(left: Arc<Flow>, right: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
    let right = child(right, None).ok_or_else(|| not_a_flow(right))?;
    Ok(heap.alloc(FlowValue(Flow::then(
        &Child {
            flow: left,
            at: None,
        },
        &right,
    )?)))
}

fn beside<'v>(left: Arc<Flow>, right: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
    let right = child(right, None).ok_or_else(|| not_a_flow(right))?;
    Ok(heap.alloc(FlowValue(Flow::beside(
        &Child {
            flow: left,
            at: None,
        },
        &right,
    )?)))
}

#[starlark_value(type = "step")]
impl<'v> StarlarkValue<'v> for StepValue {
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        self.0.outputs().any(|output| output == attribute).then(|| {
            heap.alloc(ReferenceValue(Reference {
                step: Arc::clone(&self.0),
                output: attribute.to_owned(),
            }))
        })
    }

    fn has_attr(&self, attribute: &str, _heap: Heap<'v>) -> bool {
        self.0.outputs().any(|output| output == attribute)
    }

    fn dir_attr(&self) -> Vec<String> {
        self.0.outputs().map(str::to_owned).collect()
    }

    fn export_as(
        &self,
        variable_name: &str,
        _eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<()> {
        // The first variable names it; a second one is an alias.
        let _ = self.0.name.set(variable_name.to_owned());
        Ok(())
    }

    fn right_shift(&self, other: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        then(Flow::step(Arc::clone(&self.0)), other, heap)
    }

    fn bit_or(&self, other: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        beside(Flow::step(Arc::clone(&self.0)), other, heap)
    }
}

#[starlark_value(type = "flow")]
impl<'v> StarlarkValue<'v> for FlowValue {
    fn right_shift(&self, other: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        then(Arc::clone(&self.0), other, heap)
    }

    fn bit_or(&self, other: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        beside(Arc::clone(&self.0), other, heap)
    }
}

/// `"--in=" + step.output`: text with the reference in it.
fn join_text<'v>(
    left: Option<&str>,
    right: Option<&str>,
    heap: Heap<'v>,
) -> Option<starlark::Result<Value<'v>>> {
    Some(Ok(heap.alloc(format!("{}{}", left?, right?))))
}

#[starlark_value(type = "output")]
impl<'v> StarlarkValue<'v> for ReferenceValue {
    fn add(&self, rhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        join_text(Some(&self.to_string()), rhs.unpack_str(), heap)
    }

    fn radd(&self, lhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        join_text(lhs.unpack_str(), Some(&self.to_string()), heap)
    }
}

#[starlark_value(type = "param")]
impl<'v> StarlarkValue<'v> for ParamValue {
    fn export_as(
        &self,
        variable_name: &str,
        _eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<()> {
        let _ = self.0.name.set(variable_name.to_owned());
        Ok(())
    }

    fn add(&self, rhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        join_text(Some(&self.to_string()), rhs.unpack_str(), heap)
    }

    fn radd(&self, lhs: Value<'v>, heap: Heap<'v>) -> Option<starlark::Result<Value<'v>>> {
        join_text(lhs.unpack_str(), Some(&self.to_string()), heap)
    }
}

#[starlark_value(type = "artifact")]
impl<'v> StarlarkValue<'v> for ArtifactValue {}

#[starlark_value(type = "resources")]
impl<'v> StarlarkValue<'v> for AutoValue {}

#[starlark_value(type = "gang")]
impl<'v> StarlarkValue<'v> for GangValue {}

#[starlark_value(type = "workflow")]
impl<'v> StarlarkValue<'v> for WorkflowValue {}

/// `value` as a part of a flow, if it can be one.
pub(crate) fn child(value: Value<'_>, at: Option<FileSpan>) -> Option<Child> {
    let flow = if let Some(step) = value.downcast_ref::<StepValue>() {
        Flow::step(Arc::clone(&step.0))
    } else {
        Arc::clone(&value.downcast_ref::<FlowValue>()?.0)
    };
    Some(Child { flow, at })
}

pub(crate) fn not_a_flow(value: Value<'_>) -> Fault {
    let fault = Fault::new(
        "type",
        format!("a flow is made of steps; this is {}", describe(value)),
    );
    match value.get_type() {
        "workflow" => fault.help("run it as a step: run_workflow(that_workflow, params = {…})"),
        "function" => fault.help("call it: a step function returns the step"),
        "list" | "tuple" => fault.help("write sequence(*steps) or parallel(*steps)"),
        "output" => fault.help("name the step, not its output"),
        "string" => fault.help("write the step's variable, without quotes"),
        _ => fault.help("join steps with `>>` and `|`"),
    }
}

/// What `value` is, for people.
pub(crate) fn describe(value: Value<'_>) -> String {
    match value.get_type() {
        "string" => {
            let text = value.unpack_str().unwrap_or_default();
            let short: String = text.chars().take(40).collect();
            format!("the text {short:?}")
        }
        "int" | "float" => format!("the number {value}"),
        "bool" => format!("{value}"),
        "NoneType" => "None".to_owned(),
        "list" => "a list".to_owned(),
        "tuple" => "a tuple".to_owned(),
        "dict" => "a dict".to_owned(),
        "output" => "a step's output".to_owned(),
        "step" => "a step".to_owned(),
        "param" => "a parameter".to_owned(),
        other => format!("a {other}"),
    }
}
