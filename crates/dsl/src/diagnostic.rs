//! What is wrong (or looks wrong) in a file: where, what, and what to write instead.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{LabeledSpan, NamedSource, SourceCode, SourceSpan};
use starlark::codemap::FileSpan;

/// Whether a diagnostic stops the workflow from being submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// A second place that belongs to a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Byte offset in the file.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
    /// What is there.
    pub text: String,
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// A stable word for the kind of finding, like `unknown-output`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// The file, relative to the root of the compilation.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte offset in the file.
    pub offset: usize,
    /// Bytes that are underlined.
    pub length: usize,
    /// Other places of the same file.
    pub labels: Vec<Label>,
    source: Arc<NamedSource<String>>,
}

fn length(span: &FileSpan) -> usize {
    (span.span.end().get() - span.span.begin().get()) as usize
}

/// A diagnostic that does not stop anything.
pub type Warning = Diagnostic;

impl Diagnostic {
    pub(crate) fn at(
        span: &FileSpan,
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        let begin = span.resolve_span().begin;
        let offset = span.span.begin().get() as usize;
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            help,
            file: PathBuf::from(span.filename()),
            line: begin.line + 1,
            column: begin.column + 1,
            offset,
            // An error at the end of the file still wants a mark.
            length: length(span),
            labels: Vec::new(),
            source: Arc::new(
                NamedSource::new(span.filename(), span.file.source().to_owned())
                    .with_language("Python"),
            ),
        }
    }

    /// About a file that was not read, so that there is no line to show.
    pub(crate) fn about_file(
        file: PathBuf,
        code: &'static str,
        message: String,
        help: Option<String>,
    ) -> Self {
        let name = file.display().to_string();
        Self {
            code,
            severity: Severity::Error,
            message,
            help,
            file,
            line: 1,
            column: 1,
            offset: 0,
            length: 0,
            labels: Vec::new(),
            source: Arc::new(NamedSource::new(name, String::new())),
        }
    }

    /// With a second place. One in another file becomes part of the help.
    pub(crate) fn label(mut self, span: &FileSpan, text: impl Into<String>) -> Self {
        let text = text.into();
        if span.filename() == self.source.name() {
            let offset = span.span.begin().get() as usize;
            if offset != self.offset {
                self.labels.push(Label {
                    offset,
                    length: length(span),
                    text,
                });
            }
        } else {
            let place = format!("{text}: {span}");
            self.help = Some(
                self.help
                    .map_or_else(|| place.clone(), |help| format!("{help}\n{place}")),
            );
        }
        self
    }

    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The source line that [`line`](Self::line) names.
    pub fn source_line(&self) -> &str {
        self.source.inner().lines().nth(self.line - 1).unwrap_or("")
    }

    /// As people read it: the message, the place, the line underlined, the remedy.
    pub fn render(&self, color: bool, width: usize) -> String {
        render(self, color, width)
    }
}

/// `file:line:column: error: message`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.source.inner().is_empty()).then_some(&*self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.source.inner().is_empty() {
            return None;
        }
        let span = |offset: usize, length: usize| SourceSpan::new(offset.into(), length);
        let here = LabeledSpan::new_primary_with_span(None, span(self.offset, self.length));
        let others = self.labels.iter().map(move |label| {
            LabeledSpan::new_with_span(Some(label.text.clone()), span(label.offset, label.length))
        });
        Some(Box::new(std::iter::once(here).chain(others)))
    }
}

/// Everything that is wrong with a file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// At least one.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self {
            list: vec![diagnostic],
        }
    }

    /// All of them, as people read them.
    pub fn render(&self, color: bool, width: usize) -> String {
        self.list
            .iter()
            .map(|diagnostic| diagnostic.render(color, width))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(list: Vec<Diagnostic>) -> Self {
        Self { list }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, diagnostic) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            let Diagnostic {
                file,
                line,
                column,
                message,
                ..
            } = diagnostic;
            write!(f, "{}:{line}:{column}: {message}", file.display())?;
            if let Some(help) = &diagnostic.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// The first finding is the diagnostic itself, the others are related ones.
impl miette::Diagnostic for Diagnostics {
    fn severity(&self) -> Option<miette::Severity> {
        Some(miette::Severity::Error)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(
            self.list
                .iter()
                .map(|diagnostic| diagnostic as &dyn miette::Diagnostic),
        ))
    }
}

fn render(diagnostic: &Diagnostic, color: bool, width: usize) -> String {
    let theme = if color {
        miette::GraphicalTheme::unicode()
    } else {
        miette::GraphicalTheme::unicode_nocolor()
    };
    let mut out = String::new();
    let handler = miette::GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_context_lines(1);
    if handler.render_report(&mut out, diagnostic).is_err() {
        // A span beyond the text would be our own mistake; the message still has to come out.
        out = diagnostic.to_string();
    }
    out
}
