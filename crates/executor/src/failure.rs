//! Why an attempt failed: whose budget it costs, and what its last words were.

use meson_core::run::{Failure, FailureClass};

/// What an attempt failed with, on its way to the terminal update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFailure(pub Failure);

impl TaskFailure {
    fn new(class: FailureClass, message: impl Into<String>, retryable: bool) -> Self {
        let mut message = message.into();
        truncate(&mut message, Failure::MAX_MESSAGE_BYTES);
        Self(Failure {
            class,
            message,
            retryable,
        })
    }

    /// The step's own fault; another try may do better.
    pub fn step(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Step, message, true)
    }

    /// The step's own fault; another try would end the same way.
    pub fn hopeless(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Step, message, false)
    }

    /// Ours, the agent's, the store's.
    pub fn platform(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Platform, message, true)
    }

    /// It wanted more memory than it was given.
    pub fn memory(message: impl Into<String>) -> Self {
        Self::new(FailureClass::OutOfMemory, message, true)
    }

    /// It took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Timeout, message, false)
    }
}

impl From<TaskFailure> for Failure {
    fn from(failure: TaskFailure) -> Self {
        failure.0
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal, which we did not send.
    Signal(i32),
}

/// Most of the last lines of stderr that go into a failure's message, in bytes.
pub const TAIL_BYTES: usize = 1024;

/// What a SIGKILL of nobody we know may mean.
pub const PERHAPS: &str = ", perhaps for want of memory";

/// What a bad exit means; `stderr` is the end of what the process wrote there.
pub fn of_exit(exit: Exit, stderr: &str) -> Option<TaskFailure> {
    let (what, retryable) = match exit {
        Exit::Code(0) => return None,
        Exit::Code(127) => ("exit status 127: command not found".to_owned(), false),
        Exit::Code(126) => (
            "exit status 126: command found but not executable".to_owned(),
            false,
        ),
        Exit::Code(code) => (
            format!("exit status {code}"),
            !script_is_missing(code, stderr),
        ),
        Exit::Signal(signal) => {
            let name = nix::sys::signal::Signal::try_from(signal)
                .map_or_else(|_| signal.to_string(), |s| s.as_str().to_owned());
            let hint = if signal == 9 { PERHAPS } else { "" };
            (format!("killed by signal {name}{hint}"), true)
        }
    };
    let tail = last_lines(stderr, TAIL_BYTES);
    let message = if tail.is_empty() {
        what
    } else {
        format!("{what}\n{tail}")
    };
    Some(if retryable {
        TaskFailure::step(message)
    } else {
        TaskFailure::hopeless(message)
    })
}

/// Interpreters say 1 or 2 when the script that they were given is not there.
fn script_is_missing(code: i32, stderr: &str) -> bool {
    (code == 1 || code == 2)
        && ["can't open file", "cannot open "].iter().any(|words| {
            // Only as the interpreter's own first words: a traceback that says so may be passing.
            stderr.lines().count() <= 3 && stderr.contains(words)
        })
}

/// The last whole lines of `text` that fit in `limit` bytes.
pub fn last_lines(text: &str, limit: usize) -> &str {
    let text = text.trim_end();
    if text.len() <= limit {
        return text;
    }
    let mut start = text.len() - limit;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let tail = &text[start..];
    match tail.find('\n') {
        Some(end) if end + 1 < tail.len() => &tail[end + 1..],
        _ => tail,
    }
}

/// Cuts `text` to at most `limit` bytes, at a character.
pub fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        let mut end = limit.saturating_sub('…'.len_utf8());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_command_or_script_is_not_tried_again() {
        assert!(!of_exit(Exit::Code(127), "").unwrap().0.retryable);
        let python = "python3: can't open file '/x/a.py': [Errno 2] No such file or directory\n";
        assert!(!of_exit(Exit::Code(2), python).unwrap().0.retryable);
        assert!(of_exit(Exit::Code(2), "usage: …").unwrap().0.retryable);
        assert!(of_exit(Exit::Code(0), "noise").is_none());
    }

    #[test]
    fn the_message_ends_with_the_last_whole_lines_of_stderr() {
        let stderr = format!("{}\nValueError: no ratings\n", "x".repeat(5000));
        let failure = of_exit(Exit::Code(1), &stderr).unwrap().0;
        assert_eq!(failure.message, "exit status 1\nValueError: no ratings");
        assert_eq!(failure.class, FailureClass::Step);
    }

    #[test]
    fn a_signal_is_told_by_name() {
        assert!(
            of_exit(Exit::Signal(9), "")
                .unwrap()
                .0
                .message
                .contains("SIGKILL")
        );
    }

    #[test]
    fn messages_are_cut_at_a_character() {
        let failure = TaskFailure::step("ü".repeat(4000));
        assert!(failure.0.message.len() <= Failure::MAX_MESSAGE_BYTES);
        assert!(failure.0.message.ends_with('…'));
        assert_eq!(last_lines(&"ü".repeat(800), 1023).len(), 1022);
    }
}
