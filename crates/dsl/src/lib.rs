//! The language that workflows are written in: Starlark, lowered to a [`Definition`].
//!
//! ```text
//!   file ─► [source] parse, limits on shape ─► [evaluate] Starlark with our [builtins] and the prelude
//!        ─► [values]: steps, references, flows ─► [lower] names, scopes, checks ─► Definition
//!        ─► [warnings]; [draw] shows one
//! ```
//!
//! A file is evaluated once, where it is submitted; nothing of Starlark is left in a
//! definition. Files come through [`Files`], so that tests need no disk. Everything that
//! is wrong is told as a [`Diagnostic`] with file, line and column, the source line and
//! what to write instead. The language itself is described in `REFERENCE.md`.

mod arguments;
mod builtins;
mod compile;
mod diagnostic;
pub mod draw;
mod evaluate;
mod fault;
mod files;
mod flow;
mod lower;
mod model;
mod options;
mod scope;
mod session;
mod shape;
mod source;
mod suggest;
mod values;
mod warnings;

pub use self::compile::{Compiled, Location, compile, compile_path};
pub use self::diagnostic::{Diagnostic, Diagnostics, Label, Severity, Warning};
pub use self::draw::{Colour, DrawOptions, Mark, draw};
pub use self::files::{Files, Folder, Memory, Source};
pub use self::options::{History, Limits, Options};

/// The module that holds the standard steps: `load("@meson//steps.star", "python")`.
pub const PRELUDE: &str = "@meson//steps.star";

#[doc(no_inline)]
pub use meson_core::definition::Definition;
