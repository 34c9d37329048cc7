//! What runs while things break: a stream of workflows of all shapes.
//!
//! `workload` compiles the workflows of the folder `workflows`, `submit` sends one run as a patient client
//! does, `stream` does that over and over, `probe` asks what should be refused.

mod probe;
mod stream;
mod submit;
mod workload;

pub use self::workload::Workload;
pub(crate) use self::{
    probe::{BadInput, minority},
    stream::{Load, LoadPlan},
    submit::Submitter,
    workload::{SWEEP, at_home},
};
