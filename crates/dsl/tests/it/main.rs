//! Whole files through the compiler.

mod arguments;
mod diagnostics;
mod equality;
mod examples;
mod language;
mod limits;
mod reference;
mod support;
mod warnings;
