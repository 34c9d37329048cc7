//! The state machine of a run.
//!
//! ```text
//!   input ──► decide(plan, records, input, now) ──► events ──► commit ──► apply(records, event)
//!                                                                │
//!                                                                └──► effects(plan, records, events): what actors have to do
//! ```
//!
//! The state of a run is a set of [records](record): one of the run, one of each entered
//! node instance. A transition reads and writes a number of them that depends on how deep
//! the flow is, never on how wide. `decide` emits events and applies each to an overlay as it
//! goes, so that a step's completion and all that it activates are one batch.
//!
//! The functions, all of them pure:
//!
//! ```text
//!   Plan::new(Arc<Definition>) -> Result<Plan, Vec<Problem>>                    once per definition
//!   create(RunHeader) -> Vec<(RecordKey, Record)>                               the records that a run begins with
//!   decide(&Plan, &dyn Records, &Input, Timestamp) -> Result<Vec<Event>, Rejected>
//!   apply(&mut dyn RecordsMut, &Event)                                          needs no plan: replicas follow without one
//!   effects(&Plan, &dyn Records, &[Event]) -> Vec<Effect>                       records as they are after the events
//!   recover(&Plan, &dyn Records) -> Vec<Effect>                                 after an actor's restart
//!   launch_spec(&Plan, &dyn Records, &Instance, Attempt) -> Result<LaunchSpec, EvalError>
//!   view::run(&Plan, &dyn Records) -> Option<RunView>
//!   view::iterations(&Plan, &dyn Records, NodeId, Option<&IterPath>, usize) -> IterationPage
//! ```

mod apply;
pub mod codec;
mod decide;
pub mod effect;
mod effects;
pub mod event;
pub mod input;
pub mod key;
mod launch;
pub mod limits;
mod plan;
pub mod record;
pub mod records;
mod scope;
mod state;
pub mod view;

pub use apply::{apply, create};
pub use decide::{Rejected, back_off, decide};
pub use effect::{Effect, LaunchKind, LaunchSpec, ResolvedArtifact};
pub use effects::{effects, recover};
pub use event::{Event, Late};
pub use input::{Failure, FailureClass, Input, Outcome};
pub use key::{Family, RecordKey, Scan};
pub use launch::{Claim, claim, launch_spec};
pub use plan::Plan;
pub use record::{Place, Record, RunHeader, RunState, RunStatus, Seat, StepState};
pub use records::{MemoryRecords, Overlay, Records, RecordsMut};
