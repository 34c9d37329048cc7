//! What to show at the end.
//!
//! `latency` measures how long runs stood still, `table` says it on the terminal, `timeline` draws a page to
//! look at, without anything from elsewhere in it; `lanes` are the bars on that page.

mod lanes;
mod latency;
mod table;
mod timeline;

pub use self::{
    latency::{Distribution, Standstill, standstill},
    table::table,
    timeline::timeline,
};
