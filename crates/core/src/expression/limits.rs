//! What an expression may cost. Each limit is named in the error that enforces it.

/// Longest source of one expression, in bytes.
pub const SOURCE_BYTES: usize = 4 << 10;

/// Longest template, in bytes: scripts are written inline.
pub const TEMPLATE_BYTES: usize = 256 << 10;

/// Most expressions in one template.
pub const TEMPLATE_EXPRESSIONS: usize = 256;

/// How deep the parser and the evaluation may recurse: every operator, access and call around a
/// place counts one (a comparison three), every pair of brackets [`BRACKET_DEPTH`] and one. The
/// tests evaluate the deepest that is allowed within 1.5 MiB of stack, unoptimised; 48 did not fit.
pub const DEPTH: usize = 35;

/// What a pair of brackets counts: the grammar goes through all its levels again inside of it.
pub const BRACKET_DEPTH: usize = 6;

/// Largest result of one evaluation, and of one resolved template, in bytes of JSON (estimated).
pub const RESULT_BYTES: usize = 1 << 20;

/// Steps that one evaluation may take. A step is a node of the expression, a scalar or 64 bytes of text.
pub const FUEL: u64 = 1_000_000;

/// Longest regular expression, in bytes.
pub const REGEX_BYTES: usize = 512;
