//! What an expression may cost. Each limit is named in the error that enforces it.

/// Longest source of one expression, in bytes.
pub const SOURCE_BYTES: usize = 4 << 10;

/// Longest template, in bytes: scripts are written inline.
pub const TEMPLATE_BYTES: usize = 256 << 10;

/// Most expressions in one template.
pub const TEMPLATE_EXPRESSIONS: usize = 256;

/// Deepest nesting of brackets.
pub const NESTING: usize = 24;

/// Most operators, member accesses and calls: they bound how deep the parser recurses.
pub const OPERATORS: usize = 128;

/// Largest result of one evaluation, and of one resolved template, in bytes of JSON (estimated).
pub const RESULT_BYTES: usize = 1 << 20;

/// Steps that one evaluation may take: about a tenth of a second at worst.
pub const FUEL: u64 = 1_000_000;

/// Longest regular expression, in bytes.
pub const REGEX_BYTES: usize = 512;
