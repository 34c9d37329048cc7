//! How a command can fail, and the exit code that scripts see.

use std::process::ExitCode;

use meson_protocol::api::ErrorDetail;
use reqwest::StatusCode;

/// Why a command did not do what it should.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The run ended, but not well: 1.
    RunFailed(String),
    /// The input is wrong: 2.
    Input(String),
    /// The input is wrong, and this shows where: 2.
    Drawn(String),
    /// The cluster cannot be reached or did not answer in time: 3.
    Unreachable(String),
}

impl Failure {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable(message.into())
    }

    /// A coordinator said no.
    pub(crate) fn refused(status: StatusCode, detail: ErrorDetail) -> Self {
        let mut message = detail.message;
        for problem in detail.problems {
            message.push_str("\n  - ");
            message.push_str(&problem);
        }
        if !detail.remedy.is_empty() {
            message.push_str("\nhelp: ");
            message.push_str(&detail.remedy);
        }
        if status.is_server_error() {
            Self::Unreachable(message)
        } else {
            Self::Input(message)
        }
    }

    /// Tells the person, and the shell.
    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::RunFailed(text) => (1, text),
            Self::Input(text) => (2, format!("error: {text}")),
            Self::Drawn(text) => (2, text),
            Self::Unreachable(text) => (3, format!("error: {text}")),
        };
        eprintln!("{text}");
        ExitCode::from(code)
    }
}
