//! Parsing, and where things stand in a file.
//!
//! Starlark tells the place of a call, not of its arguments; the [`Index`] of a file knows
//! those, so that a diagnostic can point at the very argument.

use std::collections::HashMap;
use std::sync::Arc;

use starlark::codemap::{CodeMap, FileSpan, Pos, Span};
use starlark::eval::Evaluator;
use starlark::syntax::ast::{AssignOp, AstExpr, AstLiteral, AstStmt, BinOp, Expr, Stmt};
use starlark::syntax::{AstModule, Dialect, DialectTypes};
use starlark_syntax::lexer::{Lexer, Token};
use starlark_syntax::syntax::ast::{ArgumentP, AssignTargetP};

use crate::diagnostic::Diagnostic;
use crate::options::Limits;

/// The operators whose work goes through functions of ours: `>>` and `|` so that they know
/// where they stand, the others so that they cannot ask for more memory than there is.
pub(crate) const OPERATORS: [(&str, &str); 5] = [
    (">>", "__meson_then"),
    ("|", "__meson_or"),
    ("+", "__meson_add"),
    ("*", "__meson_mul"),
    ("<<", "__meson_shl"),
];

pub(crate) fn dialect() -> Dialect {
    Dialect {
        enable_keyword_only_arguments: true,
        enable_top_level_stmt: true,
        enable_f_strings: true,
        enable_types: DialectTypes::Disable,
        ..Dialect::Standard
    }
}

/// Where things stand in one file.
#[derive(Debug, Default)]
pub(crate) struct Index {
    calls: HashMap<Span, CallPlaces>,
    operators: HashMap<Span, (Span, Span)>,
    /// The file's own doc string.
    pub(crate) doc: String,
    /// What the file binds: variables, functions, loaded names.
    pub(crate) bound: Vec<String>,
    /// Codes that a `# meson: allow(code)` comment allows, with the comment's line (from 0).
    allowed: Vec<(usize, String)>,
}

/// A call and its arguments.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallPlaces {
    /// What is called, if it has a name.
    pub(crate) callee: String,
    pub(crate) positional: Vec<Span>,
    /// Name, the name's place, the value's place.
    pub(crate) named: Vec<(String, Span, Span)>,
}

impl Index {
    pub(crate) fn call(&self, span: Span) -> Option<&CallPlaces> {
        self.calls.get(&span)
    }

    /// The two sides of the operator expression at `span`.
    pub(crate) fn operands(&self, span: Span) -> Option<(Span, Span)> {
        self.operators.get(&span).copied()
    }

    /// Whether a comment within `span`, or on the line above it, allows `code`.
    pub(crate) fn allows(&self, span: &FileSpan, code: &str) -> bool {
        let lines = span.resolve_span();
        self.allowed.iter().any(|(line, allowed)| {
            allowed == code && (lines.begin.line..=lines.end.line + 1).contains(&(line + 1))
        })
    }

    fn of(ast: &AstModule, text: &str) -> Self {
        let mut index = Self {
            doc: doc(ast.statement()),
            ..Self::default()
        };
        index.bindings(ast.statement());
        ast.statement().visit_expr(|expr| index.expression(expr));
        for comment in ast.comments() {
            let (begin, end) = (comment.begin().get() as usize, comment.end().get() as usize);
            let Some(words) = text
                .get(begin..end)
                .and_then(|comment| comment.split_once("meson: allow("))
            else {
                continue;
            };
            let line = text[..begin].matches('\n').count();
            let codes = words.1.split(')').next().unwrap_or_default();
            index
                .allowed
                .extend(codes.split(',').map(|code| (line, code.trim().to_owned())));
        }
        index
    }

    fn bindings(&mut self, stmt: &AstStmt) {
        match &stmt.node {
            Stmt::Assign(assign) => {
                assign
                    .lhs
                    .visit_lvalue(|name| self.bound.push(name.node.ident.clone()));
            }
            Stmt::Def(def) => self.bound.push(def.name.node.ident.clone()),
            Stmt::Load(load) => self
                .bound
                .extend(load.args.iter().map(|arg| arg.local.node.ident.clone())),
            _ => {}
        }
        stmt.visit_stmt(|child| self.bindings(child));
    }

    fn expression(&mut self, expr: &AstExpr) {
        match &expr.node {
            Expr::Call(callee, args) => {
                let mut places = CallPlaces::default();
                if let Expr::Identifier(name) = &callee.node {
                    places.callee = name.node.ident.clone();
                }
                for arg in &args.args {
                    match &arg.node {
                        ArgumentP::Positional(value) => places.positional.push(value.span),
                        ArgumentP::Named(name, value) => {
                            places
                                .named
                                .push((name.node.clone(), name.span, value.span));
                        }
                        ArgumentP::Args(_) | ArgumentP::KwArgs(_) => {}
                    }
                }
                self.calls.insert(expr.span, places);
            }
            Expr::Op(left, BinOp::RightShift | BinOp::BitOr, right) => {
                self.operators.insert(expr.span, (left.span, right.span));
            }
            _ => {}
        }
        expr.visit_expr(|child| self.expression(child));
    }
}

/// Parses `text` after a look at its shape: the parser is recursive, and a file must not
/// overflow the stack of the process that checks it.
pub(crate) fn parse(
    name: &str,
    text: &str,
    limits: &Limits,
) -> Result<(AstModule, Index), Box<Diagnostic>> {
    let codemap = CodeMap::new(name.to_owned(), text.to_owned());
    check_shape(&codemap, limits.nesting)?;
    let mut ast = AstModule::parse(name, text.to_owned(), &dialect())
        .map_err(|error| Box::new(syntax(&codemap, &error)))?;
    check_assignments(ast.statement(), &codemap)?;
    let index = Index::of(&ast, text);
    let replace = OPERATORS
        .iter()
        .map(|(operator, function)| ((*operator).to_owned(), (*function).to_owned()));
    ast.replace_binary_operators(&replace.collect());
    Ok((ast, index))
}

fn syntax(codemap: &CodeMap, error: &starlark::Error) -> Diagnostic {
    let span = error
        .span()
        .cloned()
        .unwrap_or_else(|| codemap.file_span(Span::default()));
    let text = error.without_diagnostic().to_string();
    let message = text
        .strip_prefix("Parse error: ")
        .unwrap_or(&text)
        .to_owned();
    let found = span.source_span();
    let help = if found == "import" || found == "from" {
        "workflow files load functions from other files: load(\"lib/steps.star\", \"my_step\")"
    } else if [
        "class", "while", "try", "with", "yield", "lambda", "raise", "async", "await",
    ]
    .contains(&found)
    {
        "workflow files are Starlark, a small Python: use `def`, `for`, `if` and the functions of Meson"
    } else {
        "look for a missing comma, quote or bracket at this place or just before it"
    };
    Diagnostic::at(&span, "syntax", message, Some(help.to_owned()))
}

/// Bounds how deep expressions and blocks are nested, before anything recursive sees them.
fn check_shape(codemap: &CodeMap, limit: usize) -> Result<(), Box<Diagnostic>> {
    // Operators in a row, for each open bracket.
    let mut rows: Vec<usize> = vec![0];
    let mut blocks = 0_usize;
    let mut branches = 0_usize;
    for token in Lexer::new(codemap.source(), &dialect(), codemap.clone()) {
        // What the lexer cannot read, the parser reports.
        let Ok((begin, token, end)) = token else {
            return Ok(());
        };
        let row = rows.last_mut();
        match token {
            Token::OpeningRound | Token::OpeningSquare | Token::OpeningCurly => {
                row.into_iter().for_each(|row| *row += 1);
                rows.push(0);
            }
            Token::ClosingRound | Token::ClosingSquare | Token::ClosingCurly => {
                if rows.len() > 1 {
                    rows.pop();
                }
            }
            Token::Comma | Token::Newline | Token::Semicolon => {
                row.into_iter().for_each(|row| *row = 0)
            }
            Token::Indent => blocks += 1,
            Token::Dedent => blocks = blocks.saturating_sub(1),
            Token::Elif => branches += 1,
            Token::Identifier(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Float(_)
            | Token::Comment(_) => {}
            _ => row.into_iter().for_each(|row| *row += 1),
        }
        if rows.iter().sum::<usize>() > limit || blocks > 30 || branches > limit {
            let span = codemap.file_span(Span::new(Pos::new(begin as u32), Pos::new(end as u32)));
            return Err(Box::new(Diagnostic::at(
                &span,
                "nesting",
                format!("more than {limit} operators, brackets or branches inside each other"),
                Some("bind parts to variables, or use sequence(*steps) and parallel(*steps) with a list".to_owned()),
            )));
        }
    }
    Ok(())
}

/// `x *= n` and `x <<= n` would bypass the functions that stand for their operators.
fn check_assignments(stmt: &AstStmt, codemap: &CodeMap) -> Result<(), Box<Diagnostic>> {
    let mut found = Ok(());
    if let Stmt::AssignModify(target, op, _) = &stmt.node {
        let long = match op {
            AssignOp::Multiply => Some("*"),
            AssignOp::LeftShift => Some("<<"),
            _ => None,
        };
        if let Some(op) = long {
            let name = match &target.node {
                AssignTargetP::Identifier(name) => name.node.ident.as_str(),
                _ => "x",
            };
            return Err(Box::new(Diagnostic::at(
                &codemap.file_span(stmt.span),
                "syntax",
                format!("`{op}=` is not part of workflow files"),
                Some(format!("write {name} = {name} {op} …")),
            )));
        }
    }
    stmt.visit_stmt(|child| {
        if found.is_ok() {
            found = check_assignments(child, codemap);
        }
    });
    found
}

fn doc(stmt: &AstStmt) -> String {
    let first = match &stmt.node {
        Stmt::Statements(all) => all.first(),
        _ => Some(stmt),
    };
    match first.map(|stmt| &stmt.node) {
        Some(Stmt::Expression(expr)) => match &expr.node {
            Expr::Literal(AstLiteral::String(text)) => text.node.trim().to_owned(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

/// The chain of calls that led to a value, without the prelude's, innermost first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Site(pub(crate) Arc<[FileSpan]>);

impl Site {
    /// Where the function that is running now was called.
    pub(crate) fn capture(eval: &Evaluator<'_, '_, '_>) -> Self {
        Self::from_stack(&eval.call_stack())
    }

    pub(crate) fn from_stack(stack: &starlark::eval::CallStack) -> Self {
        let spans = stack
            .frames
            .iter()
            .rev()
            .filter_map(|frame| frame.location.clone());
        Self(spans.filter(|span| !is_internal(span)).collect())
    }

    /// The innermost place in a user's file.
    pub(crate) fn place(&self) -> Option<&FileSpan> {
        self.0.first()
    }
}

/// Whether a place is in the prelude.
pub(crate) fn is_internal(span: &FileSpan) -> bool {
    span.filename().starts_with('@')
}

/// The part of `span` that holds `needle` as a whole word, best within a `${{ … }}`.
pub(crate) fn find_in(span: &FileSpan, needle: &str) -> Option<FileSpan> {
    let text = span.source_span();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: &usize| {
        let before = text[..*at].chars().next_back().is_some_and(word);
        let after = text[at + needle.len()..].chars().next().is_some_and(word);
        !(before && needle.starts_with(word) || after && needle.ends_with(word))
    };
    let evaluated = |at: &usize| {
        text[..*at]
            .rfind("${{")
            .is_some_and(|open| !text[open..*at].contains("}}"))
    };
    let found: Vec<usize> = text
        .match_indices(needle)
        .map(|(at, _)| at)
        .filter(whole)
        .collect();
    let at = found
        .iter()
        .copied()
        .find(evaluated)
        .or_else(|| found.first().copied())?;
    let begin = span.span.begin().get() + at as u32;
    Some(FileSpan {
        file: span.file.clone(),
        span: Span::new(Pos::new(begin), Pos::new(begin + needle.len() as u32)),
    })
}
