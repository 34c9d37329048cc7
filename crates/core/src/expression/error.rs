use super::limits;

/// An expression or template that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// The source is too long.
    #[error(
        "expression of {bytes} bytes: at most {} are allowed; move the logic into a step",
        limits::SOURCE_BYTES
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The template is too long.
    #[error(
        "text of {bytes} bytes: at most {} are allowed; put it into a file of the bundle",
        limits::TEMPLATE_BYTES
    )]
    TemplateTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The template has too many expressions.
    #[error(
        "text with more than {} expressions; compute what it needs in a step",
        limits::TEMPLATE_EXPRESSIONS
    )]
    TooManyExpressions,
    /// Operators and brackets are nested too deep.
    #[error(
        "operators and brackets nested too deep (at most {} operators, or {} brackets, around one place): split the expression over steps",
        limits::DEPTH,
        limits::DEPTH / (limits::BRACKET_DEPTH + 1)
    )]
    TooDeep,
    /// It is no CEL.
    #[error("cannot parse `{source_text}`: {reason} (column {column})")]
    Syntax {
        /// The source.
        source_text: String,
        /// What the parser said.
        reason: String,
        /// Where, from 1.
        column: usize,
    },
    /// It uses something of CEL that has no meaning here.
    #[error("`{what}` is not available in expressions{remedy}")]
    Unavailable {
        /// What it uses.
        what: String,
        /// What to write instead, with a leading separator, or nothing.
        remedy: &'static str,
    },
    /// `${{` without its `}}`.
    #[error(
        "`${{{{` at byte {offset} is never closed by `}}}}`; write `$${{{{` if it is meant as text"
    )]
    Unterminated {
        /// Where it begins.
        offset: usize,
    },
    /// An expression within a template is wrong.
    #[error("in the `${{{{ … }}}}` at byte {offset}: {error}")]
    At {
        /// Where it begins.
        offset: usize,
        /// What is wrong with it.
        error: Box<ExpressionError>,
    },
}

/// An expression that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It cannot even be understood.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// CEL refused: wrong types, missing keys, division by zero.
    #[error("cannot evaluate `{expression}`: {reason}")]
    Failed {
        /// The source.
        expression: String,
        /// Why.
        reason: String,
    },
    /// It needs more than [`limits::FUEL`] steps.
    #[error(
        "`{expression}` takes more than {} steps; compute it in a step of the workflow",
        limits::FUEL
    )]
    TooExpensive {
        /// The source.
        expression: String,
    },
    /// The result is too large.
    #[error(
        "`{expression}` gives more than {} bytes; leave large data in an artifact and pass that",
        limits::RESULT_BYTES
    )]
    TooLarge {
        /// The source.
        expression: String,
    },
    /// The result has another type than is needed here.
    #[error("`{expression}` gives {got}, but {wanted} is needed here")]
    WrongType {
        /// The source.
        expression: String,
        /// The type it gave.
        got: &'static str,
        /// The type that is needed.
        wanted: &'static str,
    },
    /// What a run's state says about the subject of the evaluation does not allow it.
    #[error("{0}")]
    State(String),
}
